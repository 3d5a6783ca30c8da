"""Strategists and users that change strategies at the same time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import pytest

from alchemistore import Scope, ScopedKey, StateStore, StrategyModeEnum, StrategyState
from tests.support.campaigns import star
from tests.support.concurrency import (
    Running,
    committed_or_rolled_back,
    run_concurrently,
    run_while_open,
)
from tests.support.gufe_classes import Ball

DISABLED = {"mode": StrategyModeEnum.disabled}


@pytest.fixture
def network(store: StateStore, scope: Scope) -> ScopedKey:
    """A network with a strategy."""
    network = store.create_network(star(), scope)
    store.set_network_strategy(network, Ball("strategy"))
    return network


def done(state: StrategyState) -> StrategyState:
    return state.model_copy(
        update={"iterations": state.iterations + 1, "last_iteration": datetime.now(UTC)}
    )


def test_strategists_at_the_same_moment_share_the_strategies(
    store: StateStore, scope: Scope
) -> None:
    networks = [store.create_network(star(1, str(number)), scope) for number in range(20)]
    for network in networks:
        store.set_network_strategy(network, Ball("strategy"))
    answers = run_concurrently([store.get_strategies_for_execution] * 6)
    given = [network for answer in answers for network, _, _ in answer]
    # A strategy that one strategist was about to get may be left out for all the others.
    assert len(given) == len(set(given))
    given += [network for network, _, _ in store.get_strategies_for_execution()]
    assert sorted(given) == sorted(networks)


@committed_or_rolled_back
def test_strategy_being_leased_is_left_out(
    store: StateStore, network: ScopedKey, commit: bool
) -> None:
    first, second = run_while_open(
        store,
        lambda tx: tx.get_strategies_for_execution(),
        store.get_strategies_for_execution,
        commit=commit,
    )
    assert len(first) == 1
    assert not second.waited
    assert second.result() == []
    assert len(store.get_strategies_for_execution()) == (0 if commit else 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda tx, network: tx.set_network_strategy(network, Ball("another")),
        lambda tx, network: tx.set_network_strategy(network, None),
        lambda tx, network: tx.update_strategy_state(
            network, StrategyState(mode=StrategyModeEnum.disabled)
        ),
        lambda tx, network: tx.delete_network(network),
    ],
    ids=["set", "removed", "updated", "deleted"],
)
@committed_or_rolled_back
def test_strategy_being_changed_is_left_out(
    store: StateStore,
    network: ScopedKey,
    change: Callable[[StateStore, ScopedKey], object],
    commit: bool,
) -> None:
    _, second = run_while_open(
        store,
        lambda tx: change(tx, network),
        store.get_strategies_for_execution,
        commit=commit,
    )
    assert not second.waited
    assert second.result() == []


@committed_or_rolled_back
def test_strategist_and_user_update_at_the_same_time(
    store: StateStore, network: ScopedKey, commit: bool
) -> None:
    ((_, _, leased),) = store.get_strategies_for_execution()
    read = store.get_network_strategy_state(network)
    assert read is not None
    after = done(leased)
    _, second = run_while_open(
        store,
        lambda tx: tx.update_strategy_state(network, read.model_copy(update=DISABLED)),
        partial(store.update_strategy_state, network, after),
        commit=commit,
    )
    assert second.waited
    assert second.result() == network
    expected = after.model_copy(update=DISABLED) if commit else after
    assert store.get_network_strategy_state(network) == expected


@committed_or_rolled_back
def test_update_waits_for_a_new_strategy_and_leaves_it_alone(
    store: StateStore, network: ScopedKey, commit: bool
) -> None:
    ((_, _, leased),) = store.get_strategies_for_execution()
    after, fresh = done(leased), StrategyState(mode=StrategyModeEnum.full)
    _, second = run_while_open(
        store,
        lambda tx: tx.set_network_strategy(network, Ball("another"), fresh),
        partial(store.update_strategy_state, network, after),
        commit=commit,
    )
    assert second.waited
    assert second.result() == (None if commit else network)
    assert store.get_network_strategy_state(network) == (fresh if commit else after)


@committed_or_rolled_back
def test_update_waits_for_the_deletion_of_its_network(
    store: StateStore, network: ScopedKey, commit: bool
) -> None:
    ((_, _, leased),) = store.get_strategies_for_execution()
    _, second = run_while_open(
        store,
        lambda tx: tx.delete_network(network),
        partial(store.update_strategy_state, network, done(leased)),
        commit=commit,
    )
    assert second.waited
    assert second.result() == (None if commit else network)


@committed_or_rolled_back
def test_strategy_being_removed_as_unused_can_be_set_elsewhere(
    store: StateStore, scope: Scope, network: ScopedKey, commit: bool
) -> None:
    other = store.create_network(star(name="other"), scope)
    _, second = run_while_open(
        store,
        lambda tx: tx.set_network_strategy(network, None),
        partial(store.set_network_strategy, other, Ball("strategy")),
        commit=commit,
    )
    assert second.waited
    assert second.result() is not None
    assert store.get_network_strategy(other) == Ball("strategy")
    assert (store.get_network_strategy(network) is None) == commit


@committed_or_rolled_back
def test_strategy_being_set_elsewhere_is_not_removed(
    store: StateStore, scope: Scope, network: ScopedKey, commit: bool
) -> None:
    other = store.create_network(star(name="other"), scope)
    key, second = run_while_open(
        store,
        lambda tx: tx.set_network_strategy(other, Ball("strategy")),
        partial(store.set_network_strategy, network, None),
        commit=commit,
    )
    assert not second.waited
    assert second.result() is None
    assert store.check_existence(key)
    assert (store.get_network_strategy(other) == Ball("strategy")) == commit


def test_strategies_swapped_by_many_users_at_once_stay_whole(
    store: StateStore, scope: Scope
) -> None:
    networks = [store.create_network(star(1, str(number)), scope) for number in range(4)]
    for turn in range(5):
        run_concurrently(
            [
                partial(store.set_network_strategy, network, Ball(str((turn + number) % 2)))
                for number, network in enumerate(networks)
            ]
        )
    assert [store.get_network_strategy(network) for network in networks] == [
        Ball(str((4 + number) % 2)) for number in range(4)
    ]


def test_state_is_read_while_it_is_changed(store: StateStore, network: ScopedKey) -> None:
    with store.transaction() as tx:
        tx.update_strategy_state(network, StrategyState(mode=StrategyModeEnum.full))
        reading = Running(partial(store.get_network_strategy_state, network))
        assert reading.result() == StrategyState()


Act = Callable[[StateStore, ScopedKey, StrategyState], object]
ACTS: dict[str, Act] = {
    "lease": lambda tx, network, leased: tx.get_strategies_for_execution(),
    "look": lambda tx, network, leased: tx.get_strategies_for_execution(lease=0),
    "deliver": lambda tx, network, leased: tx.update_strategy_state(network, done(leased)),
    "deliver rebuilt": lambda tx, network, leased: tx.update_strategy_state(
        network, StrategyState(**dict(done(leased)))
    ),
    "disable": lambda tx, network, leased: tx.update_strategy_state(
        network, leased.read().model_copy(update=DISABLED)
    ),
    "overwrite": lambda tx, network, leased: tx.update_strategy_state(
        network, StrategyState(sleep_interval=1)
    ),
    "set": lambda tx, network, leased: tx.set_network_strategy(network, Ball("another")),
    "remove": lambda tx, network, leased: tx.set_network_strategy(network, None),
    "delete": lambda tx, network, leased: tx.delete_network(network),
}


def outcome(store: StateStore, network: ScopedKey) -> tuple[object, ...]:
    """Return the strategy, its state without times, and whether it can be had now."""
    state = store.get_network_strategy_state(network)
    return (
        store.get_network_strategy(network),
        None if state is None else state.model_copy(update={"last_iteration": None}),
        [found for found, _, _ in store.get_strategies_for_execution(lease=0)],
    )


@pytest.mark.parametrize("first", ACTS)
def test_two_concurrent_calls_have_the_effect_of_a_serial_order(
    store: StateStore, scope: Scope, first: str
) -> None:
    def arena() -> tuple[ScopedKey, StrategyState]:
        network = store.create_network(star(), scope)
        store.set_network_strategy(network, None)
        store.set_network_strategy(network, Ball("strategy"))
        ((_, _, leased),) = store.get_strategies_for_execution()
        return network, leased

    def ended(network: ScopedKey) -> tuple[object, ...]:
        found = outcome(store, network)
        assert list(store.problems()) == []
        with suppress(KeyError):
            store.delete_network(network)
        return found

    def in_turn(*names: str) -> tuple[object, ...]:
        network, leased = arena()
        for name in names:
            with suppress(KeyError):
                ACTS[name](store, network, leased)
        return ended(network)

    for second in ACTS:
        network, leased = arena()
        with store.transaction() as tx:
            ACTS[first](tx, network, leased)
            other = Running(partial(ACTS[second], store, network, leased))
            waited = other.waits_for(tx)
        with suppress(KeyError):
            other.result()
        found = ended(network)
        pair = (first, second)
        orders: list[tuple[str, ...]] = [pair] if waited else [pair, (second, first)]
        # A strategist passes over a strategy that somebody is at.
        orders += [(first,)] if second == "lease" else []
        assert any(found == in_turn(*order) for order in orders), (first, second, waited, found)
