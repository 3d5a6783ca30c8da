"""The object store: write, read, list and delete results."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal, ParamSpec, TypeVar, overload

import boto3
from pydantic import SecretStr

from alchemistore.errors import (
    DocumentNotBuildableError,
    KeyDriftWarning,
    MissingStoredObjectError,
    S3ObjectStoreError,
)
from alchemistore.models import GufeKey, ProtocolDAGResultRef, ScopedKey
from alchemistore.models.clock import now
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.models.keys import parse_gufe_key
from alchemistore.objectstore.bucket import BucketPrefix, StoredObject
from alchemistore.objectstore.packing import damaged, is_packed, pack, unpack
from alchemistore.settings import S3ObjectStoreSettings

FILE = "obj.json.zst"
# Written by deployments of alchemiscale.
PLAIN_FILE = "obj.json"
# Concurrent requests; at most as many as a client keeps connections.
LOOKUPS = 8
TRANSFORMATIONS = ("Transformation", "NonTransformation")
FORMS = ("gufe", "dict", "json", "bytes")


P = ParamSpec("P")
R = TypeVar("R")
OTHER_ORDER = ("protocoldagresult_ok", "protocoldagresult_gufekey", "transformation", "creator")


def _either_order(push: Callable[P, R]) -> Callable[..., R]:
    """Return a call that also takes the order of alchemiscale 0.8, where a bool comes second."""

    @functools.wraps(push)
    def either(store: Any, protocoldagresult: Any, *args: Any, **kwargs: Any) -> R:
        if args and isinstance(args[0], bool):
            named = dict(zip(OTHER_ORDER, args, strict=False))
            if len(args) > len(OTHER_ORDER) or named.keys() & kwargs:
                raise TypeError("push_protocoldagresult got too many arguments")
            args, kwargs = (), {**kwargs, **named}
        return push(store, protocoldagresult, *args, **kwargs)

    return either


class S3ObjectStore:
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
        return f"S3ObjectStore(bucket={self.bucket!r}, prefix={self.prefix!r})"

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

    @overload
    def push_protocoldagresult(
        self,
        protocoldagresult: Any,
        transformation: ScopedKey | str,
        creator: str | None = None,
        *,
        protocoldagresult_ok: bool | None = None,
        protocoldagresult_gufekey: GufeKey | str | None = None,
    ) -> ProtocolDAGResultRef: ...

    @overload
    def push_protocoldagresult(
        self,
        protocoldagresult: bytes,
        protocoldagresult_ok: bool,
        protocoldagresult_gufekey: GufeKey | str,
        transformation: ScopedKey | str,
        creator: str | None = None,
    ) -> ProtocolDAGResultRef: ...

    @_either_order
    def push_protocoldagresult(
        self,
        protocoldagresult: Any,
        transformation: ScopedKey | str,
        creator: str | None = None,
        *,
        protocoldagresult_ok: bool | None = None,
        protocoldagresult_gufekey: GufeKey | str | None = None,
    ) -> ProtocolDAGResultRef:
        """Store a result. Storing it again overwrites it with the same content.

        The parameters may also be in the order of alchemiscale 0.8: the bytes, whether the result
        is a success, its key, the transformation and the creator.

        Parameters
        ----------
        protocoldagresult : gufe.ProtocolDAGResult or bytes
            A success or a failure: the object, or its JSON, compressed with zstd or not.
        transformation : ScopedKey or str
            The key of its transformation; the result is stored in the same scope.
        creator : str, optional
            The creator of the result, usually the identifier of a compute service.
        protocoldagresult_ok : bool, optional
            Whether the result is a success, which is compared with the result.
        protocoldagresult_gufekey : GufeKey or str, optional
            The key of the result, which is compared with the result.

        Returns
        -------
        ProtocolDAGResultRef
            The reference for ``StateStore.set_task_result``.

        Raises
        ------
        TypeError
            If it is not a ProtocolDAGResult.
        ValueError
            If the bytes are not those of a ProtocolDAGResult, its key or success differs from the
            given one, or `transformation` is not the key of a transformation.
        DocumentNotBuildableError
            If the installed packages cannot build the result from the bytes.
        S3ObjectStoreError
            If it was not stored.
        """
        # Imported here, because checking and listing do not need gufe.
        from alchemistore import gufe_adapter

        of = _transformation(transformation)
        result, data = protocoldagresult, None
        if isinstance(result, bytes):
            result, data = _read_pushed(result)
        if not gufe_adapter.is_result(result):
            found = f"expected a ProtocolDAGResult, got {type(result).__name__}"
            raise TypeError(found) if data is None else ValueError(found)
        key, ok = gufe_adapter.key_of(result), gufe_adapter.result_ok(result)
        if protocoldagresult_gufekey is not None and protocoldagresult_gufekey != key:
            raise ValueError(
                f"protocoldagresult_gufekey is {protocoldagresult_gufekey!r:.200}, but the key of"
                f" the result is {key}"
            )
        if protocoldagresult_ok is not None and bool(protocoldagresult_ok) is not ok:
            raise ValueError(
                f"protocoldagresult_ok is {protocoldagresult_ok}, but the result {key}"
                f" {'succeeded' if ok else 'failed'}"
            )
        packed = data or pack(gufe_adapter.result_to_json(result))
        return self._put_packed(packed, key, ok, of, creator)

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
        return self._put_packed(pack(data), key, ok, transformation, creator)

    def _put_packed(
        self, data: bytes, key: GufeKey, ok: bool, transformation: ScopedKey, creator: str | None
    ) -> ProtocolDAGResultRef:
        location = location_of(transformation, key, ok)
        self.bucket_prefix.put(location, data, "application/zstd")
        return ProtocolDAGResultRef(
            location=location,
            obj_key=key,
            scope=transformation.scope,
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
        *,
        return_as: Literal["bytes"],
        ok: bool = True,
    ) -> bytes: ...

    @overload
    def pull_protocoldagresult(
        self,
        protocoldagresult: ScopedKey | str | None = None,
        transformation: ScopedKey | str | None = None,
        location: str | None = None,
        return_as: Literal["gufe", "dict", "json", "bytes"] = "gufe",
        ok: bool = True,
    ) -> GufeTokenizable: ...

    def pull_protocoldagresult(
        self,
        protocoldagresult: ScopedKey | str | None = None,
        transformation: ScopedKey | str | None = None,
        location: str | None = None,
        return_as: Literal["gufe", "dict", "json", "bytes"] = "gufe",
        ok: bool = True,
    ) -> Any:
        """Return a result, found by its location or by its key and that of its transformation.

        Parameters
        ----------
        protocoldagresult : ScopedKey or str, optional
            The key of the result.
        transformation : ScopedKey or str, optional
            The key of its transformation, in the same scope.
        location : str, optional
            The location of the result, relative to the prefix. If given, the keys and `ok` are
            ignored.
        return_as : {"gufe", "dict", "json", "bytes"}, default "gufe"
            The object, a dict with all parts nested in it, or the stored JSON as text or as bytes.
            Text and bytes need no gufe.
        ok : bool, default True
            True for a success, False for a failure.

        Returns
        -------
        ProtocolDAGResult, dict, str or bytes

        Raises
        ------
        KeyError
            If there is no such object.
        ValueError
            If the arguments do not identify a result.
        S3ObjectStoreError
            If the object cannot be read, is damaged, or is not the result with this key.
        DocumentNotBuildableError
            If the object is intact, but the installed packages cannot build the result from it.
        """
        if return_as not in FORMS:
            raise ValueError(
                f"return_as={return_as!r}: expected one of {', '.join(map(repr, FORMS))}"
            )
        found, data, expected = self._get(protocoldagresult, transformation, location, ok)
        return _revive(data, found, return_as, expected)

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

    def _store_check(self) -> bool:
        try:
            self.check()
        except S3ObjectStoreError:
            return False
        return True

    def _get(
        self,
        protocoldagresult: ScopedKey | str | None,
        transformation: ScopedKey | str | None,
        location: str | None,
        ok: bool,
    ) -> tuple[str, bytes, GufeKey | None]:
        """Return the location of a result, the stored bytes, and its key if it was named."""
        if location is not None:
            return location, self.bucket_prefix.get(location), None
        if protocoldagresult is None or transformation is None:
            raise ValueError(
                "the result is not identified: pass either location, or both protocoldagresult"
                " and transformation"
            )
        result, of = _scoped_key(protocoldagresult), _scoped_key(transformation)
        if result.scope != of.scope:
            raise ValueError(
                f"the result is in scope {result.scope}, but its transformation is in"
                f" {of.scope}; pass keys of one scope"
            )
        expected = result.gufe_key
        return *self._get_either(_directory(of, expected, ok)), expected

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


class S3BytesStore(S3ObjectStore):
    """An object store that takes and returns the bytes of results, as alchemiscale 0.8 does.

    It never looks into the bytes, and needs no gufe. Its objects are at the same locations as those
    of `S3ObjectStore`, and each reads what the other has written.

    Parameters
    ----------
    settings : S3ObjectStoreSettings
        The bucket, prefix, region, credentials and endpoint.
    """

    def __init__(self, settings: S3ObjectStoreSettings) -> None:
        super().__init__(
            _session(settings),
            settings.AWS_S3_BUCKET,
            settings.AWS_S3_PREFIX,
            settings.AWS_ENDPOINT_URL,
        )

    def push_protocoldagresult(  # type: ignore[override]  # alchemiscale has changed the order
        self,
        protocoldagresult: bytes,
        protocoldagresult_ok: bool,
        protocoldagresult_gufekey: GufeKey | str,
        transformation: ScopedKey | str,
        creator: str | None = None,
    ) -> ProtocolDAGResultRef:
        """Store the bytes of a result unchanged. Storing it again overwrites it.

        Parameters
        ----------
        protocoldagresult : bytes
            The result, in practice its keyed chain as JSON, compressed with zstd.
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
            If it is not bytes, or `protocoldagresult_ok` is not a bool.
        ValueError
            If a key is malformed, or `transformation` is the key of something else.
        S3ObjectStoreError
            If it was not stored.
        """
        if not isinstance(protocoldagresult, bytes):
            raise TypeError(f"expected bytes, got {type(protocoldagresult).__name__}")
        if not isinstance(protocoldagresult_ok, bool):
            raise TypeError(
                f"protocoldagresult_ok must be a bool, not {type(protocoldagresult_ok).__name__}"
            )
        key = parse_gufe_key(protocoldagresult_gufekey)
        of = _transformation(transformation)
        return self._put_packed(protocoldagresult, key, protocoldagresult_ok, of, creator)

    def pull_protocoldagresult(  # type: ignore[override]  # alchemiscale 0.8 has only one form
        self,
        protocoldagresult: ScopedKey | str | None = None,
        transformation: ScopedKey | str | None = None,
        location: str | None = None,
        ok: bool = True,
    ) -> bytes:
        """Return the stored bytes of a result.

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

        Returns
        -------
        bytes
            Unchanged, so compressed if they were stored so.

        Raises
        ------
        KeyError
            If there is no such object.
        ValueError
            If the arguments do not identify a result.
        S3ObjectStoreError
            If the object cannot be read.
        """
        return self._get(protocoldagresult, transformation, location, ok)[1]


@cache
def get_s3os(settings: S3ObjectStoreSettings, endpoint_url: str | None = None) -> S3ObjectStore:
    """Return the object store for these settings. Equal arguments return the same store.

    Parameters
    ----------
    settings : S3ObjectStoreSettings
        The bucket, prefix, region, credentials and endpoint.
    endpoint_url : str, optional
        The URL of the server, if it differs from the settings.

    Returns
    -------
    S3ObjectStore
    """
    return S3ObjectStore(
        _session(settings),
        settings.AWS_S3_BUCKET,
        settings.AWS_S3_PREFIX,
        endpoint_url or settings.AWS_ENDPOINT_URL,
    )


def _session(settings: S3ObjectStoreSettings) -> boto3.session.Session:
    return boto3.session.Session(
        aws_access_key_id=_revealed(settings.AWS_ACCESS_KEY_ID),
        aws_secret_access_key=_revealed(settings.AWS_SECRET_ACCESS_KEY),
        aws_session_token=_revealed(settings.AWS_SESSION_TOKEN),
        region_name=settings.AWS_DEFAULT_REGION or None,
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def location_of(transformation: ScopedKey, result: str, ok: bool) -> str:
    """Return the location of a result."""
    return f"{_directory(transformation, result, ok)}/{FILE}"


def _scoped_key(key: ScopedKey | str) -> ScopedKey:
    return key if isinstance(key, ScopedKey) else ScopedKey.from_str(str(key))


def _transformation(key: ScopedKey | str) -> ScopedKey:
    of = _scoped_key(key)
    if of.qualname not in TRANSFORMATIONS:
        raise ValueError(f"{of} is not the key of a {' or '.join(TRANSFORMATIONS)}")
    return of


def _directory(of: ScopedKey, result: str, ok: bool) -> str:
    route = "results" if ok else "failures"
    return f"protocoldagresult/{of.org}/{of.campaign}/{of.project}/{of.gufe_key}/{route}/{result}"


def _read_pushed(data: bytes) -> tuple[Any, bytes]:
    """Return the result in the bytes from a client, and the bytes to store."""
    from alchemistore import gufe_adapter

    try:
        text = unpack(data, "of the result to be stored")
        stated = gufe_adapter.key_of_result(text)
        result = gufe_adapter.result_from_json(text, use_memory=False)
    except (S3ObjectStoreError, ValueError) as error:
        raise ValueError(f"the bytes are not those of a ProtocolDAGResult: {error}") from error
    if stated not in (None, result.key):
        raise ValueError(
            f"the bytes state the key {stated}, but the installed gufe computes {result.key};"
            " the result was changed, or another version of gufe wrote it"
        )
    return result, data if is_packed(data) else pack(data)


def _revive(data: bytes, location: str, return_as: str, expected: GufeKey | None) -> Any:
    from alchemistore import gufe_adapter

    text = unpack(data, location)
    try:
        key = gufe_adapter.key_of_result(text)
        if return_as == "gufe":
            found = gufe_adapter.result_from_json(text)
            if not gufe_adapter.is_result(found):
                raise ValueError(f"it is a {type(found).__name__}, not a ProtocolDAGResult")
            if key is None and expected not in (None, found.key):
                # The older form contains no key, and the keys of other versions of gufe differ.
                warnings.warn(
                    f"object {location!r} should be {expected}, but the installed gufe computes"
                    f" {found.key}; another version of gufe wrote it, or it is another result",
                    KeyDriftWarning,
                    stacklevel=3,
                )
        elif return_as == "dict":
            found = gufe_adapter.result_to_dict(text)
        else:
            found = text.encode() if return_as == "bytes" else text
    except DocumentNotBuildableError as error:
        how = f"object {location!r} can be read with return_as='json'"
        raise DocumentNotBuildableError(
            error.key, error.class_name, error.reason, error.root, how
        ) from error
    except ValueError as error:
        raise damaged(location, str(error)) from error
    if expected is not None and key not in (None, expected):
        raise S3ObjectStoreError(
            f"object {location!r} contains {key}, not {expected};"
            " restore it from a backup or an older version of the object, or run its task again"
        )
    return found
