"""The check of the database: revision, catalog and data."""

from __future__ import annotations

from sqlalchemy import Engine

from alchemistore.database import migrations
from alchemistore.database.transaction import open_transaction
from alchemistore.database.translation import translate_errors
from alchemistore.maintenance import invariants, schema_diff
from alchemistore.maintenance.findings import Finding


def findings(engine: Engine) -> list[Finding]:
    """Check a database and return what is wrong.

    Nothing is created or changed, so a standby and a role that only reads are enough.

    Parameters
    ----------
    engine : Engine
        The database.

    Raises
    ------
    SchemaError
        If the schema is missing, too old or too new. Nothing is checked then.
    """
    with (
        translate_errors(engine),
        open_transaction(engine, isolation="REPEATABLE READ", readonly=True) as connection,
    ):
        migrations.require_current(connection)
        missing = schema_diff.missing_tables(connection)
        return missing or schema_diff.drift(connection) + invariants.violations(connection)
