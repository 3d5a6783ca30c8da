"""The rights of roles that use the tables but do not own them: services and monitors."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Connection, Engine, text

from alchemistore.database import migrations
from alchemistore.database.engine import schema_of
from alchemistore.database.terms import quoted
from alchemistore.database.transaction import open_transaction
from alchemistore.database.translation import translate_errors
from alchemistore.errors import SchemaError
from alchemistore.tables import metadata


class Purpose(StrEnum):
    """The purpose of a role: `service` reads and writes rows, `monitor` only reads."""

    service = "service"
    monitor = "monitor"


RIGHTS = {Purpose.service: "SELECT, INSERT, UPDATE, DELETE", Purpose.monitor: "SELECT"}
# A column that monitors cannot read, so that a leaked password does not leak hashes of keys.
SECRET = ("identities", "hashed_key")

ROLE = text("SELECT rolname FROM pg_roles WHERE rolname = :role")


def statements(engine: Engine, role: str, purpose: Purpose) -> list[str]:
    """Return the statements that give a role the rights for a purpose, and no other ones.

    The owner of the tables runs them.

    Parameters
    ----------
    engine : Engine
        The database.
    role : str
        The name of the role.
    purpose : Purpose
        Its purpose.

    Raises
    ------
    SchemaError
        If the schema is missing, too old or too new, or if the role does not exist or owns the
        tables.
    """
    with (
        translate_errors(engine),
        open_transaction(engine, readonly=True) as connection,
    ):
        migrations.require_current(connection)
        return _statements(connection, role, purpose)


def grant(engine: Engine, role: str, purpose: Purpose) -> list[str]:
    """Run the statements that `statements` returns, and return them.

    Raises
    ------
    SchemaError
        As `statements`, and if the role of the connection does not own the tables.
    """
    with translate_errors(engine), open_transaction(engine) as connection:
        migrations.require_current(connection)
        migrations.require_owner(connection)
        run = _statements(connection, role, purpose)
        for statement in run:
            connection.exec_driver_sql(statement)
        return run


def _statements(tx: Connection, role: str, purpose: Purpose) -> list[str]:
    if tx.scalar(ROLE, {"role": role}) is None:
        raise SchemaError(
            f"there is no role {role!r}: create it first, with CREATE ROLE {quoted(role)} LOGIN"
        )
    owner = next(iter(migrations.owners(tx)))
    if owner == role:
        raise SchemaError(f"the role {role!r} owns the tables, so it has all rights already")
    schema, to = quoted(schema_of(tx)), quoted(role)
    later = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(owner)} IN SCHEMA {schema}"
    return [
        # A role whose purpose changes keeps nothing of the old one.
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {to}",
        f"{later} REVOKE ALL ON TABLES FROM {to}",
        f"REVOKE ALL ON SCHEMA {schema} FROM {to}",
        f"GRANT USAGE ON SCHEMA {schema} TO {to}",
        *_rights(schema, to, purpose),
        # For tables that a later version adds.
        f"{later} GRANT {RIGHTS[purpose]} ON TABLES TO {to}",
    ]


def _rights(schema: str, to: str, purpose: Purpose) -> list[str]:
    everywhere = f"GRANT {RIGHTS[purpose]} ON ALL TABLES IN SCHEMA {schema} TO {to}"
    if purpose is Purpose.service:
        version = f"{schema}.{migrations.VERSION_TABLE}"
        return [everywhere, f"REVOKE INSERT, UPDATE, DELETE ON {version} FROM {to}"]
    table, secret = SECRET
    columns = ", ".join(
        column.name for column in metadata.tables[table].columns if column.name != secret
    )
    return [
        everywhere,
        f"REVOKE SELECT ON {schema}.{table} FROM {to}",
        f"GRANT SELECT ({columns}) ON {schema}.{table} TO {to}",
    ]
