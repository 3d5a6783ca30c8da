"""Read and write the objects below one prefix of one bucket."""

from __future__ import annotations

import base64
import io
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError

from alchemistore.errors import S3ObjectStoreError
from alchemistore.models.text import check_length
from alchemistore.objectstore.client import is_unsupported, make_client, translate_errors
from alchemistore.objectstore.transfer import fetch, send

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

log = logging.getLogger(__name__)

# Larger objects are sent and fetched in parts of this size, in bytes. S3 allows 10,000 parts.
PART = 8 * 2**20
DELETE_BATCH = 1000
# The longest name that S3 allows, in bytes.
LONGEST = 1024
# The longest prefix, in bytes. With it, the longest location of a result is short enough for S3.
LONGEST_PREFIX = 200


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the store.

    Attributes
    ----------
    location : str
        Relative to the prefix of the store.
    size : int
        In bytes.
    modified : datetime
        The time of the last write, in UTC.
    """

    location: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Described:
    """The size and the checksum that the server states of an object.

    Attributes
    ----------
    size : int
        In bytes.
    sha256 : str or None
        The SHA-256 of its content, in hexadecimal digits, if the server keeps it.
    """

    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class IncompleteUpload:
    """An upload in parts that was begun, but neither completed nor given up.

    Its parts take up space and are not listed as objects.

    Attributes
    ----------
    location : str
        Where the object would be, relative to the prefix of the store.
    started : datetime
        In UTC.
    upload : str
        The identifier of the upload.
    """

    location: str
    started: datetime
    upload: str


class BucketPrefix:
    """The objects below a prefix of a bucket.

    Parameters
    ----------
    session : boto3.session.Session
        Holds credentials and region.
    bucket, prefix : str
        The prefix precedes every location; it is empty for the whole bucket. At most 200 bytes.
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
        self.prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        check_length("the prefix of the object store", self.prefix, LONGEST_PREFIX)
        self.session = session
        self.endpoint_url = endpoint_url or None
        self._lock = threading.Lock()
        self._client: tuple[int, S3Client] | None = None
        # Whether the server deletes many objects at once; assumed until it refuses.
        self._deletes_many = True

    @property
    def client(self) -> S3Client:
        """The client, created on first use."""
        client = self._client
        # All threads share one client. A forked process needs its own, with its own connections.
        if client is None or client[0] != os.getpid():
            with self._lock, translate_errors("preparing requests", self.bucket):
                client = self._client
                if client is None or client[0] != os.getpid():
                    client = self._client = (
                        os.getpid(),
                        make_client(self.session, self.endpoint_url),
                    )
        return client[1]

    def name(self, location: str) -> str:
        """Return the name of an object in the bucket.

        Raises
        ------
        ValueError
            If the location is outside the prefix, or not valid Unicode.
        """
        if location.startswith("/") or ".." in location.split("/"):
            raise ValueError(
                f"{location!r} is not a location: expected a path relative to the store's prefix,"
                " without '..'"
            )
        try:
            location.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{location!r} is not a location: it is not valid Unicode") from None
        return f"{self.prefix}{location}"

    def put(self, location: str, data: bytes, content_type: str) -> None:
        """Write an object completely, or not at all."""
        if len(data) > PART:
            self.upload(location, io.BytesIO(data), content_type)
            return
        name = self.name(location)
        with translate_errors("writing an object", self.bucket):
            self.client.put_object(
                Bucket=self.bucket, Key=name, Body=data, ContentType=content_type
            )

    def upload(self, location: str, source: IO[bytes], content_type: str) -> None:
        """Write an object from a stream completely, or not at all.

        A large one is sent in parts, each with a checksum; a part that fails is sent again. If the
        stream or the server fails for good, the parts are removed.
        """
        name = self.name(location)
        with translate_errors("writing an object", self.bucket):
            send(self.client, self.bucket, name, source, content_type, PART)

    def download(self, location: str, write: Callable[[bytes], object]) -> None:
        """Read an object and pass its bytes on in order.

        A large one is fetched in parts; a part that fails is fetched again. An object that is
        replaced meanwhile is an error.
        """
        if not location:
            raise ValueError("the location is empty")
        name = self.name(location)
        with translate_errors("reading an object", self.bucket, location):
            fetch(self.client, self.bucket, name, write, PART)

    def get(self, location: str) -> bytes:
        """Read an object."""
        if not location:
            raise ValueError("the location is empty")
        name = self.name(location)
        with translate_errors("reading an object", self.bucket, location):
            return self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read()

    def describe(self, location: str) -> Described:
        """Return the size and checksum of an object that must exist, as the server states them."""
        if not location:
            raise ValueError("the location is empty")
        name = self.name(location)
        with translate_errors("looking up an object", self.bucket, location):
            found = self.client.head_object(Bucket=self.bucket, Key=name, ChecksumMode="ENABLED")
        checksum = found.get("ChecksumSHA256", "")
        # That of an object in parts is the checksum of their checksums.
        whole = bool(checksum) and "-" not in checksum and "-" not in found["ETag"]
        return Described(
            found["ContentLength"], base64.b64decode(checksum).hex() if whole else None
        )

    def presign(self, call: str, location: str, seconds: int, **arguments: object) -> str:
        """Return an address that allows one call for a time, without a password."""
        if not location:
            raise ValueError("the location is empty")
        name = self.name(location)
        with translate_errors("signing an address", self.bucket):
            return self.client.generate_presigned_url(
                call,
                Params={"Bucket": self.bucket, "Key": name, **arguments},
                ExpiresIn=seconds,
            )

    def delete(self, location: str) -> None:
        """Delete an object that must exist."""
        name = self.name(location)
        with translate_errors("deleting an object", self.bucket, location):
            self.client.head_object(Bucket=self.bucket, Key=name)
            self.client.delete_object(Bucket=self.bucket, Key=name)

    def has(self, location: str) -> bool:
        """Check whether an object exists. At an invalid location, none exists."""
        try:
            name = self.name(location)
        except ValueError:
            return False
        if len(name.encode()) > LONGEST:
            return False
        # A denied HEAD request gives no reason. A list begins with the name itself, if it exists.
        with translate_errors("looking for an object", self.bucket):
            found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=name, MaxKeys=1).get(
                "Contents", []
            )
        return [one["Key"] for one in found] == [name]

    def objects(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """Iterate over the objects whose locations begin with `prefix` and follow `after`."""
        return self._objects(self.name(prefix), f"{self.prefix}{after}" if after else "")

    def _objects(self, prefix: str, after: str) -> Iterator[StoredObject]:
        with translate_errors("listing objects", self.bucket):
            paginator = self.client.get_paginator("list_objects_v2")
            for page in paginator.paginate(Bucket=self.bucket, Prefix=prefix, StartAfter=after):
                for found in page.get("Contents", ()):
                    yield StoredObject(
                        found["Key"].removeprefix(self.prefix), found["Size"], found["LastModified"]
                    )

    def incomplete(self) -> Iterator[IncompleteUpload]:
        """Iterate over the uploads that were begun, but not ended; none if the server has none."""
        try:
            yield from self._incomplete()
        except S3ObjectStoreError as error:
            if not is_unsupported(error.__cause__):
                raise
            log.info("bucket %s cannot list incomplete uploads", self.bucket)

    def _incomplete(self) -> Iterator[IncompleteUpload]:
        with translate_errors("listing incomplete uploads", self.bucket):
            paginator = self.client.get_paginator("list_multipart_uploads")
            for page in paginator.paginate(Bucket=self.bucket, Prefix=self.prefix):
                for found in page.get("Uploads", ()):
                    # Some servers list all uploads of the bucket.
                    if found["Key"].startswith(self.prefix):
                        yield IncompleteUpload(
                            found["Key"].removeprefix(self.prefix),
                            found["Initiated"].astimezone(UTC),
                            found["UploadId"],
                        )

    def abort(self, upload: IncompleteUpload) -> None:
        """Remove the parts of an incomplete upload. Ignore one that has ended."""
        name = self.name(upload.location)
        with translate_errors("removing an incomplete upload", self.bucket):
            try:
                self.client.abort_multipart_upload(
                    Bucket=self.bucket, Key=name, UploadId=upload.upload
                )
            except self.client.exceptions.NoSuchUpload:
                log.info("the upload to %s has ended", upload.location)

    def create(self) -> None:
        """Create the bucket if it does not exist."""
        try:
            with translate_errors("looking for the bucket", self.bucket):
                self.client.head_bucket(Bucket=self.bucket)
        except S3ObjectStoreError as error:
            cause = error.__cause__
            if not isinstance(cause, ClientError) or cause.response["Error"].get("Code") not in (
                "404",
                "NoSuchBucket",
            ):
                raise
            with translate_errors("creating the bucket", self.bucket):
                self._create()

    def _create(self) -> None:
        region = self.client.meta.region_name
        try:
            if region in (None, "us-east-1", "aws-global"):
                self.client.create_bucket(Bucket=self.bucket)
            else:
                where: Any = {"LocationConstraint": region}
                self.client.create_bucket(Bucket=self.bucket, CreateBucketConfiguration=where)
        except self.client.exceptions.BucketAlreadyOwnedByYou:
            # Another process has created it in the meantime.
            return
        self.client.get_waiter("bucket_exists").wait(Bucket=self.bucket)

    def clear(self) -> None:
        """Delete all objects, in all versions if the server knows versions, and all uploads."""
        try:
            self._delete_all(self._versions())
        except S3ObjectStoreError as error:
            if not is_unsupported(error.__cause__):
                raise
            log.info("bucket %s cannot list versions, so only objects are deleted", self.bucket)
            self.remove(found.location for found in self.objects(""))
        for upload in self.incomplete():
            self.abort(upload)

    def remove(self, locations: Iterable[str]) -> None:
        """Delete objects. Ignore those that do not exist."""
        self._delete_all({"Key": self.name(location)} for location in locations)

    def _delete_all(self, names: Iterator[ObjectIdentifierTypeDef]) -> None:
        while batch := self._next(names):
            with translate_errors("deleting objects", self.bucket):
                if self._deletes_many:
                    self._delete_batch(batch)
                else:
                    self._delete_each(batch)

    def _delete_batch(self, batch: list[ObjectIdentifierTypeDef]) -> None:
        try:
            answer = self.client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True}
            )
        except ClientError as error:
            if not is_unsupported(error):
                raise
            log.info("bucket %s cannot delete many objects at once", self.bucket)
            self._deletes_many = False
            self._delete_each(batch)
            return
        if failed := answer.get("Errors"):
            first = failed[0]
            raise S3ObjectStoreError(
                f"{len(failed)} of {len(batch)} objects in bucket {self.bucket!r} were not"
                f" deleted; the first is {first.get('Key')!r}: {first.get('Code')}:"
                f" {first.get('Message')}"
            )

    def _delete_each(self, batch: list[ObjectIdentifierTypeDef]) -> None:
        for one in batch:
            self.client.delete_object(Bucket=self.bucket, **_identified(one))

    def _next(self, names: Iterator[ObjectIdentifierTypeDef]) -> list[ObjectIdentifierTypeDef]:
        with translate_errors("listing objects", self.bucket):
            return list(islice(names, DELETE_BATCH))

    def _versions(self) -> Iterator[ObjectIdentifierTypeDef]:
        paginator = self.client.get_paginator("list_object_versions")
        for page in paginator.paginate(Bucket=self.bucket, Prefix=self.prefix):
            for found in page.get("Versions", []):
                yield {"Key": found["Key"], "VersionId": found["VersionId"]}
            for marker in page.get("DeleteMarkers", []):
                yield {"Key": marker["Key"], "VersionId": marker["VersionId"]}

    def probe(self) -> None:
        """List, write, read and delete objects, one and several. An error names the failed step."""
        with translate_errors("listing objects", self.bucket):
            self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
        content = uuid.uuid4().bytes
        written: list[ObjectIdentifierTypeDef] = []
        try:
            for _ in range(2):
                written.append(self._write_probe(content))
            with translate_errors("reading an object", self.bucket):
                answer = self.client.get_object(Bucket=self.bucket, Key=written[0]["Key"])
                found = answer["Body"].read()
            if found != content:
                raise S3ObjectStoreError(
                    f"the object read from bucket {self.bucket!r} differs from the one written"
                )
        finally:
            with translate_errors("deleting an object", self.bucket):
                self._delete_each(written[:1])
            self._delete_all(iter(written[1:]))

    def _write_probe(self, content: bytes) -> ObjectIdentifierTypeDef:
        name = self.name(f"_check/{uuid.uuid4().hex}")
        with translate_errors("writing an object", self.bucket):
            written = self.client.put_object(Bucket=self.bucket, Key=name, Body=content)
        # Name this version, so that a bucket with versioning does not keep it when it is deleted.
        version = written.get("VersionId")
        return {"Key": name, "VersionId": version} if version else {"Key": name}


def _identified(found: ObjectIdentifierTypeDef) -> Any:
    """Return the arguments that identify an object to the client."""
    return {name: found[name] for name in ("Key", "VersionId") if name in found}
