"""Common parts of the stores of results: the objects below one prefix of one bucket."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import boto3

from alchemistore.errors import MissingStoredObjectError, S3ObjectStoreError
from alchemistore.models import GufeKey, ProtocolDAGResultRef, ScopedKey
from alchemistore.models.clock import now
from alchemistore.objectstore.bucket import BucketPrefix, IncompleteUpload, StoredObject
from alchemistore.objectstore.locations import (
    FILE,
    PLAIN_FILE,
    directory_of,
    location_of,
    parse_scoped,
)
from alchemistore.objectstore.packing import packed

# Concurrent requests; at most as many as a client keeps connections.
LOOKUPS = 8
CONTENT_TYPE = "application/zstd"

T = TypeVar("T")


class BaseObjectStore:
    """Results in a bucket, below one prefix. Objects outside the prefix are never accessed.

    Parameters
    ----------
    session : boto3.session.Session
        The credentials and the region.
    bucket : str
        The bucket; :meth:`initialize` creates it.
    prefix : str
        The prefix of every location; empty for the whole bucket.
    endpoint_url : str, optional
        The URL of the server; Amazon S3 by default.
    """

    def __init__(
        self,
        session: boto3.session.Session,
        bucket: str,
        prefix: str,
        endpoint_url: str | None = None,
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.bucket_prefix = BucketPrefix(session, bucket, prefix, endpoint_url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(bucket={self.bucket!r}, prefix={self.prefix!r})"

    def initialize(self) -> None:
        """Create the bucket, in the region of the session, if it does not exist.

        Raises
        ------
        S3ObjectStoreError
            If the bucket belongs to another account, or the server does not allow creating it.
        """
        self.bucket_prefix.create()

    def check(self) -> None:
        """Check that objects below the prefix can be listed, written, read and deleted.

        Writes two small objects with unique names, so that concurrent checks do not interfere, and
        deletes one alone and one as a sweep does, with a request for many.

        Raises
        ------
        S3ObjectStoreError
            If a step failed. The message names the step and says what to do.
        """
        self.bucket_prefix.probe()

    def reset(self) -> None:
        """Delete all objects below the prefix, in all their versions; the bucket stays.

        The parts of incomplete uploads are removed as well.

        Raises
        ------
        S3ObjectStoreError
            If an object was not deleted; others may have been deleted.
        """
        self.bucket_prefix.clear()

    def iter_contents(self, prefix: str = "") -> Iterator[str]:
        """Iterate over the locations of all objects, in the order of their names.

        Parameters
        ----------
        prefix : str, default ""
            Only locations that begin with this text.

        Yields
        ------
        str
            A location, as :meth:`pull_protocoldagresult` expects it.

        Raises
        ------
        ValueError
            If the prefix is outside the store.
        S3ObjectStoreError
            If the bucket cannot be listed.
        """
        return (found.location for found in self.iter_objects(prefix))

    def iter_objects(self, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        """Iterate over all objects, with size and time, in the order of their names.

        Parameters
        ----------
        prefix : str, default ""
            Only locations that begin with this text.
        after : str, default ""
            Only locations after this one, to continue an interrupted listing.

        Yields
        ------
        StoredObject

        Raises
        ------
        ValueError
            If the prefix is outside the store.
        S3ObjectStoreError
            If the bucket cannot be listed.
        """
        return self.bucket_prefix.objects(prefix, after)

    def absent(self, locations: Iterable[str]) -> set[str]:
        """Return the locations at which there is no object.

        Parameters
        ----------
        locations : iterable of str
            The locations to look up, relative to the prefix.

        Returns
        -------
        set of str
            The locations without an object, including those outside the prefix.

        Raises
        ------
        S3ObjectStoreError
            If the bucket cannot be listed.
        """
        asked = list(locations)
        with ThreadPoolExecutor(LOOKUPS) as pool:
            return {
                location
                for location, there in zip(
                    asked, pool.map(self.bucket_prefix.has, asked), strict=True
                )
                if not there
            }

    def remove(self, locations: Iterable[str]) -> None:
        """Delete many objects. Ignore those that do not exist.

        Parameters
        ----------
        locations : iterable of str
            The locations of the objects, relative to the prefix.

        Raises
        ------
        ValueError
            If the location is outside the store.
        S3ObjectStoreError
            If an object was not deleted; others may have been deleted.
        """
        self.bucket_prefix.remove(locations)

    def delete(self, location: str) -> None:
        """Delete an object.

        Parameters
        ----------
        location : str
            The location of the object, relative to the prefix.

        Raises
        ------
        KeyError
            If there is no such object.
        ValueError
            If the location is outside the store.
        S3ObjectStoreError
            If it was not deleted.
        """
        self.bucket_prefix.delete(location)

    def iter_incomplete_uploads(self) -> Iterator[IncompleteUpload]:
        """Iterate over the uploads that were begun, but neither completed nor given up.

        Their parts take up space and are not listed as objects. An upload that fails removes its
        parts; those of a process that was killed stay.

        Yields
        ------
        IncompleteUpload

        Raises
        ------
        S3ObjectStoreError
            If they cannot be listed.
        """
        return self.bucket_prefix.incomplete()

    def abort_upload(self, upload: IncompleteUpload) -> None:
        """Remove the parts of an incomplete upload. Ignore one that has ended.

        Parameters
        ----------
        upload : IncompleteUpload
            The upload, as :meth:`iter_incomplete_uploads` yields it.

        Raises
        ------
        S3ObjectStoreError
            If its parts were not removed.
        """
        self.bucket_prefix.abort(upload)

    def put_result(
        self, data: bytes, key: GufeKey, ok: bool, transformation: ScopedKey, creator: str | None
    ) -> ProtocolDAGResultRef:
        """Store the JSON of a result, and return the reference to it.

        Parameters
        ----------
        data : bytes
            The keyed chain of the result as JSON.
        key : GufeKey
            The key of the result.
        ok : bool
            Whether every unit succeeded.
        transformation : ScopedKey
            The key of its transformation.
        creator : str or None
            The creator of the result.

        Raises
        ------
        S3ObjectStoreError
            If it was not stored.
        """
        location = location_of(transformation, key, ok)
        self.bucket_prefix.upload(location, packed(io.BytesIO(data)), CONTENT_TYPE)
        return reference_to(key, ok, transformation, creator)

    def put_packed(
        self, data: bytes, key: GufeKey, ok: bool, transformation: ScopedKey, creator: str | None
    ) -> ProtocolDAGResultRef:
        """Store the stored form of a result, and return the reference to it.

        Parameters
        ----------
        data : bytes
            The bytes to store.
        key, ok, transformation, creator
            As in :meth:`put_result`.
        """
        self.bucket_prefix.put(location_of(transformation, key, ok), data, CONTENT_TYPE)
        return reference_to(key, ok, transformation, creator)

    def find(
        self,
        read: Callable[[str], T],
        protocoldagresult: ScopedKey | str | None,
        transformation: ScopedKey | str | None,
        location: str | None,
        ok: bool,
    ) -> tuple[str, T]:
        """Return the location of a result, and what was read there.

        Parameters
        ----------
        read : callable
            Reads at a location.
        protocoldagresult, transformation, location, ok
            As of ``pull_protocoldagresult``.

        Raises
        ------
        KeyError
            If there is no such object.
        ValueError
            If the arguments do not identify a result.
        """
        if location is not None:
            return location, read(location)
        if protocoldagresult is None or transformation is None:
            raise ValueError(
                "the result is not identified: pass either location, or both protocoldagresult"
                " and transformation"
            )
        result, of = parse_scoped(protocoldagresult), parse_scoped(transformation)
        if result.scope != of.scope:
            raise ValueError(
                f"the result is in scope {result.scope}, but its transformation is in"
                f" {of.scope}; pass keys of one scope"
            )
        directory = directory_of(of, result.gufe_key, ok)
        location = f"{directory}/{FILE}"
        try:
            return location, read(location)
        except MissingStoredObjectError as missing:
            plain = f"{directory}/{PLAIN_FILE}"
            try:
                return plain, read(plain)
            except MissingStoredObjectError:
                raise missing from None

    def _store_check(self) -> bool:
        try:
            self.check()
        except S3ObjectStoreError:
            return False
        return True


def require_bool(ok: object) -> None:
    """Raise a :class:`TypeError` unless it is a bool."""
    if not isinstance(ok, bool):
        raise TypeError(f"protocoldagresult_ok must be a bool, not {type(ok).__name__}")


def reference_to(
    key: GufeKey, ok: bool, transformation: ScopedKey, creator: str | None
) -> ProtocolDAGResultRef:
    """Return the reference to a result that was stored now."""
    return ProtocolDAGResultRef(
        location=location_of(transformation, key, ok),
        obj_key=key,
        scope=transformation.scope,
        ok=ok,
        datetime_created=now(),
        creator=creator,
    )
