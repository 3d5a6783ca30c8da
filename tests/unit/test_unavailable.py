"""Errors of an unavailable database say what to do and contain no password."""

from __future__ import annotations

import os
import socket
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL

from alchemistore import StateStore
from alchemistore.database.engine import database_url
from alchemistore.errors import StoreUnavailableError
from tests.support.databases import libpq

PASSWORD = "hunter2-sesame"
HUB = f"AlchemicalNetwork-{'a' * 32}-o-c-p"


def unavailable(url: URL) -> str:
    """Return the error about an unusable database, after asserting that it shows no password."""
    store = StateStore(url.set(password=PASSWORD).render_as_string(hide_password=False))
    for call in (
        store.query_tasks,
        store.initialize,
        store.check,
        store.reset,
        lambda: store.create_taskhub(HUB),
    ):
        with pytest.raises(StoreUnavailableError) as raised:
            call()
        told = "".join(traceback.format_exception(raised.value)) + repr(raised.value)
        assert PASSWORD not in told
        assert "ALCHEMISTORE_DATABASE_URL" in str(raised.value)
    assert store._store_check() is False
    store.close()
    return str(raised.value)


def test_stopped_server_is_reported() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = unavailable(
        URL.create("postgresql", "user", host="127.0.0.1", port=port, database="name")
    )
    assert "check that the server runs" in message


def test_unknown_host_is_reported() -> None:
    assert "check" in unavailable(
        URL.create("postgresql", "user", host="nowhere.invalid", database="name")
    )


def test_missing_database_is_reported(server: URL) -> None:
    message = unavailable(server.set(database="no_such_database"))
    assert "no_such_database" in message
    assert "create the database" in message


@pytest.fixture
def guarded(server: URL, run_sql: Callable[[str], None], empty_database: str) -> Iterator[URL]:
    """The URL of a user of whom the server wants a password."""
    if "ALCHEMISTORE_TEST_DATABASE_URL" in os.environ:
        pytest.skip("the rules of a server that is not ours are not ours to change")
    user = f"guarded_{uuid.uuid4().hex}"
    run_sql(f"CREATE ROLE {user} LOGIN PASSWORD 'right'")
    with psycopg.connect(libpq(empty_database), autocommit=True) as connection:
        row = connection.execute(
            "SELECT current_setting('hba_file'), pg_read_file(current_setting('hba_file'))"
        ).fetchone()
        assert row is not None
        file, rules = row

        def write(content: str) -> None:
            query = sql.SQL("COPY (SELECT unnest({}::text[])) TO {}").format(
                content.splitlines(), file
            )
            connection.execute(query)
            connection.execute("SELECT pg_reload_conf()")

        write(f"local all {user} scram-sha-256\n{rules}")
        yield make_sure_of(
            server.set(username=user, database=database_url(empty_database).database)
        )
        write(rules)
    run_sql(f"DROP ROLE {user}")


def make_sure_of(url: URL) -> URL:
    """Wait until the server has read its rules."""
    plain = url.set(drivername="postgresql", password="wrong").render_as_string(hide_password=False)
    for _ in range(300):
        try:
            psycopg.connect(plain).close()
        except psycopg.OperationalError:
            return url
        threading.Event().wait(0.02)
    raise AssertionError("the server lets everybody in")


def test_wrong_password_is_reported(guarded: URL) -> None:
    message = unavailable(guarded)
    assert "password authentication failed" in message
    assert "check user and password" in message
