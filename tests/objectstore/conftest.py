"""A separate object store for each test, on SeaweedFS and on moto; results of real tasks."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.loaders import JSONFileLoader
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber

from alchemistore import S3BytesStore, S3ObjectStore, ScopedKey, gufe_adapter
from alchemistore.objectstore import get_s3os
from alchemistore.settings import S3ObjectStoreSettings
from tests.support.gufe_classes import transformation
from tests.support.servers import discard_bucket

MakeStore = Callable[..., S3ObjectStore]
_load_file = JSONFileLoader.load_file


@cache
def _loaded(path: str) -> Any:
    return _load_file(JSONFileLoader(), path)


@pytest.fixture(autouse=True, scope="module")
def descriptions_are_loaded_once() -> Iterator[None]:
    """Load botocore's description of S3 once for all tests, because loading it is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: _loaded(path))
        yield


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3ObjectStoreSettings]:
    """Settings of a simulated Amazon S3 in this process, which ends with the test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    # moto is not thread-safe, so it handles one request at a time. SeaweedFS handles many at once.
    lock, process_request = RLock(), BotocoreStubber.process_request

    def process_one_request(stubber: BotocoreStubber, request: AWSPreparedRequest) -> Any:
        with lock:
            return process_request(stubber, request)

    monkeypatch.setattr(BotocoreStubber, "process_request", process_one_request)
    with mock_aws():
        yield S3ObjectStoreSettings.model_validate(
            {
                "AWS_S3_BUCKET": "unused",
                "AWS_S3_PREFIX": "",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
            }
        )


@pytest.fixture(params=["s3_server", "moto"])
def s3_settings(request: pytest.FixtureRequest) -> S3ObjectStoreSettings:
    """The settings of each server."""
    settings: S3ObjectStoreSettings = request.getfixturevalue(request.param)
    return settings


@pytest.fixture
def make_store(s3_settings: S3ObjectStoreSettings) -> Iterator[MakeStore]:
    """Creates stores, by default in one bucket of this test; the bucket does not exist yet."""
    bucket = f"test-{uuid.uuid4().hex}"

    def make(**settings: str) -> S3ObjectStore:
        changes = {"AWS_S3_BUCKET": bucket, "AWS_S3_PREFIX": "a/store"} | settings
        return get_s3os(s3_settings.model_copy(update=changes))

    yield make
    if s3_settings.AWS_ENDPOINT_URL is not None:
        discard_bucket(s3_settings.model_copy(update={"AWS_S3_BUCKET": bucket}))


@pytest.fixture
def s3os(make_store: MakeStore) -> S3ObjectStore:
    """An empty store."""
    store = make_store()
    store.initialize()
    return store


@pytest.fixture
def of() -> ScopedKey:
    """The key of the transformation of the results."""
    return ScopedKey(
        gufe_key=gufe_adapter.key_of(transformation()),
        org="org",
        campaign="campaign",
        project="project",
    )


@pytest.fixture
def make_result(tmp_path: Path) -> Callable[..., Any]:
    """Runs a task, which succeeds or (``mode="fail"``) fails."""

    def make(mode: str = "work") -> Any:
        dag = gufe_adapter.create_dag(transformation(mode))
        return gufe_adapter.execute_dag(dag, shared_basedir=tmp_path, scratch_basedir=tmp_path)

    return make


@pytest.fixture
def result(make_result: Callable[..., Any]) -> Any:
    """A success."""
    return make_result()


def put(store: S3ObjectStore | S3BytesStore, name: str, body: bytes = b"x") -> None:
    """Write an object under any name in the bucket."""
    store.bucket_prefix.client.put_object(Bucket=store.bucket, Key=name, Body=body)


def names(store: S3ObjectStore | S3BytesStore) -> list[str]:
    """Return all names in the bucket."""
    found = store.bucket_prefix.client.list_objects_v2(Bucket=store.bucket)
    return [content["Key"] for content in found.get("Contents", [])]


def body(store: S3ObjectStore | S3BytesStore, name: str) -> bytes:
    """Return the content of an object in the bucket."""
    return store.bucket_prefix.client.get_object(Bucket=store.bucket, Key=name)["Body"].read()
