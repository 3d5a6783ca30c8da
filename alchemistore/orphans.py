"""Objects that no reference names, and references whose object is gone: database and object store held against each other.

Both walks stream: memory holds a page, or the objects of one transformation, and each can go on where it was broken off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from posixpath import dirname

from sqlalchemy import Engine, text

from alchemistore.models import ScopedKey
from alchemistore.objectstore import S3ObjectStore, StoredObject
from alchemistore.transaction import translated

PAGE = 1000

REFERENCED = text("SELECT location FROM results WHERE location = ANY(CAST(:locations AS text[]))")
REFERENCES = text("""
    SELECT r.location, r.token, s.org, s.campaign, s.project
    FROM results AS r JOIN scopes AS s ON s.id = r.scope_id
    WHERE (r.location, r.token) > (:after, CAST(:token AS uuid))
    ORDER BY r.location, r.token
    LIMIT :limit
""")
NIL = "00000000-0000-0000-0000-000000000000"
# Not there to be seen by others: the store's own probes.
PROBES = "_check/"


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to a result, and where it says the object is."""

    key: ScopedKey
    location: str


def unreferenced(engine: Engine, objects: S3ObjectStore, older_than: datetime, after: str = "") -> Iterator[StoredObject]:
    """Find objects that no reference names.

    Parameters
    ----------
    engine : Engine
        The database.
    objects : S3ObjectStore
        The object store.
    older_than : datetime
        Only objects last written before it: a younger one's reference may be on its way.
    after : str, default ""
        Only what comes after this location: where a walk was broken off.

    Yields
    ------
    StoredObject
        In the order of their locations.
    """
    old = (found for found in objects.iter_objects(after=after) if found.modified < older_than)
    for page in _pages(found for found in old if not found.location.startswith(PROBES)):
        named = _named(engine, [found.location for found in page])
        yield from (found for found in page if found.location not in named)


def _named(engine: Engine, locations: list[str]) -> set[str]:
    with translated(), engine.connect() as connection:
        return set(connection.scalars(REFERENCED, {"locations": locations}))


def dangling(engine: Engine, objects: S3ObjectStore, after: str = "") -> Iterator[Reference]:
    """Find references whose object is gone.

    Parameters
    ----------
    engine : Engine
        The database.
    objects : S3ObjectStore
        The object store.
    after : str, default ""
        Only references to what comes after this location: where a walk was broken off.

    Yields
    ------
    Reference
        In the order of their locations.
    """
    # All results of a transformation lie below one directory; a page may end in the middle of it.
    for directory, references in groupby(_references(engine, after), key=lambda reference: _directory(reference.location)):
        there = set(objects.iter_contents(f"{directory}/" if directory else ""))
        yield from (reference for reference in references if reference.location not in there)


def _pages(found: Iterator[StoredObject]) -> Iterator[list[StoredObject]]:
    while page := list(islice(found, PAGE)):
        yield page


def _directory(location: str) -> str:
    # .../<transformation>/<results or failures>/<result>/<file>
    return dirname(dirname(dirname(location)))


def _references(engine: Engine, after: str) -> Iterator[Reference]:
    token = "ffffffff-ffff-ffff-ffff-ffffffffffff" if after else NIL
    while True:
        with translated(), engine.connect() as connection:
            rows = connection.execute(REFERENCES, {"after": after, "token": token, "limit": PAGE}).all()
        for row in rows:
            yield Reference(
                ScopedKey.from_parts("ProtocolDAGResultRef", row.token, row.org, row.campaign, row.project), row.location
            )
        if len(rows) < PAGE:
            return
        after, token = rows[-1].location, rows[-1].token


def sweep(
    engine: Engine, objects: S3ObjectStore, older_than: datetime, after: str = "", dry_run: bool = False
) -> Iterator[StoredObject]:
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
    StoredObject
        What was removed, or would be.
    """
    for page in _pages(unreferenced(engine, objects, older_than, after)):
        if not dry_run:
            # Looked up once more: a reference may have come in since.
            named = _named(engine, [found.location for found in page])
            page = [found for found in page if found.location not in named]
            objects.remove(found.location for found in page)
        yield from page
