"""The stored form of JSON, without a server."""

from __future__ import annotations

import pytest
import zstandard

from alchemistore.errors import S3ObjectStoreError
from alchemistore.objectstore.packing import pack, unpack


@pytest.mark.parametrize("text", ["", "{}", "ä\0\N{GRINNING FACE}", "long " * 100_000])
def test_packed_text_is_unpacked_unchanged(text: str) -> None:
    assert unpack(pack(text.encode()), "here") == text


@pytest.mark.parametrize("text", ["{}", "[1, 2]"])
def test_uncompressed_text_is_read_unchanged(text: str) -> None:
    assert unpack(text.encode(), "here") == text


def test_frame_without_content_size_is_read() -> None:
    frame = zstandard.ZstdCompressor().compressobj()
    data = frame.compress(b"[1, 2]") + frame.flush()
    assert zstandard.frame_content_size(data) == -1
    assert unpack(data, "here") == "[1, 2]"


@pytest.mark.parametrize("flaw", ["truncated", "flipped", "followed", "no utf-8"])
def test_damaged_object_is_reported_with_its_location(flaw: str) -> None:
    data = pack(b'{"a": 1}' * 100)
    flawed = {
        "truncated": data[:-1],
        "flipped": data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        "followed": data + b"x",
        "no utf-8": pack(b"\xff\xfe"),
    }[flaw]
    with pytest.raises(
        S3ObjectStoreError, match="'here' cannot be read and may be truncated or damaged"
    ):
        unpack(flawed, "here")


def test_object_above_the_unpacked_size_limit_is_refused() -> None:
    bomb = pack(bytes(50_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(
        S3ObjectStoreError, match="'here' cannot be read: it unpacks to more than 1000000 bytes"
    ):
        unpack(bomb, "here", limit=1_000_000)


def test_wrong_content_size_in_the_header_allocates_no_memory() -> None:
    honest = pack(bytes(300))
    at = 5
    lying = (
        honest[:4]
        + bytes([honest[4] | 0xC0])
        + honest[at : at + 0]
        + (2**45).to_bytes(8, "little")
        + honest[at + 2 :]
    )
    assert zstandard.frame_content_size(lying) == 2**45
    with pytest.raises(S3ObjectStoreError, match="'here'"):
        unpack(lying, "here")
