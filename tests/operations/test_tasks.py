"""Tasks: creation, parents and priorities."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy
import pytest

from alchemistore import Scope, StateStore, TaskStatusEnum
from tests.support import gufe_classes
from tests.support.campaigns import (
    STATUSES,
    ZERO,
    campaign,
    created,
    move_to_status,
    register,
)

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


def test_create_tasks_names_a_wrong_kind_before_a_missing_transformation(
    store: StateStore, scope: Scope
) -> None:
    made, missing = campaign(store, scope), f"Transformation-{ZERO}-{scope}"
    for wrong in (made.network, *store.query_chemicalsystems()[:1]):
        with pytest.raises(ValueError, match=str(wrong)):
            store.create_tasks([missing, wrong])
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
