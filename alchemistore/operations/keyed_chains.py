"""Keyed chains and documents: stored gufe objects as JSON, without building them.

These calls work without gufe, so a server can relay objects whose classes it does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from sqlalchemy import Connection, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import array, one_or_missing, parameters, parse_key
from alchemistore.database.planner import FENCE
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import DamagedDocumentError
from alchemistore.models import GufeKey, ScopedKey
from alchemistore.operations.documents import DOCUMENT_EXISTS

RECORD_KINDS = ("Task", "TaskHub", "NetworkMark", "ProtocolDAGResultRef")

# With tokens and children as hexadecimal digits, because reading many UUIDs takes longer. The
# answer is binary, so that documents are not written as digits, too.
PARTS_OF_CHAIN = text(f"""
    SELECT encode(uuid_send(o.token), 'hex') AS token, o.kind, o.document,
        encode(array_send(o.children), 'hex') AS children
    FROM (SELECT {SCOPE_ID} AS scope_id, unnest(CAST(:tokens AS uuid[])) AS token) AS x
    -- Looks up each object by key.
    CROSS JOIN LATERAL (
        SELECT o.token, o.kind, o.document, o.children FROM gufe_objects AS o
        WHERE o.scope_id = x.scope_id AND o.token = x.token {FENCE}
    ) AS o
""").execution_options(binary=True)
# The digits of an array of UUIDs in PostgreSQL's binary format: five numbers of four bytes, then
# for each element its size in four bytes, and its 16 bytes.
_FIRST, _STRIDE, _DIGITS = 48, 40, 32
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
    one_or_missing(tx, DOCUMENT_EXISTS, key, kind=key.qualname)
    keys, documents, children = _read_parts(tx, key)
    order = sorted(keys, key=keys.__getitem__)
    order.sort(key=_depths(children).__getitem__)
    in_order = [GufeKey(keys[token]) for token in order]
    try:
        contents = gufe_adapter.plain_documents(in_order, [documents[token] for token in order])
    except ValueError as error:
        raise _damaged(error) from error
    return list(zip(in_order, contents, strict=True))


def _read_parts(
    tx: Connection, key: ScopedKey
) -> tuple[dict[str, str], dict[str, bytes], dict[str, tuple[str, ...]]]:
    """Return key, document and children of an object and of all that it refers to, by token.

    There is one statement for each level. A recursive statement takes three times as long, because
    it looks up objects one by one. There is one dict for each column, because the garbage collector
    looks again and again at every tuple, but not at those that contain only texts.
    """
    keys: dict[str, str] = {}
    documents: dict[str, bytes] = {}
    children: dict[str, tuple[str, ...]] = {}
    level = {key.gufe_key.token}
    while level:
        rows = tx.execute(PARTS_OF_CHAIN, {**parameters(key), "tokens": array(level)}).all()
        below = {token: _tokens(parts) for token, _, _, parts in rows}
        if lost := level - below.keys():
            # Objects that others refer to are never deleted.
            raise DamagedDocumentError(
                f"{key} refers to {min(lost)}, which is not stored; run 'alchemistore database"
                " check'"
            )
        keys |= {token: f"{kind}-{token}" for token, kind, _, _ in rows}
        documents |= {token: document for token, _, document, _ in rows}
        children |= below
        level = set(chain.from_iterable(below.values())) - keys.keys()
    return keys, documents, children


def _tokens(children: str) -> tuple[str, ...]:
    return tuple([children[i : i + _DIGITS] for i in range(_FIRST, len(children), _STRIDE)])


def _depths(children: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Return how many objects are on the longest way down from each object.

    Raises
    ------
    DamagedDocumentError
        If objects refer to each other.
    """
    depths: dict[str, int] = {}
    begun = set()
    # Objects that were read last come first. Most of them refer to nothing that is not known yet.
    stack = list(children)
    while stack:
        one = stack[-1]
        if one not in depths:
            below = children[one]
            try:
                depths[one] = 1 + max([depths[child] for child in below]) if below else 1
            except KeyError:
                if one in begun:
                    raise DamagedDocumentError(
                        f"{one} refers to itself, directly or not; run 'alchemistore database"
                        " check'"
                    ) from None
                begun.add(one)
                stack += [child for child in below if child not in depths]
                continue
        stack.pop()
    return depths


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
        raise _damaged(f"{key}: {error}") from error


def _parse_object_key(scoped_key: ScopedKey | str) -> ScopedKey:
    key = parse_key(scoped_key)
    if key.qualname in RECORD_KINDS:
        raise ValueError(
            f"{key} is the key of a {key.qualname}, which is not a gufe object; use get_gufe"
        )
    return key


def _damaged(reason: object) -> DamagedDocumentError:
    return DamagedDocumentError(
        f"{reason}; restore it from a backup, or run 'alchemistore database check'"
    )
