"""Task hubs: one for each network, with a weight, and the tasks on them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy
import pytest

from alchemistore import Scope, ScopedKey, StateStore, TaskHub
from tests.support.campaigns import ZERO, campaign, chain, register, star

NO_NETWORK = "^`network` ScopedKey does not correspond to an `AlchemicalNetwork`"
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
    [1.5],
    [None],
    ["0.5"],
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
        assert store.get_taskhub(network, return_gufe=as_record) is None
        assert store.get_taskhub(f"AlchemicalNetwork-{ZERO}-{scope}", as_record) is None
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
    assert store.get_taskhub(two, return_gufe=True) == TaskHub(network=str(two), weight=0.25)


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
    store.create_taskhub(one)
    store.create_taskhub(two)
    nothing: list[Any] = [
        bare,
        f"{one.gufe_key}-{other_scope}",
        f"AlchemicalNetwork-{ZERO}-{scope}",
        "Ball",
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


def test_each_taskhub_gets_its_own_weight(store: StateStore, scope: Scope) -> None:
    one, two, bare = (store.create_network(star(1, name), scope) for name in ("a", "b", "c"))
    for network in (one, two):
        store.create_taskhub(network)
    assert store.set_taskhub_weight([two, bare, str(one)], [0.25, 0.5, 1]) == [two, None, one]
    assert store.get_taskhub_weight([one, bare, two]) == [1.0, None, 0.25]
    # The last weight of a network counts.
    assert store.set_taskhub_weight(networks=[one, one], weights=iter([0.1, 0.2])) == [one, one]
    assert store.get_taskhub_weight(networks=[one, two]) == [0.2, 0.25]
    assert store.set_taskhub_weight([], []) == []


def test_refused_weights_of_taskhubs_change_nothing(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    network, absent = made.network, f"AlchemicalNetwork-{ZERO}-{scope}"
    refused: list[tuple[Any, Any, str]] = [
        ([network, network], [0.9, 1.5], "all `weights` must be"),
        ([made.hub], [1.5], "all `weights` must be"),
        ([made.hub, network], [0.9], NO_NETWORK),
        ([network, made.hub], [0.9, 0.9], NO_NETWORK),
        ([network, str(made.tasks[0])], 0.9, NO_NETWORK),
        (made.hub, 0.9, NO_NETWORK),
        ([network], [0.9, 0.9], "1 networks, but 2 weights"),
        ([network, absent], [0.9], "2 networks, but 1 weights"),
        (network, [0.9], "one network has one weight"),
        ("nonsense", 0.9, "not a scoped key"),
    ]
    for networks, weights, message in refused:
        with pytest.raises(ValueError, match=message):
            store.set_taskhub_weight(networks, weights)
    for networks in (made.hub, [network, made.hub]):
        with pytest.raises(ValueError, match=NO_NETWORK):
            store.get_taskhub_weight(networks)
    assert store.get_taskhub_weight(network) == 0.5


def test_second_name_of_a_parameter(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    hubs = store.get_taskhub_actioned_tasks(taskhubs=[made.hub, None])
    assert hubs == [{made.tasks[0]: 0.5}, {}]
    assert store.get_network_status(networks=[made.network]) == [{"waiting": 1}]
    call: Any = store.set_taskhub_weight
    with pytest.raises(TypeError, match="network and networks are the same"):
        call([made.network], networks=[made.network], weights=[0.5])
    with pytest.raises(TypeError, match="weight and weights are the same"):
        call([made.network], weight=0.5, weights=[0.5])
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        call(networks=[made.network])
    assert store.get_taskhub_weight(made.network) == 0.5


@pytest.mark.parametrize("one", [numpy.float64, numpy.float32, numpy.int64])
def test_numbers_of_numpy_are_weights(store: StateStore, scope: Scope, one: Any) -> None:
    made = campaign(store, scope, tasks=2)
    store.set_taskhub_weight(made.network, one(1))
    assert store.set_taskhub_weight([made.network], numpy.array([1], one)) == [made.network]
    assert store.get_taskhub_weight(made.network) == 1.0
    assert store.set_task_weights(made.tasks, made.hub, one(1)) == made.tasks
    assert store.set_task_weights(dict.fromkeys(made.tasks, one(0)), made.hub) == made.tasks
    assert store.get_task_weights(made.tasks, made.hub) == [0.0, 0.0]
    bad: list[Any] = [numpy.bool_(True), one(2), numpy.array([0.5, 0.5])]
    for weight in bad:
        with pytest.raises(ValueError, match="weight"):
            store.set_task_weights(made.tasks, made.hub, weight)


# Hubs of many networks


def test_get_taskhubs_is_aligned(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    one, two, bare = (store.create_network(star(1, name), scope) for name in ("a", "b", "c"))
    hubs = {network: store.create_taskhub(network) for network in (one, two)}
    store.set_taskhub_weight(two, 0.25)
    given: list[Any] = [two, bare, None, f"{one.gufe_key}-{other_scope}", "nonsense", str(one), two]
    nothing = [None] * 4
    assert store.get_taskhubs(given) == [hubs[two], *nothing, hubs[one], hubs[two]]
    record = TaskHub(network=str(two), weight=0.25)
    assert store.get_taskhubs(network_scoped_keys=given, return_gufe=True) == [
        record,
        *nothing,
        TaskHub(network=str(one)),
        record,
    ]
    assert store.get_taskhubs([]) == store.get_taskhubs([], True) == []
    for wrong in ([two, hubs[one]], [str(hubs[one])]):
        with pytest.raises(ValueError, match=NO_NETWORK):
            store.get_taskhubs(wrong)
    with pytest.raises(ValueError, match=NO_NETWORK):
        store.get_taskhub(hubs[one])
    with pytest.raises(TypeError, match="use get_taskhub"):
        store.get_taskhubs(two)  # type: ignore[arg-type]  # that is the test


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
    with pytest.raises(KeyError, match="No such object in database"):
        store.delete_taskhub(made.network)
    assert store.get_taskhub(made.network) is None
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


def test_get_transformation_actioned_tasks(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    made = campaign(store, scope, tasks=6)
    elsewhere = campaign(store, other_scope, tasks=3)
    other = store.create_taskhub(store.create_network(star(3, "other"), scope))
    edge = made.transformations[0]
    mine = sorted(store.get_transformation_tasks(edge))
    assert len(mine) == 2
    store.create_task(edge)
    assert store.get_transformation_actioned_tasks(edge, made.hub) == mine
    assert store.get_transformation_actioned_tasks(str(edge), str(made.hub)) == mine
    store.set_task_error(store.set_task_running(mine[:1]))
    assert store.get_transformation_actioned_tasks(transformation=edge, taskhub=made.hub) == mine
    store.set_task_complete(store.set_task_running(mine[1:]))
    store.action_tasks(mine, other)
    assert store.get_transformation_actioned_tasks(edge, made.hub) == mine[:1]
    assert store.get_transformation_actioned_tasks(edge, other) == mine[:1]
    absent = f"Transformation-{ZERO}-{scope}"
    for transformation, taskhub in (
        (edge, None),
        (edge, elsewhere.hub),
        (edge, f"TaskHub-{ZERO}-{scope}"),
        (elsewhere.transformations[0], made.hub),
        (absent, made.hub),
        (made.network, made.hub),
        (made.tasks[0], made.hub),
    ):
        assert store.get_transformation_actioned_tasks(transformation, taskhub) == []
    with pytest.raises(ValueError, match="get_taskhub"):
        store.get_transformation_actioned_tasks(edge, made.network)
    with pytest.raises(ValueError, match="not a scoped key"):
        store.get_transformation_actioned_tasks("nonsense", made.hub)
