"""Claims from one hub: order, eligibility and protocols."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import uuid4

import gufe
import pytest

from alchemistore import Scope, ScopedKey, StateStore
from tests.support.campaigns import Campaign, campaign, chain, created, register, star
from tests.support.gufe_classes import Effort, PushProtocol, network, system
from tests.support.history import attempts, statuses


class RareProtocol(PushProtocol):
    """A second protocol."""


class UnusedProtocol(PushProtocol):
    """A third one."""


def drain(store: StateStore, hub: ScopedKey, **options: Any) -> list[ScopedKey]:
    """Claim everything that can be claimed now."""
    claimed = store.claim_taskhub_tasks(hub, "a", count=500, **options)
    got = [task for task in claimed if task is not None]
    assert claimed == got + [None] * (500 - len(got))
    return got


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Six tasks on a hub, and the service `a`."""
    register(store, "a")
    return campaign(store, scope, tasks=6)


@pytest.fixture
def empty(store: StateStore, scope: Scope) -> Campaign:
    """A hub without tasks, and the service `a`."""
    register(store, "a")
    return campaign(store, scope)


def test_claim_sets_running_and_opens_an_attempt(store: StateStore, made: Campaign) -> None:
    before = datetime.now(UTC)
    claimed = store.claim_taskhub_tasks(made.hub, "a", count=4)
    assert len(set(claimed)) == 4
    assert set(claimed) <= set(made.tasks)
    for task in made.tasks:
        record = store.get_gufe(task)
        if task in claimed:
            [attempt] = attempts(store, task)
            assert (attempt.attempt, attempt.service, attempt.hostname) == (1, "a", "host")
            assert (attempt.ended_at, attempt.outcome, attempt.result) == (None, None, None)
            assert before <= attempt.claimed_at <= datetime.now(UTC)
            assert (record.status.value, record.claim) == ("running", "a")
        else:
            assert attempts(store, task) == ()
            assert (record.status.value, record.claim) == ("waiting", None)
    left = [task for task in made.tasks if task not in claimed]
    assert store.get_taskhub_unclaimed_tasks(made.hub) == left
    assert list(store.get_taskhub_unclaimed_tasks(made.hub, return_gufe=True)) == left
    assert store.get_taskhub_tasks(made.hub) == made.tasks
    assert set(drain(store, made.hub)) == set(left)
    assert store.get_taskhub_unclaimed_tasks(made.hub) == []


def test_claim_returns_as_many_entries_as_requested(store: StateStore, made: Campaign) -> None:
    assert store.claim_taskhub_tasks(made.hub, "a", count=0) == []
    assert store.claim_taskhub_tasks(made.hub, "a", count=-1) == []
    assert store.get_taskhub_unclaimed_tasks(made.hub) == made.tasks
    first = store.claim_taskhub_tasks(str(made.hub), "a")
    rest = store.claim_taskhub_tasks(made.hub, "a", count=9)
    assert len(first) == 1
    assert rest[5:] == [None] * 4
    assert sorted(task for task in first + rest if task) == made.tasks
    assert store.claim_taskhub_tasks(made.hub, "a", count=3) == [None] * 3


def test_claim_from_a_missing_hub_returns_none(
    store: StateStore, made: Campaign, other_scope: Scope
) -> None:
    missing = f"TaskHub-{uuid4().hex}-{made.hub.scope}"
    for hub in (missing, f"{made.hub.gufe_key}-{other_scope}"):
        assert store.claim_taskhub_tasks(hub, "a", count=2) == [None, None]
    assert store.get_taskhub_unclaimed_tasks(made.hub) == made.tasks
    store.delete_taskhub(made.network)
    assert store.claim_taskhub_tasks(made.hub, "a", count=2) == [None, None]
    assert statuses(store, made.tasks) == ["waiting"] * 6


@pytest.mark.parametrize("past", ["never registered", "deregistered", "expired"])
def test_claim_by_an_unregistered_service_is_a_key_error(
    store: StateStore, made: Campaign, past: str
) -> None:
    register(store, "b")
    if past == "deregistered":
        store.deregister_computeservice("b")
    elif past == "expired":
        assert store.expire_registrations(datetime.max) == ["a", "b"]
    service = "nobody" if past == "never registered" else "b"
    with pytest.raises(KeyError, match=service):
        store.claim_taskhub_tasks(made.hub, service, count=3)
    with pytest.raises(KeyError, match=service):
        store.claim_taskhub_tasks(made.hub, service, protocols=["PushProtocol"])
    assert statuses(store, made.tasks) == ["waiting"] * 6
    assert [attempts(store, task) for task in made.tasks] == [()] * 6
    assert store.get_taskhub_unclaimed_tasks(made.hub) == made.tasks


def test_priorities_come_strictly_in_order_within_one_call(
    store: StateStore, empty: Campaign
) -> None:
    tasks = store.create_tasks(empty.transformations * 20)
    store.action_tasks(tasks, empty.hub)
    urgency = random.Random(1)
    for task in tasks:
        store.set_task_priority([task], urgency.choice([1, 2, 3, 10, 11, 2**63 - 1]))
    store.set_task_weights(dict.fromkeys(tasks[::2], 0.01), empty.hub)
    ahead = store.claim_taskhub_tasks(empty.hub, "a", count=50)
    assert len(set(ahead)) == 50
    assert (
        store.get_task_priority(ahead) == sorted(filter(None, store.get_task_priority(tasks)))[:50]
    )


def test_most_urgent_task_is_claimed_first_even_if_added_later(
    store: StateStore, made: Campaign
) -> None:
    *_, urgent, lazy = made.tasks
    store.set_task_priority([urgent], 1)
    store.set_task_priority([lazy], 11)
    assert store.claim_taskhub_tasks(made.hub, "a") == [urgent]
    assert lazy not in store.claim_taskhub_tasks(made.hub, "a", count=2)
    late = store.create_tasks(made.transformations[:1])
    store.set_task_priority(late, 5)
    store.action_tasks(late, made.hub)
    assert store.claim_taskhub_tasks(made.hub, "a") == late
    store.set_task_priority([lazy], 9)
    assert store.claim_taskhub_tasks(made.hub, "a") == [lazy]
    assert len(drain(store, made.hub)) == 2


def test_task_of_weight_zero_is_claimed_only_after_its_weight_is_raised(
    store: StateStore, made: Campaign
) -> None:
    off, on = made.tasks[:3], made.tasks[3:]
    store.set_task_weights(off, made.hub, 0)
    assert set(drain(store, made.hub)) == set(on)
    assert drain(store, made.hub) == []
    store.set_task_weights(off[:2], made.hub, 0.1)
    assert set(drain(store, made.hub)) == set(off[:2])
    store.set_task_waiting(on)
    store.set_task_weights(on, made.hub, 0)
    assert drain(store, made.hub) == []


def test_task_on_two_hubs_is_claimed_once(store: StateStore, made: Campaign, scope: Scope) -> None:
    other = campaign(store, scope, name="other").hub
    store.action_tasks(made.tasks, other)
    store.set_task_weights(made.tasks[:2], made.hub, 0)
    here = store.claim_taskhub_tasks(made.hub, "a", count=2)
    there = store.claim_taskhub_tasks(other, "a", count=9)
    assert sorted(task for task in here + there if task) == made.tasks
    assert drain(store, made.hub) == drain(store, other) == []
    assert (
        store.get_taskhub_unclaimed_tasks(made.hub)
        == store.get_taskhub_unclaimed_tasks(other)
        == []
    )
    assert store.get_taskhub_tasks(other) == made.tasks


def test_cancelled_task_keeps_running_or_is_no_longer_claimed(
    store: StateStore, made: Campaign
) -> None:
    [running] = store.claim_taskhub_tasks(made.hub, "a")
    assert running is not None
    waiting = next(task for task in made.tasks if task != running)
    assert store.cancel_tasks([running, waiting], made.hub) == [running, waiting]
    assert statuses(store, [running, waiting]) == ["running", "waiting"]
    assert len(drain(store, made.hub)) == 4
    assert store.set_task_complete([running]) == [running]
    assert [attempt.outcome for attempt in attempts(store, running)] == ["complete"]
    assert store.action_tasks([waiting], made.hub) == [waiting]
    assert drain(store, made.hub) == [waiting]


@pytest.mark.parametrize(
    "path",
    [
        [],
        ["running"],
        ["running", "error"],
        ["running", "error", "waiting"],
        ["running", "waiting"],
    ],
)
def test_child_of_an_incomplete_parent_is_not_claimed(
    store: StateStore, empty: Campaign, path: list[str]
) -> None:
    parent, child = chain(store, empty.transformations[0], 2)
    for status in path:
        store.set_task_status([parent], status)
    store.set_task_priority([child], 1)
    assert store.action_tasks([child], empty.hub) == [child]
    assert drain(store, empty.hub) == []
    alone = store.create_tasks(empty.transformations[1:2])
    store.action_tasks(alone, empty.hub)
    assert drain(store, empty.hub) == alone
    if statuses(store, [parent]) == ["error"]:
        store.set_task_waiting([parent])
    store.set_task_running([parent])
    assert drain(store, empty.hub) == []
    store.set_task_complete([parent])
    assert drain(store, empty.hub) == [child]


@pytest.mark.parametrize("ending", ["invalid", "deleted"])
def test_deletion_of_a_complete_parent_deletes_its_child(
    store: StateStore, empty: Campaign, ending: str
) -> None:
    parent, child = chain(store, empty.transformations[0], 2)
    store.set_task_running([parent])
    store.set_task_complete([parent])
    store.action_tasks([child], empty.hub)
    store.set_task_status([parent], ending)
    assert drain(store, empty.hub) == []
    assert statuses(store, [child]) == [ending]


def test_child_created_and_actioned_after_its_parent_ended_is_claimable(
    store: StateStore, empty: Campaign
) -> None:
    [parent] = store.create_tasks(empty.transformations[:1])
    store.set_task_running([parent])
    store.set_task_complete([parent])
    child = store.create_task(empty.transformations[0], extends=parent)
    store.action_tasks([child], empty.hub)
    assert drain(store, empty.hub) == [child]


def test_child_depends_on_its_direct_parent_only(store: StateStore, empty: Campaign) -> None:
    grandparent, parent, child = chain(store, empty.transformations[0], 3)
    store.set_task_running([parent])
    store.set_task_complete([parent])
    store.action_tasks([grandparent, child], empty.hub)
    assert set(drain(store, empty.hub)) == {grandparent, child}


def test_chain_is_claimed_link_by_link(store: StateStore, empty: Campaign, scope: Scope) -> None:
    other = campaign(store, scope, name="other").hub
    links = chain(store, empty.transformations[0], 10)
    for hub in (empty.hub, other):
        store.action_tasks(reversed(links), hub)
    for i, link in enumerate(links):
        assert store.claim_taskhub_tasks((empty.hub, other)[i % 2], "a", count=3) == [
            link,
            None,
            None,
        ]
        assert drain(store, empty.hub) == drain(store, other) == []
        assert store.set_task_complete([link]) == [link]
    assert statuses(store, links) == ["complete"] * 10
    for earlier, later in pairwise(attempts(store, link)[0] for link in links):
        assert earlier.ended_at is not None
        assert earlier.ended_at <= later.claimed_at


def test_completing_a_parent_frees_exactly_its_children(store: StateStore, empty: Campaign) -> None:
    nodes = [store.create_task(empty.transformations[0])]
    for i in range(12):
        nodes.append(store.create_task(empty.transformations[0], extends=nodes[i // 3]))
    store.action_tasks(nodes, empty.hub)
    children = {nodes[i]: set(nodes[3 * i + 1 : 3 * i + 4]) for i in range(4)}
    assert drain(store, empty.hub) == nodes[:1]
    assert store.set_task_complete(nodes[:1]) == nodes[:1]
    assert set(drain(store, empty.hub)) == children[nodes[0]]
    for node in nodes[1:4]:
        assert store.set_task_complete([node]) == [node]
        assert set(drain(store, empty.hub)) == children[node]


def test_several_parents_completed_at_once_free_all_children(
    store: StateStore, empty: Campaign
) -> None:
    parents = store.create_tasks(empty.transformations * 2)
    children = store.create_tasks(empty.transformations * 2, extends=parents)
    cancelled, off, *rest = children
    store.action_tasks(parents + children, empty.hub)
    store.cancel_tasks([cancelled], empty.hub)
    store.set_task_weights([off], empty.hub, 0)
    assert set(drain(store, empty.hub)) == set(parents)
    store.set_task_complete(parents)
    assert set(drain(store, empty.hub)) == set(rest)


def test_chains_and_single_tasks_are_claimed_side_by_side(
    store: StateStore, empty: Campaign
) -> None:
    first, second = chain(store, empty.transformations[0], 2)
    single = store.create_tasks(empty.transformations[1:])
    store.action_tasks([second, first, *single], empty.hub)
    store.set_task_priority([second], 1)
    assert set(drain(store, empty.hub)) == {first, *single}
    store.set_task_complete([first])
    assert drain(store, empty.hub) == [second]


def test_nontransformation_is_claimed_like_any_other(store: StateStore, scope: Scope) -> None:
    register(store, "a")
    key = store.create_network(network(), scope)
    hub = store.create_taskhub(key)
    tasks = store.create_tasks(store.get_network_transformations(key))
    assert {task.qualname for task in store.get_network_transformations(key)} == {
        "Transformation",
        "NonTransformation",
    }
    store.action_tasks(tasks, hub)
    assert set(drain(store, hub)) == set(tasks)


@pytest.fixture
def two_protocols(
    store: StateStore, scope: Scope
) -> tuple[ScopedKey, list[ScopedKey], list[ScopedKey]]:
    """A hub, its 300 tasks of the usual protocol, and its three of the rare one."""
    register(store, "a")
    edge = gufe.Transformation(
        system("middle"), system("rare"), RareProtocol(Effort()), name="rare"
    )
    key = store.create_network(gufe.AlchemicalNetwork([*star(3).edges, edge], name="two"), scope)
    hub = store.create_taskhub(key)
    [rare] = store.query_transformations(name="rare")
    usual = [
        transformation
        for transformation in store.get_network_transformations(key)
        if transformation != rare
    ]
    tasks = created(store.create_tasks(usual * 100))
    rares = created(store.create_tasks([rare] * 3))
    store.action_tasks(tasks + rares, hub)
    return hub, tasks, rares


def test_claim_returns_requested_protocols_only(
    store: StateStore, two_protocols: tuple[ScopedKey, list[ScopedKey], list[ScopedKey]]
) -> None:
    hub, usual, rare = two_protocols
    assert drain(store, hub, protocols=["UnusedProtocol"]) == []
    assert store.claim_taskhub_tasks(hub, "a", 0, ["RareProtocol"]) == []
    [first] = store.claim_taskhub_tasks(hub, "a", protocols=["RareProtocol"])
    assert first in rare
    assert set(drain(store, hub, protocols=iter(["RareProtocol", "UnusedProtocol"]))) == {*rare} - {
        first
    }
    assert drain(store, hub, protocols=["RareProtocol"]) == []
    some = store.claim_taskhub_tasks(hub, "a", 5, protocols={"PushProtocol"})
    assert len({*some} & {*usual}) == 5
    store.set_task_waiting([*rare, *some])
    assert set(drain(store, hub, protocols=["PushProtocol", "PushProtocol"])) == set(usual)
    assert set(drain(store, hub)) == set(rare)


def test_priorities_come_in_order_across_protocols(
    store: StateStore, two_protocols: tuple[ScopedKey, list[ScopedKey], list[ScopedKey]]
) -> None:
    hub, usual, rare = two_protocols
    store.set_task_priority(usual[:5], 2)
    store.set_task_priority(rare[:1], 1)
    store.set_task_priority(rare[1:], 3)
    for protocols in (["PushProtocol", "RareProtocol"], None):
        claimed = store.claim_taskhub_tasks(hub, "a", 8, protocols=protocols)
        assert claimed[:1] == rare[:1]
        assert set(claimed[1:6]) == set(usual[:5])
        assert set(claimed[6:]) == set(rare[1:])
        store.set_task_waiting(claimed)
    assert store.claim_taskhub_tasks(hub, "a", 2, protocols=["RareProtocol"])[0] == rare[0]


@pytest.fixture
def seeded(store: StateStore, pooled_database: str) -> Iterator[tuple[StateStore, StateStore]]:
    """Two stores on one database whose random numbers are the same."""
    stores = (
        StateStore(pooled_database, rng=random.Random(7)),
        StateStore(pooled_database, rng=random.Random(7)),
    )
    yield stores
    for one in stores:
        one.close()


def test_seeded_generator_makes_draws_repeatable(
    store: StateStore, seeded: tuple[StateStore, StateStore], empty: Campaign
) -> None:
    tasks = store.create_tasks(empty.transformations * 10)
    orders = []
    for one in seeded:
        one.action_tasks(tasks, empty.hub)
        first = drain(one, empty.hub)
        one.set_task_waiting(tasks)
        orders.append((first, drain(one, empty.hub)))
        one.set_task_waiting(tasks)
        one.cancel_tasks(tasks, empty.hub)
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]


def test_maintain_queue_changes_no_claimable_task(store: StateStore, made: Campaign) -> None:
    for _ in range(6):
        [task] = store.claim_taskhub_tasks(made.hub, "a")
        assert task is not None
        store.maintain_queue()
        store.set_task_waiting([task])
        store.maintain_queue()
    assert set(drain(store, made.hub)) == set(made.tasks)
    store.maintain_queue()
    store.set_task_waiting(made.tasks)
    assert set(drain(store, made.hub)) == set(made.tasks)
