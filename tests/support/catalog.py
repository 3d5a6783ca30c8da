"""PostgreSQL's catalog of a schema, in a form that can be compared."""

from __future__ import annotations

from sqlalchemy import Connection, create_engine, text

from alchemistore.database.engine import database_url

_QUERIES = {
    "relations": """
        SELECT c.relname, c.relkind, c.relpersistence, array_to_string(c.reloptions, ', ')
        FROM pg_class AS c
        WHERE c.relnamespace = to_regnamespace('alchemistore') AND c.relkind NOT IN ('i', 't')
    """,
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
            pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, l.collname,
            a.attstorage, a.attcompression
        FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
        LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
        WHERE c.relnamespace = to_regnamespace('alchemistore') AND c.relkind = 'r' AND a.attnum > 0
            AND NOT a.attisdropped
    """,
    "constraints": """
        SELECT k.conrelid::regclass::text, k.conname, k.contype, pg_get_constraintdef(k.oid),
            k.convalidated
        FROM pg_constraint AS k WHERE k.connamespace = to_regnamespace('alchemistore')
    """,
    "indexes": """
        SELECT i.indrelid::regclass::text, pg_get_indexdef(i.indexrelid),
            array_to_string(c.reloptions, ', '), i.indisvalid
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
        WHERE c.relnamespace = to_regnamespace('alchemistore')
    """,
    "triggers": "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal",
    "functions": """
        SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = to_regnamespace('alchemistore')
    """,
    "types": """
        SELECT typname FROM pg_type
        WHERE typnamespace = to_regnamespace('alchemistore') AND typtype IN ('e', 'd')
    """,
}

Catalog = dict[str, set[tuple[object, ...]]]
VERSION = "alembic_version"


def read_catalog(tx: Connection) -> Catalog:
    """Everything in the schema `alchemistore`, but for Alembic's own table."""
    return {
        what: {tuple(row) for row in tx.execute(text(query)) if row[0] != VERSION}
        for what, query in _QUERIES.items()
    }


def catalog_of(url: str) -> Catalog:
    """The same of a database."""
    engine = create_engine(database_url(url))
    try:
        with engine.connect() as connection:
            return read_catalog(connection)
    finally:
        engine.dispose()


def is_empty(catalog: Catalog) -> bool:
    return not any(catalog.values())
