"""A database with a table of notes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text

from alchemistore.database.engine import database_url, with_terms
from alchemistore.database.terms import Terms
from tests.conftest import NewDatabase
from tests.support.toy_store import Notes


@pytest.fixture(scope="module")
def notes_database(new_database: NewDatabase) -> Iterator[str]:
    """The URL of a database for all tests of a module; each has a table of its own in it."""
    with new_database() as url:
        yield url


@pytest.fixture
def engine(notes_database: str) -> Iterator[Engine]:
    engine = create_engine(database_url(notes_database), pool_size=2)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS notes"))
        connection.execute(text("CREATE TABLE notes (number int PRIMARY KEY, note text NOT NULL)"))
    yield with_terms(engine, Terms(schema="public"))
    engine.dispose()


@pytest.fixture
def notes(engine: Engine) -> Notes:
    return Notes(engine)


@pytest.fixture
def strict(engine: Engine) -> Notes:
    """Notes whose transactions see one moment only, so that they can fail to be serialized."""
    return Notes(engine.execution_options(isolation="REPEATABLE READ"))
