"""Compare the outcome of the campaign with what must have happened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from alchemistore import StateStore
from alchemistore.models import AttemptOutcome, TaskHistory, TaskStatusEnum
from alchemistore.operations.restarts import REASON
from harmonic.cycles import Leg
from harmonic.report import LIMIT, legs_table, tell
from harmonic_http.protocol import HANG
from harmonic_http.story import EXTEND_ABOVE, FAULTY, POWER, RESULTS

TRANSFORMATIONS = 40


@dataclass(frozen=True)
class Outcome:
    """The results that the user has read at the end.

    Attributes
    ----------
    network : str
        The key of the network.
    killed : str
        The name of the service that was killed.
    legs : list of Leg
        The free energies.
    strategy : StrategyState
        The state of the strategy.
    """

    network: str
    killed: str
    legs: list[Leg]
    strategy: Any


def judge(store: StateStore, outcome: Outcome, sound: bool, console: Console) -> bool:
    """Print the results and check everything.

    Parameters
    ----------
    store : StateStore
        The store, as an operator sees it.
    outcome : Outcome
    sound : bool
        Whether the check of the database and the objects has found no problem.
    console : Console

    Returns
    -------
    bool
        Whether everything is as it must be.
    """
    tasks = store.get_network_tasks(outcome.network)
    told = [history for history in store.get_task_history(tasks) if history is not None]
    console.print()
    console.print(legs_table(outcome.legs))
    tell(console, "The store keeps the history of each task; this one ran more than once:")
    lost = [history for history in told if _lost_by(history, outcome.killed)]
    for history in lost:
        _tell_history(history, console)
    console.print()
    checks = _checks(outcome, told, lost)
    checks["'alchemistore database check --objects' finds no problem"] = sound
    for text, holds in checks.items():
        tell(console, f"[green]✓[/] {text}." if holds else f"[red]✗[/] Not true: {text}.")
    return all(checks.values())


def _checks(outcome: Outcome, told: list[TaskHistory], lost: list[TaskHistory]) -> dict[str, bool]:
    legs, strategy = outcome.legs, outcome.strategy
    attempts = [attempt for history in told for attempt in history.attempts]
    counts = Counter(attempt.outcome for attempt in attempts)
    changes = [change for history in told for change in history.changes]
    faults = sum(message != HANG for message in FAULTY.values())
    power = sum(message == POWER for message in FAULTY.values())
    extensions = sum(abs(leg.exact) > EXTEND_ABOVE for leg in legs)
    added = len(told) - TRANSFORMATIONS - extensions
    return {
        f"All {len(told)} tasks are complete": all(
            history.changes[-1].status is TaskStatusEnum.complete for history in told
        ),
        f"Every transformation has at least {RESULTS} results": (
            len(legs) == TRANSFORMATIONS and all(leg.results >= RESULTS for leg in legs)
        ),
        # If all is well, a deviation of more than five standard errors has a probability of 6e-7,
        # and one among forty has 2e-5.
        f"All free energies are within {LIMIT:.0f} standard errors of the exact values": all(
            abs(leg.deviation) <= LIMIT for leg in legs
        ),
        f"Another service completed the task of {outcome.killed}": (
            len(lost) == 1 and _completed_by_another(lost[0], outcome.killed)
        ),
        # The registration of a service on a busy machine may expire, too; its result comes late.
        "No other attempt was lost": sum(
            attempt.outcome is AttemptOutcome.expired and attempt.result is None
            for attempt in attempts
        )
        == 1,
        f"{faults} attempts failed, each by a fault of this example": (
            counts[AttemptOutcome.error] == faults
        ),
        f"The pattern restarted {power} tasks, the user 1": (
            sum(change.reason == REASON for change in changes) == power
        ),
        f"The strategist added {added} tasks in {strategy.iterations} iterations": (
            added > 0 and strategy.exception is None
        ),
    }


def _lost_by(history: TaskHistory, name: str) -> bool:
    return any(
        attempt.outcome is AttemptOutcome.expired and _is_of(attempt.service, name)
        for attempt in history.attempts
    )


def _completed_by_another(history: TaskHistory, name: str) -> bool:
    last = history.attempts[-1]
    return last.outcome is AttemptOutcome.complete and not _is_of(last.service, name)


def _is_of(service: str, name: str) -> bool:
    # alchemiscale adds a random part to the name of a service.
    return service.rpartition("-")[0] == name


def _tell_history(history: TaskHistory, console: Console) -> None:
    tell(console, f"  {history.task}")
    for attempt in history.attempts:
        name = attempt.service.rpartition("-")[0]
        reason = f": {attempt.reason}" if attempt.reason else ""
        tell(
            console,
            f"    attempt {attempt.attempt}, {attempt.claimed_at:%H:%M:%S}, {name}:"
            f" {attempt.outcome or 'running'}{reason}",
        )
