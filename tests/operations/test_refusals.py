"""Bulk calls say why they refused a task."""

from __future__ import annotations

from typing import Any

import pytest

from alchemistore import RefusalReason, Scope, StateStore
from tests.support.campaigns import ZERO, campaign, move_to_status

R = RefusalReason


@pytest.fixture
def refusals() -> dict[str, RefusalReason]:
    """A dictionary with the answer of another call."""
    return {"another task": R.no_hub}


def test_action_tasks_tells_why_a_task_is_refused(
    store: StateStore, scope: Scope, other_scope: Scope, refusals: dict[str, RefusalReason]
) -> None:
    made = campaign(store, scope, tasks=6, action=False)
    wider = campaign(store, scope, tasks=1, arms=4, name="wider", action=False)
    other = campaign(store, other_scope, tasks=1)
    new = store.create_task(wider.transformations[0])
    outside = [
        store.create_task(edge)
        for edge in wider.transformations
        if edge not in made.transformations
    ]
    for task, status in zip(made.tasks, ("complete", "invalid", "deleted", "error"), strict=False):
        move_to_status(store, [task], status)
    store.action_tasks(made.tasks[4:5], made.hub)
    missing = f"Task-{ZERO}-{scope}"
    asked: list[Any] = [*made.tasks, *outside, *other.tasks, missing, "nonsense", None, made.hub]
    asked += [made.tasks[5], missing]
    answer = store.action_tasks(asked, made.hub, refusals=refusals)
    assert [task for task in answer if task] == [made.tasks[3], made.tasks[5]]
    assert len(outside) == 1
    assert refusals == {
        **{str(task): R.status for task in made.tasks[:3]},
        str(made.tasks[4]): R.already_actioned,
        str(outside[0]): R.not_in_network,
        str(other.tasks[0]): R.not_in_network,
        missing: R.missing,
        "nonsense": R.missing,
        "None": R.missing,
        str(made.hub): R.missing,
    }
    assert new in store.query_tasks()


def test_cancel_tasks_tells_why_a_task_is_refused(
    store: StateStore, scope: Scope, refusals: dict[str, RefusalReason]
) -> None:
    made = campaign(store, scope, tasks=2)
    bare = store.create_task(made.transformations[0])
    missing = f"Task-{ZERO}-{scope}"
    answer = store.cancel_tasks([bare, made.tasks[0], missing], made.hub, refusals=refusals)
    assert answer == [None, made.tasks[0], None]
    assert refusals == {str(bare): R.not_actioned, missing: R.missing}
    assert store.cancel_tasks(made.tasks[1:], made.hub, refusals=refusals) == made.tasks[1:]
    assert refusals == {}


@pytest.mark.parametrize("name", ["action_tasks", "cancel_tasks"])
def test_missing_hub_is_the_reason_for_all_tasks(
    store: StateStore, scope: Scope, name: str, refusals: dict[str, RefusalReason]
) -> None:
    made = campaign(store, scope, tasks=2)
    for hub in (None, f"TaskHub-{ZERO}-{scope}"):
        answer = getattr(store, name)(made.tasks, hub, refusals=refusals)
        assert answer == [None] * 2
        assert refusals == dict.fromkeys(map(str, made.tasks), R.no_hub)


def test_set_task_status_tells_why_a_task_is_refused(
    store: StateStore, scope: Scope, refusals: dict[str, RefusalReason]
) -> None:
    made = campaign(store, scope, tasks=2)
    store.set_task_running(made.tasks[:1])
    missing = f"Task-{ZERO}-{scope}"
    asked: list[Any] = [*made.tasks, missing, None]
    answer = store.set_task_status(asked, "complete", refusals=refusals)
    assert answer == [made.tasks[0], None, None, None]
    assert refusals == {
        str(made.tasks[1]): R.status,
        missing: R.missing,
        "None": R.missing,
    }
    assert store.set_task_status(["nonsense"], "complete", refusals=refusals) == [None]
    assert refusals == {"nonsense": R.missing}


def test_set_task_priority_tells_why_a_task_is_refused(
    store: StateStore, scope: Scope, refusals: dict[str, RefusalReason]
) -> None:
    made = campaign(store, scope, tasks=1)
    missing = f"Task-{ZERO}-{scope}"
    asked: list[Any] = [*made.tasks, missing, made.network]
    assert store.set_task_priority(asked, 1, refusals=refusals) == [made.tasks[0], None, None]
    assert refusals == {missing: R.missing, str(made.network): R.missing}
