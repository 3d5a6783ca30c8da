"""Imports of a recorded graph: everything is stored, and a later import stores the differences."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from sqlalchemy import event, text

from alchemistore import (
    CredentialedComputeIdentity,
    CredentialedUserIdentity,
    Scope,
    ScopedKey,
    StateStore,
    TaskStatusEnum,
)
from alchemistore.errors import GraphError
from alchemistore.neo4j.graph import Row
from alchemistore.neo4j.importer import GraphImport
from alchemistore.neo4j.imports import objects, staging
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.report import PartReport
from alchemistore.operations.networks import create_network
from tests.support.recorded_graph import RecordedGraph

ONE, TWO = Scope("org", "campaign", "one"), Scope("org", "campaign", "two")
FIRST = str(ONE)


@pytest.fixture
def graph() -> RecordedGraph:
    return RecordedGraph.read("wells")


def imported(
    store: StateStore,
    graph: RecordedGraph,
    within: Scope | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> dict[str, PartReport]:
    """The reports of an import, by part."""
    run = GraphImport(store, GraphReader(graph), "bolt://recorded", force=force)
    return {report.part: report for report in run.run(within, dry_run=dry_run)}


def changes(reports: dict[str, PartReport]) -> dict[str, dict[str, tuple[int, int, int]]]:
    """What was added, changed and removed, without what was not."""
    return {
        part: {
            kind: (one.added, one.changed, one.removed)
            for kind, one in report.counts.items()
            if one
        }
        for part, report in reports.items()
        if any(report.counts.values())
    }


def task_row(graph: RecordedGraph, status: str, scope: Scope = ONE, **having: bool) -> Any:
    """The row of the first task with a status, with or without claims, actions and so on."""
    return next(
        row
        for row in graph.of("tasks", str(scope))
        if row["status"] == status and all(bool(row[name]) == it for name, it in having.items())
    )


def here(key: str) -> ScopedKey:
    """A key of the graph in the first scope."""
    return ScopedKey.from_str(f"{'-'.join(key.split('-')[:2])}-{ONE}")


def large(store: StateStore) -> ScopedKey:
    """The network with three transformations."""
    [network] = store.query_networks(name="three")
    return network


def sentences(report: PartReport, key: object) -> list[str]:
    return [one.text for one in report.findings if one.key == str(key)]


def test_tasks_are_as_in_the_graph(store: StateStore, graph: RecordedGraph) -> None:
    imported(store, graph)
    rows = graph.of("tasks", FIRST)
    keys = [here(row["key"]) for row in rows]
    assert sorted(store.query_tasks(scope=ONE), key=str) == sorted(keys, key=str)
    assert store.get_task_status(keys) == [TaskStatusEnum(row["status"]) for row in rows]
    assert store.get_task_priority(keys) == [row["priority"] for row in rows]
    for key, row in zip(keys, rows, strict=True):
        task = store.get_gufe(key)
        assert (task.creator, task.datetime_created) == (row["creator"], row["created"])
        assert task.extends == (str(here(row["parents"][0])) if row["parents"] else None)
        edge, _ = store.get_task_transformation(key, return_gufe=False)
        assert str(edge.gufe_key) == row["transformation"]


def test_networks_hubs_marks_and_actions_are_as_in_the_graph(
    store: StateStore, graph: RecordedGraph
) -> None:
    imported(store, graph)
    networks = store.query_networks()
    rows = [*graph.of("networks", str(ONE)), *graph.of("networks", str(TWO))]
    assert {str(key) for key in networks} == {row["key"] for row in rows}
    for row in rows:
        key = ScopedKey.from_str(row["key"])
        assert store.get_taskhub_weight(key) == row["hubs"][0]["weight"]
        assert store.get_network_state([key]) == row["states"]
        assert {str(one.gufe_key) for one in store.get_network_transformations(key)} == {
            *row["edges"]
        }
        assert str(store.get_taskhub(key)) == f"{row['hubs'][0]['key']}-{key.scope}"
    expected = {
        (action["hub"], str(here(row["key"]))): action["weight"]
        for row in graph.of("tasks", FIRST)
        for action in row["actions"]
    }
    hubs = store.query_taskhubs(scope=ONE)
    assert expected == {
        (str(hub), str(task)): weight
        for hub, tasks in zip(hubs, store.get_taskhub_actioned_tasks(hubs), strict=True)
        for task, weight in tasks.items()
    }
    assert len(expected) == 9


def test_objects_are_stored_under_their_keys(store: StateStore, graph: RecordedGraph) -> None:
    imported(store, graph)
    for question, rows in graph.answers.items():
        if question.startswith("objects "):
            root = ScopedKey.from_str(question.removeprefix("objects "))
            chain = store.get_keyed_chain(root)
            assert {key for key, _ in chain} == {row["key"] for row in rows}
            for row in rows:
                content = dict(chain)[row["key"]]
                assert content["__qualname__"] == row["properties"]["__qualname__"]
    [edge] = store.query_transformations(name="anna to bert", scope=TWO)
    assert dict(store.get_keyed_chain(edge))[str(edge.gufe_key)]["name"] == "anna to bert"


def test_claimed_task_is_held_by_its_service(store: StateStore, graph: RecordedGraph) -> None:
    imported(store, graph)
    row = task_row(graph, "running", claims=True)
    [history] = store.get_task_history([here(row["key"])])
    assert history is not None
    [attempt] = history.attempts
    [claim] = row["claims"]
    assert (attempt.service, attempt.claimed_at, attempt.outcome) == (
        claim["service"],
        claim["claimed"],
        None,
    )
    hub = ScopedKey.from_str(row["actions"][0]["hub"])
    assert here(row["key"]) not in store.get_taskhub_unclaimed_tasks(hub)
    # Its service goes on where it was: it deregisters, and the task is free again.
    store.deregister_computeservice(claim["service"])
    assert store.get_task_status([here(row["key"])]) == [TaskStatusEnum.waiting]


def test_waiting_tasks_can_be_claimed(store: StateStore, graph: RecordedGraph) -> None:
    imported(store, graph)
    service = next(GraphReader(graph).services()).identifier
    claimed = store.claim_taskhub_tasks(store.get_taskhub(large(store)), service, count=20)
    waiting = {
        here(row["key"])
        for row in graph.of("tasks", FIRST)
        if row["status"] == "waiting"
        and any(one["hub"] == str(store.get_taskhub(large(store))) for one in row["actions"])
    }
    assert {key for key in claimed if key} == waiting
    assert len(waiting) > 3


def test_results_failures_and_tracebacks_are_as_in_the_graph(
    store: StateStore, graph: RecordedGraph
) -> None:
    imported(store, graph)
    for row in graph.of("tasks", FIRST):
        task = here(row["key"])
        found = store.get_task_results(task) + store.get_task_failures(task)
        assert found == [here(key) for key in row["results"]]
    for row in graph.of("results", FIRST):
        ref = store.get_gufe(here(row["key"]))
        assert (ref.location, str(ref.obj_key), ref.ok, ref.creator) == (
            row["location"],
            row["obj_key"],
            row["ok"],
            row["creator"],
        )
    with store.engine.connect() as connection:
        stored = connection.exec_driver_sql(
            "SELECT tracebacks, source_keys, failure_keys FROM tracebacks"
        )
        assert sorted(stored) == sorted(
            (row["tracebacks"], row["sources"], row["failures"])
            for row in graph.of("tracebacks", FIRST)
        )


def test_restart_patterns_strategies_and_registrations_are_as_in_the_graph(
    store: StateStore, graph: RecordedGraph
) -> None:
    imported(store, graph)
    hub = store.get_taskhub(large(store))
    assert store.get_task_restart_patterns([hub]) == {hub: {("Out of memory", 2), ("CUDA.*", 2)}}
    [row] = [
        row
        for row in graph.of("tasks", FIRST)
        if any(one["retries"] for one in row["counters"])
    ]  # fmt: skip
    [history] = store.get_task_history([here(row["key"])])
    assert history is not None
    counts = {(one.pattern, one.retries) for one in history.restarts if one.retries}
    assert counts == {("Out of memory", 1)}
    state = store.get_network_strategy_state(large(store))
    assert state is not None
    assert (state.mode, state.iterations) == ("full", 4)
    [other] = store.query_networks(scope=TWO)
    state = store.get_network_strategy_state(other)
    assert state is not None
    assert (state.status, state.exception) == ("error", ("ValueError", "no"))
    user = store.get_credentialed_entity("user", CredentialedUserIdentity)
    assert (user.scopes, user.email) == (["org-*-*", "org-campaign-one"], "user@example.org")
    assert user.hashed_key == graph.of("identities")[0]["hashed_key"]
    assert store.list_credentialed_entities(CredentialedComputeIdentity) == ["cluster"]
    assert store.get_compute_manager_id("manager") is not None


def test_task_of_another_scope_is_stored_with_its_transformation(
    store: StateStore, graph: RecordedGraph
) -> None:
    report = imported(store, graph)[FIRST]
    [row] = [row for row in graph.of("tasks", FIRST) if row["key"].endswith(str(TWO))]
    assert report.new_keys == {key: str(here(key)) for key in (row["key"], *row["results"])}
    assert store.get_task_status([row["key"], here(row["key"])]) == [None, TaskStatusEnum.waiting]


def test_second_import_changes_nothing(store: StateStore, graph: RecordedGraph) -> None:
    assert changes(imported(store, graph))[FIRST]["tasks"] == (13, 0, 0)
    assert changes(imported(store, graph)) == {}


def test_second_import_stores_what_has_changed(store: StateStore, graph: RecordedGraph) -> None:
    imported(store, graph)
    ended = task_row(graph, "running", claims=True)
    ended.update(status="complete", claims=[], actions=[], counters=[])
    moved = task_row(graph, "waiting", actions=True)
    moved["priority"] = 1
    moved["actions"][0]["weight"] = 0.125
    taken = next(
        row
        for row in graph.of("tasks", FIRST)
        if row["status"] == "waiting" and row["actions"] and row is not moved
    )
    taken.update(
        status="running",
        claims=[{"service": graph.of("services")[1]["identifier"], "claimed": ended["created"]}],
    )
    graph.of("networks", FIRST)[0]["hubs"][0]["weight"] = 0.75
    graph.of("networks", FIRST)[0]["states"] = ["inactive"]
    graph.of("patterns", FIRST)[0]["max_retries"] = 5
    graph.of("identities")[0].update(hashed_key="$2b$12$" + "n" * 53, scopes=["org-*-*", "a-b-*"])
    changed = changes(imported(store, graph))
    assert changed[FIRST]["tasks"] == (0, 3, 0)
    assert changed[FIRST]["claims"] == (1, 0, 1)
    assert changed[FIRST]["hubs"] == (0, 1, 0)
    assert changed[FIRST]["marks"] == (0, 1, 0)
    assert changed[FIRST]["restart patterns"] == (0, 1, 0)
    assert changed["identities"] == {"identities": (0, 1, 0), "scopes of identities": (1, 0, 1)}
    keys = [here(row["key"]) for row in (ended, moved, taken)]
    assert store.get_task_status(keys) == ["complete", "waiting", "running"]
    assert store.get_task_priority([keys[1]]) == [1]
    assert changes(imported(store, graph)) == {}


def test_second_import_removes_what_left_the_graph(store: StateStore, graph: RecordedGraph) -> None:
    imported(store, graph)
    [small] = [row for row in graph.of("networks", FIRST) if row["name"] == "one"]
    graph.of("networks", FIRST).remove(small)
    gone = task_row(graph, "deleted")
    graph.of("tasks", FIRST).remove(gone)
    failure = task_row(graph, "error", results=True)
    [lost] = failure["results"]
    failure["results"] = []
    graph.answers[f"results {FIRST}"] = [
        row for row in graph.of("results", FIRST) if row["key"] != lost
    ]
    graph.answers[f"tracebacks {FIRST}"] = [
        row for row in graph.of("tracebacks", FIRST) if row["result"] != lost
    ]
    for row in graph.of("networks", FIRST):
        row["strategies"] = []
    for row in graph.of("tasks", FIRST):
        row["actions"] = [one for one in row["actions"] if one["hub"] != hub_of(small)]
        row["counters"] = []
    graph.answers[f"patterns {FIRST}"] = []
    graph.answers["services"] = [row for row in graph.of("services") if row["manager"]]
    graph.answers["managers"] = []
    graph.answers["identities"] = []
    changed = changes(imported(store, graph))
    assert changed[FIRST] == {
        "networks": (0, 0, 1),
        "tasks": (0, 0, 1),
        "results": (0, 0, 1),
        "results of tasks": (0, 0, 1),
        "tracebacks": (0, 0, 1),
        "strategies": (0, 0, 1),
        "restart patterns": (0, 0, 2),
        "restart counters": (0, 0, 1),
    }
    assert changed["identities"] == {"identities": (0, 0, 2)}
    assert changed["services"]["managers"] == (0, 0, 2)
    assert changed["services that left the graph"] == {"services": (0, 0, 1)}
    assert store.query_networks(scope=ONE) == [large(store)]
    assert not store.check_existence(here(gone["key"]))
    assert changes(imported(store, graph)) == {}


def hub_of(network: dict[str, Any]) -> str:
    return f"{network['hubs'][0]['key']}-{ONE}"


def test_scope_that_is_not_wanted_is_left_out(store: StateStore, graph: RecordedGraph) -> None:
    assert list(imported(store, graph, TWO)) == ["services", str(TWO)]
    assert store.query_networks(scope=ONE) == []
    assert store.list_credentialed_entities(CredentialedUserIdentity) == []
    imported(store, graph)
    assert len(store.query_networks()) == 3


def test_dry_run_reports_everything_and_stores_nothing(
    store: StateStore, graph: RecordedGraph
) -> None:
    foreseen = imported(store, graph, dry_run=True)
    assert store.query_networks() == []
    assert store.list_credentialed_entities(CredentialedUserIdentity) == []
    done = imported(store, graph)
    assert changes(foreseen) == changes(done)
    assert {part: [*one.findings] for part, one in foreseen.items()} == {
        part: [*one.findings] for part, one in done.items()
    }


def test_scope_that_something_else_has_changed_is_refused_unless_forced(
    store: StateStore, graph: RecordedGraph
) -> None:
    imported(store, graph)
    key = here(task_row(graph, "waiting", actions=True)["key"])
    store.set_task_priority([key], 77)
    with pytest.raises(GraphError, match=f"something else has written to {ONE}"):
        imported(store, graph)
    assert store.get_task_priority([key]) == [77]
    assert changes(imported(store, graph, force=True)) == {FIRST: {"tasks": (0, 1, 0)}}
    assert store.get_task_priority([key]) == [10]
    assert changes(imported(store, graph)) == {}


def test_forced_import_ends_claims_and_attempts_of_others(
    store: StateStore, graph: RecordedGraph
) -> None:
    imported(store, graph)
    service = next(GraphReader(graph).services()).identifier
    store.claim_taskhub_tasks(store.get_taskhub(large(store)), service, count=20)
    imported(store, graph, force=True)
    rows = graph.of("tasks", FIRST)
    keys = [here(row["key"]) for row in rows]
    assert store.get_task_status(keys) == [TaskStatusEnum(row["status"]) for row in rows]


def test_store_that_has_a_scope_already_is_refused(store: StateStore, graph: RecordedGraph) -> None:
    imported(store, graph)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM graph_imports")
    with pytest.raises(GraphError, match="that no import has written"):
        imported(store, graph)


def test_network_that_fails_halfway_is_left_out_and_the_others_are_stored(
    store: StateStore, graph: RecordedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = {here(row["key"]) for row in graph.of("networks", FIRST)}
    stored: list[ScopedKey] = []

    def fail_once(*arguments: Any, **named: Any) -> ScopedKey:
        stored.append(create_network(*arguments, **named))
        if len(stored) == 1:
            raise ValueError("it fails")
        return stored[-1]

    monkeypatch.setattr(objects, "create_network", fail_once)
    report = imported(store, graph)[FIRST]
    assert set(store.query_networks(scope=ONE)) == networks - {stored[0]}
    assert sentences(report, stored[0])[0] == "the network was left out: it fails"


class Interrupted(RecordedGraph):
    """A graph whose connection is lost at a query."""

    at = ""

    def rows(self, query: str, **parameters: Any) -> Iterator[Row]:
        if query == self.at:
            raise GraphError("the connection is lost")
        return super().rows(query, **parameters)


@pytest.mark.parametrize("at", ["objects", "tasks", "tracebacks", "strays", "identities"])
def test_interrupted_import_goes_on(store: StateStore, graph: RecordedGraph, at: str) -> None:
    broken = Interrupted(graph.answers)
    broken.at = at
    with pytest.raises(GraphError, match="the connection is lost"):
        imported(store, broken)
    store.check()
    imported(store, graph)
    assert len(store.query_tasks(scope=ONE)) == 13
    assert changes(imported(store, graph)) == {}


def test_progress_goes_from_step_to_step(store: StateStore, graph: RecordedGraph) -> None:
    told: dict[str, list[tuple[int, int]]] = {}

    def tell(what: str, done: int, total: int) -> None:
        told.setdefault(what, []).append((done, total))

    [*GraphImport(store, GraphReader(graph), "recorded", progress=tell).run()]
    assert told == {
        "scopes": [(0, 2), (1, 2), (2, 2)],
        f"networks of {ONE}": [(2, 2)],
        f"tasks of {ONE}": [(13, 13)],
        f"networks of {TWO}": [(1, 1)],
        f"tasks of {TWO}": [(1, 1)],
    }


def test_statements_do_not_grow_with_the_tasks_of_a_page(
    store: StateStore, graph: RecordedGraph
) -> None:
    sent = []

    def count(*_: object) -> None:
        sent.append(1)

    imported(store, graph)
    event.listen(store.engine, "before_cursor_execute", count)
    imported(store, graph)
    few = len(sent)
    [row] = graph.of("tasks", str(TWO))
    for number in range(500):
        graph.of("tasks", str(TWO)).append(
            {**deepcopy(row), "key": f"Task-{number:032x}-{TWO}", "results": []}
        )
    sent.clear()
    assert changes(imported(store, graph))[str(TWO)]["tasks"] == (500, 0, 0)
    event.remove(store.engine, "before_cursor_execute", count)
    assert few <= len(sent) <= few + 5


def test_role_that_may_not_create_temporary_tables_is_told_what_to_do(
    store: StateStore, graph: RecordedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = text("SELECT false, 'data', 'owner'")
    monkeypatch.setattr(staging, "MAY_STAGE", refused)
    with pytest.raises(GraphError, match="GRANT TEMPORARY ON DATABASE data TO owner"):
        imported(store, graph)


# What the original lets in and the store does not hold.


def test_chain_below_an_invalid_task_is_invalid(store: StateStore, graph: RecordedGraph) -> None:
    parent = next(row for row in graph.of("tasks", FIRST) if row["status"] == "complete")
    parent["status"] = "invalid"
    report = imported(store, graph)[FIRST]
    for row in graph.of("tasks", FIRST):
        if row["parents"] and row["status"] == "waiting":
            key = here(row["key"])
            assert store.get_task_status([key]) == ["invalid"]
            assert sentences(report, key)[0].startswith("it extends an invalid or deleted task")
            break
    else:
        pytest.fail("no task extends another")


def test_ended_task_is_on_no_hub(store: StateStore, graph: RecordedGraph) -> None:
    ended = task_row(graph, "waiting", actions=True)
    ended["status"] = "complete"
    report = imported(store, graph)[FIRST]
    key = here(ended["key"])
    assert store.get_task_actioned_networks(key) == {}
    assert any("it is on no hub now" in one for one in sentences(report, key))


def test_claim_of_a_task_that_is_not_running_is_left_out(
    store: StateStore, graph: RecordedGraph
) -> None:
    row = task_row(graph, "running", claims=True)
    row["status"] = "deleted"
    report = imported(store, graph)[FIRST]
    assert "it is claimed and not running; the claim was left out" in sentences(
        report, here(row["key"])
    )


def test_last_of_two_claims_is_taken(store: StateStore, graph: RecordedGraph) -> None:
    row = task_row(graph, "running", claims=True)
    [claim] = row["claims"]
    other = next(
        one["identifier"]
        for one in graph.of("services")
        if one["identifier"] != claim["service"]
    )  # fmt: skip
    row["claims"].insert(0, {"service": other, "claimed": claim["claimed"].replace(year=2030)})
    report = imported(store, graph)[FIRST]
    [history] = store.get_task_history([here(row["key"])])
    assert history is not None
    assert history.attempts[0].service == other
    assert any(claim["service"] in one for one in sentences(report, here(row["key"])))


def test_task_that_is_on_a_hub_twice_keeps_the_larger_weight(
    store: StateStore, graph: RecordedGraph
) -> None:
    row = task_row(graph, "waiting", actions=True)
    row["actions"].append({**row["actions"][0], "weight": 1.0})
    report = imported(store, graph)[FIRST]
    hub = ScopedKey.from_str(row["actions"][0]["hub"])
    assert store.get_task_weights([here(row["key"])], hub) == [1.0]
    assert any("twice" in one for one in sentences(report, here(row["key"])))


def test_values_out_of_range_are_corrected(store: StateStore, graph: RecordedGraph) -> None:
    row = task_row(graph, "waiting", actions=True)
    row["priority"] = 0
    graph.of("patterns", FIRST)[0]["max_retries"] = -1
    graph.of("networks", FIRST)[0]["hubs"][0]["weight"] = 1.5
    report = imported(store, graph)[FIRST]
    assert store.get_task_priority([here(row["key"])]) == [1]
    assert "it has the priority 0; 1 was taken" in sentences(report, row["key"])
    texts = [one.text for one in report.findings]
    assert any("has the maximum -1; 1 was taken" in one for one in texts)
    assert "it has the weight 1.5; 1.0 was taken" in texts


def test_pattern_that_is_no_expression_is_left_out(store: StateStore, graph: RecordedGraph) -> None:
    graph.of("patterns", FIRST)[0]["pattern"] = "("
    report = imported(store, graph)[FIRST]
    hub = store.get_taskhub(large(store))
    assert hub is not None
    assert len(store.get_task_restart_patterns([hub])[hub]) == 1
    assert any("its restart pattern '(' was left out" in one.text for one in report.findings)


def test_task_of_a_missing_transformation_is_left_out_with_its_results(
    store: StateStore, graph: RecordedGraph
) -> None:
    row = task_row(graph, "error", results=True)
    row["transformation"] = f"Transformation-{'0' * 32}"
    report = imported(store, graph)[FIRST]
    assert not store.check_existence(here(row["key"]))
    assert any("the task was left out" in one for one in sentences(report, here(row["key"])))
    [lost] = row["results"]
    assert sentences(report, here(lost)) == ["its task was left out, and so was the result"]


def test_nodes_without_a_meaning_are_listed(store: StateStore, graph: RecordedGraph) -> None:
    graph.of("strays", FIRST).append({"key": "TaskHub-1-a-b-c", "reason": "it has no network"})
    graph.of("networks", FIRST)[0]["states"] = []
    report = imported(store, graph)[FIRST]
    assert sentences(report, "TaskHub-1-a-b-c") == ["it has no network; it was left out"]
    [network] = [row["key"] for row in graph.of("networks", FIRST) if not row["states"]]
    assert "it has no mark; it is active now" in sentences(report, network)


def test_network_that_cannot_be_stored_is_left_out_and_named(
    store: StateStore, graph: RecordedGraph
) -> None:
    [row] = [row for row in graph.of("networks", FIRST) if row["name"] == "one"]
    graph.answers[f"objects {row['key']}"] = []
    report = imported(store, graph)[FIRST]
    [sentence] = sentences(report, row["key"])
    assert sentence.startswith("the network was left out")
    assert store.query_networks(scope=ONE) == [large(store)]


def test_scope_that_is_none_is_named(store: StateStore, graph: RecordedGraph) -> None:
    graph.of("scopes").append({"org": "a", "campaign": "*", "project": "*"})
    reports = imported(store, graph)
    assert [one.key for one in reports["other scopes"].findings] == ["a-*-*"]
