"""The audit of the object store: unreferenced objects and dangling references.

Objects and references are merged in the order of locations, a page at a time. Both sides may
change meanwhile, and some servers list in another order (SeaweedFS by directory). Therefore
everything that one side seems to lack is looked up by name before it is reported.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby, islice
from operator import attrgetter
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Engine, text

from alchemistore.database import migrations
from alchemistore.database.transaction import open_transaction
from alchemistore.database.translation import translate_errors
from alchemistore.maintenance.findings import Finding, FindingKind
from alchemistore.models import ScopedKey
from alchemistore.objectstore import IncompleteUpload, S3ObjectStore, StoredObject

T = TypeVar("T")

PAGE = 1000

# A reference without a location refers to its object by key, which is the name of the directory.
REFERENCED = text("""
    SELECT location, obj_key FROM results WHERE location = ANY(CAST(:locations AS text[]))
    UNION ALL
    SELECT location, obj_key FROM results
    WHERE location IS NULL AND obj_key = ANY(CAST(:keys AS text[]))
""")
REFERENCES = text("""
    SELECT r.location, r.token, r.scope_id, s.org, s.campaign, s.project
    FROM results AS r JOIN scopes AS s ON s.id = r.scope_id
    WHERE (r.location, r.token, r.scope_id) > (:location, CAST(:token AS uuid), :scope_id)
    ORDER BY r.location, r.token, r.scope_id
    LIMIT :limit
""")
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)
# Objects that the object store writes to test its permissions.
PROBES = "_check/"
LOCATION = attrgetter("location")


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to a result, with the location of the object."""

    location: str
    token: UUID
    org: str
    campaign: str
    project: str

    @property
    def key(self) -> ScopedKey:
        """The key of the reference."""
        return ScopedKey.from_parts(
            "ProtocolDAGResultRef", self.token, self.org, self.campaign, self.project
        )


@dataclass(frozen=True, slots=True)
class Page:
    """A page of an audit or sweep.

    Attributes
    ----------
    last : str
        The last location of the page. An interrupted audit resumes after it.
    objects, references : int
        Numbers of objects and references in the page.
    unreferenced : list of StoredObject
        Objects without a reference.
    dangling : list of Reference, default []
        References whose object is missing.
    """

    last: str
    objects: int
    references: int
    unreferenced: list[StoredObject]
    dangling: list[Reference] = field(default_factory=list)

    def findings(self) -> Iterator[Finding]:
        """Yield the dangling references, then the unreferenced objects."""
        for reference in self.dangling:
            key, location = str(reference.key), reference.location
            yield Finding(
                FindingKind.dangling_reference,
                f"{key} refers to the missing object {location}",
                key=key,
                location=location,
            )
        for stored in self.unreferenced:
            yield Finding(
                FindingKind.unreferenced_object,
                f"object {stored.location} has no reference; see 'alchemistore objects sweep'",
                location=stored.location,
            )


def walk(
    engine: Engine, objects: S3ObjectStore, older_than: datetime, after: str = ""
) -> Iterator[Page]:
    """Find objects without a reference, and references whose object is missing.

    References without a location are not checked.

    Parameters
    ----------
    engine : Engine
        The database.
    objects : S3ObjectStore
        The object store.
    older_than : datetime
        Report only unreferenced objects that were last written before this time. The reference to a
        younger object may not be stored yet.
    after : str, default ""
        Start after this location, to resume an audit.

    Yields
    ------
    Page
        Pages in the order of locations.
    """
    found: Iterator[StoredObject | Reference] = objects.iter_objects(after=after)
    entries = heapq.merge(found, _references(engine, after), key=LOCATION)
    # A page never ends between two references to one location: the audit could not resume there.
    for page in _pages(list(same) for _, same in groupby(entries, key=LOCATION)):
        stored = [one for same in page for one in same if isinstance(one, StoredObject)]
        references = [one for same in page for one in same if isinstance(one, Reference)]
        locations, named = {one.location for one in stored}, {one.location for one in references}
        yield Page(
            last=page[-1][0].location,
            objects=len(stored),
            references=len(references),
            unreferenced=find_unreferenced(
                engine, (one for one in stored if one.location not in named), older_than
            ),
            dangling=_dangling(
                engine, objects, [one for one in references if one.location not in locations]
            ),
        )


def sweep(
    engine: Engine,
    objects: S3ObjectStore,
    older_than: datetime,
    after: str = "",
    dry_run: bool = False,
) -> Iterator[Page]:
    """Remove objects without a reference.

    Parameters
    ----------
    engine : Engine
        The database.
    objects : S3ObjectStore
        The object store.
    older_than : datetime
        Remove only objects that were last written before this time. Leave ample time: a worker
        stores its object before the reference.
    after : str, default ""
        Start after this location, to resume a sweep.
    dry_run : bool, default False
        Remove nothing.

    Yields
    ------
    Page
        Pages with the objects that were removed, or would be.

    Raises
    ------
    SchemaError
        If the schema is missing, too old or too new, so that references cannot be read.
    """
    with translate_errors(engine), open_transaction(engine, readonly=True) as connection:
        migrations.require_current(connection)
    for page in _pages(objects.iter_objects(after=after)):
        loose = find_unreferenced(engine, page, older_than)
        if not dry_run:
            objects.remove(one.location for one in loose)
        yield Page(last=page[-1].location, objects=len(page), references=0, unreferenced=loose)


def sweep_uploads(
    objects: S3ObjectStore, older_than: datetime, dry_run: bool = False
) -> Iterator[IncompleteUpload]:
    """Remove the parts of uploads that were begun before a time and never completed.

    Parameters
    ----------
    objects : S3ObjectStore
        The object store.
    older_than : datetime
        Remove only uploads that began before this time. Leave ample time for uploads to end.
    dry_run : bool, default False
        Remove nothing.

    Yields
    ------
    IncompleteUpload
        The uploads that were removed, or would be.
    """
    for upload in objects.iter_incomplete_uploads():
        if upload.started < older_than:
            if not dry_run:
                objects.abort_upload(upload)
            yield upload


def find_unreferenced(
    engine: Engine, stored: Iterable[StoredObject], older_than: datetime
) -> list[StoredObject]:
    """Return the objects without a reference that were last written before a time.

    Parameters
    ----------
    engine : Engine
        The database.
    stored : iterable of StoredObject
        The objects.
    older_than : datetime
        The time.
    """
    old = [
        one for one in stored if one.modified < older_than and not one.location.startswith(PROBES)
    ]
    locations, keys = _referenced(engine, [one.location for one in old])
    return [one for one in old if one.location not in locations and _key(one.location) not in keys]


def _dangling(
    engine: Engine, objects: S3ObjectStore, references: list[Reference]
) -> list[Reference]:
    absent = objects.absent({one.location for one in references})
    # References are deleted with their network; report only those that still exist.
    locations, _ = _referenced(engine, sorted(absent))
    return [one for one in references if one.location in locations]


def _referenced(engine: Engine, locations: list[str]) -> tuple[set[str], set[str]]:
    """Return the locations with a reference, and the keys with one that has no location."""
    if not locations:
        return set(), set()
    with translate_errors(engine), open_transaction(engine, readonly=True) as connection:
        rows = connection.execute(
            REFERENCED, {"locations": locations, "keys": list(map(_key, locations))}
        ).all()
    return {row.location for row in rows if row.location is not None}, {
        row.obj_key for row in rows if row.location is None
    }


def _key(location: str) -> str:
    # .../<transformation>/<results or failures>/<result>/<file>
    return location.rpartition("/")[0].rpartition("/")[2]


def _references(engine: Engine, after: str) -> Iterator[Reference]:
    place = {"location": after, "token": LAST if after else FIRST, "scope_id": 0}
    while True:
        with translate_errors(engine), open_transaction(engine, readonly=True) as connection:
            rows = connection.execute(REFERENCES, {**place, "limit": PAGE}).all()
        for row in rows:
            yield Reference(row.location, row.token, row.org, row.campaign, row.project)
        if len(rows) < PAGE:
            return
        place = {name: getattr(rows[-1], name) for name in place}


def _pages(found: Iterator[T]) -> Iterator[list[T]]:
    while page := list(islice(found, PAGE)):
        yield page
