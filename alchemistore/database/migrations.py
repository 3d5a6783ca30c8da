"""The schema of the database: create, upgrade, downgrade and remove it."""

from __future__ import annotations

import logging
import threading
from typing import cast

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.schema import DropSchema

from alchemistore.database.engine import schema_of
from alchemistore.database.terms import quoted
from alchemistore.database.transaction import DEADLOCK_DETECTED, MAX_ATTEMPTS, open_transaction
from alchemistore.database.translation import translate_errors
from alchemistore.errors import SchemaError, StateStoreError
from alchemistore.settings import bundled_directory
from alchemistore.tables import metadata

log = logging.getLogger(__name__)

# Alembic keeps its state in module globals: only one migration at a time in a process.
_ONE_AT_A_TIME = threading.Lock()
# Advisory lock that is held while the schema is changed. The number is arbitrary.
MIGRATION_LOCK = 7264391805
VERSION_TABLE = "alembic_version"
MIN_SERVER_VERSION = 150000

SUITABLE = text("""
    SELECT CAST(current_setting('server_version_num') AS integer), pg_encoding_to_char(encoding)
    FROM pg_database WHERE datname = current_database()
""")
COLUMNS = text("""
    SELECT c.relname, array_agg(CAST(a.attname AS text)) AS columns
    FROM pg_class AS c
    LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = to_regnamespace(quote_ident(:schema)) AND c.relkind IN ('r', 'p')
    GROUP BY c.relname
""")
# Whether a schema is empty, and the role of the connection could drop it and create it again.
DISPOSABLE = text("""
    SELECT nspname <> 'public' AND pg_has_role(nspowner, 'USAGE')
        AND has_database_privilege(current_database(), 'CREATE')
        AND NOT EXISTS (
            SELECT FROM pg_depend AS d
            WHERE d.refclassid = CAST('pg_namespace' AS regclass) AND d.refobjid = n.oid
                AND d.deptype = 'n'
        )
    FROM pg_namespace AS n WHERE nspname = :schema
""")
OWNERS = text("""
    SELECT pg_get_userbyid(relowner) AS owner, pg_has_role(relowner, 'USAGE') AS ours
    FROM pg_class
    WHERE relnamespace = to_regnamespace(quote_ident(:schema)) AND relkind IN ('r', 'p')
        AND relname = ANY(CAST(:tables AS text[]))
    -- The owner of Alembic's table comes first.
    ORDER BY relname <> :version_table, owner
""")
MAY_CREATE = text("""
    SELECT current_user, current_database(),
        CASE WHEN to_regnamespace(quote_ident(:schema)) IS NULL
            THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege(to_regnamespace(quote_ident(:schema)), 'USAGE')
                AND has_schema_privilege(to_regnamespace(quote_ident(:schema)), 'CREATE')
        END AS may,
        to_regnamespace(quote_ident(:schema)) IS NULL AS missing
""")


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option(
        "script_location", str(bundled_directory("migrations")).replace("%", "%%")
    )
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """Return the revision that this version of the package expects."""
    return cast(str, ScriptDirectory.from_config(_config()).get_current_head())


def schema_exists(tx: Connection, schema: str) -> bool:
    """Check whether a schema exists."""
    found = tx.scalar(
        text("SELECT to_regnamespace(quote_ident(:schema)) IS NOT NULL"), {"schema": schema}
    )
    return bool(found)


def require_suitable(tx: Connection) -> None:
    """Raise an error if the store cannot use a database.

    Raises
    ------
    SchemaError
        If PostgreSQL is too old, or the encoding of the database is not UTF8.
    """
    version, encoding = tx.execute(SUITABLE).one()
    if version < MIN_SERVER_VERSION:
        raise SchemaError(
            f"PostgreSQL {version // 10000} is too old: alchemistore needs 15 or newer"
        )
    if encoding != "UTF8":
        raise SchemaError(
            f"the encoding of the database is {encoding}: alchemistore stores any text and needs"
            " UTF8; create a database with ENCODING 'UTF8' TEMPLATE template0"
        )


def require_rights(tx: Connection) -> None:
    """Raise an error if the role of a connection may not create or change the schema.

    Raises
    ------
    SchemaError
        If it may not create the schema or tables in it, or if other roles own the tables. The
        message contains the statement to run.
    """
    name = schema_of(tx)
    row = tx.execute(MAY_CREATE, {"schema": name}).one()
    role, schema = quoted(row.current_user), quoted(name)
    if not row.may and row.missing:
        raise SchemaError(
            f"the role {row.current_user!r} may not create the schema {name!r}: as the owner of the"
            f" database, run GRANT CREATE ON DATABASE {quoted(row.current_database)} TO {role}, or"
            f" CREATE SCHEMA {schema} AUTHORIZATION {role}"
        )
    if not row.may:
        raise SchemaError(
            f"the role {row.current_user!r} may not create tables in the schema {name!r}: as the"
            f" owner of the schema, run GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"
        )
    require_owner(tx)


def owners(tx: Connection) -> dict[str, bool]:
    """Return the owners of the tables, and whether the role of the connection may act as each."""
    tables = [*metadata.tables, VERSION_TABLE]
    values = {"schema": schema_of(tx), "tables": tables, "version_table": VERSION_TABLE}
    return {row.owner: row.ours for row in tx.execute(OWNERS, values)}


def require_owner(tx: Connection) -> None:
    """Raise an error if a role owns tables that the role of a connection cannot act as.

    Raises
    ------
    SchemaError
        If there is such a role.
    """
    others = [owner for owner, ours in owners(tx).items() if not ours]
    if others:
        raise SchemaError(
            f"the tables in the schema {schema_of(tx)!r} belong to the role {others[0]!r}: connect"
            " as that role"
        )


def revision(tx: Connection) -> str | None:
    """Return the revision of the schema; ``None`` if it does not exist."""
    options = {"version_table_schema": schema_of(tx)}
    return MigrationContext.configure(tx, opts=options).get_current_revision()


def current(engine: Engine) -> str | None:
    """Return the revision of a database; ``None`` if it has no schema."""
    with translate_errors(engine), open_transaction(engine, readonly=True) as connection:
        return revision(connection)


def upgrade(engine: Engine, to: str = "head") -> None:
    """Create the schema, or upgrade it to a revision.

    Parameters
    ----------
    engine : Engine
        The database.
    to : str, default "head"
        The revision.

    Raises
    ------
    SchemaError
        If this version of the package does not know the revision of the schema.
    """
    with _ONE_AT_A_TIME, translate_errors(engine), open_transaction(engine) as connection:
        before = require_known(connection)
        # A role that only uses the tables may find them up to date.
        if before != head() or to not in ("head", head()):
            command.upgrade(_config(connection), to)
            _log_change(connection, before)


def downgrade(engine: Engine, to: str) -> None:
    """Bring the schema back to a revision; ``base`` removes it, with all data."""
    with _ONE_AT_A_TIME, translate_errors(engine), open_transaction(engine) as connection:
        before = require_known(connection)
        command.downgrade(_config(connection), to)
        _log_change(connection, before)


def _log_change(tx: Connection, before: str | None) -> None:
    after = revision(tx)
    if after != before:
        log.info("schema %s: revision %s became %s", schema_of(tx), before, after)


def require_known(tx: Connection) -> str | None:
    """Return the revision of the schema.

    Raises
    ------
    SchemaError
        If this version of the package does not know the revision.
    """
    present = revision(tx)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if present is not None and present not in known:
        raise SchemaError(
            f"the schema is at revision {present}, but this version of alchemistore expects"
            f" {head()}: the database is newer; install the version that upgraded it. If another"
            " application uses this schema, choose another one with ALCHEMISTORE_SCHEMA_NAME"
        )
    return present


def require_current(tx: Connection) -> None:
    """Raise an error unless the schema is at the revision that this package expects.

    Raises
    ------
    SchemaError
        If the schema is missing, too old or too new.
    """
    present = require_known(tx)
    if present is None:
        raise SchemaError(
            "the database has no alchemistore schema: run 'alchemistore database init'"
        )
    if present != head():
        raise SchemaError(
            f"the schema is too old: it is at revision {present}, but this version of alchemistore"
            f" expects {head()}; run 'alchemistore database upgrade'"
        )


def reset(engine: Engine) -> None:
    """Remove the tables of the store with all data, and its schema if nothing else is in it.

    Raises
    ------
    SchemaError
        If tables with the names of ours exist, but were not made by alchemistore, or belong to
        another role. Nothing is removed then.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            with translate_errors(engine), open_transaction(engine) as connection:
                return _reset(connection)
        except StateStoreError as error:
            state = getattr(getattr(error.__cause__, "orig", None), "sqlstate", None)
            # Clients that work meanwhile take their locks in another order.
            if state != DEADLOCK_DETECTED or attempt == MAX_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _reset(tx: Connection) -> None:
    schema = schema_of(tx)
    tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    if not schema_exists(tx, schema):
        return
    present = {row.relname: set(row.columns) for row in tx.execute(COLUMNS, {"schema": schema})}
    if not present.keys() & {*metadata.tables, VERSION_TABLE}:
        return
    foreign = [
        name
        for name, table in metadata.tables.items()
        if name in present and not {key.name for key in table.primary_key} <= present[name]
    ]
    if require_known(tx) is None:
        foreign = sorted(present.keys() & {*metadata.tables, VERSION_TABLE})
    if foreign:
        raise SchemaError(
            f"alchemistore did not make all tables in the schema {schema!r}"
            f" ({', '.join(sorted(foreign))}): nothing was removed. Check ALCHEMISTORE_SCHEMA_NAME"
        )
    require_owner(tx)
    log.info("schema %s: removing all tables", schema)
    metadata.drop_all(tx)
    tx.execute(text(f"DROP TABLE {VERSION_TABLE}"))
    if tx.scalar(DISPOSABLE, {"schema": schema}):
        tx.execute(DropSchema(schema))
