"""The object store: where results are, how they are written, read, listed and removed."""

from __future__ import annotations

import io
import json
import os
import threading
import uuid
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from alchemistore.errors import S3ObjectStoreError
from alchemistore.models import ProtocolDAGResultRef, ScopedKey
from alchemistore.models.task import now
from alchemistore.objectstore.client import MissingStoredObjectError, explained, make_client
from alchemistore.objectstore.packing import damaged, pack, unpack
from alchemistore.settings import S3ObjectStoreSettings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

FILE = "obj.json.zst"
# What deployments of alchemiscale wrote.
PLAIN_FILE = "obj.json"
FORMS = ("gufe", "dict", "json")
# Bigger objects are sent in parts of this size, in bytes.
PART = 64 * 2**20
DELETE_BATCH = 1000


class S3ObjectStore:
    """Results in a bucket, all below one prefix; nothing outside the prefix is ever touched.

    Parameters
    ----------
    session : boto3.session.Session
        Holds credentials and region.
    bucket : str
        The bucket; :meth:`initialize` makes it.
    prefix : str
        In front of every location; empty for the whole bucket.
    endpoint_url : str, optional
        The server, when it is not Amazon's.
    """

    def __init__(self, session: boto3.session.Session, bucket: str, prefix: str, endpoint_url: str | None = None) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._root = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        self._session = session
        self._endpoint_url = endpoint_url or None
        self._lock = threading.Lock()
        self._made: tuple[int, S3Client] | None = None

    def __repr__(self) -> str:
        return f"S3ObjectStore(bucket={self.bucket!r}, prefix={self.prefix!r})"

    def initialize(self) -> None:
        """Make the bucket, in the region of the session, if it does not exist.

        Raises
        ------
        S3ObjectStoreError
            The bucket is somebody else's, or the server does not let us make it.
        """
        try:
            with explained("looking for the bucket", self.bucket):
                self._client.head_bucket(Bucket=self.bucket)
        except S3ObjectStoreError as error:
            if not (isinstance(error.__cause__, ClientError) and _code(error.__cause__) in ("404", "NoSuchBucket")):
                raise
            self._create_bucket()

    def check(self) -> None:
        """See that the bucket is there and that objects below the prefix can be listed, written, read and deleted.

        Writes one small object of a new name and removes it, so that checks do not disturb one another.

        Raises
        ------
        S3ObjectStoreError
            Says which step failed, and what to do.
        """
        with explained("listing objects", self.bucket):
            self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._root, MaxKeys=1)
        name, content = f"{self._root}_check/{uuid.uuid4().hex}", uuid.uuid4().bytes
        with explained("writing an object", self.bucket):
            version = self._client.put_object(Bucket=self.bucket, Key=name, Body=content).get("VersionId")
        try:
            with explained("reading an object", self.bucket):
                if self._client.get_object(Bucket=self.bucket, Key=name)["Body"].read() != content:
                    raise S3ObjectStoreError(f"reading an object in bucket {self.bucket!r} gave something else than was written")
        finally:
            with explained("deleting an object", self.bucket):
                # The version too, so that a bucket that keeps versions does not keep this one.
                extra = {"VersionId": version} if version else {}
                self._client.delete_object(Bucket=self.bucket, Key=name, **extra)

    def reset(self) -> None:
        """Delete all objects below the prefix, in all their versions; the bucket stays.

        Raises
        ------
        S3ObjectStoreError
            Some object could not be deleted; the others may be gone.
        """
        names = self._all_versions()
        while batch := self._next(names, DELETE_BATCH):
            with explained("deleting objects", self.bucket):
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})
            if failed := answer.get("Errors"):
                first = failed[0]
                raise S3ObjectStoreError(
                    f"{len(failed)} of {len(batch)} objects in bucket {self.bucket!r} were not deleted; the first is"
                    f" {first.get('Key')!r}: {first.get('Code')}: {first.get('Message')}"
                )

    def iter_contents(self, prefix: str = "") -> Iterator[str]:
        """Iterate over the locations of all objects, in the order of their names.

        Parameters
        ----------
        prefix : str, default ""
            Only locations that begin with this text.

        Yields
        ------
        str
            A location as :meth:`pull_protocoldagresult` takes it.

        Raises
        ------
        ValueError
            For a prefix that leads out of the store.
        S3ObjectStoreError
            The bucket cannot be listed.
        """
        return self._iter_locations(self._name(prefix))

    def push_protocoldagresult(
        self, protocoldagresult: Any, transformation: ScopedKey | str, creator: str | None = None
    ) -> ProtocolDAGResultRef:
        """Store a result. Storing it again overwrites it with the same content.

        Parameters
        ----------
        protocoldagresult : gufe.ProtocolDAGResult
            Successful or not.
        transformation : ScopedKey or str
            What it is a result of; the result goes to its scope.
        creator : str, optional
            Who made it, in practice the identifier of a compute service.

        Returns
        -------
        ProtocolDAGResultRef
            To be given to ``StateStore.set_task_result``.

        Raises
        ------
        TypeError
            For something else than a gufe object.
        S3ObjectStoreError
            It was not stored.
        """
        # gufe is needed for results only: checking and listing do without it.
        from alchemistore import chemistry

        of = _scoped_key(transformation)
        key = chemistry.key_of(protocoldagresult)
        ok = chemistry.result_ok(protocoldagresult)
        location = f"{_directory(of, key, ok)}/{FILE}"
        self._put(location, pack(chemistry.result_to_json(protocoldagresult)))
        return ProtocolDAGResultRef(
            location=location, obj_key=key, scope=of.scope, ok=ok, datetime_created=now(), creator=creator
        )

    def pull_protocoldagresult(
        self,
        protocoldagresult: ScopedKey | str | None = None,
        transformation: ScopedKey | str | None = None,
        location: str | None = None,
        return_as: Literal["gufe", "dict", "json"] = "gufe",
        ok: bool = True,
    ) -> Any:
        """Fetch a result, by its location or by its key and that of its transformation.

        Parameters
        ----------
        protocoldagresult : ScopedKey or str, optional
            Key of the result.
        transformation : ScopedKey or str, optional
            Key of its transformation, in the same scope.
        location : str, optional
            Where it is, relative to the prefix; with it nothing else is needed, and the keys and `ok` do not count.
        return_as : {"gufe", "dict", "json"}, default "gufe"
            The object; a dict with all its parts nested in it; or the text as it is stored.
        ok : bool, default True
            Whether it is a success; a failure is found with ``ok=False`` only.

        Returns
        -------
        ProtocolDAGResult, dict or str

        Raises
        ------
        KeyError
            There is no such object.
        ValueError
            For arguments that do not name a result.
        S3ObjectStoreError
            The object cannot be fetched, or is damaged.
        """
        if return_as not in FORMS:
            raise ValueError(f"return_as={return_as!r}: expected one of {', '.join(map(repr, FORMS))}")
        if location is not None:
            data = self._get(location)
        else:
            if protocoldagresult is None or transformation is None:
                raise ValueError("give either the location, or both protocoldagresult and transformation")
            result, of = _scoped_key(protocoldagresult), _scoped_key(transformation)
            if result.scope != of.scope:
                raise ValueError(f"the result is in scope {result.scope}, its transformation in {of.scope}; expected one scope")
            location, data = self._get_either(_directory(of, result.gufe_key, ok))
        return _revive(data, location, return_as)

    def delete(self, location: str) -> None:
        """Delete an object.

        Parameters
        ----------
        location : str
            Where it is, relative to the prefix.

        Raises
        ------
        KeyError
            There is no such object.
        ValueError
            For a location that leads out of the store.
        S3ObjectStoreError
            It was not deleted.
        """
        name = self._name(location)
        with explained("deleting an object", self.bucket, location):
            self._client.head_object(Bucket=self.bucket, Key=name)
            self._client.delete_object(Bucket=self.bucket, Key=name)

    def _store_check(self) -> bool:
        try:
            self.check()
        except S3ObjectStoreError:
            return False
        return True

    @property
    def _client(self) -> S3Client:
        # A client is safe to share between threads but not to make in two at once, and a fork must not share connections.
        made = self._made
        if made is None or made[0] != os.getpid():
            with self._lock, explained("preparing requests", self.bucket):
                made = (os.getpid(), make_client(self._session, self._endpoint_url))
                self._made = made
        return made[1]

    def _name(self, location: str) -> str:
        if location.startswith("/") or ".." in location.split("/"):
            raise ValueError(f"{location!r} is not a location: expected a path relative to the store's prefix, without '..'")
        return f"{self._root}{location}"

    def _put(self, location: str, data: bytes) -> None:
        with explained("writing an object", self.bucket):
            if len(data) <= PART:
                self._client.put_object(Bucket=self.bucket, Key=self._name(location), Body=data, ContentType="application/zstd")
            else:
                self._client.upload_fileobj(
                    io.BytesIO(data),
                    self.bucket,
                    self._name(location),
                    ExtraArgs={"ContentType": "application/zstd"},
                    Config=TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=2),
                )

    def _get(self, location: str) -> bytes:
        name = self._name(location)
        if not location:
            raise ValueError("the location is empty")
        with explained("reading an object", self.bucket, location):
            return self._client.get_object(Bucket=self.bucket, Key=name)["Body"].read()

    def _get_either(self, directory: str) -> tuple[str, bytes]:
        location = f"{directory}/{FILE}"
        try:
            return location, self._get(location)
        except MissingStoredObjectError as missing:
            plain = f"{directory}/{PLAIN_FILE}"
            try:
                return plain, self._get(plain)
            except MissingStoredObjectError:
                raise missing from None

    def _iter_locations(self, prefix: str) -> Iterator[str]:
        with explained("listing objects", self.bucket):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(self._root)

    def _all_versions(self) -> Iterator[ObjectIdentifierTypeDef]:
        paginator = self._client.get_paginator("list_object_versions")
        for page in paginator.paginate(Bucket=self.bucket, Prefix=self._root):
            for found in page.get("Versions", []):
                yield {"Key": found["Key"], "VersionId": found["VersionId"]}
            for marker in page.get("DeleteMarkers", []):
                yield {"Key": marker["Key"], "VersionId": marker["VersionId"]}

    def _next(self, names: Iterator[ObjectIdentifierTypeDef], count: int) -> list[ObjectIdentifierTypeDef]:
        with explained("listing objects", self.bucket):
            return list(islice(names, count))

    def _create_bucket(self) -> None:
        region = self._client.meta.region_name
        with explained("making the bucket", self.bucket):
            try:
                if region in (None, "us-east-1", "aws-global"):
                    self._client.create_bucket(Bucket=self.bucket)
                else:
                    where: Any = {"LocationConstraint": region}
                    self._client.create_bucket(Bucket=self.bucket, CreateBucketConfiguration=where)
            except self._client.exceptions.BucketAlreadyOwnedByYou:
                return
            self._client.get_waiter("bucket_exists").wait(Bucket=self.bucket)


@cache
def get_s3os(settings: S3ObjectStoreSettings, endpoint_url: str | None = None) -> S3ObjectStore:
    """Give the object store of these settings; equal arguments give the same one.

    Parameters
    ----------
    settings : S3ObjectStoreSettings
        Bucket, prefix, region, credentials, endpoint.
    endpoint_url : str, optional
        The server, if it is another than that of the settings.

    Returns
    -------
    S3ObjectStore
    """
    secrets = {
        "aws_access_key_id": settings.AWS_ACCESS_KEY_ID,
        "aws_secret_access_key": settings.AWS_SECRET_ACCESS_KEY,
        "aws_session_token": settings.AWS_SESSION_TOKEN,
    }
    session = boto3.session.Session(
        region_name=settings.AWS_DEFAULT_REGION or None,
        **{name: value.get_secret_value() for name, value in secrets.items() if value is not None},
    )
    return S3ObjectStore(session, settings.AWS_S3_BUCKET, settings.AWS_S3_PREFIX, endpoint_url or settings.AWS_ENDPOINT_URL)


def _scoped_key(key: ScopedKey | str) -> ScopedKey:
    return key if isinstance(key, ScopedKey) else ScopedKey.from_str(key)


def _directory(of: ScopedKey, result: str, ok: bool) -> str:
    route = "results" if ok else "failures"
    return f"protocoldagresult/{of.org}/{of.campaign}/{of.project}/{of.gufe_key}/{route}/{result}"


def _code(error: ClientError) -> str:
    return error.response["Error"].get("Code", "")


def _revive(data: bytes, location: str, return_as: str) -> Any:
    from alchemistore import chemistry

    text = unpack(data, location)
    try:
        if return_as == "gufe":
            return chemistry.result_from_json(text)
        if return_as == "dict":
            return chemistry.result_to_dict(text)
        if location.endswith(PLAIN_FILE):
            # The other form carries a checksum.
            json.loads(text)
    except ValueError as error:
        raise damaged(location, str(error)) from error
    return text
