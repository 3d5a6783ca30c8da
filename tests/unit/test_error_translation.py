"""Errors of the database are raised as errors that say what to do."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from alchemistore.database.translation import translate
from alchemistore.errors import SchemaError, StateStoreError, StoreUnavailableError
from tests.support.toy_store import Notes


@pytest.mark.parametrize(
    ("query", "named"),
    [("SELECT 1 FROM no_such_table", "no_such_table"), ("SELECT no_such FROM notes", "no_such")],
    ids=["table", "column"],
)
def test_missing_table_or_column_is_a_schema_error_that_names_it(
    notes: Notes, query: str, named: str
) -> None:
    with pytest.raises(SchemaError, match=f"{named}.*alchemistore database upgrade"):
        notes.read(lambda tx: tx.execute(text(query)))


def test_cancelled_statement_is_an_error_that_names_the_setting(notes: Notes) -> None:
    def sleep(tx: Connection) -> None:
        tx.execute(text("SET LOCAL statement_timeout = '10ms'"))
        tx.execute(text("SELECT pg_sleep(60)"))

    with pytest.raises(StateStoreError, match="ALCHEMISTORE_STATEMENT_TIMEOUT"):
        notes.write(sleep)


STATES: list[tuple[str, type[Exception], str]] = [
    ("08006", StoreUnavailableError, "check that the server runs"),
    ("22003", ValueError, "cannot take a value"),
    ("25006", StateStoreError, "cannot write in a read-only transaction"),
    ("25P02", StateStoreError, "an earlier call in this transaction has failed"),
    ("25P03", StoreUnavailableError, "ALCHEMISTORE_IDLE_TIMEOUT"),
    ("26000", StateStoreError, "ALCHEMISTORE_PREPARE_STATEMENTS=false"),
    ("28P01", StoreUnavailableError, "check user and password"),
    ("3D000", StoreUnavailableError, "create the database"),
    ("3F000", SchemaError, "alchemistore database upgrade"),
    ("40001", StateStoreError, "conflicts with concurrent ones"),
    ("40P01", StateStoreError, "conflicts with concurrent ones"),
    ("42501", StateStoreError, "lacks a right"),
    ("42703", SchemaError, "alchemistore database upgrade"),
    ("42P01", SchemaError, "alchemistore database upgrade"),
    ("42P05", StateStoreError, "ALCHEMISTORE_PREPARE_STATEMENTS=false"),
    ("53100", StoreUnavailableError, "the disk of the database server is full"),
    ("53200", StoreUnavailableError, "smaller batch"),
    ("53300", StoreUnavailableError, "raise max_connections"),
    ("54000", ValueError, "too long"),
    ("55P03", StateStoreError, "lock was not available"),
    ("57014", StateStoreError, "ALCHEMISTORE_STATEMENT_TIMEOUT"),
    ("57P01", StoreUnavailableError, "check that the server runs"),
    ("XX000", StateStoreError, "SQLSTATE XX000"),
]


@pytest.mark.parametrize(("state", "kind", "message"), STATES, ids=[state for state, *_ in STATES])
def test_each_sqlstate_has_its_error_with_advice(
    state: str, kind: type[Exception], message: str
) -> None:
    error = translate(DBAPIError("SELECT 1", {}, psycopg.errors.lookup(state)("as told")))
    assert type(error) is kind
    assert message in str(error)
