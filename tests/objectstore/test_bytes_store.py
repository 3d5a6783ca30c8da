"""Bytes in, bytes out, with the signatures of alchemiscale 0.8."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from alchemistore import S3BytesStore, S3ObjectStore, ScopedKey, gufe_adapter
from alchemistore.errors import MissingObjectError
from alchemistore.objectstore.packing import pack
from alchemistore.settings import S3ObjectStoreSettings
from tests.objectstore.conftest import MakeStore, body, names, put
from tests.support.campaigns import ZERO


@pytest.fixture
def stores(
    s3_settings: S3ObjectStoreSettings, make_store: MakeStore
) -> tuple[S3BytesStore, S3ObjectStore]:
    """A store of bytes and one of results, in the same bucket."""
    results = make_store()
    results.initialize()
    changes = {"AWS_S3_BUCKET": results.bucket, "AWS_S3_PREFIX": results.prefix}
    return S3BytesStore(s3_settings.model_copy(update=changes)), results


@pytest.fixture
def key() -> str:
    return f"ProtocolDAGResult-{uuid4().hex}"


def scoped(key: str, of: ScopedKey) -> ScopedKey:
    return ScopedKey.from_str(f"{key}-{of.scope}")


@pytest.mark.parametrize("ok", [True, False])
@pytest.mark.parametrize("data", [b"", b"any bytes \xff\0", pack(b"[]")])
def test_bytes_are_stored_and_returned_unchanged(
    stores: tuple[S3BytesStore, S3ObjectStore], of: ScopedKey, key: str, ok: bool, data: bytes
) -> None:
    store, _ = stores
    ref = store.push_protocoldagresult(data, ok, key, of, "service 1")
    route = "results" if ok else "failures"
    assert ref.location == (
        f"protocoldagresult/org/campaign/project/{of.gufe_key}/{route}/{key}/obj.json.zst"
    )
    assert (ref.obj_key, ref.ok, ref.scope, ref.creator) == (key, ok, of.scope, "service 1")
    assert body(store, f"{store.prefix}/{ref.location}") == data
    assert store.pull_protocoldagresult(scoped(key, of), of, ok=ok) == data
    assert store.pull_protocoldagresult(scoped(key, of), of, None, ok) == data
    assert store.pull_protocoldagresult(location=ref.location) == data
    with pytest.raises(MissingObjectError):
        store.pull_protocoldagresult(scoped(key, of), of, ok=not ok)


def test_both_stores_read_what_the_other_has_written(
    stores: tuple[S3BytesStore, S3ObjectStore], of: ScopedKey, result: Any
) -> None:
    of_bytes, of_results = stores
    data = pack(gufe_adapter.result_to_json(result))
    ref = of_bytes.push_protocoldagresult(
        protocoldagresult=data,
        protocoldagresult_ok=True,
        protocoldagresult_gufekey=result.key,
        transformation=of,
    )
    assert of_results.pull_protocoldagresult(location=ref.location) is result
    of_results.delete(str(ref.location))
    assert of_results.push_protocoldagresult(result, of).location == ref.location
    assert of_bytes.pull_protocoldagresult(scoped(result.key, of), of) == data


def test_uncompressed_object_of_an_old_deployment_is_found_by_its_keys(
    stores: tuple[S3BytesStore, S3ObjectStore], of: ScopedKey, key: str
) -> None:
    store, _ = stores
    where = f"protocoldagresult/org/campaign/project/{of.gufe_key}/results/{key}/obj.json"
    put(store, f"{store.prefix}/{where}", b"{}")
    assert store.pull_protocoldagresult(scoped(key, of), of) == b"{}"


def test_bad_arguments_are_refused(
    stores: tuple[S3BytesStore, S3ObjectStore], of: ScopedKey, key: str
) -> None:
    store, _ = stores
    bad: Any
    for bad in ("text", None, bytearray(b"x")):
        with pytest.raises(TypeError, match="expected bytes"):
            store.push_protocoldagresult(bad, True, key, of)
    for bad in (None, 1, "True"):
        with pytest.raises(TypeError, match="must be a bool"):
            store.push_protocoldagresult(b"x", bad, key, of)
    for bad in ("", "no key at all", None, 5):
        with pytest.raises(ValueError, match="gufe key"):
            store.push_protocoldagresult(b"x", True, bad, of)
    for bad in ("nonsense", f"Task-{ZERO}-{of.scope}"):
        with pytest.raises(ValueError, match=r"scoped key|is not the key of a"):
            store.push_protocoldagresult(b"x", True, key, bad)
    with pytest.raises(ValueError, match="not identified"):
        store.pull_protocoldagresult(scoped(key, of))
    with pytest.raises(ValueError, match="pass keys of one scope"):
        store.pull_protocoldagresult(f"{key}-another-scope-here", of)
    assert names(store) == []


def test_store_of_results_takes_bytes_by_the_names_of_the_store_of_bytes(
    s3os: S3ObjectStore, of: ScopedKey, result: Any
) -> None:
    data = pack(gufe_adapter.result_to_json(result))
    ref = s3os.push_protocoldagresult(
        protocoldagresult=data,
        protocoldagresult_ok=True,
        protocoldagresult_gufekey=result.key,
        transformation=of,
        creator="me",
    )
    assert (ref.obj_key, ref.ok, ref.creator) == (result.key, True, "me")
    assert body(s3os, f"{s3os.prefix}/{ref.location}") == data
