"""Objects that no reference names, and references whose object is gone: database and object store held against each other.

Both are read in the order of locations, and memory holds a page of each. Neither stands still meanwhile, and some servers list in an
order of their own (SeaweedFS by directory), so whatever one side seems to lack is looked up by its name before it is called missing.
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
from alchemistore.database.translation import translate_errors
from alchemistore.models import ScopedKey
from alchemistore.objectstore import S3ObjectStore, StoredObject

T = TypeVar("T")

PAGE = 1000

# Whoever refers to a result without its location finds it by its key, which is the name of the directory.
REFERENCED = text("""
    SELECT location, obj_key FROM results WHERE location = ANY(CAST(:locations AS text[]))
    UNION ALL
    SELECT location, obj_key FROM results WHERE location IS NULL AND obj_key = ANY(CAST(:keys AS text[]))
""")
REFERENCES = text("""
    SELECT r.location, r.token, r.scope_id, s.org, s.campaign, s.project
    FROM results AS r JOIN scopes AS s ON s.id = r.scope_id
    WHERE (r.location, r.token, r.scope_id) > (:location, CAST(:token AS uuid), :scope_id)
    ORDER BY r.location, r.token, r.scope_id
    LIMIT :limit
""")
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)
# Not there to be seen by others: the store's own probes.
PROBES = "_check/"
LOCATION = attrgetter("location")


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to a result, and where it says the object is."""

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
    """A stretch of a walk.

    Attributes
    ----------
    last : str
        Where the stretch ends: a walk that is broken off goes on after this location.
    objects, references : int
        How many there were.
    unreferenced : list of StoredObject
        Objects that no reference names.
    dangling : list of Reference, default []
        References whose object is gone.
    """

    last: str
    objects: int
    references: int
    unreferenced: list[StoredObject]
    dangling: list[Reference] = field(default_factory=list)


def walk(
    engine: Engine, objects: S3ObjectStore, older_than: datetime, after: str = ""
) -> Iterator[Page]:
    """Find objects that no reference names, and references whose object is gone. A reference without location is not looked at.

    Parameters
    ----------
    engine : Engine
        The database.
    objects : S3ObjectStore
        The object store.
    older_than : datetime
        Of unreferenced objects only those last written before it: a younger one's reference may be on its way.
    after : str, default ""
        Only what comes after this location: where a walk was broken off.

    Yields
    ------
    Page
        Everything, in the order of locations.
    """
    found: Iterator[StoredObject | Reference] = objects.iter_objects(after=after)
    entries = heapq.merge(found, _references(engine, after), key=LOCATION)
    # A page never ends between two references to one location, where a walk could not go on.
    for page in _pages(list(same) for _, same in groupby(entries, key=LOCATION)):
        stored = [one for same in page for one in same if isinstance(one, StoredObject)]
        references = [one for same in page for one in same if isinstance(one, Reference)]
        locations, named = {one.location for one in stored}, {one.location for one in references}
        yield Page(
            last=page[-1][0].location,
            objects=len(stored),
            references=len(references),
            unreferenced=_unreferenced(
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
    """Remove objects that no reference names.

    Parameters
    ----------
    engine : Engine
        The database.
    objects : S3ObjectStore
        The object store.
    older_than : datetime
        Only objects last written before it. Leave ample time: a worker writes its object before the reference.
    after : str, default ""
        Only what comes after this location: where a sweep was broken off.
    dry_run : bool, default False
        Remove nothing.

    Yields
    ------
    Page
        With the objects that were removed, or would be.

    Raises
    ------
    SchemaError
        If the schema is missing, too old or too new, so that nobody can tell what is referred to.
    """
    with translate_errors(), engine.connect() as connection:
        migrations.require_current(connection)
    for page in _pages(objects.iter_objects(after=after)):
        loose = _unreferenced(engine, page, older_than)
        if not dry_run:
            objects.remove(one.location for one in loose)
        yield Page(last=page[-1].location, objects=len(page), references=0, unreferenced=loose)


def _unreferenced(
    engine: Engine, stored: Iterable[StoredObject], older_than: datetime
) -> list[StoredObject]:
    old = [
        one for one in stored if one.modified < older_than and not one.location.startswith(PROBES)
    ]
    locations, keys = _referenced(engine, [one.location for one in old])
    return [one for one in old if one.location not in locations and _key(one.location) not in keys]


def _dangling(
    engine: Engine, objects: S3ObjectStore, references: list[Reference]
) -> list[Reference]:
    absent = objects.absent({one.location for one in references})
    # A reference goes with its network; only those that are still there dangle.
    locations, _ = _referenced(engine, sorted(absent))
    return [one for one in references if one.location in locations]


def _referenced(engine: Engine, locations: list[str]) -> tuple[set[str], set[str]]:
    """Look up which locations are referred to, and which keys of theirs by references without location."""
    if not locations:
        return set(), set()
    with translate_errors(), engine.connect() as connection:
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
        with translate_errors(), engine.connect() as connection:
            rows = connection.execute(REFERENCES, {**place, "limit": PAGE}).all()
        for row in rows:
            yield Reference(row.location, row.token, row.org, row.campaign, row.project)
        if len(rows) < PAGE:
            return
        place = {name: getattr(rows[-1], name) for name in place}


def _pages(found: Iterator[T]) -> Iterator[list[T]]:
    while page := list(islice(found, PAGE)):
        yield page
