"""Objects of any kind under their keys: gufe objects, tasks, hubs, marks and references."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import gufe_token, keys_of, parameters, parse_key, scope_parameters
from alchemistore.database.sql import IN_SCOPE, SCOPE_ID
from alchemistore.errors import MissingObjectError, StateStoreError
from alchemistore.models import (
    GufeKey,
    NetworkMark,
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    Task,
    TaskHub,
)
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.operations.documents import DOCUMENT_EXISTS, read_object
from alchemistore.operations.network_marks import read_mark
from alchemistore.operations.results import read_result
from alchemistore.operations.taskhubs import read_taskhub
from alchemistore.operations.tasks import read_task


class Record(NamedTuple):
    """A kind of object that is a row of its own table, not a gufe object."""

    table: str
    read: Callable[[Connection, ScopedKey], Task | TaskHub | NetworkMark | ProtocolDAGResultRef]


RECORDS = {
    "Task": Record("tasks", read_task),
    "TaskHub": Record("taskhubs", read_taskhub),
    "NetworkMark": Record("network_marks", read_mark),
    "ProtocolDAGResultRef": Record("results", read_result),
}

RECORD_EXISTS = {
    kind: text(f"SELECT 1 FROM {record.table} WHERE scope_id = {SCOPE_ID} AND token = :token")
    for kind, record in RECORDS.items()
}
FIND_OBJECT = text(f"""
    SELECT o.kind, o.token, s.org, s.campaign, s.project
    FROM gufe_objects AS o JOIN scopes AS s ON s.id = o.scope_id
    WHERE o.token = :token AND o.kind = :kind AND {IN_SCOPE}
    ORDER BY s.org, s.campaign, s.project
""")
FIND_RECORD = {
    kind: text(f"""
        SELECT '{kind}' AS kind, o.token, s.org, s.campaign, s.project
        FROM {record.table} AS o JOIN scopes AS s ON s.id = o.scope_id
        WHERE o.token = :token AND {IN_SCOPE}
        ORDER BY s.org, s.campaign, s.project
    """)
    for kind, record in RECORDS.items()
}


def get_gufe(tx: Connection, scoped_key: ScopedKey | str) -> GufeTokenizable:
    """Return the object stored under a key.

    Parameters
    ----------
    scoped_key : ScopedKey or str
        Key of any gufe object, or of a Task, a TaskHub, a NetworkMark or a ProtocolDAGResultRef.

    Returns
    -------
    GufeTokenizable, Task, TaskHub, NetworkMark or ProtocolDAGResultRef
        A gufe object that is in memory is returned as it is; others are decoded. Tasks, hubs,
        marks and references are read from the database each time.

    Raises
    ------
    KeyError
        If there is no such object.
    GufeNotInstalledError
        If the key is that of a gufe object and gufe is not installed.
    """
    key = parse_key(scoped_key)
    record = RECORDS.get(key.qualname)
    return read_object(tx, key) if record is None else record.read(tx, key)


def get_scoped_key(tx: Connection, obj: GufeTokenizable, scope: Scope | str) -> ScopedKey:
    """Return the key under which an object is stored.

    Parameters
    ----------
    obj : GufeTokenizable, Task, TaskHub, NetworkMark or ProtocolDAGResultRef
        The object.
    scope : Scope or str
        The scope to search; open components match anything.

    Returns
    -------
    ScopedKey
        Its key.

    Raises
    ------
    KeyError
        If it is not stored in the scope.
    StateStoreError
        If it is stored in several scopes that match.
    """
    record = isinstance(obj, Task | TaskHub | NetworkMark | ProtocolDAGResultRef)
    key = GufeKey(obj.key) if record else gufe_adapter.key_of(obj)
    found = keys_of(
        tx.execute(
            FIND_RECORD.get(key.qualname, FIND_OBJECT),
            {**scope_parameters(scope), "token": gufe_token(key), "kind": key.qualname},
        )
    )
    if not found:
        raise MissingObjectError(f"{key} in scope {scope}")
    if len(found) > 1:
        scopes = ", ".join(str(one.scope) for one in found)
        raise StateStoreError(f"{key} is stored in several scopes: {scopes}; name one of them")
    return found[0]


def check_existence(tx: Connection, scoped_key: ScopedKey | str) -> bool:
    """Check whether an object is stored under a key.

    Parameters
    ----------
    scoped_key : ScopedKey or str
        Key of any gufe object, or of a Task, a TaskHub, a NetworkMark or a ProtocolDAGResultRef.
    """
    key = parse_key(scoped_key)
    statement = RECORD_EXISTS.get(key.qualname, DOCUMENT_EXISTS)
    return tx.execute(statement, {**parameters(key), "kind": key.qualname}).first() is not None
