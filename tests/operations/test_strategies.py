"""Strategies of networks."""

from __future__ import annotations

import uuid
from typing import Any

import gufe
import pytest
from gufe.tokenization import TOKENIZABLE_REGISTRY

from alchemistore import Scope, ScopedKey, StateStore
from tests.support.campaigns import campaign, star
from tests.support.gufe_classes import Ball, Effort, PushProtocol, system


def strategy(mode: str = "work") -> Any:
    """Any object of gufe does; a protocol has settings in it."""
    return PushProtocol(Effort(mode))


def test_strategy_is_returned(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    assert store.get_strategy(network) is None
    made = Ball("strategy")
    key = store.set_strategy(made, network)
    assert key == store.get_scoped_key(made, scope)
    assert store.get_strategy(network) is made
    del made
    TOKENIZABLE_REGISTRY.clear()
    assert store.get_strategy(network) == store.get_gufe(str(key)) == Ball("strategy")


def test_new_strategy_replaces_the_old_one(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    first = store.set_strategy(strategy(), str(network))
    second = store.set_strategy(Ball("second"), str(network))
    assert first != second
    assert store.get_strategy(str(network)) == Ball("second")


def test_setting_it_again_changes_nothing(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    assert store.set_strategy(strategy(), network) == store.set_strategy(strategy(), network)
    assert store.get_strategy(network) == strategy()


def test_none_clears_the_strategy(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    store.set_strategy(strategy(), network)
    assert store.set_strategy(None, network) is None
    assert store.get_strategy(network) is None
    assert store.set_strategy(None, network) is None


def test_networks_and_scopes_have_strategies_of_their_own(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    one, two, elsewhere = (
        store.create_network(star(name=name), at)
        for name, at in (("one", scope), ("two", scope), ("one", other_scope))
    )
    store.set_strategy(Ball("one"), one)
    key = store.set_strategy(Ball("one"), elsewhere)
    assert key is not None
    assert key.scope == other_scope
    assert [store.get_strategy(network) for network in (one, two, elsewhere)] == [
        Ball("one"),
        None,
        Ball("one"),
    ]
    store.set_strategy(None, one)
    assert store.get_strategy(elsewhere) == Ball("one")


def test_strategy_leaves_the_members_of_the_network(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    store.set_strategy(strategy(), made.network)
    assert store.get_network_transformations(made.network) == made.transformations
    assert store.get_gufe(made.network) == star()
    assert store.create_network(star(), scope) == made.network
    assert store.get_strategy(made.network) == strategy()


def test_network_created_again_has_no_strategy(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    key = store.set_strategy(strategy(), network)
    store.delete_network(network)
    assert key is not None
    assert store.check_existence(key)
    assert store.create_network(star(), scope) == network
    assert store.get_strategy(network) is None


def test_parts_shared_by_strategy_and_network_are_stored_in_any_order(
    store: StateStore, scope: Scope
) -> None:
    first = store.create_network(star(name="first"), scope)
    store.set_strategy(PushProtocol(Effort("fail")), first)
    second = store.create_network(star(name="second", mode="fail"), scope)
    assert store.get_gufe(second) == star(name="second", mode="fail")


@pytest.mark.parametrize(
    "wrong",
    [
        system("new"),
        gufe.Transformation(system("a"), system("b"), strategy()),
        gufe.NonTransformation(system("a"), strategy()),
        star(name="strategy"),
        gufe.AlchemicalNetwork(name="empty"),
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_network_member_is_refused_as_strategy(store: StateStore, scope: Scope, wrong: Any) -> None:
    network = store.create_network(star(), scope)
    with pytest.raises(ValueError, match="a strategy cannot contain"):
        store.set_strategy(wrong, network)
    with pytest.raises(KeyError):
        store.get_scoped_key(wrong, scope)
    assert store.get_strategy(network) is None


@pytest.mark.parametrize(
    "wrong", ["adaptive", 1, {"a": 1}, [], object()], ids=lambda wrong: type(wrong).__name__
)
def test_other_type_than_a_gufe_object_is_a_value_error(
    store: StateStore, scope: Scope, wrong: Any
) -> None:
    network = store.create_network(star(), scope)
    with pytest.raises(ValueError, match="expected a gufe object or None"):
        store.set_strategy(wrong, network)


def test_missing_network_is_a_key_error(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    missing = ScopedKey.from_str(f"AlchemicalNetwork-{uuid.uuid4().hex}-{scope}")
    elsewhere = ScopedKey.from_str(f"{network.gufe_key}-other-campaign-project")
    for key in (missing, elsewhere, f"AlchemicalNetwork-short-{scope}"):
        with pytest.raises(KeyError, match="No such object in database"):
            store.set_strategy(Ball("new"), key)
        with pytest.raises(KeyError, match="No such object in database"):
            store.get_strategy(key)
    with pytest.raises(KeyError):
        store.get_scoped_key(Ball("new"), Scope())


def test_key_of_another_class_is_a_value_error(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    for key in (made.hub, made.tasks[0], made.transformations[0], "nonsense", ""):
        with pytest.raises(ValueError, match="key"):
            store.set_strategy(None, key)
        with pytest.raises(ValueError, match="key"):
            store.get_strategy(key)
