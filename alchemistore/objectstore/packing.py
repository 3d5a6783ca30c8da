"""The stored form of JSON: one zstd frame, or plain text as older deployments wrote it."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, cast

import zstandard

from alchemistore.errors import S3ObjectStoreError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LEVEL = 3
MAGIC = zstandard.FRAME_HEADER
LIMIT = 2**32
# A zstd block can expand to 30,000 times its size, so little is unpacked at a time.
SLICE = 1024
RESTORE = "restore it from a backup or an older version of the object, or run its task again"


class UnpackError(ValueError):
    """Bytes are not the complete stored form of a text."""


class TooLargeError(UnpackError):
    """The text is larger than allowed."""


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
    if not is_packed(data):
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise damaged(location, str(error)) from error
    unpacker, text = Unpacker(limit), bytearray()
    try:
        for piece in unpacker.feed(data):
            text += piece
        unpacker.finish()
        return str(text, "utf-8")
    except UnpackError as error:
        raise unreadable(location, error) from error


def damaged(location: str, why: str) -> S3ObjectStoreError:
    """Return the error for an object that cannot be read."""
    return S3ObjectStoreError(
        f"object {location!r} cannot be read and may be truncated or damaged: {why}; {RESTORE}"
    )


def unreadable(location: str, error: UnpackError) -> S3ObjectStoreError:
    """Return the error for an object that cannot be unpacked."""
    if isinstance(error, TooLargeError):
        return S3ObjectStoreError(f"object {location!r} cannot be read: {error}")
    return damaged(location, str(error))


class Unpacker:
    """The text of an object in either form, piece by piece and in little memory.

    Parameters
    ----------
    limit : int, default 2**32
        The largest size of the text, in bytes.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._size = 0
        # The first bytes, until there are enough to know the form.
        self._head: bytes | None = b""
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the pieces of the text that follow from the next bytes of the object.

        Raises
        ------
        UnpackError
            If the bytes are damaged, too many, or no text.
        """
        if self._head is not None:
            data = self._head + data
            if len(data) < len(MAGIC):
                self._head = data
                return
            self._head = None
            if is_packed(data):
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        if self._frame is None:
            yield self._checked(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), SLICE):
            if self._frame.eof:
                raise UnpackError("other data follow the compressed text")
            try:
                piece = self._frame.decompress(view[start : start + SLICE])
            except zstandard.ZstdError as error:
                raise UnpackError(str(error)) from error
            if piece:
                yield self._checked(piece)
            if self._frame.unused_data:
                raise UnpackError("other data follow the compressed text")

    def finish(self) -> bytes:
        """Check that the object is complete, and return the rest of the text.

        Raises
        ------
        UnpackError
            If it is not.
        """
        rest = self._checked(self._head) if self._head else b""
        if self._frame is not None and not self._frame.eof:
            raise UnpackError("the compressed text ends too early")
        try:
            self._utf8.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise UnpackError(str(error)) from error
        return rest

    def _checked(self, piece: bytes) -> bytes:
        self._size += len(piece)
        if self._size > self._limit:
            raise TooLargeError(f"it unpacks to more than {self._limit} bytes")
        try:
            self._utf8.decode(piece)
        except UnicodeDecodeError as error:
            raise UnpackError(str(error)) from error
        return piece


def packed(source: IO[bytes]) -> IO[bytes]:
    """Return a stream of the stored form of JSON, compressed if it was not.

    Reading it raises an :class:`UnpackError` if the source is compressed, but truncated or damaged.

    Parameters
    ----------
    source : binary file
        A stream of JSON, compressed with zstd or not.
    """
    rest = _Rest(_first(source, len(MAGIC)), source)
    if is_packed(rest.first):
        return io.BufferedReader(_Checked(rest))
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    reader = compressor.stream_reader(cast("IO[bytes]", rest), closefd=False)
    return io.BufferedReader(cast("io.RawIOBase", reader))


def _first(source: IO[bytes], size: int) -> bytes:
    """Return the first bytes of a stream, fewer only if it ends."""
    first = b""
    while len(first) < size:
        data = source.read(size - len(first))
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"expected a binary file, but it returned {type(data).__name__}")
        if not data:
            break
        first += data
    return first


class _Rest:
    """A stream whose first bytes were read already."""

    def __init__(self, first: bytes, source: IO[bytes]) -> None:
        self.first, self._source = first, source
        self._returned = not first

    def read(self, size: int = -1) -> bytes:
        if self._returned:
            return self._source.read(size)
        self._returned = True
        return self.first


class _Checked(io.RawIOBase):
    """A compressed stream that is checked while it is read."""

    def __init__(self, source: _Rest) -> None:
        self._source, self._unpacker = source, Unpacker()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._source.read(max(len(view), len(MAGIC)))
        for _ in self._unpacker.feed(data):
            # The text is not needed, only whether there is one.
            pass
        if not data:
            self._unpacker.finish()
        view[: len(data)] = data
        return len(data)
