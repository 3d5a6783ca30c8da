"""Results as streams: in parts, with checksums, and in little memory."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from alchemistore import S3BytesStore, S3ObjectStore, ScopedKey, gufe_adapter
from alchemistore.errors import MissingObjectError, S3ObjectStoreError, S3UnavailableError
from alchemistore.models import GufeKey
from alchemistore.objectstore import IncompleteUpload
from alchemistore.objectstore.packing import pack
from alchemistore.settings import S3ObjectStoreSettings
from tests.objectstore.conftest import MakeStore, body, names, put
from tests.objectstore.test_other_servers import Open, open_store
from tests.support.s3_proxy import Damage, Refusal, Request

__all__ = ["open_store"]

# The smallest parts that S3 allows.
PART = 5 * 2**20
# Stored in two parts.
LARGE = 6 * 2**20
FORMS: list[Callable[[bytes], bytes]] = [bytes, pack]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects above 5 MB are sent and fetched in parts."""
    monkeypatch.setattr("alchemistore.objectstore.bucket.PART", PART)


@pytest.fixture
def key() -> GufeKey:
    return GufeKey(f"ProtocolDAGResult-{uuid4().hex}")


def text_of(key: str, size: int = 100) -> bytes:
    """Return JSON that is like that of a result, and does not get smaller when compressed."""
    noise = base64.b64encode(os.urandom(size)).decode()
    return f'[["{key}", {{"data": "{noise}"}}]]'.encode()


def scoped(key: str, of: ScopedKey) -> ScopedKey:
    return ScopedKey.from_str(f"{key}-{of.scope}")


def flip(data: bytes) -> bytes:
    """Change a byte in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


# Both ways


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ok", [True, False])
def test_result_goes_from_a_file_to_the_store_and_back(
    s3os: S3ObjectStore, of: ScopedKey, key: GufeKey, tmp_path: Path, form: Any, ok: bool
) -> None:
    text = text_of(key)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(form(text))
    ref = s3os.upload_protocoldagresult(source, ok, key, of, "me")
    assert (ref.obj_key, ref.ok, ref.scope, ref.creator) == (key, ok, of.scope, "me")
    assert s3os.download_protocoldagresult(target, scoped(key, of), of, ok=ok) == len(text)
    assert target.read_bytes() == text
    size = s3os.download_protocoldagresult(target, location=ref.location, packed=True)
    stored = body(s3os, f"{s3os.prefix}/{ref.location}")
    assert (target.read_bytes(), size) == (stored, len(stored))
    assert stored.startswith(b"\x28\xb5\x2f\xfd")
    assert sorted(tmp_path.iterdir()) == [source, target]


def test_bytes_and_open_files_are_streamed_too(
    s3os: S3ObjectStore, of: ScopedKey, result: Any, tmp_path: Path
) -> None:
    text = gufe_adapter.result_to_json(result)
    source = tmp_path / "source"
    source.write_bytes(text)
    with source.open("rb") as file:
        for given in (text, io.BytesIO(text), file, str(source)):
            ref = s3os.upload_protocoldagresult(given, True, result.key, of)
            assert s3os.pull_protocoldagresult(location=ref.location) is result
            s3os.delete(str(ref.location))
        assert not file.closed
    target = io.BytesIO()
    s3os.upload_protocoldagresult(text, True, result.key, of)
    s3os.download_protocoldagresult(target, scoped(result.key, of), of)
    assert target.getvalue() == text


def test_store_of_bytes_streams_as_well(
    s3os: S3ObjectStore,
    s3_settings: S3ObjectStoreSettings,
    of: ScopedKey,
    key: GufeKey,
    tmp_path: Path,
) -> None:
    changes = {"AWS_S3_BUCKET": s3os.bucket, "AWS_S3_PREFIX": s3os.prefix}
    store, packed = S3BytesStore(s3_settings.model_copy(update=changes)), pack(text_of(key))
    store.upload_protocoldagresult(packed, True, key, of)
    assert store.pull_protocoldagresult(scoped(key, of), of) == packed
    store.download_protocoldagresult(tmp_path / "x", scoped(key, of), of, packed=True)
    assert (tmp_path / "x").read_bytes() == packed


@pytest.mark.usefixtures("small_parts")
def test_large_result_is_sent_and_fetched_in_parts(
    s3os: S3ObjectStore, of: ScopedKey, key: GufeKey, tmp_path: Path
) -> None:
    text = text_of(key, LARGE)
    ref = s3os.upload_protocoldagresult(text, True, key, of)
    client = s3os.bucket_prefix.client
    head = client.head_object(Bucket=s3os.bucket, Key=f"{s3os.prefix}/{ref.location}")
    assert head["ETag"].strip('"').endswith("-2")
    assert head["ContentType"] == "application/zstd"
    s3os.download_protocoldagresult(tmp_path / "x", location=ref.location)
    assert (tmp_path / "x").read_bytes() == text
    assert list(s3os.iter_incomplete_uploads()) == []


def test_uncompressed_object_of_an_old_deployment_is_streamed(
    s3os: S3ObjectStore, of: ScopedKey, key: GufeKey, tmp_path: Path
) -> None:
    where = f"protocoldagresult/org/campaign/project/{of.gufe_key}/results/{key}/obj.json"
    put(s3os, f"{s3os.prefix}/{where}", b'{"nested": "\xc3\xa4"}')
    s3os.download_protocoldagresult(tmp_path / "x", scoped(key, of), of)
    assert (tmp_path / "x").read_bytes() == b'{"nested": "\xc3\xa4"}'


# Faults on the way there


@pytest.mark.usefixtures("small_parts")
def test_part_that_fails_or_arrives_damaged_is_sent_again_alone(
    open_store: Open, of: ScopedKey, key: GufeKey
) -> None:
    faults: dict[int, Damage | Refusal] = {1: Damage(request=flip), 2: Refusal(503, "SlowDown")}
    store, proxy = open_store(lambda request: faults.pop(request.part, None))
    text = text_of(key, LARGE)
    ref = store.upload_protocoldagresult(text, True, key, of)
    assert sorted(one.part for one in proxy.requests if one.part) == [1, 1, 2, 2]
    assert all(one.md5_is_correct for one in proxy.requests if one.part)
    target = io.BytesIO()
    store.download_protocoldagresult(target, location=ref.location)
    assert target.getvalue() == text


def test_small_result_that_arrives_damaged_is_sent_again(
    open_store: Open, of: ScopedKey, key: GufeKey
) -> None:
    faults = [Damage(request=flip)]
    store, proxy = open_store(
        lambda request: faults.pop() if faults and "obj.json" in request.path else None
    )
    ref = store.upload_protocoldagresult(text_of(key), True, key, of)
    assert sum("obj.json" in one.path for one in proxy.requests) == 2
    store.download_protocoldagresult(io.BytesIO(), location=ref.location)


@pytest.mark.usefixtures("small_parts")
def test_failed_upload_leaves_neither_object_nor_parts(
    open_store: Open, of: ScopedKey, key: GufeKey
) -> None:
    store, proxy = open_store(
        lambda request: Refusal(403, "AccessDenied") if request.part == 2 else None
    )
    with pytest.raises(S3UnavailableError, match="writing an object"):
        store.upload_protocoldagresult(text_of(key, LARGE), True, key, of)
    assert any(one.part == 2 for one in proxy.requests)
    assert names(store) == []
    assert list(store.iter_incomplete_uploads()) == []


class _Breaks(io.BytesIO):
    """A file that cannot be read to its end."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > PART + 2**20:
            raise OSError("the disk is gone")
        return super().read(size)

    def seekable(self) -> bool:
        return False


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("form", FORMS)
def test_source_that_breaks_leaves_neither_object_nor_parts(
    s3os: S3ObjectStore, of: ScopedKey, key: GufeKey, form: Any
) -> None:
    data = form(text_of(key, LARGE))
    with pytest.raises(OSError, match="the disk is gone"):
        s3os.upload_protocoldagresult(_Breaks(data), True, key, of)
    if form is pack:
        for flawed in (data[:-1], flip(data), data + b"x"):
            with pytest.raises(ValueError, match="the result is truncated or damaged"):
                s3os.upload_protocoldagresult(flawed, True, key, of)
    assert names(s3os) == []
    assert list(s3os.iter_incomplete_uploads()) == []


# Faults on the way back


@pytest.mark.usefixtures("small_parts")
def test_part_that_is_cut_off_is_fetched_again_alone(
    open_store: Open, of: ScopedKey, key: GufeKey, tmp_path: Path
) -> None:
    cut: list[str] = []

    def once(request: Request) -> Damage | None:
        if request.range in ("", *cut):
            return None
        cut.append(request.range)
        return Damage(answer=half) if request.range.startswith(str(PART)) else None

    store, proxy = open_store(once)
    text = text_of(key, LARGE)
    ref = store.upload_protocoldagresult(text, True, key, of)
    store.download_protocoldagresult(tmp_path / "x", location=ref.location)
    assert (tmp_path / "x").read_bytes() == text
    ranges = [one.range.partition("-")[0] for one in proxy.requests if one.range]
    assert sorted(ranges) == ["0", str(PART), str(PART)]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("size", "packed"), [(100, True), (100, False), (LARGE, False)])
@pytest.mark.parametrize("damage", [flip, half])
def test_truncated_or_changed_download_is_an_error_and_leaves_no_file(
    open_store: Open,
    of: ScopedKey,
    key: GufeKey,
    tmp_path: Path,
    size: int,
    packed: bool,
    damage: Callable[[bytes], bytes],
) -> None:
    store, _ = open_store(
        lambda request: Damage(answer=damage) if request.method == "GET" else None
    )
    ref = store.upload_protocoldagresult(text_of(key, size), True, key, of)
    target = tmp_path / "result.json"
    for older in (None, b"an older file"):
        if older is not None:
            target.write_bytes(older)
        with pytest.raises(S3ObjectStoreError, match=r"damaged|reading an object"):
            store.download_protocoldagresult(target, location=ref.location, packed=packed)
        assert [file.read_bytes() for file in tmp_path.iterdir()] == [older] * (older is not None)


@pytest.mark.parametrize("form", FORMS)
def test_stored_object_that_is_damaged_or_another_is_an_error(
    s3os: S3ObjectStore, of: ScopedKey, key: GufeKey, tmp_path: Path, form: Any
) -> None:
    data = form(text_of(key))
    ref = s3os.upload_protocoldagresult(data, True, key, of)
    name = f"{s3os.prefix}/{ref.location}"
    other = text_of(f"ProtocolDAGResult-{uuid4().hex}")
    flaws = [(form(other), f"does not contain {key}"), (form(b"no json"), "damaged")]
    flaws += [(b"", "damaged"), (b"x", "damaged"), (form(b"[\xff]"), "damaged")]
    if form is pack:
        flaws += [(data[:-1], "damaged"), (flip(data), "damaged"), (data + b"x", "damaged")]
    for flawed, message in flaws:
        put(s3os, name, flawed)
        with pytest.raises(S3ObjectStoreError, match=message):
            s3os.download_protocoldagresult(tmp_path / "x", location=ref.location)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_parts")
def test_object_that_is_replaced_during_the_download_is_an_error(
    open_store: Open, of: ScopedKey, key: GufeKey, tmp_path: Path
) -> None:
    first, second = (text_of(key, LARGE) for _ in range(2))
    replaced: list[str] = []

    def replace(request: Request) -> None:
        if request.range.startswith(str(PART)) and not replaced:
            replaced.append(request.range)
            store.upload_protocoldagresult(second, True, key, of)

    store, _ = open_store(replace)
    ref = store.upload_protocoldagresult(first, True, key, of)
    with pytest.raises(S3ObjectStoreError, match=r"replaced meanwhile|damaged"):
        store.download_protocoldagresult(tmp_path / "x", location=ref.location)
    assert replaced
    assert list(tmp_path.iterdir()) == []


# Bad arguments


def test_missing_result_leaves_no_file(
    s3os: S3ObjectStore, of: ScopedKey, key: GufeKey, tmp_path: Path
) -> None:
    with pytest.raises(MissingObjectError, match=rf"{key}/obj\.json\.zst"):
        s3os.download_protocoldagresult(tmp_path / "x", scoped(key, of), of)
    with pytest.raises(KeyError, match="no/where"):
        s3os.download_protocoldagresult(tmp_path / "x", location="no/where")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_of_streams_are_refused(
    s3os: S3ObjectStore, of: ScopedKey, key: GufeKey, tmp_path: Path
) -> None:
    bad: Any
    for bad in (None, 5, ["x"]):
        with pytest.raises(TypeError, match="a path or a binary file"):
            s3os.upload_protocoldagresult(bad, True, key, of)
        with pytest.raises(TypeError, match="a path or a binary file"):
            s3os.download_protocoldagresult(bad, location="x")
    with pytest.raises(TypeError, match="expected a binary file"):
        s3os.upload_protocoldagresult(io.StringIO("{}"), True, key, of)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(TypeError, match="must be a bool"):
        s3os.upload_protocoldagresult(b"{}", 1, key, of)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ValueError, match="gufe key"):
        s3os.upload_protocoldagresult(b"{}", True, "nonsense", of)
    with pytest.raises(ValueError, match="is not the key of a"):
        s3os.upload_protocoldagresult(b"{}", True, key, scoped("Task-" + "0" * 32, of))
    with pytest.raises(FileNotFoundError):
        s3os.upload_protocoldagresult(tmp_path / "missing", True, key, of)
    with pytest.raises(IsADirectoryError, match="is a directory"):
        s3os.download_protocoldagresult(tmp_path, location="x")
    with pytest.raises(ValueError, match="not identified"):
        s3os.download_protocoldagresult(tmp_path / "x", scoped(key, of))
    assert (names(s3os), list(tmp_path.iterdir())) == ([], [])


# What killed processes leave


def begin(store: S3ObjectStore, name: str) -> str:
    """Begin an upload in parts, as a process that is killed then."""
    client = store.bucket_prefix.client
    upload = client.create_multipart_upload(Bucket=store.bucket, Key=name)["UploadId"]
    client.upload_part(Bucket=store.bucket, Key=name, UploadId=upload, PartNumber=1, Body=b"x")
    return upload


def test_incomplete_uploads_below_the_prefix_are_found_and_removed(s3os: S3ObjectStore) -> None:
    begin(s3os, "another/store/x")
    uploads = {begin(s3os, f"{s3os.prefix}/{name}"): name for name in ("a/x", "b/y")}
    found = list(s3os.iter_incomplete_uploads())
    assert {one.upload: one.location for one in found} == uploads
    # moto has one time for all.
    assert all(one.started <= datetime.now(UTC) + timedelta(hours=1) for one in found)
    for one in found:
        s3os.abort_upload(one)
        # Another process may have been faster.
        s3os.abort_upload(one)
    assert list(s3os.iter_incomplete_uploads()) == []


def test_reset_removes_incomplete_uploads_below_the_prefix(s3os: S3ObjectStore) -> None:
    begin(s3os, f"{s3os.prefix}/a/x")
    outside = begin(s3os, "another/store/x")
    s3os.reset()
    assert list(s3os.iter_incomplete_uploads()) == []
    found = s3os.bucket_prefix.client.list_multipart_uploads(Bucket=s3os.bucket)["Uploads"]
    assert [one["UploadId"] for one in found] == [outside]


def test_incomplete_upload_outside_the_prefix_is_not_removed(make_store: MakeStore) -> None:
    outside = IncompleteUpload("../x", datetime.now(UTC), "1")
    with pytest.raises(ValueError, match="not a location"):
        make_store().abort_upload(outside)


def test_server_without_a_list_of_uploads_has_none(open_store: Open) -> None:
    store, _ = open_store(
        lambda request: Refusal(501, "NotImplemented") if request.lists_uploads else None
    )
    assert list(store.iter_incomplete_uploads()) == []
