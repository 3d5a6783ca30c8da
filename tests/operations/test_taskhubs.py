"""Task hubs: one for each network, with a weight, and the tasks on them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from alchemistore import Scope, ScopedKey, StateStore, TaskHub
from tests.support.campaigns import ZERO, campaign, chain, register, star

BAD_WEIGHTS: list[Any] = [
    9e-7,
    1e-300,
    -0.1,
    1.1,
    7,
    -math.inf,
    math.inf,
    math.nan,
    True,
    False,
    None,
    "0.5",
    "much",
    [0.5],
    1j,
]


def networks(store: StateStore, *scopes: Scope) -> list[ScopedKey]:
    """Two networks in each scope, without hubs."""
    return [store.create_network(star(1, name), at) for at in scopes for name in ("one", "two")]


# Creating and finding


def test_create_taskhub(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    hub = store.create_taskhub(network)
    assert (hub.qualname, hub.scope) == ("TaskHub", scope)
    assert hub.gufe_key == TaskHub(network=str(network)).key
    assert (
        store.get_gufe(hub)
        == store.get_taskhub(network, return_gufe=True)
        == TaskHub(network=str(network), weight=0.5)
    )
    assert store.get_taskhub(network) == store.get_taskhub(str(network)) == hub


def test_create_taskhub_again_returns_the_same_hub_and_keeps_weight_and_tasks(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=2)
    store.set_taskhub_weight(made.network, 0.9)
    assert store.create_taskhub(made.network) == store.create_taskhub(str(made.network)) == made.hub
    assert store.query_taskhubs() == [made.hub]
    assert store.get_taskhub_weight(made.network) == 0.9
    assert len(store.get_taskhub_tasks(made.hub)) == 2


def test_create_taskhub_weight(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    store.create_taskhub(network)
    assert store.get_taskhub_weight(network) == store.get_taskhub_weight(str(network)) == 0.5


def test_get_taskhub_without_a_hub(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    for as_record in (False, True):
        with pytest.raises(KeyError, match="No such object in database"):
            store.get_taskhub(network, return_gufe=as_record)
    for call in (store.delete_taskhub, store.get_taskhub_weight):
        with pytest.raises(KeyError):
            call(network)
    with pytest.raises(KeyError):
        store.set_taskhub_weight(network, 0.5)


def test_query_taskhubs(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    for key in networks(store, scope, other_scope, Scope("b", "a", "a")):
        store.create_taskhub(key)
    hubs = store.query_taskhubs()
    assert (
        len(hubs)
        == len(store.query_taskhubs(scope=None))
        == len(store.query_taskhubs(Scope()))
        == 6
    )
    order = [(k.org, k.campaign, k.project, str(k.gufe_key)) for k in hubs]
    assert all(a < b for a, b in pairwise(order))
    found: dict[Scope | str, int] = {
        scope: 2,
        str(scope): 2,
        Scope("org"): 4,
        Scope("b", "a"): 2,
        Scope("c"): 0,
    }
    for at, n in {**found, Scope("org", "c"): 0}.items():
        assert len(store.query_taskhubs(scope=at)) == n
    records = store.query_taskhubs(scope=scope, return_gufe=True)
    assert list(records) == store.query_taskhubs(scope=scope)
    assert all(key.gufe_key == record.key for key, record in records.items())
    assert store.query_taskhubs(Scope("c"), return_gufe=True) == {}
    walked: list[ScopedKey] = []
    while page := store.query_taskhubs(limit=4, after=walked[-1] if walked else None):
        walked += page
    assert walked == hubs


# Weights


def test_set_taskhub_weight(store: StateStore, scope: Scope) -> None:
    one, two = (campaign(store, scope, name=name).network for name in ("one", "two"))
    for weight in (0.7, 1.0, 0.0, 0, 1, 1e-6, 0.1 + 0.2):
        assert store.set_taskhub_weight(one, weight) is None
        assert store.get_taskhub_weight(one) == weight
    assert store.get_taskhub_weight(two) == 0.5
    store.set_taskhub_weight(str(two), 0.25)
    assert store.get_taskhub(two, return_gufe=True).weight == 0.25


def test_taskhub_weight_out_of_bounds_is_refused(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    accepted = []
    for weight in BAD_WEIGHTS:
        for network in (made.network, [made.network], []):
            try:
                store.set_taskhub_weight(network, weight)
            except (ValueError, TypeError) as error:
                assert str(error)  # noqa: PT017
            else:
                accepted.append((weight, network))
    assert accepted == []
    assert store.get_taskhub_weight(made.network) == 0.5


def test_weights_of_many_taskhubs(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    one, two = networks(store, scope)
    bare = store.create_network(star(1, "bare"), scope)
    hub = store.create_taskhub(one)
    store.create_taskhub(two)
    nothing: list[Any] = [
        bare,
        f"{one.gufe_key}-{other_scope}",
        f"AlchemicalNetwork-{ZERO}-{scope}",
        hub,
        None,
        "nonsense",
    ]
    assert store.set_taskhub_weight([two, *nothing, str(one), two], 0.75) == [
        two,
        *[None] * 6,
        one,
        two,
    ]
    assert store.get_taskhub_weight([two, *nothing, str(one), two]) == [
        0.75,
        *[None] * 6,
        0.75,
        0.75,
    ]
    assert store.set_taskhub_weight(iter([one]), 0.25) == [one]
    assert store.get_taskhub_weight({one}) == [0.25]
    assert store.set_taskhub_weight([], 0.5) == store.get_taskhub_weight([]) == []
    assert store.get_taskhub_weight([one, two]) == [0.25, 0.75]


# Deleting


def test_delete_taskhub_keeps_network_tasks_and_claims(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=3)
    register(store, "service")
    (claimed,) = store.claim_taskhub_tasks(made.hub, "service")
    assert claimed is not None
    assert store.delete_taskhub(made.network) == made.hub
    assert not store.check_existence(made.hub)
    assert store.query_taskhubs() == store.get_taskhub_tasks(made.hub) == []
    assert store.get_taskhub_actioned_tasks(made.hub) == {}
    assert store.claim_taskhub_tasks(made.hub, "service", count=2) == [None, None]
    assert store.query_networks() == [made.network]
    assert store.get_network_tasks(made.network) == sorted(made.tasks)
    assert store.get_network_status(made.network) == {"waiting": 2, "running": 1}
    assert store.get_gufe(claimed).claim == "service"
    assert store.get_task_actioned_networks(claimed) == {}
    for call in (store.delete_taskhub, store.get_taskhub):
        with pytest.raises(KeyError, match="No such object in database"):
            call(made.network)
    assert store.create_taskhub(made.network) == made.hub
    assert store.get_taskhub_tasks(made.hub) == []
    assert store.action_tasks(made.tasks, made.hub) == made.tasks


def test_delete_taskhub_leaves_other_hubs_alone(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=3)
    other = store.create_network(star(3, "other"), scope)
    hub = store.create_taskhub(other)
    assert store.action_tasks(made.tasks, hub) == made.tasks
    store.delete_taskhub(str(made.network))
    assert store.query_taskhubs() == [hub]
    assert store.get_task_actioned_networks(made.tasks[0]) == {other: 0.5}
    register(store, "service")
    assert set(store.claim_taskhub_tasks(hub, "service", count=3)) == set(made.tasks)


# Tasks on a hub


def test_get_taskhub_tasks_returns_tasks_of_every_status(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=5)
    store.set_task_running(made.tasks[:2])
    store.set_task_error(made.tasks[:1])
    assert (
        store.get_taskhub_tasks(made.hub)
        == store.get_taskhub_tasks(str(made.hub))
        == sorted(made.tasks)
    )
    records = store.get_taskhub_tasks(made.hub, return_gufe=True)
    assert list(records) == sorted(made.tasks)
    assert all(record.key == key.gufe_key for key, record in records.items())
    assert [records[key].status.value for key in made.tasks] == [
        "error",
        "running",
        "waiting",
        "waiting",
        "waiting",
    ]


def test_get_unclaimed_tasks_returns_tasks_of_every_status(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=4)
    register(store, "service")
    claimed = store.claim_taskhub_tasks(made.hub, "service", count=2)
    left = sorted(set(made.tasks) - set(claimed))
    assert store.get_taskhub_unclaimed_tasks(made.hub) == left
    # Running without a claim, because somebody said so, is not claimed; neither is a task in error.
    store.set_task_running(left)
    store.set_task_error(left[:1])
    store.set_task_error(claimed[:1])
    unclaimed = sorted([*left, *(task for task in claimed[:1] if task)])
    assert store.get_taskhub_unclaimed_tasks(str(made.hub)) == unclaimed
    records = store.get_taskhub_unclaimed_tasks(made.hub, return_gufe=True)
    assert list(records) == unclaimed
    assert all(
        record.key == key.gufe_key and record.claim is None for key, record in records.items()
    )
    store.deregister_computeservice("service")
    assert store.get_taskhub_unclaimed_tasks(made.hub) == sorted(made.tasks)


def test_get_taskhub_actioned_tasks_of_one_and_of_many(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=3)
    line = chain(store, made.transformations[0], 2)
    store.action_tasks(line, made.hub)
    store.set_task_weights({line[0]: 0.25, made.tasks[0]: 0.0}, made.hub)
    bare = store.create_taskhub(store.create_network(star(1, "bare"), scope))
    weights: dict[ScopedKey, float] = {
        **dict.fromkeys([*made.tasks, *line], 0.5),
        line[0]: 0.25,
        made.tasks[0]: 0.0,
    }
    assert (
        store.get_taskhub_actioned_tasks(made.hub)
        == store.get_taskhub_actioned_tasks(str(made.hub))
        == weights
    )
    assert list(store.get_taskhub_actioned_tasks(made.hub)) == sorted(weights)
    assert store.get_taskhub_actioned_tasks(bare) == {}
    asked: list[Any] = [
        bare,
        made.hub,
        None,
        f"TaskHub-{ZERO}-{scope}",
        str(made.hub),
    ]
    answers = store.get_taskhub_actioned_tasks(asked)
    assert [answer or None for answer in answers] == [
        None,
        weights,
        None,
        None,
        weights,
    ]
    assert store.get_taskhub_actioned_tasks([]) == []
