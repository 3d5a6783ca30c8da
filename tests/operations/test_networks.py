"""Networks: storing them as objects and as chains, refusing bad ones, finding and deleting them."""

from __future__ import annotations

import copy
import gc
import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gufe
import pytest
from gufe.tokenization import JSON_HANDLER, TOKENIZABLE_REGISTRY, GufeTokenizable
from sqlalchemy import func, select

from alchemistore import ProtocolDAGResultRef, Scope, ScopedKey, StateStore
from alchemistore.tables import Base
from tests.builders import Campaign, campaign, register, star
from tests.unit import gufe_classes
from tests.unit.gufe_classes import Effort, PushProtocol, system, transformation

Chain = list[list[Any]]
ZERO = "0" * 32
NAMES = [
    "it's \"quoted\" `twice`",
    "'; DROP TABLE networks; --",
    "back\\slash \\' \\x00 \\u0041",
    "emoji 🧪👩‍🔬 \U0001f9ec",
    "%",
    ".*",
    "_",
    "",
    " spaces ",
    "line\nbreak\tand tab",
    "nul \x00 inside",
    "é composed, é not",
    f"{random.Random(1).randbytes(500_000).hex()}",
]


def counts(store: StateStore) -> dict[str, int]:
    """Count the rows of every table."""
    with store._engine.connect() as connection:
        tables = Base.metadata.sorted_tables
        return {table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}


def added(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Tell which tables grew, by how much."""
    return {table: after[table] - before[table] for table in after if after[table] != before[table]}


def chain_of(root: Any) -> Chain:
    """Give the keyed chain of an object, children first, as it comes out of a JSON file."""
    found: dict[str, Any] = {}

    def visit(value: Any) -> None:
        if isinstance(value, GufeTokenizable):
            visit(value.to_shallow_dict())
            found[str(value.key)] = json.loads(json.dumps(value.to_keyed_dict(), cls=JSON_HANDLER.encoder))
        elif isinstance(value, dict | list | tuple):
            for item in value.values() if isinstance(value, dict) else value:
                visit(item)

    visit(root)
    return [[key, document] for key, document in found.items()]


def itself(mapping: Any = None) -> gufe.AlchemicalNetwork:
    """A network with a good transformation, and one from a system to itself."""
    protocol = PushProtocol(Effort())
    loop = gufe.Transformation(system("a"), system("a"), protocol, name="loop")
    return gufe.AlchemicalNetwork([transformation(), loop], name="with a loop")


# Creating


def test_create_network_stores_the_network_and_all_in_it(store: StateStore, scope: Scope) -> None:
    network = gufe_classes.network()
    key = store.create_network(network, scope)
    assert key == ScopedKey(gufe_key=network.key, org="org", campaign="campaign", project="project")
    assert store.check_existence(key)
    assert {k.gufe_key for k in store.get_network_transformations(key)} == {edge.key for edge in network.edges}
    assert {k.gufe_key for k in store.get_network_chemicalsystems(key)} == {node.key for node in network.nodes}


def test_create_network_makes_no_taskhub(store: StateStore, scope: Scope) -> None:
    key = store.create_network(star(), scope)
    assert store.query_taskhubs() == []
    with pytest.raises(KeyError, match="No such object in database"):
        store.get_taskhub(key)


def test_create_network_again_gives_the_same_key_and_adds_nothing(store: StateStore, scope: Scope) -> None:
    key = store.create_network(star(), scope)
    before = counts(store)
    assert store.create_network(star(), scope) == key
    assert store.create_network(star(), str(scope)) == key
    assert counts(store) == before


def test_create_overlapping_networks(store: StateStore, scope: Scope) -> None:
    first = store.create_network(star(3, "first"), scope)
    before = counts(store)
    second = store.create_network(star(4, "second"), scope)
    assert set(store.query_networks()) == {first, second}
    # One component, its system, the transformation to it and the network: the rest was there.
    assert added(before, counts(store)) == {
        "gufe_objects": 4,
        "networks": 1,
        "transformations": 1,
        "chemical_systems": 1,
        "network_transformations": 4,
        "network_chemical_systems": 5,
        "transformation_chemical_systems": 2,
    }


def test_a_network_that_differs_in_its_name_only_adds_one_document(store: StateStore, scope: Scope) -> None:
    store.create_network(star(3, "first"), scope)
    before = counts(store)
    store.create_network(star(3, "second"), scope)
    assert added(before, counts(store))["gufe_objects"] == 1


def test_the_same_network_in_two_scopes_is_two_networks(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    here = store.create_network(star(), scope)
    before = counts(store)
    there = store.create_network(star(), other_scope)
    assert here.gufe_key == there.gufe_key
    assert here != there
    assert added(before, counts(store)) == {table: n if table != "scopes" else 1 for table, n in before.items() if n}
    assert len(store.query_transformations()) == 6
    assert len(store.query_chemicalsystems()) == 8


def test_an_empty_network_is_fine(store: StateStore, scope: Scope) -> None:
    key = store.create_network(gufe.AlchemicalNetwork([], nodes=[], name="empty"), scope)
    assert store.get_network_transformations(key) == store.get_network_chemicalsystems(key) == []
    TOKENIZABLE_REGISTRY.clear()
    assert (store.get_gufe(key).name, store.get_gufe(key).key) == ("empty", key.gufe_key)
    assert store.query_networks(name="empty") == [key]
    assert store.get_network_status(key) == {}


def test_a_network_may_have_no_name(store: StateStore, scope: Scope) -> None:
    unnamed = store.create_network(gufe_classes.network(name=None), scope)
    named = store.create_network(gufe_classes.network(name="None"), scope)
    assert store.query_networks(name="None") == [named]
    assert set(store.query_networks()) == {unnamed, named}


def test_a_nontransformation_is_a_transformation_to_every_query(store: StateStore, scope: Scope) -> None:
    network = store.create_network(gufe_classes.network(), scope)
    (stays,) = store.query_transformations(name="c stays")
    assert stays.qualname == "NonTransformation"
    assert stays in store.get_network_transformations(network)
    assert store.get_transformation_networks(stays) == [network]
    task = store.create_task(stays)
    assert store.get_network_tasks(network) == store.get_transformation_tasks(stays) == [task]
    assert store.get_task_networks(task) == [network]
    assert store.get_task_transformation(task, return_gufe=False) == (stays, None)
    assert store.action_tasks([task], store.create_taskhub(network)) == [task]
    assert store.get_network_status(network) == store.get_transformation_status(stays) == {"waiting": 1}


# Chains


@pytest.mark.parametrize("form", [lambda c: c, lambda c: [tuple(pair) for pair in c], iter], ids=["lists", "tuples", "iterator"])
def test_create_network_takes_a_keyed_chain(store: StateStore, scope: Scope, form: Callable[[Chain], Any]) -> None:
    network = gufe_classes.network()
    key = store.create_network(form(chain_of(network)), scope)
    assert key.gufe_key == network.key
    before = counts(store)
    assert store.create_network(network, scope) == key
    assert counts(store) == before
    TOKENIZABLE_REGISTRY.clear()
    again = store.get_gufe(key)
    assert again is not network
    assert (again.key, again.edges, again.nodes) == (network.key, network.edges, network.nodes)


def test_of_a_chain_no_object_is_built(store: StateStore, scope: Scope) -> None:
    chain = chain_of(gufe_classes.network("only a chain"))
    gc.collect()
    TOKENIZABLE_REGISTRY.clear()
    store.create_network(chain, scope)
    assert dict(TOKENIZABLE_REGISTRY) == {}


def _without(qualname: str) -> Callable[[Chain], Any]:
    return lambda chain: [pair for pair in chain if not pair[0].startswith(qualname + "-")]


def _renamed(key: str) -> Callable[[Chain], Any]:
    return lambda chain: [*chain[:-1], [key, chain[-1][1]]]


def _root(**changes: Any) -> Callable[[Chain], Any]:
    return lambda chain: [*chain[:-1], [chain[-1][0], {**chain[-1][1], **changes}]]


BROKEN: dict[str, Callable[[Chain], Any]] = {
    "empty": lambda chain: [],
    "a component is missing": _without("Ball"),
    "the systems are missing": _without("ChemicalSystem"),
    "the transformations are missing": _without("Transformation"),
    "the protocol is missing": _without("PushProtocol"),
    "the network is missing": _without("AlchemicalNetwork"),
    "pairs without documents": lambda chain: [pair[:1] for pair in chain],
    "keys without documents": lambda chain: [pair[0] for pair in chain],
    "documents without keys": lambda chain: [pair[1] for pair in chain],
    "a document is text": lambda chain: [*chain[:-1], [chain[-1][0], json.dumps(chain[-1][1])]],
    "a document is empty": lambda chain: [*chain[:-1], [chain[-1][0], {}]],
    "a document is none of gufe's": lambda chain: [["Thing-" + ZERO, {"name": "thing"}], *chain],
    "a key is no key": _renamed("nonsense"),
    "a key is a number": lambda chain: [*chain[:-1], [7, chain[-1][1]]],
    "a key is scoped": lambda chain: [*chain[:-1], [chain[-1][0] + "-a-b-c", chain[-1][1]]],
    "a key of another class": _renamed("Transformation-" + ZERO),
    "a class that does not match": _root(__qualname__="Transformation"),
    "a module from elsewhere": _root(__module__="os", __qualname__="system"),
    "edges are no list": _root(edges=7),
    "edges are no references": _root(edges=["Transformation-" + ZERO]),
    "an edge is unknown": _root(edges=[{":gufe-key:": "Transformation-" + ZERO}]),
    "an edge is a system": lambda chain: _root(edges=chain[-1][1]["nodes"])(chain),
    "a node is a transformation": lambda chain: _root(nodes=chain[-1][1]["edges"])(chain),
    "a name is no text": _root(name={"a": 1}),
    "a chain of a transformation": lambda chain: chain_of(transformation()),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_chain_is_refused_and_leaves_nothing(store: StateStore, scope: Scope, how: str) -> None:
    broken = BROKEN[how](copy.deepcopy(chain_of(gufe_classes.network())))
    before = counts(store)
    with pytest.raises((ValueError, TypeError)) as refused:
        store.create_network(broken, scope)
    assert str(refused.value)
    assert counts(store) == before


# Refusing


@pytest.mark.parametrize("form", [lambda network: network, chain_of], ids=["object", "chain"])
def test_a_transformation_from_a_system_to_itself_is_refused(
    store: StateStore, scope: Scope, form: Callable[[Any], Any]
) -> None:
    before = counts(store)
    with pytest.raises(ValueError, match="uses the same `ChemicalSystem`"):
        store.create_network(form(itself()), scope)
    assert counts(store) == before


@pytest.mark.parametrize("bad", [Scope(), Scope("a"), Scope("a", "b"), "a-b-*", "*-*-*", "a-b", "", "a-b-c-d", "a'-b-c", None])
def test_a_scope_that_is_not_specific_is_refused(store: StateStore, bad: Any) -> None:
    with pytest.raises((ValueError, TypeError) if bad is None else ValueError):
        store.create_network(star(), bad)
    assert not any(counts(store).values())


def test_what_is_not_a_network_is_refused(store: StateStore, scope: Scope) -> None:
    things = [None, 7, "AlchemicalNetwork-" + ZERO, b"x", {}, object(), transformation(), system("a"), gufe.AlchemicalNetwork]
    for thing in things:
        with pytest.raises((ValueError, TypeError)):
            store.create_network(thing, scope)
    assert not any(counts(store).values())


# Names


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name[:20]) for name in NAMES])
def test_names_are_kept_and_matched_exactly(store: StateStore, scope: Scope, name: str) -> None:
    edge = gufe.Transformation(system("a"), system("b"), PushProtocol(Effort()), name=name)
    node = gufe.ChemicalSystem({}, name=name)
    network = store.create_network(gufe.AlchemicalNetwork([edge], nodes=[node], name=name), scope)
    store.create_network(star(2, "another"), scope)
    assert store.query_networks(name=name) == [network]
    assert [k.gufe_key for k in store.query_transformations(name=name)] == [edge.key]
    assert [k.gufe_key for k in store.query_chemicalsystems(name=name)] == [node.key]
    TOKENIZABLE_REGISTRY.clear()
    assert store.get_gufe(network).name == name
    assert store.query_networks(name=name + "x") == store.query_networks(name="x" + name) == []


# Finding


def fill(store: StateStore, scope: Scope, other_scope: Scope) -> dict[tuple[str, Scope], ScopedKey]:
    """Two networks in each of two scopes."""
    return {(name, at): store.create_network(star(3, name), at) for name in ("one", "two") for at in (scope, other_scope)}


def test_query_networks_by_name_key_and_scope(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    keys = fill(store, scope, other_scope)
    one, two = keys["one", scope], keys["two", scope]
    assert set(store.query_networks()) == set(store.query_networks(scope=None)) == set(keys.values())
    assert set(store.query_networks(name="one")) == {one, keys["one", other_scope]}
    assert set(store.query_networks(scope=scope)) == set(store.query_networks(scope=str(scope))) == {one, two}
    assert set(store.query_networks(key=one.gufe_key)) == {one, keys["one", other_scope]}
    assert store.query_networks(name="one", key=one.gufe_key, scope=scope) == [one]
    assert store.query_networks(name="two", key=one.gufe_key, scope=scope) == []
    for partial in (Scope(), Scope("org"), Scope("org", "campaign"), "org-*-*"):
        assert len(store.query_networks(scope=partial)) == 4
    for elsewhere in (Scope("other"), Scope("org", "other"), Scope("Org"), Scope("project")):
        assert store.query_networks(scope=elsewhere) == []
    assert store.query_networks(name="three") == []


@pytest.mark.parametrize(("call", "per_scope"), [("query_transformations", 3), ("query_chemicalsystems", 4)])
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


@pytest.mark.parametrize("call", ["query_networks", "query_transformations", "query_chemicalsystems", "query_tasks"])
def test_a_key_filter_of_another_kind_matches_nothing(store: StateStore, scope: Scope, call: str) -> None:
    made = campaign(store, scope, tasks=1)
    kinds = {
        "query_networks": made.network,
        "query_transformations": made.transformations[0],
        "query_chemicalsystems": store.query_chemicalsystems()[0],
        "query_tasks": made.tasks[0],
    }
    query = getattr(store, call)
    assert query(key=kinds[call].gufe_key) == [kinds[call]]
    others = [str(key.gufe_key) for kind, key in kinds.items() if kind != call]
    wrong_class = f"Ball-{kinds[call].gufe_key.token}"
    for key in [*others, str(made.hub.gufe_key), wrong_class, f"{kinds[call].qualname}-{ZERO}"]:
        assert query(key=key) == []


def test_queries_are_in_the_order_of_scope_and_key(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    fill(store, scope, other_scope)
    fill(store, Scope("org", "a", "z"), Scope("b", "z", "z"))
    for found in (store.query_networks(), store.query_transformations(), store.query_chemicalsystems()):
        order = [(k.org, k.campaign, k.project, str(k.gufe_key)) for k in found]
        assert all(a < b for a, b in pairwise(order))


def test_query_networks_gives_objects_by_their_keys(store: StateStore, scope: Scope, other_scope: Scope) -> None:
    keys = fill(store, scope, other_scope)
    TOKENIZABLE_REGISTRY.clear()
    found = store.query_networks(return_gufe=True)
    assert list(found) == store.query_networks()
    assert {key: network.name for key, network in found.items()} == {key: name for (name, _), key in keys.items()}
    assert all(network.key == key.gufe_key for key, network in found.items())
    assert store.query_networks(name="nothing", return_gufe=True) == {}


@pytest.mark.parametrize("call", ["query_networks", "query_transformations", "query_chemicalsystems"])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_long_lists_can_be_walked_in_pages(
    store: StateStore, scope: Scope, other_scope: Scope, call: str, limit: int
) -> None:
    fill(store, scope, other_scope)
    query, pages, after = getattr(store, call), [], None
    while page := query(limit=limit, after=after):
        assert len(page) <= limit
        pages += page
        after = page[-1]
    assert pages == query()
    assert query(after=str(pages[0])) == pages[1:]
    assert query(limit=2, scope=scope) == [key for key in pages if key.scope == scope][:2]
