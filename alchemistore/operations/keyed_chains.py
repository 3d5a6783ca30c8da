"""Keyed chains and documents: stored gufe objects as JSON, without building them.

These calls work without gufe, so a server can relay objects whose classes it does not have.
"""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import Any

from sqlalchemy import Connection, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import one_or_missing, parameters, parse_key
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import DamagedDocumentError, MissingObjectError
from alchemistore.models import GufeKey, ScopedKey
from alchemistore.operations.documents import DOCUMENTS_OF_OBJECT

RECORD_KINDS = ("Task", "TaskHub", "NetworkMark", "ProtocolDAGResultRef")

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
    rows = tx.execute(DOCUMENTS_OF_OBJECT, {**parameters(key), "kind": key.qualname}).all()
    if not rows:
        raise MissingObjectError(key)
    contents = {
        GufeKey(f"{row.kind}-{row.token.hex}"): _readable(
            f"{row.kind}-{row.token.hex}", row.document
        )
        for row in rows
    }
    sorter: TopologicalSorter[GufeKey] = TopologicalSorter(
        {one: _children(one, content, contents) for one, content in contents.items()}
    )
    sorter.prepare()
    chain = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        chain += [(one, contents[one]) for one in ready]
        sorter.done(*ready)
    return chain


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


def _readable(key: str, document: bytes) -> dict[str, Any]:
    try:
        return gufe_adapter.plain(document)
    except ValueError as error:
        raise _damaged(key, error) from error


def _children(
    key: str, content: dict[str, Any], stored: dict[GufeKey, dict[str, Any]]
) -> list[GufeKey]:
    children = gufe_adapter.references(content)
    for child in children:
        if child not in stored:
            raise DamagedDocumentError(
                f"{key} refers to {child}, which is not stored; run 'alchemistore database check'"
            )
    return children


def _damaged(key: object, error: ValueError) -> DamagedDocumentError:
    return DamagedDocumentError(
        f"{key}: {error}; restore it from a backup, or run 'alchemistore database check'"
    )
