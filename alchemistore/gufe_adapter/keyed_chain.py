"""Validate keyed chains from clients and convert them to documents without building objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from alchemistore.gufe_adapter.codec import CUSTOM, parse, to_text
from alchemistore.gufe_adapter.document import (
    REFERENCE,
    Document,
    check_kind,
    in_order,
    parse_key,
)
from alchemistore.gufe_adapter.screen import (
    UnsafeValueError,
    check_quantity,
    unpacked_max,
    unpacked_size,
)
from alchemistore.models.gufe import AlreadyStored
from alchemistore.models.keys import GufeKey

DOCUMENTS_MAX = 200_000
DOCUMENT_MAX = 64 * 2**20
DEPTH_MAX = 100

_ATOMS = frozenset({str, int, float, bool, type(None)})


class _LiveValueError(Exception):
    """A value that JSON does not have: the document comes from memory, not from a file."""


def read_chain(
    chain: Sequence[Sequence[Any]],
    already_stored: AlreadyStored | None = None,
    *,
    document_max: int | None = None,
) -> list[Document]:
    """Convert a keyed chain to documents.

    Parameters
    ----------
    chain : list of (key, keyed dict)
        As returned by gufe's ``to_keyed_chain`` or read from gufe's JSON files. The last pair is
        the root; the others may be in any order.
    already_stored : callable, optional
        Takes a set of keys and returns those that are stored already. It is called at most once.
        Only stored objects may be missing from the chain.
    document_max : int, default 64 MiB
        The largest size of the JSON of one document, in bytes.

    Returns
    -------
    list of Document
        Children first, the root last.

    Raises
    ------
    ValueError
        If it is not a keyed chain, is incomplete, inconsistent or too large, or is unsafe to
        decode.
    """
    root, written = _read_pairs(chain, DOCUMENT_MAX if document_max is None else document_max)
    ordered = in_order(root, written)
    outside = frozenset(
        child for document in ordered for child in document.children if child not in written
    )
    missing = outside - (already_stored(outside) if already_stored and outside else frozenset())
    if missing:
        raise ValueError(
            f"the chain refers to {_some(missing)}, which it does not contain"
            " and which is not stored; send the whole chain"
        )
    if len(ordered) < len(written):
        extra = written.keys() - {document.key for document in ordered}
        raise ValueError(
            f"the last object of the chain, {root}, does not refer to {_some(extra)};"
            " the last object must be the root"
        )
    return ordered


def _read_pairs(
    chain: Sequence[Sequence[Any]], document_max: int
) -> tuple[GufeKey, dict[GufeKey, Document]]:
    if not isinstance(chain, Sequence) or isinstance(chain, (str, bytes)) or not chain:
        raise ValueError("not a keyed chain: expected a non-empty list of [key, document] pairs")
    if len(chain) > DOCUMENTS_MAX:
        raise ValueError(
            f"the chain has {len(chain)} documents; at most {DOCUMENTS_MAX} are allowed"
        )
    written: dict[GufeKey, Document] = {}
    unpacked = total = 0
    for pair in chain:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(
                f"not a keyed chain: expected a [key, document] pair, got {type(pair).__name__}"
            )
        document, size = _read_document(parse_key(pair[0]), pair[1], document_max)
        unpacked, total = unpacked + size, total + len(document.text)
        if written.setdefault(document.key, document).text != document.text:
            raise ValueError(f"{document.key} is in the chain twice, with different documents")
    if unpacked > unpacked_max(total):
        raise UnsafeValueError(
            f"the bytes in the chain unpack to {unpacked} bytes;"
            f" at most {unpacked_max(total)} are allowed"
        )
    return document.key, written


def _read_document(key: GufeKey, content: Any, document_max: int) -> tuple[Document, int]:
    check_kind(key, content)
    children: dict[GufeKey, None] = {}
    try:
        try:
            unpacked = _walk(content, children, 0)
            text = to_text(content)
        except _LiveValueError:
            text = to_text(content)
            content = parse(text)
            unpacked = _walk(content, children, 0)
    except UnsafeValueError as error:
        raise UnsafeValueError(f"{key}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    if len(text) > document_max:
        raise ValueError(
            f"{key}: the document has {len(text)} bytes; at most {document_max} are allowed"
        )
    return Document(key, text, tuple(children), content), unpacked


def _walk(value: Any, children: dict[GufeKey, None], depth: int) -> int:
    """Collect the references in a JSON value; raise if the value is unsafe to decode.

    Return the size of the bytes that codecs will unpack from it.
    """
    unpacked = 0
    if depth > DEPTH_MAX:
        raise UnsafeValueError(f"the document is nested deeper than the allowed {DEPTH_MAX} levels")
    if type(value) is list:
        for item in value:
            if type(item) not in _ATOMS:
                unpacked += _walk(item, children, depth + 1)
    elif type(value) is dict:
        if REFERENCE in value:
            if len(value) > 1:
                raise ValueError(
                    f"a dict has {REFERENCE!r}, which marks references, and other keys as well"
                )
            children[parse_key(value[REFERENCE])] = None
            return 0
        if CUSTOM in value:
            unpacked += unpacked_size(value)
        if "ion_concentration" in value:
            check_quantity(value["ion_concentration"])
        for name, item in value.items():
            if type(name) is not str:
                raise _LiveValueError
            if type(item) not in _ATOMS:
                unpacked += _walk(item, children, depth + 1)
    elif not isinstance(value, str):
        raise _LiveValueError
    return unpacked


def _some(keys: Iterable[str]) -> str:
    first, *others = sorted(keys)
    return f"{first} and {len(others)} more" if others else first
