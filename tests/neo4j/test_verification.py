"""The comparison of a store with the graph that was imported into it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from alchemistore import Scope, StateStore
from alchemistore.neo4j.comparison import Comparison
from alchemistore.neo4j.importer import GraphImport
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.report import PartReport
from alchemistore.neo4j.verification import Verification
from tests.support.recorded_graph import RecordedGraph

ONE, TWO = Scope("org", "campaign", "one"), Scope("org", "campaign", "two")


@pytest.fixture
def graph() -> RecordedGraph:
    return RecordedGraph.read("wells")


def reports(store: StateStore, graph: RecordedGraph) -> dict[str, PartReport]:
    run = GraphImport(store, GraphReader(graph), "bolt://recorded")
    return {one.part: one for one in run.run()}


def compared(store: StateStore, graph: RecordedGraph, report: PartReport) -> dict[str, Comparison]:
    found = Verification(store, GraphReader(graph)).part(report)
    return {one.kind: one for one in found}


def test_store_is_equal_to_the_graph(store: StateStore, graph: RecordedGraph) -> None:
    for report in reports(store, graph).values():
        found = compared(store, graph, report)
        assert {kind: one.different for kind, one in found.items() if one.different} == {}
        assert {one.listed for one in found.values()} == {0}
        assert all(one.graph == one.store > 0 for one in found.values() if one.part != str(TWO))


def test_progress_of_the_comparison_is_told(store: StateStore, graph: RecordedGraph) -> None:
    report = reports(store, graph)[str(ONE)]
    told: list[tuple[str, int, int]] = []
    progress = lambda *step: told.append(step)  # noqa: E731
    Verification(store, GraphReader(graph), progress).part(report)
    assert told == [
        (f"keys of objects of {ONE}", 1, 2),
        (f"keys of objects of {ONE}", 2, 2),
        (f"comparison of tasks of {ONE}", 13, 13),
    ]


# Each changes one kind of object in the store, behind the back of the import.
CHANGES = {
    "networks": "UPDATE taskhubs SET weight = 0.125",
    "tasks": "UPDATE tasks SET priority = 99 WHERE status = 'error'",
    "actions": "UPDATE actions SET weight = 0.875 WHERE weight = 0.75",
    "results of tasks": (
        "DELETE FROM task_results WHERE task = (SELECT task FROM task_results LIMIT 1)"
    ),
    "results": "UPDATE results SET location = location || 'x' WHERE ok",
    "tracebacks": "DELETE FROM tracebacks",
    "restart patterns": "UPDATE restart_patterns SET max_retries = 9",
}


# More of what networks and tasks have.
PARTS = {
    "networks": "UPDATE network_strategies SET last_iteration_at = NULL",
    "tasks": "UPDATE actions SET retries = ARRAY[2] WHERE retries = ARRAY[1]",
}


@pytest.mark.parametrize(("kind", "statement"), [*CHANGES.items(), *PARTS.items()])
def test_each_difference_is_found(
    pooled_database: str, graph: RecordedGraph, kind: str, statement: str
) -> None:
    store = StateStore(pooled_database)
    report = reports(store, graph)[str(ONE)]
    with store.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    found = compared(store, graph, report)
    assert [name for name, one in found.items() if one.different] == [kind]
    store.close()


REGISTERED = {
    "services": "UPDATE compute_services SET manager_name = 'other'",
    "managers": "DELETE FROM compute_managers WHERE name = 'broken'",
    "identities": "UPDATE identity_scopes SET scope = 'org-campaign-two' WHERE scope = 'org-*-*'",
}


@pytest.mark.parametrize("kind", REGISTERED)
def test_each_difference_of_services_managers_and_identities_is_found(
    pooled_database: str, graph: RecordedGraph, kind: str
) -> None:
    store = StateStore(pooled_database)
    found = reports(store, graph)
    with store.engine.begin() as connection:
        connection.exec_driver_sql(REGISTERED[kind])
    different = [
        name
        for part in ("services", "identities")
        for name, one in compared(store, graph, found[part]).items()
        if one.different
    ]
    assert different == [kind]
    store.close()


def test_service_with_claims_in_a_scope_that_was_not_imported_is_no_difference(
    store: StateStore, graph: RecordedGraph
) -> None:
    found = reports(store, graph)["services"]
    [claimed] = [row["claims"] for row in graph.of("tasks", str(ONE)) if row["claims"]]
    graph.answers["services"] = [
        row for row in graph.of("services") if row["identifier"] != claimed[0]["service"]
    ]
    assert compared(store, graph, found)["services"].different == []
    store.deregister_computeservice(claimed[0]["service"])
    assert compared(store, graph, found)["services"].different == []


Change = Callable[[RecordedGraph], object]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("tasks", lambda graph: graph.of("tasks", str(ONE)).pop()),
        ("results", lambda graph: graph.of("results", str(ONE)).pop()),
        ("tracebacks", lambda graph: graph.of("tracebacks", str(ONE)).pop()),
        ("networks", lambda graph: graph.of("networks", str(ONE)).pop()),
        ("restart patterns", lambda graph: graph.of("patterns", str(ONE)).pop()),
    ],
)
def test_object_that_the_graph_does_not_have_is_different(
    store: StateStore, graph: RecordedGraph, kind: str, change: Change
) -> None:
    report = reports(store, graph)[str(ONE)]
    change(graph)
    found = compared(store, graph, report)
    assert len(found[kind].different) == 1
    assert [name for name, one in found.items() if one.different] == [kind]


def test_what_the_report_lists_is_no_difference(store: StateStore, graph: RecordedGraph) -> None:
    row = next(
        row
        for row in graph.of("tasks", str(ONE))
        if row["status"] == "waiting" and row["actions"]
    )  # fmt: skip
    row["priority"] = 0
    report = reports(store, graph)[str(ONE)]
    found = compared(store, graph, report)
    assert (found["tasks"].listed, found["tasks"].different) == (1, [])
