"""The measured server and its databases."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import URL

from alchemistore import StateStore
from alchemistore.database.engine import database_url as parse_url
from alchemistore.local import LocalServers, database_url

PREFIX = "alchemistore_bench_"
SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_connections",
)


class Server:
    """A PostgreSQL server on which databases may be created.

    Parameters
    ----------
    url : str
        Any database of it; it is not touched.
    """

    def __init__(self, url: str) -> None:
        self.url: URL = parse_url(url)

    @contextmanager
    def database(
        self, template: str | None = None, *, schema: bool = True, durable: bool = True
    ) -> Iterator[str]:
        """Create a database with the schema, or a copy of an unused database; drop it at the end.

        Parameters
        ----------
        template : str, optional
            URL of the database to copy.
        schema : bool, default True
            Create the tables of this package.
        durable : bool, default True
            Wait for the disk at each commit, unless the server does not.

        Yields
        ------
        str
            Its URL.
        """
        name = PREFIX + uuid.uuid4().hex[:12]
        copied = (
            sql.SQL("")
            if template is None
            else sql.SQL(" TEMPLATE {}").format(sql.Identifier(_name(template)))
        )
        with connect(self.url) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), copied))
        try:
            url = self.url.set(database=name).render_as_string(hide_password=False)
            if not durable:
                with connect(self.url) as connection:
                    connection.execute(
                        sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(
                            sql.Identifier(name)
                        )
                    )
            if template is None and schema:
                with opened(url) as store:
                    store.initialize()
            yield url
        finally:
            with connect(self.url) as connection:
                connection.execute(
                    sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
                )

    def facts(self) -> dict[str, str]:
        """Return versions, settings and load of the server and the machine."""
        with connect(self.url) as connection:
            settings = {name: str(_one(connection, f"SHOW {name}")) for name in SETTINGS}
        return {
            "PostgreSQL": settings.pop("server_version"),
            **settings,
            "python": platform.python_version(),
            "psycopg": psycopg.__version__,
            "processor": _processor(),
            "cores": str(os.cpu_count()),
            "load at the start": f"{os.getloadavg()[0]:.1f}",
        }


@contextmanager
def server(url: str | None) -> Iterator[Server]:
    """Yield the server at `url`, or a temporary private one with PostgreSQL's durable defaults."""
    with ExitStack() as stack:
        if url is None:
            directory = Path(tempfile.mkdtemp(prefix="alchemistore-bench-"))
            stack.callback(shutil.rmtree, directory)
            stack.callback(LocalServers(directory).stop)
            url = database_url(directory)
        yield Server(url)


def connect(url: URL | str) -> psycopg.Connection[Any]:
    """Open a bare connection that commits each statement and prepares it at once."""
    parsed = parse_url(url) if isinstance(url, str) else url
    _, keywords = parsed.get_dialect()().create_connect_args(parsed)
    connection = psycopg.connect(**keywords, autocommit=True)
    connection.prepare_threshold = 1
    connection.execute("SET search_path TO alchemistore, public")
    return connection


@contextmanager
def opened(url: str) -> Iterator[StateStore]:
    """Yield a store, and close it at the end."""
    store = StateStore(url)
    try:
        yield store
    finally:
        store.close()


def _processor() -> str:
    """Return the name of the processor of this machine, as Linux knows it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _name(url: str) -> str:
    name = parse_url(url).database
    assert name is not None
    return name


def _one(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]
