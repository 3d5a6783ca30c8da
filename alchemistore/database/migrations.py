"""The schema's life cycle: create it, bring it up to date, say whether it is sound, remove it."""

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

# Alembic keeps what it is doing in module globals, so within a process one migration at a time.
_ONE_AT_A_TIME = threading.Lock()
# Any number, the same in all processes: held while the schema is being changed.
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
    """Give the revision that this code expects."""
    return cast(str, ScriptDirectory.from_config(_config()).get_current_head())


def revision(tx: Connection) -> str | None:
    """Give the revision the database is at; ``None`` where there is no schema."""
    return MigrationContext.configure(tx).get_current_revision()


def current(engine: Engine) -> str | None:
    """Give the revision a database is at; ``None`` where there is no schema."""
    with translate_errors(), engine.connect() as connection:
        return revision(connection)


def upgrade(engine: Engine, to: str = "head") -> None:
    """Bring the schema to a revision, creating it if there is none.

    Parameters
    ----------
    engine : Engine
        The database.
    to : str, default "head"
        The revision.

    Raises
    ------
    SchemaError
        If the database is at a revision that this version of the package does not know.
    """
    with _ONE_AT_A_TIME, translate_errors(), engine.begin() as connection:
        require_known(connection)
        command.upgrade(_config(connection), to)


def downgrade(engine: Engine, to: str) -> None:
    """Bring the schema back to a revision; ``base`` removes it, with all data."""
    with _ONE_AT_A_TIME, translate_errors(), engine.begin() as connection:
        require_known(connection)
        command.downgrade(_config(connection), to)


def require_known(tx: Connection) -> str | None:
    """Give the revision the database is at.

    Raises
    ------
    SchemaError
        If this version of the package does not know that revision.
    """
    present = revision(tx)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if present is not None and present not in known:
        raise SchemaError(
            f"the schema is at revision {present}, which this version of alchemistore does not know (it expects {head()}):"
            " the database is newer; install the version of alchemistore that made it"
        )
    return present


def require_current(tx: Connection) -> None:
    """Make sure that the schema is the one this code expects.

    Raises
    ------
    SchemaError
        If it is missing, too old or too new.
    """
    present = require_known(tx)
    if present is None:
        raise SchemaError(
            "the database has no alchemistore schema: run 'alchemistore database init'"
        )
    if present != head():
        raise SchemaError(
            f"the schema is at revision {present}, too old for this version of alchemistore, which expects {head()}:"
            " run 'alchemistore database upgrade'"
        )


def reset(engine: Engine) -> None:
    """Remove everything that is ours: the tables with all data, and the version table."""
    with translate_errors(), engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        metadata.drop_all(connection)
        connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))
