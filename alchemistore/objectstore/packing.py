"""The stored form of JSON: one zstd frame, or plain text as older deployments wrote it."""

from __future__ import annotations

import zstandard

from alchemistore.errors import S3ObjectStoreError

LEVEL = 3
MAGIC = zstandard.FRAME_HEADER
LIMIT = 2**32
# A zstd block can expand to 30,000 times its size, so the output is checked after each small slice.
SLICE = 4096


def pack(text: bytes) -> bytes:
    """Return compressed text; the frame contains the size and a checksum."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(text)


def is_packed(data: bytes) -> bool:
    """Check whether an object is compressed."""
    return data.startswith(MAGIC)


def unpack(data: bytes, location: str, limit: int = LIMIT) -> str:
    """Return the text of an object in either form.

    Parameters
    ----------
    data : bytes
        The object.
    location : str
        The location of the object, for errors.
    limit : int, default 2**32
        The largest size of the text, in bytes.

    Raises
    ------
    S3ObjectStoreError
        If the object is truncated, damaged or too large.
    """
    try:
        return str(_decompressed(data, location, limit) if is_packed(data) else data, "utf-8")
    except (zstandard.ZstdError, UnicodeDecodeError) as error:
        raise damaged(location, str(error)) from error


def damaged(location: str, why: str) -> S3ObjectStoreError:
    """Return the error for an object that cannot be read."""
    return S3ObjectStoreError(
        f"object {location!r} cannot be read and may be truncated or damaged: {why};"
        " restore it from a backup or an older version of the object, or run its task again"
    )


def _decompressed(data: bytes, location: str, limit: int) -> bytearray:
    frame, text, view = zstandard.ZstdDecompressor().decompressobj(), bytearray(), memoryview(data)
    for start in range(0, len(data), SLICE):
        text += frame.decompress(view[start : start + SLICE])
        if len(text) > limit:
            raise S3ObjectStoreError(
                f"object {location!r} cannot be read: it unpacks to more than {limit} bytes"
            )
        if frame.eof:
            if frame.unused_data or start + SLICE < len(data):
                raise damaged(location, "other data follow the compressed text")
            return text
    raise damaged(location, "the compressed text ends too early")
