"""The bucket is created, checked, listed and emptied; errors of the server are explained."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from pydantic import SecretStr

from alchemistore import S3ObjectStore, ScopedKey
from alchemistore.errors import S3ObjectStoreError, StoreUnavailableError
from alchemistore.local.daemon import free_ports
from alchemistore.objectstore import get_s3os
from alchemistore.settings import S3ObjectStoreSettings
from tests.objectstore.conftest import MakeStore, names, put

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def test_fresh_store_passes_its_check_and_is_empty_after_it(s3os: S3ObjectStore) -> None:
    s3os.check()
    assert s3os._store_check()
    assert names(s3os) == []


def test_initialize_again_keeps_stored_objects(s3os: S3ObjectStore) -> None:
    put(s3os, "a/store/x")
    s3os.initialize()
    assert list(s3os.iter_contents()) == ["x"]


def test_concurrent_checks_do_not_disturb_each_other(s3os: S3ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: s3os._store_check(), range(24)))
    assert names(s3os) == []


@pytest.mark.parametrize("region", ["us-east-1", "us-west-2", "eu-central-1"])
def test_bucket_can_be_created_in_any_region(make_store: MakeStore, region: str) -> None:
    store = make_store(AWS_DEFAULT_REGION=region)
    store.initialize()
    store.initialize()
    store.check()


def test_bucket_is_created_in_the_requested_region(
    make_store: MakeStore, s3_settings: S3ObjectStoreSettings
) -> None:
    store = make_store(AWS_DEFAULT_REGION="eu-central-1")
    store.initialize()
    store.check()
    if s3_settings.AWS_ENDPOINT_URL is None:
        location = store.bucket_prefix.client.get_bucket_location(Bucket=store.bucket)
        assert location["LocationConstraint"] == "eu-central-1"


def test_concurrent_initialize_calls_all_succeed(make_store: MakeStore) -> None:
    store = make_store()
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(store.initialize) for _ in range(4)]:
            done.result()
    store.check()


def test_locations_are_listed_relative_to_the_prefix_and_can_be_pulled(
    s3os: S3ObjectStore, result: Any, of: ScopedKey
) -> None:
    ref = s3os.push_protocoldagresult(result, of)
    put(s3os, "a/storehouse/x")
    put(s3os, "a/x")
    assert list(s3os.iter_contents()) == [ref.location]
    assert [
        s3os.pull_protocoldagresult(location=location) for location in s3os.iter_contents()
    ] == [result]


def test_listing_accepts_a_prefix_of_locations(s3os: S3ObjectStore) -> None:
    for name in ("one/a", "one/b", "two/a"):
        put(s3os, f"a/store/{name}")
    assert list(s3os.iter_contents("one/")) == ["one/a", "one/b"]
    assert list(s3os.iter_contents("t")) == ["two/a"]
    assert list(s3os.iter_contents("three")) == []


@pytest.mark.parametrize("prefix", ["/", "/a", "../", "one/../.."])
def test_listing_does_not_leave_the_prefix(s3os: S3ObjectStore, prefix: str) -> None:
    # At the call, not at the first iteration.
    with pytest.raises(ValueError, match="not a location"):
        s3os.iter_contents(prefix)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b c/ä"])
def test_prefix_can_be_any_text(
    make_store: MakeStore, result: Any, of: ScopedKey, prefix: str
) -> None:
    store = make_store(AWS_S3_PREFIX=prefix)
    store.initialize()
    store.check()
    ref = store.push_protocoldagresult(result, of)
    assert names(store) == [os.path.join(prefix, str(ref.location))]  # noqa: PTH118 (as in older deployments)
    assert list(store.iter_contents()) == [ref.location]
    assert store.pull_protocoldagresult(location=ref.location) is result
    store.reset()
    assert names(store) == []


def test_reset_deletes_below_the_prefix_only_and_keeps_the_bucket(s3os: S3ObjectStore) -> None:
    for name in ("a/store/x", "a/store/y/z", "a/storehouse", "a/store", "b"):
        put(s3os, name)
    s3os.reset()
    # Where folders are directories, "a/store" cannot be an object beside "a/store/x".
    assert [name for name in names(s3os) if name != "a/store"] == ["a/storehouse", "b"]
    s3os.reset()
    s3os.check()


def test_reset_deletes_more_than_one_batch(
    s3os: S3ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alchemistore.objectstore.bucket.DELETE_BATCH", 10)
    for number in range(25):
        put(s3os, f"a/store/{number}")
    s3os.reset()
    assert names(s3os) == []


def test_reset_deletes_all_versions(s3os: S3ObjectStore) -> None:
    client = s3os.bucket_prefix.client
    client.put_bucket_versioning(Bucket=s3os.bucket, VersioningConfiguration={"Status": "Enabled"})
    for content in (b"1", b"2"):
        put(s3os, "a/store/x", content)
        put(s3os, "b", content)
    s3os.delete("x")
    s3os.check()
    s3os.reset()
    found = client.list_object_versions(Bucket=s3os.bucket)
    assert [version["Key"] for version in found["Versions"]] == ["b", "b"]
    assert "DeleteMarkers" not in found


def test_reset_names_objects_that_could_not_be_deleted(
    s3os: S3ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3os, "a/store/x")
    monkeypatch.setattr(
        s3os.bucket_prefix.client,
        "delete_objects",
        lambda **_: {"Errors": [{"Key": "a/store/x", "Code": "AccessDenied", "Message": "locked"}]},
    )
    with pytest.raises(
        S3ObjectStoreError, match=r"1 of 1 objects .* not deleted.*a/store/x.*AccessDenied: locked"
    ):
        s3os.reset()


def test_object_is_deleted_once(s3os: S3ObjectStore) -> None:
    put(s3os, "a/store/x")
    s3os.delete("x")
    assert names(s3os) == []
    with pytest.raises(KeyError, match="No such object in the object store: x"):
        s3os.delete("x")
    with pytest.raises(ValueError, match="not a location"):
        s3os.delete("../b")


CALLS: dict[str, Callable[[S3ObjectStore], Any]] = {
    "check": S3ObjectStore.check,
    "reset": S3ObjectStore.reset,
    "list": lambda store: list(store.iter_contents()),
    "pull": lambda store: store.pull_protocoldagresult(location="x"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_missing_bucket_is_named_with_the_remedy(
    make_store: MakeStore, call: Callable[[S3ObjectStore], Any]
) -> None:
    store = make_store()
    with pytest.raises(S3ObjectStoreError, match=rf"{store.bucket}.* does not exist; create it"):
        call(store)
    assert not store._store_check()


def test_push_does_not_create_a_bucket(make_store: MakeStore, result: Any, of: ScopedKey) -> None:
    with pytest.raises(S3ObjectStoreError, match="does not exist; create it"):
        make_store().push_protocoldagresult(result, of)


def test_bad_bucket_name_is_one_clear_error(make_store: MakeStore) -> None:
    with pytest.raises(S3ObjectStoreError, match="bucket 'A b!'"):
        make_store(AWS_S3_BUCKET="A b!").check()


class TestRefusals:
    """On SeaweedFS only, because moto accepts all credentials."""

    @pytest.mark.parametrize(
        ("wrong", "hint"),
        [
            ({"AWS_ACCESS_KEY_ID": SecretStr("NOBODY")}, "check AWS_ACCESS_KEY_ID"),
            ({"AWS_SECRET_ACCESS_KEY": SecretStr(SECRET)}, "check AWS_SECRET_ACCESS_KEY"),
        ],
    )
    def test_wrong_credentials_are_named_but_not_shown(
        self, s3_server: S3ObjectStoreSettings, wrong: dict[str, SecretStr], hint: str
    ) -> None:
        store = get_s3os(s3_server.model_copy(update=wrong))
        with pytest.raises(StoreUnavailableError, match=hint) as caught:
            store.check()
        assert isinstance(caught.value, S3ObjectStoreError)
        assert "listing objects" in str(caught.value)
        for secret in (*wrong.values(), s3_server.AWS_SECRET_ACCESS_KEY):
            assert secret is not None
            assert secret.get_secret_value() not in f"{caught.value} {store!r}"
        assert not store._store_check()

    def test_missing_credentials_are_named(
        self, s3_server: S3ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        nobody = s3_server.model_copy(
            update={"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
        )
        with pytest.raises(
            StoreUnavailableError, match="there are no credentials; set AWS_ACCESS_KEY_ID"
        ):
            get_s3os(nobody).check()

    def test_server_that_is_down_is_an_error_that_names_the_setting(
        self, s3_server: S3ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("alchemistore.objectstore.client.ATTEMPTS", 1)
        (port,) = free_ports(1)
        store = get_s3os(s3_server, f"http://127.0.0.1:{port}")
        with pytest.raises(
            StoreUnavailableError, match=r"cannot be reached.*check AWS_ENDPOINT_URL"
        ):
            store.check()

    def test_server_that_is_out_of_order_is_unavailable(
        self, s3_server: S3ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class OutOfOrder(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()

        monkeypatch.setattr("alchemistore.objectstore.client.ATTEMPTS", 1)
        with HTTPServer(("127.0.0.1", 0), OutOfOrder) as server:
            Thread(target=server.handle_request).start()
            store = get_s3os(s3_server, f"http://127.0.0.1:{server.server_port}")
            with pytest.raises(StoreUnavailableError, match=r"503.*try again later"):
                list(store.iter_contents())

    def test_malformed_endpoint_url_is_named(self, s3_server: S3ObjectStoreSettings) -> None:
        with pytest.raises(StoreUnavailableError, match="AWS_ENDPOINT_URL is not a URL") as caught:
            get_s3os(s3_server, "user:hunter2@nowhere at all").check()
        assert "hunter2" not in str(caught.value)

    def test_proxy_from_the_environment_is_not_used_for_localhost(
        self, s3_server: S3ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (port,) = free_ports(1)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        get_s3os(s3_server.model_copy(update={"AWS_S3_PREFIX": "past the proxy"})).check()


def test_check_names_the_step_that_fails(
    s3os: S3ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3os.bucket_prefix.client

    def refuse(**_: Any) -> Any:
        raise client.exceptions.ClientError(
            {"Error": {"Code": "AccessDenied", "Message": "no"}}, "Any"
        )

    for call, step in (
        ("list_objects_v2", "listing objects"),
        ("put_object", "writing an object"),
        ("get_object", "reading an object"),
        ("delete_object", "deleting an object"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(client, call, refuse)
            with pytest.raises(
                StoreUnavailableError,
                match=rf"{step} in bucket .* failed: AccessDenied: no; let these",
            ):
                s3os.check()
            if call != "delete_object":
                patch.undo()
                assert names(s3os) == []


def test_equal_settings_share_a_store_and_unequal_do_not(s3_server: S3ObjectStoreSettings) -> None:
    again = S3ObjectStoreSettings.model_validate(s3_server.model_dump())
    assert get_s3os(again) is get_s3os(s3_server)
    assert get_s3os(s3_server, "http://127.0.0.1:1") is not get_s3os(s3_server)
    assert get_s3os(s3_server.model_copy(update={"AWS_S3_PREFIX": "q"})) is not get_s3os(s3_server)


def test_representation_shows_bucket_and_prefix_only(s3_server: S3ObjectStoreSettings) -> None:
    assert repr(get_s3os(s3_server)) == "S3ObjectStore(bucket='alchemistore', prefix='store')"


def test_secrets_are_not_logged(
    s3_server: S3ObjectStoreSettings, caplog: pytest.LogCaptureFixture
) -> None:
    assert s3_server.AWS_SECRET_ACCESS_KEY is not None
    with caplog.at_level(logging.DEBUG):
        get_s3os(s3_server).check()
    assert caplog.records
    assert s3_server.AWS_SECRET_ACCESS_KEY.get_secret_value() not in caplog.text


def test_forked_child_opens_its_own_connections(
    s3_server: S3ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = get_s3os(s3_server)
    before = store.bucket_prefix.client
    assert store.bucket_prefix.client is before
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    assert store.bucket_prefix.client is not before
