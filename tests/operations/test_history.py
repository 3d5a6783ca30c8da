"""History and details of tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from alchemistore import Scope, ScopedKey, StateStore, TaskStatusEnum
from alchemistore.models import StatusChange
from tests.support.campaigns import Campaign, campaign, chain, created, register
from tests.support.claims import claim, expire_silent
from tests.support.history import attempts, history_of
from tests.support.results import ref, reference_key, settle


def told(changes: tuple[StatusChange, ...]) -> list[tuple[str, str | None]]:
    """Status and actor of each change, after seeing that time does not run backwards."""
    assert all(first.changed_at <= second.changed_at for first, second in pairwise(changes))
    return [(change.status.value, change.actor) for change in changes]


def test_history_of_a_new_task_is_its_creation(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    before = datetime.now(UTC)
    [task] = created(store.create_tasks(made.transformations[:1], creator="someone"))
    found = history_of(store, task)
    assert (found.task, found.attempts) == (task, ())
    [creation] = found.changes
    assert creation.status is TaskStatusEnum.waiting
    assert before <= creation.changed_at <= datetime.now(UTC)


def test_history_contains_all_events_in_order(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task, failure, success = one.tasks[0], ref(scope, ok=False), ref(scope)
    claim(store, one, "a")
    assert expire_silent(store) == ["a"]
    claim(store, one, "b")
    settle(store, task, failure, "b")
    assert store.set_task_status([task], "waiting", reason="try once more", actor="operator") == [
        task
    ]
    claim(store, one, "b")
    settle(store, task, success, "b")

    found = history_of(store, task)
    changes = told(found.changes)
    assert [status for status, _ in changes] == [
        "waiting",
        "running",
        "waiting",
        "running",
        "error",
        "waiting",
        "running",
        "complete",
    ]
    assert [actor for status, actor in changes if status == "running"] == ["a", "b", "b"]
    assert (changes[4], changes[7]) == (("error", "b"), ("complete", "b"))
    assert (found.changes[5].reason, found.changes[5].actor) == ("try once more", "operator")
    assert "heartbeat" in str(found.changes[2].reason)

    assert [(one.attempt, one.service, one.outcome) for one in found.attempts] == [
        (1, "a", "expired"),
        (2, "b", "error"),
        (3, "b", "complete"),
    ]
    assert [one.result for one in found.attempts] == [
        None,
        reference_key(failure, task),
        reference_key(success, task),
    ]
    for first, second in pairwise(found.attempts):
        assert first.ended_at is not None
        assert first.claimed_at <= first.ended_at <= second.claimed_at


def test_late_result_that_counts_names_its_service(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task = claim(store, one, "a")
    expire_silent(store)
    claim(store, one, "b")
    settle(store, task, ref(scope), "a")
    found = history_of(store, task)
    assert told(found.changes)[-2:] == [("running", "b"), ("complete", "a")]
    assert [(one.service, one.outcome) for one in found.attempts] == [
        ("a", "expired"),
        ("b", "superseded"),
    ]
    assert found.attempts[1].reason


def test_late_result_without_claim_names_its_sender(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    settle(store, one.tasks[0], ref(scope), "stranger")
    assert told(history_of(store, one.tasks[0]).changes)[-1] == ("complete", "stranger")


def test_late_failure_is_no_change_of_status(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task = claim(store, one, "a")
    expire_silent(store)
    before = history_of(store, task).changes
    settle(store, task, ref(scope, ok=False), "a")
    assert history_of(store, task).changes == before


def test_releases_and_deregistrations_have_different_outcomes(
    store: StateStore, one: Campaign
) -> None:
    task = claim(store, one, "a")
    store.set_task_status([task], "waiting", reason="needed elsewhere", actor="operator")
    claim(store, one, "b")
    store.deregister_computeservice("b")
    first, second = attempts(store, task)
    assert (first.outcome, first.reason, second.outcome) == (
        "released",
        "needed elsewhere",
        "deregistered",
    )
    changes = history_of(store, task).changes
    assert [change.status.value for change in changes] == [
        "waiting",
        "running",
        "waiting",
        "running",
        "waiting",
    ]
    assert (changes[2].reason, changes[2].actor) == ("needed elsewhere", "operator")
    assert changes[4].reason not in (None, changes[2].reason)


def test_every_setter_records_reason_and_actor(store: StateStore, one: Campaign) -> None:
    steps = ["running", "error", "waiting", "running", "complete", "invalid"]
    for step in steps:
        assert (
            store.set_task_status(one.tasks, step, reason=f"because of {step}", actor="operator")
            == one.tasks
        )
    found = history_of(store, one.tasks[0])
    assert [(c.status.value, c.reason, c.actor) for c in found.changes[1:]] == [
        (step, f"because of {step}", "operator") for step in steps
    ]
    assert told(found.changes)
    assert found.attempts == ()


def test_unchanged_or_refused_status_is_not_recorded(store: StateStore, one: Campaign) -> None:
    before = history_of(store, one.tasks[0])
    assert store.set_task_waiting(one.tasks) == one.tasks
    assert store.set_task_complete(one.tasks) == [None]
    assert history_of(store, one.tasks[0]) == before


@pytest.mark.parametrize("final", ["invalid", "deleted"])
def test_cascade_is_recorded_for_every_descendant(
    store: StateStore, scope: Scope, final: str
) -> None:
    register(store, "b")
    made = campaign(store, scope, arms=1)
    parent, child, grandchild = chain(store, made.transformations[0], 3)
    store.set_task_running([parent])
    store.set_task_complete([parent])
    store.action_tasks([child], made.hub)
    assert claim(store, made, "b") == child
    assert store.set_task_status([parent], final, reason="wrong force field", actor="operator") == [
        parent
    ]
    for task in (parent, child, grandchild):
        last = history_of(store, task).changes[-1]
        assert (last.status.value, last.actor) == (final, "operator")
        assert last.reason
    assert history_of(store, parent).changes[-1].reason == "wrong force field"
    [attempt] = attempts(store, child)
    assert attempt.outcome == final
    assert attempt.ended_at is not None


def test_end_of_a_task_closes_its_attempt_at_that_moment(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    task = claim(store, one, "b")
    [going_on] = attempts(store, task)
    assert (going_on.ended_at, going_on.provenance) == (None, None)
    settle(store, task, ref(scope), "b")
    found = history_of(store, task)
    [ended] = found.attempts
    assert ended.ended_at == found.changes[-1].changed_at
    assert going_on.claimed_at == found.changes[1].changed_at
    assert ended.provenance is not None
    assert (ended.provenance.computeserviceid, ended.provenance.datetime_start) == (
        "b",
        going_on.claimed_at,
    )
    assert ended.provenance.datetime_end == ended.ended_at


def test_details_describe_the_state_of_a_task(
    store: StateStore, one: Campaign, scope: Scope
) -> None:
    def details() -> tuple[object, ...]:
        [found] = store.get_task_details([task])
        assert found is not None
        assert found.task == task
        assert found.status_changed_at == history_of(store, task).changes[-1].changed_at
        return (
            found.status.value,
            found.num_attempts,
            found.service,
            found.last_service,
            found.num_results,
            found.num_failures,
        )

    task = one.tasks[0]
    assert details() == ("waiting", 0, None, None, 0, 0)
    claim(store, one, "a")
    assert details() == ("running", 1, "a", "a", 0, 0)
    expire_silent(store)
    assert details() == ("waiting", 1, None, "a", 0, 0)
    claim(store, one, "b")
    assert details() == ("running", 2, "b", "b", 0, 0)
    settle(store, task, ref(scope, ok=False), "b")
    assert details() == ("error", 2, None, "b", 0, 1)
    settle(store, task, ref(scope, ok=False), "a")
    assert details() == ("error", 2, None, "b", 0, 2)
    settle(store, task, ref(scope), "a")
    assert details() == ("complete", 2, None, "b", 1, 2)
    store.set_task_status([task], "invalid", reason="wrong force field")
    assert details() == ("invalid", 2, None, "b", 1, 2)
    [found] = store.get_task_details([task])
    assert found is not None
    assert found.reason == "wrong force field"


def test_service_holds_claimed_tasks_until_it_is_settled_or_lost(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    register(store, "b", "c")
    here, there = campaign(store, scope, tasks=3), campaign(store, other_scope, tasks=2)
    mine = set(store.claim_taskhub_tasks(here.hub, "b", count=2)) | set(
        store.claim_taskhub_tasks(there.hub, "b", count=1)
    )
    assert None not in mine
    held = store.get_service_tasks("b")
    assert set(held) == mine
    assert len(held) == 3
    assert held == sorted(held, key=lambda task: (task.scope, task.gufe_key))
    assert store.get_service_tasks("c") == store.get_service_tasks("nobody") == []
    settle(store, held[0], ref(held[0].scope), "b")
    store.set_task_waiting([held[1]])
    assert store.get_service_tasks("b") == [held[2]]
    store.deregister_computeservice("b")
    assert store.get_service_tasks("b") == []


def test_bulk_answers_are_in_the_requested_order(store: StateStore, scope: Scope) -> None:
    register(store, "b")
    made = campaign(store, scope, tasks=3)
    first, second, third = made.tasks
    missing = ScopedKey.from_str(f"Task-{'0' * 32}-{scope}")
    asked: list[ScopedKey | str | None] = [
        third,
        missing,
        str(first),
        None,
        made.hub,
        second,
        third,
    ]
    expected = [third, None, first, None, None, second, third]
    assert [answer and answer.task for answer in store.get_task_history(iter(asked))] == expected
    assert [answer and answer.task for answer in store.get_task_details(iter(asked))] == expected
    assert store.get_task_history([]) == []
    assert store.get_task_details([]) == []


def test_heartbeat_of_an_expired_service_is_a_key_error_and_restores_no_claim(
    store: StateStore, one: Campaign
) -> None:
    task = claim(store, one, "a")
    expire_silent(store)
    moment = datetime.now(UTC)
    with pytest.raises(KeyError, match="'a'"):
        store.heartbeat_computeservice("a", moment)
    with pytest.raises(KeyError, match="'a'"):
        store.claim_taskhub_tasks(one.hub, "a")
    register(store, "a")
    assert store.get_service_tasks("a") == []
    assert store.get_task_status([task]) == [TaskStatusEnum.waiting]
    assert store.heartbeat_computeservice("a", moment + timedelta(hours=1)) == "a"
