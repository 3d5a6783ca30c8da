"""An import that is killed leaves nothing half-written, and the next one goes on."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time

import pytest
from sqlalchemy import text

from alchemistore import Scope, StateStore, gufe_adapter
from alchemistore.neo4j.importer import GraphImport
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.report import PartReport
from alchemistore.neo4j.verification import Verification
from tests.support import import_worker
from tests.support.databases import DatabasePool, row_counts
from tests.support.recorded_graph import RecordedGraph

FORKS = multiprocessing.get_context("forkserver")
OTHERS = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
""")


def run_and_kill(url: str, statements: int) -> bool:
    """Run an import and kill it after this many statements; False if it has sent fewer."""
    ours, theirs = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=import_worker.run, args=(url, statements, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
    except EOFError:
        process.join(60)
        assert process.exitcode == 0
        return False
    finally:
        process.kill()
        process.join(60)
        ours.close()
    # It may just have ended.
    assert process.exitcode in (-signal.SIGKILL, 0)
    return True


def wait_for_silence(store: StateStore) -> None:
    """Wait until PostgreSQL has ended what the killed process had sent."""
    deadline = time.monotonic() + 60
    working = 1
    while working:
        assert time.monotonic() < deadline, "a server process goes on"
        time.sleep(0.001)
        # Within a transaction, pg_stat_activity would always show the same connections.
        with store.engine.connect() as connection:
            working = connection.scalar(OTHERS)


def assert_whole(store: StateStore) -> None:
    """Assert that what is stored is complete: no network without a part of it."""
    assert store.problems() == []
    for network in store.query_networks():
        # This raises an error if a part is missing.
        gufe_adapter.read_chain(store.get_keyed_chain(network))


def imported(store: StateStore) -> list[PartReport]:
    reader = GraphReader(RecordedGraph.read("wells"))
    return list(GraphImport(store, reader, "killed").run())


@pytest.fixture
def undisturbed(database_pool: DatabasePool) -> dict[str, int]:
    """The numbers of rows after an import that nothing has disturbed."""
    with database_pool.acquire() as copy:
        store = StateStore(copy.engine)
        imported(store)
        return row_counts(store)


def assert_goes_on(store: StateStore, undisturbed: dict[str, int]) -> None:
    """Assert that another import makes the store equal to the graph."""
    reports = {one.part: one for one in imported(store)}
    assert row_counts(store) == undisturbed
    verification = Verification(store, GraphReader(RecordedGraph.read("wells")))
    for scope in ("one", "two"):
        compared = verification.part(reports[str(Scope("org", "campaign", scope))])
        assert [one for one in compared if one.different] == []
    assert not any(any(report.counts.values()) for report in imported(store))


# About the number of statements that the import of the recorded graph sends.
STATEMENTS = 337


def test_killed_imports_leave_whole_networks_and_the_next_one_goes_on(
    store: StateStore, pooled_database: str, undisturbed: dict[str, int]
) -> None:
    for statements in [random.randrange(1, STATEMENTS) for _ in range(3)]:
        run_and_kill(pooled_database, statements)
        wait_for_silence(store)
        assert_whole(store)
    assert_goes_on(store, undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize("statements", range(1, STATEMENTS, 13))
def test_import_can_be_killed_anywhere(
    store: StateStore, pooled_database: str, undisturbed: dict[str, int], statements: int
) -> None:
    if not run_and_kill(pooled_database, statements):
        pytest.skip("the import has sent fewer statements")
    wait_for_silence(store)
    assert_whole(store)
    assert_goes_on(store, undisturbed)
