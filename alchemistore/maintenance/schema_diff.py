"""Comparison of the schema with the code.

The tables of the code are created in a temporary schema, compared with the real ones, and rolled
back.
"""

from __future__ import annotations

import uuid

from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from alchemistore.maintenance.findings import Finding, FindingKind
from alchemistore.tables import metadata

# Each query returns table, name and definition of the objects in the current schema.
_COLUMNS = """
    SELECT c.relname, a.attname, concat_ws(' ',
        format_type(a.atttypid, a.atttypmod),
        'COLLATE ' || l.collname,
        CASE WHEN a.attnotnull THEN 'NOT NULL' END,
        'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid),
        'IDENTITY ' || nullif(CAST(a.attidentity AS text), ''),
        'STORAGE ' || CAST(a.attstorage AS text))
    FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
    WHERE c.relnamespace = CAST(current_schema() AS regnamespace) AND c.relkind IN ('r', 'p')
        AND a.attnum > 0 AND NOT a.attisdropped
"""
_CONSTRAINTS = """
    SELECT c.relname, k.conname, concat(
        pg_get_constraintdef(k.oid), CASE WHEN NOT k.convalidated THEN ' NOT VALID' END)
    FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
    WHERE k.connamespace = CAST(current_schema() AS regnamespace)
        AND k.contype IN ('c', 'f', 'p', 'u')
"""
_INDEXES = """
    SELECT t.relname, c.relname, concat(
        regexp_replace(pg_get_indexdef(i.indexrelid), ' ON (ONLY )?[^ ]+ USING ', ' USING '),
        CASE WHEN NOT i.indisvalid THEN ' (invalid)' END)
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_class AS t ON t.oid = i.indrelid
    WHERE c.relnamespace = CAST(current_schema() AS regnamespace)
"""
_PARTS = {"column": _COLUMNS, "constraint": _CONSTRAINTS, "index": _INDEXES}

Catalog = dict[str, dict[tuple[str, str], str]]


def read(tx: Connection) -> Catalog:
    """Return the columns, constraints and indexes of our tables in the current schema."""
    ours = set(metadata.tables)
    return {
        part: {
            (table, name): definition
            for table, name, definition in tx.execute(text(query))
            if table in ours
        }
        for part, query in _PARTS.items()
    }


def expected(tx: Connection) -> Catalog:
    """Return what the code expects, by creating the tables in a schema of their own."""
    schema = f"alchemistore_check_{uuid.uuid4().hex}"
    tx.execute(text(f"CREATE SCHEMA {schema}"))
    tx.execute(text(f"SET LOCAL search_path = {schema}"))
    metadata.create_all(tx, checkfirst=False)
    return read(tx)


def drift(tx: Connection) -> list[Finding]:
    """Return the differences between the schema and the tables of the code.

    Additional indexes are no difference: operators may add their own.

    Parameters
    ----------
    tx : Connection
        The open transaction. It must be able to write, and its user must be allowed to create a
        schema; everything is rolled back to a savepoint.
    """
    found = read(tx)
    with tx.begin_nested() as savepoint:
        try:
            wanted = expected(tx)
        except ProgrammingError as error:
            reason = str(error.orig).strip()
            return [_finding(f"the schema could not be compared with the code: {reason}")]
        finally:
            savepoint.rollback()
    return [
        _finding(sentence)
        for part in _PARTS
        for sentence in _differences(part, found[part], wanted[part])
    ]


def _finding(sentence: str) -> Finding:
    return Finding(FindingKind.schema, sentence)


def _differences(
    part: str, found: dict[tuple[str, str], str], wanted: dict[tuple[str, str], str]
) -> list[str]:
    sentences = []
    for table, name in sorted(wanted.keys() | found.keys()):
        is_, should = found.get((table, name)), wanted.get((table, name))
        if is_ is None:
            sentences.append(f"table {table}: {part} {name} is missing ({should})")
        elif should is None and part != "index":
            sentences.append(f"table {table}: {part} {name} is not expected ({is_})")
        elif should is not None and is_ != should:
            sentences.append(f"table {table}: {part} {name} is {is_}, expected {should}")
    return sentences


def missing_tables(tx: Connection) -> list[Finding]:
    """Return the tables that are missing."""
    present = set(
        tx.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"))
    )
    return [_finding(f"table {name} is missing") for name in sorted(set(metadata.tables) - present)]
