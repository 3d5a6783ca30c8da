"""S3 servers that lack some requests, or demand more, are used without them.

A proxy in front of the real server refuses what such servers refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from alchemistore import S3ObjectStore
from alchemistore.errors import S3ObjectStoreError
from alchemistore.objectstore import get_s3os
from alchemistore.settings import S3ObjectStoreSettings
from tests.objectstore.conftest import names
from tests.support.s3_proxy import Refusal, Refuse, Request, S3Proxy, s3_proxy

Open = Callable[[Refuse], tuple[S3ObjectStore, S3Proxy]]
UNSUPPORTED = [Refusal(400, "NotImplemented"), Refusal(405, "MethodNotAllowed"), Refusal(501)]


@pytest.fixture
def open_store(bucket: S3ObjectStoreSettings) -> Iterator[Open]:
    """Opens an empty store behind a proxy."""
    with ExitStack() as stack:

        def open_behind(refuse: Refuse) -> tuple[S3ObjectStore, S3Proxy]:
            assert bucket.AWS_ENDPOINT_URL is not None
            proxy = stack.enter_context(s3_proxy(bucket.AWS_ENDPOINT_URL, refuse))
            settings = bucket.model_copy(
                update={"AWS_ENDPOINT_URL": proxy.url, "AWS_S3_PREFIX": "a/store"}
            )
            store = get_s3os(settings)
            store.initialize()
            return store, proxy

        yield open_behind


def fill(store: S3ObjectStore, count: int) -> list[str]:
    locations = [f"object {number} ü+&" for number in range(count)]
    for location in locations:
        store.bucket_prefix.put(location, b"x", "text/plain")
    store.bucket_prefix.client.put_object(Bucket=store.bucket, Key="a/stored", Body=b"x")
    return locations


def deletions(proxy: S3Proxy) -> int:
    return sum(request.deletes_many for request in proxy.requests)


def test_proxy_passes_requests_on(open_store: Open) -> None:
    store, proxy = open_store(lambda request: None)
    locations = fill(store, 3)
    assert list(store.iter_contents()) == locations
    assert store.bucket_prefix.get(locations[0]) == b"x"
    store.check()
    store.reset()
    assert names(store) == ["a/stored"]
    assert any(request.lists_versions for request in proxy.requests)
    assert deletions(proxy) == 2


@pytest.mark.parametrize("refusal", UNSUPPORTED, ids=str)
def test_without_deletion_of_many_objects_are_deleted_one_by_one(
    open_store: Open, refusal: Refusal
) -> None:
    store, proxy = open_store(lambda request: refusal if request.deletes_many else None)
    locations = fill(store, 5)
    store.remove(iter([*locations[:2], "absent"]))
    assert list(store.iter_contents()) == locations[2:]
    store.check()
    store.reset()
    assert names(store) == ["a/stored"]
    # The server is asked once only.
    assert deletions(proxy) == 1


@pytest.mark.parametrize("refusal", UNSUPPORTED, ids=str)
def test_without_versions_reset_deletes_the_objects(open_store: Open, refusal: Refusal) -> None:
    store, proxy = open_store(lambda request: refusal if request.lists_versions else None)
    fill(store, 3)
    store.reset()
    assert names(store) == ["a/stored"]
    assert deletions(proxy) == 1


def test_without_both_reset_deletes_the_objects(open_store: Open) -> None:
    store, _ = open_store(
        lambda request: (
            Refusal(501, "NotImplemented")
            if request.deletes_many or request.lists_versions
            else None
        )
    )
    fill(store, 3)
    store.reset()
    assert names(store) == ["a/stored"]


def _demand_md5(request: Request) -> Refusal | None:
    newer = any(name.startswith(("x-amz-checksum-", "x-amz-sdk-")) for name in request.headers)
    if request.deletes_many and (newer or not request.md5_is_correct):
        return Refusal(400, "InvalidRequest")
    return None


def test_server_that_knows_only_md5_deletes_many(open_store: Open) -> None:
    store, proxy = open_store(_demand_md5)
    fill(store, 3)
    store.check()
    store.reset()
    assert names(store) == ["a/stored"]
    assert deletions(proxy) == 2


@pytest.mark.parametrize(
    ("refused", "step"),
    [("deletes_many", "deleting objects"), ("lists_versions", "listing objects")],
)
def test_other_refusals_are_errors(open_store: Open, refused: str, step: str) -> None:
    store, _ = open_store(
        lambda request: Refusal(403, "AccessDenied") if getattr(request, refused) else None
    )
    locations = fill(store, 2)
    with pytest.raises(S3ObjectStoreError, match=f"{step} in bucket .* AccessDenied"):
        store.reset()
    assert list(store.iter_contents()) == locations


@pytest.mark.parametrize(
    ("method", "step"),
    [
        ("PUT", "writing an object"),
        ("GET", "listing objects"),
        ("DELETE", "deleting an object"),
        ("POST", "deleting objects"),
    ],
)
def test_check_tries_what_the_store_needs(open_store: Open, method: str, step: str) -> None:
    refused: list[str] = []
    store, _ = open_store(
        lambda request: Refusal(403, "AccessDenied") if request.method in refused else None
    )
    store.check()
    refused.append(method)
    with pytest.raises(S3ObjectStoreError, match=f"{step} in bucket .* AccessDenied"):
        store.check()
