"""The byte format of documents: one format byte, then ASCII JSON, compressed if it is long.

The database treats documents as opaque bytes. ``jsonb`` rejects NUL and NaN, which occur in almost
every object. It also rewrites numbers such as ``1e22`` and ``-0.0``, which would change content
that is identified by its hash.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import zstandard

from alchemistore.gufe_adapter.require import required

RAW = b"\x00"
ZSTD = b"\x01"

COMPRESS_FROM = 1024
LEVEL = 3
# The largest unpacked size of a document, in bytes. The frame header is checked before unpacking.
UNPACKED_MAX = 512 * 2**20

# Everything that gufe's codecs write contains this mark, so a text without it needs no codec.
CUSTOM = ":is_custom:"

# Raised by encoders and codecs for values they do not support.
VALUE_ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


def to_text(value: Any) -> str:
    """Return a value as ASCII JSON; gufe's codecs write the types that JSON does not have.

    Raises
    ------
    ValueError
        If neither JSON nor gufe's codecs can write the value.
    """
    try:
        return _ENCODER.encode(value)
    except VALUE_ERRORS as error:
        raise ValueError(f"the value cannot be written as JSON: {error}") from error


def _write_custom(value: Any) -> Any:
    return _handler().encoder().default(value)


@cache
def _handler() -> Any:
    # Plain JSON needs no codec, so documents can be relayed without gufe.
    return required("gufe.tokenization").JSON_HANDLER


_ENCODER = json.JSONEncoder(default=_write_custom)


def from_text(text: str) -> Any:
    """Parse JSON and restore the values that gufe's codecs wrote."""
    return parse(text, object_hook=revive if CUSTOM in text else None)


def parse(text: str | bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Parse JSON.

    Raises
    ------
    ValueError
        If the text is not JSON, is nested too deeply, or cannot be read by a codec.
    """
    try:
        return json.loads(text, object_hook=object_hook)
    except VALUE_ERRORS as error:
        raise ValueError(f"not readable as JSON: {error}") from error


def pack(text: str) -> bytes:
    """Return ASCII text in the byte format."""
    data = text.encode("ascii")
    if len(data) < COMPRESS_FROM:
        return RAW + data
    return ZSTD + zstandard.ZstdCompressor(level=LEVEL).compress(data)


def unpack(data: bytes) -> str:
    """Return the text of data in the byte format.

    Raises
    ------
    ValueError
        If the format byte is unknown, or the data is truncated, damaged or too large unpacked.
    """
    form, body = bytes(data[:1]), data[1:]
    if form == ZSTD:
        size = frame_size(body)
        if size < 0:
            raise ValueError(
                "the document is truncated or damaged: the compressed part has no valid header"
            )
        # The library allocates the size stated in the header before it reads the data.
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
            f"the document has the unknown format byte {form!r};"
            " a newer version of alchemistore may have written it; upgrade alchemistore"
        )
    try:
        return str(body, "ascii")
    except UnicodeDecodeError as error:
        raise ValueError(f"the document is not ASCII JSON: {error}") from error


def frame_size(body: bytes) -> int:
    """Return the unpacked size stated in a zstd frame, in bytes.

    Returns
    -------
    int
        -1 if the frame states no size, or the data is not a frame.
    """
    try:
        return zstandard.frame_content_size(body)
    except zstandard.ZstdError:
        return -1


def dumps(value: Any) -> bytes:
    """Return a value in the byte format."""
    return pack(to_text(value))


def loads(data: bytes) -> Any:
    """Return the value that :func:`dumps` wrote, including arrays, paths and units."""
    return from_text(unpack(data))


def plain(data: bytes) -> dict[str, Any]:
    """Return a stored document as plain JSON, without restoring values written by codecs."""
    document = parse(unpack(data))
    if not isinstance(document, dict):
        raise ValueError("the document is not that of a gufe object: it is not a JSON object")
    return document


def revive(dct: dict[str, Any]) -> Any:
    """Return the value that a codec wrote as this dict; return any other dict unchanged."""
    # gufe's own decoder inspects every dict: it imports modules that a user's dict happens to name
    # and mistakes some dicts for numpy scalars.
    if CUSTOM in dct:
        for codec in _handler().codecs:
            if codec.is_my_dict(dct):
                return codec.from_dict(dct)
    return dct
