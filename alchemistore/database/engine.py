"""Settings to an engine: the pool, the timeouts, and what PostgreSQL is told about us."""

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
        If it is not the URL of a PostgreSQL database. The text never holds the URL, which may hold a password.
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
    """Make an engine; nothing is connected yet, but an embedded server is started.

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
        # Only who asks for the embedded server needs the packages it is made of.
        from alchemistore.local import database_url as start

        url = start(settings.embedded_directory)
    else:
        url = settings.database_url.get_secret_value()
    connect_args: dict[str, Any] = {
        "application_name": settings.application_name,
        "connect_timeout": settings.connect_timeout,
        # Kept alive by TCP, so that a vanished server is noticed within two minutes.
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
        # Error texts go to logs.
        hide_parameters=True,
        connect_args=connect_args,
    )
    return dispose_on_fork(engine)


# Every engine of this process that a forked child must not share.
_ENGINES: weakref.WeakSet[Engine] = weakref.WeakSet()
_LOCK = threading.Lock()


def dispose_on_fork(engine: Engine) -> Engine:
    """Let a forked child open connections of its own instead of talking on its parent's."""
    with _LOCK:
        _ENGINES.add(engine)
    return engine


def _forget_connections() -> None:
    for engine in list(_ENGINES):
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)


def engine_from_environment() -> Engine:
    """Make an engine for the database that the environment names."""
    return make_engine(get_settings())


def listen_connection(engine: Engine) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection outside the pool, in autocommit, to the database of an engine."""
    _, arguments = engine.dialect.create_connect_args(engine.url)
    try:
        return psycopg.connect(
            **arguments, autocommit=True, application_name="alchemistore listener"
        )
    except psycopg.OperationalError as error:
        raise StoreUnavailableError(
            f"cannot listen to the database: {str(error).strip()}"
        ) from error
