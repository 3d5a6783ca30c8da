"""Errors of the database that mean an outdated schema are raised as schema errors."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from alchemistore.errors import SchemaError
from tests.unit.notes import Notes


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
