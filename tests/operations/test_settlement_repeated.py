"""Repeated settlement, and references shared by several services or tasks."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from alchemistore import Scope, StateStore, TaskStatusEnum
from alchemistore.models import AttemptOutcome, Settlement
from tests.support import settlement as s
from tests.support.concurrency import run_concurrently


@s.ok_or_failed
@pytest.mark.parametrize(
    "way", ["holds", "waiting", "running by b", "error by b", "complete by b", "invalid"]
)
def test_repeated_settlement_changes_nothing_and_returns_the_same(
    store: StateStore, one: s.Campaign, scope: Scope, way: str, ok: bool
) -> None:
    task, result = s.claim(store, one, "a"), s.ref(scope, ok=ok)
    if way != "holds":
        s.expire_silent(store)
        s.TASK_STATES[way][1](store, one)
    more: dict[str, Any] = {"tracebacks": ["no luck"], "environment": s.ENVIRONMENT}
    answer = s.settle(store, task, result, "a", **more)
    before = s.all_rows(store)
    for _ in range(3):
        assert s.settle(store, task, result, "a", **more) == answer
    assert s.all_rows(store) == before


@s.ok_or_failed
def test_ten_concurrent_settlements_settle_once(
    store: StateStore, one: s.Campaign, scope: Scope, ok: bool
) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope, ok=ok)
    deliver = partial(
        s.settle, store, task, result, "b", tracebacks=["no luck"], environment=s.ENVIRONMENT
    )
    answers = run_concurrently([deliver] * 10)
    ended = "complete" if ok else "error"
    assert (
        answers
        == [
            Settlement(
                result=s.reference_key(result, task),
                status=TaskStatusEnum(ended),
                attempt=1,
                outcome=AttemptOutcome(ended),
            )
        ]
        * 10
    )
    assert s.outcomes(store, task) == [("b", ended)]
    assert store.get_task_tracebacks(task) == [["no luck"]]
    s.assert_listed(store, task, result)


def test_repeated_failure_does_not_end_the_next_attempt_of_its_service(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task, failure = s.claim(store, one, "b"), s.ref(scope, ok=False)
    s.settle(store, task, failure, "b")
    store.set_task_waiting([task])
    s.claim(store, one, "b")
    before = s.all_rows(store)
    answer = s.settle(store, task, failure, "b")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("running", 1, "error")
    assert s.all_rows(store) == before
    assert s.outcomes(store, task) == [("b", "error"), ("b", None)]


@s.ok_or_failed
def test_stored_reference_can_still_be_settled(
    store: StateStore, one: s.Campaign, scope: Scope, ok: bool
) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope, ok=ok)
    store.set_task_result(task, result)
    answer = s.settle(store, task, result, "b", tracebacks=["no luck"])
    ended = "complete" if ok else "error"
    assert (answer.status.value, answer.attempt, answer.outcome) == (ended, 1, ended)
    assert (s.status(store, task), s.claim_rows(store)) == (ended, [])
    assert s.attempts(store, task)[0].result == s.reference_key(result, task)
    assert store.get_task_tracebacks(task) == [["no luck"]]
    s.assert_listed(store, task, result)


def test_repeated_shared_failure_does_not_end_the_next_attempt(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    failure = s.ref(scope, ok=False)
    for service in "ab":
        task = s.claim(store, one, service)
        s.settle(store, task, failure, service)
        store.set_task_waiting([task])
    s.claim(store, one, "b")
    before = s.all_rows(store)
    answer = s.settle(store, task, failure, "b")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("running", 2, "error")
    assert s.all_rows(store) == before


def test_repeated_second_result_of_an_attempt_does_not_end_the_next_attempt(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task, second = s.claim(store, one, "b"), s.ref(scope, ok=False)
    store.set_task_waiting([task])
    # The attempt keeps its first result.
    for result in (s.ref(scope, ok=False), second):
        s.settle(store, task, result, "b")
    s.claim(store, one, "b")
    before = s.all_rows(store)
    answer = s.settle(store, task, second, "b")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("running", 1, "released")
    assert s.all_rows(store) == before


def test_repeated_settlement_keeps_the_first_environment(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope)
    for environment in (s.ENVIRONMENT, {"gufe": "0"}):
        s.settle(store, task, result, "b", environment=environment)
    assert s.attempts(store, task)[0].environment == s.ENVIRONMENT


def test_equal_results_of_two_services_end_both_attempts(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task, same = s.claim(store, one, "b"), s.ref(scope, ok=False)
    s.settle(store, task, same, "b")
    store.set_task_waiting([task])
    s.claim(store, one, "c")
    answer = s.settle(store, task, same, "c")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("error", 2, "error")
    assert s.outcomes(store, task) == [("b", "error"), ("c", "error")]
    assert [attempt.result for attempt in s.attempts(store, task)] == [
        s.reference_key(same, task)
    ] * 2
    s.assert_listed(store, task, same)


def test_late_result_with_the_same_reference_is_linked_to_both_attempts(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task, same = s.claim(store, one, "a"), s.ref(scope)
    s.expire_silent(store)
    s.claim(store, one, "b")
    s.settle(store, task, same, "b")
    answer = s.settle(store, task, same, "a")
    assert (answer.status.value, answer.attempt, answer.outcome) == ("complete", 1, "expired")
    assert [attempt.result for attempt in s.attempts(store, task)] == [
        s.reference_key(same, task)
    ] * 2
    s.assert_listed(store, task, same)


def test_one_reference_can_be_the_result_of_several_tasks(store: StateStore, scope: Scope) -> None:
    s.register(store, "b")
    made, shared = s.campaign(store, scope, tasks=3), s.ref(scope)
    assert set(store.claim_taskhub_tasks(made.hub, "b", count=3)) == set(made.tasks)
    for task in made.tasks:
        assert s.settle(store, task, shared, "b").status is TaskStatusEnum.complete
        s.assert_listed(store, task, shared)
