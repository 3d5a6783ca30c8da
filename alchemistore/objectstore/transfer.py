"""Send and fetch objects in parts.

boto3 sends them. It cannot fetch one as a stream from a server without the newer checksums: after
its `max_in_memory_download_chunks`, it waits for itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import (
    ConnectionError as NoConnectionError,
    HTTPClientError,
    IncompleteReadError,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# Parts on their way at once, and parts in memory.
THREADS = 2
PARTS_IN_MEMORY = 3
# How often a part is fetched whose answer breaks off. The client itself repeats failed requests.
FETCHES = 4


def send(
    client: S3Client, bucket: str, name: str, source: IO[bytes], content_type: str, part: int
) -> None:
    """Write an object from a stream, in parts if it is larger than one; or nothing at all."""
    config = TransferConfig(
        multipart_threshold=part, multipart_chunksize=part, max_concurrency=THREADS
    )
    # It bounds the memory; boto3 does not take it as an argument.
    config.max_in_memory_upload_chunks = PARTS_IN_MEMORY
    client.upload_fileobj(
        source, bucket, name, ExtraArgs={"ContentType": content_type}, Config=config
    )


def fetch(
    client: S3Client, bucket: str, name: str, write: Callable[[bytes], object], part: int
) -> None:
    """Read an object and pass its bytes on in order, in parts if it is larger than one.

    Raises
    ------
    ClientError
        With the code ``PreconditionFailed`` if the object is replaced meanwhile.
    """
    head = client.head_object(Bucket=bucket, Key=name)
    size, version = head["ContentLength"], head["ETag"]

    def read(start: int) -> bytes:
        """Return the part that starts there."""
        wanted = f"bytes={start}-{min(start + part, size) - 1}"
        for left in reversed(range(FETCHES)):
            try:
                answer = client.get_object(Bucket=bucket, Key=name, Range=wanted, IfMatch=version)
                return answer["Body"].read()
            except (IncompleteReadError, NoConnectionError, HTTPClientError):
                if not left:
                    raise
        raise AssertionError("a part is fetched at least once")

    parts: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for start in range(0, size, part):
                parts.append(pool.submit(read, start))
                if len(parts) >= THREADS:
                    write(parts.popleft().result())
            while parts:
                write(parts.popleft().result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
