"""Exports: the statements and rows that a graph is given. `test_real_graph.py` uses a real one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from alchemistore import Scope, StateStore
from alchemistore.errors import GraphError
from alchemistore.neo4j.documents import content
from alchemistore.neo4j.exporter import GraphExport
from alchemistore.neo4j.exports.nodes import GraphScope, convert, converted
from alchemistore.neo4j.exports.target import IS_EMPTY
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
        # What happens before rows are written.
        self.before: Callable[[], object] = lambda: None
        # How many relationships of each page have no node at one end.
        self.lost = 0
        self.written: list[tuple[str, list[dict[str, Any]]]] = []

    def write(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        if statement == IS_EMPTY:
            return self.content
        rows = parameters.get("rows", [])
        if rows:
            self.before()
        self.written.append((statement, rows))
        return [{"written": len(rows) - self.lost}]

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


def test_relationship_without_a_node_at_one_end_is_an_error(store: StateStore) -> None:
    list(GraphImport(store, GraphReader(RecordedGraph.read("wells")), "recorded").run())
    target = Target()
    target.lost = 1
    with pytest.raises(GraphError, match="1 relationships DEPENDS_ON have no node at one end"):
        export(store, target)


def test_store_is_read_as_it_was_when_the_export_began(store: StateStore) -> None:
    list(GraphImport(store, GraphReader(RecordedGraph.read("wells")), "recorded").run())

    [edge] = store.query_transformations(name="cleo")
    target = Target()
    target.before = lambda: store.create_tasks([edge])
    reports = export(store, target)
    assert reports[str(edge.scope)].counts["tasks"].added == 13
    assert len(store.query_tasks(scope=edge.scope)) > 13


def test_what_has_no_place_in_a_graph_is_counted(store: StateStore) -> None:
    list(GraphImport(store, GraphReader(RecordedGraph.read("wells")), "recorded").run())
    service = store.query_computeservices()[0].registration.identifier
    [network] = store.query_networks(name="three")
    hub = store.get_taskhub(network)
    [task, *_] = [one for one in store.claim_taskhub_tasks(hub, service) if one]
    store.set_task_error([task])
    store.set_quota(Scope("org"), waiting_per_transformation=10)
    left = {one.key: one.text for one in export(store, Target())["no place in a graph"].findings}
    assert left["quotas"] == "1 were left out"
    assert left["attempts that have ended"] == "1 were left out"


def test_reference_from_within_another_value_is_named() -> None:
    document = {"__qualname__": "Thing", "settings": {"a": [REFERENCE], "b": 1}}
    text = json.dumps(document).encode()
    token = UUID(int=1)
    row = SimpleNamespace(kind="Thing", token=token, document=b"\0" + text, children=[token])
    report = PartReport("scope")
    [one] = converted([row], GraphScope(1, ("a", "b", "c")), report)  # type: ignore[list-item]
    assert one.links == {}
    [finding] = report.findings
    assert finding.key == f"Thing-{token.hex}-a-b-c"
    assert finding.text.startswith("it refers to 1 objects from within other values")


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
