"""Pairs of open transactions on a network, its hub, its state and its strategy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from alchemistore import Scope, ScopedKey, StateStore, StrategyModeEnum, StrategyState
from tests.support.campaigns import Campaign, campaign, star
from tests.support.gufe_classes import Ball
from tests.support.pairs import Act, Pairs


@dataclass(frozen=True)
class Arena:
    """A network with a strategy that has been leased, and a task that is not on the hub."""

    made: Campaign
    leased: StrategyState

    @property
    def network(self) -> ScopedKey:
        return self.made.network

    @property
    def scope(self) -> Scope:
        return self.made.network.scope


class Ring:
    """A source of arenas, each in a scope of its own."""

    def __init__(self, store: StateStore) -> None:
        self.store, self.count = store, 0

    @contextmanager
    def arena(self, *names: str) -> Iterator[Arena]:
        """Return the start for these calls: a strategy without a lease for `lease`."""
        self.count += 1
        scope = Scope("org", "camp", f"arena{self.count}")
        with self.store.transaction() as tx:
            made = campaign(tx, scope, arms=1, tasks=1, action=False)
            tx.set_network_strategy(made.network, Ball("first"))
            [(_, _, leased)] = tx.get_strategies_for_execution(
                [scope], lease=0 if "lease" in names else 3600
            )
        yield Arena(made, leased)

    def outcome(self, arena: Arena) -> object:
        network = arena.network
        with self.store.transaction(readonly=True) as tx:
            strategy, hub = tx.get_network_strategy(network), tx.get_taskhub(network)
            state = tx.get_network_strategy_state(network)
            return {
                "network": tx.get_network_state([network]),
                "transformations": len(tx.get_network_transformations(network)),
                "hub": None if hub is None else tx.get_taskhub_weight(network),
                "tasks": [] if hub is None else tx.get_task_weights(arena.made.tasks, hub),
                "strategy": strategy and strategy.name,
                "state": state and state.to_dict(),
            }


def progress(tx: StateStore, arena: Arena) -> object:
    after = arena.leased.model_copy(update={"iterations": 1})
    return tx.update_strategy_state(arena.network, after) is not None


def disable(tx: StateStore, arena: Arena) -> object:
    state = StrategyState(mode=StrategyModeEnum.disabled)
    return tx.update_strategy_state(arena.network, state) is not None


ACTS: dict[str, Act[Arena]] = {
    "set strategy": lambda tx, arena: (
        tx.set_network_strategy(arena.network, Ball("second")) is not None
    ),
    "remove strategy": lambda tx, arena: tx.set_network_strategy(arena.network, None),
    "progress": progress,
    "disable": disable,
    "lease": lambda tx, arena: len(tx.get_strategies_for_execution([arena.scope])),
    "assemble": lambda tx, arena: (
        tx.assemble_network(star(1), arena.scope, "inactive")[0] == arena.network
    ),
    "set state": lambda tx, arena: (
        tx.set_network_state([arena.network], ["invalid"]) == [arena.network]
    ),
    "set hub weight": lambda tx, arena: (
        tx.set_taskhub_weight([arena.network], [0.25]) == [arena.network]
    ),
    "create hub": lambda tx, arena: tx.create_taskhub(arena.network) == arena.made.hub,
    "delete hub": lambda tx, arena: tx.delete_taskhub(arena.network) == arena.made.hub,
    "delete network": lambda tx, arena: tx.delete_network(arena.network) == arena.network,
    "action": lambda tx, arena: (
        tx.action_tasks(arena.made.tasks, arena.made.hub) == arena.made.tasks
    ),
}
# Each pair once.
PARTNERS = {
    "set strategy": ["set strategy", "remove strategy", "progress", "disable", "lease", "assemble"],
    "remove strategy": ["remove strategy", "progress", "lease"],
    "progress": ["progress", "disable", "set state"],
    "lease": ["lease", "progress", "disable"],
    "assemble": ["assemble", "set state", "set hub weight", "create hub", "delete hub", "action"],
    "delete network": [*ACTS],
    "delete hub": ["set hub weight", "create hub", "delete hub", "action"],
    "set state": ["set state"],
    "set hub weight": ["set hub weight", "action"],
}


@pytest.mark.parametrize("one", PARTNERS)
def test_calls_about_networks_have_the_effect_of_a_serial_order(
    store: StateStore, one: str
) -> None:
    # A strategy that is being changed is left out.
    pairs = Pairs(store, Ring(store), ACTS, passing={"lease": 0})
    pairs.require_serial_orders(one, PARTNERS[one])
