"""Document bytes, keyed chains from outside, and members of a network."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Set
from pathlib import Path
from typing import Any

import gufe
import numpy as np
import pytest
import zstandard

from alchemistore import gufe_adapter
from alchemistore.gufe_adapter import keyed_chain, screen
from alchemistore.models import GufeKey
from tests.support.gufe_classes import Effort, Holder, PushProtocol, keyed_chain_of, network, system

ZERO = "0" * 32


# The byte format


def test_small_values_are_raw_ascii_json_and_large_ones_are_compressed() -> None:
    assert gufe_adapter.dumps({"ü": [1.0]}) == b'\x00{"\\u00fc": [1.0]}'
    large = gufe_adapter.dumps("x" * 5000)
    assert large[:1] == b"\x01"
    assert len(large) < 100
    assert gufe_adapter.loads(large) == "x" * 5000


def test_codecs_apply_in_loads_and_not_in_plain() -> None:
    data = gufe_adapter.dumps({"path": Path("/a/b"), "array": np.arange(3.0)})
    value = gufe_adapter.loads(data)
    assert value["path"] == Path("/a/b")
    np.testing.assert_array_equal(value["array"], np.arange(3.0))
    assert gufe_adapter.plain(data)["path"]["path"] == "/a/b"


def _frame_claiming(size: int) -> bytes:
    return b"\x01\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + b"\x01\x00\x00"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "format byte"),
        (b"\x07{}", "format byte"),
        (b"\x00{", "not readable as JSON"),
        (b"\x00\xff", "not ASCII"),
        (b"\x00" + b"[" * 100_000, "not readable as JSON"),
        (b"\x01", "truncated or damaged"),
        (gufe_adapter.dumps("x" * 5000)[:-3], "truncated or damaged"),
        (gufe_adapter.dumps("x" * 5000) + b"more", "truncated or damaged"),
        (_frame_claiming(2**45), "at most"),
        (b"\x00[]", "not a JSON object"),
    ],
)
def test_malformed_document_is_a_value_error(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gufe_adapter.plain(data)


# Chains from outside


def test_chain_gives_the_documents_of_the_object() -> None:
    net = network()
    documents = gufe_adapter.encode(net)
    read = gufe_adapter.read_chain(keyed_chain_of(net))
    assert [(d.key, d.data, d.children) for d in read] == [
        (d.key, d.data, d.children) for d in documents
    ]


def test_live_form_gives_the_same_documents() -> None:
    holder = Holder({"path": Path("/x"), "bytes": b"\0", "tuple": (1, [2]), "child": Holder(1)})
    live = [(str(obj.key), obj.to_keyed_dict()) for obj in (holder.content["child"], holder)]
    assert [(d.key, d.data) for d in gufe_adapter.read_chain(live)] == [
        (d.key, d.data) for d in gufe_adapter.encode(holder)
    ]


def test_content_of_a_live_chain_is_plain() -> None:
    for value in ({1: "a"}, (1, 2), Path("/a")):
        (document,) = gufe_adapter.read_chain([pair(x=value)])
        assert document.content == gufe_adapter.plain(document.data)


def test_chain_in_any_order_is_returned_children_first() -> None:
    chain = keyed_chain_of(network())
    shuffled = chain[:-1][::-1] + chain[-1:]
    read = gufe_adapter.read_chain(shuffled)
    place = {document.key: i for i, document in enumerate(read)}
    assert read[-1].key == chain[-1][0]
    assert all(
        place[child] < place[document.key] for document in read for child in document.children
    )


def test_chain_builds_no_object(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = keyed_chain_of(network())
    chain[0][1]["__module__"] = "not_installed_anywhere"

    def refuse(*args: Any) -> Any:
        raise AssertionError("imported")

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert len(gufe_adapter.read_chain(chain)) == len(chain)


def test_chain_can_refer_to_stored_objects() -> None:
    chain = keyed_chain_of(network())
    asked: list[Set[GufeKey]] = []

    def stored(keys: Set[GufeKey]) -> Set[GufeKey]:
        asked.append(keys)
        return keys

    root = chain[-1:]
    read = gufe_adapter.read_chain(root, stored)
    assert [document.key for document in read] == [root[0][0]]
    assert asked == [frozenset(read[0].children)]
    with pytest.raises(
        ValueError, match="and 6 more, which it does not contain and which is not stored"
    ):
        gufe_adapter.read_chain(root, lambda keys: frozenset())


def test_duplicate_document_is_returned_once() -> None:
    chain = keyed_chain_of(Holder([Holder(1)]))
    assert len(gufe_adapter.read_chain([chain[0], *chain])) == 2


def pair(number: int = 0, /, **fields: Any) -> list[Any]:
    content: dict[str, Any] = {"__module__": "somewhere", "__qualname__": "Thing", **fields}
    return [
        f"Thing-{number:032x}",
        {name: value for name, value in content.items() if value is not ...},
    ]


def ref(number: int) -> dict[str, str]:
    return {":gufe-key:": f"Thing-{number:032x}"}


def custom(**fields: Any) -> dict[str, Any]:
    return {":is_custom:": True, **fields}


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (None, "not a keyed chain"),
        ("[]", "not a keyed chain"),
        ([], "not a keyed chain"),
        ({"a": 1}, "not a keyed chain"),
        (["ab"], "not a keyed chain"),
        ([["Thing-1"]], "not a keyed chain"),
        ([["Thing-1", {}]], "not the key of a gufe object"),
        ([[7, {}]], "not the key of a gufe object"),
        ([["A b-" + ZERO, {}]], "not the key of a gufe object"),
        ([["Thing-" + ZERO, []]], "does not name its class"),
        ([pair(__module__=...)], "does not name its class"),
        ([pair(__qualname__=...)], "does not name its class"),
        ([pair(__qualname__=5)], "does not name its class"),
        ([pair(__qualname__="Other")], "of another class, Other"),
        ([pair(_key="Thing-" + "f" * 32)], "contains another key"),
        ([pair(child=ref(1))], f"refers to Thing-{1:032x}, which it does not contain"),
        ([pair(child=ref(0))], "contains itself"),
        ([pair(1, child=ref(0)), pair(child=ref(1))], "contains itself"),
        ([pair(1), pair()], f"does not refer to Thing-{1:032x}"),
        ([pair(1, x=1), pair(1, x=2), pair(child=ref(1))], "twice, with different documents"),
        ([pair(1, x=1), pair(1, x=1.0), pair(child=ref(1))], "twice, with different documents"),
        ([pair(child={":gufe-key:": "Thing-1"})], "not the key of a gufe object"),
        ([pair(child={":gufe-key:": None})], "not the key of a gufe object"),
        ([pair(child={**ref(1), "more": 1})], "and other keys as well"),
        ([pair(x=object())], "cannot be written as JSON"),
        ([pair(x=Holder(1))], "cannot be written as JSON"),
        ([pair(x=deep(200))], "nested deeper"),
        ([pair(x={"a": (deep(200),)})], "nested deeper"),
        ([pair(x=deep(100_000))], "nested deeper"),
        ([pair(x=(deep(100_000),))], "cannot be written as JSON"),
        ([pair(x={1: deep(100_000)})], "cannot be written as JSON"),
        ([pair(x=custom(__module__="os; import this", __class__="C"))], "not the name of a module"),
        ([pair(x=custom(__module__="os", __class__=["C"]))], "not the name of a module"),
        (
            [pair(x=custom(pint_unit_registry="openff_units", unit="9**9**9", magnitude=1))],
            "to a power",
        ),
        (
            [pair(x=custom(pint_unit_registry="openff_units", unit_name="m ** (9 ** 9)"))],
            "to a power",
        ),
        ([pair(x=[custom(pint_unit_registry="openff_units", unit_name="9^9^9")])], "to a power"),
        ([pair(x=custom(pint_unit_registry="openff_units", unit_name="9⁹⁹⁹⁹"))], "to a power"),
        (
            [pair(x=custom(__module__="a.b", __class__="Settings", temperature="9**9**9 K"))],
            "to a power",
        ),
        ([pair(ion_concentration="9**9**9 molar")], "to a power"),
        *(
            ([pair(x=custom(pint_unit_registry="openff_units", unit=unit))], message)
            for unit, message in (
                ("9\\\n**9**9", "to a power"),
                ("9 *\\\n* 9", "to a power"),
                ("0xf**0xf**0xf", "to a power"),
                ("1e9**9", "to a power"),
                ("9_0**9", "to a power"),
                ("(dozen)**9", "to a power"),
                ("dozen**999999999", "to a power"),
                ("dozen**(99*99*99*99)", "to a power"),
                ("dozen**9**9**9", "to a power"),
                ("\u0669**\u0669**9", "to a power"),
                ("\uff19**9", "to a power"),
                ("\u2460**9", "to a power"),
                ("9\u00b2\u2079\u2079\u2079", "to a power"),
                ("m\u2079\u2079\u2079\u2079", "to a power"),
                ("9*\u00b79", "to a power"),
                ("9\u00b7* 9", "to a power"),
                ("9\u22c5\u22c59", "to a power"),
                ("9*,*9", "to a power"),
                ("[9,^9,^9,^9]", "to a power"),
                ("'#'[9,^9,^9,^9]", "to a power"),
                ("#\n[9,^9,^9,^9]", "to a power"),
                ("1e9 cubed squared**9", "to a power"),
                ("sq square cubic dozen cubed squared", "to a power"),
                ("dozen cubed9e9", "to a power"),
                ("dozen  squared.e9", "to a power"),
                ("cubic dozen.9e99", "to a power"),
                ("square cubic dozen**9", "to a power"),
                ("9 #\n", "characters that no unit contains"),
                ("m; m", "characters that no unit contains"),
                ("m\t", "characters that no unit contains"),
                ("\u0669 m", "characters that no unit contains"),
                ("m" * 501, "500 at most"),
            )
        ),
        (
            [pair(x=custom(__module__="a.b", __class__="Settings", t="9\\\n**9 K"))],
            "to a power",
        ),
        ([pair(x={"latin-1": 5, ":is_custom:": True})], "not encoded as text"),
        (
            [
                pair(
                    x={"latin-1": _frame_claiming(2**45)[1:].decode("latin-1"), ":is_custom:": True}
                )
            ],
            "unpack to more",
        ),
    ],
)
def test_malformed_chain_is_refused(chain: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gufe_adapter.read_chain(chain)


@pytest.mark.parametrize(
    "value",
    [
        custom(
            pint_unit_registry="openff_units", unit_name="kilojoule / mole ** 2 / nanometer ** 0.5"
        ),
        custom(pint_unit_registry="openff_units", unit="m\u00b2", magnitude=1.5),
        custom(pint_unit_registry="openff_units", unit="cubic meter", magnitude=1.5),
        custom(__module__="a.b", __class__="Settings", s="a mean squared error. Or [#6,^2]"),
        custom(pint_unit_registry="openff_units", unit="(mole * angstrom) / meter ** (-1 / 2)"),
        custom(pint_unit_registry="openff_units", unit="\u00b5m\u207b\u00b2 * \u00c5 / \u00b0C"),
        custom(pint_unit_registry="openff_units", unit="kJ/mol/nm**0.3333333333333333"),
        custom(__module__="a.b", __class__="Settings", forcefield="amber/ff14SB.xml", s="[^2]"),
        custom(__module__="builtins", __class__="bytes", **{"latin-1": "9**9 and 2^5"}),
        custom(__module__="pathlib", __class__="PosixPath", path="/data/2**9"),
        {"ion_concentration": "0.15 molar"},
        {"text": "9**9**9"},
        deep(90),
    ],
)
def test_unusual_valid_values_are_accepted(value: Any) -> None:
    (document,) = gufe_adapter.read_chain([pair(x=value)])
    assert gufe_adapter.plain(document.data)["x"] == value


@pytest.mark.parametrize(
    ("limit", "message"),
    [("DOCUMENTS_MAX", "has 2 documents; at most 1"), ("DOCUMENT_MAX", "bytes; at most 1")],
)
def test_chains_beyond_the_limits_are_refused(
    limit: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyed_chain, limit, 1)
    with pytest.raises(ValueError, match=message):
        gufe_adapter.read_chain([pair(1), pair(child=ref(1))])


def test_bytes_of_a_chain_are_not_unpacked_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(100_000)).decode("latin-1")
    packed = custom(__module__="builtins", __class__="bytes", **{"latin-1": frame})
    chain = [pair(1, x=packed), pair(2, x=packed), pair(3, x=packed, c=[ref(1), ref(2)])]
    assert len(gufe_adapter.read_chain(chain)) == 3
    monkeypatch.setattr(screen, "UNPACKED_MAX", 250_000)
    with pytest.raises(ValueError, match="unpack to 300000 bytes; at most 250000"):
        gufe_adapter.read_chain(chain)


# What is inside a network


def documents_of(obj: Any) -> list[list[gufe_adapter.Document]]:
    """The documents from the object, and from its chain."""
    return [gufe_adapter.encode(obj), gufe_adapter.read_chain(keyed_chain_of(obj))]


def test_network_names_its_members() -> None:
    net = network()
    for documents in documents_of(net):
        content = gufe_adapter.network_content(documents[-1])
        assert (content.key, content.name) == (net.key, "net")
        assert set(content.edges) == {edge.key for edge in net.edges}
        assert set(content.nodes) == {node.key for node in net.nodes}
        assert (len(content.edges), len(content.nodes)) == (3, 4)


def test_empty_network_has_no_members_and_no_name() -> None:
    content = gufe_adapter.network_content(gufe_adapter.encode(gufe.AlchemicalNetwork())[-1])
    assert (content.name, content.edges, content.nodes) == (None, (), ())


def test_duplicate_member_is_listed_once() -> None:
    key = "ChemicalSystem-" + ZERO
    nodes = [{":gufe-key:": key}] * 2
    document = gufe_adapter.Document(
        GufeKey("AlchemicalNetwork-" + ZERO), "", (), {"edges": [], "nodes": nodes}
    )
    assert gufe_adapter.network_content(document).nodes == (key,)


def test_edges_and_nodes_are_read_from_their_documents() -> None:
    net = network()
    for documents in documents_of(net):
        edges = {edge.key: edge for edge in map(gufe_adapter.edge_content, documents) if edge}
        members = {node.key for node in net.nodes}
        nodes = {one.key: gufe_adapter.node_content(one) for one in documents if one.key in members}
        assert not any(gufe_adapter.node_content(one) for one in documents if one.key in edges)
        assert edges == {
            edge.key: gufe_adapter.Edge(
                edge.key,
                edge.name,
                "PushProtocol",
                (("system", edge.system.key),)
                if isinstance(edge, gufe.NonTransformation)
                else (("A", edge.stateA.key), ("B", edge.stateB.key)),
            )
            for edge in net.edges
        }
        assert nodes == {node.key: gufe_adapter.Node(node.key, node.name) for node in net.nodes}


def test_transformation_of_a_system_into_itself_is_refused() -> None:
    same = gufe.Transformation(system("a"), system("a"), PushProtocol(Effort()))
    with pytest.raises(ValueError, match="uses the same `ChemicalSystem`"):
        gufe_adapter.edge_content(gufe_adapter.encode(same)[-1])


def test_document_that_is_not_a_network_is_refused() -> None:
    with pytest.raises(ValueError, match="not an AlchemicalNetwork"):
        gufe_adapter.network_content(gufe_adapter.encode(Holder())[-1])


@pytest.mark.parametrize(
    "content",
    [
        {"edges": [], "nodes": "x"},
        {"edges": ["x"], "nodes": []},
        {"edges": [], "nodes": [{":gufe-key:": "x"}]},
    ],
)
def test_network_with_members_of_other_types_is_refused(content: dict[str, Any]) -> None:
    document = gufe_adapter.Document(GufeKey("AlchemicalNetwork-" + ZERO), "", (), content)
    with pytest.raises(ValueError, match=r"gufe|lists of edges"):
        gufe_adapter.network_content(document)


@pytest.mark.parametrize("name", ["a\0b", "half \ud800", ["list"]])
def test_names_with_unstorable_characters_are_refused(name: Any) -> None:
    document = gufe_adapter.read_chain([pair(name=name, edges=[], nodes=[], components={})])[0]
    for read in (gufe_adapter.network_content, gufe_adapter.node_content):
        with pytest.raises(ValueError, match="name"):
            read(document)


@pytest.mark.parametrize(
    "texts",
    [
        ['{"a": [1', "2]}"],
        ['{"a": [1', "2]}", '{}, "x", {}'],
        ["{}, {}", "{}"],
        ["{}", "{}, {}"],
        ["[]", "{}"],
        ["{}", ""],
        ["", ""],
        ["1"],
    ],
)
def test_damaged_documents_do_not_pass_as_others(texts: list[str]) -> None:
    keys = [f"A-{number}" for number in range(len(texts))]
    with pytest.raises(ValueError, match=r"^A-\d: "):
        gufe_adapter.plain_documents(keys, [b"\0" + text.encode() for text in texts])


def test_documents_are_parsed_in_order() -> None:
    documents = [b'\0{"a": {"n": %d}}' % number for number in range(3)]
    for count in range(4):
        found = gufe_adapter.plain_documents(["A-1"] * count, documents[:count])
        assert found == [{"a": {"n": number}} for number in range(count)]
