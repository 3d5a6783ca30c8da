"""Roles of PostgreSQL, and URLs that connect as them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from tests.support.databases import libpq

PASSWORD = "of_a_test"


def execute(url: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@contextmanager
def new_role(url: str) -> Iterator[str]:
    """Create a role that may connect, and drop it with everything that it owns in a database."""
    name = f"role_{uuid.uuid4().hex}"
    execute(url, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    yield name
    execute(url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def as_role(url: str, name: str) -> str:
    """Return the URL with which a role connects to the same database."""
    found = make_url(url).set(username=name, password=PASSWORD)
    return found.render_as_string(hide_password=False)


def database_name(url: str) -> str:
    """Return the quoted name of the database of a URL."""
    return sql.Identifier(str(make_url(url).database)).as_string()
