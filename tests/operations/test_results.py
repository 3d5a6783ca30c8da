"""References to results: kept unchanged, shared by tasks, listed by success."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import gufe
import pytest

from alchemistore import ProtocolDAGResultRef, Scope, ScopedKey, StateStore
from tests.support import results
from tests.support.campaigns import Campaign, campaign, chain, register

NOON = datetime(2024, 1, 19, 12, 0, 0, 123456, tzinfo=UTC)


def ref(
    scope: Scope, *, ok: bool = True, created: datetime | None = NOON, **fields: Any
) -> ProtocolDAGResultRef:
    """A reference to a result of its own, unless `obj_key` says to which."""
    return results.ref(scope, ok=ok, datetime_created=created, **{"creator": "a", **fields})


def keys(scope: Scope, refs: Sequence[ProtocolDAGResultRef]) -> list[ScopedKey]:
    return sorted(ScopedKey.from_str(f"{one.key}-{scope}") for one in refs)


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Six tasks, two for each of three transformations."""
    return campaign(store, scope, tasks=6)


def test_reference_is_listed_under_its_own_key(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    task, one = made.tasks[0], ref(scope)
    assert [store.set_task_result(task, one)] == keys(scope, [one])
    assert (
        store.get_task_results(task)
        == store.get_transformation_results(made.transformations[0])
        == keys(scope, [one])
    )
    assert (
        store.get_task_failures(task)
        == store.get_transformation_failures(made.transformations[0])
        == []
    )
    assert (
        store.get_task_results(made.tasks[3])
        == store.get_transformation_results(made.transformations[1])
        == []
    )
    assert store.check_existence(keys(scope, [one])[0])


def test_results_and_failures_are_listed_apart_and_accumulate(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    task, sibling = made.tasks[0], made.tasks[3]
    good, bad = [ref(scope) for _ in range(3)], [ref(scope, ok=False) for _ in range(2)]
    for one in good + bad:
        store.set_task_result(str(task), one)
    more = ref(scope), ref(scope, ok=False)
    for one in more:
        store.set_task_result(sibling, one)
    assert store.get_task_results(str(task)) == keys(scope, good)
    assert store.get_task_failures(task) == keys(scope, bad)
    assert store.get_transformation_results(made.transformations[0]) == keys(
        scope, [*good, more[0]]
    )
    assert store.get_transformation_failures(str(made.transformations[0])) == keys(
        scope, [*bad, more[1]]
    )


def test_reference_stored_twice_is_listed_once(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    task, one = made.tasks[0], ref(scope)
    assert store.set_task_result(task, one) == store.set_task_result(task, one.model_copy())
    assert store.get_task_results(task) == keys(scope, [one])


def test_one_reference_shared_by_tasks_is_listed_once(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    shared, failed = ref(scope), ref(scope, ok=False)
    sharing = [made.tasks[0], made.tasks[3], made.tasks[1]]
    for task in sharing:
        store.set_task_result(task, shared)
        store.set_task_result(task, failed)
    for task in sharing:
        assert store.get_task_results(task) == keys(scope, [shared])
        assert store.get_task_failures(task) == keys(scope, [failed])
    for transformation in made.transformations[:2]:
        assert store.get_transformation_results(transformation) == keys(scope, [shared])
        assert store.get_transformation_failures(transformation) == keys(scope, [failed])


def test_one_result_pushed_twice_gives_two_references(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    task, first = made.tasks[0], ref(scope)
    again = first.model_copy(update={"datetime_created": NOON + timedelta(microseconds=1)})
    for one in (first, again, first):
        store.set_task_result(task, one)
    assert store.get_task_results(task) == keys(scope, [first, again])
    assert store.get_transformation_results(made.transformations[0]) == keys(scope, [first, again])
    assert [store.get_gufe(key) for key in keys(scope, [first, again])] in (
        [first, again],
        [again, first],
    )


def test_reference_is_returned_with_its_time_and_key(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    times = [
        NOON,
        NOON.replace(tzinfo=None),
        NOON.replace(microsecond=0),
        datetime(2024, 7, 1, 8, tzinfo=timezone(timedelta(hours=-7))),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        None,
    ]
    for created in times:
        one = ref(scope, created=created)
        key = store.set_task_result(made.tasks[0], one)
        back = store.get_gufe(key)
        assert back == one
        assert (type(back), back.key, key.gufe_key) == (ProtocolDAGResultRef, one.key, one.key)
        assert back.datetime_created == one.datetime_created
        assert back.to_dict() == one.to_dict()
    assert len(store.get_task_results(made.tasks[0])) == len(times)


def test_reference_is_returned_with_every_field(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    odd: list[dict[str, Any]] = [
        {"location": None},
        {"creator": None, "location": ""},
        {"creator": 'it\'s a "service" \\ 🧪', "location": "a b/'/\\/🧪"},
        {"ok": False, "created": None, "creator": None, "location": None},
        {"obj_key": "Outer.Inner-abc123"},
    ]
    for fields in odd:
        one = ref(scope, **fields)
        back = store.get_gufe(store.set_task_result(made.tasks[0], one))
        assert back == one
        assert back.key == one.key


def test_reference_of_another_scope_than_its_task_is_refused(
    store: StateStore, made: Campaign, scope: Scope, other_scope: Scope
) -> None:
    for foreign in (other_scope, Scope("org"), Scope()):
        for call in (store.set_task_result, store.settle_task):
            with pytest.raises(ValueError, match=f"but its task has the scope {scope}"):
                call(made.tasks[0], ref(foreign))
    assert store.get_task_results(made.tasks[0]) == []
    assert store.get_task_status(made.tasks[:1]) == ["waiting"]


def test_location_of_a_reference_is_not_judged(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    for location in (None, "", "../../x", "/etc", "elsewhere/obj.json", "ü \n"):
        one = ref(scope, location=location)
        assert store.get_gufe(store.settle_task(made.tasks[0], one).result) == one


@pytest.mark.parametrize("ok", [True, False])
def test_result_leaves_status_and_claim_alone(
    store: StateStore, made: Campaign, scope: Scope, ok: bool
) -> None:
    register(store, "a")
    paths = [
        [],
        ["running"],
        ["running", "complete"],
        ["running", "error"],
        ["invalid"],
        ["deleted"],
    ]
    for task, path in zip(made.tasks, paths, strict=True):
        for status in path:
            store.set_task_status([task], status)
    assert store.claim_taskhub_tasks(made.hub, "a") == made.tasks[:1]
    before = store.get_task_status(made.tasks), store.get_taskhub_unclaimed_tasks(made.hub)
    for task in made.tasks:
        one = ref(scope, ok=ok)
        store.set_task_result(task, one)
        assert (store.get_task_results if ok else store.get_task_failures)(task) == keys(
            scope, [one]
        )
    assert (
        store.get_task_status(made.tasks),
        store.get_taskhub_unclaimed_tasks(made.hub),
    ) == before
    assert store.get_gufe(made.tasks[0]).claim == "a"


def test_missing_tasks_and_keys_of_other_classes_are_errors(
    store: StateStore, made: Campaign, scope: Scope, other_scope: Scope
) -> None:
    one = ref(scope)
    missing: str | ScopedKey
    for missing in (f"Task-{uuid4().hex}-{scope}", f"{made.tasks[0].gufe_key}-{other_scope}"):
        with pytest.raises(KeyError, match="No such object in database"):
            store.set_task_result(missing, one)
        assert store.get_task_results(missing) == store.get_task_failures(missing) == []
    for other in (made.hub, made.network, made.transformations[0]):
        with pytest.raises(ValueError):
            store.set_task_result(other, one)
        assert store.get_task_results(other) == store.get_task_failures(other) == []
    for missing in (f"Transformation-{uuid4().hex}-{scope}", made.hub, made.network, made.tasks[0]):
        assert (
            store.get_transformation_results(missing)
            == store.get_transformation_failures(missing)
            == []
        )
    assert not store.check_existence(keys(scope, [one])[0])


def test_child_continues_from_the_newest_success_of_its_parent(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    transformation = made.transformations[0]
    parent, child, grandchild = chain(store, transformation, 3)
    assert store.get_task_transformation(parent, return_gufe=False) == (transformation, None)
    assert store.get_task_transformation(child, return_gufe=False) == (transformation, None)
    hour = timedelta(hours=1)
    failed = ref(scope, ok=False, created=NOON + 3 * hour)
    store.set_task_result(parent, failed)
    assert store.get_task_transformation(child, return_gufe=False) == (transformation, None)
    newest = ref(scope, created=NOON + hour)
    for one in (ref(scope), newest, ref(scope, created=NOON - hour), ref(scope, created=None)):
        store.set_task_result(parent, one)
    assert store.get_task_transformation(child, return_gufe=False) == (
        transformation,
        *keys(scope, [newest]),
    )
    assert store.get_task_transformation(parent, return_gufe=False) == (transformation, None)
    assert store.get_task_transformation(grandchild, return_gufe=False) == (transformation, None)
    found, start = store.get_task_transformation(str(child))
    assert isinstance(found, gufe.Transformation)
    assert (str(found.key), start) == (str(transformation.gufe_key), newest)


def test_key_decides_between_successes_of_the_same_time(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    chosen = []
    for order in (1, -1):
        parent, child = chain(store, made.transformations[0], 2)
        for i in (0, 1)[::order]:
            store.set_task_result(parent, ref(scope, obj_key=f"ProtocolDAGResult-{i:032x}"))
        chosen.append(store.get_task_transformation(child, return_gufe=False)[1])
    assert chosen[0] == chosen[1]
    assert chosen[0] in keys(
        scope, [ref(scope, obj_key=f"ProtocolDAGResult-{i:032x}") for i in (0, 1)]
    )
