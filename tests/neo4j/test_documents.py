"""Documents from the nodes of a graph, and what their keys can restore."""

from __future__ import annotations

import json
from typing import Any

import gufe
import pytest

from alchemistore import gufe_adapter
from alchemistore.errors import GufeNotInstalledError
from alchemistore.gufe_adapter import Document
from alchemistore.neo4j.documents import content, documents
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.records import GraphLink, GraphObject
from harmonic.protocol import HarmonicProtocol
from harmonic.system import HarmonicWell
from tests.support.recorded_graph import RecordedGraph


def node(properties: dict[str, Any], *links: GraphLink) -> GraphObject:
    return GraphObject("Thing-1", {"_org": "a", "_gufe_key": "Thing-1", **properties}, links)


def test_properties_of_the_original_are_no_part_of_the_document() -> None:
    found = content(node({"__qualname__": "Thing", ":version:": 1, "_json_props": []}))
    assert found == {"__qualname__": "Thing", ":version:": 1}


def test_values_that_the_original_wrote_as_json_are_read() -> None:
    found = content(node({"settings": '{":is_custom:": true}', "_json_props": ["settings"]}))
    assert found == {"settings": {":is_custom:": True}}


def test_dependencies_become_references() -> None:
    found = content(
        node(
            {},
            GraphLink("B-1", "many", None, 1),
            GraphLink("A-1", "many", None, 0),
            GraphLink("C-1", "named", "x", None),
            GraphLink("D-1", "one", None, None),
        )
    )
    assert found == {
        "many": [{":gufe-key:": "A-1"}, {":gufe-key:": "B-1"}],
        "named": {"x": {":gufe-key:": "C-1"}},
        "one": {":gufe-key:": "D-1"},
    }


def without(found: list[Document], kind: str, name: str) -> list[Document]:
    """Documents in which the objects of a kind have lost an attribute."""
    chain = [
        (
            one.key,
            {
                field: value
                for field, value in json.loads(one.text).items()
                if one.key.qualname != kind or field != name
            },
        )
        for one in found
    ]
    return gufe_adapter.read_chain(chain)


@pytest.fixture
def edge() -> list[Document]:
    """A transformation without a name that refers twice to its system."""
    system = gufe.ChemicalSystem({"ligand": HarmonicWell("anna", 8.0)}, name="anna")
    protocol = HarmonicProtocol(HarmonicProtocol.default_settings())
    return gufe_adapter.encode(gufe.Transformation(system, system, protocol))


def texts(found: list[Document]) -> dict[str, Any]:
    return {str(one.key): json.loads(one.text) for one in found}


def test_intact_documents_stay_as_gufe_writes_them(edge: list[Document]) -> None:
    restored = gufe_adapter.restore_documents(edge)
    assert texts(restored.documents) == texts(edge)
    assert (restored.kept, restored.completed) == ({}, {})


def test_lost_none_is_restored(edge: list[Document]) -> None:
    restored = gufe_adapter.restore_documents(without(edge, "Transformation", "name"))
    assert texts(restored.documents) == texts(edge)
    assert restored.kept == {}


def test_second_reference_to_an_object_is_restored_and_named(edge: list[Document]) -> None:
    restored = gufe_adapter.restore_documents(without(edge, "Transformation", "stateB"))
    assert texts(restored.documents) == texts(edge)
    [(key, added)] = restored.completed.items()
    assert key.qualname == "Transformation"
    assert added.startswith('stateB is {":gufe-key:": "ChemicalSystem-')


def test_document_that_does_not_have_its_key_is_kept_with_all_that_hold_it(
    edge: list[Document],
) -> None:
    damaged = without(edge, "HarmonicWell", "force_constant")
    restored = gufe_adapter.restore_documents(damaged)
    assert texts(restored.documents) == texts(damaged)
    assert sorted(key.qualname for key in restored.kept) == [
        "ChemicalSystem", "HarmonicWell", "Transformation",
    ]  # fmt: skip


def test_without_gufe_documents_are_as_the_graph_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(found: object) -> None:
        raise GufeNotInstalledError("gufe")

    monkeypatch.setattr(gufe_adapter, "restore_documents", missing, raising=False)
    graph = GraphReader(RecordedGraph.read("wells"))
    [scope, _] = graph.scopes().scopes
    network = next(graph.networks(scope))
    found = documents(graph.objects(network.key), str(network.key.gufe_key))
    assert found.chain[-1][0] == str(network.key.gufe_key)
    assert {key for key, _ in found.chain} == found.kept.keys()
    assert set(found.kept.values()) == {"gufe is not installed, so its key was not computed"}


def test_object_that_the_graph_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="Thing-1 is not in the graph"):
        documents([], "Thing-1")
