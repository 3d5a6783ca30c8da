"""What happens to tasks: services claim them, fall silent, deliver results; and what is told about it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from alchemistore import (
    ComputeServiceID,
    ComputeServiceRegistration,
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    StateStore,
)
from alchemistore.models import Attempt, Settlement, TaskHistory
from tests.support.campaigns import Campaign, campaign, register

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ENVIRONMENT = {"gufe": "1.1.0", "openmm": "8.1"}

ok_or_failed = pytest.mark.parametrize("ok", [True, False], ids=["ok", "failed"])


def ref(scope: Scope, *, ok: bool = True, **fields: Any) -> ProtocolDAGResultRef:
    """A reference to a result of its own."""
    fields = {"obj_key": f"ProtocolDAGResult-{uuid4().hex}", "location": "a/b/obj.json", **fields}
    return ProtocolDAGResultRef(scope=scope, ok=ok, **fields)


def key_of(one: ProtocolDAGResultRef, task: ScopedKey) -> ScopedKey:
    """Under which key the store keeps the reference to a result of a task."""
    return ScopedKey.from_str(f"{one.key}-{task.scope}")


def settle(
    store: StateStore,
    task: ScopedKey,
    one: ProtocolDAGResultRef,
    service: str | None = None,
    **more: Any,
) -> Settlement:
    """Settle, and see that the answer is about this reference."""
    answer = store.settle_task(task, one, compute_service_id=service, **more)
    assert answer.result == key_of(one, task)
    return answer


def register_silent(store: StateStore, *identifiers: str) -> None:
    """Register services that are never heard of again."""
    for identifier in identifiers:
        store.register_computeservice(
            ComputeServiceRegistration(
                identifier=ComputeServiceID(identifier),
                registered=LONG_AGO,
                heartbeat=LONG_AGO,
                hostname="host",
            )
        )


def expire_silent(store: StateStore) -> list[str]:
    """Expire them; services that were heard of stay."""
    return [
        str(identifier) for identifier in store.expire_registrations(LONG_AGO + timedelta(days=1))
    ]


def one_task(store: StateStore, scope: Scope, *services: str) -> Campaign:
    """A task on a hub; `a`, which will fall silent, and other services."""
    register_silent(store, "a")
    register(store, *services)
    return campaign(store, scope, tasks=1, arms=1)


def claim(store: StateStore, made: Campaign, service: str) -> ScopedKey:
    """Claim one task."""
    [task] = store.claim_taskhub_tasks(made.hub, service)
    assert task is not None
    return task


def history(store: StateStore, task: ScopedKey) -> TaskHistory:
    """What happened to a task."""
    [found] = store.get_task_history([task])
    assert found is not None
    return found


def attempts(store: StateStore, task: ScopedKey) -> tuple[Attempt, ...]:
    """Its attempts."""
    return history(store, task).attempts


def outcomes(store: StateStore, task: ScopedKey) -> list[tuple[str, str | None]]:
    """The service and the outcome of each attempt."""
    return [(attempt.service, attempt.outcome) for attempt in attempts(store, task)]


def statuses(store: StateStore, tasks: Sequence[ScopedKey]) -> list[str | None]:
    """The status of each task, if there is such a task."""
    return [status and status.value for status in store.get_task_status(tasks)]


def status(store: StateStore, task: ScopedKey) -> str:
    """The status of a task."""
    [found] = statuses(store, [task])
    assert found is not None
    return found


def claims(store: StateStore) -> list[tuple[str, int]]:
    """Who holds a claim, as which attempt."""
    with store.engine.connect() as connection:
        return [
            (row.service, row.attempt)
            for row in connection.execute(text("SELECT service, attempt FROM claims"))
        ]


def check_listed(store: StateStore, task: ScopedKey, *refs: ProtocolDAGResultRef) -> None:
    """See that these results of the task are listed, and no others."""
    assert store.get_task_results(task) == sorted(key_of(one, task) for one in refs if one.ok)
    assert store.get_task_failures(task) == sorted(key_of(one, task) for one in refs if not one.ok)
    for result in refs:
        assert store.get_gufe(key_of(result, task)) == result


@contextmanager
def undone(store: StateStore) -> Iterator[StateStore]:
    """A transaction that is rolled back at its end."""
    with suppress(InterruptedError), store.transaction() as tx:
        yield tx
        raise InterruptedError


# How a task comes to each status, beginning with waiting; with whom its claim is then, and what has become of b's attempt.
def by_nobody(store: StateStore, made: Campaign) -> None:
    pass


def set_by_hand(wanted: str) -> Callable[[StateStore, Campaign], None]:
    def bring(store: StateStore, made: Campaign) -> None:
        if wanted not in ("invalid", "deleted"):
            assert store.set_task_running(made.tasks) == made.tasks
        assert store.set_task_status(made.tasks, wanted) == made.tasks

    return bring


def claimed_by_b(store: StateStore, made: Campaign) -> None:
    claim(store, made, "b")


def failed_by_b(store: StateStore, made: Campaign) -> None:
    claim(store, made, "b")
    assert store.set_task_error(made.tasks) == made.tasks


def completed_by_b(store: StateStore, made: Campaign) -> None:
    claim(store, made, "b")
    assert store.set_task_complete(made.tasks) == made.tasks


WAYS: dict[str, tuple[str, Callable[[StateStore, Campaign], None]]] = {
    "waiting": ("waiting", by_nobody),
    "running by hand": ("running", set_by_hand("running")),
    "running by b": ("running", claimed_by_b),
    "error by hand": ("error", set_by_hand("error")),
    "error by b": ("error", failed_by_b),
    "complete by hand": ("complete", set_by_hand("complete")),
    "complete by b": ("complete", completed_by_b),
    "invalid": ("invalid", set_by_hand("invalid")),
    "deleted": ("deleted", set_by_hand("deleted")),
}
