"""Claims and settlements read as many rows at the end of a queue as at its beginning.

The session begins when the tables are small and nobody analyzes them, so the plans that it makes at
first are bad ones later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import psycopg
import pytest
from sqlalchemy import text

from alchemistore import Scope, ScopedKey, Settings, StateStore
from alchemistore.database import plan_age
from alchemistore.tables import metadata
from tests.support.campaigns import Campaign, campaign, register
from tests.support.databases import libpq
from tests.support.explain import collect_plans
from tests.support.results import ref

STEPS = 10
# Enough for the driver to prepare the statements, and for PostgreSQL to choose general plans.
CALLS_BEFORE = 12
# Rows of all tables that this session has read lately, also to check foreign keys.
ROWS_READ = text("""
    SELECT CAST(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) AS bigint)
    FROM pg_stat_xact_user_tables
""")
# The store looks at the lanes that it has not visited for a second.
FLOORS = b"SELECT protocol, floor FROM alchemistore.lanes ORDER BY protocol"
A_SECOND_LATER = b"UPDATE alchemistore.lanes SET visited_at = visited_at - interval '2 s'"


@pytest.fixture
def single(database: str) -> Iterator[StateStore]:
    """A store with one connection, on a database whose tables nobody analyzes."""
    settings = Settings(database_url=database, pool_size=1)  # type: ignore[arg-type]  # pydantic makes a secret of it
    with closing(StateStore(settings)) as store:
        with psycopg.connect(libpq(database), autocommit=True) as connection:
            for table in metadata.sorted_tables:
                off = f"ALTER TABLE alchemistore.{table} SET (autovacuum_enabled = off)"
                connection.execute(off.encode())
        yield store
        assert store.problems() == []


def read_by(store: StateStore, call: Callable[[StateStore], object]) -> int:
    """The number of rows that a call reads."""
    with store.transaction() as tx:
        assert tx.connection is not None
        before = tx.connection.execute(ROWS_READ).scalar_one()
        call(tx)
        return int(tx.connection.execute(ROWS_READ).scalar_one() - before)


def claim(store: StateStore, made: Campaign, count: int = 1) -> list[ScopedKey]:
    found = store.claim_taskhub_tasks(made.hub, "a", count=count)
    return [task for task in found if task is not None]


def settle(store: StateStore, task: ScopedKey) -> None:
    store.settle_task(task, ref(task.scope), "a")


def pages_of_a_claim(store: StateStore, made: Campaign) -> int:
    """The number of pages that a claim visits, on another connection."""
    with closing(StateStore(address(store))) as other:
        with other.transaction() as tx, collect_plans(other) as plans:
            claim(tx, made)
        return plans.pages


def address(store: StateStore) -> str:
    return store.engine.url.render_as_string(hide_password=False)


def raise_floors(store: StateStore) -> None:
    """Raise the floors of lanes, as it happens when tasks end, but not more than once a second.

    Transactions of other tests on the same server may hold the floors back for a while.
    """
    # Not on the connection of the store, whose session then would begin anew.
    with psycopg.connect(libpq(address(store)), autocommit=True) as connection:
        before = connection.execute(FLOORS).fetchall()
        deadline = time.monotonic() + 60
        while connection.execute(FLOORS).fetchall() == before:
            assert time.monotonic() < deadline, "the floors do not rise"
            connection.execute(A_SECOND_LATER)
            store.maintain_queue()
            time.sleep(0.01)


def finish(store: StateStore, made: Campaign, count: int, one_by_one: bool) -> None:
    """Claim and complete so many tasks, and those that are running."""
    if one_by_one:
        for _ in range(count):
            for task in claim(store, made):
                settle(store, task)
    else:
        claim(store, made, count)
    store.set_task_complete(store.query_tasks(status="running"))


def drain(
    store: StateStore, made: Campaign, one_by_one: bool
) -> tuple[list[int], list[int], list[int]]:
    """The rows that a claim and a settlement read, and the pages that a claim visits, by step."""
    claims, settlements, pages = [], [], []
    for _ in range(CALLS_BEFORE):
        for task in claim(store, made):
            settle(store, task)
    portion = len(made.tasks) // STEPS
    while first := claim(store, made):
        pages.append(pages_of_a_claim(store, made))
        claims.append(read_by(store, partial(claim, made=made)))
        settlements.append(read_by(store, partial(settle, task=first[0])))
        finish(store, made, portion, one_by_one)
        raise_floors(store)
    return claims, settlements, pages


def check(store: StateStore, scope: Scope, tasks: int, one_by_one: bool, most: int) -> None:
    register(store, "a")
    made = campaign(store, scope, tasks=tasks)
    claims, settlements, pages = drain(store, made, one_by_one)
    assert len(claims) >= STEPS - 1
    assert max(claims) <= claims[0] + 20, claims
    # A table of some pages may be read as a whole, but not one that has grown since.
    assert max(settlements) <= most, settlements
    assert settlements[-1] <= settlements[0] + 20, settlements
    # The index grows; and pages may hold the entries of the tasks that were claimed last.
    assert max(pages) <= 2 * pages[0] + 100, pages
    assert store.get_network_status(made.network) == {"complete": tasks}


def test_drain_reads_as_many_rows_at_its_end_as_at_its_beginning(
    single: StateStore, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Here, tables grow in a moment as they usually do in minutes.
    monkeypatch.setattr(plan_age, "SECONDS", 0.05)
    check(single, scope, tasks=5_000, one_by_one=False, most=2_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_long_drain_reads_as_many_rows_at_its_end_as_at_its_beginning(
    single: StateStore, scope: Scope
) -> None:
    check(single, scope, tasks=100_000, one_by_one=True, most=15_000)
