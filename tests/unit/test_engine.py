"""Engines made of settings: server parameters, pools and forks."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from alchemistore import Settings, StateStore
from alchemistore.database.engine import (
    database_url,
    make_engine,
)
from alchemistore.database.shortening import PARSED_ONCE_MAX, without_comments
from alchemistore.errors import StateStoreError, StoreUnavailableError
from tests.support.campaigns import register

PASSWORD = "hunter2-sesame"


@contextmanager
def engine_of(url: str, **fields: Any) -> Iterator[Engine]:
    engine = make_engine(Settings(database_url=url, **fields))  # type: ignore[arg-type]  # pydantic makes a secret of it
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"]
)
def test_driver_is_always_psycopg(scheme: str) -> None:
    url = database_url(f"{scheme}://user:{PASSWORD}@host:5433/name?sslmode=require")
    assert url.drivername == "postgresql+psycopg"
    assert (url.username, url.password, url.host, url.port, url.database) == (
        "user",
        PASSWORD,
        "host",
        5433,
        "name",
    )
    assert url.query == {"sslmode": "require"}


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://user:{PASSWORD}@host/name",
        f"user:{PASSWORD}",
        "",
        f"postgresql://user:{PASSWORD}@host:port/name",
        f"postgresql://user:{PASSWORD}@host:0/name",
        f"postgresql://user:{PASSWORD}@host:65536/name",
    ],
)
def test_url_of_another_database_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as raised:
        database_url(url)
    assert PASSWORD not in "".join(traceback.format_exception(raised.value))


def test_nothing_is_connected_before_the_first_call() -> None:
    with closing(StateStore(f"postgresql://user:{PASSWORD}@nowhere.invalid/name")) as store:
        assert PASSWORD not in repr(store)
        assert PASSWORD not in str(store)
        assert "nowhere.invalid" in repr(store)


def test_connection_has_an_application_name(pooled_database: str) -> None:
    with (
        engine_of(pooled_database, application_name="my campaign") as engine,
        engine.connect() as connection,
    ):
        assert connection.scalar(text("SHOW application_name")) == "my campaign"


def test_statement_that_takes_too_long_is_cancelled(pooled_database: str) -> None:
    with (
        engine_of(pooled_database, statement_timeout=0.05) as engine,
        engine.connect() as connection,
        pytest.raises(DBAPIError, match="statement timeout"),
    ):
        connection.execute(text("SELECT pg_sleep(60)"))


def test_statement_timeout_is_not_set_by_default(pooled_database: str) -> None:
    with engine_of(pooled_database) as engine, engine.connect() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "0"


@pytest.mark.parametrize(("prepare", "expected"), [(True, True), (False, False)])
def test_statements_are_prepared_unless_turned_off(
    pooled_database: str, prepare: bool, expected: bool
) -> None:
    with (
        engine_of(pooled_database, prepare_statements=prepare) as engine,
        engine.connect() as connection,
    ):
        for number in range(20):
            connection.execute(text("SELECT CAST(:number AS integer)"), {"number": number})
        prepared = connection.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
        assert bool(prepared) is expected


def test_exhausted_pool_is_an_error_that_says_what_to_do(pooled_database: str) -> None:
    settings = Settings(database_url=pooled_database, pool_size=1, pool_timeout=0.05)  # type: ignore[arg-type]  # pydantic makes a secret of it
    with (
        closing(StateStore(settings)) as store,
        store.transaction(),
        store.transaction(),
        pytest.raises(StoreUnavailableError, match="ALCHEMISTORE_POOL_SIZE"),
    ):
        store.query_tasks()


def test_connections_are_reused(pooled_database: str) -> None:
    with engine_of(pooled_database) as engine:
        pids = []
        for _ in range(3):
            with engine.connect() as connection:
                pids.append(connection.scalar(text("SELECT pg_backend_pid()")))
    assert len(set(pids)) == 1


def test_store_is_created_from_url_settings_or_engine(pooled_database: str) -> None:
    engine = create_engine(database_url(pooled_database))
    settings = Settings(database_url=pooled_database)  # type: ignore[arg-type]  # pydantic makes a secret of it
    for where in (pooled_database, settings, engine):
        with closing(StateStore(where)) as store:
            assert store.query_tasks() == []


def test_store_on_the_engine_of_another_keeps_its_terms(pooled_database: str) -> None:
    with (
        engine_of(pooled_database, statement_timeout=7) as engine,
        closing(StateStore(engine)) as store,
        store.transaction() as tx,
    ):
        assert tx.connection is not None
        assert tx.connection.scalar(text("SHOW statement_timeout")) == "7s"


def test_parameters_of_the_url_win_over_settings(pooled_database: str) -> None:
    url = f"{pooled_database}{'&' if '?' in pooled_database else '?'}application_name=url"
    with engine_of(url, application_name="setting") as engine, engine.connect() as connection:
        assert connection.scalar(text("SHOW application_name")) == "url"


def test_store_without_arguments_uses_the_environment(
    pooled_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alchemistore.settings import get_settings

    get_settings.cache_clear()
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    with closing(StateStore()) as store:
        assert store.query_tasks() == []
    get_settings.cache_clear()


def test_closed_store_opens_new_connections(pooled_database: str) -> None:
    store = StateStore(pooled_database)
    assert store.query_tasks() == []
    store.close()
    assert store.query_tasks() == []
    store.close()


def _pid(store: StateStore) -> int:
    with store.engine.connect() as connection:
        return int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)


def _tell_pid(store: StateStore, pipe: Pipe) -> None:
    with pipe:
        pipe.send((_pid(store), store.query_tasks()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("given", ["url", "engine"])
def test_forked_child_uses_its_own_connections(pooled_database: str, given: str) -> None:
    with closing(
        StateStore(
            pooled_database if given == "url" else create_engine(database_url(pooled_database))
        )
    ) as store:
        before = _pid(store)
        here, there = multiprocessing.get_context("fork").Pipe()
        child = multiprocessing.get_context("fork").Process(target=_tell_pid, args=(store, there))
        child.start()
        there.close()
        assert here.poll(30)
        pid, tasks = here.recv()
        child.join()
        here.close()
        assert child.exitcode == 0
        assert tasks == []
        assert pid != before
        # The child has not taken the parent's connection with it.
        assert _pid(store) == before


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_child_leaves_the_connection_of_its_parent_usable(pooled_database: str) -> None:
    with closing(StateStore(pooled_database)) as store, store.transaction() as tx:
        assert tx.connection is not None
        before = tx.connection.scalar(text("SELECT pg_backend_pid()"))
        child = os.fork()
        if child == 0:
            os._exit(0 if store.query_tasks() == [] else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert tx.connection.scalar(text("SELECT pg_backend_pid()")) == before


def test_a_vanished_server_is_noticed_by_keepalives_within_two_minutes(database: str) -> None:
    with engine_of(database) as engine, engine.connect() as connection:
        driver_connection = connection.connection.driver_connection
        assert driver_connection is not None
        found = driver_connection.info.get_parameters()
    idle, interval, count = (
        int(found[f"keepalives_{name}"]) for name in ("idle", "interval", "count")
    )
    assert 0 < idle + interval * count <= 120


def test_error_texts_do_not_contain_parameters(database: str) -> None:
    query = text("SELECT 1 / 0, CAST(:value AS text)")
    with engine_of(database) as engine, engine.connect() as connection:
        with pytest.raises(DBAPIError) as raised:
            connection.execute(query, {"value": PASSWORD})
        assert PASSWORD not in str(raised.value)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_inside_a_transaction_raises_in_the_child_and_leaves_the_parent_its_transaction(
    pooled_database: str,
) -> None:
    def refused(call: Callable[[], object]) -> bool:
        try:
            call()
        except StateStoreError as error:
            return "another process" in str(error)
        return False

    with closing(StateStore(pooled_database)) as store:
        child = -1
        try:
            with store.transaction() as tx:
                tx.maintain_queue()
                child = os.fork()
                if child == 0:
                    seen = refused(tx.query_tasks) and refused(tx.transaction().__enter__)
                    if not (seen and store.query_tasks() == []):
                        os._exit(1)
                else:
                    assert os.waitpid(child, 0)[1] == 0
                    assert tx.query_tasks() == []
        except BaseException as error:
            if child == 0:
                # The end of the block is refused, too, and sends nothing on the connection.
                os._exit(0 if "another process" in str(error) else 2)
            raise
        if child == 0:
            os._exit(3)
        assert store.query_tasks() == []


def test_statement_without_comments_keeps_texts_and_identifiers() -> None:
    statement = """
        SELECT 'a -- b', 'it''s  -- c', "d -- e"  -- f 'g'
        -- h
        FROM i
    """
    assert without_comments(statement) == (""" SELECT 'a -- b', 'it''s  -- c', "d -- e" FROM i """)


@pytest.mark.parametrize("filtered", [False, True])
def test_claims_are_sent_short_enough_to_be_parsed_once(store: StateStore, filtered: bool) -> None:
    sent: list[str] = []
    register(store, "a")

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(store.engine, "after_cursor_execute", note)
    hub = f"TaskHub-{'0' * 32}-a-b-c"
    store.claim_taskhub_tasks(hub, "a", protocols=["Toy"] if filtered else None)
    claims = [statement for statement in sent if "picked" in statement]
    assert len(claims) == 1
    assert len(claims[0]) <= PARSED_ONCE_MAX
