"""gufe objects as documents: stored once per scope, read back as objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any, cast

import psycopg
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import Connection, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import (
    gufe_token,
    keys_of,
    one_or_missing,
    parameters,
    parse_key,
    scope_ids,
    scope_parameters,
)
from alchemistore.database.sql import IN_SCOPE, SCOPE_ID
from alchemistore.errors import MissingObjectError, StateStoreError
from alchemistore.models import GufeKey, ProtocolDAGResultRef, Scope, ScopedKey, Task, TaskHub
from alchemistore.models.clock import now

# The kinds that are records of ours, not gufe objects, and the tables they live in.
RECORDS = {"Task": "tasks", "TaskHub": "taskhubs", "ProtocolDAGResultRef": "results"}

ADD_SCOPE = text("""
    INSERT INTO scopes (org, campaign, project, created_at) VALUES (:org, :campaign, :project, :now)
    ON CONFLICT DO NOTHING
    RETURNING id
""")
SCOPE = text(
    "SELECT id FROM scopes WHERE org = :org AND campaign = :campaign AND project = :project"
)

STORED = text(
    "SELECT kind, token FROM gufe_objects WHERE scope_id = :scope_id AND token = ANY(CAST(:tokens AS uuid[]))"
)

# In the order of the keys: two that store the same objects wait for each other at most, and never in a circle.
STORE = text("""
    INSERT INTO gufe_objects (scope_id, token, kind, document, children, writer, created_at)
    SELECT :scope_id, token, kind, document, CAST(children AS uuid[]), :writer, :now
    FROM unnest(CAST(:tokens AS uuid[]), CAST(:kinds AS text[]), CAST(:documents AS bytea[]), CAST(:children AS text[]))
        AS new (token, kind, document, children)
    ORDER BY token
    ON CONFLICT DO NOTHING
""")

EXISTS = text(
    f"SELECT 1 FROM gufe_objects WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind"
)
RECORD_EXISTS = {
    kind: text(f"SELECT 1 FROM {table} WHERE scope_id = {SCOPE_ID} AND token = :token")
    for kind, table in RECORDS.items()
}

# Of several objects of a scope, with everything they refer to.
CLOSURES = text("""
    WITH RECURSIVE closure (token) AS (
        SELECT unnest(CAST(:tokens AS uuid[]))
        UNION
        SELECT child.token FROM closure
        JOIN gufe_objects AS o ON o.scope_id = :scope_id AND o.token = closure.token
        CROSS JOIN LATERAL unnest(o.children) AS child (token)
    )
    SELECT o.kind, o.token, o.document FROM closure JOIN gufe_objects AS o ON o.scope_id = :scope_id AND o.token = closure.token
""")
CLOSURE = text(f"""
    WITH RECURSIVE root AS MATERIALIZED (
        SELECT scope_id, token FROM gufe_objects WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind
    ),
    closure (scope_id, token) AS (
        SELECT scope_id, token FROM root
        UNION
        SELECT o.scope_id, child.token FROM closure
        JOIN gufe_objects AS o USING (scope_id, token)
        CROSS JOIN LATERAL unnest(o.children) AS child (token)
    )
    SELECT o.kind, o.token, o.document FROM closure JOIN gufe_objects AS o USING (scope_id, token)
""")

FIND = {
    kind: text(f"""
        SELECT {f"'{kind}'" if kind else "o.kind"} AS kind, o.token, s.org, s.campaign, s.project
        FROM {table} AS o JOIN scopes AS s ON s.id = o.scope_id
        WHERE o.token = :token {"" if kind else "AND o.kind = :kind"} AND {IN_SCOPE}
        ORDER BY s.org, s.campaign, s.project
    """)
    for kind, table in [*RECORDS.items(), ("", "gufe_objects")]
}

READ_TASK = text(f"""
    SELECT t.status, t.priority, t.created_at, t.creator, e.parent, c.service
    FROM tasks AS t
    LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    LEFT JOIN claims AS c ON c.scope_id = t.scope_id AND c.task = t.token
    WHERE t.scope_id = {SCOPE_ID} AND t.token = :token
""")
READ_TASKHUB = text(f"""
    SELECT n.kind, h.network, h.weight
    FROM taskhubs AS h JOIN networks AS n ON n.scope_id = h.scope_id AND n.token = h.network
    WHERE h.scope_id = {SCOPE_ID} AND h.token = :token
""")
READ_RESULT = text(f"""
    SELECT obj_key, location, scope, ok, creator, datetime_created
    FROM results WHERE scope_id = {SCOPE_ID} AND token = :token
""")


class BinaryArray(list[Any]):
    """A list that psycopg sends in binary; as text, documents are twice as long, and take ten times as long to write."""


psycopg.adapters.register_dumper(BinaryArray, ListBinaryDumper)


def uuids(keys: Iterable[GufeKey]) -> str:
    """Write the tokens of keys as an array, without the detour through objects of `UUID`."""
    return "{" + ",".join([key[-32:] for key in keys]) + "}"


def add_scope(tx: Connection, scope: Scope) -> int:
    """Give the id of a specific scope, adding it if it is new."""
    values = {**scope_parameters(scope), "now": now()}
    # Found, or added, or added by somebody else in between.
    tries = (tx.scalar(statement, values) for statement in (SCOPE, ADD_SCOPE, SCOPE))
    return cast(int, next(scope_id for scope_id in tries if scope_id is not None))


def stored(tx: Connection, scope_id: int, keys: Set[GufeKey]) -> Set[GufeKey]:
    """Tell which of the keys the scope has already."""
    rows = tx.execute(STORED, {"scope_id": scope_id, "tokens": uuids(keys)})
    return {GufeKey(f"{row.kind}-{row.token.hex}") for row in rows} & keys


def store(tx: Connection, scope_id: int, documents: Sequence[gufe_adapter.Document]) -> None:
    """Store documents; those that are there already stay as they are."""
    if not documents:
        return
    tx.execute(
        STORE,
        {
            "scope_id": scope_id,
            "tokens": uuids(document.key for document in documents),
            "kinds": BinaryArray(document.key.qualname for document in documents),
            "documents": BinaryArray(document.data for document in documents),
            "children": BinaryArray(uuids(document.children) for document in documents),
            "writer": gufe_adapter.writer_versions(),
            "now": now(),
        },
    )


def get_gufe(tx: Connection, scoped_key: ScopedKey | str) -> Any:
    """Give the object stored under a key.

    Parameters
    ----------
    scoped_key : ScopedKey or str
        Key of any gufe object, or of a Task, a TaskHub or a ProtocolDAGResultRef.

    Returns
    -------
    GufeTokenizable, Task, TaskHub or ProtocolDAGResultRef
        A gufe object that is alive in memory is given as it is; others are decoded. Records are read afresh each time.

    Raises
    ------
    KeyError
        If there is no such object.
    """
    key = parse_key(scoped_key)
    if key.qualname in RECORDS:
        return _READERS[key.qualname](tx, key)
    alive = gufe_adapter.cached(key.gufe_key)
    if alive is not None:
        one_or_missing(tx, EXISTS, key, kind=key.qualname)
        return alive
    rows = tx.execute(CLOSURE, {**parameters(key), "kind": key.qualname}).all()
    if not rows:
        raise MissingObjectError(key)
    return gufe_adapter.decode(
        key.gufe_key, {f"{row.kind}-{row.token.hex}": row.document for row in rows}
    )


def get_objects(tx: Connection, keys: Sequence[ScopedKey]) -> dict[ScopedKey, Any]:
    """Give the gufe objects stored under keys, one statement for each scope; all of them must exist."""
    found: dict[ScopedKey, Any] = {key: gufe_adapter.cached(key.gufe_key) for key in keys}
    dead = [key for key, alive in found.items() if alive is None]
    ids = scope_ids(tx, {(key.org, key.campaign, key.project) for key in dead})
    for scope, scope_id in ids.items():
        wanted = [key for key in dead if (key.org, key.campaign, key.project) == scope]
        rows = tx.execute(CLOSURES, {"scope_id": scope_id, "tokens": [key.token for key in wanted]})
        documents = {f"{row.kind}-{row.token.hex}": row.document for row in rows}
        found |= {key: gufe_adapter.decode(key.gufe_key, documents) for key in wanted}
    return found


def read_task(tx: Connection, key: ScopedKey) -> Task:
    """Give a task as it is now."""
    row = one_or_missing(tx, READ_TASK, key)
    return Task(
        status=row.status,
        priority=row.priority,
        datetime_created=row.created_at,
        creator=row.creator,
        extends=None
        if row.parent is None
        else str(ScopedKey.from_parts("Task", row.parent, key.org, key.campaign, key.project)),
        claim=row.service,
        key=key.gufe_key,
    )


def read_taskhub(tx: Connection, key: ScopedKey) -> TaskHub:
    """Give a hub as it is now."""
    row = one_or_missing(tx, READ_TASKHUB, key)
    network = ScopedKey.from_parts(row.kind, row.network, key.org, key.campaign, key.project)
    return TaskHub(network=str(network), weight=row.weight)


def read_result(tx: Connection, key: ScopedKey) -> ProtocolDAGResultRef:
    """Give a reference to a result."""
    row = one_or_missing(tx, READ_RESULT, key)
    return ProtocolDAGResultRef(**row._mapping)


_READERS = {"Task": read_task, "TaskHub": read_taskhub, "ProtocolDAGResultRef": read_result}


def get_scoped_key(tx: Connection, obj: Any, scope: Scope | str) -> ScopedKey:
    """Give the key under which an object is stored.

    Parameters
    ----------
    obj : GufeTokenizable, Task, TaskHub or ProtocolDAGResultRef
        The object.
    scope : Scope or str
        Where to look; open components match anything.

    Raises
    ------
    KeyError
        If it is not stored there.
    StateStoreError
        If it is stored in several scopes that match.
    """
    key = (
        GufeKey(obj.key)
        if isinstance(obj, Task | TaskHub | ProtocolDAGResultRef)
        else gufe_adapter.key_of(obj)
    )
    statement = FIND[key.qualname if key.qualname in RECORDS else ""]
    found = keys_of(
        tx.execute(
            statement, {**scope_parameters(scope), "token": gufe_token(key), "kind": key.qualname}
        )
    )
    if not found:
        raise MissingObjectError(f"{key} in scope {scope}")
    if len(found) > 1:
        raise StateStoreError(
            f"{key} is stored in several scopes: {', '.join(str(one.scope) for one in found)}; name one of them"
        )
    return found[0]


def check_existence(tx: Connection, scoped_key: ScopedKey | str) -> bool:
    """Tell whether an object is stored under a key."""
    key = parse_key(scoped_key)
    statement = RECORD_EXISTS.get(key.qualname, EXISTS)
    return tx.execute(statement, {**parameters(key), "kind": key.qualname}).first() is not None
