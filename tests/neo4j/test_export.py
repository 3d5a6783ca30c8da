"""Exports: the statements and rows that a graph is given. `test_real_graph.py` uses a real one."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from alchemistore import Scope, StateStore
from alchemistore.errors import GraphError
from alchemistore.neo4j.documents import content
from alchemistore.neo4j.exporter import IS_EMPTY, GraphExport, convert
from alchemistore.neo4j.importer import GraphImport
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.records import GraphLink, GraphObject
from alchemistore.neo4j.report import PartReport
from tests.support.recorded_graph import RecordedGraph

REFERENCE = {":gufe-key:": "Part-1"}
OTHER = {":gufe-key:": "Part-2"}


class Target:
    """Takes what is written; `written` is a list of statements with their rows."""

    address = "bolt://target"

    def __init__(self, content: list[dict[str, Any]] | None = None) -> None:
        self.content = content or []
        self.written: list[tuple[str, list[dict[str, Any]]]] = []

    def write(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        if statement == IS_EMPTY:
            return self.content
        self.written.append((statement, parameters.get("rows", [])))
        return []

    def nodes(self) -> Counter[str]:
        """The number of nodes with each label."""
        found: Counter[str] = Counter()
        for statement, rows in self.written:
            for label in re.findall(r"SET n:`(\w+)`", statement):
                found[label] += len(rows)
        return found

    def links(self) -> Counter[str]:
        """The number of relationships of each kind."""
        found: Counter[str] = Counter()
        for statement, rows in self.written:
            for kind in re.findall(r"CREATE \(\w\)-\[\w?:(\w+)", statement):
                found[kind] += len(rows)
        return found


def export(store: StateStore, target: Any) -> dict[str, PartReport]:
    return {one.part: one for one in GraphExport(store, target).run()}


def test_everything_is_written(store: StateStore) -> None:
    graph = RecordedGraph.read("wells")
    list(GraphImport(store, GraphReader(graph), "recorded").run())
    target = Target()
    reports = export(store, target)
    nodes, links = target.nodes(), target.links()
    scopes = (Scope("org", "campaign", "one"), Scope("org", "campaign", "two"))
    tasks = [row for scope in scopes for row in graph.of("tasks", str(scope))]
    assert (nodes["Task"], nodes["TaskHub"], nodes["NetworkMark"]) == (len(tasks), 3, 3)
    assert nodes["ProtocolDAGResultRef"] == links["RESULTS_IN"] == 4
    assert nodes["Tracebacks"] == links["DETAILS"] == 2
    assert nodes["TaskRestartPattern"] == links["ENFORCES"] == 2
    assert links["ACTIONS"] == sum(len(row["actions"]) for row in tasks)
    assert links["APPLIES"] == sum(len(row["counters"]) for row in tasks)
    assert links["EXTENDS"] == sum(len(row["parents"]) for row in tasks)
    assert (links["CLAIMS"], links["PROGRESSES"], links["MARKS"]) == (1, 2, 3)
    assert links["PERFORMS"] == len(tasks) + 3
    assert reports["org-campaign-one"].counts["tasks"].added == 13
    assert reports["identities"].counts["identities"].added == 2
    assert [one.key for one in reports["no place in a graph"].findings] == ["changes of status"]


def test_graph_that_is_not_empty_is_refused(store: StateStore) -> None:
    target = Target([{"n": {}}])
    with pytest.raises(GraphError, match="bolt://target is not empty"):
        export(store, target)
    assert target.written == []


def test_values_become_properties_and_dependencies() -> None:
    document = {
        "__qualname__": "Thing",
        "name": None,
        "one": REFERENCE,
        "many": [OTHER],
        "number": 1,
        "numbers": [1, 2],
        "mixed": [1, 2.5],
        "empty": [],
        "none": {},
        "large": 2**70,
        "settings": {":is_custom:": True, "b": 1, "a": [REFERENCE]},
    }
    properties, links, lost = convert(document)
    assert properties == {
        "__qualname__": "Thing",
        "name": None,
        "number": 1,
        "numbers": [1, 2],
        "mixed": "[1, 2.5]",
        "empty": "[]",
        "none": "{}",
        "large": str(2**70),
        "settings": '{":is_custom:": true, "a": [{":gufe-key:": "Part-1"}], "b": 1}',
        "_json_props": ["mixed", "empty", "none", "large", "settings"],
    }
    assert links == {"Part-1": {"attribute": "one"}, "Part-2": {"attribute": "many", "index": 0}}
    assert lost == []
    node = GraphObject(
        "Thing-1",
        properties,
        tuple(
            GraphLink(key, place["attribute"], place.get("key"), place.get("index"))
            for key, place in links.items()
        ),
    )
    assert content(node) == document


def test_second_reference_to_an_object_is_named() -> None:
    _, links, lost = convert({"a": REFERENCE, "b": REFERENCE, "c": {"x": OTHER}})
    assert links["Part-1"] == {"attribute": "b"}
    assert links["Part-2"] == {"attribute": "c", "key": "x"}
    assert lost == ["Part-1"]
