"""Short readers of the status and the history of a task."""

from __future__ import annotations

from collections.abc import Sequence

from alchemistore import (
    ScopedKey,
    StateStore,
)
from alchemistore.models import Attempt, TaskHistory


def history_of(store: StateStore, task: ScopedKey) -> TaskHistory:
    """Return the history of a task."""
    [found] = store.get_task_history([task])
    assert found is not None
    return found


def attempts(store: StateStore, task: ScopedKey) -> tuple[Attempt, ...]:
    """Return the attempts of a task."""
    return history_of(store, task).attempts


def outcomes(store: StateStore, task: ScopedKey) -> list[tuple[str, str | None]]:
    """Return the service and the outcome of each attempt."""
    return [(attempt.service, attempt.outcome) for attempt in attempts(store, task)]


def statuses(store: StateStore, tasks: Sequence[ScopedKey]) -> list[str | None]:
    """Return the status of each task, or None for a missing task."""
    return [status and status.value for status in store.get_task_status(tasks)]


def status(store: StateStore, task: ScopedKey) -> str:
    """Return the status of a task."""
    [found] = statuses(store, [task])
    assert found is not None
    return found
