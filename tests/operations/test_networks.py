"""Networks: storing them as objects and as chains, refusing bad ones, deleting them."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable
from typing import Any

import gufe
import pytest
from gufe.tokenization import JSON_HANDLER, TOKENIZABLE_REGISTRY, GufeTokenizable
from sqlalchemy import select

from alchemistore import ProtocolDAGResultRef, Scope, ScopedKey, StateStore
from alchemistore.models import GufeKey
from alchemistore.tables import metadata
from tests.support import gufe_classes
from tests.support.campaigns import ZERO, campaign, register, star
from tests.support.databases import row_counts
from tests.support.gufe_classes import Ball, Effort, PushProtocol, system, transformation
from tests.support.history import statuses

Chain = list[list[Any]]


@pytest.fixture
def scope() -> Scope:
    """A scope that no other test uses."""
    return Scope("org", "campaign", f"p{uuid.uuid4().hex}")


def added(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Return the tables that grew, and by how much."""
    return {table: after[table] - before[table] for table in after if after[table] != before[table]}


def without_queue(growth: dict[str, int]) -> dict[str, int]:
    """Leave out the tables of the queue, and the requests that calls remember."""
    kept = ("queue", "lanes", "requests")
    return {table: n for table, n in growth.items() if table not in kept}


def chain_of(root: Any) -> Chain:
    """Return the keyed chain of an object, children first, as read from a JSON file."""
    found: dict[str, Any] = {}

    def visit(value: Any) -> None:
        if isinstance(value, GufeTokenizable):
            visit(value.to_shallow_dict())
            found[str(value.key)] = json.loads(
                json.dumps(value.to_keyed_dict(), cls=JSON_HANDLER.encoder)
            )
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


def test_create_network_stores_the_network_and_all_in_it(
    shared_store: StateStore, scope: Scope
) -> None:
    network = gufe_classes.network()
    key = shared_store.create_network(network, scope)
    assert key == ScopedKey.from_str(f"{network.key}-{scope}")
    assert shared_store.check_existence(key)
    assert {k.gufe_key for k in shared_store.get_network_transformations(key)} == {
        edge.key for edge in network.edges
    }
    assert {k.gufe_key for k in shared_store.get_network_chemicalsystems(key)} == {
        node.key for node in network.nodes
    }


def test_create_network_makes_no_taskhub(store: StateStore, scope: Scope) -> None:
    key = store.create_network(star(), scope)
    assert store.query_taskhubs() == []
    assert store.get_taskhub(key) is None


def test_create_network_again_gives_the_same_key_and_adds_nothing(
    store: StateStore, scope: Scope
) -> None:
    key = store.create_network(star(), scope)
    before = row_counts(store)
    assert store.create_network(star(), scope) == key
    assert store.create_network(star(), str(scope)) == key
    assert row_counts(store) == before


def test_create_overlapping_networks(store: StateStore, scope: Scope) -> None:
    first = store.create_network(star(3, "first"), scope)
    before = row_counts(store)
    second = store.create_network(star(4, "second"), scope)
    assert set(store.query_networks()) == {first, second}
    # One component, its system, the transformation to it and the network: the rest was there.
    assert added(before, row_counts(store)) == {
        "gufe_objects": 4,
        "networks": 1,
        "network_marks": 1,
        "transformations": 1,
        "chemical_systems": 1,
        "network_transformations": 4,
        "network_chemical_systems": 5,
        "transformation_chemical_systems": 2,
    }


def test_network_that_differs_in_its_name_only_adds_one_document(
    store: StateStore, scope: Scope
) -> None:
    store.create_network(star(3, "first"), scope)
    before = row_counts(store)
    store.create_network(star(3, "second"), scope)
    assert added(before, row_counts(store))["gufe_objects"] == 1


def test_same_network_in_two_scopes_is_two_networks(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    here = store.create_network(star(), scope)
    before = row_counts(store)
    there = store.create_network(star(), other_scope)
    assert here.gufe_key == there.gufe_key
    assert here != there
    assert added(before, row_counts(store)) == {
        table: n if table != "scopes" else 1 for table, n in before.items() if n
    }
    assert len(store.query_transformations()) == 6
    assert len(store.query_chemicalsystems()) == 8


def test_empty_network_is_accepted(shared_store: StateStore, scope: Scope) -> None:
    key = shared_store.create_network(gufe.AlchemicalNetwork([], nodes=[], name="empty"), scope)
    assert (
        shared_store.get_network_transformations(key)
        == shared_store.get_network_chemicalsystems(key)
        == []
    )
    TOKENIZABLE_REGISTRY.clear()
    assert (shared_store.get_gufe(key).name, shared_store.get_gufe(key).key) == (
        "empty",
        key.gufe_key,
    )
    assert shared_store.query_networks(name="empty", scope=scope) == [key]
    assert shared_store.get_network_status(key) == {}


def test_network_may_have_no_name(shared_store: StateStore, scope: Scope) -> None:
    unnamed = shared_store.create_network(gufe_classes.network(name=None), scope)
    named = shared_store.create_network(gufe_classes.network(name="None"), scope)
    assert shared_store.query_networks(name="None", scope=scope) == [named]
    assert set(shared_store.query_networks(scope=scope)) == {unnamed, named}


def test_nontransformation_is_a_transformation_to_every_query(
    shared_store: StateStore, scope: Scope
) -> None:
    network = shared_store.create_network(gufe_classes.network(), scope)
    (stays,) = shared_store.query_transformations(name="c stays", scope=scope)
    assert stays.qualname == "NonTransformation"
    assert stays in shared_store.get_network_transformations(network)
    assert shared_store.get_transformation_networks(stays) == [network]
    task = shared_store.create_task(stays)
    assert (
        shared_store.get_network_tasks(network)
        == shared_store.get_transformation_tasks(stays)
        == [task]
    )
    assert shared_store.get_task_networks(task) == [network]
    assert shared_store.get_task_transformation(task, return_gufe=False) == (stays, None)
    assert shared_store.action_tasks([task], shared_store.create_taskhub(network)) == [task]
    assert (
        shared_store.get_network_status(network)
        == shared_store.get_transformation_status(stays)
        == {"waiting": 1}
    )


# Chains


@pytest.mark.parametrize(
    "form",
    [lambda c: c, lambda c: [tuple(pair) for pair in c], iter],
    ids=["lists", "tuples", "iterator"],
)
def test_create_network_takes_a_keyed_chain(
    shared_store: StateStore, scope: Scope, form: Callable[[Chain], Any]
) -> None:
    network = gufe_classes.network()
    key = shared_store.create_network(form(chain_of(network)), scope)
    assert key.gufe_key == network.key
    before = row_counts(shared_store)
    assert shared_store.create_network(network, scope) == key
    assert row_counts(shared_store) == before
    TOKENIZABLE_REGISTRY.clear()
    again = shared_store.get_gufe(key)
    assert again is not network
    assert (again.key, again.edges, again.nodes) == (network.key, network.edges, network.nodes)


def test_network_and_its_chain_are_the_same_request(shared_store: StateStore, scope: Scope) -> None:
    network, request = gufe_classes.network("requested"), uuid.uuid4()
    key = shared_store.create_network(network, scope, request=request)
    assert shared_store.create_network(chain_of(network), scope, request=request) == key
    others: list[Any] = [[], [[]], [1], "text", chain_of(gufe_classes.network("another"))]
    for other in others:
        with pytest.raises(ValueError, match="with other arguments"):
            shared_store.create_network(other, scope, request=request)


def test_create_network_from_a_chain_builds_no_object(
    shared_store: StateStore, scope: Scope
) -> None:
    chain = chain_of(gufe_classes.network("only a chain"))
    TOKENIZABLE_REGISTRY.clear()
    shared_store.create_network(chain, scope)
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
def test_broken_chain_is_refused_and_leaves_nothing(
    shared_store: StateStore, scope: Scope, how: str
) -> None:
    broken = BROKEN[how](copy.deepcopy(chain_of(gufe_classes.network())))
    before = row_counts(shared_store)
    with pytest.raises((ValueError, TypeError)) as refused:
        shared_store.create_network(broken, scope)
    assert str(refused.value)
    assert row_counts(shared_store) == before


# Refusing


@pytest.mark.parametrize("form", [lambda network: network, chain_of], ids=["object", "chain"])
def test_transformation_from_a_system_to_itself_is_refused(
    shared_store: StateStore, scope: Scope, form: Callable[[Any], Any]
) -> None:
    before = row_counts(shared_store)
    with pytest.raises(ValueError, match="uses the same `ChemicalSystem`"):
        shared_store.create_network(form(itself()), scope)
    assert row_counts(shared_store) == before


@pytest.mark.parametrize(
    "bad",
    [Scope(), Scope("a"), Scope("a", "b"), "a-b-*", "*-*-*", "a-b", "", "a-b-c-d", "a'-b-c", None],
)
def test_scope_that_is_not_specific_is_refused(shared_store: StateStore, bad: Any) -> None:
    before = row_counts(shared_store)
    with pytest.raises((ValueError, TypeError)):
        shared_store.create_network(star(), bad)
    assert row_counts(shared_store) == before


def test_other_object_than_a_network_is_refused(shared_store: StateStore, scope: Scope) -> None:
    before = row_counts(shared_store)
    things = [
        None,
        7,
        "AlchemicalNetwork-" + ZERO,
        b"x",
        {},
        object(),
        transformation(),
        system("a"),
        gufe.AlchemicalNetwork,
    ]
    for thing in things:
        with pytest.raises((ValueError, TypeError)):
            shared_store.create_network(thing, scope)
    assert row_counts(shared_store) == before


@pytest.mark.parametrize("name", ["nul \x00 inside", "half a surrogate \ud800"], ids=ascii)
def test_name_with_unstorable_characters_is_refused(
    shared_store: StateStore, scope: Scope, name: str
) -> None:
    before = row_counts(shared_store)
    node = gufe.ChemicalSystem({}, name=name)
    edge = gufe.Transformation(system("a"), system("b"), PushProtocol(Effort()), name=name)
    for network in (
        gufe.AlchemicalNetwork([], name=name),
        gufe.AlchemicalNetwork([], nodes=[node]),
        gufe.AlchemicalNetwork([edge]),
    ):
        for form in (network, chain_of(network)):
            with pytest.raises(ValueError, match="name"):
                shared_store.create_network(form, scope)
    assert row_counts(shared_store) == before
    for call in (
        shared_store.query_networks,
        shared_store.query_transformations,
        shared_store.query_chemicalsystems,
    ):
        assert call(name=name) == []


# Deleting


def test_delete_network_keeps_shared_parts_and_tasks(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=3)
    systems = store.query_chemicalsystems()
    ref = ProtocolDAGResultRef(obj_key=GufeKey(f"ProtocolDAGResult-{ZERO}"), scope=scope, ok=True)
    result = store.set_task_result(made.tasks[0], ref)
    before = row_counts(store)
    assert store.delete_network(str(made.network)) == made.network
    assert without_queue(added(before, row_counts(store))) == {
        "gufe_objects": -1,
        "networks": -1,
        "network_marks": -1,
        "network_transformations": -3,
        "network_chemical_systems": -4,
        "taskhubs": -1,
        "actions": -3,
    }
    assert not store.check_existence(made.network)
    assert not store.check_existence(made.hub)
    assert store.query_networks() == store.query_taskhubs() == []
    assert set(store.query_transformations()) == set(made.transformations)
    assert store.query_chemicalsystems() == systems
    assert store.query_tasks() == sorted(made.tasks)
    assert store.get_task_results(made.tasks[0]) == [result]
    assert statuses(store, made.tasks) == ["waiting"] * 3
    with pytest.raises(KeyError, match="No such object in database"):
        store.get_gufe(made.network)
    with pytest.raises(KeyError, match="No such object in database"):
        store.delete_network(made.network)


def refer_to(store: StateStore, column: str, key: ScopedKey) -> set[str]:
    """Return the tables with a row whose column holds the token of a network or hub."""
    with store.engine.connect() as connection:
        return {
            table.name
            for table in metadata.sorted_tables
            if column in table.columns
            and connection.scalar(select(table).where(table.columns[column] == key.token).limit(1))
        }


@pytest.mark.parametrize("what", ["network", "hub"])
def test_all_that_belongs_to_a_network_or_hub_is_deleted_with_it(
    store: StateStore, scope: Scope, what: str
) -> None:
    made = campaign(store, scope, tasks=2)
    store.set_network_strategy(made.network, Ball("strategy"))
    store.add_task_restart_patterns(made.hub, ["Error", "out of memory"], 3)
    register(store, "service")
    [task] = store.claim_taskhub_tasks(made.hub, "service")
    assert task is not None
    failure = ProtocolDAGResultRef(
        obj_key=GufeKey(f"ProtocolDAGResult-{ZERO}"), scope=scope, ok=False
    )
    store.settle_task(task, failure, "service", tracebacks=["an Error"])
    assert statuses(store, [task]) == ["waiting"]
    assert refer_to(store, "network", made.network) >= {"network_marks", "network_strategies"}
    of_hub = refer_to(store, "taskhub", made.hub)
    assert of_hub >= {"actions", "restart_patterns", "queue", "lanes"}
    if what == "network":
        store.delete_network(made.network)
        assert refer_to(store, "network", made.network) == set()
    else:
        store.delete_taskhub(made.network)
        assert store.get_network_state(made.network) == "active"
        assert store.get_network_strategy(made.network) == Ball("strategy")
    # The history of the tasks stays.
    assert refer_to(store, "taskhub", made.hub) == {"attempts"}
    # The same network gets a new hub, without the patterns of the old one.
    network, hub, _ = store.assemble_network(star(), scope)
    assert (network, hub) == (made.network, made.hub)
    assert store.action_tasks(made.tasks, hub) == made.tasks
    assert store.get_task_restart_patterns([hub]) == {hub: set()}


def test_delete_network_leaves_other_networks_whole(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    made = campaign(store, scope, tasks=3)
    elsewhere = store.create_network(star(), other_scope)
    second = store.create_network(star(4, "second"), scope)
    hub = store.create_taskhub(second)
    assert store.action_tasks(made.tasks, hub) == made.tasks
    store.delete_network(made.network)
    assert set(store.query_networks()) == {elsewhere, second}
    assert store.get_taskhub_tasks(hub) == sorted(made.tasks)
    TOKENIZABLE_REGISTRY.clear()
    assert store.get_gufe(second).key == star(4, "second").key
    assert store.get_gufe(elsewhere).key == star().key
    register(store, "service")
    assert set(store.claim_taskhub_tasks(hub, "service", count=3)) == set(made.tasks)


def test_delete_network_without_a_hub(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    assert store.delete_network(network) == network
    assert store.query_networks() == []


def test_claimed_tasks_survive_the_deletion_of_their_network(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=2)
    register(store, "service")
    (task,) = store.claim_taskhub_tasks(made.hub, "service")
    store.delete_network(made.network)
    assert task is not None
    assert store.get_gufe(task).claim == "service"
    assert store.set_task_complete([task]) == [task]


def test_deleted_network_can_be_created_again(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=2)
    before = row_counts(store)
    store.delete_network(made.network)
    assert store.create_network(star(), scope) == made.network
    assert store.create_taskhub(made.network) == made.hub
    assert store.get_taskhub_tasks(made.hub) == []
    assert set(store.get_network_tasks(made.network)) == set(made.tasks)
    assert without_queue(added(before, row_counts(store))) == {"actions": -2}
