"""The object store of alchemiscale 0.8: bytes in, bytes out."""

from __future__ import annotations

from alchemistore.models import GufeKey, ProtocolDAGResultRef, ScopedKey
from alchemistore.models.keys import parse_gufe_key
from alchemistore.objectstore.addresses import Addresses
from alchemistore.objectstore.base import require_bool
from alchemistore.objectstore.client import make_session
from alchemistore.objectstore.locations import parse_transformation
from alchemistore.objectstore.streams import Streams
from alchemistore.settings import S3ObjectStoreSettings


class S3BytesStore(Streams, Addresses):
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
            make_session(settings),
            settings.AWS_S3_BUCKET,
            settings.AWS_S3_PREFIX,
            settings.AWS_ENDPOINT_URL,
        )

    def push_protocoldagresult(
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
        require_bool(protocoldagresult_ok)
        key = parse_gufe_key(protocoldagresult_gufekey)
        of = parse_transformation(transformation)
        return self.put_packed(protocoldagresult, key, protocoldagresult_ok, of, creator)

    def pull_protocoldagresult(
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
        read = self.bucket_prefix.get
        return self.find(read, protocoldagresult, transformation, location, ok)[1]
