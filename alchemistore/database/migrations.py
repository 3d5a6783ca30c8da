"""The schema of the database: create, upgrade, downgrade and remove it."""

from __future__ import annotations

import threading
from typing import cast

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from alchemistore.database.transaction import translate_errors
from alchemistore.errors import SchemaError
from alchemistore.settings import bundled_directory
from alchemistore.tables import metadata

# Alembic keeps its state in module globals: only one migration at a time in a process.
_ONE_AT_A_TIME = threading.Lock()
# Advisory lock that is held while the schema is changed. The number is arbitrary.
MIGRATION_LOCK = 7264391805
VERSION_TABLE = "alembic_version"


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


def revision(tx: Connection) -> str | None:
    """Return the revision of the schema; ``None`` if there is no schema."""
    return MigrationContext.configure(tx).get_current_revision()


def current(engine: Engine) -> str | None:
    """Return the revision of the schema of a database; ``None`` if there is no schema."""
    with translate_errors(), engine.connect() as connection:
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
    with _ONE_AT_A_TIME, translate_errors(), engine.begin() as connection:
        require_known(connection)
        command.upgrade(_config(connection), to)


def downgrade(engine: Engine, to: str) -> None:
    """Downgrade the schema to a revision; ``base`` removes it with all data."""
    with _ONE_AT_A_TIME, translate_errors(), engine.begin() as connection:
        require_known(connection)
        command.downgrade(_config(connection), to)


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
            f" {head()}: the database is newer; install the version that upgraded it"
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
    """Remove all tables of the package with their data, and the version table of Alembic."""
    with translate_errors(), engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        metadata.drop_all(connection)
        connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))
