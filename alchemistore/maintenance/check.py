"""Is the database sound: revision, catalog and data at one moment."""

from __future__ import annotations

from sqlalchemy import Engine

from alchemistore.database import migrations
from alchemistore.database.translation import translate_errors
from alchemistore.maintenance import invariants, schema_diff


def problems(engine: Engine) -> list[str]:
    """List what is wrong, one sentence each.

    Parameters
    ----------
    engine : Engine
        The database.

    Raises
    ------
    SchemaError
        If the schema is missing, too old or too new, so that nothing can be said.
    """
    with (
        translate_errors(engine),
        engine.connect() as connection,
        connection.execution_options(isolation="REPEATABLE READ", readonly=True).begin(),
    ):
        migrations.require_current(connection)
        missing = schema_diff.missing_tables(connection)
        if missing:
            return [f"table {name} is missing" for name in missing]
        broken = invariants.violations(connection)
    with translate_errors(engine), engine.begin() as connection:
        return schema_diff.drift(connection) + broken
