"""Run migrations, on the connection of the caller or on the database of the environment."""

from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection, text

from alchemistore.database.engine import engine_from_environment
from alchemistore.database.migrations import MIGRATION_LOCK
from alchemistore.tables import metadata

config = context.config


def migrate(connection: Connection) -> None:
    """Run migrations under an advisory lock: a second process waits, and finds nothing to do."""
    context.configure(
        connection=connection, target_metadata=metadata, transaction_per_migration=False
    )
    with context.begin_transaction():
        # A waiting migration blocks all later queries of the table, so it must not wait for long.
        connection.execute(text("SELECT set_config('lock_timeout', '10s', true)"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        # The revision is read after the lock, so that a process that waited sees the new one.
        context.run_migrations()


def offline() -> None:
    """Print the SQL instead of running it (`alembic upgrade head --sql`)."""
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def from_settings() -> None:
    """Run migrations on the database of the environment."""
    if config.config_file_name is not None:
        fileConfig(config.config_file_name, disable_existing_loggers=False)
    engine = engine_from_environment()
    with engine.connect() as connection:
        migrate(connection)
        connection.commit()
    engine.dispose()


if context.is_offline_mode():
    offline()
elif (connection := config.attributes.get("connection")) is not None:
    migrate(connection)
else:
    from_settings()
