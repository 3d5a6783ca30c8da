"""Results stored and statuses set by separate calls, and what an attempt keeps."""

from __future__ import annotations

import pytest

from alchemistore import Scope, StateStore
from tests.support import settlement as s


@s.ok_or_failed
def test_set_task_result_keeps_status_claim_and_attempt(
    store: StateStore, one: s.Campaign, scope: Scope, ok: bool
) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope, ok=ok)
    before = s.history_of(store, task)
    assert store.set_task_result(task, result) == s.reference_key(result, task)
    assert (s.status(store, task), s.claim_rows(store), s.history_of(store, task).changes) == (
        "running",
        [("b", 1)],
        before.changes,
    )
    assert s.outcomes(store, task) == [("b", None)]
    s.assert_listed(store, task, result)


def test_set_task_result_does_not_replace_the_result_of_the_claim_holder(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task, stranger, own = s.claim(store, one, "b"), s.ref(scope, ok=False), s.ref(scope)
    store.set_task_result(task, stranger)
    s.settle(store, task, own, "b")
    [attempt] = s.attempts(store, task)
    assert (attempt.outcome, attempt.result) == ("complete", s.reference_key(own, task))
    s.assert_listed(store, task, stranger, own)


@s.ok_or_failed
def test_set_task_result_and_set_task_status_together_end_the_attempt(
    store: StateStore, one: s.Campaign, scope: Scope, ok: bool
) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope, ok=ok)
    store.set_task_result(task, result)
    ended = "complete" if ok else "error"
    assert store.set_task_status([task], ended) == [task]
    [attempt] = s.attempts(store, task)
    assert (s.status(store, task), attempt.outcome, attempt.result) == (
        ended,
        ended,
        s.reference_key(result, task),
    )


@pytest.mark.parametrize(
    ("wanted", "outcome"),
    [
        ("waiting", "released"),
        ("complete", "complete"),
        ("error", "error"),
        ("invalid", "invalid"),
        ("deleted", "deleted"),
    ],
)
def test_status_set_by_hand_ends_claim_and_attempt(
    store: StateStore, one: s.Campaign, wanted: str, outcome: str
) -> None:
    task = s.claim(store, one, "b")
    assert store.set_task_status([task], wanted) == [task]
    assert (s.status(store, task), s.claim_rows(store), s.outcomes(store, task)) == (
        wanted,
        [],
        [("b", outcome)],
    )


def test_set_task_running_on_a_running_task_keeps_claim_and_attempt(
    store: StateStore, one: s.Campaign
) -> None:
    task = s.claim(store, one, "b")
    before = s.all_rows(store)
    assert store.set_task_running([task]) == [task]
    # Any call may raise the floors of lanes.
    assert s.all_rows(store) | {"lanes": before["lanes"]} == before


def test_attempt_outlives_the_registration_with_its_host(
    store: StateStore, one: s.Campaign
) -> None:
    task = s.claim(store, one, "a")
    s.expire_silent(store)
    with pytest.raises(KeyError):
        store.deregister_computeservice("a")
    [attempt] = s.attempts(store, task)
    assert (attempt.service, attempt.hostname, attempt.outcome) == ("a", "host", "expired")


def test_ended_attempt_does_not_change(store: StateStore, one: s.Campaign, scope: Scope) -> None:
    task = s.claim(store, one, "b")
    s.settle(store, task, s.ref(scope, ok=False), "b", environment=s.ENVIRONMENT)
    [ended] = s.attempts(store, task)
    store.set_task_waiting([task])
    s.settle(store, task, s.ref(scope, ok=False), "b", environment={"gufe": "0"})
    store.deregister_computeservice("b")
    s.claim(store, one, "c")
    s.settle(store, task, s.ref(scope), "c")
    store.set_task_invalid([task])
    assert s.attempts(store, task)[0] == ended
