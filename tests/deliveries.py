"""What tests of settlement share: references to results, services that fall silent, and all that is in the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any, Generic, TypeVar
from uuid import uuid4

from sqlalchemy import text

from alchemistore import ComputeServiceRegistration, ProtocolDAGResultRef, Scope, ScopedKey, StateStore
from alchemistore.models import Attempt, Settlement, TaskHistory

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
T = TypeVar("T")


def ref(scope: Scope, *, ok: bool = True, **fields: Any) -> ProtocolDAGResultRef:
    """A reference to a result of its own."""
    fields = {"obj_key": f"ProtocolDAGResult-{uuid4().hex}", "location": "a/b/obj.json", **fields}
    return ProtocolDAGResultRef(scope=scope, ok=ok, **fields)


def key_of(one: ProtocolDAGResultRef, task: ScopedKey) -> ScopedKey:
    """Under which key the store keeps the reference to a result of a task."""
    return ScopedKey.from_str(f"{one.key}-{task.scope}")


def settle(store: StateStore, task: ScopedKey, one: ProtocolDAGResultRef, service: str | None = None, **more: Any) -> Settlement:
    """Settle, and see that the answer is about this reference."""
    answer = store.settle_task(task, one, compute_service_id=service, **more)
    assert answer.result == key_of(one, task)
    return answer


def register_silent(store: StateStore, *identifiers: str) -> None:
    """Register services that are never heard of again."""
    for identifier in identifiers:
        store.register_computeservice(
            ComputeServiceRegistration(identifier=identifier, registered=LONG_AGO, heartbeat=LONG_AGO, hostname="host")  # type: ignore[arg-type]  # pydantic makes an identifier of it
        )


def expire_silent(store: StateStore) -> list[str]:
    """Expire them; services that were heard of stay."""
    return [str(identifier) for identifier in store.expire_registrations(LONG_AGO + timedelta(days=1))]


def history(store: StateStore, task: ScopedKey) -> TaskHistory:
    """What happened to a task."""
    [found] = store.get_task_history([task])
    assert found is not None
    return found


def attempts(store: StateStore, task: ScopedKey) -> tuple[Attempt, ...]:
    """Its attempts."""
    return history(store, task).attempts


def status(store: StateStore, task: ScopedKey) -> str:
    """Its status."""
    [found] = store.get_task_status([task])
    assert found is not None
    return found.value


def everything(store: StateStore) -> dict[str, list[str]]:
    """All rows of all tables."""
    with store._engine.connect() as connection:
        names = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        return {name: sorted(map(repr, connection.execute(text(f'SELECT * FROM "{name}"')).all())) for name in names}


@contextmanager
def undone(store: StateStore) -> Iterator[StateStore]:
    """A transaction that is rolled back at its end."""
    with suppress(InterruptedError), store.transaction() as tx:
        yield tx
        raise InterruptedError


class Running(Generic[T]):
    """A call in a thread of its own; `result` gives what it gave or raises what it raised."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._answer: list[T] = []
        self._error: BaseException | None = None
        self.done = Event()
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
        """Tell, as soon as one is true, whether it waits for a lock in the database, or has come back."""
        while not self.done.wait(0.01):
            with store._engine.connect() as connection:
                query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                if connection.execute(text(query)).scalar_one():
                    return True
        return False
