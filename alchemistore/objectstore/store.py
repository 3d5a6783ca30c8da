"""The object store: write and read results as objects of gufe."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, overload

from alchemistore.models import GufeKey, ProtocolDAGResultRef, ScopedKey
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.objectstore.addresses import Addresses
from alchemistore.objectstore.client import make_session
from alchemistore.objectstore.locations import parse_transformation, result_at
from alchemistore.objectstore.packing import pack
from alchemistore.objectstore.reading import read_pushed, revive
from alchemistore.objectstore.streams import Streams
from alchemistore.settings import S3ObjectStoreSettings

FORMS = ("gufe", "dict", "json", "bytes")


class S3ObjectStore(Streams, Addresses):
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

        :class:`S3BytesStore` takes bytes in the order of alchemiscale 0.8.

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

        of = parse_transformation(transformation)
        result, data = protocoldagresult, None
        if isinstance(result, bytes):
            result, data = read_pushed(result)
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
        return self.put_packed(packed, key, ok, of, creator)

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
        found, data = self.find(
            self.bucket_prefix.get, protocoldagresult, transformation, location, ok
        )
        return revive(data, found, return_as, result_at(found))


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
        make_session(settings),
        settings.AWS_S3_BUCKET,
        settings.AWS_S3_PREFIX,
        endpoint_url or settings.AWS_ENDPOINT_URL,
    )
