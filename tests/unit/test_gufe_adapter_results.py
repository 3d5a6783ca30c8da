"""Results as JSON, and running protocols."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gufe
import numpy as np
import pytest
from gufe.tokenization import JSON_HANDLER

from alchemistore import DocumentNotBuildableError, gufe_adapter
from tests.support.gufe_classes import Ball, Effort, Push, PushProtocol, system, transformation

pytestmark = pytest.mark.usefixtures("quick_collection")


def run(
    tmp_path: Path,
    mode: str = "work",
    extends: Any = None,
    raise_error: bool = False,
    n_retries: int = 0,
) -> Any:
    dag = gufe_adapter.create_dag(transformation(mode), extends=extends)
    shared, scratch = tmp_path / "shared", tmp_path / "scratch"
    shared.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    return gufe_adapter.execute_dag(
        dag,
        shared_basedir=shared,
        scratch_basedir=scratch,
        raise_error=raise_error,
        n_retries=n_retries,
    )


# Results


def test_result_is_written_as_a_chain_with_itself_last(tmp_path: Path) -> None:
    result = run(tmp_path)
    text = gufe_adapter.result_to_json(result)
    assert text.isascii()
    pairs = json.loads(text)
    assert pairs[-1][0] == result.key
    assert [document.key for document in gufe_adapter.encode(result)] == [key for key, _ in pairs]


def test_result_in_memory_is_returned(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert gufe_adapter.result_from_json(gufe_adapter.result_to_json(result)) is result
    assert gufe_adapter.result_from_json(gufe_adapter.result_to_json(result).decode()) is result


def nested(result: Any) -> str:
    return json.dumps(result.to_dict(), cls=JSON_HANDLER.encoder)


# gufe cannot write "fail badly" itself.
@pytest.mark.parametrize(
    ("form", "mode"),
    [
        (gufe_adapter.result_to_json, "work"),
        (gufe_adapter.result_to_json, "fail"),
        (gufe_adapter.result_to_json, "fail badly"),
        (nested, "work"),
        (nested, "fail"),
    ],
)
def test_results_are_decoded_from_both_forms(
    form: Callable[[Any], Any], mode: str, tmp_path: Path
) -> None:
    def make() -> tuple[str, Any, bytes]:
        result = run(tmp_path, mode)
        return str(result.key), form(result), gufe_adapter.result_to_json(result)

    key, text, chain = make()
    gc.collect()
    assert gufe_adapter.cached(key) is None
    back = gufe_adapter.result_from_json(text)
    assert back.key == key
    assert gufe_adapter.result_to_json(back) == chain
    assert gufe_adapter.result_ok(back) == (mode == "work")
    assert all(gufe_adapter.cached(str(unit.key)) is unit for unit in back.protocol_units)
    if mode == "work":
        np.testing.assert_array_equal(back.protocol_unit_results[0].outputs["trace"], [0.0, 1.0])


def test_equal_parts_are_built_once_in_the_nested_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> str:
        return nested(run(tmp_path))

    text = make()
    gc.collect()
    built = []

    def count(dct: dict[str, Any]) -> Ball:
        built.append(dct["name"])
        return Ball(**dct)

    monkeypatch.setattr(Ball, "_from_dict", count)
    gufe_adapter.result_from_json(text)
    assert built == ["a"]


def test_units_in_memory_are_used_in_the_nested_form(tmp_path: Path) -> None:
    def make() -> tuple[str, Any]:
        result = run(tmp_path)
        return nested(result), result.protocol_units[0]

    text, unit = make()
    gc.collect()
    assert any(part is unit for part in gufe_adapter.result_from_json(text).protocol_units)


def test_exception_that_json_does_not_know_is_kept_as_repr(tmp_path: Path) -> None:
    def make() -> bytes:
        return gufe_adapter.result_to_json(run(tmp_path, "fail badly"))

    text = make()
    gc.collect()
    failure = gufe_adapter.result_from_json(text).protocol_unit_failures[0]
    name, args = failure.exception
    assert (name, args[0]) == ("ArithmeticError", "no luck")
    assert args[1].startswith("<object object at")
    assert "Ball(name=lost)" in args[2]
    assert "in _execute" in failure.traceback


def test_both_forms_give_the_same_dict(tmp_path: Path) -> None:
    result = run(tmp_path, "fail")
    from_chain = gufe_adapter.result_to_dict(gufe_adapter.result_to_json(result))
    from_nested = gufe_adapter.result_to_dict(nested(result))
    assert from_chain["protocol_units"][0]["inputs"]["system"]["__qualname__"] == "ChemicalSystem"
    assert repr(from_chain) == repr(from_nested)


@pytest.mark.parametrize(
    "text", [b"", b"5", b"{}", b"[]", b"\xff", b'{"a": 1}', b'[["a", {}]]', '"text"']
)
def test_other_object_than_a_result_is_a_value_error(text: bytes | str) -> None:
    with pytest.raises(ValueError):
        gufe_adapter.result_from_json(text)


def test_nested_part_cannot_take_the_key_of_another_class(tmp_path: Path) -> None:
    genuine = Ball("genuine")
    document = json.loads(nested(run(tmp_path)))
    document["protocol_unit_results"][0]["_key"] = str(genuine.key)
    with pytest.raises(ValueError, match="of another class"):
        gufe_adapter.result_from_json(json.dumps(document))


# Running protocols


def test_result_is_ok_only_if_every_unit_succeeded(tmp_path: Path) -> None:
    good, bad = run(tmp_path), run(tmp_path, "fail")
    assert gufe_adapter.result_ok(good)
    assert not gufe_adapter.result_ok(bad)
    assert len(bad.protocol_unit_failures) >= 1


def test_failure_in_the_last_unit_is_not_ok(tmp_path: Path) -> None:
    good = run(tmp_path)
    last = good.protocol_unit_results[-1]
    failure = gufe.protocols.ProtocolUnitFailure(
        name="sum",
        source_key=last.source_key,
        inputs=last.inputs,
        outputs={},
        exception=("E", ()),
        traceback="",
    )
    # Where 0.4 has no such argument, there is no such attribute either.
    keys = {"transformation_key": None} if hasattr(good, "transformation_key") else {}
    bad = gufe.ProtocolDAGResult(
        protocol_units=good.protocol_units,
        protocol_unit_results=[*good.protocol_unit_results[:-1], failure],
        **keys,
    )
    assert not gufe_adapter.result_ok(bad)


def test_failures_are_raised_on_request(tmp_path: Path) -> None:
    with pytest.raises((RuntimeError, ArithmeticError), match="no luck"):
        run(tmp_path, "fail", raise_error=True, n_retries=1)


def test_failed_unit_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Push._execute
    attempts = []

    def flaky(ctx: Any, **inputs: Any) -> Any:
        attempts.append(inputs)
        if len(attempts) == 1:
            raise ArithmeticError("first try")
        return work(ctx, **inputs)

    monkeypatch.setattr(Push, "_execute", staticmethod(flaky))
    assert gufe_adapter.result_ok(run(tmp_path, n_retries=1))
    assert len(attempts) == 3


def test_dag_can_extend_a_result_and_results_are_gathered(tmp_path: Path) -> None:
    first = run(tmp_path)
    second = run(tmp_path, extends=first)
    gathered = gufe_adapter.gather(PushProtocol(Effort()), [first, second])
    assert gathered.data["totals"] == [2.0, 6.0]
    assert gathered.get_estimate() == 8.0


def test_nontransformation_runs(tmp_path: Path) -> None:
    stays = gufe.NonTransformation(system("c"), PushProtocol(Effort()), name="c stays")
    result = gufe_adapter.execute_dag(
        gufe_adapter.create_dag(stays, name="mine"),
        shared_basedir=tmp_path,
        scratch_basedir=tmp_path,
    )
    assert result.name == "mine"
    assert gufe_adapter.result_ok(result)


def test_writer_versions_name_all_packages_that_change_keys() -> None:
    versions = dict(part.split(" ") for part in gufe_adapter.writer_versions().split(", "))
    assert list(versions) == ["gufe", "zstandard", "rdkit", "python"]
    assert versions["gufe"] == gufe_adapter.gufe_version()
    assert gufe_adapter.gufe_version()[0].isdigit()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"__module__": "gufe", "__qualname__": "A", "a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=["open", "dicts", "nested form"],
)
def test_deeply_nested_text_is_a_value_error(text: str) -> None:
    for read in (
        gufe_adapter.result_from_json,
        gufe_adapter.result_to_dict,
        gufe_adapter.key_of_result,
    ):
        with pytest.raises(ValueError, match="not readable as JSON"):
            read(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({":is_custom:": True, "pint_unit_registry": "u", "unit": "9**9**9"}, "to a power"),
        (json.loads("[" * 300 + "]" * 300), "nested deeper"),
    ],
)
def test_intact_result_that_is_not_safe_to_decode_is_not_called_damaged(
    tmp_path: Path, value: Any, message: str
) -> None:
    chain = json.loads(gufe_adapter.result_to_json(run(tmp_path)))
    chain[-1][1]["name"] = value
    for read in (gufe_adapter.result_from_json, gufe_adapter.result_to_dict):
        with pytest.raises(DocumentNotBuildableError, match=rf"{message}.*nothing is lost"):
            read(json.dumps(chain))
