"""The states that a task can be in before a result of it is delivered."""

from __future__ import annotations

from collections.abc import Callable

from alchemistore import (
    StateStore,
)
from tests.support.campaigns import Campaign
from tests.support.claims import claim


def leave_waiting(store: StateStore, made: Campaign) -> None:
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


TASK_STATES: dict[str, tuple[str, Callable[[StateStore, Campaign], None]]] = {
    "waiting": ("waiting", leave_waiting),
    "running by hand": ("running", set_by_hand("running")),
    "running by b": ("running", claimed_by_b),
    "error by hand": ("error", set_by_hand("error")),
    "error by b": ("error", failed_by_b),
    "complete by hand": ("complete", set_by_hand("complete")),
    "complete by b": ("complete", completed_by_b),
    "invalid": ("invalid", set_by_hand("invalid")),
    "deleted": ("deleted", set_by_hand("deleted")),
}
