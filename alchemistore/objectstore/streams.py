"""Results as streams between files and the bucket."""

from __future__ import annotations

from typing import IO

from alchemistore.models import GufeKey, ProtocolDAGResultRef, ScopedKey
from alchemistore.models.keys import parse_gufe_key
from alchemistore.objectstore.base import (
    CONTENT_TYPE,
    BaseObjectStore,
    reference_to,
    require_bool,
)
from alchemistore.objectstore.files import Source, Target, reading, writing
from alchemistore.objectstore.locations import location_of, parse_transformation, result_at
from alchemistore.objectstore.packing import Unpacker, UnpackError, packed, unreadable
from alchemistore.objectstore.reading import StatedKey


class Streams(BaseObjectStore):
    """A store whose results can be moved as streams."""

    def upload_protocoldagresult(
        self,
        source: Source,
        protocoldagresult_ok: bool,
        protocoldagresult_gufekey: GufeKey | str,
        transformation: ScopedKey | str,
        creator: str | None = None,
    ) -> ProtocolDAGResultRef:
        """Store a result as a stream, in little memory. Storing it again overwrites it.

        A large result is sent in parts, each with a checksum. A part that fails is sent again; if
        the upload fails for good, nothing is stored and its parts are removed. The content is not
        built here: :meth:`pull_protocoldagresult` checks it.

        Parameters
        ----------
        source : bytes, path or binary file
            The JSON of the result. If it is not compressed with zstd, it is compressed on the way.
        protocoldagresult_ok : bool
            Whether the result is a success.
        protocoldagresult_gufekey : GufeKey or str
            The key of the result.
        transformation : ScopedKey or str
            The key of its transformation; the result is stored in the same scope.
        creator : str, optional
            The creator of the result, usually the identifier of a compute service.

        Returns
        -------
        ProtocolDAGResultRef
            The reference for ``StateStore.set_task_result``.

        Raises
        ------
        TypeError
            If the source is something else, or `protocoldagresult_ok` is not a bool.
        ValueError
            If a key is malformed, `transformation` is the key of something else, or the source is
            compressed, but truncated or damaged.
        OSError
            If the source cannot be read.
        S3ObjectStoreError
            If it was not stored.
        """
        require_bool(protocoldagresult_ok)
        key = parse_gufe_key(protocoldagresult_gufekey)
        of = parse_transformation(transformation)
        with reading(source) as stream:
            try:
                self.bucket_prefix.upload(
                    location_of(of, key, protocoldagresult_ok), packed(stream), CONTENT_TYPE
                )
            except UnpackError as error:
                raise ValueError(f"the result is truncated or damaged: {error}") from error
        return reference_to(key, protocoldagresult_ok, of, creator)

    def download_protocoldagresult(
        self,
        target: Target,
        protocoldagresult: ScopedKey | str | None = None,
        transformation: ScopedKey | str | None = None,
        location: str | None = None,
        ok: bool = True,
        *,
        packed: bool = False,
    ) -> int:
        """Write a result to a file as a stream, in little memory.

        A large result is fetched in parts; a part that fails is fetched again. The content is
        checked while it passes. A file at a path only appears when it is complete and correct; an
        open file may hold a part of the result after an error.

        Parameters
        ----------
        target : path or binary file
            Where to write it.
        protocoldagresult : ScopedKey or str, optional
            The key of the result.
        transformation : ScopedKey or str, optional
            The key of its transformation, in the same scope.
        location : str, optional
            The location of the result, relative to the prefix. If given, the keys and `ok` are
            ignored.
        ok : bool, default True
            True for a success, False for a failure.
        packed : bool, default False
            Write the object as it is stored, compressed if it is, instead of the JSON.

        Returns
        -------
        int
            The number of bytes written.

        Raises
        ------
        KeyError
            If there is no such object.
        TypeError
            If the target is something else.
        ValueError
            If the arguments do not identify a result.
        OSError
            If the target cannot be written.
        S3ObjectStoreError
            If the object cannot be read, is truncated or damaged, or is not the result with this
            key.
        """
        with writing(target) as file:

            def save(location: str) -> int:
                return self._save(location, file, packed)

            return self.find(save, protocoldagresult, transformation, location, ok)[1]

    def _save(self, location: str, file: IO[bytes], packed: bool) -> int:
        """Write an object to a file and check it; return the number of bytes written."""
        size, unpacker, stated = 0, Unpacker(), StatedKey(result_at(location))

        def write(data: bytes) -> None:
            nonlocal size
            if packed:
                file.write(data)
                size += len(data)
            for text in unpacker.feed(data):
                use(text)

        def use(text: bytes) -> None:
            nonlocal size
            stated.feed(text)
            if not packed:
                file.write(text)
                size += len(text)

        try:
            self.bucket_prefix.download(location, write)
            use(unpacker.finish())
        except UnpackError as error:
            raise unreadable(location, error) from error
        stated.require(location)
        return size
