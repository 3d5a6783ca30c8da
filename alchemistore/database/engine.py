"""Engines: connection pool, timeouts and connection parameters from the settings."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import psycopg
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from alchemistore.errors import StoreUnavailableError
from alchemistore.settings import Settings, get_settings


def database_url(url: str) -> URL:
    """Parse a PostgreSQL URL and set the driver.

    Raises
    ------
    ValueError
        If it is not the URL of a PostgreSQL database. The message does not repeat the URL, which
        may contain a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "not a database URL: expected 'postgresql://user:password@host:port/database'"
        ) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError(f"not a PostgreSQL URL: it starts with {parsed.drivername!r}")
    return parsed.set(drivername="postgresql+psycopg")


def make_engine(settings: Settings) -> Engine:
    """Create an engine without connecting. For an embedded URL the server is started.

    Parameters
    ----------
    settings : Settings
        URL, pool, timeouts, application name.

    Raises
    ------
    StoreUnavailableError
        If the embedded server cannot be started.
    """
    if settings.embedded_directory is not None:
        # The packages of the embedded server are optional.
        from alchemistore.local import database_url as start

        url = start(settings.embedded_directory)
    else:
        url = settings.database_url.get_secret_value()
    connect_args: dict[str, Any] = {
        "application_name": settings.application_name,
        "connect_timeout": settings.connect_timeout,
        # TCP keepalives: the loss of the server is noticed within two minutes.
        "keepalives_idle": 60,
        "keepalives_interval": 10,
        "keepalives_count": 6,
    }
    if not settings.prepare_statements:
        connect_args["prepare_threshold"] = None
    if settings.statement_timeout:
        connect_args["options"] = f"-c statement_timeout={round(settings.statement_timeout * 1000)}"
    engine = create_engine(
        database_url(url),
        pool_size=settings.pool_size,
        max_overflow=settings.pool_size,
        pool_timeout=settings.pool_timeout,
        pool_pre_ping=False,
        pool_recycle=1800,
        # Error messages go to logs, and parameters may be secret.
        hide_parameters=True,
        connect_args=connect_args,
    )
    return dispose_on_fork(engine)


# Engines of this process. A forked child must not use their connections.
_ENGINES: weakref.WeakSet[Engine] = weakref.WeakSet()
_LOCK = threading.Lock()


def dispose_on_fork(engine: Engine) -> Engine:
    """Register an engine so that a forked child process opens connections of its own."""
    with _LOCK:
        _ENGINES.add(engine)
    return engine


def _forget_connections() -> None:
    for engine in list(_ENGINES):
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)


def engine_from_environment() -> Engine:
    """Create an engine from the settings of the environment."""
    return make_engine(get_settings())


def listen_connection(engine: Engine) -> psycopg.Connection[tuple[Any, ...]]:
    """Open an autocommit connection to the database of an engine, outside of its pool."""
    _, arguments = engine.dialect.create_connect_args(engine.url)
    try:
        return psycopg.connect(
            **arguments, autocommit=True, application_name="alchemistore listener"
        )
    except psycopg.OperationalError as error:
        raise StoreUnavailableError(
            f"cannot listen for notifications of the database: {str(error).strip()};"
            " check that the server runs and that ALCHEMISTORE_DATABASE_URL names it"
        ) from error
