"""Documents: gufe objects as they are stored, once per scope, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import Connection, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import (
    FIND_SCOPE,
    one_or_missing,
    parameters,
    scope_ids,
    scope_parameters,
    uuids,
)
from alchemistore.database.planner import FENCE
from alchemistore.database.sql import SCOPE_ID
from alchemistore.database.together import together
from alchemistore.errors import MissingObjectError
from alchemistore.models import GufeKey, Scope, ScopedKey
from alchemistore.models.clock import now
from alchemistore.models.gufe import GufeTokenizable

INSERT_SCOPE = text("""
    INSERT INTO scopes (org, campaign, project, created_at) VALUES (:org, :campaign, :project, :now)
    ON CONFLICT DO NOTHING
    RETURNING id
""")
FIND_STORED_ROOT = text(f"""
    SELECT kind, token FROM gufe_objects
    WHERE scope_id = {SCOPE_ID} AND token = ANY(CAST(:tokens AS uuid[]))
""")
FIND_STORED_KEYS = text("""
    SELECT kind, token FROM gufe_objects
    WHERE scope_id = :scope_id AND token = ANY(CAST(:tokens AS uuid[]))
""")
# Documents that one statement stores.
DOCUMENTS_AT_ONCE = 10_000
# In the order of the keys, so that two transactions that store the same objects cannot deadlock.
INSERT_DOCUMENTS = text("""
    INSERT INTO gufe_objects (scope_id, token, kind, document, children, writer, created_at)
    SELECT :scope_id, token, kind, document, CAST(children AS uuid[]), :writer, :now
    FROM unnest(
        CAST(:tokens AS uuid[]), CAST(:kinds AS text[]), CAST(:documents AS bytea[]),
        CAST(:children AS text[])
    ) AS new (token, kind, document, children)
    ORDER BY token
    ON CONFLICT DO NOTHING
    RETURNING token
""")
DOCUMENT_EXISTS = text(
    f"SELECT 1 FROM gufe_objects WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind"
)


def with_parts(root: str) -> str:
    """Return the SQL of objects with everything that they refer to, directly or not.

    Parameters
    ----------
    root : str
        The query for the scope ids and tokens of the objects.

    Returns
    -------
    str
        A WITH clause. `PARTS` selects from it.
    """
    return f"""
        WITH RECURSIVE closure (scope_id, token) AS (
            {root}
            UNION
            SELECT c.scope_id, child.token FROM closure AS c
            -- Looks up each object by key. A hash join would read the documents of all scopes.
            CROSS JOIN LATERAL (
                SELECT o.children FROM gufe_objects AS o
                WHERE o.scope_id = c.scope_id AND o.token = c.token {FENCE}
            ) AS o
            CROSS JOIN LATERAL unnest(o.children) AS child (token)
        )"""


# One object, if it is stored under this kind.
ONE_OBJECT = f"""
    SELECT scope_id, token FROM gufe_objects
    WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind
"""
PARTS = f"""
    FROM closure AS c
    -- Looks up each object by key.
    CROSS JOIN LATERAL (
        SELECT o.kind, o.token, o.document FROM gufe_objects AS o
        WHERE o.scope_id = c.scope_id AND o.token = c.token {FENCE}
    ) AS o
"""
DOCUMENTS_OF_OBJECT = text(f"{with_parts(ONE_OBJECT)} SELECT o.kind, o.token, o.document {PARTS}")
DOCUMENTS_OF_OBJECTS = text(f"""
    {with_parts("SELECT CAST(:scope_id AS bigint), unnest(CAST(:tokens AS uuid[]))")}
    SELECT o.kind, o.token, o.document {PARTS}
""")


class BinaryArray(list[Any]):
    """A list that psycopg sends in binary.

    Sent as text, documents are twice as long and take ten times as long to write.
    """


psycopg.adapters.register_dumper(BinaryArray, ListBinaryDumper)


def ensure_scope(tx: Connection, scope: Scope) -> int:
    """Return the id of a specific scope; create the scope if it is new."""
    return find_root(tx, scope, None)[0]


def find_root(tx: Connection, scope: Scope, root: GufeKey | None) -> tuple[int, Set[GufeKey]]:
    """Return the id of a specific scope, and whether an object is stored there.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    scope : Scope
        The scope; it is created if it is new.
    root : GufeKey or None
        The key of the object.

    Returns
    -------
    int, set of GufeKey
        The id of the scope, and a set with the key of the object if it is stored.
    """
    values = {**scope_parameters(scope), "now": now()}
    with together(tx) as send:
        first = send(FIND_SCOPE, values)
        if root is not None:
            stored = send(FIND_STORED_ROOT, {**values, "tokens": uuids([root])})
    if first.rows:
        rows = () if root is None else stored.rows
        return first.rows[0].id, _keys(rows) & {root}
    # Another transaction may insert the scope meanwhile.
    found = (tx.scalar(statement, values) for statement in (INSERT_SCOPE, FIND_SCOPE))
    return next(scope_id for scope_id in found if scope_id is not None), frozenset()


def _keys(rows: Iterable[Any]) -> set[GufeKey]:
    return {GufeKey(f"{row.kind}-{row.token.hex}") for row in rows}


def stored_keys(tx: Connection, scope_id: int, keys: Set[GufeKey]) -> Set[GufeKey]:
    """Return those of the keys that are stored in the scope."""
    rows = tx.execute(FIND_STORED_KEYS, {"scope_id": scope_id, "tokens": uuids(keys)})
    return _keys(rows) & keys


def insert_documents(
    tx: Connection, scope_id: int, documents: Sequence[gufe_adapter.Document], writer: str
) -> set[UUID]:
    """Store documents; those that exist stay unchanged. Return the tokens of the new ones."""
    added: set[UUID] = set()
    # A statement holds its documents in memory three times. The portions follow the order of keys,
    # as the rows of a statement do.
    if len(documents) > DOCUMENTS_AT_ONCE:
        documents = sorted(documents, key=lambda document: document.key.token)
    for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
        portion = documents[start : start + DOCUMENTS_AT_ONCE]
        values = {
            "scope_id": scope_id,
            "tokens": uuids(document.key for document in portion),
            "kinds": BinaryArray(document.key.qualname for document in portion),
            "documents": BinaryArray(document.data for document in portion),
            "children": BinaryArray(uuids(document.children) for document in portion),
            "writer": writer,
            "now": now(),
        }
        added |= set(tx.scalars(INSERT_DOCUMENTS, values))
    return added


def read_documents(tx: Connection, scope_id: int, keys: Iterable[GufeKey]) -> dict[str, bytes]:
    """Return the documents of objects of one scope, and of everything they refer to, by key."""
    rows = tx.execute(DOCUMENTS_OF_OBJECTS, {"scope_id": scope_id, "tokens": uuids(keys)})
    return {f"{row.kind}-{row.token.hex}": row.document for row in rows}


def read_object(tx: Connection, key: ScopedKey) -> GufeTokenizable:
    """Return a gufe object, from memory if it is there.

    Raises
    ------
    KeyError
        If there is no such object.
    """
    in_memory = gufe_adapter.cached(key.gufe_key)
    if in_memory is not None:
        one_or_missing(tx, DOCUMENT_EXISTS, key, kind=key.qualname)
        return in_memory
    rows = tx.execute(DOCUMENTS_OF_OBJECT, {**parameters(key), "kind": key.qualname}).all()
    if not rows:
        raise MissingObjectError(key)
    return gufe_adapter.decode(
        key.gufe_key, {f"{row.kind}-{row.token.hex}": row.document for row in rows}
    )


def read_objects(tx: Connection, keys: Sequence[ScopedKey]) -> dict[ScopedKey, GufeTokenizable]:
    """Return gufe objects by their keys, with one statement per scope; all of them must exist."""
    found: dict[ScopedKey, GufeTokenizable] = {
        key: gufe_adapter.cached(key.gufe_key) for key in keys
    }
    to_read = [key for key, in_memory in found.items() if in_memory is None]
    ids = scope_ids(tx, {(key.org, key.campaign, key.project) for key in to_read})
    for scope, scope_id in ids.items():
        wanted = [key for key in to_read if (key.org, key.campaign, key.project) == scope]
        documents = read_documents(tx, scope_id, [key.gufe_key for key in wanted])
        found |= {key: gufe_adapter.decode(key.gufe_key, documents) for key in wanted}
    return found
