"""A claim passes over a task that another transaction has only locked."""

from __future__ import annotations

import pytest

from alchemistore import Scope, StateStore
from tests.support.campaigns import campaign, register
from tests.support.concurrency import run_while_open


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
