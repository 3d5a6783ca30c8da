"""Comparisons of everything visible in a store with the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from alchemistore import Scope, ScopedKey, StateStore
from tests.support.databases import rolled_back
from tests.support.model import Model, ModelHub
from tests.support.results import reference_key

# A compute service whose claims are rolled back.
OBSERVER = "observer"


def tasks_agree(tx: StateStore, model: Model) -> None:
    """Compare the state and the history of each task."""
    tasks, known = list(model.tasks), list(model.tasks.values())
    details = [one for one in tx.get_task_details(tasks) if one is not None]
    oks = [Counter(result.ok for result in what.results) for what in known]
    assert [
        (one.status.value, one.service, one.num_attempts, one.num_results, one.num_failures)
        for one in details
    ] == [
        (what.status, what.service, len(what.attempts), ok[True], ok[False])
        for what, ok in zip(known, oks, strict=True)
    ]
    for task, what, told in zip(tasks, known, tx.get_task_history(tasks), strict=True):
        assert told is not None
        assert [change.status.value for change in told.changes] == what.statuses
        assert [(one.service, one.outcome, one.result) for one in told.attempts] == [
            (one.service, one.outcome, one.result and reference_key(one.result, task))
            for one in what.attempts
        ]


def hub_agrees(tx: StateStore, model: Model, hub: ScopedKey, network: ScopedKey) -> None:
    """Compare the tasks on a hub."""
    actions = model.actions(network)
    assert tx.get_taskhub_actioned_tasks(hub) == actions
    shown = tx.get_taskhub_tasks(hub, return_gufe=True)
    expected = {task: model.tasks[task] for task in sorted(actions)}
    assert {
        task: (one.status.value, one.priority, one.extends, one.claim)
        for task, one in shown.items()
    } == {
        task: (what.status, what.priority, what.parent and str(what.parent), what.service)
        for task, what in expected.items()
    }
    assert tx.get_taskhub_unclaimed_tasks(hub) == [
        task for task, what in expected.items() if what.service is None
    ]


def claims_agree(
    tx: StateStore,
    model: Model,
    hub: ScopedKey,
    network: ScopedKey,
    count: int,
    protocols: Iterable[str] | None,
) -> None:
    """Compare what can be claimed from one hub and from all hubs."""
    with rolled_back(tx) as inner:
        claimed = inner.claim_taskhub_tasks(hub, OBSERVER, count, protocols)
        assert model.can_give(claimed, [network], count, protocols)
    with rolled_back(tx) as inner:
        claimed = inner.claim_tasks([Scope()], OBSERVER, count, protocols)
        assert model.can_give_anywhere(claimed, [Scope()], [], count, protocols)


def lists_agree(tx: StateStore, model: Model) -> None:
    """Compare all tasks, priorities, status counts, claims, and the weights of hubs."""
    tasks = model.tasks
    in_order = sorted(tasks, key=lambda task: (task.scope, task.gufe_key))
    assert tx.query_tasks() == in_order
    assert tx.get_task_priority(in_order) == [tasks[task].priority for task in in_order]
    states = {network: model.states.get(network, "active") for network in model.content}
    assert tx.get_network_state(list(states)) == list(states.values())
    for found in (["active"], ["inactive", "invalid"]):
        assert set(tx.query_networks(state="|".join(found))) == {
            network for network, state in states.items() if state in found
        }
    for scope in {network.scope for network in model.content}:
        here = {task: what.status for task, what in tasks.items() if task.scope == scope}
        assert tx.get_scope_status(scope, None) == Counter(here.values())
        assert tx.get_scope_status(scope) == Counter(
            status for task, status in here.items() if model.in_state(task, ["active"])
        )
        assert tx.get_scope_status(scope, "in.*") == Counter(
            status for task, status in here.items() if model.in_state(task, ["inactive", "invalid"])
        )
    for service in {one.service for what in tasks.values() for one in what.attempts}:
        assert tx.get_service_tasks(service) == [
            task for task in in_order if tasks[task].service == service
        ]
    hubs = [model.hubs.get(network) for network in model.content]
    assert tx.get_taskhub_weight(list(model.content)) == [
        hub.weight if hub else None for hub in hubs
    ]
    assert [found and found.weight for found in tx.get_taskhubs(list(model.content), True)] == [
        hub.weight if hub else None for hub in hubs
    ]


def restarts_agree(tx: StateStore, model: Model, hub: ScopedKey, network: ScopedKey) -> None:
    """Assert that patterns and retries of a hub are those of the model."""
    known = model.hubs.get(network, ModelHub())
    assert tx.get_task_restart_patterns([hub]) == {hub: {*known.patterns.items()}}
    tasks = [*known.actions]
    found = {
        (details.task, one.pattern): (one.retries, one.max_retries)
        for details in tx.get_task_details(tasks)
        if details is not None
        for one in details.restarts
        if one.taskhub == hub
    }
    assert found == {
        (task, pattern): (known.retries.get((task, pattern), 0), maximum)
        for task in tasks
        for pattern, maximum in known.patterns.items()
    }


def results_agree(tx: StateStore, model: Model) -> None:
    """Compare the results of each task and of each transformation."""
    for task, what in model.tasks.items():
        good, bad = (
            sorted(reference_key(one, task) for one in what.results if one.ok is ok)
            for ok in (True, False)
        )
        assert (tx.get_task_results(task), tx.get_task_failures(task)) == (good, bad)
    for edge in model.protocols:
        found = {
            one
            for what in model.tasks.values()
            if what.transformation == edge
            for one in what.results
        }
        good, bad = (
            sorted(reference_key(one, edge) for one in found if one.ok is ok)
            for ok in (True, False)
        )
        assert (tx.get_transformation_results(edge), tx.get_transformation_failures(edge)) == (
            good,
            bad,
        )
