"""Documents that differ from those stored under their keys: which one is right."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import uuids
from alchemistore.errors import (
    DamagedDocumentError,
    DocumentConflictError,
    DocumentConflictWarning,
    DocumentNotBuildableError,
)
from alchemistore.models.clock import now
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.models.text import is_text
from alchemistore.operations.documents import (
    BinaryArray,
    insert_documents,
    read_documents,
)

log = logging.getLogger(__name__)

# The writer of documents that are stored as a graph of Neo4j has them, because they could not be
# built. They give way to any document for which gufe computes their key, which is no conflict.
AS_FOUND = "a graph of alchemiscale"

# The server compares digests, so that only documents that differ are sent and parsed. Both answers
# are lists of tokens as text, because a row for each document takes several times as long to read.
COMPARE_DOCUMENTS = text("""
    SELECT
        string_agg(hex, ',') FILTER (WHERE same) AS same,
        string_agg(hex, ',') FILTER (WHERE NOT same) AS different
    FROM (
        SELECT new.hex, sha256(o.document) = new.digest AND o.kind = new.kind AS same
        FROM unnest(CAST(:tokens AS text[]), CAST(:kinds AS text[]), CAST(:digests AS bytea[]))
            AS new (hex, kind, digest)
        JOIN gufe_objects AS o ON o.scope_id = :scope_id AND o.token = CAST(new.hex AS uuid)
    ) AS compared
""")
LOCK_CONTESTED = text("""
    SELECT token, kind, document, writer FROM gufe_objects
    WHERE scope_id = :scope_id AND token = ANY(CAST(:tokens AS uuid[]))
    ORDER BY token
    FOR NO KEY UPDATE
""")
REPLACE_DOCUMENT = text("""
    UPDATE gufe_objects
    SET document = :document, children = CAST(:children AS uuid[]), writer = :writer
    WHERE scope_id = :scope_id AND token = :token
""")
KEEP_BOTH = text("""
    INSERT INTO document_conflicts (
        scope_id, token, kind, document, writer, other_document, other_writer, replaced, difference,
        created_at
    )
    VALUES (
        :scope_id, :token, :kind, :document, :writer, :other_document, :other_writer, :replaced,
        :difference, :now
    )
""")


class Stored(NamedTuple):
    """The documents that were added, and those that took the place of wrong ones."""

    added: bool
    replaced: list[gufe_adapter.Document]


def store_documents(
    tx: Connection,
    scope_id: int,
    documents: Sequence[gufe_adapter.Document],
    *,
    compare: bool = False,
    written_by: str | None = None,
) -> Stored:
    """Store documents, and compare them with those that are stored under their keys.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    scope_id : int
        Id of the scope.
    documents : sequence of Document
        The documents, children first.
    compare : bool, default False
        Expect that many of the documents are stored, and do not send those again.
    written_by : str, optional
        The versions of the packages that wrote the documents. Default: the installed ones.

    Returns
    -------
    Stored
        Whether documents were added, and those that took the place of wrong ones.

    Raises
    ------
    DocumentConflictError
        If a document differs from the one that is stored under its key, and is not known to be
        right; or if its key has the token of another object.

    Warns
    -----
    DocumentConflictWarning
        If a stored document differs and stays, because another version wrote it.
    """
    require_writer(written_by)
    writer = gufe_adapter.writer_versions() if written_by is None else written_by
    by_token: dict[str, gufe_adapter.Document] = {}
    for document in documents:
        other = by_token.setdefault(document.key.token, document)
        if other is not document:
            raise DocumentConflictError(_same_token(document, other.key))
    known: set[str] = set()
    different: set[str] = set()
    if compare:
        known, different = _compare(tx, scope_id, documents)
    new = [document for document in documents if document.key.token not in known]
    added = {token.hex for token in insert_documents(tx, scope_id, new, writer)}
    if len(added) < len(new):
        # Another transaction stored them meanwhile, or they were not compared.
        others = [document for document in new if document.key.token not in added]
        different |= _compare(tx, scope_id, others)[1]
    contested = [document for document in documents if document.key.token in different]
    replaced = _resolve(tx, scope_id, contested, documents, written_by) if contested else []
    return Stored(bool(added), replaced)


def require_writer(written_by: str | None) -> None:
    """Raise a ValueError if this cannot be the name of a version."""
    if written_by is not None and not (written_by.strip() and is_text(written_by)):
        raise ValueError(f"written_by={written_by!r:.200}: expected text such as 'gufe 1.9.0'")


def _same_token(document: gufe_adapter.Document, other: str) -> str:
    return (
        f"{document.key} has the token of {other}, another object, so it cannot be stored;"
        " use the keys that gufe computes"
    )


def _compare(
    tx: Connection, scope_id: int, documents: Sequence[gufe_adapter.Document]
) -> tuple[set[str], set[str]]:
    """Return the tokens of the documents that are stored, and of those stored differently."""
    row = tx.execute(
        COMPARE_DOCUMENTS,
        {
            "scope_id": scope_id,
            "tokens": "{" + ",".join(document.key.token for document in documents) + "}",
            "kinds": BinaryArray(document.key.qualname for document in documents),
            "digests": BinaryArray(hashlib.sha256(one.data).digest() for one in documents),
        },
    ).one()
    same, different = (set(tokens.split(",")) if tokens else set() for tokens in row)
    return same | different, different


def _resolve(
    tx: Connection,
    scope_id: int,
    contested: Sequence[gufe_adapter.Document],
    documents: Iterable[gufe_adapter.Document],
    written_by: str | None,
) -> list[gufe_adapter.Document]:
    """Decide for each contested document which one is right; return those that are replaced."""
    tokens = uuids(document.key for document in contested)
    rows = tx.execute(LOCK_CONTESTED, {"scope_id": scope_id, "tokens": tokens})
    stored = {row.token: row for row in rows}
    for document in contested:
        row = stored[UUID(hex=document.key.token)]
        if row.kind != document.key.qualname:
            raise DocumentConflictError(_same_token(document, f"{row.kind}-{row.token.hex}"))
    new = {str(document.key): document.data for document in documents}
    # The right documents, as far as they are known: a parent is judged with the right children.
    right = read_documents(
        tx, scope_id, [key for one in contested for key in (one.key, *one.children)]
    )
    right = {**new, **right}
    # Keeps parts that several documents share in memory, so that they are built once.
    built: list[GufeTokenizable] = []
    replaced = []
    for document in contested:
        row = stored[UUID(hex=document.key.token)]
        if row.writer == AS_FOUND and _is_right(document.key, document.data, right, built):
            _put(tx, scope_id, document, written_by or gufe_adapter.writer_versions())
            right[str(document.key)] = document.data
            replaced.append(document)
            continue
        if written_by == AS_FOUND != row.writer:
            continue
        difference = first_difference(_plain(row.document), document.content)
        if difference is None:
            continue
        old_is_right = _is_right(document.key, row.document, right, built)
        new_is_right = _is_right(document.key, document.data, right, built)
        if new_is_right and not old_is_right:
            _replace(tx, scope_id, document, row, difference, written_by)
            right[str(document.key)] = document.data
            replaced.append(document)
        elif new_is_right or (
            not old_is_right and gufe_adapter.is_other_version(written_by, row.writer)
        ):
            _keep_first(tx, scope_id, document, row, difference, written_by)
        else:
            raise DocumentConflictError(
                f"{document.key} is stored with another content: {difference}."
                + (
                    " The key of the stored document is right, so this one was changed; use the"
                    " key that gufe computes for it"
                    if old_is_right
                    else f" The installed packages cannot tell which one is right. The stored one"
                    f" was written by {row.writer}; if another version wrote this one, name it with"
                    " written_by= to keep the stored one"
                )
            )
    return replaced


def _is_right(
    key: str, document: bytes, others: Mapping[str, bytes], built: list[GufeTokenizable]
) -> bool:
    """Check whether the installed packages compute this key for a document."""
    try:
        built.append(gufe_adapter.rebuild(key, document, others))
    except (DocumentNotBuildableError, DamagedDocumentError) as error:
        log.info("the key of a document cannot be computed: %s", error)
        return False
    return bool(built[-1].key == key)


def _replace(
    tx: Connection,
    scope_id: int,
    document: gufe_adapter.Document,
    row: Row[Any],
    difference: str,
    written_by: str | None,
) -> None:
    writer = _record(tx, scope_id, document, row, difference, written_by, replaced=True)
    _put(tx, scope_id, document, writer)
    log.error(
        "%s was stored with a content that does not have this key (%s); the right document took its"
        " place, and document_conflicts keeps both",
        document.key,
        difference,
    )


def _put(tx: Connection, scope_id: int, document: gufe_adapter.Document, writer: str) -> None:
    """Store a document in the place of another."""
    tx.execute(
        REPLACE_DOCUMENT,
        {
            "scope_id": scope_id,
            "token": UUID(hex=document.key.token),
            "document": document.data,
            "children": uuids(document.children),
            "writer": writer,
        },
    )


def _keep_first(
    tx: Connection,
    scope_id: int,
    document: gufe_adapter.Document,
    row: Row[Any],
    difference: str,
    written_by: str | None,
) -> None:
    _record(tx, scope_id, document, row, difference, written_by, replaced=False)
    warnings.warn(
        f"{document.key} is stored with another content, which stays: {difference}."
        f" The stored document was written by {row.writer}",
        DocumentConflictWarning,
        stacklevel=2,
    )


def _record(
    tx: Connection,
    scope_id: int,
    document: gufe_adapter.Document,
    row: Row[Any],
    difference: str,
    written_by: str | None,
    *,
    replaced: bool,
) -> str:
    """Keep both documents for the operator; return the writer of the new one."""
    writer = written_by or gufe_adapter.writer_versions()
    tx.execute(
        KEEP_BOTH,
        {
            "scope_id": scope_id,
            "token": row.token,
            "kind": document.key.qualname,
            "document": row.document,
            "writer": row.writer,
            "other_document": document.data,
            "other_writer": writer,
            "replaced": replaced,
            "difference": difference,
            "now": now(),
        },
    )
    return writer


def _plain(document: bytes) -> Any:
    try:
        return gufe_adapter.plain(document)
    except ValueError as error:
        log.error("a stored document is damaged: %s", error)
        return None


def first_difference(stored: Any, new: Any, path: str = "") -> str | None:
    """Return the first path at which two JSON values differ, with both values.

    Returns
    -------
    str or None
        ASCII text; ``None`` if the values are the same JSON, apart from the order of the keys.
    """
    where = ascii(path)[1:-1] or "the document"
    if isinstance(stored, Mapping) and isinstance(new, Mapping):
        for name in sorted({*stored, *new}):
            below = f"{path}.{name}" if path else name
            if name not in stored or name not in new:
                which = "stored" if name in stored else "new"
                return f"only the {which} document has {ascii(below)[1:-1]}"
            found = first_difference(stored[name], new[name], below)
            if found is not None:
                return found
        return None
    if isinstance(stored, list) and isinstance(new, list):
        for index, pair in enumerate(zip(stored, new, strict=False)):
            found = first_difference(*pair, f"{path}[{index}]")
            if found is not None:
                return found
        if len(stored) != len(new):
            return (
                f"{where} has {len(stored)} items in the stored document, {len(new)} in the new one"
            )
        return None
    texts = [json.dumps(value) for value in (stored, new)]
    if texts[0] == texts[1]:
        return None
    old, other = (text if len(text) <= 100 else f"{text[:97]}..." for text in texts)
    return f"{where} is {old} in the stored document, {other} in the new one"
