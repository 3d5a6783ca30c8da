"""Delivery: the first call with which a server of alchemiscale stores a result."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import get_args

import pytest

from alchemistore import Delivery, Scope, ScopedKey, StateStore, TaskStatusEnum
from tests.support import settlement as s
from tests.support.campaigns import ZERO
from tests.support.concurrency import Running, run_concurrently
from tests.support.requests import Moment, connection_lost
from tests.support.restarts import Failure, retries

HOUR = timedelta(hours=1)


def failures(store: StateStore, service: str = "b") -> int:
    """Return how many failures of a service have been recorded, by asking for its limit."""
    limit = 0
    while not store.compute_service_can_claim(service, HOUR, limit):
        limit += 1
    return limit


@s.ok_or_failed
def test_result_from_the_claim_holder_settles_the_task(
    store: StateStore, one: s.Campaign, scope: Scope, ok: bool
) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope, ok=ok)
    ended = "complete" if ok else "error"
    assert store.deliver_result(task, result, "b") == Delivery(
        result=s.reference_key(result, task),
        status=TaskStatusEnum(ended),
        attempt=1,
        settled=True,
        repeated=False,
    )
    assert s.status(store, task) == ended
    assert s.claim_rows(store) == []
    assert s.outcomes(store, task) == [("b", ended)]
    assert failures(store) == (0 if ok else 1)
    assert store.get_taskhub_tasks(one.hub) == ([] if ok else [task])
    s.assert_listed(store, task, result)


@s.ok_or_failed
@pytest.mark.parametrize("way", s.TASK_STATES)
@pytest.mark.parametrize("service", ["c", None])
def test_result_of_somebody_who_never_claimed_the_task_is_only_stored(
    store: StateStore, one: s.Campaign, scope: Scope, service: str | None, way: str, ok: bool
) -> None:
    [task], result = one.tasks, s.ref(scope, ok=ok)
    before, bring = s.TASK_STATES[way]
    bring(store, one)
    claims = s.claim_rows(store)
    assert store.deliver_result(task, result, service) == Delivery(
        result=s.reference_key(result, task), status=TaskStatusEnum(before)
    )
    assert s.status(store, task) == before
    assert s.claim_rows(store) == claims
    assert failures(store, "c") == 0
    s.assert_listed(store, task, result)


@s.ok_or_failed
@pytest.mark.parametrize("way", ["waiting", "running by b", "error by b", "complete by b"])
def test_late_failure_changes_no_status_and_late_success_completes(
    store: StateStore, one: s.Campaign, scope: Scope, way: str, ok: bool
) -> None:
    task, result = s.claim(store, one, "a"), s.ref(scope, ok=ok)
    s.expire_silent(store)
    before, bring = s.TASK_STATES[way]
    bring(store, one)
    delivery = store.deliver_result(task, result, "a")
    after = "complete" if ok else before
    assert (delivery.status.value, delivery.attempt) == (after, 1)
    assert delivery.settled == (after != before)
    assert s.status(store, task) == after
    if before == "running":
        assert s.claim_rows(store) == ([] if ok else [("b", 2)])


@s.ok_or_failed
def test_result_that_is_sent_again_is_stored_and_counted_once(
    store: StateStore, one: s.Campaign, scope: Scope, ok: bool
) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope, ok=ok)
    first = store.deliver_result(task, result, "b")
    before = s.all_rows(store)
    # The server pushes it again, with another time.
    again = result.model_copy(update={"datetime_created": datetime(2030, 1, 2, tzinfo=UTC)})
    for one_more in (result, again):
        answer = store.deliver_result(task, one_more, "b")
        assert answer == first.model_copy(update={"settled": False, "repeated": True})
    assert s.all_rows(store) == before
    assert failures(store) == (0 if ok else 1)
    s.assert_listed(store, task, result)


def test_failure_that_is_sent_again_does_not_end_the_next_attempt(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task, failure = s.claim(store, one, "b"), s.ref(scope, ok=False)
    store.deliver_result(task, failure, "b")
    store.set_task_waiting([task])
    s.claim(store, one, "b")
    before = s.all_rows(store)
    answer = store.deliver_result(task, failure, "b")
    assert (answer.status.value, answer.attempt) == ("running", 1)
    assert (answer.settled, answer.repeated) == (False, True)
    assert s.all_rows(store) == before


def test_next_failure_of_the_same_attempts_service_counts_again(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    for number in (1, 2):
        task = s.claim(store, one, "b")
        delivery = store.deliver_result(task, s.ref(scope, ok=False), "b")
        assert (delivery.attempt, delivery.settled) == (number, True)
        store.set_task_waiting([task])
    assert failures(store) == 2


@s.ok_or_failed
def test_stored_reference_is_settled_by_its_delivery(
    store: StateStore, one: s.Campaign, scope: Scope, ok: bool
) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope, ok=ok)
    store.set_task_result(task, result)
    delivery = store.deliver_result(task, result, "b")
    assert (delivery.settled, delivery.repeated) == (True, True)
    assert s.outcomes(store, task) == [("b", "complete" if ok else "error")]
    assert failures(store) == (0 if ok else 1)


def test_success_and_failure_with_one_key_are_two_results(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task, failure = s.claim(store, one, "b"), s.ref(scope, ok=False)
    store.deliver_result(task, failure, "b")
    success = failure.model_copy(update={"ok": True})
    assert store.deliver_result(task, success, "b").settled
    assert s.status(store, task) == "complete"
    s.assert_listed(store, task, failure, success)


def test_restart_patterns_apply_when_the_tracebacks_are_there(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    store.add_task_restart_patterns(one.hub, ["NaN"], 2)
    task, failure = s.claim(store, one, "b"), s.ref(scope, ok=False)
    for sent in range(2):
        delivery = store.deliver_result(task, failure, "b")
        assert delivery.repeated == bool(sent)
        assert delivery.status.value == ("waiting" if sent else "error")
        store.add_protocol_dag_result_ref_tracebacks([Failure("NaN", "unit")], delivery.result)
        store.resolve_task_restarts([task])
        assert s.status(store, task) == "waiting"
        assert retries(store, task) == {(str(one.hub), "NaN"): (1, 2)}


def test_failure_of_a_service_that_is_gone_is_stored(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task, failure = s.claim(store, one, "b"), s.ref(scope, ok=False)
    store.deregister_computeservice("b")
    delivery = store.deliver_result(task, failure, "b")
    assert (delivery.status.value, delivery.attempt) == ("waiting", 1)
    s.assert_listed(store, task, failure)


@s.ok_or_failed
def test_ten_deliveries_at_once_settle_and_count_once(
    store: StateStore, one: s.Campaign, scope: Scope, ok: bool
) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope, ok=ok)
    answers = run_concurrently([partial(store.deliver_result, task, result, "b")] * 10)
    assert sorted(answer.settled for answer in answers) == [False] * 9 + [True]
    assert sorted(answer.repeated for answer in answers) == [False] + [True] * 9
    assert failures(store) == (0 if ok else 1)
    s.assert_listed(store, task, result)


def test_delivery_waits_for_the_deregistration_of_its_service(
    store: StateStore, one: s.Campaign, scope: Scope
) -> None:
    task, failure = s.claim(store, one, "b"), s.ref(scope, ok=False)
    with store.transaction() as tx:
        tx.deregister_computeservice("b")
        delivering = Running(lambda: store.deliver_result(task, failure, "b"))
        assert delivering.waits_for(tx)
    assert not delivering.result().settled
    assert s.outcomes(store, task) == [("b", "deregistered")]


@s.ok_or_failed
@pytest.mark.parametrize("moment", get_args(Moment))
def test_delivery_is_carried_out_once_if_its_connection_is_lost(
    store: StateStore,
    one: s.Campaign,
    scope: Scope,
    pooled_database: str,
    moment: Moment,
    ok: bool,
) -> None:
    task, result = s.claim(store, one, "b"), s.ref(scope, ok=ok)
    with connection_lost(store, pooled_database, moment) as lost:
        delivery = store.deliver_result(task, result, "b")
    assert len(lost) == 1
    assert delivery.repeated == (moment == "after COMMIT")
    assert s.outcomes(store, task) == [("b", "complete" if ok else "error")]
    assert failures(store) == (0 if ok else 1)
    s.assert_listed(store, task, result)


MISTAKES: dict[str, tuple[Callable[[ScopedKey], object], type[Exception], str]] = {
    "no key": (lambda task: "nonsense", ValueError, "not a scoped key"),
    "a hub": (lambda task: str(task).replace("Task-", "TaskHub-"), ValueError, "Task"),
    "a missing task": (lambda task: f"Task-{ZERO}-{task.scope}", KeyError, "No such object"),
    "another scope": (
        lambda task: ScopedKey.from_str(f"{task.gufe_key}-org-campaign-other"),
        KeyError,
        "No such object",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_task_is_refused(
    store: StateStore, one: s.Campaign, scope: Scope, mistake: str
) -> None:
    wrong, kind, message = MISTAKES[mistake]
    task = s.claim(store, one, "b")
    before = s.all_rows(store)
    with pytest.raises(kind, match=message):
        store.deliver_result(wrong(task), s.ref(scope), "b")  # type: ignore[arg-type]  # wrong
    assert s.all_rows(store) == before


def test_reference_of_another_scope_is_refused(
    store: StateStore, one: s.Campaign, other_scope: Scope
) -> None:
    task = s.claim(store, one, "b")
    before = s.all_rows(store)
    with pytest.raises(ValueError, match="has the scope"):
        store.deliver_result(task, s.ref(other_scope), "b")
    assert s.all_rows(store) == before
