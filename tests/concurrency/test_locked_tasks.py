"""A claim passes over a task that another transaction has only locked."""

from __future__ import annotations

import pytest

from alchemistore import Scope, StateStore
from tests.support.campaigns import campaign, move_to_status, register
from tests.support.concurrency import Running, run_while_open
from tests.support.history import history_of


@pytest.mark.parametrize("protocols", [None, ["PushProtocol"]], ids=["any", "filtered"])
def test_claim_does_not_wait_for_a_task_that_is_locked_and_stays_queued(
    store: StateStore, scope: Scope, protocols: list[str] | None
) -> None:
    register(store, "a")
    made = campaign(store, scope, tasks=2)
    locked, free = made.tasks
    _, claiming = run_while_open(
        store,
        lambda tx: tx.set_task_waiting([locked]),
        lambda: store.claim_taskhub_tasks(made.hub, "a", 2, protocols),
        commit=True,
    )
    assert claiming.result() == [free, None]
    assert not claiming.waited
    assert store.claim_taskhub_tasks(made.hub, "a", 2, protocols) == [locked, None]


def test_restart_does_not_end_the_claim_of_a_task_that_another_session_has_restarted(
    store: StateStore, scope: Scope
) -> None:
    register(store, "a")
    made = campaign(store, scope, tasks=1)
    move_to_status(store, made.tasks, "error")

    def restart_and_claim(tx: StateStore) -> None:
        tx.set_task_status(made.tasks, "waiting", only_from="error")
        assert tx.claim_taskhub_tasks(made.hub, "a") == made.tasks

    _, restarting = run_while_open(
        store,
        restart_and_claim,
        lambda: store.set_task_status(made.tasks, "waiting", only_from="error"),
        commit=True,
    )
    assert restarting.waited
    assert restarting.result() == [None]
    assert store.get_service_tasks("a") == made.tasks


def test_history_is_in_the_order_of_the_changes_even_if_the_last_one_had_to_wait(
    store: StateStore, scope: Scope
) -> None:
    register(store, "a")
    made = campaign(store, scope, tasks=1)
    with store.transaction() as tx:
        assert tx.set_task_priority(made.tasks, 2) == made.tasks
        ending = Running(lambda: store.set_task_status(made.tasks, "error"))
        assert ending.waits_for(tx)
        assert tx.claim_taskhub_tasks(made.hub, "a") == made.tasks
    assert ending.result() == made.tasks
    told = history_of(store, made.tasks[0])
    assert [change.status.value for change in told.changes] == ["waiting", "running", "error"]
    [attempt] = told.attempts
    assert attempt.ended_at is not None
    assert attempt.ended_at >= attempt.claimed_at
