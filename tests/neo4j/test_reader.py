"""Records of a recorded graph."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from alchemistore.models import Scope
from alchemistore.neo4j.reader import GraphReader
from tests.support.recorded_graph import RecordedGraph

ONE, TWO = Scope("org", "campaign", "one"), Scope("org", "campaign", "two")


@pytest.fixture
def graph() -> RecordedGraph:
    return RecordedGraph.read("wells")


@pytest.fixture
def reader(graph: RecordedGraph) -> GraphReader:
    return GraphReader(graph)


def test_scopes_are_in_order_and_those_of_no_store_are_named(
    graph: RecordedGraph, reader: GraphReader
) -> None:
    assert reader.scopes() == ((ONE, TWO), ())
    graph.of("scopes").append({"org": "a", "campaign": "*", "project": "*"})
    graph.of("scopes").append({"org": "1", "campaign": "b", "project": "c"})
    assert reader.scopes() == ((ONE, TWO), ("1-b-c", "a-*-*"))


def test_networks_have_hub_state_strategy_and_edges(reader: GraphReader) -> None:
    large, small = sorted(reader.networks(ONE), key=lambda one: len(one.edges), reverse=True)
    assert (large.name, small.name) == ("three", "one")
    assert [hub.weight for hub in large.hubs] == [0.25]
    assert large.states == ("active",)
    assert [one.key.qualname for one in large.strategies] == ["ConnectivityStrategy"]
    assert large.strategies[0].state["iterations"] == 4
    assert set(small.edges) < set(large.edges)
    assert small.strategies == ()
    [other] = reader.networks(TWO)
    assert (other.key.gufe_key, other.states) == (small.key.gufe_key, ("inactive",))


def test_objects_are_the_network_with_all_its_parts(reader: GraphReader) -> None:
    [network] = reader.networks(TWO)
    found = {one.key: one for one in reader.objects(network.key)}
    kinds = sorted(key.partition("-")[0] for key in found)
    assert kinds == [
        "AlchemicalNetwork", "ChemicalSystem", "ChemicalSystem", "HarmonicProtocol",
        "HarmonicSettings", "HarmonicWell", "HarmonicWell", "Transformation",
    ]  # fmt: skip
    assert {link.key for one in found.values() for link in one.links} == (
        found.keys() - {str(network.key.gufe_key)}
    )


def test_tasks_belong_to_the_scope_of_their_transformation(reader: GraphReader) -> None:
    tasks = list(reader.tasks(ONE))
    assert [task.key.scope for task in tasks].count(TWO) == 1
    assert len(list(reader.tasks(TWO))) == 1
    assert sorted({task.status for task in tasks}) == [
        "complete", "deleted", "error", "invalid", "running", "waiting",
    ]  # fmt: skip
    [claimed] = [task for task in tasks if task.claims]
    assert (claimed.status, claimed.priority) == ("running", 3)
    assert claimed.claims[0].service.startswith("service-")
    assert max(len(task.actions) for task in tasks) == 2
    assert sum(len(task.parents) for task in tasks) == 3
    assert max(one.retries for task in tasks for one in task.counters) == 1


def test_times_are_in_utc(graph: RecordedGraph, reader: GraphReader) -> None:
    graph.of("tasks", str(ONE))[0]["created"] = datetime(2024, 1, 2, 3)
    assert next(reader.tasks(ONE)).created == datetime(2024, 1, 2, 3, tzinfo=UTC)
    assert {result.created.tzinfo for result in reader.results(ONE) if result.created} == {UTC}


def test_results_and_tracebacks_are_those_of_the_tasks(reader: GraphReader) -> None:
    results = list(reader.results(ONE))
    assert [one.ok for one in results].count(True) == 2
    failures = {one.key for one in results if not one.ok}
    assert {one.result for one in reader.tracebacks(ONE)} == failures
    assert {one.tracebacks for one in reader.tracebacks(ONE)} == {
        ("Out of memory: 1",), ("ValueError: NaN",),
    }  # fmt: skip


def test_patterns_registrations_and_identities_are_read(reader: GraphReader) -> None:
    assert {(one.pattern, one.max_retries) for one in reader.patterns(ONE)} == {
        ("Out of memory", 2), ("CUDA.*", 2),
    }  # fmt: skip
    assert sorted(one.manager or "" for one in reader.services()) == ["", "manager"]
    assert sorted(len(one.failures) for one in reader.services()) == [0, 1]
    assert {one.status for one in reader.managers()} == {"OK", "ERROR"}
    user, compute = sorted(reader.identities(), key=lambda one: one.type, reverse=True)
    assert (user.type, user.scopes) == ("user", ("org-*-*", "org-campaign-one"))
    assert (compute.identifier, compute.scopes) == ("cluster", ())
