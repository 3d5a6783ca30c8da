"""Objects to documents and back; chains from outside; networks, results and running protocols."""

from __future__ import annotations

import gc
import importlib
import json
import math
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gufe
import numpy as np
import pytest
from gufe.tokenization import JSON_HANDLER, TOKENIZABLE_REGISTRY

from alchemistore import chemistry
from alchemistore.chemistry import screen
from alchemistore.errors import KeyDriftWarning
from alchemistore.models import GufeKey
from tests.unit.gufe_classes import (
    Ball,
    Effort,
    Holder,
    Outer,
    PushProtocol,
    network,
    system,
    transformation,
)

ZERO = "0" * 32


def stored(obj: Any) -> tuple[str, dict[str, bytes]]:
    documents = chemistry.encode(obj)
    return str(documents[-1].key), {document.key: document.data for document in documents}


def cold(make: Callable[[], Any]) -> tuple[str, dict[str, bytes]]:
    """Encode what `make` gives, then forget it."""
    key, documents = stored(make())
    gc.collect()
    assert chemistry.alive(key) is None
    return key, documents


def chain_of(obj: Any) -> list[list[Any]]:
    return [[str(document.key), chemistry.plain(document.data)] for document in chemistry.encode(obj)]


def run(tmp_path: Path, mode: str = "work", extends: Any = None, raise_error: bool = False, n_retries: int = 0) -> Any:
    dag = chemistry.create_dag(transformation(mode), extends=extends)
    shared, scratch = tmp_path / "shared", tmp_path / "scratch"
    shared.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    return chemistry.execute_dag(
        dag, shared_basedir=shared, scratch_basedir=scratch, raise_error=raise_error, n_retries=n_retries
    )


# The byte format


def test_small_values_are_raw_ascii_json_and_large_ones_are_compressed() -> None:
    assert chemistry.dumps({"ü": [1.0]}) == b'\x00{"\\u00fc": [1.0]}'
    large = chemistry.dumps("x" * 5000)
    assert large[:1] == b"\x01"
    assert len(large) < 100
    assert chemistry.loads(large) == "x" * 5000


def test_codecs_apply_in_loads_and_not_in_plain() -> None:
    data = chemistry.dumps({"path": Path("/a/b"), "array": np.arange(3.0)})
    value = chemistry.loads(data)
    assert value["path"] == Path("/a/b")
    np.testing.assert_array_equal(value["array"], np.arange(3.0))
    assert chemistry.plain(data)["path"]["path"] == "/a/b"


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
        (chemistry.dumps("x" * 5000)[:-3], "truncated or damaged"),
        (chemistry.dumps("x" * 5000) + b"more", "truncated or damaged"),
        (_frame_claiming(2**45), "at most"),
        (b"\x00[]", "not a JSON object"),
    ],
)
def test_data_that_is_not_a_document_is_a_value_error(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chemistry.plain(data)


# Encoding


def test_documents_come_children_first_and_name_their_children() -> None:
    documents = chemistry.encode(network())
    place = {document.key: i for i, document in enumerate(documents)}
    assert documents[-1].key.qualname == "AlchemicalNetwork"
    assert len(place) == len(documents) == 1 + 3 + 4 + 4 + 1 + 1
    assert all(place[child] < place[document.key] for document in documents for child in document.children)
    assert {document.key: chemistry.plain(document.data)["__qualname__"] for document in documents} == {
        document.key: document.key.qualname for document in documents
    }


def test_children_are_distinct_and_in_order_of_first_appearance() -> None:
    one, two = Holder(1), Holder(2)
    root = chemistry.encode(Holder({"a": [two, {"b": one}], "c": two}))[-1]
    assert root.children == (two.key, one.key)
    assert root.content["content"]["c"] == {":gufe-key:": str(two.key)}


def test_known_is_asked_once_per_level_and_prunes_what_is_below() -> None:
    leaf = Holder("leaf")
    middle = Holder([leaf])
    shared = Holder("shared")
    root = Holder([middle, shared])
    asked: list[frozenset[GufeKey]] = []

    def known(keys: frozenset[GufeKey]) -> set[GufeKey]:
        asked.append(keys)
        return {chemistry.key_of(middle)} & keys

    documents = chemistry.encode(root, known)
    assert asked == [{root.key}, {middle.key, shared.key}]
    assert [document.key for document in documents] == [shared.key, root.key]
    assert documents[-1].children == (middle.key, shared.key)


def test_what_is_known_is_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Holder("child")
    root = Holder([child])

    def refuse(self: Any) -> Any:
        raise AssertionError("converted")

    monkeypatch.setattr(child, "to_shallow_dict", refuse.__get__(child))
    assert [document.key for document in chemistry.encode(root, lambda keys: keys - {root.key})] == [root.key]


def test_a_known_root_gives_no_documents() -> None:
    assert chemistry.encode(Holder(), lambda keys: keys) == []


@pytest.mark.parametrize("thing", [None, 1, "Holder-" + ZERO, {}, Holder])
def test_what_is_not_a_gufe_object_is_a_type_error(thing: Any) -> None:
    assert not chemistry.is_gufe(thing)
    with pytest.raises(TypeError, match="expected a gufe object"):
        chemistry.encode(thing)


def test_networks_are_told_from_other_objects() -> None:
    assert chemistry.is_network(network())
    assert not chemistry.is_network(transformation())


class _Carrier(Holder):
    """Takes content that gufe 0.4 cannot hash, by having its key beforehand."""

    def __init__(self, content: Any) -> None:
        self._key = gufe.tokenization.GufeKey("_Carrier-" + ZERO)
        super().__init__(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _Carrier((Holder(1),)), "inside a tuple"),
        (lambda: _Carrier([({"a": [Holder(1)]},)]), "inside a tuple"),
        (lambda: _Carrier({Holder(1)}), "inside a set"),
        (lambda: _Carrier({"a": {Holder(1): 2}}), "key of a dict"),
        (lambda: _Carrier({":gufe-key:": "x"}), "marks references"),
        (lambda: _Carrier({1, 2}), "cannot be written as JSON"),
        (lambda: _Carrier(object()), "cannot be written as JSON"),
        (lambda: _Carrier(np.array([object()])), "not readable as JSON"),
        (lambda: _Carrier(np.zeros(2, dtype=[("a", "i4")])), "not readable as JSON"),
    ],
)
def test_content_that_could_not_be_read_back_is_refused_by_key(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"_Carrier-{ZERO} cannot be stored: .*{message}"):
        chemistry.encode(make())


def test_circular_content_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="cannot be stored"):
        chemistry.encode(_Carrier(loop))


def test_local_classes_are_refused() -> None:
    class Local(Holder):
        pass

    with pytest.raises(ValueError, match="inside a function"):
        chemistry.encode(Local())


# Round trips


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        (),
        [[], {}, [{}]],
        {"": {"": None}},
        math.nan,
        [math.inf, -math.inf],
        1e22,
        1e16,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        2**63,
        10**400,
        True,
        "nul \0 inside",
        "\ud800",
        "NFD e\u0301, NFC \u00e9, \u2028",
        b"\x00\xff raw",
        Path("/a b/c"),
        "x" * 100_000,
        {"dtype": "float64", "bytes": "not an array"},
        {"__module__": "this", "__class__": "Zen"},
        {":is_custom:": True, "mine": 1},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_values_come_back_exactly(value: Any) -> None:
    key, documents = cold(lambda: Holder(value))
    back = chemistry.decode(key, documents)
    assert back.key == key
    assert stored(back) == (key, documents)
    expected = [] if value == () else value
    assert repr(back.content) == repr(expected)
    assert type(back.content) is type(expected)


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.5, math.nan, -0.0]),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(3.0),
        np.zeros((0, 3)),
        np.array(["ab", "c"]),
        np.array([True, False]),
        np.array([1 + 2j]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_back_exactly(array: Any) -> None:
    key, documents = cold(lambda: gufe.ProtocolUnitResult(name="r", source_key="s", inputs={}, outputs={"a": array}))
    back = chemistry.decode(key, documents).outputs["a"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_one_child_under_two_labels_comes_back_under_both() -> None:
    key, documents = cold(lambda: system("twice"))
    back = chemistry.decode(key, documents)
    assert list(back.components) == ["left", "right"]
    assert back.components["left"] is back.components["right"]


def test_nested_classes_come_back() -> None:
    key, documents = cold(lambda: Outer.Inner([Outer.Inner(1)]))
    assert key.startswith("Outer.Inner-")
    assert type(chemistry.decode(key, documents)) is Outer.Inner


@pytest.mark.parametrize("make", [network, lambda: network(None), lambda: gufe.AlchemicalNetwork(name="empty")])
def test_networks_come_back(make: Callable[[], Any]) -> None:
    key, documents = cold(make)
    back = chemistry.decode(key, documents)
    assert back.key == key
    assert stored(back) == (key, documents)


def test_a_chain_of_thousands_of_objects_needs_no_recursion() -> None:
    def deep() -> Any:
        root = Holder()
        for _ in range(3000):
            root = Holder([root])
        return root

    key, documents = cold(deep)
    assert len(documents) == 3001
    back = chemistry.decode(key, documents)
    assert back.key == key
    pairs = [[name, chemistry.plain(data)] for name, data in documents.items()]
    assert len(chemistry.read_chain(pairs[::-1][1:] + pairs[-1:])) == 3001
    # Freed link by link: dropping the whole chain at once would recurse in the interpreter.
    while back.content:
        (back,) = back.content


# Decoding


def test_what_is_alive_is_returned_and_its_document_not_read() -> None:
    child = Holder("alive")
    key, documents = cold(lambda: Holder([child, Holder("dead")]))
    documents[child.key] = b"rubbish"
    back = chemistry.decode(key, documents)
    assert back.content[0] is child
    assert chemistry.decode(key, {}) is back


def test_alive_answers_by_key_and_class() -> None:
    holder = Holder("here")
    assert chemistry.alive(str(holder.key)) is holder
    assert chemistry.alive("Holder-" + ZERO) is None


def test_an_object_registered_under_a_key_of_another_class_is_not_taken_for_alive() -> None:
    key, documents = cold(lambda: Ball("genuine"))
    forgery = Holder("forged")
    TOKENIZABLE_REGISTRY[key] = forgery
    try:
        assert chemistry.alive(key) is None
        with pytest.raises(ValueError, match=f"{key}: gufe has an object of another class, Holder"):
            chemistry.decode(key, documents)
    finally:
        del TOKENIZABLE_REGISTRY[key]


def test_drifted_keys_warn_with_both_keys_and_children_resolve_by_stored_key() -> None:
    child_key, child_documents = cold(lambda: Holder("child"))
    old_child = "Holder-" + "a" * 32
    old_root = "Holder-" + "b" * 32
    root = {"__module__": Holder.__module__, "__qualname__": "Holder", "content": [{":gufe-key:": old_child}]}
    documents = {old_child: child_documents[child_key], old_root: chemistry.dumps(root)}
    with pytest.warns(KeyDriftWarning) as warned:
        back = chemistry.decode(old_root, documents)
    assert back.content[0].content == "child"
    assert f"{old_root} is now {back.key}; {old_child} is now {child_key}." in str(warned[0].message)
    assert warned[0].filename == __file__


def _document(**fields: Any) -> bytes:
    return chemistry.dumps({"__module__": Holder.__module__, "__qualname__": "Holder", "content": 1} | fields)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x09", "format byte"),
        (chemistry.dumps([1]), "does not name its class"),
        (chemistry.dumps({"content": 1}), "does not name its class"),
        (_document(__qualname__="Ball"), "of another class, Ball"),
        (_document(_key="Holder-" + "c" * 32), "claims another key"),
        (_document(surprise=1), "cannot build .*Holder from the document: TypeError"),
        (_document(content={":gufe-key:": "Holder-" + "d" * 32}), "its document is missing"),
        (_document(content=[{":gufe-key:": "Holder-" + ZERO}]), "contains itself"),
    ],
)
def test_a_document_that_is_not_what_its_key_says_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"Holder-[0d]{{32}}.*{message}"):
        chemistry.decode("Holder-" + ZERO, {"Holder-" + ZERO: data})


def test_a_class_that_is_not_of_gufe_is_not_called() -> None:
    key = "OrderedDict-" + ZERO
    document = chemistry.dumps({"__module__": "collections", "__qualname__": "OrderedDict"})
    with pytest.raises(ValueError, match="not a class of gufe objects"):
        chemistry.decode(key, {key: document})


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("not_installed_anywhere.protocols", "'not_installed_anywhere' is not installed"),
        ("tests.unit.test_chemistry", "installed packages do not have"),
        ("..relative", "installed packages do not have"),
    ],
)
def test_a_class_that_cannot_be_imported_names_what_is_missing(module: str, message: str) -> None:
    key = "Holder2-" + ZERO
    document = chemistry.dumps({"__module__": module, "__qualname__": "Holder2"})
    with pytest.raises(ImportError, match=f"{key} is of the class .*{message}"):
        chemistry.decode(key, {key: document})


def test_threads_decode_the_same_network() -> None:
    key, documents = cold(network)
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda _: str(chemistry.decode(key, documents).key), range(40)))
    assert set(keys) == {key}


# Chains from outside


def test_a_chain_gives_the_documents_of_the_object() -> None:
    net = network()
    documents = chemistry.encode(net)
    read = chemistry.read_chain(chain_of(net))
    assert [(d.key, d.data, d.children) for d in read] == [(d.key, d.data, d.children) for d in documents]


def test_the_live_form_gives_the_same_documents() -> None:
    holder = Holder({"path": Path("/x"), "bytes": b"\0", "tuple": (1, [2]), "child": Holder(1)})
    live = [(str(obj.key), obj.to_keyed_dict()) for obj in (holder.content["child"], holder)]
    assert [(d.key, d.data) for d in chemistry.read_chain(live)] == [(d.key, d.data) for d in chemistry.encode(holder)]


def test_a_chain_in_any_order_comes_out_children_first() -> None:
    chain = chain_of(network())
    shuffled = chain[:-1][::-1] + chain[-1:]
    read = chemistry.read_chain(shuffled)
    place = {document.key: i for i, document in enumerate(read)}
    assert read[-1].key == chain[-1][0]
    assert all(place[child] < place[document.key] for document in read for child in document.children)


def test_a_chain_builds_no_object(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = chain_of(network())
    chain[0][1]["__module__"] = "not_installed_anywhere"

    def refuse(*args: Any) -> Any:
        raise AssertionError("imported")

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert len(chemistry.read_chain(chain)) == len(chain)


def test_a_chain_may_refer_to_what_is_stored() -> None:
    chain = chain_of(network())
    asked: list[frozenset[GufeKey]] = []

    def stored(keys: frozenset[GufeKey]) -> frozenset[GufeKey]:
        asked.append(keys)
        return keys

    root = chain[-1:]
    read = chemistry.read_chain(root, stored)
    assert [document.key for document in read] == [root[0][0]]
    assert asked == [frozenset(read[0].children)]
    with pytest.raises(ValueError, match="and 6 more, which it does not hold and which is not stored"):
        chemistry.read_chain(root, lambda keys: frozenset())


def test_the_same_document_twice_counts_once() -> None:
    chain = chain_of(Holder([Holder(1)]))
    assert len(chemistry.read_chain([chain[0], *chain])) == 2


def pair(number: int = 0, /, **fields: Any) -> list[Any]:
    content: dict[str, Any] = {"__module__": "somewhere", "__qualname__": "Thing", **fields}
    return [f"Thing-{number:032x}", {name: value for name, value in content.items() if value is not ...}]


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
        ([pair(_key="Thing-" + "f" * 32)], "claims another key"),
        ([pair(child=ref(1))], f"refers to Thing-{1:032x}, which it does not hold"),
        ([pair(child=ref(0))], "contains itself"),
        ([pair(1, child=ref(0)), pair(child=ref(1))], "contains itself"),
        ([pair(1), pair()], f"does not lead to Thing-{1:032x}"),
        ([pair(1, x=1), pair(1, x=2), pair(child=ref(1))], "twice, with different documents"),
        ([pair(1, x=1), pair(1, x=1.0), pair(child=ref(1))], "twice, with different documents"),
        ([pair(child={":gufe-key:": "Thing-1"})], "not the key of a gufe object"),
        ([pair(child={":gufe-key:": None})], "not the key of a gufe object"),
        ([pair(child={**ref(1), "more": 1})], "beside other keys"),
        ([pair(x=object())], "cannot be written as JSON"),
        ([pair(x=Holder(1))], "cannot be written as JSON"),
        ([pair(x=deep(200))], "nested deeper"),
        ([pair(x=custom(__module__="os; import this", __class__="C"))], "not the name of a module"),
        ([pair(x=custom(__module__="os", __class__=["C"]))], "not the name of a module"),
        ([pair(x=custom(pint_unit_registry="openff_units", unit="9**9**9", magnitude=1))], "to a power"),
        ([pair(x=custom(pint_unit_registry="openff_units", unit_name="m ** (9 ** 9)"))], "to a power"),
        ([pair(x=[custom(pint_unit_registry="openff_units", unit_name="9^9^9")])], "to a power"),
        ([pair(x=custom(pint_unit_registry="openff_units", unit_name="9⁹⁹⁹⁹"))], "to a power"),
        ([pair(x=custom(__module__="a.b", __class__="Settings", temperature="9**9**9 K"))], "to a power"),
        ([pair(ion_concentration="9**9**9 molar")], "to a power"),
        ([pair(x={"latin-1": 5, ":is_custom:": True})], "bytes are not given as text"),
        ([pair(x={"latin-1": _frame_claiming(2**45)[1:].decode("latin-1"), ":is_custom:": True})], "unpack to more"),
    ],
)
def test_what_is_not_a_sound_chain_is_refused(chain: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chemistry.read_chain(chain)


@pytest.mark.parametrize(
    "value",
    [
        custom(pint_unit_registry="openff_units", unit_name="kilojoule / mole ** 2 / nanometer ** 0.5"),
        custom(pint_unit_registry="openff_units", unit="m\u00b2", magnitude=1.5),
        custom(__module__="builtins", __class__="bytes", **{"latin-1": "9**9 and 2^5"}),
        custom(__module__="pathlib", __class__="PosixPath", path="/data/2**9"),
        {"ion_concentration": "0.15 molar"},
        {"text": "9**9**9"},
        deep(90),
    ],
)
def test_honest_values_pass(value: Any) -> None:
    (document,) = chemistry.read_chain([pair(x=value)])
    assert chemistry.plain(document.data)["x"] == value


@pytest.mark.parametrize(
    ("limit", "message"), [("DOCUMENTS_MAX", "has 2 documents; at most 1"), ("DOCUMENT_MAX", "bytes; at most 1")]
)
def test_chains_beyond_the_limits_are_refused(limit: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, limit, 1)
    with pytest.raises(ValueError, match=message):
        chemistry.read_chain([pair(1), pair(child=ref(1))])


# What is inside a network


def documents_of(obj: Any) -> list[list[chemistry.Document]]:
    """The documents from the object, and from its chain."""
    return [chemistry.encode(obj), chemistry.read_chain(chain_of(obj))]


def test_a_network_names_its_members() -> None:
    net = network()
    for documents in documents_of(net):
        content = chemistry.network_content(documents[-1])
        assert (content.key, content.name) == (net.key, "net")
        assert set(content.edges) == {edge.key for edge in net.edges}
        assert set(content.nodes) == {node.key for node in net.nodes}
        assert (len(content.edges), len(content.nodes)) == (3, 4)


def test_an_empty_network_has_no_members_and_no_name() -> None:
    content = chemistry.network_content(chemistry.encode(gufe.AlchemicalNetwork())[-1])
    assert (content.name, content.edges, content.nodes) == (None, (), ())


def test_edges_and_nodes_are_read_from_their_documents() -> None:
    net = network()
    for documents in documents_of(net):
        edges = {edge.key: edge for edge in map(chemistry.edge_content, documents) if edge}
        nodes = {node.key: node for node in map(chemistry.node_content, documents) if node}
        assert edges == {
            edge.key: chemistry.Edge(
                edge.key,
                edge.name,
                "PushProtocol",
                (("system", edge.system.key),)
                if isinstance(edge, gufe.NonTransformation)
                else (("A", edge.stateA.key), ("B", edge.stateB.key)),
            )
            for edge in net.edges
        }
        assert nodes == {node.key: chemistry.Node(node.key, node.name) for node in net.nodes}


def test_a_transformation_of_a_system_into_itself_is_refused() -> None:
    same = gufe.Transformation(system("a"), system("a"), PushProtocol(Effort()))
    with pytest.raises(ValueError, match="uses the same `ChemicalSystem`"):
        chemistry.edge_content(chemistry.encode(same)[-1])


def test_a_document_that_is_not_a_network_is_refused() -> None:
    with pytest.raises(ValueError, match="not an AlchemicalNetwork"):
        chemistry.network_content(chemistry.encode(Holder())[-1])


@pytest.mark.parametrize(
    "content", [{"edges": [], "nodes": "x"}, {"edges": ["x"], "nodes": []}, {"edges": [], "nodes": [{":gufe-key:": "x"}]}]
)
def test_a_network_with_strange_members_is_refused(content: dict[str, Any]) -> None:
    document = chemistry.Document(GufeKey("AlchemicalNetwork-" + ZERO), b"", (), content)
    with pytest.raises(ValueError, match=r"gufe|lists of edges"):
        chemistry.network_content(document)


@pytest.mark.parametrize("name", ["a\0b", "half \ud800", ["list"]])
def test_names_that_the_database_cannot_hold_are_refused(name: Any) -> None:
    document = chemistry.read_chain([pair(name=name, edges=[], nodes=[], components={})])[0]
    for read in (chemistry.network_content, chemistry.node_content):
        with pytest.raises(ValueError, match="name"):
            read(document)


# Results


def test_a_result_is_written_as_a_chain_with_itself_last(tmp_path: Path) -> None:
    result = run(tmp_path)
    text = chemistry.result_to_json(result)
    assert text.isascii()
    pairs = json.loads(text)
    assert pairs[-1][0] == result.key
    assert [document.key for document in chemistry.encode(result)] == [key for key, _ in pairs]


def test_a_living_result_is_returned(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert chemistry.result_from_json(chemistry.result_to_json(result)) is result
    assert chemistry.result_from_json(chemistry.result_to_json(result).decode()) is result


def nested(result: Any) -> str:
    return json.dumps(result.to_dict(), cls=JSON_HANDLER.encoder)


# gufe cannot write "fail badly" itself.
@pytest.mark.parametrize(
    ("form", "mode"),
    [
        (chemistry.result_to_json, "work"),
        (chemistry.result_to_json, "fail"),
        (chemistry.result_to_json, "fail badly"),
        (nested, "work"),
        (nested, "fail"),
    ],
)
def test_results_come_back_from_both_forms(form: Callable[[Any], Any], mode: str, tmp_path: Path) -> None:
    def make() -> tuple[str, Any, bytes]:
        result = run(tmp_path, mode)
        return str(result.key), form(result), chemistry.result_to_json(result)

    key, text, chain = make()
    gc.collect()
    assert chemistry.alive(key) is None
    back = chemistry.result_from_json(text)
    assert back.key == key
    assert chemistry.result_to_json(back) == chain
    assert chemistry.result_ok(back) == (mode == "work")
    assert all(chemistry.alive(str(unit.key)) is unit for unit in back.protocol_units)


def test_an_exception_that_json_does_not_know_is_kept_as_repr(tmp_path: Path) -> None:
    def make() -> bytes:
        return chemistry.result_to_json(run(tmp_path, "fail badly"))

    text = make()
    gc.collect()
    failure = chemistry.result_from_json(text).protocol_unit_failures[0]
    name, args = failure.exception
    assert (name, args[0]) == ("ArithmeticError", "no luck")
    assert args[1].startswith("<object object at")
    assert "Ball(name=lost)" in args[2]
    assert "in _execute" in failure.traceback


def test_both_forms_give_the_same_dict(tmp_path: Path) -> None:
    result = run(tmp_path, "fail")
    from_chain = chemistry.result_to_dict(chemistry.result_to_json(result))
    from_nested = chemistry.result_to_dict(nested(result))
    assert from_chain["protocol_units"][0]["inputs"]["system"]["__qualname__"] == "ChemicalSystem"
    assert repr(from_chain) == repr(from_nested)


@pytest.mark.parametrize("text", [b"", b"5", b"{}", b"[]", b"\xff", b'{"a": 1}', b'[["a", {}]]', '"text"'])
def test_what_is_not_a_result_is_a_value_error(text: bytes | str) -> None:
    with pytest.raises(ValueError):
        chemistry.result_from_json(text)


def test_a_nested_part_cannot_take_the_key_of_another_class(tmp_path: Path) -> None:
    genuine = Ball("genuine")
    document = json.loads(nested(run(tmp_path)))
    document["protocol_unit_results"][0]["_key"] = str(genuine.key)
    with pytest.raises(ValueError, match="of another class"):
        chemistry.result_from_json(json.dumps(document))


# Running protocols


def test_a_result_is_ok_only_if_every_unit_succeeded(tmp_path: Path) -> None:
    good, bad = run(tmp_path), run(tmp_path, "fail")
    assert chemistry.result_ok(good)
    assert not chemistry.result_ok(bad)
    assert len(bad.protocol_unit_failures) >= 1


def test_a_failure_in_the_last_unit_is_not_ok(tmp_path: Path) -> None:
    good = run(tmp_path)
    last = good.protocol_unit_results[-1]
    failure = gufe.protocols.ProtocolUnitFailure(
        name="sum", source_key=last.source_key, inputs=last.inputs, outputs={}, exception=("E", ()), traceback=""
    )
    # Where 0.4 has no such argument, there is no such attribute either.
    keys = {"transformation_key": None} if hasattr(good, "transformation_key") else {}
    bad = gufe.ProtocolDAGResult(
        protocol_units=good.protocol_units, protocol_unit_results=[*good.protocol_unit_results[:-1], failure], **keys
    )
    assert not chemistry.result_ok(bad)


def test_failures_are_raised_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises((RuntimeError, ArithmeticError), match="no luck"):
        run(tmp_path, "fail", raise_error=True, n_retries=1)


def test_a_dag_can_extend_a_result_and_results_are_gathered(tmp_path: Path) -> None:
    first = run(tmp_path)
    second = run(tmp_path, extends=first)
    gathered = chemistry.gather(PushProtocol(Effort()), [first, second])
    assert gathered.data["totals"] == [2.0, 6.0]
    assert gathered.get_estimate() == 8.0


def test_a_nontransformation_runs(tmp_path: Path) -> None:
    stays = gufe.NonTransformation(system("c"), PushProtocol(Effort()), name="c stays")
    result = chemistry.execute_dag(chemistry.create_dag(stays, name="mine"), shared_basedir=tmp_path, scratch_basedir=tmp_path)
    assert result.name == "mine"
    assert chemistry.result_ok(result)


def test_the_writer_names_what_can_change_keys() -> None:
    versions = dict(part.split(" ") for part in chemistry.writer().split(", "))
    assert list(versions) == ["gufe", "zstandard", "rdkit", "python"]
    assert versions["gufe"] == chemistry.gufe_version()
    assert chemistry.gufe_version()[0].isdigit()
