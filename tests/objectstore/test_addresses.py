"""Presigned addresses: results that do not pass through the server."""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from pydantic import ValidationError

from alchemistore import (
    FileContent,
    PresignedUpload,
    S3ObjectStore,
    S3ObjectStoreSettings,
    Scope,
    ScopedKey,
    StateStore,
    TaskStatusEnum,
    get_s3os,
    gufe_adapter,
    pack_for_upload,
)
from alchemistore.errors import S3ObjectStoreError, S3UnavailableError
from alchemistore.models import GufeKey
from alchemistore.objectstore.packing import pack
from tests.objectstore.conftest import names, put
from tests.objectstore.test_streams import flip, scoped, text_of
from tests.support.campaigns import campaign, register


@pytest.fixture
def key() -> GufeKey:
    return GufeKey(f"ProtocolDAGResult-{uuid4().hex}")


@pytest.fixture
def real(bucket: S3ObjectStoreSettings) -> S3ObjectStore:
    """An empty store on a server that other programs can reach."""
    store = get_s3os(bucket.model_copy(update={"AWS_S3_PREFIX": "a/store"}))
    store.initialize()
    return store


def content_of(data: bytes) -> FileContent:
    return FileContent(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def send(address: PresignedUpload, data: bytes, **headers: str) -> int:
    """Send bytes to an address, as a client without this package; return the HTTP status."""
    request = urllib.request.Request(
        address.url, data, {**address.headers, **headers}, method="PUT"
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def receive(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return bytes(answer.read())


def test_result_is_sent_settled_and_fetched_without_the_server_between(
    real: S3ObjectStore, store: StateStore, scope: Scope, result: Any, tmp_path: Path
) -> None:
    made = campaign(store, scope, tasks=1)
    [task], edge = made.tasks, made.transformations[0]
    register(store, "service-1")
    [claimed] = store.claim_taskhub_tasks(made.hub, "service-1")
    assert claimed == task
    text = gufe_adapter.result_to_json(result)
    content = pack_for_upload(text, tmp_path / "result.json.zst")
    data = (tmp_path / "result.json.zst").read_bytes()
    assert content == content_of(data)

    address = real.presign_upload(True, result.key, edge, content)
    assert names(real) == []
    assert send(address, data) == 200
    ref = real.confirm_upload(True, result.key, edge, content, "service-1")
    assert (ref.location, ref.obj_key, ref.creator) == (address.location, result.key, "service-1")
    assert store.settle_task(task, ref, "service-1").status is TaskStatusEnum.complete
    assert real.pull_protocoldagresult(location=ref.location) is result

    found = real.presign_download(scoped(result.key, edge), edge)
    assert (found.location, found.size, found.sha256) == (
        ref.location,
        content.size,
        content.sha256,
    )
    assert receive(found.url) == data


def test_address_for_an_upload_takes_nothing_else(
    real: S3ObjectStore, of: ScopedKey, key: GufeKey
) -> None:
    data = pack(text_of(key))
    address = real.presign_upload(True, key, of, content_of(data))
    for sent, headers in (
        (flip(data), {}),
        (data + b"x", {"Content-Length": str(len(data) + 1)}),
        (flip(data), {"x-amz-checksum-sha256": "0" * 44}),
        (data, {"Content-Type": "text/plain"}),
    ):
        assert send(address, sent, **headers) in (400, 403)
    elsewhere = address.model_copy(update={"url": address.url.replace(str(key), f"{key}0")})
    assert send(elsewhere, data) == 403
    assert names(real) == []
    with pytest.raises(urllib.error.HTTPError, match="403"):
        receive(address.url)


def test_signed_address_names_size_checksum_and_validity(
    moto: S3ObjectStoreSettings, of: ScopedKey, key: GufeKey
) -> None:
    # Amazon's, for which boto3 adds checksums of its own.
    store = get_s3os(moto)
    before = datetime.now(UTC)
    address = store.presign_upload(True, key, of, content_of(b"x"), valid_for=timedelta(minutes=10))
    query = parse_qs(urlsplit(address.url).query)
    assert query["X-Amz-SignedHeaders"] == [
        "content-length;content-type;host;x-amz-checksum-sha256"
    ]
    assert query["X-Amz-Expires"] == ["600"]
    assert not any("crc32" in name.lower() for name in query)
    assert timedelta(minutes=9) < address.expires - before < timedelta(minutes=11)


def test_signing_an_upload_needs_no_server(
    s3_server: S3ObjectStoreSettings, of: ScopedKey, key: GufeKey
) -> None:
    outside = get_s3os(s3_server, "https://s3.example.org:1")
    address = outside.presign_upload(False, key, of, content_of(b"x"))
    assert address.url.startswith(f"https://s3.example.org:1/{outside.bucket}/")
    assert f"/failures/{key}/" in address.url


def test_upload_that_is_missing_or_another_is_not_confirmed(
    s3os: S3ObjectStore, of: ScopedKey, key: GufeKey
) -> None:
    data = pack(text_of(key))
    content = content_of(data)
    where = f"protocoldagresult/org/campaign/project/{of.gufe_key}/results/{key}/obj.json.zst"
    with pytest.raises(KeyError, match="No such object in the object store"):
        s3os.confirm_upload(True, key, of, content)
    # Not below `failures`.
    put(s3os, f"{s3os.prefix}/{where}", data)
    with pytest.raises(KeyError, match="No such object in the object store"):
        s3os.confirm_upload(False, key, of, content)
    assert s3os.confirm_upload(True, key, of, content).location == where
    client = s3os.bucket_prefix.client
    for other, message in ((data[:-1], "bytes, but"), (flip(data), "the SHA-256")):
        # With and without a checksum that the server keeps.
        for checksum in ({}, {"ChecksumAlgorithm": "SHA256"}):
            client.put_object(
                Bucket=s3os.bucket,
                Key=f"{s3os.prefix}/{where}",
                Body=other,
                **checksum,  # type: ignore[arg-type]  # boto3's stubs want single names
            )
            with pytest.raises(ValueError, match=f"{message}.*upload it again"):
                s3os.confirm_upload(True, key, of, content)


def test_checksum_of_parts_is_not_taken_for_that_of_the_object(
    s3os: S3ObjectStore, of: ScopedKey, key: GufeKey
) -> None:
    data = text_of(key)
    client, name = (
        s3os.bucket_prefix.client,
        f"{s3os.prefix}/protocoldagresult/org/campaign/project/{of.gufe_key}/results/{key}/obj.json.zst",
    )
    upload = client.create_multipart_upload(
        Bucket=s3os.bucket, Key=name, ChecksumAlgorithm="SHA256"
    )["UploadId"]
    part = client.upload_part(
        Bucket=s3os.bucket,
        Key=name,
        UploadId=upload,
        PartNumber=1,
        Body=data,
        ChecksumAlgorithm="SHA256",
    )
    client.complete_multipart_upload(
        Bucket=s3os.bucket,
        Key=name,
        UploadId=upload,
        MultipartUpload={
            "Parts": [
                {"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}
            ]
        },
    )
    assert s3os.confirm_upload(True, key, of, content_of(data)).obj_key == key


def test_content_that_is_not_the_result_is_found_when_it_is_pulled(
    real: S3ObjectStore, of: ScopedKey, result: Any
) -> None:
    key = GufeKey(f"ProtocolDAGResult-{uuid4().hex}")
    for data, message in (
        (pack(gufe_adapter.result_to_json(result)), f"contains {result.key}, not {key}"),
        (b"junk", "damaged"),
    ):
        content = content_of(data)
        assert send(real.presign_upload(True, key, of, content), data) == 200
        ref = real.confirm_upload(True, key, of, content)
        with pytest.raises(S3ObjectStoreError, match=message):
            real.pull_protocoldagresult(location=ref.location)
        with pytest.raises(S3ObjectStoreError, match=r"does not contain|damaged"):
            real.download_protocoldagresult(io.BytesIO(), location=ref.location)


def test_download_of_an_uncompressed_or_missing_object(
    real: S3ObjectStore, of: ScopedKey, key: GufeKey
) -> None:
    with pytest.raises(KeyError, match=rf"{key}/obj\.json\.zst"):
        real.presign_download(scoped(key, of), of)
    where = f"protocoldagresult/org/campaign/project/{of.gufe_key}/results/{key}/obj.json"
    put(real, f"{real.prefix}/{where}", b"{}")
    found = real.presign_download(scoped(key, of), of)
    assert (found.location, found.size, found.sha256) == (where, 2, None)
    assert receive(found.url) == b"{}"


def test_addresses_are_not_printed(
    real: S3ObjectStore, of: ScopedKey, key: GufeKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="alchemistore")
    put(real, f"{real.prefix}/x", b"{}")
    for address in (
        real.presign_upload(True, key, of, content_of(b"x")),
        real.presign_download(location="x"),
    ):
        signature = parse_qs(urlsplit(address.url).query)["X-Amz-Signature"][0]
        assert signature in str(address.model_dump())
        with pytest.raises(ValidationError) as refused:
            type(address).model_validate({**address.model_dump(), "expires": "never"})
        for shown in (repr(address), str(address), f"{[address]}", str(refused.value), caplog.text):
            assert signature not in shown


def test_bad_arguments_of_addresses_are_refused(
    real: S3ObjectStore, of: ScopedKey, key: GufeKey
) -> None:
    content = content_of(b"x")
    ways: list[Callable[..., Any]] = [real.presign_upload, real.confirm_upload]
    for way in ways:
        with pytest.raises(TypeError, match="must be a bool"):
            way(1, key, of, content)
        with pytest.raises(ValueError, match="gufe key"):
            way(True, "nonsense", of, content)
        with pytest.raises(ValueError, match="is not the key of a"):
            way(True, key, scoped("Task-" + "0" * 32, of), content)
    for valid_for in (timedelta(0), timedelta(days=8), -timedelta(hours=1)):
        with pytest.raises(ValueError, match="expected 1 second to 7 days"):
            real.presign_upload(True, key, of, content, valid_for=valid_for)
        with pytest.raises(ValueError, match="expected 1 second to 7 days"):
            real.presign_download(location="x", valid_for=valid_for)
    for location in ("", "../x", "/x"):
        with pytest.raises(ValueError, match="location"):
            real.presign_download(location=location)
    with pytest.raises(ValueError, match="not identified"):
        real.presign_download(scoped(key, of))
    for size, sha256 in ((0, "0" * 64), (6 * 2**30, "0" * 64), (1, "0" * 63), (1, "Z" * 64)):
        with pytest.raises(ValidationError):
            FileContent(size=size, sha256=sha256)
    data = pack(b"[]")
    with pytest.raises(ValueError, match="truncated or damaged"):
        pack_for_upload(data[:-1], io.BytesIO())


def test_without_credentials_nothing_is_signed(
    s3_server: S3ObjectStoreSettings,
    of: ScopedKey,
    key: GufeKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    nothing = dict.fromkeys(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
    for name in nothing:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(S3UnavailableError, match="there are no credentials"):
        get_s3os(s3_server.model_copy(update=nothing)).presign_upload(
            True, key, of, content_of(b"x")
        )
