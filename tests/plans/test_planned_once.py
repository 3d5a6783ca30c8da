"""Calls for a single task are planned a few times on each connection, not in every call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import text

from alchemistore import Scope, ScopedKey, Settings, StateStore
from tests.support.campaigns import campaign, register
from tests.support.results import ref

CALLS = 16
# PostgreSQL compares five plans for given values with a general one, and keeps the better.
PLANNED_MAX = 5
PREPARED = text("SELECT statement, generic_plans, custom_plans FROM pg_prepared_statements")


@pytest.fixture
def single(pooled_database: str) -> Iterator[StateStore]:
    """A store whose calls all use the same connection."""
    settings = Settings(database_url=pooled_database, pool_size=1)  # type: ignore[arg-type]  # pydantic makes a secret of it
    with closing(StateStore(settings)) as store:
        yield store


def claimed(store: StateStore, hub: ScopedKey) -> list[ScopedKey]:
    found = [store.claim_taskhub_tasks(hub, "a")[0] for _ in range(CALLS)]
    return [task for task in found if task is not None]


def test_calls_for_one_task_are_planned_a_few_times(
    store: StateStore, single: StateStore, scope: Scope
) -> None:
    register(store, "a")
    made = campaign(store, scope, tasks=4 * CALLS)
    for task in made.tasks[:CALLS]:
        single.set_task_priority([task], 3)
        single.set_task_weights([task], made.hub, 0.25)
        single.cancel_tasks([task], made.hub)
        single.action_tasks([task], made.hub)
        single.get_task_status([task])
        single.get_task_priority([task])
        single.get_task_weights([task], made.hub)
    for task in claimed(single, made.hub):
        single.set_task_error([task])
        single.set_task_waiting([task])
        single.set_task_running([task])
        single.set_task_complete([task])
    for task in claimed(single, made.hub):
        single.set_task_invalid([task])
    for task in claimed(single, made.hub):
        single.settle_task(task, ref(scope), "a")
    for task in claimed(single, made.hub):
        single.settle_task(task, ref(scope, ok=False), "a", tracebacks=["it failed"])
        single.set_task_deleted([task])
    with single.engine.connect() as connection:
        rows = [row for row in connection.execute(PREPARED) if row.custom_plans]
    assert len(rows) > 20
    often = {
        " ".join(row.statement.split())[:120] for row in rows if row.custom_plans > PLANNED_MAX
    }
    assert not often, "\n".join(sorted(often))
    assert sum(row.generic_plans for row in rows) > len(rows)
