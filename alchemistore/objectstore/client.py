"""Configure the S3 client and translate its errors."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError as NoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)

from alchemistore.errors import MissingStoredObjectError, S3ObjectStoreError, S3UnavailableError
from alchemistore.settings import S3ObjectStoreSettings, require_plain_endpoint

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from pydantic import SecretStr

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60
ATTEMPTS = 4

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# The codes of a request that the server does not implement. Some servers send only the HTTP status.
UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "UnsupportedOperation", "501", "405"}
# The response to HEAD has no text, so the code is the HTTP status.
ABSENT = {"NoSuchKey", "NoSuchVersion", "404"}
CHANGED = {"PreconditionFailed", "412"}
# The codes of content that differs from its checksum when it arrives.
DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
REFUSED = {
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "InvalidToken": "check AWS_SESSION_TOKEN",
    "ExpiredToken": "get a new AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "AuthorizationHeaderMalformed": "check AWS_DEFAULT_REGION",
    "301": "check AWS_DEFAULT_REGION and AWS_ENDPOINT_URL",
    "PermanentRedirect": "check AWS_DEFAULT_REGION and AWS_ENDPOINT_URL",
    "IllegalLocationConstraintException": "check AWS_DEFAULT_REGION",
    "AccessDenied": "let these credentials list, read, write and delete in the bucket",
    "403": "check the credentials and their permissions in the bucket",
}


def make_session(settings: S3ObjectStoreSettings) -> boto3.session.Session:
    """Return a session with the credentials and the region of the settings."""
    return boto3.session.Session(
        aws_access_key_id=_revealed(settings.AWS_ACCESS_KEY_ID),
        aws_secret_access_key=_revealed(settings.AWS_SECRET_ACCESS_KEY),
        aws_session_token=_revealed(settings.AWS_SESSION_TOKEN),
        region_name=settings.AWS_DEFAULT_REGION or None,
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def make_client(session: boto3.session.Session, endpoint_url: str | None) -> S3Client:
    """Create a client for Amazon S3 or another S3 server."""
    try:
        host = urlsplit(require_plain_endpoint(endpoint_url)).hostname if endpoint_url else None
    except ValueError as error:
        raise S3UnavailableError(str(error)) from None
    amazon = host is None or host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        # A proxy from the environment cannot reach localhost of this machine.
        proxies={} if host in LOOPBACK else None,
        s3={"addressing_style": "auto" if amazon else "path"},
        # Many servers do not support the checksums that boto3 sends by default.
        request_checksum_calculation="when_supported" if amazon else "when_required",
        response_checksum_validation="when_supported" if amazon else "when_required",
    )
    try:
        client = session.client("s3", endpoint_url=endpoint_url, config=config)
    except ValueError:
        raise S3UnavailableError(
            "AWS_ENDPOINT_URL is not a URL; expected 'http://host:port' or 'https://host'"
        ) from None
    # botocore calls it for its answer, but its types say that there is none.
    again: Any = _send_again_if_damaged
    for call in ("PutObject", "UploadPart"):
        client.meta.events.register(f"needs-retry.s3.{call}", again)
    if not amazon:
        for call in ("PutObject", "UploadPart", "DeleteObjects"):
            client.meta.events.register(f"before-call.s3.{call}", _send_md5)
    return client


def _send_md5(params: dict[str, Any], **_: Any) -> None:
    """Send a Content-MD5 instead of the checksum that botocore chooses.

    S3 demands a checksum for the deletion of many objects, and the server compares that of content
    with what arrived. Servers that do not know the newer checksums accept this one only.
    """
    if "Content-MD5" in params["headers"]:
        return
    body = params["body"]
    digest = hashlib.md5(usedforsecurity=False)
    if isinstance(body, bytes | bytearray):
        digest.update(body)
    else:
        start = body.tell()
        while data := body.read(2**20):
            digest.update(data)
        body.seek(start)
    params["headers"]["Content-MD5"] = base64.b64encode(digest.digest()).decode()
    params["context"].pop("checksum", None)


def _send_again_if_damaged(response: Any, attempts: int, **_: Any) -> int | None:
    """Return the seconds to wait before content that arrived damaged is sent again."""
    if response is None or attempts >= ATTEMPTS:
        return None
    return 0 if response[1].get("Error", {}).get("Code") in DAMAGED else None


def is_unsupported(error: BaseException | None) -> bool:
    """Check whether the server refused a request because it does not implement it."""
    if not isinstance(error, ClientError):
        return False
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return error.response["Error"].get("Code") in UNSUPPORTED or status in (405, 501)


@contextmanager
def translate_errors(step: str, bucket: str, location: str | None = None) -> Iterator[None]:
    """Raise errors of boto3 as errors of this package.

    Parameters
    ----------
    step : str
        The operation, for the message, such as ``"reading an object"``.
    bucket : str
        The bucket.
    location : str, optional
        The object. If it does not exist, the error is a :class:`MissingStoredObjectError`.
    """
    what = f"{step} in bucket {bucket!r} failed"
    try:
        yield
    except ClientError as error:
        code, text = (
            error.response["Error"].get("Code", "?"),
            error.response["Error"].get("Message", ""),
        )
        if location is not None and code in ABSENT:
            raise MissingStoredObjectError(location) from error
        if location is not None and code in CHANGED:
            raise S3ObjectStoreError(
                f"{what}: the object {location!r} was replaced meanwhile; read it again"
            ) from error
        if code == "NoSuchBucket":
            raise S3ObjectStoreError(
                f"{what}: the bucket does not exist;"
                " create it with S3ObjectStore.initialize() or check AWS_S3_BUCKET"
            ) from error
        if code in REFUSED:
            raise S3UnavailableError(f"{what}: {code}: {text}; {REFUSED[code]}") from error
        if error.response["ResponseMetadata"]["HTTPStatusCode"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise S3UnavailableError(f"{what}: {code}: {text}; try again later") from error
        raise S3ObjectStoreError(f"{what}: {code}: {text}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise S3UnavailableError(
            f"{what}: there are no credentials;"
            " set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or assign a role to the host"
        ) from error
    except IncompleteReadError as error:
        raise S3ObjectStoreError(
            f"{what}: the object {location!r} is truncated: {error}"
        ) from error
    except (NoConnectionError, HTTPClientError) as error:
        raise S3UnavailableError(
            f"{what}: the server cannot be reached ({type(error).__name__});"
            " check AWS_ENDPOINT_URL, and that the server is running"
        ) from error
    except (BotoCoreError, Boto3Error, UnicodeError) as error:
        raise S3ObjectStoreError(f"{what}: {error}") from error
