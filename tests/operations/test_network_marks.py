"""Networks with hub and mark in one call, and the states of networks."""

from __future__ import annotations

import uuid
from typing import Any

import gufe
import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY

from alchemistore import NetworkMark, NetworkStateEnum, Scope, ScopedKey, StateStore, TaskHub
from tests.support.campaigns import ZERO, campaign, register, star
from tests.support.databases import row_counts
from tests.support.gufe_classes import Effort, PushProtocol, keyed_chain_of, system

INVALID_STATE = r"'notastate' is not a valid state\. Valid values include: \['"
NO_NETWORK = "^`network` ScopedKey does not correspond to an `AlchemicalNetwork`"


# Assembling


def test_assemble_network_stores_network_hub_and_mark(store: StateStore, scope: Scope) -> None:
    network, hub, mark = store.assemble_network(star(), scope)
    assert store.query_networks() == [network]
    assert store.query_taskhubs() == [hub]
    assert hub.gufe_key == TaskHub(network=str(network)).key
    assert mark.gufe_key == NetworkMark(target=str(network)).key
    assert {key.scope for key in (network, hub, mark)} == {scope}
    assert store.get_taskhub(network) == hub
    assert store.get_taskhub_weight(network) == 0.5
    assert store.get_network_state(network) == "active"
    assert len(store.get_network_transformations(network)) == 3


def test_mark_is_read_by_its_key(store: StateStore, scope: Scope) -> None:
    network, _, mark = store.assemble_network(star(), scope, "inactive")
    expected = NetworkMark(target=str(network), state=NetworkStateEnum.inactive)
    assert store.check_existence(mark)
    assert store.get_gufe(mark) == expected
    assert store.get_scoped_key(expected, scope) == mark
    with pytest.raises(ValueError, match="NetworkMark"):
        store.get_keyed_chain(mark)
    store.delete_network(network)
    assert not store.check_existence(mark)
    with pytest.raises(KeyError, match="No such object in database"):
        store.get_gufe(mark)


def test_assemble_network_is_create_network_and_create_taskhub(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    network, hub, mark = store.assemble_network(star(), scope)
    here = row_counts(store)
    created = store.create_network(star(), other_scope)
    assert store.create_taskhub(created).gufe_key != hub.gufe_key
    both = row_counts(store)
    assert {name: 2 * n for name, n in here.items() if name not in ("scopes", "requests")} == {
        name: n for name, n in both.items() if name not in ("scopes", "requests")
    }
    assert store.get_network_state(created) == "active"
    assert created.gufe_key == network.gufe_key
    assert mark.gufe_key != NetworkMark(target=str(created)).key


def test_assemble_network_again_keeps_weight_and_tasks_and_sets_the_state(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=3)
    store.set_taskhub_weight(made.network, 0.9)
    before = row_counts(store)
    for state in ("inactive", NetworkStateEnum.deleted, "deleted", "active"):
        keys = store.assemble_network(star(), scope, state)
        assert keys[:2] == (made.network, made.hub)
        assert store.get_network_state([made.network]) == [state]
    store.set_network_state([made.network], ["invalid"])
    store.assemble_network(network=star(), scope=str(scope))
    assert store.get_network_state(made.network) == "active"
    assert store.get_taskhub_weight(made.network) == 0.9
    assert set(store.get_taskhub_tasks(made.hub)) == set(made.tasks)
    after = row_counts(store)
    assert {**after, "requests": 0} == {**before, "requests": 0}


def test_create_network_again_keeps_the_state(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    store.set_network_state([network], ["inactive"])
    assert store.create_network(star(), scope) == network
    assert store.create_network(keyed_chain_of(star()), scope) == network
    assert store.get_network_state([network]) == ["inactive"]


def test_assemble_network_adds_hub_and_mark_to_a_network_without_them(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1)
    store.delete_taskhub(made.network)
    assert store.get_network_state(made.network) == "active"
    network, hub, _ = store.assemble_network(star(), scope, "inactive")
    assert (network, hub) == (made.network, made.hub)
    assert store.get_taskhub_tasks(hub) == []
    assert store.get_network_state(network) == "inactive"


def test_assemble_network_takes_a_keyed_chain(store: StateStore, scope: Scope) -> None:
    chain = keyed_chain_of(star())
    TOKENIZABLE_REGISTRY.clear()
    network, hub, _ = store.assemble_network(chain, scope)
    assert network.gufe_key == chain[-1][0]
    assert store.query_taskhubs() == [hub]


def test_refused_network_leaves_nothing_behind(store: StateStore, scope: Scope) -> None:
    loop = gufe.Transformation(system("a"), system("a"), PushProtocol(Effort()))
    refused: list[tuple[Any, Any, Any, str]] = [
        (gufe.AlchemicalNetwork([loop]), scope, "active", "uses the same `ChemicalSystem`"),
        (star(), scope, "notastate", INVALID_STATE),
        (star(), scope, None, "None is not a valid state"),
        (star(), Scope("org"), "active", "not specific"),
        (star(), "nonsense", "active", "not a scope"),
        ("star", scope, "active", "expected an AlchemicalNetwork"),
    ]
    for network, at, state, message in refused:
        with pytest.raises((ValueError, TypeError), match=message):
            store.assemble_network(network, at, state)
    assert set(row_counts(store).values()) == {0}


def test_assemble_network_of_nothing(store: StateStore, scope: Scope) -> None:
    network, hub, _ = store.assemble_network(gufe.AlchemicalNetwork([], name="empty"), scope)
    assert store.get_network_transformations(network) == []
    assert store.get_taskhub(network) == hub


def test_repeated_request_returns_the_three_keys_and_changes_nothing(
    store: StateStore, scope: Scope
) -> None:
    request = uuid.uuid4()
    keys = store.assemble_network(star(), scope, request=request)
    store.set_network_state([keys[0]], ["invalid"])
    again = store.assemble_network(star(), scope, "active", request=request)
    assert again == keys
    assert isinstance(again, tuple)
    assert store.get_network_state(keys[0]) == "invalid"
    with pytest.raises(ValueError, match="other arguments"):
        store.assemble_network(star(), scope, "inactive", request=request)


# States


def test_states_of_networks_are_aligned(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    one, two = (store.create_network(star(1, name), scope) for name in ("one", "two"))
    missing: list[Any] = [None, f"AlchemicalNetwork-{ZERO}-{scope}", "nonsense", ""]
    missing.append(f"{one.gufe_key}-{other_scope}")
    given = [two, *missing, str(one), two]
    states = ["invalid", *["deleted"] * len(missing), "inactive", "active"]
    nothing = [None] * len(missing)
    assert store.set_network_state(given, states) == [two, *nothing, one, two]
    # The last state of a network counts.
    assert store.get_network_state(given) == ["active", *nothing, "inactive", "active"]
    assert store.set_network_state(iter([one, two]), iter(["deleted", "invalid"])) == [one, two]
    assert store.get_network_state(networks=[one, two]) == ["deleted", "invalid"]
    assert store.set_network_state(networks=[one, two], states="active") == [one, two]
    assert store.get_network_state([one, two]) == ["active", "active"]
    assert store.get_network_state([]) == store.set_network_state([], []) == []


def test_state_of_one_network(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    for state in NetworkStateEnum:
        assert store.set_network_state(network, state) == network
        found = store.get_network_state(str(network))
        assert (found, type(found)) == (state.value, str)
    absent = f"AlchemicalNetwork-{ZERO}-{scope}"
    with pytest.raises(KeyError, match="No such object in database"):
        store.get_network_state(absent)
    with pytest.raises(KeyError, match="No such object in database"):
        store.set_network_state(absent, "active")


def test_refused_states_change_nothing(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    network = made.network
    refused: list[tuple[Any, Any, str]] = [
        ([network], ["notastate"], INVALID_STATE),
        ([network, network], ["inactive", "notastate"], INVALID_STATE),
        ([network], [None], "None is not a valid state"),
        ([network], ["Inactive"], "'Inactive' is not a valid state"),
        ([network, None], ["inactive"], "2 networks, but 1 states"),
        ([network], [], "1 networks, but 0 states"),
        ([network, made.hub], ["inactive", "active"], NO_NETWORK),
        ([network, str(made.tasks[0])], ["inactive", "active"], NO_NETWORK),
        (made.hub, "inactive", NO_NETWORK),
        ("nonsense", "inactive", "not a scoped key"),
    ]
    for networks, states, message in refused:
        with pytest.raises(ValueError, match=message):
            store.set_network_state(networks, states)
    with pytest.raises(ValueError, match=NO_NETWORK):
        store.get_network_state(made.hub)
    assert store.get_network_state([network, made.hub]) == ["active", None]
    assert store.get_network_state([network]) == ["active"]


def test_network_without_a_mark_is_active_and_can_get_a_state(
    store: StateStore, scope: Scope
) -> None:
    network = store.create_network(star(), scope)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM network_marks")
    assert store.get_network_state(network) == "active"
    assert store.set_network_state([network], ["inactive"]) == [network]
    assert store.get_network_state(network) == "inactive"
    mark = NetworkMark(target=str(network)).key
    assert store.get_gufe(ScopedKey.from_str(f"{mark}-{scope}")).state == "inactive"


def test_deleted_network_has_no_state_and_starts_anew(store: StateStore, scope: Scope) -> None:
    network, _, mark = store.assemble_network(star(), scope, "invalid")
    store.delete_network(network)
    assert store.get_network_state([network]) == [None]
    assert not store.check_existence(mark)
    assert store.create_network(star(), scope) == network
    assert store.get_network_state([network]) == ["active"]


def test_state_does_not_stop_claims(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    store.set_network_state([made.network], ["deleted"])
    register(store, "service")
    assert store.claim_taskhub_tasks(made.hub, "service") == made.tasks
