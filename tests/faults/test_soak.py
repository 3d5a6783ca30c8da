"""The load under faults: its verdict notices what it must, and two scenarios pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alchemistore import ProtocolDAGResultRef, Scope, ScopedKey, StateStore
from bench.soak import verdict
from bench.soak.load import QUICK, Load, Setup
from bench.soak.run import run
from tests.support.campaigns import campaign, register


@pytest.fixture
def load(pooled_database: str, tmp_path: Path) -> Iterator[Load]:
    """A load that is not started, on the database of the test."""
    load = Load(Setup(pooled_database), QUICK, tmp_path / "journals")
    yield load
    load.store.close()


class Story:
    """Lets services run tasks, and writes down what their journals would contain."""

    def __init__(self, store: StateStore, scope: Scope) -> None:
        self.store = store
        register(store, "a", "b")
        self.made = campaign(store, scope, tasks=1, arms=1)
        [self.task] = self.made.tasks
        self.events: list[dict[str, Any]] = []

    def claim(self, service: str) -> None:
        assert self.store.claim_taskhub_tasks(self.made.hub, service) == [self.task]
        self.note("claimed", service=service)

    def settle(self, service: str, ok: bool = True) -> None:
        ref = ProtocolDAGResultRef(
            obj_key=f"ProtocolDAGResult-{service * 32}",  # type: ignore[arg-type]  # pydantic parses it
            scope=self.task.scope,
            ok=ok,
        )
        facts = {"service": service, "result": str(ref.key), "ok": ok}
        self.note("settling", **facts)
        settlement = self.store.settle_task(
            self.task, ref, service, tracebacks=None if ok else ["failed"]
        )
        self.note("settled", attempt=settlement.attempt, **facts)

    def note(self, kind: str, **facts: Any) -> None:
        self.events.append({"kind": kind, "at": time.monotonic(), "task": str(self.task), **facts})


@pytest.fixture
def story(store: StateStore, scope: Scope) -> Story:
    """A task that fails at first and is complete then."""
    story = Story(store, scope)
    story.claim("a")
    story.settle("a", ok=False)
    store.set_task_status([story.task], "waiting")
    story.claim("b")
    story.settle("b")
    return story


def test_sound_load_passes(load: Load, story: Story) -> None:
    assert verdict.claimed_twice(story.events, load) == []
    assert verdict.claims_lost(story.events, load) == []
    assert verdict.results_lost(story.events, load, None) == []


def test_task_given_twice_for_one_attempt_is_found(load: Load, story: Story) -> None:
    story.note("claimed", service="a")
    [found] = verdict.claimed_twice(story.events, load)
    assert "a was given it 2 times, in 1 attempts" in found


def test_task_held_by_two_services_at_once_is_found(load: Load, story: Story) -> None:
    claimed_by_b = next(
        one for one in story.events if (one["kind"], one["service"]) == ("claimed", "b")
    )
    claimed_by_b["at"] = story.events[0]["at"]
    [found] = verdict.claimed_twice(story.events, load)
    assert "a and b held it" in found or "b and a held it" in found


def test_claim_whose_answer_was_lost_is_found(
    load: Load, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    unanswered = [one for one in story.events if one["service"] != "a"]
    assert verdict.claims_lost(unanswered, load) == []
    monkeypatch.setattr(load, "survived", lambda service: service == "a")
    [found] = verdict.claims_lost(unanswered, load)
    assert "a was given it 0 times, in 1 attempts" in found


def test_settled_result_that_is_missing_is_found(load: Load, story: Story) -> None:
    story.note(
        "settled", service="b", attempt=2, ok=True, result="ProtocolDAGResultRef-" + "0" * 32
    )
    [found] = verdict.results_lost(story.events, load, None)
    assert "was settled, but is missing" in found


def test_complete_task_without_a_result_is_found(
    load: Load, store: StateStore, scope: Scope
) -> None:
    tasks: list[ScopedKey] = campaign(store, scope, tasks=1, arms=1).tasks
    store.set_task_status(tasks, "running")
    store.set_task_status(tasks, "complete")
    [found] = verdict.results_lost([], load, None)
    assert "has no successful result" in found


def test_crash_of_a_worker_is_found() -> None:
    crash = {"kind": "crash", "at": 0.0, "error": "KeyError", "text": "KeyError: 'x'"}
    assert verdict.crashes([crash]) == ["KeyError: 'x'"]


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", ["sigkill", "workers"])
def test_quick_load_passes(scenario: str) -> None:
    figures = run(scenario, QUICK)
    assert figures.passed, (figures.failed, figures.faulty)
    assert (figures.tasks, figures.faults) == (QUICK.tasks, QUICK.faults)
