"""Tasks: creation, queries, parents and priorities."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy
import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY

from alchemistore import ProtocolDAGResultRef, Scope, ScopedKey, StateStore, TaskStatusEnum
from alchemistore.models import GufeKey
from tests.support import gufe_classes
from tests.support.campaigns import (
    STATUSES,
    ZERO,
    campaign,
    chain,
    created,
    move_to_status,
    register,
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


# Creating


def test_create_task(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    transformation = made.transformations[0]
    task = store.create_task(transformation, creator='it\'s "me" \\ 🧪')
    assert (task.qualname, task.scope) == ("Task", scope)
    record = store.get_gufe(task)
    assert (record.status, record.priority, record.creator) == (
        TaskStatusEnum.waiting,
        10,
        'it\'s "me" \\ 🧪',
    )
    assert (record.extends, record.claim) == (None, None)
    assert abs(datetime.now(UTC) - record.datetime_created) < timedelta(hours=1)
    assert store.create_task(str(transformation)) != task
    assert len(store.query_tasks()) == 2
    assert store.get_taskhub_tasks(made.hub) == []


@pytest.mark.parametrize("status", STATUSES)
def test_create_task_extends_a_parent_in_each_status(
    store: StateStore, scope: Scope, status: str
) -> None:
    transformation = campaign(store, scope).transformations[0]
    parent = store.create_task(transformation)
    move_to_status(store, [parent], status)
    if status in ("invalid", "deleted"):
        for call in (store.create_task, store.set_tasks):
            with pytest.raises(ValueError, match="Cannot extend"):
                call(transformation, parent)
        with pytest.raises(ValueError, match="Cannot extend"):
            store.create_tasks([transformation] * 2, [None, parent])
        assert store.query_tasks() == [parent]
    else:
        child = store.create_task(transformation, extends=str(parent))
        assert store.get_gufe(child).extends == str(parent)
        assert store.get_transformation_tasks(transformation, return_as="graph") == {
            parent: None,
            child: parent,
        }


def test_task_cannot_extend_other_objects(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    made, elsewhere = (
        campaign(store, scope, tasks=3, action=False),
        campaign(store, other_scope, tasks=3, action=False),
    )
    first = store.get_task_transformation(made.tasks[0], return_gufe=False)[0]
    (twin,) = store.get_transformation_tasks(f"{first.gufe_key}-{other_scope}")
    assert twin in elsewhere.tasks
    refused: dict[Any, type[Exception]] = {
        made.tasks[1]: ValueError,
        twin: ValueError,
        made.hub: ValueError,
        first: ValueError,
        "nonsense": ValueError,
        "": ValueError,
        f"Task-{ZERO}-{scope}": KeyError,
        f"{made.tasks[0].gufe_key}-{other_scope}": KeyError,
    }
    before = store.query_tasks()
    for parent, kind in refused.items():
        for call in (store.create_task, store.set_tasks):
            with pytest.raises(kind):
                call(first, parent)
        with pytest.raises(kind):
            store.create_tasks([first, first], [None, parent])
    # What is wrong in itself is said first.
    with pytest.raises(ValueError):
        store.create_task(made.network, extends=f"Task-{ZERO}-{scope}")
    with pytest.raises(ValueError):
        store.create_task(f"Transformation-{ZERO}-{scope}", extends=made.hub)
    assert store.query_tasks() == before


def test_create_tasks_returns_keys_in_order(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    store.create_network(gufe_classes.network(), scope)
    kinds = store.query_transformations()
    assert {key.qualname for key in kinds} == {"Transformation", "NonTransformation"}
    wanted = [*kinds, *kinds[::-1], made.transformations[0]]
    tasks = created(store.create_tasks((key for key in wanted), creator="me"))
    assert len(set(tasks)) == len(wanted)
    assert [store.get_task_transformation(task, return_gufe=False)[0] for task in tasks] == wanted
    assert {store.get_gufe(task).creator for task in tasks} == {"me"}
    parents = [task if n % 2 else None for n, task in enumerate(tasks)]
    children = created(
        store.create_tasks(wanted, [str(parent) if parent else None for parent in parents])
    )
    assert [store.get_gufe(child).extends for child in children] == [
        str(parent) if parent else None for parent in parents
    ]
    assert store.create_tasks([]) == store.create_tasks([], []) == []


def test_each_task_is_in_the_scope_of_its_transformation(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    here, there = (campaign(store, at).transformations for at in (scope, other_scope))
    wanted = [there[0], here[0], there[1], here[1], here[0]]
    tasks = created(store.create_tasks(wanted))
    assert [task.scope for task in tasks] == [edge.scope for edge in wanted]
    assert store.get_scope_status(scope) == {"waiting": 3}
    assert store.get_scope_status(other_scope) == {"waiting": 2}


def test_task_cannot_extend_something_else_than_a_task(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    edge = made.transformations[0]
    for wrong in (made.hub, str(made.network), edge):
        message = rf"`extends` ScopedKey \({wrong}\) is not the key of a Task"
        with pytest.raises(ValueError, match=message):
            store.create_tasks([edge], [wrong])
        with pytest.raises(ValueError, match=message):
            store.create_task(edge, wrong)
        with pytest.raises(ValueError, match=message):
            store.set_tasks(edge, wrong)
    assert store.query_tasks() == made.tasks


def test_integers_of_numpy_are_priorities_counts_and_limits(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=3)
    register(store, "service")
    # To type checkers, they are not of the type `int`.
    two: Any = numpy.int64(2)
    three: Any = numpy.uint8(3)
    seven: Any = numpy.int32(7)
    assert store.set_task_priority(made.tasks, seven) == made.tasks
    assert store.get_task_priority(made.tasks) == [7, 7, 7]
    assert store.query_tasks(limit=two) == sorted(made.tasks)[:2]
    assert len(store.set_tasks(made.transformations[0], count=two)) == 2
    assert len(store.claim_taskhub_tasks(made.hub, "service", two)) == 2
    assert len(store.claim_tasks([scope], "service", three)) == 3
    wrong: list[Any] = ["2", 2.5, numpy.float64(2), True, numpy.bool_(True), None, [2]]
    calls: list[Callable[[Any], object]] = [
        lambda value: store.set_task_priority(made.tasks, value),
        lambda value: store.set_tasks(made.transformations[0], count=value),
        lambda value: store.claim_taskhub_tasks(made.hub, "service", value),
        lambda value: store.claim_tasks([scope], "service", value),
    ]
    for value in wrong:
        for call in calls:
            with pytest.raises(TypeError, match="must be"):
                call(value)


def test_create_tasks_makes_all_or_none(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    made = campaign(store, scope)
    good = made.transformations[0]
    for bad, kind in [
        (f"Transformation-{ZERO}-{scope}", KeyError),
        (f"{good.gufe_key}-{other_scope}", KeyError),
    ]:
        with pytest.raises(kind, match="No such object in database"):
            store.create_tasks([good, bad, good])
    for wrong in (made.network, "nonsense", f"Task-{ZERO}-{scope}"):
        with pytest.raises(ValueError):
            store.create_tasks([good, wrong])
    for extends in ([], [None], [None] * 3):
        with pytest.raises(ValueError):
            store.create_tasks([good, good], extends)
    for single in (good, str(good)):
        with pytest.raises(TypeError):
            store.create_tasks(single)  # type: ignore[arg-type]  # that is the test
    assert store.query_tasks() == []


# As many as wanted


def test_set_tasks_creates_missing_tasks(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    one, other = made.transformations[:2]
    assert len(store.set_tasks(one)) == 1
    five = store.set_tasks(str(one), count=5)
    assert len(five) == 5
    assert (
        five
        == sorted(five)
        == store.set_tasks(one, count=5)
        == store.set_tasks(one, count=2)
        == store.set_tasks(one, count=0)
    )
    assert store.query_tasks() == five
    assert len(store.set_tasks(other, count=2)) == 2
    for count in (-1, -(2**70)):
        with pytest.raises(ValueError):
            store.set_tasks(one, count=count)
    assert store.get_transformation_status(one) == {"waiting": 5}


def test_set_tasks_counts_live_tasks_with_the_same_parent(store: StateStore, scope: Scope) -> None:
    one = campaign(store, scope).transformations[0]
    roots = store.set_tasks(one, count=len(STATUSES))
    for task, status in zip(roots, STATUSES, strict=True):
        move_to_status(store, [task], status)
    children = store.set_tasks(one, extends=roots[0], count=2)
    grandchildren = store.set_tasks(one, extends=str(children[0]), count=3)
    assert (len(children), len(grandchildren)) == (2, 3)
    assert {store.get_gufe(task).extends for task in children} == {str(roots[0])}
    assert store.set_tasks(one, count=4) == roots[:4]
    assert store.set_tasks(one, extends=roots[0], count=1) == children
    more = store.set_tasks(one, count=6)
    assert set(roots[:4]) < set(more)
    assert len(more) == 6
    assert not set(more) & {*roots[4:], *children, *grandchildren}


# Finding


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


# What a task continues from


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


# Priorities


def test_set_and_get_task_priority(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=3)
    one, two, three = made.tasks
    assert store.get_task_priority(made.tasks) == [10, 10, 10]
    assert store.set_task_priority([three, str(one)], 1) == [three, one]
    assert store.set_task_priority([one], 1) == [one]
    assert store.set_task_priority((task for task in [two]), 2**63 - 1) == [two]
    assert store.get_task_priority([one, two, str(three), one]) == [1, 2**63 - 1, 1, 1]
    missing = f"Task-{ZERO}-{scope}"
    assert store.set_task_priority([missing, one, None], 7) == [None, one, None]
    assert store.get_task_priority([missing, one, None]) == [None, 7, None]


@pytest.mark.parametrize("status", STATUSES)
def test_task_in_any_status_can_get_a_priority(
    store: StateStore, scope: Scope, status: str
) -> None:
    task = store.create_task(campaign(store, scope).transformations[0])
    move_to_status(store, [task], status)
    assert store.set_task_priority([task], 3) == [task]
    assert store.get_task_priority([task]) == [3]


def test_priority_out_of_bounds_is_refused(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=2)
    for priority in (-1, 0, 2**63, -(2**63), 10**30):
        for tasks in (made.tasks, [], [None]):
            with pytest.raises(ValueError, match="priority must be between"):
                store.set_task_priority(tasks, priority)
    for strange in (None, "3", 1.5, float("nan"), True, [3]):
        with pytest.raises((ValueError, TypeError)):
            store.set_task_priority(made.tasks, strange)  # type: ignore[arg-type]  # that is the test
    assert store.get_task_priority(made.tasks) == [10, 10]
