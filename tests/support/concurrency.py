"""Concurrent calls: at the same moment, or during an open transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, Event, Thread
from typing import Any, Generic, TypeVar

import pytest
from sqlalchemy import TextClause, text

from alchemistore import StateStore
from alchemistore.database.transaction import open_transaction

T = TypeVar("T")
LOCKED = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
BLOCKED = text("SELECT count(*) FROM pg_stat_activity WHERE :pid = ANY(pg_blocking_pids(pid))")

committed_or_rolled_back = pytest.mark.parametrize(
    "commit", [True, False], ids=["committed", "rolled back"]
)


class RolledBackError(Exception):
    """Ends a transaction without committing it."""


def run_concurrently(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make all calls at the same moment, each in its own thread, and return their answers."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls, timeout=60))


class Running(Generic[T]):
    """A call in its own thread; `result` returns its answer or raises its error."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._answer: list[T] = []
        self._error: BaseException | None = None
        self.done = Event()
        # Whether it was seen to wait.
        self.waited = False
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer.append(self._call())
        except BaseException as error:  # noqa: BLE001  (raised again where it is waited for)
            self._error = error
        finally:
            self.done.set()

    def result(self) -> T:
        self._thread.join(60)
        assert not self._thread.is_alive(), "the call did not come back"
        if self._error is not None:
            raise self._error
        return self._answer[0]

    def waits_for_a_lock(self, store: StateStore) -> bool:
        """Wait until any connection waits for a lock (True) or the call has ended (False)."""
        return self._waits(store, LOCKED)

    def waits_for(self, holder: StateStore) -> bool:
        """Wait until a connection waits for this transaction (True) or the call ended (False)."""
        assert holder.connection is not None
        return self._waits(
            holder, BLOCKED, pid=holder.connection.scalar(text("SELECT pg_backend_pid()"))
        )

    def _waits(self, store: StateStore, query: TextClause, **values: Any) -> bool:
        while not self.done.wait(0.005):
            # Within a transaction, pg_stat_activity would always show the same connections.
            with open_transaction(store.engine, readonly=True) as connection:
                self.waited = bool(connection.scalar(query, values))
            if self.waited:
                return True
        return False


def in_a_transaction(store: StateStore, call: Callable[[StateStore], T]) -> Running[T]:
    """Make a call in a thread, in a transaction of its own: what fails there is not repeated."""

    def run() -> T:
        with store.transaction() as tx:
            return call(tx)

    return Running(run)


def run_while_open(
    store: StateStore, first: Callable[[StateStore], Any], second: Callable[[], T], *, commit: bool
) -> tuple[Any, Running[T]]:
    """Make a second call while the transaction of the first is open, then end the transaction."""
    with suppress(RolledBackError), store.transaction() as tx:
        answer = first(tx)
        running = Running(second)
        running.waits_for(tx)
        if not commit:
            raise RolledBackError
    running.done.wait(60)
    return answer, running
