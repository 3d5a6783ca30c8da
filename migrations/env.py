"""Run migrations on the connection of the caller, or on the database that the settings name."""

from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.schema import CreateSchema

from alchemistore.database.engine import engine_from_environment, schema_of
from alchemistore.database.migrations import (
    MIGRATION_LOCK,
    require_rights,
    require_suitable,
    schema_exists,
)
from alchemistore.database.terms import quoted
from alchemistore.settings import default_schema
from alchemistore.tables import metadata

config = context.config


def migrate(connection: Connection) -> None:
    """Migrate under an advisory lock, so that migrations that start together run one by one."""
    schema = schema_of(connection)
    # A migration that cannot get a lock fails instead of making all other clients wait behind it.
    connection.execute(text("SELECT set_config('lock_timeout', '10s', true)"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    require_suitable(connection)
    require_rights(connection)
    if not schema_exists(connection, schema):
        connection.execute(CreateSchema(schema))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=schema,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


def offline() -> None:
    """Print the SQL instead of running it (`alembic upgrade head --sql`)."""
    schema = default_schema()
    context.configure(
        dialect_name="postgresql",
        target_metadata=metadata,
        version_table_schema=schema,
        literal_binds=True,
    )
    with context.begin_transaction():
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        context.execute(f"SET LOCAL search_path TO {quoted(schema)}, pg_temp")
        context.run_migrations()


def from_settings() -> None:
    """Migrate the database that the environment names."""
    if config.config_file_name is not None:
        fileConfig(config.config_file_name, disable_existing_loggers=False)
    engine = engine_from_environment()
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()


if context.is_offline_mode():
    offline()
elif (given := config.attributes.get("connection")) is not None:
    migrate(given)
else:
    from_settings()
