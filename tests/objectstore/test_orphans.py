"""Objects without references, and references without objects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alchemistore import ProtocolDAGResultRef, S3ObjectStore, Scope, ScopedKey, StateStore, orphans
from alchemistore.models import GufeKey
from tests.builders import campaign
from tests.objectstore.conftest import put

SOON = timedelta(hours=1)


@pytest.fixture
def kept(store: StateStore, s3os: S3ObjectStore, of: ScopedKey, result: Any, scope: Scope) -> ProtocolDAGResultRef:
    """A result that is stored, with its reference."""
    ref = s3os.push_protocoldagresult(result, of)
    store.set_task_result(campaign(store, scope, tasks=1).tasks[0], ref)
    return ref


def later() -> datetime:
    return datetime.now(UTC) + SOON


def loose(s3os: S3ObjectStore, count: int) -> list[str]:
    """Put results that nobody refers to."""
    locations = [f"protocoldagresult/org/c/p/T-{i:02}/results/R-{i:02}/obj.json.zst" for i in range(count)]
    for location in locations:
        put(s3os, s3os._folder.name(location))
    return locations


def test_nothing_is_found_where_everything_is_right(store: StateStore, s3os: S3ObjectStore, kept: ProtocolDAGResultRef) -> None:
    assert list(orphans.unreferenced(store._engine, s3os, later())) == []
    assert list(orphans.dangling(store._engine, s3os)) == []


def test_objects_that_nothing_refers_to_are_found_and_swept(
    store: StateStore, s3os: S3ObjectStore, kept: ProtocolDAGResultRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several pages.
    monkeypatch.setattr(orphans, "PAGE", 2)
    locations = loose(s3os, 5)
    assert [found.location for found in orphans.sweep(store._engine, s3os, later(), dry_run=True)] == locations
    assert len(list(s3os.iter_contents())) == 6
    assert [found.location for found in orphans.sweep(store._engine, s3os, later())] == locations
    assert list(s3os.iter_contents()) == [kept.location]


def test_a_walk_goes_on_where_it_was_broken_off(store: StateStore, s3os: S3ObjectStore) -> None:
    locations = loose(s3os, 4)
    found = orphans.unreferenced(store._engine, s3os, later(), after=locations[1])
    assert [one.location for one in found] == locations[2:]


def test_young_objects_are_left_alone(store: StateStore, s3os: S3ObjectStore) -> None:
    loose(s3os, 1)
    assert list(orphans.sweep(store._engine, s3os, datetime.now(UTC) - SOON)) == []
    assert len(list(s3os.iter_contents())) == 1


def test_a_reference_whose_object_is_gone_is_named(
    store: StateStore, s3os: S3ObjectStore, kept: ProtocolDAGResultRef, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "PAGE", 1)
    [task] = store.query_tasks()
    lost = [
        store.set_task_result(
            task, ProtocolDAGResultRef(obj_key=GufeKey(f"R-{i}"), location=f"x/{i}/results/r/obj.json", scope=scope, ok=True)
        )
        for i in range(3)
    ]
    found = list(orphans.dangling(store._engine, s3os))
    assert [(one.key, one.location) for one in found] == [(key, f"x/{i}/results/r/obj.json") for i, key in enumerate(lost)]
    assert [one.key for one in orphans.dangling(store._engine, s3os, after="x/0/results/r/obj.json")] == lost[1:]


def test_a_reference_that_comes_during_the_sweep_saves_its_object(
    store: StateStore, s3os: S3ObjectStore, of: ScopedKey, result: Any, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, task = s3os.push_protocoldagresult(result, of), campaign(store, scope, tasks=1).tasks[0]
    found = orphans.unreferenced(store._engine, s3os, later())
    first = next(found)
    store.set_task_result(task, ref)
    monkeypatch.setattr(orphans, "unreferenced", lambda *_: iter([first]))
    assert list(orphans.sweep(store._engine, s3os, later())) == []
    assert list(s3os.iter_contents()) == [ref.location]
