"""The object store: where results are, how they are written, read, listed and removed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal, overload

import boto3
from pydantic import SecretStr

from alchemistore.errors import MissingStoredObjectError, S3ObjectStoreError
from alchemistore.models import ProtocolDAGResultRef, ScopedKey
from alchemistore.models.clock import now
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.objectstore.bucket import BucketPrefix, StoredObject
from alchemistore.objectstore.packing import damaged, is_packed, pack, unpack
from alchemistore.settings import S3ObjectStoreSettings

FILE = "obj.json.zst"
# What deployments of alchemiscale wrote.
PLAIN_FILE = "obj.json"
# At the same time; not more than a client keeps connections.
LOOKUPS = 8
FORMS = ("gufe", "dict", "json")


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
        return f"S3ObjectStore(bucket={self.bucket!r}, prefix={self.prefix!r})"

    def initialize(self) -> None:
        """Make the bucket, in the region of the session, if it does not exist.

        Raises
        ------
        S3ObjectStoreError
            The bucket is somebody else's, or the server does not let us make it.
        """
        self.bucket_prefix.create()

    def check(self) -> None:
        """See that the bucket is there and that objects below the prefix can be listed, written, read and deleted.

        Writes one small object of a new name and removes it, so that checks do not disturb one another.

        Raises
        ------
        S3ObjectStoreError
            Says which step failed, and what to do.
        """
        self.bucket_prefix.probe()

    def reset(self) -> None:
        """Delete all objects below the prefix, in all their versions; the bucket stays.

        Raises
        ------
        S3ObjectStoreError
            Some object could not be deleted; the others may be gone.
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
            A location as :meth:`pull_protocoldagresult` takes it.

        Raises
        ------
        ValueError
            For a prefix that leads out of the store.
        S3ObjectStoreError
            The bucket cannot be listed.
        """
        return (found.location for found in self.iter_objects(prefix))

    def iter_objects(self, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        """Iterate over all objects with size and time, in the order of their names.

        Parameters
        ----------
        prefix : str, default ""
            Only locations that begin with this text.
        after : str, default ""
            Only what comes after this location: where a listing was broken off.

        Yields
        ------
        StoredObject

        Raises
        ------
        ValueError
            For a prefix that leads out of the store.
        S3ObjectStoreError
            The bucket cannot be listed.
        """
        return self.bucket_prefix.objects(prefix, after)

    def absent(self, locations: Iterable[str]) -> set[str]:
        """Look up many objects, a few at a time.

        Parameters
        ----------
        locations : iterable of str
            Where they should be, relative to the prefix.

        Returns
        -------
        set of str
            The locations where there is no object; among them those that lead out of the store.

        Raises
        ------
        S3ObjectStoreError
            The bucket cannot be listed.
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
        """Delete many objects; those that are gone already are fine.

        Parameters
        ----------
        locations : iterable of str
            Where they are, relative to the prefix.

        Raises
        ------
        ValueError
            For a location that leads out of the store.
        S3ObjectStoreError
            Some object could not be deleted; the others may be gone.
        """
        self.bucket_prefix.remove(locations)

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
            For something else than a ProtocolDAGResult.
        S3ObjectStoreError
            It was not stored.
        """
        # gufe is needed for results only: checking and listing do without it.
        from alchemistore import gufe_adapter

        of = _scoped_key(transformation)
        key = gufe_adapter.key_of(protocoldagresult)
        if not hasattr(protocoldagresult, "ok"):
            raise TypeError(f"expected a ProtocolDAGResult, got {type(protocoldagresult).__name__}")
        ok = gufe_adapter.result_ok(protocoldagresult)
        location = f"{_directory(of, key, ok)}/{FILE}"
        self.bucket_prefix.put(
            location, pack(gufe_adapter.result_to_json(protocoldagresult)), "application/zstd"
        )
        return ProtocolDAGResultRef(
            location=location,
            obj_key=key,
            scope=of.scope,
            ok=ok,
            datetime_created=now(),
            creator=creator,
        )

    @overload
    def pull_protocoldagresult(
        self,
        protocoldagresult: ScopedKey | str | None = None,
        transformation: ScopedKey | str | None = None,
        location: str | None = None,
        *,
        return_as: Literal["dict"],
        ok: bool = True,
    ) -> dict[str, Any]: ...

    @overload
    def pull_protocoldagresult(
        self,
        protocoldagresult: ScopedKey | str | None = None,
        transformation: ScopedKey | str | None = None,
        location: str | None = None,
        *,
        return_as: Literal["json"],
        ok: bool = True,
    ) -> str: ...

    @overload
    def pull_protocoldagresult(
        self,
        protocoldagresult: ScopedKey | str | None = None,
        transformation: ScopedKey | str | None = None,
        location: str | None = None,
        return_as: Literal["gufe", "dict", "json"] = "gufe",
        ok: bool = True,
    ) -> GufeTokenizable: ...

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
            raise ValueError(
                f"return_as={return_as!r}: expected one of {', '.join(map(repr, FORMS))}"
            )
        if location is not None:
            data = self.bucket_prefix.get(location)
        else:
            if protocoldagresult is None or transformation is None:
                raise ValueError(
                    "give either the location, or both protocoldagresult and transformation"
                )
            result, of = _scoped_key(protocoldagresult), _scoped_key(transformation)
            if result.scope != of.scope:
                raise ValueError(
                    f"the result is in scope {result.scope}, its transformation in {of.scope}; expected one scope"
                )
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
        self.bucket_prefix.delete(location)

    def _store_check(self) -> bool:
        try:
            self.check()
        except S3ObjectStoreError:
            return False
        return True

    def _get_either(self, directory: str) -> tuple[str, bytes]:
        location = f"{directory}/{FILE}"
        try:
            return location, self.bucket_prefix.get(location)
        except MissingStoredObjectError as missing:
            plain = f"{directory}/{PLAIN_FILE}"
            try:
                return plain, self.bucket_prefix.get(plain)
            except MissingStoredObjectError:
                raise missing from None


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
    session = boto3.session.Session(
        aws_access_key_id=_revealed(settings.AWS_ACCESS_KEY_ID),
        aws_secret_access_key=_revealed(settings.AWS_SECRET_ACCESS_KEY),
        aws_session_token=_revealed(settings.AWS_SESSION_TOKEN),
        region_name=settings.AWS_DEFAULT_REGION or None,
    )
    return S3ObjectStore(
        session,
        settings.AWS_S3_BUCKET,
        settings.AWS_S3_PREFIX,
        endpoint_url or settings.AWS_ENDPOINT_URL,
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _scoped_key(key: ScopedKey | str) -> ScopedKey:
    return key if isinstance(key, ScopedKey) else ScopedKey.from_str(str(key))


def _directory(of: ScopedKey, result: str, ok: bool) -> str:
    route = "results" if ok else "failures"
    return f"protocoldagresult/{of.org}/{of.campaign}/{of.project}/{of.gufe_key}/{route}/{result}"


def _revive(data: bytes, location: str, return_as: str) -> Any:
    from alchemistore import gufe_adapter

    text = unpack(data, location)
    try:
        if return_as == "gufe":
            return gufe_adapter.result_from_json(text)
        if return_as == "dict":
            return gufe_adapter.result_to_dict(text)
        if not is_packed(data):
            # The other form carries a checksum.
            json.loads(text)
    except ValueError as error:
        raise damaged(location, str(error)) from error
    return text
