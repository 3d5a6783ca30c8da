"""Errors of the database are raised as errors that say what to do."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text

from alchemistore.errors import SchemaError, StateStoreError
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
