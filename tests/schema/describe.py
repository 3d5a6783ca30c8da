"""The description of the tables, as a server reports them after the code has created them."""

from __future__ import annotations

import json

from sqlalchemy import create_engine
from sqlalchemy.schema import CreateSchema

from alchemistore.database.engine import database_url, with_terms
from alchemistore.database.terms import Terms
from alchemistore.maintenance.schema_diff import Catalog, read
from alchemistore.tables import metadata

SCHEMA = "described"


def described(url: str) -> Catalog:
    """Create the tables in a schema, read the catalog, and roll back."""
    engine = with_terms(create_engine(database_url(url)), Terms(schema=SCHEMA))
    try:
        with engine.connect() as connection:
            connection.execute(CreateSchema(SCHEMA))
            metadata.create_all(connection, checkfirst=False)
            return read(connection)
    finally:
        engine.dispose()


def rendered(catalog: Catalog) -> str:
    """Return the content of the file with the description."""
    return json.dumps(catalog, indent=2, sort_keys=True) + "\n"
