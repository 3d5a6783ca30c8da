"""One prefix of one bucket: objects by location, and nothing outside the prefix."""

from __future__ import annotations

import io
import os
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from alchemistore.errors import S3ObjectStoreError
from alchemistore.objectstore.client import make_client, translate_errors

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

# Bigger objects are sent in parts of this size, in bytes.
PART = 64 * 2**20
DELETE_BATCH = 1000
# What a name may have at most, in bytes.
LONGEST = 1024


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
        When it was written last, in UTC.
    """

    location: str
    size: int
    modified: datetime


class BucketPrefix:
    """What lies below a prefix of a bucket.

    Parameters
    ----------
    session : boto3.session.Session
        Holds credentials and region.
    bucket, prefix : str
        The prefix is in front of every location; empty for the whole bucket.
    endpoint_url : str, optional
        The server, when it is not Amazon's.
    """

    def __init__(
        self,
        session: boto3.session.Session,
        bucket: str,
        prefix: str,
        endpoint_url: str | None = None,
    ) -> None:
        self.bucket = bucket
        self.root = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        self._session = session
        self._endpoint_url = endpoint_url or None
        self._lock = threading.Lock()
        self._made: tuple[int, S3Client] | None = None

    @property
    def client(self) -> S3Client:
        """The client, made when first needed."""
        made = self._made
        # One client serves all threads, but two must not be made at once, and a fork must not share connections.
        if made is None or made[0] != os.getpid():
            with self._lock, translate_errors("preparing requests", self.bucket):
                made = self._made
                if made is None or made[0] != os.getpid():
                    made = self._made = (
                        os.getpid(),
                        make_client(self._session, self._endpoint_url),
                    )
        return made[1]

    def name(self, location: str) -> str:
        """Give the name of an object in the bucket; a location that leads out of the prefix is a :class:`ValueError`."""
        if location.startswith("/") or ".." in location.split("/"):
            raise ValueError(
                f"{location!r} is not a location: expected a path relative to the store's prefix, without '..'"
            )
        return f"{self.root}{location}"

    def put(self, location: str, data: bytes, content_type: str) -> None:
        """Write an object, or nothing."""
        name = self.name(location)
        with translate_errors("writing an object", self.bucket):
            if len(data) <= PART:
                self.client.put_object(
                    Bucket=self.bucket, Key=name, Body=data, ContentType=content_type
                )
            else:
                self.client.upload_fileobj(
                    io.BytesIO(data),
                    self.bucket,
                    name,
                    ExtraArgs={"ContentType": content_type},
                    Config=TransferConfig(
                        multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=2
                    ),
                )

    def get(self, location: str) -> bytes:
        """Read an object."""
        if not location:
            raise ValueError("the location is empty")
        name = self.name(location)
        with translate_errors("reading an object", self.bucket, location):
            return self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read()

    def delete(self, location: str) -> None:
        """Delete an object that must exist."""
        name = self.name(location)
        with translate_errors("deleting an object", self.bucket, location):
            self.client.head_object(Bucket=self.bucket, Key=name)
            self.client.delete_object(Bucket=self.bucket, Key=name)

    def has(self, location: str) -> bool:
        """Tell whether there is an object; where none can be, there is none."""
        try:
            name = self.name(location)
        except ValueError:
            return False
        if len(name.encode()) > LONGEST:
            return False
        # HEAD would not say why it is refused, and what is refused is not absent. A name comes before all that begin with it.
        with translate_errors("looking for an object", self.bucket):
            found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=name, MaxKeys=1).get(
                "Contents", []
            )
        return [one["Key"] for one in found] == [name]

    def objects(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """Iterate over the objects whose locations begin with a text, from after a location on."""
        return self._objects(self.name(prefix), f"{self.root}{after}" if after else "")

    def _objects(self, prefix: str, after: str) -> Iterator[StoredObject]:
        with translate_errors("listing objects", self.bucket):
            paginator = self.client.get_paginator("list_objects_v2")
            for page in paginator.paginate(Bucket=self.bucket, Prefix=prefix, StartAfter=after):
                for found in page.get("Contents", ()):
                    yield StoredObject(
                        found["Key"].removeprefix(self.root), found["Size"], found["LastModified"]
                    )

    def create(self) -> None:
        """Make the bucket if there is none."""
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
            with translate_errors("making the bucket", self.bucket):
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
            # Another process was faster.
            return
        self.client.get_waiter("bucket_exists").wait(Bucket=self.bucket)

    def clear(self) -> None:
        """Delete all objects in all versions."""
        self._delete_all(self._versions())

    def remove(self, locations: Iterable[str]) -> None:
        """Delete objects; those that are gone already are fine."""
        self._delete_all({"Key": self.name(location)} for location in locations)

    def _delete_all(self, names: Iterator[ObjectIdentifierTypeDef]) -> None:
        while batch := self._next(names):
            with translate_errors("deleting objects", self.bucket):
                answer = self.client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True}
                )
            if failed := answer.get("Errors"):
                first = failed[0]
                raise S3ObjectStoreError(
                    f"{len(failed)} of {len(batch)} objects in bucket {self.bucket!r} were not deleted; the first is"
                    f" {first.get('Key')!r}: {first.get('Code')}: {first.get('Message')}"
                )

    def _next(self, names: Iterator[ObjectIdentifierTypeDef]) -> list[ObjectIdentifierTypeDef]:
        with translate_errors("listing objects", self.bucket):
            return list(islice(names, DELETE_BATCH))

    def _versions(self) -> Iterator[ObjectIdentifierTypeDef]:
        paginator = self.client.get_paginator("list_object_versions")
        for page in paginator.paginate(Bucket=self.bucket, Prefix=self.root):
            for found in page.get("Versions", []):
                yield {"Key": found["Key"], "VersionId": found["VersionId"]}
            for marker in page.get("DeleteMarkers", []):
                yield {"Key": marker["Key"], "VersionId": marker["VersionId"]}

    def probe(self) -> None:
        """List, write, read and delete; each failure says which it was."""
        with translate_errors("listing objects", self.bucket):
            self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.root, MaxKeys=1)
        name, content = self.name(f"_check/{uuid.uuid4().hex}"), uuid.uuid4().bytes
        with translate_errors("writing an object", self.bucket):
            written = self.client.put_object(Bucket=self.bucket, Key=name, Body=content)
        # By its version, so that a bucket that keeps versions does not keep this one.
        version: Any = {"VersionId": written["VersionId"]} if written.get("VersionId") else {}
        try:
            with translate_errors("reading an object", self.bucket):
                found = self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read()
            if found != content:
                raise S3ObjectStoreError(
                    f"reading an object in bucket {self.bucket!r} gave something else than was written"
                )
        finally:
            with translate_errors("deleting an object", self.bucket):
                self.client.delete_object(Bucket=self.bucket, Key=name, **version)
