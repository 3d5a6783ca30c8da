"""Iteration over calls that return pages, and stores in `with` blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from alchemistore import (
    ComputeManagerID,
    ComputeManagerRegistration,
    Records,
    Scope,
    StateStore,
    StatusCounts,
    iterate,
    iteration,
)
from tests.support.campaigns import campaign, move_to_status, register


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of three."""
    monkeypatch.setattr(iteration, "PAGE", 3)


def counting(call: Callable[..., Any], pages: list[int]) -> Callable[..., Any]:
    def counted(**options: Any) -> Any:
        page = call(**options)
        pages.append(len(page))
        return page

    return counted


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 6, 7])
def test_every_task_appears_once(store: StateStore, scope: Scope, number: int) -> None:
    made = campaign(store, scope, tasks=number)
    pages: list[int] = []
    found = list(iterate(counting(store.query_tasks, pages), scope=scope))
    assert found == sorted(made.tasks)
    assert len(pages) == number // 3 + 1
    for limit in range(number + 2):
        pages.clear()
        limited = list(iterate(counting(store.query_tasks, pages), scope=scope, limit=limit))
        assert limited == found[:limit]
        assert sum(pages) == len(limited)


def test_filters_and_start_are_passed_on(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    made = campaign(store, scope, tasks=8)
    campaign(store, other_scope, tasks=5)
    move_to_status(store, made.tasks[::2], "error")
    failed = sorted(made.tasks[::2])
    assert list(iterate(store.query_tasks, scope=scope, status="error")) == failed
    assert list(iterate(store.query_tasks, status="error", after=failed[0])) == failed[1:]


def test_tasks_that_are_changed_meanwhile_do_not_disturb(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=9)
    seen = []
    for task in iterate(store.query_tasks, scope=scope, status="waiting"):
        seen.append(task)
        store.set_task_status([task], "invalid")
    assert seen == sorted(made.tasks)


def test_networks_hubs_services_and_managers_have_pages(store: StateStore, scope: Scope) -> None:
    made = [campaign(store, scope, name=f"network {i}") for i in range(4)]
    names = [f"service-{i}" for i in range(5)]
    register(store, *names)
    for i in range(4):
        name = ComputeManagerID(f"manager{i}-{'1' * 32}")
        store.register_computemanager(ComputeManagerRegistration.from_now(name))
    with store.transaction() as tx:
        assert list(iterate(tx.query_networks)) == sorted(one.network for one in made)
        assert list(iterate(tx.query_taskhubs)) == sorted(one.hub for one in made)
        systems = list(iterate(tx.query_chemicalsystems, scope=scope))
        assert systems == tx.query_chemicalsystems(scope=scope)
        services = list(iterate(tx.query_computeservices))
        managers = list(iterate(tx.query_computemanagers))
    assert [one.registration.identifier for one in services] == names
    assert [one.registration.name for one in managers] == [f"manager{i}" for i in range(4)]


def test_call_without_pages_is_refused(store: StateStore, scope: Scope) -> None:
    campaign(store, scope, tasks=1)
    with pytest.raises(TypeError, match="limit"):
        next(iterate(store.get_network_state, "x"))
    with pytest.raises(TypeError, match="only lists have pages"):
        next(iterate(store.query_networks, return_gufe=True))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nonsense"):
        next(iterate(store.query_tasks, status="nonsense"))


def test_answers_of_calls_are_records_and_counts(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=2)
    register(store, "service")
    store.claim_taskhub_tasks(made.hub, "service")
    store.set_quota(scope, actioned_per_hub=7)
    for counts in (
        store.get_scope_status(scope),
        store.get_scope_status(scope, None),
        store.get_network_status(made.network),
        *store.get_network_status([made.network]),
        store.get_transformation_status(made.transformations[0]),
    ):
        assert type(counts) is StatusCounts
        assert sum(counts.values()) in (1, 2)
    for answer in (
        store.get_task_details(made.tasks),
        store.get_task_history(made.tasks),
        store.get_network_details([made.network]),
        store.query_computeservices(),
        store.query_computemanagers(),
        store.query_quotas(),
        store.get_lost_claims(),
    ):
        assert type(answer) is Records
        assert len(answer.records()) == len(answer)
        assert answer._repr_html_().startswith("<")


def test_store_closes_its_connections_at_the_end_of_a_block(pooled_database: str) -> None:
    closed = []
    with StateStore(pooled_database) as store:
        event.listen(store.engine.pool, "close", lambda *_: closed.append(True))
        assert store.query_tasks() == []
        assert closed == []
    assert closed == [True]
    # It can be used again.
    assert store.query_tasks() == []
    with pytest.raises(RuntimeError, match="mine"), store:
        raise RuntimeError("mine")
    assert closed == [True, True]
