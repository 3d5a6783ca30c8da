"""Is the database sound: revision, catalog and data at one moment."""

from __future__ import annotations

from sqlalchemy import Engine

from alchemistore import catalog, invariants, schema
from alchemistore.transaction import translated


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
    with translated(), engine.connect() as connection:
        connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        schema.require_current(connection)
        missing = catalog.missing_tables(connection)
        if missing:
            return [f"table {name} is missing" for name in missing]
        broken = invariants.violations(connection)
    with translated(), engine.connect() as connection:
        return catalog.drift(connection) + broken
