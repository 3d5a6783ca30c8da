"""Random sequences of calls, by state machines of hypothesis."""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def run_machine(
    machine: Callable[[], RuleBasedStateMachine],
    examples: int,
    steps: int,
    *,
    repeatable: bool = True,
) -> None:
    """Run `examples` sequences of at most `steps` calls, the same ones each time if repeatable."""
    profile = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=repeatable,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=profile)  # type: ignore[arg-type]  # it is called only


def run_many(machine: Callable[[], RuleBasedStateMachine]) -> None:
    """Run random sequences: 400 of 30 calls, unless the environment sets other numbers."""
    run_machine(
        machine,
        int(os.environ.get("ALCHEMISTORE_TEST_EXAMPLES", 400)),
        int(os.environ.get("ALCHEMISTORE_TEST_STEPS", 30)),
        repeatable=False,
    )
