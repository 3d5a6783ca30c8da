"""Notifications: waiting for NOTIFY on a connection outside the pool."""

from __future__ import annotations

import logging
import time
from typing import Any, Self

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from alchemistore.database.engine import POOLER

log = logging.getLogger(__name__)


class Listener:
    """A connection that waits for notifications, and is replaced when it is lost.

    Behind a pooler, which does not pass notifications, it only lets time go by.

    Parameters
    ----------
    engine : Engine
        The engine of the database.
    channel : str
        The channel.
    """

    def __init__(self, engine: Engine, channel: str) -> None:
        # Waiting must not use up the connections of other calls.
        self._pool = engine.pool.recreate()
        self._channel = channel
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._pooler = False

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _listen(self) -> None:
        """Open the connection, if there is none."""
        if self._connection is not None or self._pooler:
            return
        try:
            pooled = self._pool.connect()
            self._pooler = pooled.info[POOLER]
            driver = pooled.driver_connection
            pooled.detach()
            assert isinstance(driver, psycopg.Connection)
            self._connection = driver
            if self._pooler:
                self._close()
                return
            driver.autocommit = True
            driver.execute("SET application_name TO 'alchemistore listener'")
            driver.execute(f"LISTEN {self._channel}".encode())
        except (psycopg.Error, SQLAlchemyError) as error:
            log.warning("cannot listen for notifications, polling instead: %s", error)
            self._close()

    def wait(self, seconds: float) -> None:
        """Wait for a notification, at most for some seconds."""
        until = time.monotonic() + seconds
        self._listen()
        if self._connection is not None:
            try:
                for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                    return
            except psycopg.Error as error:
                log.warning("the connection that listens for notifications was lost: %s", error)
                self._close()
        time.sleep(max(0.0, until - time.monotonic()))
