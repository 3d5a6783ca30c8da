"""The byte format of documents: one format byte, then ASCII JSON, compressed when that pays.

Documents are opaque to the database. ``jsonb`` would refuse NUL and NaN, which occur in almost every object, and change ``1e22``
and ``-0.0``, which changes content that is addressed by its hash.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import zstandard
from gufe.tokenization import JSON_HANDLER

RAW = b"\x00"
ZSTD = b"\x01"

COMPRESS_FROM = 1024
LEVEL = 3
# What a document may unpack to, in bytes; the frame header is asked before anything is unpacked.
UNPACKED_MAX = 512 * 2**20

# Everything that gufe's codecs write carries this mark, so a text without it needs no codec.
CUSTOM = ":is_custom:"

# What encoders and codecs raise for values they cannot take.
VALUE_ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


def to_text(value: Any) -> str:
    """Write a value as ASCII JSON, with gufe's codecs for what JSON does not have.

    Raises
    ------
    ValueError
        For a value that neither JSON nor gufe's codecs can write.
    """
    try:
        return _encoder(JSON_HANDLER.encoder).encode(value)
    except VALUE_ERRORS as error:
        raise ValueError(f"this cannot be written as JSON: {error}") from error


@cache
def _encoder(kind: type[json.JSONEncoder]) -> json.JSONEncoder:
    return kind()


def from_text(text: str) -> Any:
    """Read JSON and bring back what gufe's codecs wrote."""
    return parse(text, object_hook=revive if CUSTOM in text else None)


def parse(text: str | bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read JSON; a text that is not JSON, too deep or not readable by a codec is a :class:`ValueError`."""
    try:
        return json.loads(text, object_hook=object_hook)
    except VALUE_ERRORS as error:
        raise ValueError(f"not readable as JSON: {error}") from error


def pack(text: str) -> bytes:
    """Put ASCII text into the byte format."""
    data = text.encode("ascii")
    if len(data) < COMPRESS_FROM:
        return RAW + data
    return ZSTD + zstandard.ZstdCompressor(level=LEVEL).compress(data)


def unpack(data: bytes) -> str:
    """Take the text out of the byte format.

    Raises
    ------
    ValueError
        For an unknown format byte, and for data that is truncated, damaged or unpacks to too much.
    """
    form, body = bytes(data[:1]), data[1:]
    if form == ZSTD:
        size = frame_size(body)
        if size < 0:
            raise ValueError(
                "the document is truncated or damaged: its compressed part has no valid header"
            )
        # The library allocates what the header states before it looks at the data.
        if size > UNPACKED_MAX:
            raise ValueError(
                f"the document unpacks to {size} bytes; at most {UNPACKED_MAX} are allowed"
            )
        try:
            body = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ValueError(f"the document is truncated or damaged: {error}") from error
    elif form != RAW:
        raise ValueError(
            f"the document has an unknown format byte {form!r}; a newer alchemistore may have written it"
        )
    try:
        return str(body, "ascii")
    except UnicodeDecodeError as error:
        raise ValueError(f"the document is not ASCII JSON: {error}") from error


def frame_size(body: bytes) -> int:
    """Give the size to which a zstd frame says it unpacks; -1 if it does not say, or is not a frame."""
    try:
        return zstandard.frame_content_size(body)
    except zstandard.ZstdError:
        return -1


def dumps(value: Any) -> bytes:
    """Write a value in the byte format."""
    return pack(to_text(value))


def loads(data: bytes) -> Any:
    """Read what :func:`dumps` wrote, arrays, paths and units included."""
    return from_text(unpack(data))


def plain(data: bytes) -> dict[str, Any]:
    """Read a stored document as plain JSON: names and references, nothing brought to life."""
    document = parse(unpack(data))
    if not isinstance(document, dict):
        raise ValueError("the document is not an object of gufe: it is not a JSON object")
    return document


def revive(dct: dict[str, Any]) -> Any:
    """Bring back what a codec wrote as this dict; any other dict comes back as it is."""
    # gufe's own decoder looks at every dict, imports what a user's dict happens to name, and takes some for numpy scalars.
    if CUSTOM in dct:
        for codec in JSON_HANDLER.codecs:
            if codec.is_my_dict(dct):
                return codec.from_dict(dct)
    return dct
