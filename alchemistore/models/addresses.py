"""Presigned addresses: a client sends and fetches a result without the server between."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from alchemistore.models.clock import UTCDatetime

# The largest object that S3 takes in one request, in bytes.
UPLOAD_MAX = 5 * 2**30

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class FileContent(BaseModel):
    """The size and checksum of a file, as a client states them before it uploads the file.

    Parameters
    ----------
    size : int
        In bytes; at least 1, at most 5 GiB.
    sha256 : str
        The SHA-256, as 64 hexadecimal digits.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    size: Annotated[int, Field(ge=1, le=UPLOAD_MAX)]
    sha256: Sha256


class PresignedUpload(BaseModel):
    """An address to which a client sends one result with a PUT request.

    The address is a secret: it takes the place of a password until it expires. The text of this
    record leaves it out.

    Parameters
    ----------
    url : str
        The address.
    headers : mapping of str to str
        The headers of the request; all are signed. They name the size and the checksum, so the
        server accepts nothing else.
    location : str
        Where the object will be, relative to the prefix of the store.
    expires : datetime
        When the address expires.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    url: str = Field(repr=False)
    headers: dict[str, str]
    location: str
    expires: UTCDatetime


class PresignedDownload(BaseModel):
    """An address from which a client fetches one result with a GET request.

    The address is a secret: it takes the place of a password until it expires. The text of this
    record leaves it out.

    Parameters
    ----------
    url : str
        The address.
    location : str
        Where the object is, relative to the prefix of the store.
    size : int
        The size of the object, in bytes.
    sha256 : str, optional
        Its SHA-256, as 64 hexadecimal digits, if the server knows it.
    expires : datetime
        When the address expires.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    url: str = Field(repr=False)
    location: str
    size: int
    sha256: str | None = None
    expires: UTCDatetime
