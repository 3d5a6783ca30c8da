"""Objects to documents and back."""

from __future__ import annotations

import builtins
import math
import sys
import uuid
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gufe
import numpy as np
import pytest
import zstandard
from gufe.tokenization import TOKENIZABLE_CLASS_REGISTRY, TOKENIZABLE_REGISTRY

from alchemistore import gufe_adapter
from alchemistore.errors import (
    DamagedDocumentError,
    DocumentNotBuildableError,
    KeyDriftWarning,
)
from alchemistore.gufe_adapter import modules, screen
from alchemistore.models import GufeKey
from tests.support.gufe_classes import (
    Ball,
    Holder,
    Outer,
    encode_and_forget,
    encode_parts,
    network,
    system,
    transformation,
)

pytestmark = pytest.mark.usefixtures("quick_collection")

ZERO = "0" * 32


# Encoding


def test_documents_come_children_first_and_name_their_children() -> None:
    documents = gufe_adapter.encode(network())
    place = {document.key: i for i, document in enumerate(documents)}
    assert documents[-1].key.qualname == "AlchemicalNetwork"
    assert len(place) == len(documents) == 1 + 3 + 4 + 4 + 1 + 1
    assert all(
        place[child] < place[document.key] for document in documents for child in document.children
    )
    assert {
        document.key: gufe_adapter.plain(document.data)["__qualname__"] for document in documents
    } == {document.key: document.key.qualname for document in documents}


def test_children_are_distinct_and_in_order_of_first_appearance() -> None:
    one, two = Holder(1), Holder(2)
    root = gufe_adapter.encode(Holder({"a": [two, {"b": one}], "c": two}))[-1]
    assert root.children == (two.key, one.key)
    assert root.content["content"]["c"] == {":gufe-key:": str(two.key)}


def test_already_stored_is_called_once_per_level_and_prunes_descendants() -> None:
    leaf = Holder("leaf")
    middle = Holder([leaf])
    shared = Holder("shared")
    root = Holder([middle, shared])
    asked: list[Set[GufeKey]] = []

    def known(keys: Set[GufeKey]) -> set[GufeKey]:
        asked.append(keys)
        return {gufe_adapter.key_of(middle)} & keys

    documents = gufe_adapter.encode(root, known)
    assert asked == [{root.key}, {middle.key, shared.key}]
    assert [document.key for document in documents] == [shared.key, root.key]
    assert documents[-1].children == (middle.key, shared.key)


def test_child_on_two_levels_is_looked_up_and_converted_once() -> None:
    leaf = Holder("leaf")
    middle = Holder([leaf])
    root = Holder([leaf, middle])
    asked: list[Set[GufeKey]] = []

    def known(keys: Set[GufeKey]) -> set[GufeKey]:
        asked.append(keys)
        return set()

    assert [document.key for document in gufe_adapter.encode(root, known)] == [
        leaf.key,
        middle.key,
        root.key,
    ]
    assert asked == [{root.key}, {leaf.key, middle.key}]


def test_stored_object_is_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Holder("child")
    root = Holder([child])

    def refuse(self: Any) -> Any:
        raise AssertionError("converted")

    monkeypatch.setattr(child, "to_shallow_dict", refuse.__get__(child))
    assert [
        document.key for document in gufe_adapter.encode(root, lambda keys: keys - {root.key})
    ] == [root.key]


def test_stored_root_gives_no_documents() -> None:
    assert gufe_adapter.encode(Holder(), lambda keys: keys) == []


@pytest.mark.parametrize("thing", [None, 1, "Holder-" + ZERO, {}, Holder])
def test_other_type_than_a_gufe_object_is_a_type_error(thing: Any) -> None:
    assert not gufe_adapter.is_gufe(thing)
    with pytest.raises(TypeError, match="expected a gufe object"):
        gufe_adapter.encode(thing)


def test_networks_are_distinguished_from_other_objects() -> None:
    assert gufe_adapter.is_network(network())
    assert not gufe_adapter.is_network(transformation())


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
        (lambda: _Carrier(np.array([object()])), "cannot read it back"),
        (lambda: _Carrier(np.zeros(2, dtype=[("a", "i4")])), "cannot read it back"),
    ],
)
def test_content_that_cannot_be_decoded_is_refused_by_key(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"_Carrier-{ZERO} cannot be stored: .*{message}"):
        gufe_adapter.encode(make())


def test_circular_content_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="cannot be stored"):
        gufe_adapter.encode(_Carrier(loop))


def test_local_classes_are_refused() -> None:
    class Local(Holder):
        pass

    with pytest.raises(ValueError, match="inside a function"):
        gufe_adapter.encode(Local())


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
        {"dtype": "float64", "bytes": "not an array", "codecs apply to": Path("/here")},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_values_are_decoded_exactly(value: Any) -> None:
    key, documents = encode_and_forget(lambda: Holder(value))
    back = gufe_adapter.decode(key, documents)
    assert back.key == key
    assert encode_parts(back) == (key, documents)
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
def test_arrays_are_decoded_exactly(array: Any) -> None:
    key, documents = encode_and_forget(
        lambda: gufe.ProtocolUnitResult(name="r", source_key="s", inputs={}, outputs={"a": array})
    )
    back = gufe_adapter.decode(key, documents).outputs["a"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_child_under_two_labels_is_decoded_under_both() -> None:
    key, documents = encode_and_forget(lambda: system("twice"))
    back = gufe_adapter.decode(key, documents)
    assert list(back.components) == ["left", "right"]
    assert back.components["left"] is back.components["right"]


def test_nested_classes_are_decoded() -> None:
    key, documents = encode_and_forget(lambda: Outer.Inner([Outer.Inner(1)]))
    assert key.startswith("Outer.Inner-")
    assert type(gufe_adapter.decode(key, documents)) is Outer.Inner


@pytest.mark.parametrize(
    "make", [network, lambda: network(None), lambda: gufe.AlchemicalNetwork(name="bare")]
)
def test_networks_are_decoded(make: Callable[[], Any]) -> None:
    key, documents = encode_and_forget(make)
    back = gufe_adapter.decode(key, documents)
    assert back.key == key
    assert encode_parts(back) == (key, documents)


def test_chain_of_thousands_of_objects_needs_no_recursion() -> None:
    def deep() -> Any:
        root = Holder()
        for _ in range(3000):
            root = Holder([root])
        return root

    key, documents = encode_and_forget(deep)
    assert len(documents) == 3001
    back = gufe_adapter.decode(key, documents)
    assert back.key == key
    pairs = [[name, gufe_adapter.plain(data)] for name, data in documents.items()]
    assert len(gufe_adapter.read_chain(pairs[::-1][1:] + pairs[-1:])) == 3001
    # Freed link by link: dropping the whole chain at once would recurse in the interpreter.
    while back.content:
        (back,) = back.content


# Decoding


def test_object_in_memory_is_returned_without_reading_its_document() -> None:
    child = Holder("alive")
    key, documents = encode_and_forget(lambda: Holder([child, Holder("dead")]))
    documents[child.key] = b"rubbish"
    back = gufe_adapter.decode(key, documents)
    assert back.content[0] is child
    assert gufe_adapter.decode(key, {}) is back


def test_cached_looks_up_by_key_and_class() -> None:
    holder = Holder("here")
    assert gufe_adapter.cached(str(holder.key)) is holder
    assert gufe_adapter.cached("Holder-" + ZERO) is None
    TOKENIZABLE_REGISTRY["Holder-" + ZERO] = holder
    try:
        assert gufe_adapter.cached("Holder-" + ZERO) is None
    finally:
        del TOKENIZABLE_REGISTRY["Holder-" + ZERO]


def test_object_registered_under_a_key_of_another_class_is_not_used() -> None:
    key, documents = encode_and_forget(lambda: Ball("genuine"))
    forgery = Holder("forged")
    forgery._key = gufe.tokenization.GufeKey(key)
    TOKENIZABLE_REGISTRY[key] = forgery
    try:
        assert gufe_adapter.cached(key) is None
        with pytest.raises(
            DocumentNotBuildableError, match=f"{key} .*gufe has an object of another class, Holder"
        ):
            gufe_adapter.decode(key, documents)
    finally:
        del TOKENIZABLE_REGISTRY[key]


def test_drifted_keys_warn_with_both_keys_and_children_resolve_by_stored_key() -> None:
    child_key, child_documents = encode_and_forget(lambda: Holder("child"))
    old_child = "Holder-" + "a" * 32
    old_root = "Holder-" + "b" * 32
    root = {
        "__module__": Holder.__module__,
        "__qualname__": "Holder",
        "content": [{":gufe-key:": old_child}],
    }
    documents = {old_child: child_documents[child_key], old_root: gufe_adapter.dumps(root)}
    with pytest.warns(KeyDriftWarning) as warned:
        back = gufe_adapter.decode(old_root, documents)
    assert back.content[0].content == "child"
    assert f"{old_root} is now {back.key}; {old_child} is now {child_key}." in str(
        warned[0].message
    )
    assert warned[0].filename == __file__


def _document(**fields: Any) -> bytes:
    return gufe_adapter.dumps(
        {"__module__": Holder.__module__, "__qualname__": "Holder", "content": 1} | fields
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x09", "format byte"),
        (gufe_adapter.dumps([1]), "does not name its class"),
        (gufe_adapter.dumps({"content": 1}), "does not name its class"),
        (_document(__qualname__="Ball"), "of another class, Ball"),
        (_document(_key="Holder-" + "c" * 32), "contains another key"),
        (_document(content={":gufe-key:": "Holder-" + "d" * 32}), "the document is missing"),
        (_document(content=[{":gufe-key:": "Holder-" + ZERO}]), "contains itself"),
    ],
)
def test_document_of_another_class_than_its_key_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DamagedDocumentError, match=rf"Holder-[0d]{{32}}.*{message}"):
        gufe_adapter.decode("Holder-" + ZERO, {"Holder-" + ZERO: data})


def test_class_that_is_not_gufe_tokenizable_is_not_called() -> None:
    key = "OrderedDict-" + ZERO
    document = gufe_adapter.dumps({"__module__": "collections", "__qualname__": "OrderedDict"})
    with pytest.raises(DocumentNotBuildableError, match="not a class of gufe objects"):
        gufe_adapter.decode(key, {key: document})
    assert ("collections", "OrderedDict") not in TOKENIZABLE_CLASS_REGISTRY


def test_intact_document_that_does_not_fit_the_installed_class_is_not_called_damaged() -> None:
    key, documents = encode_and_forget(lambda: Holder("whole"))
    child = {":gufe-key:": key}
    root = "Holder-" + ZERO
    unfit = gufe_adapter.plain(documents[key]) | {"surprise": 1}
    for stored in (
        {root: _document(content=child), key: gufe_adapter.dumps(unfit)},
        {root: _document(content=child), key: _document(content=_custom(dtype="odd", shape=[1]))},
    ):
        with pytest.raises(DocumentNotBuildableError) as refused:
            gufe_adapter.decode(root, stored)
        message = str(refused.value)
        assert f"{key} (part of {root}) is of the class {Holder.__module__}.Holder" in message
        assert "nothing is lost: get_keyed_chain" in message
        assert not isinstance(refused.value, ValueError)


def _custom(**fields: Any) -> dict[str, Any]:
    return {"__module__": "numpy", "__class__": "ndarray", ":is_custom:": True, **fields}


def _write_package(folder: Path, name: str, code: str) -> None:
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text(f"import builtins\nbuiltins.{name} = True\n{code}")
    (package / "__main__.py").write_text("raise SystemExit(3)")
    (package / "classes.py").write_text(
        "from tests.support.gufe_classes import Holder\nclass Kept(Holder):\n    pass\n"
    )


def _kept(module: str) -> tuple[str, dict[str, bytes]]:
    key = "Kept-" + ZERO
    return key, {key: _document(__module__=module, __qualname__="Kept")}


@pytest.fixture
def package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """An installed package that no distribution contains; its name is unique."""
    name = f"package_{uuid.uuid4().hex}"
    _write_package(tmp_path, name, getattr(request, "param", ""))
    monkeypatch.syspath_prepend(tmp_path)
    modules.modules_of_gufe.cache_clear()
    yield name
    modules.modules_of_gufe.cache_clear()
    for loaded in [loaded for loaded in sys.modules if loaded.startswith(name)]:
        del sys.modules[loaded]


def test_module_that_nobody_allowed_is_not_imported(package: str) -> None:
    key, documents = _kept(f"{package}.classes")
    with pytest.raises(DocumentNotBuildableError, match="add it to ALCHEMISTORE_MODULES"):
        gufe_adapter.decode(key, documents)
    custom = _custom(__module__=f"{package}.classes", __class__="Kept")
    with pytest.raises(DocumentNotBuildableError, match="add it to ALCHEMISTORE_MODULES"):
        gufe_adapter.decode("Holder-" + ZERO, {"Holder-" + ZERO: _document(content=custom)})
    assert not hasattr(builtins, package)
    assert package not in sys.modules


def test_module_that_the_setting_lists_is_imported(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALCHEMISTORE_MODULES", f"other, {package}")
    key, documents = _kept(f"{package}.classes")
    with pytest.warns(KeyDriftWarning):
        assert gufe_adapter.decode(key, documents).content == 1
    assert hasattr(builtins, package)


@pytest.mark.parametrize(
    ("metadata", "allowed"),
    [
        ("Requires-Dist: gufe", True),
        ("Requires-Dist: gufe >=1.1", True),
        ("Requires-Dist: gufe[extra]==0.4; extra == 'all'", True),
        ("Requires-Dist: gufeish", False),
        ("Requires-Dist: numpy", False),
    ],
)
@pytest.mark.parametrize("lists_its_files", [True, False])
def test_modules_of_distributions_that_require_gufe_are_imported(
    package: str, tmp_path: Path, metadata: str, allowed: bool, lists_its_files: bool
) -> None:
    info = tmp_path / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\n{metadata}\n")
    if lists_its_files:
        (info / "RECORD").write_text(f"{package}/__init__.py,,\n{package}/classes.py,,\n")
    key, documents = _kept(f"{package}.classes")
    if allowed:
        with pytest.warns(KeyDriftWarning):
            assert gufe_adapter.decode(key, documents).content == 1
    else:
        with pytest.raises(DocumentNotBuildableError, match="not part of a distribution"):
            gufe_adapter.decode(key, documents)


def test_modules_of_the_entry_points_are_imported(package: str, tmp_path: Path) -> None:
    info = tmp_path / "anything-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: anything\n")
    (info / "entry_points.txt").write_text(f"[alchemistore.gufe]\nmine = {package}\n")
    key, documents = _kept(f"{package}.classes")
    with pytest.warns(KeyDriftWarning):
        assert gufe_adapter.decode(key, documents).content == 1


@pytest.mark.parametrize("module", ["unittest.__main__", "__main__", "gufe.__main__"])
def test_scripts_are_never_imported(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALCHEMISTORE_MODULES", "unittest")
    key, documents = _kept(module)
    with pytest.raises(DocumentNotBuildableError, match="is a script and is never imported"):
        gufe_adapter.decode(key, documents)


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("raise SystemExit(4)", "SystemExit: 4"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise RuntimeError('out of order')", "RuntimeError: out of order"),
        ("import not_installed_anywhere", "'not_installed_anywhere' is not installed"),
        ("1 +", "SyntaxError"),
    ],
    indirect=["package"],
)
def test_failing_import_is_an_error_of_the_document(
    package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALCHEMISTORE_MODULES", package)
    key, documents = _kept(f"{package}.classes")
    with pytest.raises(DocumentNotBuildableError, match=message):
        gufe_adapter.decode(key, documents)


def test_bytes_of_many_documents_are_not_unpacked_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(100_000)).decode("latin-1")
    packed = {"__module__": "builtins", "__class__": "bytes", ":is_custom:": True, "latin-1": frame}
    names = ["Holder-" + digit * 32 for digit in "123"]
    documents = {name: _document(content=packed) for name in names}
    documents["Holder-" + ZERO] = _document(content=[{":gufe-key:": name} for name in names])
    monkeypatch.setattr(screen, "UNPACKED_MAX", 250_000)
    with pytest.raises(DocumentNotBuildableError, match="unpack to more than the allowed 250000"):
        gufe_adapter.decode("Holder-" + ZERO, documents)
    with pytest.raises(ValueError, match="unpack to more than the allowed 250000"):
        gufe_adapter.loads(gufe_adapter.dumps([packed] * 3))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("not_installed_anywhere.protocols", "'not_installed_anywhere' is not installed"),
        ("tests.unit.test_gufe_adapter", "installed packages do not contain"),
        ("..relative", "'..relative' is not the name of a module"),
    ],
)
def test_class_that_cannot_be_imported_is_named(module: str, message: str) -> None:
    key = "Holder2-" + ZERO
    document = gufe_adapter.dumps({"__module__": module, "__qualname__": "Holder2"})
    with pytest.raises(DocumentNotBuildableError, match=f"{key} is of the class .*{message}"):
        gufe_adapter.decode(key, {key: document})


def test_threads_decode_the_same_network() -> None:
    key, documents = encode_and_forget(network)
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda _: str(gufe_adapter.decode(key, documents).key), range(40)))
    assert set(keys) == {key}
