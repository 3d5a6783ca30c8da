"""From settings to connections: what the server is told, and what a forked child does."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from alchemistore import Settings, StateStore
from alchemistore.database.engine import database_url, make_engine
from alchemistore.errors import StoreUnavailableError

PASSWORD = "hunter2-sesame"


@contextmanager
def engine_of(url: str, **fields: Any) -> Iterator[Engine]:
    engine = make_engine(Settings(database_url=url, **fields))  # type: ignore[arg-type]  # pydantic makes a secret of it
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"]
)
def test_the_driver_is_psycopg_whatever_the_url_says(scheme: str) -> None:
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
    ],
)
def test_another_url_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as raised:
        database_url(url)
    assert PASSWORD not in "".join(traceback.format_exception(raised.value))


def test_nothing_is_connected_before_the_first_call() -> None:
    with closing(StateStore(f"postgresql://user:{PASSWORD}@nowhere.invalid/name")) as store:
        assert PASSWORD not in repr(store)
        assert PASSWORD not in str(store)
        assert "nowhere.invalid" in repr(store)


def test_the_server_is_told_who_connects(database: str) -> None:
    with (
        engine_of(database, application_name="my campaign") as engine,
        engine.connect() as connection,
    ):
        assert connection.scalar(text("SHOW application_name")) == "my campaign"


def test_a_statement_that_takes_too_long_is_cancelled(database: str) -> None:
    with (
        engine_of(database, statement_timeout=0.05) as engine,
        engine.connect() as connection,
        pytest.raises(DBAPIError, match="statement timeout"),
    ):
        connection.execute(text("SELECT pg_sleep(60)"))


def test_no_statement_timeout_is_set_without_being_asked_for(database: str) -> None:
    with engine_of(database) as engine, engine.connect() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "0"


@pytest.mark.parametrize(("prepare", "expected"), [(True, True), (False, False)])
def test_statements_are_prepared_unless_that_is_turned_off(
    database: str, prepare: bool, expected: bool
) -> None:
    with engine_of(database, prepare_statements=prepare) as engine, engine.connect() as connection:
        for number in range(20):
            connection.execute(text("SELECT CAST(:number AS integer)"), {"number": number})
        prepared = connection.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
        assert bool(prepared) is expected


def test_a_pool_that_is_used_up_is_an_error_that_says_what_to_do(database: str) -> None:
    settings = Settings(database_url=database, pool_size=1, pool_timeout=0.05)  # type: ignore[arg-type]  # pydantic makes a secret of it
    with (
        closing(StateStore(settings)) as store,
        store.transaction(),
        store.transaction(),
        pytest.raises(StoreUnavailableError, match="ALCHEMISTORE_POOL_SIZE"),
    ):
        store.query_tasks()


def test_connections_are_kept_and_used_again(database: str) -> None:
    with engine_of(database) as engine:
        pids = []
        for _ in range(3):
            with engine.connect() as connection:
                pids.append(connection.scalar(text("SELECT pg_backend_pid()")))
    assert len(set(pids)) == 1


def test_a_store_is_made_of_a_url_of_settings_and_of_an_engine(database: str) -> None:
    engine = create_engine(database_url(database))
    settings = Settings(database_url=database)  # type: ignore[arg-type]  # pydantic makes a secret of it
    for where in (database, settings, engine):
        with closing(StateStore(where)) as store:
            assert store.query_tasks() == []


def test_a_store_without_arguments_is_that_of_the_environment(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alchemistore.settings import get_settings

    get_settings.cache_clear()
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", database)
    with closing(StateStore()) as store:
        assert store.query_tasks() == []
    get_settings.cache_clear()


def test_a_closed_store_opens_new_connections(database: str) -> None:
    store = StateStore(database)
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
def test_a_forked_child_has_connections_of_its_own(database: str, given: str) -> None:
    with closing(
        StateStore(database if given == "url" else create_engine(database_url(database)))
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
def test_a_child_that_dies_leaves_the_connection_of_its_parent_alone(database: str) -> None:
    with closing(StateStore(database)) as store, store.transaction() as tx:
        assert tx._connection is not None
        before = tx._connection.scalar(text("SELECT pg_backend_pid()"))
        child = os.fork()
        if child == 0:
            os._exit(0 if store.query_tasks() == [] else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert tx._connection.scalar(text("SELECT pg_backend_pid()")) == before


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
