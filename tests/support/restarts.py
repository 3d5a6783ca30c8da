"""Tasks that fail, with tracebacks."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from alchemistore import ScopedKey, StateStore
from alchemistore.models import Settlement
from tests.support.campaigns import Campaign
from tests.support.results import ref, settle

NAN = "Traceback (most recent call last):\n  ...\nOpenMMException: Particle coordinate is NaN"


class Failure:
    """A failure of a protocol unit, as far as the store looks at it."""

    def __init__(self, traceback: Any, source_key: str = "ProtocolUnit-1") -> None:
        self.traceback = traceback
        self.source_key = source_key
        self.key = f"ProtocolUnitFailure-{uuid4().hex}"


def fail(
    store: StateStore, made: Campaign, *tracebacks: str, service: str = "b", **fields: Any
) -> Settlement:
    """Claim one task and settle it with a failure."""
    [task] = store.claim_taskhub_tasks(made.hub, service)
    assert task is not None
    failure = ref(task.scope, ok=False, **fields)
    return settle(store, task, failure, service, tracebacks=tracebacks or None)


def fail_in_steps(store: StateStore, task: ScopedKey, *tracebacks: str, **fields: Any) -> None:
    """Set a waiting task to error as alchemiscale does: result, tracebacks, status."""
    store.set_task_running([task])
    result = store.set_task_result(task, ref(task.scope, ok=False, **fields))
    if tracebacks:
        store.add_protocol_dag_result_ref_tracebacks([Failure(one) for one in tracebacks], result)
    assert store.set_task_error([task]) == [task]


def retries(store: StateStore, task: ScopedKey) -> dict[tuple[str, str], tuple[int, int]]:
    """Return the retries used and the maximum, by hub and pattern."""
    [details] = store.get_task_details([task])
    [history] = store.get_task_history([task])
    assert details is not None
    assert history is not None
    assert details.restarts == history.restarts
    return {
        (str(one.taskhub), one.pattern): (one.retries, one.max_retries) for one in details.restarts
    }


def counters(store: StateStore) -> int:
    """Return the number of patterns that have counted retries, over all actions."""
    statement = text("SELECT count(*) FROM actions AS a, unnest(a.patterns)")
    with (
        nullcontext(store.connection) if store.connection else store.engine.connect() as connection
    ):
        return int(connection.execute(statement).scalar_one())
