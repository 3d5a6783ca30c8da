"""Results are pushed to the object store and pulled again."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import Any, Literal

import pytest
import zstandard
from gufe.tokenization import TOKENIZABLE_REGISTRY

from alchemistore import S3ObjectStore, Scope, ScopedKey, gufe_adapter
from alchemistore.errors import (
    DocumentNotBuildableError,
    KeyDriftWarning,
    MissingObjectError,
    S3ObjectStoreError,
)
from alchemistore.gufe_adapter.codec import to_text
from alchemistore.models.clock import now
from alchemistore.objectstore.packing import pack
from tests.objectstore.conftest import MakeStore, body, names, put
from tests.support.gufe_classes import keyed_chain_of, network, system

pytestmark = pytest.mark.usefixtures("quick_collection")


def keyed(result: Any, of: ScopedKey) -> ScopedKey:
    return ScopedKey(
        gufe_key=gufe_adapter.key_of(result), org=of.org, campaign=of.campaign, project=of.project
    )


def test_reference_contains_all_facts_about_the_result(
    s3os: S3ObjectStore, result: Any, of: ScopedKey
) -> None:
    before = now()
    ref = s3os.push_protocoldagresult(result, of, creator="service 1")
    assert (
        ref.location
        == f"protocoldagresult/org/campaign/project/{of.gufe_key}/results/{result.key}/obj.json.zst"
    )
    assert (ref.obj_key, ref.scope, ref.ok, ref.creator) == (
        result.key,
        of.scope,
        True,
        "service 1",
    )
    assert ref.datetime_created is not None
    assert before <= ref.datetime_created <= now()
    assert ref.datetime_created.tzinfo is UTC


def test_object_is_stored_below_the_prefix_as_compressed_json(
    s3os: S3ObjectStore, result: Any, of: ScopedKey
) -> None:
    ref = s3os.push_protocoldagresult(result, str(of))
    assert names(s3os) == [f"a/store/{ref.location}"]
    text = zstandard.ZstdDecompressor().decompress(body(s3os, f"a/store/{ref.location}"))
    assert json.loads(text) == json.loads(gufe_adapter.result_to_json(result))


def test_result_is_pulled_by_keys_and_by_location(
    s3os: S3ObjectStore, result: Any, of: ScopedKey
) -> None:
    ref = s3os.push_protocoldagresult(result, of)
    assert s3os.pull_protocoldagresult(keyed(result, of), of) is result
    assert s3os.pull_protocoldagresult(str(keyed(result, of)), str(of)) is result
    assert s3os.pull_protocoldagresult(location=ref.location) is result
    # The keys and ok are ignored if there is a location.
    assert s3os.pull_protocoldagresult(of, of, location=ref.location, ok=False) is result


def test_result_no_longer_in_memory_is_decoded_again(
    s3os: S3ObjectStore, make_result: Callable[..., Any], of: ScopedKey
) -> None:
    def push() -> tuple[ScopedKey, bytes]:
        result = make_result()
        s3os.push_protocoldagresult(result, of)
        return keyed(result, of), gufe_adapter.result_to_json(result)

    key, text = push()
    gc.collect()
    assert gufe_adapter.cached(key.gufe_key) is None
    pulled = s3os.pull_protocoldagresult(key, of)
    assert pulled.key == key.gufe_key
    assert gufe_adapter.result_to_json(pulled) == text
    assert pulled.protocol_unit_results[-1].outputs == {"total": 2.0}


def test_result_is_returned_as_dict_and_as_text(
    s3os: S3ObjectStore, result: Any, of: ScopedKey
) -> None:
    ref = s3os.push_protocoldagresult(result, of)
    text = s3os.pull_protocoldagresult(location=ref.location, return_as="json")
    assert text == gufe_adapter.result_to_json(result).decode()
    as_dict = s3os.pull_protocoldagresult(location=ref.location, return_as="dict")
    # As text, because NaN is not equal to itself.
    assert str(as_dict) == str(gufe_adapter.result_to_dict(text))
    assert as_dict["__qualname__"] == "ProtocolDAGResult"


def test_failure_is_found_among_failures_only(
    s3os: S3ObjectStore, make_result: Callable[..., Any], of: ScopedKey
) -> None:
    failure = make_result("fail")
    ref = s3os.push_protocoldagresult(failure, of)
    assert not ref.ok
    assert ref.location is not None
    assert f"/failures/{failure.key}/" in ref.location
    assert s3os.pull_protocoldagresult(keyed(failure, of), of, ok=False) is failure
    with pytest.raises(MissingObjectError, match=str(failure.key)):
        s3os.pull_protocoldagresult(keyed(failure, of), of)


def test_pushing_again_overwrites(s3os: S3ObjectStore, result: Any, of: ScopedKey) -> None:
    first, second = s3os.push_protocoldagresult(result, of), s3os.push_protocoldagresult(result, of)
    assert first.location == second.location
    assert list(s3os.iter_contents()) == [first.location]


def test_results_of_two_scopes_are_two_objects(
    s3os: S3ObjectStore, result: Any, of: ScopedKey
) -> None:
    other = ScopedKey(gufe_key=of.gufe_key, org="org", campaign="campaign", project="other")
    refs = [s3os.push_protocoldagresult(result, key) for key in (of, other)]
    assert refs[1].scope == Scope("org", "campaign", "other")
    assert sorted(s3os.iter_contents()) == sorted(ref.location for ref in refs if ref.location)


def test_plain_text_of_older_deployments_is_read(
    s3os: S3ObjectStore, result: Any, of: ScopedKey
) -> None:
    location = f"protocoldagresult/org/campaign/project/{of.gufe_key}/results/{result.key}/obj.json"
    put(s3os, f"a/store/{location}", gufe_adapter.result_to_json(result))
    assert s3os.pull_protocoldagresult(keyed(result, of), of) is result
    assert s3os.pull_protocoldagresult(location=location) is result
    assert (
        s3os.pull_protocoldagresult(location=location, return_as="json")
        == gufe_adapter.result_to_json(result).decode()
    )


def test_many_threads_share_a_store(make_store: MakeStore, result: Any, of: ScopedKey) -> None:
    store = make_store()
    store.initialize()
    fresh = S3ObjectStore(
        store.bucket_prefix.session, store.bucket, "other", store.bucket_prefix.endpoint_url
    )
    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(lambda _: fresh.push_protocoldagresult(result, of), range(16)))
        pulled = list(
            pool.map(lambda ref: fresh.pull_protocoldagresult(location=ref.location), refs)
        )
    assert all(one is result for one in pulled)


def test_large_object_is_uploaded_in_parts(
    s3os: S3ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The smallest parts that S3 allows.
    monkeypatch.setattr("alchemistore.objectstore.bucket.PART", 5 * 2**20)
    data = bytes(range(256)) * (11 * 2**12)
    s3os.bucket_prefix.put("big", data, "application/zstd")
    assert s3os.bucket_prefix.get("big") == data
    head = s3os.bucket_prefix.client.head_object(Bucket=s3os.bucket, Key="a/store/big")
    assert head["ETag"].strip('"').endswith("-3")
    assert head["ContentType"] == "application/zstd"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({}, "location"),
        ({"transformation": "Transformation-a-o-c-p"}, "both"),
        ({"protocoldagresult": "ProtocolDAGResult-a-o-c-p"}, "both"),
        (
            {
                "protocoldagresult": "ProtocolDAGResult-a-o-c-p",
                "transformation": "Transformation-a-o-c-q",
            },
            "scope",
        ),
        (
            {"protocoldagresult": "nonsense", "transformation": "Transformation-a-o-c-q"},
            "scoped key",
        ),
        ({"location": "/protocoldagresult/x"}, "location"),
        ({"location": "protocoldagresult/../../x"}, "location"),
        ({"location": ".."}, "location"),
        ({"location": ""}, "empty"),
        ({"location": "x", "return_as": "yaml"}, "return_as"),
    ],
)
def test_arguments_that_identify_no_result_are_refused(
    make_store: MakeStore, arguments: dict[str, Any], what: str
) -> None:
    # No bucket exists, so the error is raised before any request.
    with pytest.raises(ValueError, match=what):
        make_store().pull_protocoldagresult(**arguments)


@pytest.mark.parametrize("transformation", ["Transformation-abc", "a-b-*-*-*", 7])
def test_pushing_to_no_transformation_is_refused(
    s3os: S3ObjectStore, result: Any, transformation: Any
) -> None:
    with pytest.raises(ValueError, match="scop"):
        s3os.push_protocoldagresult(result, transformation)
    assert names(s3os) == []


@pytest.mark.parametrize("thing", ["text", {"a": 1}, None, network])
def test_push_of_another_type_is_refused(s3os: S3ObjectStore, of: ScopedKey, thing: Any) -> None:
    with pytest.raises(TypeError, match="expected a"):
        s3os.push_protocoldagresult(thing() if callable(thing) else thing, of)
    assert names(s3os) == []


def test_bytes_of_a_result_are_stored_unchanged(
    s3os: S3ObjectStore, make_result: Callable[..., Any], of: ScopedKey
) -> None:
    for mode, ok in (("work", True), ("fail", False)):
        result = make_result(mode)
        text = gufe_adapter.result_to_json(result)
        given = {"protocoldagresult_ok": ok, "protocoldagresult_gufekey": result.key}
        packed = pack(text)
        for data in (packed, text):
            ref = s3os.push_protocoldagresult(data, of, **given)
            assert (ref.obj_key, ref.ok) == (result.key, ok)
            assert body(s3os, f"a/store/{ref.location}") == packed
        assert s3os.pull_protocoldagresult(keyed(result, of), of, ok=ok) is result


def test_bytes_that_are_not_the_given_result_are_refused(
    s3os: S3ObjectStore, make_result: Callable[..., Any], of: ScopedKey
) -> None:
    result = make_result()
    chain = json.loads(gufe_adapter.result_to_json(result))
    chain[-1][1]["name"] = "changed by hand"
    changed = json.dumps(chain).encode()
    data = pack(gufe_adapter.result_to_json(result))
    other = json.dumps(keyed_chain_of(system("a"))).encode()
    for thing, given, message in (
        (data, {"protocoldagresult_ok": False}, "protocoldagresult_ok is False, but"),
        (data, {"protocoldagresult_gufekey": "ProtocolDAGResult-0"}, "but the key of the result"),
        (changed, {}, "the result was changed, or another version"),
        (other, {}, "not a ProtocolDAGResult"),
        (data[:-9], {}, "not those of a ProtocolDAGResult"),
        (b"", {}, "not those of a ProtocolDAGResult"),
        (b"[" * 100_000, {}, "not those of a ProtocolDAGResult"),
    ):
        with pytest.raises(ValueError, match=message):
            s3os.push_protocoldagresult(thing, of, **given)
    with pytest.raises(ValueError, match="protocoldagresult_ok is False, but"):
        s3os.push_protocoldagresult(result, of, protocoldagresult_ok=False)
    assert names(s3os) == []


def test_key_of_another_object_than_a_transformation_is_refused(
    s3os: S3ObjectStore, result: Any, of: ScopedKey
) -> None:
    for kind in ("AlchemicalNetwork", "Task", "ProtocolDAGResult"):
        with pytest.raises(ValueError, match="is not the key of a Transformation"):
            s3os.push_protocoldagresult(result, f"{kind}-{'0' * 32}-{of.scope}")
    assert names(s3os) == []


def test_another_result_at_the_location_of_a_result_is_reported(
    s3os: S3ObjectStore, make_result: Callable[..., Any], of: ScopedKey
) -> None:
    wanted, other = make_result(), make_result("fail")
    ref = s3os.push_protocoldagresult(wanted, of)
    forms: list[Literal["gufe", "dict", "json"]] = ["gufe", "dict", "json"]
    for chain, message in (
        (gufe_adapter.result_to_json(other), f"contains {other.key}, not {wanted.key}"),
        (json.dumps(keyed_chain_of(system("a"))).encode(), "not a ProtocolDAGResult"),
        (b"[" * 100_000, "damaged"),
    ):
        for data in (chain, pack(chain)):
            put(s3os, f"a/store/{ref.location}", data)
            for return_as in forms:
                with pytest.raises(S3ObjectStoreError, match=message):
                    s3os.pull_protocoldagresult(keyed(wanted, of), of, return_as=return_as)


def test_another_key_computed_for_the_nested_form_is_a_warning(
    s3os: S3ObjectStore, make_result: Callable[..., Any], of: ScopedKey
) -> None:
    wanted, other = make_result(), make_result("fail")
    ref = s3os.push_protocoldagresult(wanted, of)
    put(s3os, f"a/store/{ref.location}", to_text(other.to_dict()).encode())
    with pytest.warns(KeyDriftWarning, match=f"should be {wanted.key}.*computes {other.key}"):
        assert s3os.pull_protocoldagresult(keyed(wanted, of), of) is other


def test_intact_result_that_cannot_be_built_is_not_called_damaged(
    s3os: S3ObjectStore, result: Any, of: ScopedKey
) -> None:
    ref = s3os.push_protocoldagresult(result, of)
    chain = json.loads(gufe_adapter.result_to_json(result))
    for pair in chain:
        if pair[0].startswith("Ball-"):
            pair[1]["__module__"] = "not_installed_anywhere"
    data = json.dumps(chain).encode()
    put(s3os, f"a/store/{ref.location}", data)
    TOKENIZABLE_REGISTRY.clear()
    with pytest.raises(DocumentNotBuildableError) as refused:
        s3os.pull_protocoldagresult(keyed(result, of), of)
    message = str(refused.value)
    assert "'not_installed_anywhere' is not installed" in message
    assert f"part of {result.key}" in message
    assert f"nothing is lost: object '{ref.location}' can be read with return_as='json'" in message
    assert "run its task again" not in message
    pulled = s3os.pull_protocoldagresult(keyed(result, of), of, return_as="json")
    assert pulled.encode() == data


def test_missing_result_is_a_key_error_that_names_the_location(
    s3os: S3ObjectStore, result: Any, of: ScopedKey
) -> None:
    with pytest.raises(
        KeyError, match=f"in the object store: protocoldagresult/org.*{result.key}/obj.json.zst"
    ):
        s3os.pull_protocoldagresult(keyed(result, of), of)
    with pytest.raises(KeyError, match="in the object store: no/where"):
        s3os.pull_protocoldagresult(location="no/where")


@pytest.mark.parametrize("file", ["obj.json", "obj.json.zst"])
def test_truncated_object_is_reported_with_its_location(
    s3os: S3ObjectStore, result: Any, of: ScopedKey, file: str
) -> None:
    text = gufe_adapter.result_to_json(result)
    data = pack(text) if file.endswith("zst") else text
    forms: list[Literal["gufe", "dict", "json"]] = ["gufe", "dict", "json"]
    for kept in (0, 3, len(data) // 2, -1):
        put(s3os, f"a/store/broken/{file}", data[:kept])
        for return_as in forms:
            with pytest.raises(S3ObjectStoreError, match=rf"broken/{file}.*truncated or damaged"):
                s3os.pull_protocoldagresult(location=f"broken/{file}", return_as=return_as)


def test_document_of_another_type_is_reported(s3os: S3ObjectStore) -> None:
    put(s3os, "a/store/odd", b'{"color": "red"}')
    with pytest.raises(S3ObjectStoreError, match="'odd'"):
        s3os.pull_protocoldagresult(location="odd")
