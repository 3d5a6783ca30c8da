"""Documents and their keys. This module works without gufe."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

from alchemistore.gufe_adapter.codec import pack, parse, unpack
from alchemistore.models.keys import GUFE_KEY_MAX, GufeKey
from alchemistore.models.text import check_length

# A reference to another object is a dict with this one entry.
REFERENCE = ":gufe-key:"

_KEY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*-[0-9a-f]{32}")


class Document(NamedTuple):
    """The stored form of one object.

    Attributes
    ----------
    key : GufeKey
        ``<class>-<32 hex digits>``, under which the document is stored.
    text : str
        The document as ASCII JSON.
    children : tuple of GufeKey
        The distinct keys that the document refers to, in order of first appearance.
    content : mapping
        The document before it was written as text; names and references can be read from it.
    """

    key: GufeKey
    text: str
    children: tuple[GufeKey, ...]
    content: Mapping[str, Any]

    @property
    def data(self) -> bytes:
        """The document in the byte format; packed on each access."""
        return pack(self.text)


def parse_key(text: object) -> GufeKey:
    """Return a text as the key of a storable object.

    Raises
    ------
    ValueError
        If the text is not of the form ``<class>-<32 hex digits>``.
    """
    if not isinstance(text, str):
        raise _no_key(text)
    return _parse_key(text)


# The members of a network are referred to again and again.
@lru_cache(maxsize=2**14)
def _parse_key(text: str) -> GufeKey:
    if not _KEY.fullmatch(text):
        raise _no_key(text)
    # The check of other texts takes three times as long as all else.
    if not text.isascii() or len(text) > GUFE_KEY_MAX:
        check_length("the key", text, GUFE_KEY_MAX)
    return GufeKey(text)


def _no_key(text: object) -> ValueError:
    hint = (
        "; objects of a class defined inside a function cannot be stored"
        if isinstance(text, str) and "<locals>" in text
        else ""
    )
    return ValueError(
        f"{text!r:.200} is not the key of a gufe object: expected '<class>-<32 hex digits>'{hint}"
    )


def references(content: Any) -> list[GufeKey]:
    """Return the distinct keys that a document refers to, in order of first appearance."""
    found: dict[GufeKey, None] = {}
    stack = [content]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if REFERENCE in value:
                found[GufeKey(value[REFERENCE])] = None
            else:
                stack.extend(reversed(value.values()))
        elif isinstance(value, list):
            stack.extend(reversed(value))
    return list(found)


def plain_documents(keys: Sequence[str], documents: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return stored documents as plain JSON.

    Raises
    ------
    ValueError
        If a document is damaged. The message names its key.
    """
    try:
        return _parse_all([unpack(data) for data in documents])
    except ValueError:
        return [_parse_one(key, data) for key, data in zip(keys, documents, strict=True)]


def _parse_all(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Parse documents as one long text, in little more than half the time of many short ones."""
    # Stands between two documents, so that the rest of a damaged document cannot pass as the
    # beginning of another.
    between = secrets.token_hex(8)
    parsed = parse("[" + f',"{between}",'.join(texts) + "]")
    found = parsed[::2]
    if len(found) != len(texts) or not set(map(type, found)) <= {dict}:
        raise ValueError("a document is damaged")
    if parsed[1::2] != [between] * (len(found) - 1):
        raise ValueError("a document is damaged")
    return cast(list[dict[str, Any]], found)


def _parse_one(key: str, data: bytes) -> dict[str, Any]:
    try:
        document = parse(unpack(data))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(
            f"{key}: the document is not that of a gufe object: it is not a JSON object"
        )
    return document


def in_order(root: GufeKey, written: Mapping[GufeKey, Document]) -> list[Document]:
    """Return the documents reachable from `root`, children first.

    References to keys that are not in `written` are ignored.

    Raises
    ------
    ValueError
        If an object contains itself.
    """
    ordered: dict[GufeKey, Document] = {}
    open_: dict[GufeKey, Iterator[GufeKey]] = (
        {root: iter(written[root].children)} if root in written else {}
    )
    while open_:
        key, children = next(reversed(open_.items()))
        for child in children:
            if child in open_:
                raise ValueError(f"{child} contains itself")
            if child in written and child not in ordered:
                open_[child] = iter(written[child].children)
                break
        else:
            ordered[key] = written[key]
            del open_[key]
    return list(ordered.values())


def check_kind(key: str, content: Any) -> None:
    """Check that a document matches its key.

    Raises
    ------
    ValueError
        If the document does not name its class, is of another class, or contains another key.
    """
    if not isinstance(content, dict) or not all(
        isinstance(content.get(n), str) for n in ("__module__", "__qualname__")
    ):
        raise ValueError(
            f"{key}: the document is not that of a gufe object: it does not name its class"
        )
    if content["__qualname__"] != key.partition("-")[0]:
        raise ValueError(f"{key}: the document is of another class, {content['__qualname__']}")
    if "_key" in content and content["_key"] != key:
        raise ValueError(f"{key}: the document contains another key, {content['_key']!r:.200}")


def key_of_result(text: bytes | str) -> str | None:
    """Return the key of a result in either form, without building an object.

    Raises
    ------
    ValueError
        If the text is not the JSON of a gufe object.
    """
    value = parse(text)
    if isinstance(value, list) and value and isinstance(value[-1], list) and len(value[-1]) == 2:
        key, content = value[-1]
        check_kind(parse_key(key), content)
    elif isinstance(value, dict):
        # gufe writes no key into the nested form of some objects.
        key = value.get("_key")
        content = value
        check_kind(key if isinstance(key, str) else f"{value.get('__qualname__')}-", content)
    else:
        raise ValueError("the text is neither a keyed chain nor the dict of a gufe object")
    if "protocol_unit_results" not in content:
        raise ValueError(f"it is a {content['__qualname__']}, not a ProtocolDAGResult")
    return None if key is None else str(key)
