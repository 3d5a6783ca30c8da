"""Presigned addresses of results, and the check of what arrived at them."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta

from alchemistore.models import (
    FileContent,
    GufeKey,
    PresignedDownload,
    PresignedUpload,
    ProtocolDAGResultRef,
    ScopedKey,
)
from alchemistore.models.clock import now
from alchemistore.models.keys import parse_gufe_key
from alchemistore.objectstore.base import (
    CONTENT_TYPE,
    BaseObjectStore,
    reference_to,
    require_bool,
)
from alchemistore.objectstore.files import Source, Target, reading, writing
from alchemistore.objectstore.locations import location_of, parse_transformation
from alchemistore.objectstore.packing import UnpackError, packed

HOUR = timedelta(hours=1)
# The longest validity that S3 allows.
LONGEST_VALIDITY = timedelta(days=7)
CHUNK = 2**20


class Addresses(BaseObjectStore):
    """A store that hands out addresses, so that results do not pass through this process."""

    def presign_upload(
        self,
        protocoldagresult_ok: bool,
        protocoldagresult_gufekey: GufeKey | str,
        transformation: ScopedKey | str,
        content: FileContent,
        *,
        valid_for: timedelta = HOUR,
    ) -> PresignedUpload:
        """Return an address to which a client can send one result, and nothing else.

        Nothing is sent to the server. The address names the host of the endpoint of this store; if
        clients know the server by another name, make a store for it with ``get_s3os(settings,
        endpoint_url)``. After the upload, call :meth:`confirm_upload`, and store its reference.

        Parameters
        ----------
        protocoldagresult_ok : bool
            Whether the result is a success.
        protocoldagresult_gufekey : GufeKey or str
            The key of the result.
        transformation : ScopedKey or str
            The key of its transformation; the result is stored in the same scope.
        content : FileContent
            The size and the checksum of the file that the client will send, as
            :func:`pack_for_upload` returns it.
        valid_for : timedelta, default 1 h
            How long the address is valid, 1 s to 7 days. It ends earlier if the credentials of this
            store do.

        Returns
        -------
        PresignedUpload
            The address, and the headers to send.

        Raises
        ------
        TypeError
            If `protocoldagresult_ok` is not a bool.
        ValueError
            If a key is malformed, `transformation` is the key of something else, or the validity is
            too short or too long.
        S3ObjectStoreError
            If there are no credentials.
        """
        require_bool(protocoldagresult_ok)
        key = parse_gufe_key(protocoldagresult_gufekey)
        of = parse_transformation(transformation)
        location = location_of(of, key, protocoldagresult_ok)
        checksum = base64.b64encode(bytes.fromhex(content.sha256)).decode()
        url = self.bucket_prefix.presign(
            "put_object",
            location,
            _seconds(valid_for),
            ContentType=CONTENT_TYPE,
            ContentLength=content.size,
            ChecksumSHA256=checksum,
        )
        headers = {
            "Content-Type": CONTENT_TYPE,
            "Content-Length": str(content.size),
            "x-amz-checksum-sha256": checksum,
        }
        return PresignedUpload(
            url=url, headers=headers, location=location, expires=now() + valid_for
        )

    def confirm_upload(
        self,
        protocoldagresult_ok: bool,
        protocoldagresult_gufekey: GufeKey | str,
        transformation: ScopedKey | str,
        content: FileContent,
        creator: str | None = None,
    ) -> ProtocolDAGResultRef:
        """Check that a client has uploaded a result, and return the reference to it.

        The server states the size and the checksum. A server that keeps no SHA-256 is asked for the
        object, which is read as a stream. The content is checked when it is pulled first.

        Parameters
        ----------
        protocoldagresult_ok, protocoldagresult_gufekey, transformation, content
            As in :meth:`presign_upload`.
        creator : str, optional
            The creator of the result, usually the identifier of a compute service.

        Returns
        -------
        ProtocolDAGResultRef
            The reference for ``StateStore.settle_task``.

        Raises
        ------
        KeyError
            If there is no such object.
        TypeError
            If `protocoldagresult_ok` is not a bool.
        ValueError
            If the object has another size or checksum, a key is malformed, or `transformation` is
            the key of something else.
        S3ObjectStoreError
            If the object cannot be looked up.
        """
        require_bool(protocoldagresult_ok)
        key = parse_gufe_key(protocoldagresult_gufekey)
        of = parse_transformation(transformation)
        location = location_of(of, key, protocoldagresult_ok)
        stored = self.bucket_prefix.describe(location)
        if stored.size != content.size:
            raise ValueError(
                f"object {location!r} has {stored.size} bytes, but {content.size} were announced;"
                " upload it again"
            )
        sha256 = stored.sha256
        if sha256 is None:
            digest = hashlib.sha256()
            self.bucket_prefix.download(location, digest.update)
            sha256 = digest.hexdigest()
        if sha256 != content.sha256:
            raise ValueError(
                f"object {location!r} has the SHA-256 {sha256}, but {content.sha256} was announced;"
                " upload it again"
            )
        return reference_to(key, protocoldagresult_ok, of, creator)

    def presign_download(
        self,
        protocoldagresult: ScopedKey | str | None = None,
        transformation: ScopedKey | str | None = None,
        location: str | None = None,
        ok: bool = True,
        *,
        valid_for: timedelta = HOUR,
    ) -> PresignedDownload:
        """Return an address from which a client can fetch one result.

        Parameters
        ----------
        protocoldagresult : ScopedKey or str, optional
            The key of the result.
        transformation : ScopedKey or str, optional
            The key of its transformation, in the same scope.
        location : str, optional
            The location of the result, relative to the prefix. If given, the keys and `ok` are
            ignored.
        ok : bool, default True
            True for a success, False for a failure.
        valid_for : timedelta, default 1 h
            How long the address is valid, 1 s to 7 days. It ends earlier if the credentials of this
            store do.

        Returns
        -------
        PresignedDownload
            The address of the object as it is stored, with its size and, if the server knows it,
            its checksum.

        Raises
        ------
        KeyError
            If there is no such object.
        ValueError
            If the arguments do not identify a result, or the validity is too short or too long.
        S3ObjectStoreError
            If the object cannot be looked up.
        """
        seconds = _seconds(valid_for)
        found, stored = self.find(
            self.bucket_prefix.describe, protocoldagresult, transformation, location, ok
        )
        return PresignedDownload(
            url=self.bucket_prefix.presign("get_object", found, seconds),
            location=found,
            size=stored.size,
            sha256=stored.sha256,
            expires=now() + valid_for,
        )


def pack_for_upload(source: Source, target: Target) -> FileContent:
    """Write the file that a client sends to a presigned address, in little memory.

    Parameters
    ----------
    source : bytes, path or binary file
        The JSON of the result. If it is not compressed with zstd, it is compressed.
    target : path or binary file
        Where to write the file to send.

    Returns
    -------
    FileContent
        The size and the checksum of the file.

    Raises
    ------
    TypeError
        If source or target is something else.
    ValueError
        If the source is compressed, but truncated or damaged.
    OSError
        If a file cannot be read or written.
    """
    size, digest = 0, hashlib.sha256()
    with reading(source) as stream, writing(target) as file:
        try:
            compressed = packed(stream)
            while data := compressed.read(CHUNK):
                file.write(data)
                digest.update(data)
                size += len(data)
        except UnpackError as error:
            raise ValueError(f"the result is truncated or damaged: {error}") from error
    return FileContent(size=size, sha256=digest.hexdigest())


def _seconds(valid_for: timedelta) -> int:
    if not timedelta(seconds=1) <= valid_for <= LONGEST_VALIDITY:
        raise ValueError(f"valid_for={valid_for!r}: expected 1 second to 7 days")
    return int(valid_for.total_seconds())
