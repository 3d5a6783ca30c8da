"""Objects that an import could not build, because packages were missing, and later ones can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gufe
import pytest
from sqlalchemy import text

from alchemistore import StateStore, gufe_adapter
from alchemistore.errors import GufeNotInstalledError
from alchemistore.gufe_adapter import decoding, modules, restore
from alchemistore.neo4j.importer import GraphImport
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.report import PartReport
from alchemistore.operations.conflicts import AS_FOUND
from harmonic.protocol import HarmonicProtocol
from harmonic.system import HarmonicWell
from tests.support.databases import DatabasePool
from tests.support.recorded_graph import RecordedGraph, graph_of

SCOPE = "org-campaign-one"


@pytest.fixture(scope="module")
def graph() -> RecordedGraph:
    """Two networks that share a transformation, which has no name."""
    protocol = HarmonicProtocol(HarmonicProtocol.default_settings())
    systems = [
        gufe.ChemicalSystem({"ligand": HarmonicWell(name, constant)}, name=name)
        for name, constant in (("anna", 8.0), ("bert", 36.0), ("cleo", 13.0))
    ]
    shared = gufe.Transformation(systems[0], systems[1], protocol)
    named = gufe.Transformation(systems[1], systems[2], protocol, name="bert to cleo")
    return graph_of(
        SCOPE,
        gufe.AlchemicalNetwork([shared, named], name="two"),
        gufe.AlchemicalNetwork([shared], name="one"),
    )


def imported(store: StateStore, graph: RecordedGraph) -> PartReport:
    """The report of an import about the scope."""
    reports = GraphImport(store, GraphReader(graph), "recorded").run()
    return next(one for one in reports if one.part == SCOPE)


def changed(report: PartReport) -> int:
    """The number of objects that were changed; nothing else may be."""
    others = {kind: one for kind, one in report.counts.items() if one and kind != "objects"}
    assert others == {}
    return report.counts["objects"].changed if "objects" in report.counts else 0


def listed(report: PartReport) -> set[str]:
    """The kinds of objects that the report lists as stored as the graph has them."""
    return {
        finding.key.partition("-")[0]
        for finding in report.findings
        if finding.document and "it is stored as the graph has it" in finding.text
    }


Documents = dict[str, tuple[bytes, list[Any], str]]


def documents(store: StateStore) -> Documents:
    """The documents with their parts and writers, by key."""
    with store.engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM alchemistore.gufe_objects"))
        return {f"{row.kind}-{row.token}": (row.document, row.children, row.writer) for row in rows}


def conflicts(store: StateStore) -> int:
    with store.engine.connect() as connection:
        found = connection.scalar(text("SELECT count(*) FROM alchemistore.document_conflicts"))
    assert found is not None
    return int(found)


@pytest.fixture
def expected(database_pool: DatabasePool, graph: RecordedGraph) -> Documents:
    """The documents after an import with all packages."""
    with database_pool.acquire() as copy:
        store = StateStore(copy.engine)
        assert listed(imported(store, graph)) == set()
        return documents(store)


Missing = Callable[[str], Any]


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Missing:
    """A context in which the modules with a prefix are not installed."""

    @contextmanager
    def without(prefix: str) -> Iterator[None]:
        def find_class(module: str, qualname: str) -> Any:
            if module.startswith(prefix):
                raise modules.ClassNotAvailableError(f"{module} is not installed")
            return modules.find_class(module, qualname)

        with monkeypatch.context() as patched:
            patched.setattr(decoding, "find_class", find_class)
            patched.setattr(restore, "find_class", find_class)
            yield

    return without


def test_objects_are_built_when_their_package_is_installed(
    store: StateStore, graph: RecordedGraph, expected: Documents, missing: Missing
) -> None:
    with missing("harmonic"):
        first = imported(store, graph)
    assert listed(first) == {
        "AlchemicalNetwork", "ChemicalSystem", "HarmonicProtocol", "HarmonicSettings",
        "HarmonicWell", "Transformation",
    }  # fmt: skip
    before = documents(store)
    assert {key for key, found in before.items() if found[0] != expected[key][0]} != set()
    with missing("harmonic"):
        again = imported(store, graph)
    assert (changed(again), documents(store)) == (0, before)
    assert listed(again) == listed(first)
    unbuilt = [writer for _, _, writer in before.values() if writer == AS_FOUND]
    assert changed(imported(store, graph)) == len(unbuilt)
    assert documents(store) == expected
    assert conflicts(store) == 0
    last = imported(store, graph)
    assert (changed(last), listed(last)) == (0, set())


def test_objects_that_still_cannot_be_built_stay(
    store: StateStore, graph: RecordedGraph, expected: Documents, missing: Missing
) -> None:
    with missing("harmonic"):
        imported(store, graph)
    with missing("harmonic.protocol"):
        report = imported(store, graph)
        assert changed(report) == 6
        assert listed(report) == {
            "AlchemicalNetwork", "HarmonicProtocol", "HarmonicSettings", "Transformation",
        }  # fmt: skip
        assert changed(imported(store, graph)) == 0
    assert changed(imported(store, graph)) == len(expected) - 6
    assert documents(store) == expected


def test_objects_are_built_when_gufe_is_installed(
    store: StateStore,
    graph: RecordedGraph,
    expected: Documents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raising(found: object) -> None:
        raise GufeNotInstalledError("gufe")

    with monkeypatch.context() as without:
        without.setattr(gufe_adapter, "restore_documents", raising, raising=False)
        imported(store, graph)
        assert changed(imported(store, graph)) == 0
    assert {writer for _, _, writer in documents(store).values()} == {AS_FOUND}
    assert changed(imported(store, graph)) == len(expected)
    assert documents(store) == expected


def test_objects_that_were_built_stay_as_they_are_when_their_package_is_missing(
    store: StateStore, graph: RecordedGraph, expected: Documents, missing: Missing
) -> None:
    smaller = RecordedGraph({question: [*rows] for question, rows in graph.answers.items()})
    smaller.of("networks", SCOPE).pop()
    imported(store, smaller)
    with missing("harmonic"):
        assert imported(store, graph).counts["networks"].added == 1
    found = documents(store)
    [other] = [key for key in found if found[key] != expected[key]]
    assert other.startswith("AlchemicalNetwork-")
    assert conflicts(store) == 0
    imported(store, graph)
    assert documents(store) == expected
