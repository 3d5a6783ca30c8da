"""Turn bytes into results, and check that they are what they should be."""

from __future__ import annotations

import warnings
from typing import Any

from alchemistore.errors import DocumentNotBuildableError, KeyDriftWarning, S3ObjectStoreError
from alchemistore.models import GufeKey
from alchemistore.objectstore.packing import RESTORE, damaged, is_packed, pack, unpack


def read_pushed(data: bytes) -> tuple[Any, bytes]:
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


class StatedKey:
    """The key that the JSON of a result must contain; the JSON may come in pieces.

    Parameters
    ----------
    key : GufeKey or None
        The key that must be there; with ``None``, nothing is checked. The older form of results,
        one nested dict, holds no keys.
    """

    def __init__(self, key: GufeKey | None) -> None:
        self._key = key
        self._wanted = b"" if key is None else f'"{key}"'.encode()
        # The end of the last piece, in which the key may begin.
        self._end = b""
        self._first = b""
        self._found = key is None

    def feed(self, text: bytes) -> None:
        """Read the next piece of the text."""
        self._first = self._first or text.lstrip()[:1]
        if not self._found:
            text = self._end + text
            self._found = self._wanted in text
            self._end = text[1 - len(self._wanted) :]

    def require(self, location: str) -> None:
        """Check that the key was there.

        Raises
        ------
        S3ObjectStoreError
            If the text is not the result with this key.
        """
        if self._first not in (b"[", b"{"):
            raise damaged(location, "it is not the JSON of a ProtocolDAGResult")
        if self._first == b"[" and not self._found:
            raise S3ObjectStoreError(f"object {location!r} does not contain {self._key}; {RESTORE}")


def revive(data: bytes, location: str, return_as: str, expected: GufeKey | None) -> Any:
    """Return the result in the bytes of an object, in the form that was asked for.

    Parameters
    ----------
    data : bytes
        The object.
    location : str
        Its location, for errors.
    return_as : str
        The form, as of `S3ObjectStore.pull_protocoldagresult`.
    expected : GufeKey or None
        The key that the result must have, if it is known.
    """
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
        raise S3ObjectStoreError(f"object {location!r} contains {key}, not {expected}; {RESTORE}")
    return found
