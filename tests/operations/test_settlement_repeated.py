"""Repeated settlement, and references shared by several services or tasks."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from alchemistore import Scope, StateStore, TaskStatusEnum
from alchemistore.models import AttemptOutcome, Settlement
from tests.support.campaigns import Campaign, campaign, register
from tests.support.claims import claim, claim_rows, expire_silent
from tests.support.concurrency import run_concurrently
from tests.support.databases import all_rows
from tests.support.history import attempts, outcomes, status
from tests.support.results import (
    ENVIRONMENT,
    assert_listed,
    ok_or_failed,
    ref,
    reference_key,
    settle,
)
from tests.support.task_states import TASK_STATES


@ok_or_failed
@pytest.mark.parametrize(
    "way", ["holds", "waiting", "running by b", "error by b", "complete by b", "invalid"]
)
def test_repeated_settlement_changes_nothing_and_returns_the_same(
    store: StateStore, one: Campaign, scope: Scope, way: str, ok: bool
) -> None:
    task, result = claim(store, one, "a"), ref(scope, ok=ok)
    if way != "holds":
        expire_silent(store)
        TASK_STATES[way][1](store, one)
    more: dict[str, Any] = {"tracebacks": ["no luck"], "environment": ENVIRONMENT}
    answer = settle(store, task, result, "a", **more)
    before = all_rows(store)
    for _ in range(3):
        assert settle(store, task, result, "a", **more) == answer
    assert all_rows(store) == before


@ok_or_failed
def test_ten_concurrent_settlements_settle_once(
    store: StateStore, one: Campaign, scope: Scope, ok: bool
) -> None:
    task, result = claim(store, one, "b"), ref(scope, ok=ok)
    deliver = partial(
        settle, store, task, result, "b", tracebacks=["no luck"], environment=ENVIRONMENT
    )
    answers = run_concurrently([deliver] * 10)
    ended = "complete" if ok else "error"
    assert (
        answers
        == [
            Settlement(
                result=reference_key(result, task),
                status=TaskStatusEnum(ended),
                attempt=1,
                outcome=AttemptOutcome(ended),
            )
        ]
        * 10
    )
    assert outcomes(store, task) == [("b", ended)]
    assert store.get_task_tracebacks(task) == [["no luck"]]
    assert_listed(store, task, result)


def test_repeated_failure_does_not_end_the_next_attempt_of_its_service(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task, failure = claim(store, one, "b"), ref(scope, ok=False)
    settle(store, task, failure, "b")
    store.set_task_waiting([task])
    claim(store, one, "b")
    before = all_rows(store)
    answer = settle(store, task, failure, "b")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("running", 1, "error")
    assert all_rows(store) == before
    assert outcomes(store, task) == [("b", "error"), ("b", None)]


@ok_or_failed
def test_stored_reference_can_still_be_settled(
    store: StateStore, one: Campaign, scope: Scope, ok: bool
) -> None:
    task, result = claim(store, one, "b"), ref(scope, ok=ok)
    store.set_task_result(task, result)
    answer = settle(store, task, result, "b", tracebacks=["no luck"])
    ended = "complete" if ok else "error"
    assert (answer.status.value, answer.attempt, answer.outcome) == (ended, 1, ended)
    assert (status(store, task), claim_rows(store)) == (ended, [])
    assert attempts(store, task)[0].result == reference_key(result, task)
    assert store.get_task_tracebacks(task) == [["no luck"]]
    assert_listed(store, task, result)


def test_repeated_shared_failure_does_not_end_the_next_attempt(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    failure = ref(scope, ok=False)
    for service in "ab":
        task = claim(store, one, service)
        settle(store, task, failure, service)
        store.set_task_waiting([task])
    claim(store, one, "b")
    before = all_rows(store)
    answer = settle(store, task, failure, "b")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("running", 2, "error")
    assert all_rows(store) == before


def test_equal_results_of_two_services_end_both_attempts(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task, same = claim(store, one, "b"), ref(scope, ok=False)
    settle(store, task, same, "b")
    store.set_task_waiting([task])
    claim(store, one, "c")
    answer = settle(store, task, same, "c")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("error", 2, "error")
    assert outcomes(store, task) == [("b", "error"), ("c", "error")]
    assert [attempt.result for attempt in attempts(store, task)] == [reference_key(same, task)] * 2
    assert_listed(store, task, same)


def test_late_result_with_the_same_reference_is_linked_to_both_attempts(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task, same = claim(store, one, "a"), ref(scope)
    expire_silent(store)
    claim(store, one, "b")
    settle(store, task, same, "b")
    answer = settle(store, task, same, "a")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("complete", 1, "expired")
    assert [attempt.result for attempt in attempts(store, task)] == [reference_key(same, task)] * 2
    assert_listed(store, task, same)


def test_one_reference_can_be_the_result_of_several_tasks(store: StateStore, scope: Scope) -> None:
    register(store, "b")
    made, shared = campaign(store, scope, tasks=3), ref(scope)
    assert set(store.claim_taskhub_tasks(made.hub, "b", count=3)) == set(made.tasks)
    for task in made.tasks:
        assert settle(store, task, shared, "b").status is TaskStatusEnum.complete
        assert_listed(store, task, shared)
