"""Files with networks and results, in all forms."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gufe
import pytest
import zstandard

from alchemistore import gufe_adapter
from alchemistore.gufe_adapter import files
from tests.support.files import ARCHIVE, archive, chain, nested, quickrun, run
from tests.support.gufe_classes import network, system, transformation


class KeyedChain(list[Any]):
    """Looks like gufe's class of this name, which gufe 0.4 does not have."""

    def to_gufe(self) -> None:
        """Build nothing."""


def key_of_network(content: gufe_adapter.FileContent) -> str:
    """Return the key of the network in a file."""
    found: Any = content.network
    return str(found[-1][0] if isinstance(found, list) else found.key)


FORMS: dict[str, Callable[[Any], Any]] = {
    "object": lambda obj: obj,
    "nested dict": lambda obj: json.loads(nested(obj)),
    "nested text": nested,
    "chain": lambda obj: json.loads(chain(obj)),
    "chain of tuples": lambda obj: tuple(map(tuple, json.loads(chain(obj)))),
    "chain as text": chain,
    "chain as bytes": lambda obj: chain(obj).encode(),
    "with byte order mark": lambda obj: b"\xef\xbb\xbf" + chain(obj).encode(),
    "KeyedChain": lambda obj: KeyedChain(json.loads(chain(obj))),
    "gzip": lambda obj: gzip.compress(chain(obj).encode()),
    "zstd": lambda obj: zstandard.compress(nested(obj).encode()),
    "binary stream": lambda obj: io.BytesIO(nested(obj).encode()),
    "text stream": lambda obj: io.StringIO(nested(obj)),
    "compressed stream": lambda obj: io.BytesIO(gzip.compress(chain(obj).encode())),
}


@pytest.mark.parametrize("form", FORMS)
def test_network_is_read_in_every_form(form: str) -> None:
    content = gufe_adapter.read_file(FORMS[form](network()))
    assert key_of_network(content) == network().key
    assert content.results == ()
    assert content.quickrun is None


@pytest.mark.parametrize("form", FORMS)
def test_transformation_becomes_a_network_with_its_name(form: str) -> None:
    content = gufe_adapter.read_file(FORMS[form](transformation()))
    expected = gufe.AlchemicalNetwork([transformation()], name="a to b")
    assert key_of_network(content) == expected.key


@pytest.mark.parametrize("suffix", ["json", "json.gz", "json.zst"])
def test_path_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"network.{suffix}"
    packed: dict[str, Callable[[bytes], bytes]] = {
        "json": bytes,
        "json.gz": gzip.compress,
        "json.zst": zstandard.compress,
    }
    path.write_bytes(packed[suffix](nested(network()).encode()))
    for source in (path, str(path)):
        assert key_of_network(gufe_adapter.read_file(source)) == network().key


@pytest.mark.parametrize("mode", ["work", "fail"])
@pytest.mark.parametrize("form", [chain, nested, lambda obj: obj])
def test_result_is_read_as_its_chain(form: Any, mode: str, tmp_path: Path) -> None:
    result = run(transformation(mode), tmp_path)
    [found] = gufe_adapter.read_file(form(result)).results
    assert found.key == result.key
    assert found.ok is (mode == "work")
    assert gufe_adapter.result_from_json(found.data) is result


def test_archive_holds_a_network_and_results_in_order(tmp_path: Path) -> None:
    net = network()
    [edge] = [edge for edge in net.edges if edge.name == "a to b"]
    one, two = run(edge, tmp_path), run(edge, tmp_path)
    content = gufe_adapter.read_file(archive(net, {str(edge.key): [one, two]}))
    assert key_of_network(content) == net.key
    assert content.network is not None
    assert len(content.network) == len(gufe_adapter.encode(net))
    assert {found.key for found in content.results} == {one.key, two.key}
    assert {found.transformation for found in content.results} == {edge.key}


@pytest.mark.parametrize("shallow", [True, False])
def test_quickrun_file_becomes_the_result_of_its_units(shallow: bool, tmp_path: Path) -> None:
    edge = transformation()
    result = run(edge, tmp_path)
    content = gufe_adapter.read_file(quickrun(edge, result, shallow))
    assert content.quickrun is not None
    made = gufe_adapter.result_of_quickrun(content.quickrun, edge, edge.key)
    assert gufe_adapter.result_ok(made)
    assert {*made.protocol_unit_results} == {*result.protocol_unit_results}
    assert {unit.key for unit in made.protocol_units} == {
        unit.key for unit in result.protocol_units
    }
    again = gufe_adapter.result_of_quickrun(content.quickrun, edge, edge.key)
    assert again.key == made.key
    assert gufe_adapter.gather(edge.protocol, [made]).get_estimate() == pytest.approx(
        gufe_adapter.gather(edge.protocol, [result]).get_estimate()
    )


def test_quickrun_file_of_another_transformation_is_refused(tmp_path: Path) -> None:
    edge = transformation()
    content = json.loads(quickrun(edge, run(edge, tmp_path)))
    [first, *_] = content["unit_results"].values()
    first["inputs"]["system"] = {":gufe-key:": f"{'Missing'}-{'0' * 32}"}
    content["protocol_result"] = None
    with pytest.raises(ValueError, match="neither in the file nor a part"):
        gufe_adapter.result_of_quickrun(content, edge, edge.key)
    none: list[dict[str, Any]] = [{"unit_results": {}}, {"unit_results": None}]
    for lacking in none:
        with pytest.raises(ValueError, match="lacks the results of the units"):
            gufe_adapter.result_of_quickrun(
                {**content, "protocol_result": None, **lacking}, edge, edge.key
            )


ROOT = {"__qualname__": "AlchemicalArchive", "__module__": "gufe.archival"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "neither JSON nor a path"),
        ("a\0b", "neither JSON nor a path"),
        ("{", "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
        ("[]", "not a keyed chain"),
        ("[1]", "not a keyed chain"),
        ("{}", "none of the known forms"),
        (b"3", "a JSON int"),
        (b"\xff\xfe", "is not JSON"),
        (b"\x1f\x8b broken", "truncated or damaged"),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], "truncated or damaged"),
        (zstandard.compress(b"x" * 100)[:9], "not readable as JSON|truncated or damaged"),
        ("<graphml/>", "LigandNetwork in GraphML"),
        ({"__qualname__": "ProtocolUnitResult"}, "a part of a result"),
        ({"__qualname__": "LigandNetwork"}, "make an AlchemicalNetwork with it"),
        ({"__qualname__": "ProtocolDAG"}, "has not run"),
        ({"__qualname__": "Surprise"}, "expected an AlchemicalNetwork"),
        ([["Surprise-" + "0" * 32, {}]], "a Surprise, which cannot be added"),
        ([[ARCHIVE, {**ROOT, "network": None}]], "expected a reference"),
        ([[ARCHIVE, ROOT]], "expected a reference"),
        (object(), "not object"),
        (3, "not int"),
    ],
)
def test_other_content_is_named_and_refused(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gufe_adapter.read_file(source)


def test_other_gufe_object_is_refused() -> None:
    for form in (lambda obj: obj, nested, chain):
        with pytest.raises(ValueError, match="a ChemicalSystem, which cannot be added"):
            gufe_adapter.read_file(form(system("a")))


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        gufe_adapter.read_file(tmp_path / "missing")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_compressed_file_that_is_too_large_is_refused(
    pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILE_MAX", 1000)
    with pytest.raises(ValueError, match="more than the allowed 1000"):
        gufe_adapter.read_file(pack(b" " * 1001))
