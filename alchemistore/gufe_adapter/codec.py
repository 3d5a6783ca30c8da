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

from alchemistore.gufe_adapter.modules import ClassNotAvailableError, load
from alchemistore.gufe_adapter.require import required
from alchemistore.gufe_adapter.screen import UNPACKED_MAX, frame_size, unpacked_max, unpacked_size

RAW = b"\x00"
ZSTD = b"\x01"

COMPRESS_FROM = 1024
LEVEL = 3

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


class UnreadableValueError(ValueError):
    """The JSON is intact, but the installed packages cannot read a value that a codec wrote."""


def from_text(text: str, reviver: Reviver | None = None) -> Any:
    """Parse JSON and restore the values that gufe's codecs wrote.

    Parameters
    ----------
    text : str
        The JSON.
    reviver : Reviver, optional
        Shared by several texts, to limit the size of the bytes unpacked from all of them.

    Raises
    ------
    ValueError
        If the text is not JSON, or is nested too deeply.
    UnreadableValueError
        If a codec cannot read a value that it wrote.
    """
    return parse(text, object_hook=(reviver or Reviver(len(text))) if CUSTOM in text else None)


def parse(text: str | bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Parse JSON.

    Raises
    ------
    ValueError
        If the text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, object_hook=object_hook)
    except UnreadableValueError:
        raise
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
    form, body = data[:1], data[1:]
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
            f"the document has the unknown format byte {bytes(form)!r};"
            " a newer version of alchemistore may have written it; upgrade alchemistore"
        )
    try:
        return str(body, "ascii")
    except UnicodeDecodeError as error:
        raise ValueError(f"the document is not ASCII JSON: {error}") from error


def dumps(value: Any) -> bytes:
    """Return a value in the byte format."""
    return pack(to_text(value))


def loads(data: bytes, reviver: Reviver | None = None) -> Any:
    """Return the value that :func:`dumps` wrote, including arrays, paths and units."""
    return from_text(unpack(data), reviver)


def plain(data: bytes) -> dict[str, Any]:
    """Return a stored document as plain JSON, without restoring values written by codecs."""
    document = parse(unpack(data))
    if not isinstance(document, dict):
        raise ValueError("the document is not that of a gufe object: it is not a JSON object")
    return document


class Reviver:
    """Restores the values that codecs wrote as dicts, while JSON is parsed.

    Parameters
    ----------
    size : int, default 0
        Size of the JSON, which limits the size of the bytes that are unpacked from it.
    """

    def __init__(self, size: int = 0) -> None:
        self.size = size
        self.unpacked = 0

    def allow(self, size: int) -> None:
        """Add the size of another document to the size of the JSON."""
        self.size += size

    def __call__(self, dct: dict[str, Any]) -> Any:
        """Return the value that a codec wrote as this dict; return any other dict unchanged.

        Raises
        ------
        UnreadableValueError
            If the installed packages cannot read the value, or reading it is not safe.
        """
        # gufe's own decoder inspects every dict: it imports modules that a user's dict happens to
        # name and mistakes some dicts for numpy scalars.
        if CUSTOM not in dct:
            return dct
        try:
            self.unpacked += unpacked_size(dct)
            limit = unpacked_max(self.size)
            if self.unpacked > limit:
                raise ValueError(f"the bytes in it unpack to more than the allowed {limit}")
            if "__module__" in dct and "__class__" in dct:
                load(dct["__module__"])
            for codec in _handler().codecs:
                if codec.is_my_dict(dct):
                    return codec.from_dict(dct)
        except ClassNotAvailableError as error:
            name = f"{dct['__module__']}.{dct['__class__']}"
            raise UnreadableValueError(f"a value of it is of the class {name}: {error}") from error
        # A codec runs the code of the class of the value, which may raise anything.
        except Exception as error:
            raise UnreadableValueError(
                f"a value of it cannot be read: {type(error).__name__}: {error}"
            ) from error
        return dct
