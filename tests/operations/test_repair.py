"""The queue can always be rebuilt from tasks and actions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Row, text

from alchemistore import QueueRepair, Scope, ScopedKey, StateStore
from alchemistore.maintenance import repair
from tests.support.campaigns import Campaign, campaign, chain, register
from tests.support.concurrency import Running


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Six tasks on a hub: one claimed, one child of a waiting parent, two of another priority."""
    register(store, "a")
    made = campaign(store, scope, tasks=4)
    store.claim_taskhub_tasks(made.hub, "a", count=1)
    line = chain(store, made.transformations[0], 2)
    store.action_tasks(line, made.hub)
    store.set_task_priority(line, 3)
    return made


def spoil(store: StateStore, statements: str) -> None:
    with store.engine.begin() as connection:
        for statement in statements.split(";"):
            assert connection.execute(text(statement)).rowcount > 0


def rows(store: StateStore, table: str = "queue") -> Sequence[Row[Any]]:
    with store.engine.connect() as connection:
        return connection.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4, 5")).all()


def entries(store: StateStore) -> set[tuple[Any, ...]]:
    """The queue but for its order."""
    return {(row.taskhub, row.task, row.priority, row.protocol, row.weight) for row in rows(store)}


SPOILT = [
    "DELETE FROM queue",
    "DELETE FROM lanes",
    "DELETE FROM queue; DELETE FROM lanes",
    "DELETE FROM lanes WHERE protocol = ''",
    "DELETE FROM lanes WHERE protocol <> ''",
    "UPDATE queue SET priority = priority + 1",
    "UPDATE queue SET weight = weight / 3",
    "UPDATE queue SET protocol = 'Other'",
    "UPDATE queue SET taskhub = gen_random_uuid()",
    "UPDATE queue SET task = gen_random_uuid()",
    "UPDATE queue SET scope_id = scope_id + 1",
    "UPDATE lanes SET floor = 1e12",
    "UPDATE lanes SET floor = 1e12 WHERE protocol = ''",
    "UPDATE lanes SET floor = 'Infinity'",
    "UPDATE lanes SET floor = 'NaN'",
    "UPDATE lanes SET floor = -1; DELETE FROM queue",
    "INSERT INTO queue SELECT scope_id, taskhub, priority, protocol, race, gen_random_uuid(),"
    " weight FROM queue",
    "INSERT INTO queue SELECT q.scope_id, taskhub, q.priority, protocol, race, t.token, weight"
    " FROM tasks AS t, queue AS q"
    " WHERE t.status = 'running' AND q.task = (SELECT task FROM queue LIMIT 1)",
    "INSERT INTO queue SELECT q.scope_id, taskhub, q.priority, protocol, race, e.task, weight"
    " FROM extends AS e, queue AS q"
    " WHERE q.task = e.parent",
]


@pytest.mark.parametrize("statements", SPOILT)
def test_any_damage_to_the_queue_is_repaired(
    store: StateStore, made: Campaign, statements: str
) -> None:
    before, tasks, actions = entries(store), rows(store, "tasks"), rows(store, "actions")
    spoil(store, statements)
    answer = store.repair_queue()
    assert list(store.problems()) == []
    assert entries(store) == before
    assert (rows(store, "tasks"), rows(store, "actions")) == (tasks, actions)
    assert answer.added > 0 or answer.removed > 0
    assert store.repair_queue() == QueueRepair(removed=0, added=0)
    assert None not in store.claim_taskhub_tasks(made.hub, "a", count=len(before))


def test_repair_of_a_correct_queue_changes_nothing(store: StateStore, made: Campaign) -> None:
    before = rows(store), rows(store, "lanes")
    assert store.repair_queue() == QueueRepair(removed=0, added=0)
    assert (rows(store), rows(store, "lanes")) == before


def test_repair_keeps_the_position_of_correct_rows(store: StateStore, made: Campaign) -> None:
    before = rows(store)
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM queue WHERE task = :task"), {"task": before[0].task})
    assert store.repair_queue() == QueueRepair(removed=0, added=1)
    assert set(before) - set(rows(store)) == {before[0]}


def test_empty_store_needs_no_repair(store: StateStore) -> None:
    assert store.repair_queue() == QueueRepair(removed=0, added=0)


def test_repair_restores_more_rows_than_one_batch(
    store: StateStore, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = campaign(store, scope, tasks=7)
    second = campaign(store, scope, name="second").hub
    store.action_tasks(made.tasks, second)
    monkeypatch.setattr(repair, "BATCH", 3)
    before = entries(store)
    spoil(store, "DELETE FROM queue")
    assert store.repair_queue() == QueueRepair(removed=0, added=14)
    assert entries(store) == before


def test_repair_does_not_disturb_concurrent_calls(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=60)
    names = ("a", "b", "c")
    register(store, *names)

    def work(name: str) -> list[ScopedKey]:
        taken: list[ScopedKey] = []
        while got := [
            task for task in store.claim_taskhub_tasks(made.hub, name, count=2) if task is not None
        ]:
            store.set_task_status(got, "complete")
            taken += got
        return taken

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, name) for name in names]
        while not all(worker.done() for worker in workers):
            store.repair_queue()
        taken = [task for worker in workers for task in worker.result()]
    assert len(taken) == len(set(taken))
    store.repair_queue()
    rest = [task for task in store.claim_taskhub_tasks(made.hub, "a", count=60) if task is not None]
    assert sorted([*taken, *rest]) == sorted(made.tasks)


def test_repair_waits_for_open_changes_of_the_queue(store: StateStore, made: Campaign) -> None:
    waiting = store.query_tasks(status="waiting")
    with store.transaction() as tx:
        tx.set_task_status(waiting, "deleted")
        repairing = Running(store.repair_queue)
        assert repairing.waits_for(tx)
    assert repairing.result() == QueueRepair(removed=0, added=0)
    assert rows(store) == []
