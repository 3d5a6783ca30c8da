"""Run migrations: on the connection a program hands over, else on the database the settings name."""

from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection, text

from alchemistore.database.engine import engine_from_environment
from alchemistore.database.migrations import MIGRATION_LOCK
from alchemistore.tables import metadata

config = context.config


def migrate(connection: Connection) -> None:
    """Migrate under an advisory lock, so that of two that start at once one waits and then finds nothing to do."""
    context.configure(
        connection=connection, target_metadata=metadata, transaction_per_migration=False
    )
    with context.begin_transaction():
        # A migration that cannot get its lock gives up instead of making everybody queue behind it.
        connection.execute(text("SELECT set_config('lock_timeout', '10s', true)"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        # Whoever waited for the lock has to look at the revision afresh.
        context.run_migrations()


def offline() -> None:
    """Print the SQL instead of running it (`alembic upgrade head --sql`)."""
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def from_settings() -> None:
    """Migrate the database that the environment names."""
    if config.config_file_name is not None:
        fileConfig(config.config_file_name, disable_existing_loggers=False)
    engine = engine_from_environment()
    with engine.connect() as connection:
        migrate(connection)
        connection.commit()
    engine.dispose()


if context.is_offline_mode():
    offline()
elif (given := config.attributes.get("connection")) is not None:
    migrate(given)
else:
    from_settings()
