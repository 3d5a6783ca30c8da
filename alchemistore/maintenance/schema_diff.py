"""Comparison of the schema with the description of the tables that this package contains.

`make catalog` writes the description, ``catalog.json``, and a test compares it with the tables of
the code. The comparison creates nothing, so it works on standbys and for roles that only read.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, text

from alchemistore.maintenance.findings import Finding, FindingKind
from alchemistore.tables import metadata

DESCRIPTION = Path(__file__).with_name("catalog.json")

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

# Definitions by part, table and name.
Catalog = dict[str, dict[str, dict[str, str]]]


def read(tx: Connection) -> Catalog:
    """Return the columns, constraints and indexes of our tables in the current schema."""
    found: Catalog = {part: {table: {} for table in sorted(metadata.tables)} for part in _PARTS}
    for part, query in _PARTS.items():
        for table, name, definition in tx.execute(text(query)):
            if table in metadata.tables:
                found[part][table][name] = definition
    return found


@cache
def expected() -> Catalog:
    """Return what this version of the package expects."""
    described: Catalog = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    return described


def drift(tx: Connection) -> list[Finding]:
    """Return the differences between the schema and the tables of the code.

    Additional indexes are no difference: operators may add their own.
    """
    found, wanted = read(tx), expected()
    return [
        _finding(sentence)
        for part in _PARTS
        for table in sorted(metadata.tables)
        for sentence in _differences(part, table, found[part][table], wanted[part][table])
    ]


def _finding(sentence: str) -> Finding:
    return Finding(FindingKind.schema, sentence)


def _differences(part: str, table: str, found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    sentences = []
    for name in sorted(wanted.keys() | found.keys()):
        is_, should = found.get(name), wanted.get(name)
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
