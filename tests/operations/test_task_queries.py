"""Queries for tasks, and the relations of tasks to networks and transformations."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY
from sqlalchemy import event

from alchemistore import ProtocolDAGResultRef, Scope, ScopedKey, StateStore, TaskStatusEnum
from alchemistore.models import GufeKey
from tests.support import gufe_classes
from tests.support.campaigns import (
    ZERO,
    campaign,
    chain,
    created,
    star,
)


def family(store: StateStore, transformation: ScopedKey) -> dict[ScopedKey, ScopedKey | None]:
    """Make a task that three extend, each of which three extend."""
    root = store.create_task(transformation)
    parents: dict[ScopedKey, ScopedKey | None] = {root: None}
    for child in created(store.create_tasks([transformation] * 3, [root] * 3)):
        parents |= dict.fromkeys(
            created(store.create_tasks([transformation] * 3, [child] * 3)), child
        ) | {child: root}
    return parents


def test_query_tasks(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    here, there = campaign(store, scope, tasks=4), campaign(store, other_scope, tasks=2)
    store.set_task_running(here.tasks[:1])
    assert (
        set(store.query_tasks())
        == set(store.query_tasks(scope=None))
        == {*here.tasks, *there.tasks}
    )
    assert (
        store.query_tasks(scope=scope) == store.query_tasks(scope=str(scope)) == sorted(here.tasks)
    )
    assert store.query_tasks(scope=Scope("nowhere")) == []
    for running in ("running", TaskStatusEnum.running):
        assert store.query_tasks(status=running) == here.tasks[:1]
        assert store.query_tasks(status=running, scope=other_scope) == []
    assert len(store.query_tasks(status="waiting")) == 5
    assert store.query_tasks(status="complete") == []
    assert (
        store.query_tasks(key=here.tasks[2].gufe_key)
        == store.query_tasks(key=str(here.tasks[2].gufe_key))
        == [here.tasks[2]]
    )
    assert store.query_tasks(key=here.tasks[2].gufe_key, status="running") == []
    assert (
        store.query_tasks(status="waiting", limit=2, after=sorted(here.tasks)[1])
        == sorted(here.tasks)[2:4]
    )


def test_get_network_tasks(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    made = campaign(store, scope, tasks=4, action=False)
    wider = store.create_network(star(5, "wider"), scope)
    campaign(store, other_scope, tasks=2)
    outside = [
        store.create_task(key)
        for key in store.get_network_transformations(wider)
        if key not in made.transformations
    ]
    store.action_tasks(made.tasks[:1], made.hub)
    store.set_task_running(made.tasks[:1])
    assert store.get_network_tasks(made.network) == sorted(made.tasks)
    assert store.get_network_tasks(str(wider)) == sorted([*made.tasks, *outside])
    for running in ("running", TaskStatusEnum.running):
        assert store.get_network_tasks(wider, status=running) == made.tasks[:1]
    assert store.get_network_tasks(made.network, status=TaskStatusEnum.complete) == []


def test_get_task_networks(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    made = campaign(store, scope, tasks=1, action=False)
    wider = store.create_network(star(5, "wider"), scope)
    store.create_network(star(), other_scope)
    store.create_network(gufe_classes.network(), scope)
    assert store.get_task_networks(made.tasks[0]) == sorted([made.network, wider])
    assert store.get_task_networks(str(made.tasks[0])) == sorted([made.network, wider])


def test_get_transformation_tasks(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    trees = {key: family(store, key) for key in made.transformations}
    assert [len(parents) for parents in trees.values()] == [13] * 3
    one, other = made.transformations[:2]
    parents = trees[one]
    root, child = (
        next(iter(parents)),
        next(task for task, parent in parents.items() if parent is not None and parents[parent]),
    )
    below = {task for task, parent in parents.items() if parent == parents[child]}
    assert (
        store.get_transformation_tasks(one)
        == store.get_transformation_tasks(str(one))
        == sorted(parents)
    )
    assert store.get_transformation_tasks(one, return_as="graph") == parents
    assert store.get_transformation_tasks(one, extends=root) == sorted(set(parents) - {root})
    assert len(store.get_transformation_tasks(one, extends=str(root))) == 12
    assert store.get_transformation_tasks(one, extends=parents[child]) == sorted(below)
    assert store.get_transformation_tasks(
        one, extends=parents[child], return_as="graph"
    ) == dict.fromkeys(below, parents[child])
    assert store.get_transformation_tasks(one, extends=child) == []
    # Only the asked transformation's tasks can be extended there.
    assert store.get_transformation_tasks(other, extends=root) == []
    assert store.get_transformation_tasks(other, extends=root, return_as="graph") == {}
    store.set_task_running([root, child])
    for running in ("running", TaskStatusEnum.running):
        assert store.get_transformation_tasks(one, status=running) == sorted([root, child])
        assert store.get_transformation_tasks(one, extends=root, status=running) == [child]
        assert store.get_transformation_tasks(one, root, "graph", running) == {
            child: parents[child]
        }
    for form in ("dict", "", "List", None):
        with pytest.raises(ValueError):
            store.get_transformation_tasks(one, return_as=form)  # type: ignore[call-overload]  # that is the test


def ref(
    scope: Scope, ok: bool = True, minute: int | None = 0, location: str = "here"
) -> ProtocolDAGResultRef:
    created = None if minute is None else datetime(2024, 1, 1, 0, minute, tzinfo=UTC)
    key = GufeKey(f"ProtocolDAGResult-{ZERO}")
    return ProtocolDAGResultRef(
        obj_key=key, scope=scope, ok=ok, datetime_created=created, location=location
    )


def test_get_task_transformation_that_extends_nothing(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    key, result_key = store.get_task_transformation(made.tasks[0], return_gufe=False)
    assert key in made.transformations
    assert result_key is None
    TOKENIZABLE_REGISTRY.clear()
    found, result = store.get_task_transformation(str(made.tasks[0]))
    assert found.key == key.gufe_key
    assert found is store.get_gufe(key)
    assert result is None
    # Its own result is nothing to continue from.
    store.set_task_result(made.tasks[0], ref(scope))
    assert store.get_task_transformation(made.tasks[0], return_gufe=False) == (key, None)


def test_get_task_transformation_takes_the_newest_success_of_the_parent(
    store: StateStore, scope: Scope
) -> None:
    transformation = campaign(store, scope).transformations[0]
    grandparent, parent, child = chain(store, transformation, 3)
    store.set_task_result(grandparent, ref(scope, minute=59, location="of the grandparent"))

    def start() -> Any:
        return store.get_task_transformation(child, return_gufe=False)

    assert start() == (transformation, None)
    store.set_task_result(parent, ref(scope, ok=False, minute=50))
    assert start() == (transformation, None)
    first = store.set_task_result(parent, ref(scope, minute=20))
    assert start() == (transformation, first)
    newest = store.set_task_result(parent, ref(scope, minute=30))
    store.set_task_result(parent, ref(scope, minute=10))
    store.set_task_result(parent, ref(scope, ok=False, minute=55))
    assert start() == (transformation, newest)
    edge, record = store.get_task_transformation(child)
    assert edge.key == transformation.gufe_key
    assert record == ref(scope, minute=30)
    assert record.key == newest.gufe_key


def test_get_task_transformation_chooses_the_same_among_equally_new_successes(
    store: StateStore, scope: Scope
) -> None:
    transformation = campaign(store, scope).transformations[0]
    chosen = []
    for places in (["a", "b", "c"], ["c", "b", "a"]):
        parent, child = chain(store, transformation, 2)
        for place in places:
            store.set_task_result(parent, ref(scope, location=place))
        chosen.append(store.get_task_transformation(child, return_gufe=False)[1])
    assert chosen[0] == chosen[1] is not None


def test_keys_leave_the_database_in_one_row_for_each_scope(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    made, other = campaign(store, scope, tasks=30), campaign(store, other_scope, tasks=5)
    fetched: list[int] = []

    def note(connection: Any, cursor: Any, *details: Any) -> None:
        fetched.append(cursor.rowcount)

    calls: list[tuple[Callable[[], object], int]] = [
        (store.query_tasks, 2),
        (lambda: store.query_tasks(limit=32), 2),
        (lambda: store.query_tasks(scope=other_scope), 1),
        (store.query_transformations, 2),
        (lambda: store.get_network_tasks(made.network), 1),
        (lambda: store.get_transformation_tasks(made.transformations[0]), 1),
        (lambda: store.get_taskhub_tasks(made.hub), 1),
        (lambda: store.get_taskhub_unclaimed_tasks(made.hub), 1),
        (
            lambda: store.get_transformation_actioned_tasks(made.transformations[0], made.hub),
            1,
        ),
    ]
    event.listen(store.engine, "after_cursor_execute", note)
    try:
        for call, rows in calls:
            fetched.clear()
            assert call()
            assert fetched == [rows]
        fetched.clear()
        weights = store.get_taskhub_actioned_tasks([other.hub, made.hub])
        assert fetched == [2, 2]
    finally:
        event.remove(store.engine, "after_cursor_execute", note)
    assert [list(found) for found in weights] == [sorted(other.tasks), sorted(made.tasks)]
