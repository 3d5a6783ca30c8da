"""Objects without references, and references without objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from alchemistore import ProtocolDAGResultRef, S3ObjectStore, Scope, ScopedKey, StateStore
from alchemistore.errors import SchemaError
from alchemistore.maintenance import object_audit
from alchemistore.models import GufeKey
from tests.objectstore.conftest import put
from tests.support.campaigns import campaign

SOON = timedelta(hours=1)
# '-' and '.' sort before '/', but not on servers that list by directory. 'é', '\ufb01' and
# '\U0001f600' are in UTF-8 order; UTF-16 and most languages order them differently.
ODD = [
    "a-b/x",
    "a.b/x",
    "a/b",
    "a/c/d",
    "a0/x",
    "aB/x",
    "ab/x",
    "z/x",
    "é/x",
    "\ufb01/x",
    "\U0001f600/x",
]

Refer = Callable[..., ScopedKey]


@pytest.fixture
def refer(store: StateStore, scope: Scope) -> Refer:
    """Refers to locations, as results of one task."""
    task = campaign(store, scope, tasks=1).tasks[0]

    def refer(location: str | None, key: str = "R-1", creator: str | None = None) -> ScopedKey:
        ref = ProtocolDAGResultRef(
            obj_key=GufeKey(key), location=location, scope=scope, ok=True, creator=creator
        )
        return store.set_task_result(task, ref)

    return refer


@pytest.fixture
def kept(s3os: S3ObjectStore, of: ScopedKey, result: Any, refer: Refer) -> ProtocolDAGResultRef:
    """A result that is stored, with its reference."""
    ref = s3os.push_protocoldagresult(result, of)
    refer(ref.location, ref.obj_key)
    return ref


def later() -> datetime:
    return datetime.now(UTC) + SOON


def loose(s3os: S3ObjectStore, count: int) -> list[str]:
    """Store results without references and return their locations."""
    return fill(
        s3os,
        [f"protocoldagresult/org/c/p/T-{i:02}/results/R-{i:02}/obj.json.zst" for i in range(count)],
    )


def fill(s3os: S3ObjectStore, locations: list[str]) -> list[str]:
    for location in locations:
        put(s3os, s3os.bucket_prefix.name(location))
    return locations


def unreferenced(pages: Iterable[object_audit.Page]) -> list[str]:
    return [found.location for page in pages for found in page.unreferenced]


def dangling(pages: Iterable[object_audit.Page]) -> list[str]:
    return [found.location for page in pages for found in page.dangling]


def problems(pages: Iterable[object_audit.Page]) -> set[str]:
    found = list(pages)
    return {*unreferenced(found), *dangling(found)}


# Both ways


def test_audit_of_consistent_stores_finds_nothing(
    store: StateStore, s3os: S3ObjectStore, kept: ProtocolDAGResultRef
) -> None:
    [page] = object_audit.walk(store.engine, s3os, later())
    assert page == object_audit.Page(
        last=str(kept.location), objects=1, references=1, unreferenced=[], dangling=[]
    )


def test_audit_of_empty_stores_finds_nothing(store: StateStore, s3os: S3ObjectStore) -> None:
    assert list(object_audit.walk(store.engine, s3os, later())) == []
    assert list(object_audit.sweep(store.engine, s3os, later())) == []


def test_objects_and_references_missing_on_either_side_are_reported(
    store: StateStore,
    s3os: S3ObjectStore,
    kept: ProtocolDAGResultRef,
    refer: Refer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Several pages.
    monkeypatch.setattr(object_audit, "PAGE", 2)
    locations = loose(s3os, 5)
    lost = [f"x/{i}/results/r/obj.json" for i in range(5)]
    keys = [refer(location) for location in lost]
    pages = list(object_audit.walk(store.engine, s3os, later()))
    assert unreferenced(pages) == locations
    assert [(one.key, one.location) for page in pages for one in page.dangling] == list(
        zip(keys, lost, strict=True)
    )
    assert (sum(page.objects for page in pages), sum(page.references for page in pages)) == (6, 6)


def test_all_references_to_a_missing_object_are_reported(
    store: StateStore, s3os: S3ObjectStore, refer: Refer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_audit, "PAGE", 1)
    keys = {refer("x/obj.json", creator=creator) for creator in ("one", "two", "three")}
    [page] = object_audit.walk(store.engine, s3os, later())
    assert {one.key for one in page.dangling} == keys


@pytest.mark.parametrize(
    "referred", [ODD, ODD[::2], ODD[1::2], []], ids=["all", "even", "odd", "none"]
)
def test_listing_order_of_the_server_does_not_matter(
    store: StateStore,
    s3os: S3ObjectStore,
    refer: Refer,
    monkeypatch: pytest.MonkeyPatch,
    referred: list[str],
) -> None:
    fill(s3os, ODD[:8])
    for location in referred:
        refer(location)
    for size in (1, 3, 1000):
        monkeypatch.setattr(object_audit, "PAGE", size)
        pages = list(object_audit.walk(store.engine, s3os, later()))
        assert sorted(unreferenced(pages)) == sorted(set(ODD[:8]) - set(referred))
        assert sorted(dangling(pages)) == sorted(set(referred) - set(ODD[:8]))


def test_interrupted_audit_resumes_at_any_location(
    store: StateStore, s3os: S3ObjectStore, refer: Refer, monkeypatch: pytest.MonkeyPatch
) -> None:
    locations = loose(s3os, 6)
    lost = [location.replace("obj.json.zst", "obj.json") for location in locations[:3]] + [
        "a/x",
        "q/x",
        "../y",
        "/z",
    ]
    for location in lost:
        refer(location)
        refer(location, creator="somebody else")
    whole = problems(object_audit.walk(store.engine, s3os, later()))
    assert whole == {*locations, *lost}
    for size in (1, 2, 3):
        monkeypatch.setattr(object_audit, "PAGE", size)
        pages = list(object_audit.walk(store.engine, s3os, later()))
        for end in range(1, len(pages) + 1):
            rest = problems(
                object_audit.walk(store.engine, s3os, later(), after=pages[end - 1].last)
            )
            assert problems(pages[:end]) | rest == whole
            assert not problems(pages[:end]) & rest


def test_impossible_locations_do_not_end_the_audit(
    store: StateStore, s3os: S3ObjectStore, refer: Refer
) -> None:
    impossible = ["", "../other/x", "/x", "a/../x", "x" * 1020, "a/./b", "\x01"]
    for location in impossible:
        refer(location)
    assert sorted(dangling(object_audit.walk(store.engine, s3os, later()))) == sorted(impossible)


def test_location_is_missing_even_if_a_longer_one_exists(
    store: StateStore, s3os: S3ObjectStore, refer: Refer
) -> None:
    fill(s3os, ["a/b/c", "a/bb"])
    for location in ("a/b/c", "a/bb", "a/b", "a"):
        refer(location)
    assert dangling(object_audit.walk(store.engine, s3os, later())) == ["a", "a/b"]


# While others write


def test_object_and_reference_added_during_the_audit_are_no_problem(
    store: StateStore, s3os: S3ObjectStore, refer: Refer, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = s3os.iter_objects
    arrived = "b/results/R-1/obj.json.zst"

    def list_and_write(prefix: str = "", after: str = "") -> Iterator[Any]:
        yield from list(listed(prefix, after))
        fill(s3os, [arrived])
        refer(arrived)
        refer("c/lost")

    monkeypatch.setattr(s3os, "iter_objects", list_and_write)
    monkeypatch.setattr(object_audit, "PAGE", 1)
    fill(s3os, ["a/x"])
    refer("a/x")
    pages = list(object_audit.walk(store.engine, s3os, later()))
    assert [page.references for page in pages] == [1, 1, 1]
    assert (unreferenced(pages), dangling(pages)) == ([], ["c/lost"])


def test_reference_added_after_its_object_was_compared_is_found(
    store: StateStore, s3os: S3ObjectStore, refer: Refer, monkeypatch: pytest.MonkeyPatch
) -> None:
    [location, other] = loose(s3os, 2)
    look_up = object_audit.find_unreferenced

    def write_and_look_up(engine: Any, stored: Any, older_than: datetime) -> Any:
        found = list(stored)
        assert [one.location for one in found] == [location, other]
        refer(location)
        return look_up(engine, found, older_than)

    monkeypatch.setattr(object_audit, "find_unreferenced", write_and_look_up)
    assert unreferenced(object_audit.walk(store.engine, s3os, later())) == [other]


def test_reference_removed_with_its_object_is_no_problem(
    store: StateStore, s3os: S3ObjectStore, refer: Refer, monkeypatch: pytest.MonkeyPatch
) -> None:
    refer("a/gone")
    refer("b/lost")
    look_up = s3os.absent

    def remove_and_look_up(locations: Any) -> set[str]:
        with store.engine.begin() as connection:
            connection.execute(text("DELETE FROM task_results"))
            connection.execute(text("DELETE FROM results WHERE location = 'a/gone'"))
        return look_up(locations)

    monkeypatch.setattr(s3os, "absent", remove_and_look_up)
    assert dangling(object_audit.walk(store.engine, s3os, later())) == ["b/lost"]


def test_young_objects_are_left_alone(store: StateStore, s3os: S3ObjectStore) -> None:
    loose(s3os, 1)
    before = datetime.now(UTC) - SOON
    assert unreferenced(object_audit.walk(store.engine, s3os, before)) == []
    assert unreferenced(object_audit.sweep(store.engine, s3os, before)) == []
    assert len(list(s3os.iter_contents())) == 1


# Sweeping


def test_sweep_removes_unreferenced_objects_and_dry_run_only_lists_them(
    store: StateStore,
    s3os: S3ObjectStore,
    kept: ProtocolDAGResultRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_audit, "PAGE", 2)
    locations = loose(s3os, 5)
    assert unreferenced(object_audit.sweep(store.engine, s3os, later(), dry_run=True)) == locations
    assert len(list(s3os.iter_contents())) == 6
    assert unreferenced(object_audit.sweep(store.engine, s3os, later())) == locations
    assert list(s3os.iter_contents()) == [kept.location]


def test_interrupted_sweep_resumes_at_its_location(
    store: StateStore, s3os: S3ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_audit, "PAGE", 2)
    locations = loose(s3os, 5)
    first = next(object_audit.sweep(store.engine, s3os, later()))
    assert (first.last, list(s3os.iter_contents())) == (locations[1], locations[2:])
    assert (
        unreferenced(object_audit.sweep(store.engine, s3os, later(), after=first.last))
        == locations[2:]
    )


def test_reference_added_during_the_sweep_keeps_its_object(
    store: StateStore, s3os: S3ObjectStore, refer: Refer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_audit, "PAGE", 1)
    locations = loose(s3os, 3)
    pages = object_audit.sweep(store.engine, s3os, later())
    next(pages)
    refer(locations[1])
    assert unreferenced(pages) == locations[2:]
    assert list(s3os.iter_contents()) == [locations[1]]


def test_reference_without_location_keeps_the_object_of_its_key(
    store: StateStore, s3os: S3ObjectStore, refer: Refer
) -> None:
    locations = loose(s3os, 3)
    refer(None, key="R-01")
    assert unreferenced(object_audit.walk(store.engine, s3os, later())) == [
        locations[0],
        locations[2],
    ]
    assert unreferenced(object_audit.sweep(store.engine, s3os, later())) == [
        locations[0],
        locations[2],
    ]
    assert list(s3os.iter_contents()) == [locations[1]]


# In a separate database, because the test changes the schema version.
def test_sweep_with_an_unknown_schema_version_removes_nothing(
    own_store: StateStore, s3os: S3ObjectStore
) -> None:
    loose(s3os, 1)
    with own_store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="9999"):
        list(object_audit.sweep(own_store.engine, s3os, later()))
    assert len(list(s3os.iter_contents())) == 1
