"""Results stored and statuses set by separate calls, and what an attempt keeps."""

from __future__ import annotations

import pytest

from alchemistore import Scope, StateStore
from tests.support.campaigns import Campaign
from tests.support.claims import claim, claim_rows, expire_silent
from tests.support.databases import all_rows
from tests.support.history import attempts, history_of, outcomes, status
from tests.support.results import (
    ENVIRONMENT,
    assert_listed,
    ok_or_failed,
    ref,
    reference_key,
    settle,
)


@ok_or_failed
def test_set_task_result_keeps_status_claim_and_attempt(
    store: StateStore, one: Campaign, scope: Scope, ok: bool
) -> None:
    task, result = claim(store, one, "b"), ref(scope, ok=ok)
    before = history_of(store, task)
    assert store.set_task_result(task, result) == reference_key(result, task)
    assert (status(store, task), claim_rows(store), history_of(store, task).changes) == (
        "running",
        [("b", 1)],
        before.changes,
    )
    assert outcomes(store, task) == [("b", None)]
    assert_listed(store, task, result)


def test_set_task_result_does_not_replace_the_result_of_the_claim_holder(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task, stranger, own = claim(store, one, "b"), ref(scope, ok=False), ref(scope)
    store.set_task_result(task, stranger)
    settle(store, task, own, "b")
    [attempt] = attempts(store, task)
    assert (attempt.outcome, attempt.result) == ("complete", reference_key(own, task))
    assert_listed(store, task, stranger, own)


@ok_or_failed
def test_set_task_result_and_set_task_status_together_end_the_attempt(
    store: StateStore, one: Campaign, scope: Scope, ok: bool
) -> None:
    task, result = claim(store, one, "b"), ref(scope, ok=ok)
    store.set_task_result(task, result)
    ended = "complete" if ok else "error"
    assert store.set_task_status([task], ended) == [task]
    [attempt] = attempts(store, task)
    assert (status(store, task), attempt.outcome, attempt.result) == (
        ended,
        ended,
        reference_key(result, task),
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
    store: StateStore, one: Campaign, wanted: str, outcome: str
) -> None:
    task = claim(store, one, "b")
    assert store.set_task_status([task], wanted) == [task]
    assert (status(store, task), claim_rows(store), outcomes(store, task)) == (
        wanted,
        [],
        [("b", outcome)],
    )


def test_set_task_running_on_a_running_task_keeps_claim_and_attempt(
    store: StateStore, one: Campaign
) -> None:
    task = claim(store, one, "b")
    before = all_rows(store)
    assert store.set_task_running([task]) == [task]
    # Any call may raise the floors of lanes.
    assert all_rows(store) | {"lanes": before["lanes"]} == before


def test_attempt_outlives_the_registration_with_its_host(store: StateStore, one: Campaign) -> None:
    task = claim(store, one, "a")
    expire_silent(store)
    with pytest.raises(KeyError):
        store.deregister_computeservice("a")
    [attempt] = attempts(store, task)
    assert (attempt.service, attempt.hostname, attempt.outcome) == ("a", "host", "expired")


def test_ended_attempt_does_not_change(store: StateStore, one: Campaign, scope: Scope) -> None:
    task = claim(store, one, "b")
    settle(store, task, ref(scope, ok=False), "b", environment=ENVIRONMENT)
    [ended] = attempts(store, task)
    store.set_task_waiting([task])
    settle(store, task, ref(scope, ok=False), "b", environment={"gufe": "0"})
    store.deregister_computeservice("b")
    claim(store, one, "c")
    settle(store, task, ref(scope), "c")
    store.set_task_invalid([task])
    assert attempts(store, task)[0] == ended
