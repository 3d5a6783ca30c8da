"""Graphs of alchemiscale 0.4 to 0.6, which their own stores have written, and older ones.

0.7 writes what 0.8 writes. 0.6 has no managers, strategies and failures of services; 0.5 has no
restart patterns and tracebacks either, and 0.4 only tasks of transformations. The times of these
three have no zone.
"""

from __future__ import annotations

from datetime import UTC

import pytest

from alchemistore import CredentialedUserIdentity, Scope, ScopedKey, StateStore, TaskStatusEnum
from alchemistore.errors import GraphError
from alchemistore.neo4j.importer import GraphImport
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.report import PartReport
from alchemistore.neo4j.verification import Verification
from tests.support.recorded_graph import RecordedGraph

VERSIONS = ("0.4", "0.5", "0.6")
SCOPE = Scope("org", "campaign", "one")

each_version = pytest.mark.parametrize("version", VERSIONS)


def recorded(version: str) -> RecordedGraph:
    return RecordedGraph.read(f"alchemiscale-{version}")


def imported(store: StateStore, graph: RecordedGraph) -> dict[str, PartReport]:
    run = GraphImport(store, GraphReader(graph), "recorded")
    return {one.part: one for one in run.run()}


@each_version
def test_everything_is_stored_and_equal(store: StateStore, version: str) -> None:
    graph = recorded(version)
    reports = imported(store, graph)
    report = reports[str(SCOPE)]
    # Nothing was corrected. The documents need another version of gufe.
    assert [one for one in report.findings if not one.document] == []
    for one in Verification(store, GraphReader(graph)).part(report):
        assert (one.different, one.graph) == ([], one.store)
    rows = graph.of("tasks", str(SCOPE))
    keys = [ScopedKey.from_str(row["key"]) for row in rows]
    assert store.get_task_status(keys) == [TaskStatusEnum(row["status"]) for row in rows]
    assert {row["status"] for row in rows} == {one.value for one in TaskStatusEnum}
    assert not any(any(again.counts.values()) for again in imported(store, graph).values())


@each_version
def test_times_without_a_zone_are_in_utc(store: StateStore, version: str) -> None:
    graph = recorded(version)
    imported(store, graph)
    [row] = graph.of("services")
    assert row["heartbeat"].tzinfo is None
    [service] = store.query_computeservices()
    assert (service.registration.registered, service.registration.heartbeat) == (
        row["registered"].replace(tzinfo=UTC),
        row["heartbeat"].replace(tzinfo=UTC),
    )
    [task] = [one for one in graph.of("tasks", str(SCOPE)) if one["claims"]]
    [claim] = task["claims"]
    [history] = store.get_task_history([ScopedKey.from_str(task["key"])])
    assert history is not None
    assert history.attempts[0].claimed_at == claim["claimed"].replace(tzinfo=UTC)


@each_version
def test_what_a_version_does_not_have_is_absent(store: StateStore, version: str) -> None:
    imported(store, recorded(version))
    [network] = store.query_networks()
    hub = store.get_taskhub(network)
    assert hub is not None
    patterns = {("Out of memory", 2), ("CUDA.*", 2)} if version == "0.6" else set()
    assert store.get_task_restart_patterns([hub]) == {hub: patterns}
    assert store.get_network_strategy_state(network) is None
    assert store.query_computemanagers() == []
    user = store.get_credentialed_entity("user", CredentialedUserIdentity)
    assert user.scopes == [str(SCOPE)]
    kinds = {key.qualname for key in store.get_network_transformations(network)}
    assert kinds == {"Transformation"} | (set() if version == "0.4" else {"NonTransformation"})


def test_graph_without_marks_needs_the_migration_of_the_original_first(store: StateStore) -> None:
    graph = recorded("0.4")
    graph.of("kinds")[0]["marks"] = 0
    with pytest.raises(GraphError) as refused:
        imported(store, graph)
    assert str(refused.value) == (
        "the graph was written by alchemiscale 0.3 or older: its networks have no marks. Stop its"
        " server, move the data to Neo4j 5 if it is older, run 'alchemiscale database migrate"
        " v03-to-v04' of alchemiscale 0.4 or newer, and import the graph then"
    )
    assert store.query_networks() == []
