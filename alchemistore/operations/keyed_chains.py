"""Keyed chains and documents: stored gufe objects as JSON, without building them.

These calls work without gufe, so a server can relay objects whose classes it does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import one_or_missing, parameters, parse_key
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import DamagedDocumentError, MissingObjectError
from alchemistore.models import GufeKey, ScopedKey
from alchemistore.operations.documents import ONE_OBJECT, PARTS, with_parts

RECORD_KINDS = ("Task", "TaskHub", "NetworkMark", "ProtocolDAGResultRef")

# The key is put together here, because reading many UUIDs takes longer.
CHAIN_OF_OBJECT = text(f"""
    {with_parts(ONE_OBJECT)}
    SELECT o.kind || '-' || replace(CAST(o.token AS text), '-', '') AS key, o.document {PARTS}
""")
DOCUMENT_OF_OBJECT = text(f"""
    SELECT document FROM gufe_objects
    WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind
""")


def get_keyed_chain(
    tx: Connection, scoped_key: ScopedKey | str
) -> list[tuple[GufeKey, dict[str, Any]]]:
    """Return a gufe object and everything it refers to as a keyed chain; nothing is built.

    Parameters
    ----------
    scoped_key : ScopedKey or str
        Key of any gufe object.

    Returns
    -------
    list of (GufeKey, dict)
        The parts of gufe's ``KeyedChain``: every object once, after those that it refers to, the
        object itself last. Objects whose order is open are sorted by key. The dicts hold JSON
        values only, as gufe's encoder writes them.

    Raises
    ------
    KeyError
        If there is no such object.
    ValueError
        If it is the key of a Task, a TaskHub, a NetworkMark or a ProtocolDAGResultRef.
    DamagedDocumentError
        If a document is damaged or missing.
    """
    key = _parse_object_key(scoped_key)
    # Looked up once, because the package imports gufe late.
    read = gufe_adapter.plain_with_references
    contents: dict[str, dict[str, Any]] = {}
    children: dict[str, tuple[str, ...]] = {}
    for name, document in tx.execute(CHAIN_OF_OBJECT, {**parameters(key), "kind": key.qualname}):
        try:
            contents[name], children[name] = read(document)
        except ValueError as error:
            raise _damaged(name, error) from error
    if not contents:
        raise MissingObjectError(key)
    return [(GufeKey(one), contents[one]) for one in _sorted(children)]


def _sorted(children: Mapping[str, Sequence[str]]) -> list[str]:
    """Return keys after their children; by key where that leaves the order open.

    Raises
    ------
    DamagedDocumentError
        If a child is missing, or objects refer to each other.
    """
    # How many objects are on the longest way down from each object.
    depths: dict[str, int] = {}
    begun = set()
    stack = list(children)
    while stack:
        one = stack[-1]
        if one in depths:
            stack.pop()
            continue
        deeper = [child for child in children[one] if child not in depths]
        if not deeper:
            depths[one] = 1 + max(map(depths.__getitem__, children[one]), default=0)
            stack.pop()
            continue
        if one in begun:
            raise DamagedDocumentError(
                f"{one} refers to itself, directly or not; run 'alchemistore database check'"
            )
        begun.add(one)
        for child in deeper:
            if child not in children:
                raise DamagedDocumentError(
                    f"{one} refers to {child}, which is not stored; run 'alchemistore database"
                    " check'"
                )
        stack += deeper
    return sorted(sorted(children), key=depths.__getitem__)


def get_document(tx: Connection, scoped_key: ScopedKey | str) -> str:
    """Return the document of one gufe object, exactly as it is stored.

    Parameters
    ----------
    scoped_key : ScopedKey or str
        Key of any gufe object.

    Returns
    -------
    str
        ASCII JSON, as gufe's encoder writes the keyed dict of the object. It refers to other
        objects by key; they have documents of their own.

    Raises
    ------
    KeyError
        If there is no such object.
    ValueError
        If it is the key of a Task, a TaskHub, a NetworkMark or a ProtocolDAGResultRef.
    DamagedDocumentError
        If the document is damaged.
    """
    key = _parse_object_key(scoped_key)
    row = one_or_missing(tx, DOCUMENT_OF_OBJECT, key, kind=key.qualname)
    try:
        return gufe_adapter.unpack(row.document)
    except ValueError as error:
        raise _damaged(key, error) from error


def _parse_object_key(scoped_key: ScopedKey | str) -> ScopedKey:
    key = parse_key(scoped_key)
    if key.qualname in RECORD_KINDS:
        raise ValueError(
            f"{key} is the key of a {key.qualname}, which is not a gufe object; use get_gufe"
        )
    return key


def _damaged(key: object, error: ValueError) -> DamagedDocumentError:
    return DamagedDocumentError(
        f"{key}: {error}; restore it from a backup, or run 'alchemistore database check'"
    )
