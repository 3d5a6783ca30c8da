"""Strategies agree with a model after any sequence of calls by users and strategists."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import text

from alchemistore import Scope, ScopedKey, StateStore, StrategyState
from alchemistore.tables import metadata
from tests.support.campaigns import star
from tests.support.gufe_classes import Ball
from tests.support.machines import run_machine, run_many

RECENTLY = datetime.now(UTC)
LONG_AGO = RECENTLY - timedelta(days=100)
SCOPE = Scope("org", "campaign", "project")
NETWORKS = 2

numbers = st.integers(0, NETWORKS - 1)
nth = st.integers(0, 9)
balls = st.sampled_from(["one", "two"])
changes = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["full", "partial", "partial", "disabled"]),
        "status": st.sampled_from(["awake", "dormant", "dormant", "error"]),
        "iterations": st.integers(0, 2),
        "last_iteration": st.sampled_from([None, LONG_AGO, LONG_AGO, RECENTLY]),
        "last_iteration_result_count": st.integers(0, 1),
        "max_tasks_per_transformation": st.integers(1, 2),
        "exception": st.sampled_from([None, ("E", "m")]),
    },
)


@dataclass
class Kept:
    """A network: its strategy, its state, and the lease on it."""

    network: ScopedKey
    strategy: str | None = None
    state: StrategyState = StrategyState()  # noqa: RUF009  (it is immutable)
    # The last lease, and whether it is open; what it was given with, and what happened since.
    lease: int | None = None
    is_open: bool = False
    is_over: bool = False
    leased: StrategyState = StrategyState()  # noqa: RUF009  (it is immutable)
    is_set_anew: bool = False

    def put(self, strategy: str | None, state: StrategyState) -> None:
        self.strategy, self.state, self.is_set_anew = strategy, state, True
        if not self.is_open or self.is_over:
            self.lease, self.is_open = None, False

    @property
    def is_due(self) -> bool:
        state = self.state
        return (
            self.strategy is not None
            and state.mode != "disabled"
            and state.status != "error"
            and state.last_iteration != RECENTLY
            and (not self.is_open or self.is_over)
        )

    def give(self, lease: int) -> None:
        self.lease, self.leased = lease, self.state
        self.is_open, self.is_over, self.is_set_anew = True, False, False

    def deliver(self, new: StrategyState) -> bool:
        """End the lease, with a state; return whether it counts."""
        self.is_open = False
        if self.is_set_anew:
            return False
        by_users = changed(self.leased, self.state)
        self.state = copied(self.state, {**changed(self.leased, new), **by_users})
        return True

    def overwrite(self, new: StrategyState) -> bool:
        """Take a state that does not say where it comes from."""
        progress = {"iterations", "last_iteration", "last_iteration_result_count"}
        found = changed(self.leased, new)
        sleeps_on = not found and new.status == "dormant"
        if self.is_open and (progress & found.keys() or sleeps_on):
            return self.deliver(new)
        self.state = new
        return True


def changed(before: StrategyState, after: StrategyState) -> dict[str, Any]:
    """Return the fields in which two states differ, as they are afterwards."""
    return {name: value for name, value in after if value != getattr(before, name)}


def copied(state: StrategyState, fields: dict[str, Any]) -> StrategyState:
    return StrategyState(**{**dict(state), **fields})


class Machine(RuleBasedStateMachine):
    """Two networks, users, and strategists whose leases run out now and then."""

    def __init__(self, store: StateStore) -> None:
        super().__init__()
        self.store = store
        with store.engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        self.kept = [
            Kept(store.create_network(star(1, f"number {number}"), SCOPE))
            for number in range(NETWORKS)
        ]
        self.leases = count(1)
        # What strategists and users hold: the network, the lease, and the state as it was read.
        self.taken: list[tuple[Kept, int, StrategyState]] = []
        self.read: list[tuple[Kept, StrategyState]] = []

    @rule(number=numbers, ball=balls, fields=st.none() | changes)
    def put(self, number: int, ball: str, fields: dict[str, Any] | None) -> None:
        kept, state = self.kept[number], None if fields is None else StrategyState(**fields)
        key = self.store.set_network_strategy(kept.network, Ball(ball), state)
        assert key is not None
        assert key.gufe_key == Ball(ball).key
        kept.put(ball, state or StrategyState())

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        kept = self.kept[number]
        assert self.store.set_network_strategy(kept.network, None) is None
        if kept.strategy is not None:
            kept.put(None, StrategyState())

    @rule()
    def take(self) -> None:
        due = {kept.network: kept for kept in self.kept if kept.is_due}
        found = self.store.get_strategies_for_execution()
        assert {network for network, _, _ in found} == due.keys()
        for network, strategy, state in found:
            kept = due[network]
            assert strategy.gufe_key == Ball(str(kept.strategy)).key
            assert state == kept.state
            kept.give(next(self.leases))
            assert kept.lease is not None
            self.taken.append((kept, kept.lease, state))

    @rule()
    def run_out(self) -> None:
        with self.store.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE network_strategies SET lease_ends_at = 'epoch'"
                    " WHERE lease_ends_at IS NOT NULL"
                )
            )
        for kept in self.kept:
            kept.is_over = True

    @precondition(lambda self: self.taken)
    @rule(which=nth, fields=changes)
    def deliver(self, which: int, fields: dict[str, Any]) -> None:
        kept, lease, state = self.taken[-1 - which % len(self.taken)]
        answer = self.store.update_strategy_state(
            kept.network, state.model_copy(update=dict(copied(state, fields)))
        )
        counts = kept.strategy is not None and lease == kept.lease
        if counts and kept.is_open:
            counts = kept.deliver(copied(state, fields))
        elif counts:
            kept.state = copied(kept.state, changed(state, copied(state, fields)))
        assert answer == (kept.network if counts else None)

    @rule(number=numbers, fields=changes, whence=st.sampled_from(["leased", "now", "nowhere"]))
    def overwrite(self, number: int, fields: dict[str, Any], whence: str) -> None:
        kept = self.kept[number]
        start = {"leased": kept.leased, "now": kept.state}.get(whence, StrategyState())
        new = copied(start, fields)
        answer = self.store.update_strategy_state(kept.network, new)
        counts = kept.strategy is not None and kept.overwrite(new)
        assert answer == (kept.network if counts else None)

    @rule(number=numbers)
    def look(self, number: int) -> None:
        state = self.store.get_network_strategy_state(self.kept[number].network)
        if state is not None:
            self.read.append((self.kept[number], state))

    @precondition(lambda self: self.read)
    @rule(which=nth, fields=changes)
    def change(self, which: int, fields: dict[str, Any]) -> None:
        kept, state = self.read[-1 - which % len(self.read)]
        new = copied(state, fields)
        answer = self.store.update_strategy_state(kept.network, state.model_copy(update=dict(new)))
        assert answer == (None if kept.strategy is None else kept.network)
        if kept.strategy is not None:
            kept.state = copied(kept.state, changed(state, new))

    @invariant()
    def everything_agrees(self) -> None:
        for kept in self.kept:
            strategy = self.store.get_network_strategy(kept.network)
            state = self.store.get_network_strategy_state(kept.network)
            if kept.strategy is None:
                assert (strategy, state) == (None, None)
            else:
                assert (strategy, state) == (Ball(kept.strategy), kept.state)
        used = {Ball(kept.strategy).key for kept in self.kept if kept.strategy is not None}
        for ball in ("one", "two"):
            key = Ball(ball).key
            assert self.store.check_existence(f"{key}-{SCOPE}") == (key in used)


def test_strategies_agree_with_the_model(store: StateStore) -> None:
    run_machine(partial(Machine, store), 10, 20)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_strategies_agree_with_the_model_in_many_random_sequences(store: StateStore) -> None:
    run_many(partial(Machine, store))
