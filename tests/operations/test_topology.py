"""Queries by name, key and scope, in pages, and between networks and their members."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gufe
import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY

from alchemistore import Scope, ScopedKey, StateStore
from tests.support import gufe_classes
from tests.support.campaigns import ZERO, campaign, star
from tests.support.gufe_classes import Effort, PushProtocol, system

NAMES = [
    'it\'s "quoted" `twice`',
    "'; DROP TABLE networks; --",
    "back\\slash \\' \\x00 \\u0041",
    "emoji 🧪👩‍🔬 \U0001f9ec",
    "%",
    ".*",
    "_",
    "",
    " spaces ",
    "line\nbreak\tand tab",
    "\u00e9 composed, e\u0301 not",
]


def fill(store: StateStore, scope: Scope, other_scope: Scope) -> dict[tuple[str, Scope], ScopedKey]:
    """Two networks in each of two scopes."""
    return {
        (name, at): store.create_network(star(3, name), at)
        for name in ("one", "two")
        for at in (scope, other_scope)
    }


# Queries


def test_query_networks_by_name_key_and_scope(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    keys = fill(store, scope, other_scope)
    one, two = keys["one", scope], keys["two", scope]
    assert (
        set(store.query_networks()) == set(store.query_networks(scope=None)) == set(keys.values())
    )
    assert set(store.query_networks(name="one")) == {one, keys["one", other_scope]}
    assert (
        set(store.query_networks(scope=scope))
        == set(store.query_networks(scope=str(scope)))
        == {one, two}
    )
    assert set(store.query_networks(key=one.gufe_key)) == {one, keys["one", other_scope]}
    assert store.query_networks(name="one", key=one.gufe_key, scope=scope) == [one]
    assert store.query_networks(name="two", key=one.gufe_key, scope=scope) == []
    for partial in (Scope(), Scope("org"), Scope("org", "campaign"), "org-*-*"):
        assert len(store.query_networks(scope=partial)) == 4
    for elsewhere in (Scope("other"), Scope("org", "other"), Scope("Org"), Scope("project")):
        assert store.query_networks(scope=elsewhere) == []
    assert store.query_networks(name="three") == []


@pytest.mark.parametrize(
    ("call", "per_scope"), [("query_transformations", 3), ("query_chemicalsystems", 4)]
)
def test_query_transformations_and_chemicalsystems(
    store: StateStore, scope: Scope, other_scope: Scope, call: str, per_scope: int
) -> None:
    fill(store, scope, other_scope)
    query = getattr(store, call)
    name = "to arm 1" if call == "query_transformations" else "arm 1"
    assert len(query()) == len(query(scope=None)) == 2 * per_scope
    assert len(query(scope=scope)) == per_scope
    assert len(query(name=name)) == 2
    (found,) = query(name=name, scope=other_scope)
    assert (found.scope, store.get_gufe(found).name) == (other_scope, name)
    assert query(key=found.gufe_key, scope=other_scope) == [found]
    assert query(key=found.gufe_key, name="middle" if "system" in call else "to arm 0") == []
    assert query(name="nothing") == query(scope=Scope("elsewhere")) == []


def test_key_filter_of_another_class_matches_nothing(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    kinds: dict[Callable[..., list[ScopedKey]], ScopedKey] = {
        store.query_networks: made.network,
        store.query_transformations: made.transformations[0],
        store.query_chemicalsystems: store.query_chemicalsystems()[0],
        store.query_tasks: made.tasks[0],
    }
    for query, mine in kinds.items():
        assert query(key=mine.gufe_key) == query(key=str(mine.gufe_key)) == [mine]
        others = [str(key.gufe_key) for key in kinds.values() if key != mine]
        wrong_class = f"Ball-{mine.gufe_key.token}"
        for key in [*others, str(made.hub.gufe_key), wrong_class, f"{mine.qualname}-{ZERO}"]:
            assert query(key=key) == []


def test_queries_are_in_the_order_of_scope_and_key(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    fill(store, scope, other_scope)
    fill(store, Scope("org", "a", "z"), Scope("b", "z", "z"))
    for found in (
        store.query_networks(),
        store.query_transformations(),
        store.query_chemicalsystems(),
    ):
        order = [(k.org, k.campaign, k.project, str(k.gufe_key)) for k in found]
        assert all(a < b for a, b in pairwise(order))


def test_query_networks_returns_objects_by_key(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    keys = fill(store, scope, other_scope)
    TOKENIZABLE_REGISTRY.clear()
    found = store.query_networks(return_gufe=True)
    assert list(found) == store.query_networks()
    assert {key: network.name for key, network in found.items()} == {
        key: name for (name, _), key in keys.items()
    }
    assert all(network.key == key.gufe_key for key, network in found.items())
    assert store.query_networks(name="nothing", return_gufe=True) == {}


@pytest.mark.parametrize(
    "call", ["query_networks", "query_transformations", "query_chemicalsystems", "query_tasks"]
)
def test_long_lists_can_be_walked_in_pages(
    store: StateStore, scope: Scope, other_scope: Scope, call: str
) -> None:
    fill(store, scope, other_scope)
    store.create_tasks(store.query_transformations())
    query = getattr(store, call)
    everything = query()
    for limit in (1, 3, 100):
        walked: list[ScopedKey] = []
        while page := query(limit=limit, after=walked[-1] if walked else None):
            assert len(page) <= limit
            walked += page
        assert walked == everything
    assert query(after=str(everything[0])) == everything[1:]
    assert query(limit=2, scope=scope) == [key for key in everything if key.scope == scope][:2]
    assert query(limit=0) == []
    # Keys that are gone, or never were, keep their place in the order.
    assert query(after=f"A-{ZERO}-{everything[0].scope}") == everything
    last = f"{everything[0].qualname}-{'f' * 32}-{everything[0].scope}"
    assert query(after=last) == [key for key in everything if key.scope != everything[0].scope]
    assert query(after=everything[-1]) == []


def test_names_are_kept_and_matched_exactly(store: StateStore, scope: Scope) -> None:
    keys = {}
    for name in NAMES:
        edge = gufe.Transformation(system("a"), system("b"), PushProtocol(Effort()), name=name)
        node = gufe.ChemicalSystem({}, name=name)
        network = gufe.AlchemicalNetwork([edge], nodes=[node], name=name)
        keys[name] = (store.create_network(network, scope), edge.key, node.key)
    TOKENIZABLE_REGISTRY.clear()
    for name, (network, edge, node) in keys.items():
        assert store.query_networks(name=name) == [network]
        assert [key.gufe_key for key in store.query_transformations(name=name)] == [edge]
        assert [key.gufe_key for key in store.query_chemicalsystems(name=name)] == [node]
        assert store.get_gufe(network).name == name
        assert store.query_networks(name=name + "y") == store.query_networks(name="y" + name) == []


def test_name_of_a_megabyte_is_kept_and_found(store: StateStore, scope: Scope) -> None:
    name = (
        random.Random(1).randbytes(500_000).hex()
    )  # random, so that no compression makes it small
    network = store.create_network(gufe.AlchemicalNetwork([], name=name), scope)
    assert store.query_networks(name=name) == [network]
    assert store.query_networks(name=name[:-1]) == []


# What is in what


def keys_of(objects: Any, scope: Scope) -> set[ScopedKey]:
    """Return the keys of objects in a scope."""
    return {ScopedKey.from_str(f"{item.key}-{scope}") for item in objects}


def test_get_network_transformations(store: StateStore, scope: Scope) -> None:
    network = gufe_classes.network()
    found = store.get_network_transformations(store.create_network(network, scope))
    assert set(found) == keys_of(network.edges, scope)
    assert len(found) == 3


def test_get_transformation_networks(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    keys = fill(store, scope, other_scope)
    store.create_network(gufe_classes.network(), scope)
    for edge in star().edges:
        (key,) = keys_of([edge], scope)
        assert store.get_transformation_networks(key) == sorted(
            [keys["one", scope], keys["two", scope]]
        )


def test_get_network_chemicalsystems_includes_isolated_systems(
    store: StateStore, scope: Scope
) -> None:
    network = gufe_classes.network()
    found = store.get_network_chemicalsystems(store.create_network(network, scope))
    assert (
        set(found)
        == keys_of(network.nodes, scope)
        == keys_of([system(name) for name in ("a", "b", "c", "alone")], scope)
    )
    assert len(found) == 4


def test_get_chemicalsystem_networks(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    keys = fill(store, scope, other_scope)
    alone = store.create_network(gufe_classes.network(), scope)
    (middle,), (lonely,) = (
        keys_of([system("middle")], other_scope),
        keys_of([system("alone")], scope),
    )
    assert store.get_chemicalsystem_networks(middle) == sorted(
        [keys["one", other_scope], keys["two", other_scope]]
    )
    assert store.get_chemicalsystem_networks(lonely) == [alone]


def test_get_transformation_chemicalsystems(store: StateStore, scope: Scope) -> None:
    network = gufe_classes.network()
    store.create_network(network, scope)
    for edge in network.edges:
        (key,) = keys_of([edge], scope)
        found = store.get_transformation_chemicalsystems(key)
        assert set(found) == keys_of([edge.stateA, edge.stateB], scope)
        assert len(found) == (
            1
            if isinstance(edge, gufe.NonTransformation) and key.qualname == "NonTransformation"
            else 2
        )


def test_get_chemicalsystem_transformations_as_either_end_state(
    store: StateStore, scope: Scope
) -> None:
    network = gufe_classes.network()
    store.create_network(network, scope)
    for node in network.nodes:
        (key,) = keys_of([node], scope)
        found = store.get_chemicalsystem_transformations(key)
        assert set(found) == keys_of(
            [edge for edge in network.edges if node in (edge.stateA, edge.stateB)], scope
        )
        assert len(found) == {"a": 1, "b": 2, "c": 2, "alone": 0}[node.name]


GETTERS: dict[str, str] = {
    "get_network_transformations": "AlchemicalNetwork",
    "get_network_chemicalsystems": "AlchemicalNetwork",
    "get_transformation_networks": "Transformation",
    "get_transformation_chemicalsystems": "Transformation",
    "get_chemicalsystem_networks": "ChemicalSystem",
    "get_chemicalsystem_transformations": "ChemicalSystem",
}


def test_adjacency_stays_in_its_scope_in_order_without_duplicates(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    fill(store, scope, other_scope)
    queries: list[Callable[..., list[ScopedKey]]] = [
        store.query_networks,
        store.query_transformations,
        store.query_chemicalsystems,
    ]
    everything = [key for query in queries for key in query(scope=other_scope)]
    for call, kind in GETTERS.items():
        keys = [key for key in everything if key.qualname == kind]
        assert keys
        for key in keys:
            found = getattr(store, call)(key)
            assert found == getattr(store, call)(str(key))
            # End states are in their own order.
            ends = call == "get_transformation_chemicalsystems"
            assert (sorted(found) if ends else found) == sorted(set(found))
            assert {item.scope for item in found} == {other_scope}


def test_negative_limit_is_refused_by_name(store: StateStore) -> None:
    for query in (store.query_networks, store.query_transformations, store.query_tasks):
        with pytest.raises(ValueError, match="limit must be 0 or more, not -1"):
            query(limit=-1)
