"""A campaign through PgBouncer in transaction mode, with fewer connections than clients."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import URL, text

from alchemistore import Scope, ScopedKey, Settings, StateStore, StateStoreError
from alchemistore.database import engine
from alchemistore.database.engine import database_url
from alchemistore.database.notifications import Listener
from alchemistore.models import CredentialedUserIdentity
from alchemistore.monitoring.collection import Collection
from alchemistore.monitoring.readings import database_parts
from tests.support.calls import ABOUT_ONE, CASES, USER, arguments, make_user, make_world, try_tasks
from tests.support.campaigns import campaign, chain, register
from tests.support.concurrency import Running, run_concurrently
from tests.support.databases import libpq, rolled_back
from tests.support.pgbouncer import pgbouncer
from tests.support.results import ref

SPAWN = multiprocessing.get_context("spawn")
SERVICES = [f"service {number}" for number in range(4)]


@pytest.fixture(scope="module")
def pooler(server: URL) -> Iterator[URL]:
    with pgbouncer(server) as url:
        yield url


@pytest.fixture
def pooled_url(pooler: URL, pooled_database: str) -> str:
    """The URL of an empty database, through PgBouncer."""
    url = pooler.set(database=database_url(pooled_database).database)
    return url.render_as_string(hide_password=False)


@pytest.fixture
def pooled(pooled_url: str) -> Iterator[StateStore]:
    with closing(StateStore(pooled_url)) as store:
        yield store


def work(url: str, hub: ScopedKey, service: str) -> int:
    """Claim and settle tasks until none is left; return the number."""
    settled = 0
    with closing(StateStore(url)) as store:
        while (task := store.claim_taskhub_tasks(hub, service)[0]) is not None:
            store.settle_task(task, ref(task.scope), service)
            settled += 1
    return settled


def work_and_exit(url: str, hub: ScopedKey, service: str) -> None:
    work(url, hub, service)


def test_campaign_of_threads_and_processes_is_completed(
    pooled: StateStore, pooled_url: str, scope: Scope
) -> None:
    register(pooled, *SERVICES)
    made = campaign(pooled, scope, tasks=24)
    more = chain(pooled, made.transformations[0], 3)
    assert pooled.action_tasks(more, made.hub) == more
    processes = [
        SPAWN.Process(target=work_and_exit, args=(pooled_url, made.hub, service))
        for service in SERVICES[:2]
    ]
    for process in processes:
        process.start()
    run_concurrently(
        [lambda service=service: work(pooled_url, made.hub, service) for service in SERVICES[2:]]  # type: ignore[misc]  # the default binds the loop variable
    )
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert pooled.get_network_status(made.network) == {"complete": 27}
    for service in SERVICES:
        pooled.deregister_computeservice(service)
    make_user(pooled)
    pooled.remove_scope(USER, CredentialedUserIdentity, "org-*-*")
    assert pooled.list_scopes(USER, CredentialedUserIdentity) == []
    pooled.check()


def test_every_call_works(pooled: StateStore) -> None:
    world = make_world(pooled, size=3)
    make_user(pooled)
    for _, act, prepare in CASES:
        with rolled_back(pooled) as tx:
            act(tx, prepare(tx, world, False), False)
    for name in sorted(ABOUT_ONE):
        with rolled_back(pooled) as tx:
            if name == "create_taskhub":
                tx.delete_taskhub(world[False].network)
            if name == "set_attempt_log":
                try_tasks(tx, world)
            getattr(tx, name)(**arguments(world, name))


def test_metrics_can_be_read(pooled: StateStore) -> None:
    collection = Collection(database_parts(pooled.engine, timedelta(minutes=30)), 10.0)
    collection.refresh()
    assert collection.errors() == {}


def test_waiting_notices_new_tasks_by_polling(
    pooled: StateStore, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alchemistore.store.POLL_SECONDS", (0.05, 0.1))
    made = campaign(pooled, scope, tasks=1, action=False)
    waiting = Running(lambda: pooled.wait_for_tasks([scope], timeout=60))
    assert not waiting.done.wait(0.3)
    # Waiting does not hold a connection of the pooler.
    with pooled.transaction() as one, pooled.transaction() as other:
        assert one.query_tasks() == other.query_tasks() == made.tasks
    pooled.action_tasks(made.tasks, made.hub)
    assert waiting.result()


def test_nothing_listens_through_the_pooler(pooled: StateStore, pooled_database: str) -> None:
    # Listening would change the connection of the server for its next client.
    query = """
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND (query LIKE 'LISTEN%' OR application_name LIKE '%listener')
    """
    with (
        Listener(pooled.engine, "some_channel"),
        psycopg.connect(libpq(pooled_database)) as connection,
    ):
        assert connection.execute(query).fetchone() == (0,)


def _exchange_connections(url: str) -> None:
    """Let two stores send the same statements, on each connection of the pooler in turns."""
    with ExitStack() as stack:
        first, second, holder = (stack.enter_context(closing(StateStore(url))) for _ in range(3))
        for _ in range(3):
            for _ in range(8):
                first.query_tasks()
            # The pooler lends the connection that it used last.
            with holder.transaction() as tx:
                tx.query_tasks()
                for _ in range(8):
                    second.query_tasks()
                    first.query_tasks()


def test_prepared_statements_are_not_used(pooled_url: str) -> None:
    _exchange_connections(pooled_url)
    with closing(StateStore(pooled_url)) as store, store.transaction() as tx:
        assert tx.connection is not None
        driver = tx.connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        assert driver.prepare_threshold is None


def test_prepared_statements_without_detection_are_an_error_that_names_the_setting(
    pooled_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "behind_pooler", lambda connection: False)
    with pytest.raises(StateStoreError, match="ALCHEMISTORE_PREPARE_STATEMENTS=false"):
        _exchange_connections(pooled_url)


def test_statement_timeout_ends_with_the_transaction(pooled_url: str, pooled: StateStore) -> None:
    settings = Settings.model_validate({"database_url": pooled_url, "statement_timeout": 0.05})
    with closing(StateStore(settings)) as impatient:
        for _ in range(4):
            assert impatient.query_tasks() == []
            with pooled.transaction() as tx:
                assert tx.connection is not None
                tx.connection.execute(text("SELECT pg_sleep(0.1)"))
