"""Pairs of open transactions on restart patterns and the tasks that they apply to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from alchemistore import Scope, ScopedKey, StateStore
from tests.support.campaigns import Campaign, campaign, created, register
from tests.support.history import history_of
from tests.support.pairs import Act, Pairs
from tests.support.restarts import NAN, fail_in_steps
from tests.support.results import ref


@dataclass(frozen=True)
class Arena:
    """Two tasks on a hub with the pattern `NaN`.

    A service has claimed one of them. The other one is in error and was restarted before. It is
    also on another hub, whose pattern is at its maximum.
    """

    made: Campaign
    other: Campaign
    claimed: ScopedKey
    failed: ScopedKey
    service: str

    @property
    def hub(self) -> ScopedKey:
        return self.made.hub

    @property
    def tasks(self) -> list[ScopedKey]:
        return [self.claimed, self.failed]

    def named(self, keys: Iterable[ScopedKey | None]) -> list[str | None]:
        """Return the names of tasks."""
        names = {None: None, self.claimed: "claimed", self.failed: "failed"}
        return [names[key] for key in keys]


class Ring:
    """A source of arenas, each in a scope of its own."""

    def __init__(self, store: StateStore) -> None:
        self.store, self.count = store, 0

    @contextmanager
    def arena(self, *names: str) -> Iterator[Arena]:
        with self.store.transaction() as tx:
            arena = self._put_up(tx)
        yield arena

    def _put_up(self, tx: StateStore) -> Arena:
        self.count += 1
        scope, service = Scope("org", "camp", f"arena{self.count}"), f"service {self.count}"
        made, other = (campaign(tx, scope, arms=1, name=name) for name in ("one", "other"))
        claimed, failed = created(tx.create_tasks(made.transformations * 2))
        tx.action_tasks([failed], made.hub)
        tx.action_tasks([failed], other.hub)
        fail_in_steps(tx, failed, NAN)
        # Each resolves the task.
        tx.add_task_restart_patterns(made.hub, ["NaN"], 3)
        tx.set_task_running([failed])
        tx.set_task_error([failed])
        tx.add_task_restart_patterns(other.hub, ["coordinate"], 1)
        tx.set_task_running([failed])
        tx.set_task_error([failed])
        tx.action_tasks([claimed], made.hub)
        register(tx, service)
        assert tx.claim_taskhub_tasks(made.hub, service) == [claimed]
        return Arena(made, other, claimed, failed, service)

    def outcome(self, arena: Arena) -> object:
        hubs = {arena.hub: "one", arena.other.hub: "other"}
        with self.store.transaction(readonly=True) as tx:
            actioned = tx.get_taskhub_actioned_tasks(list(hubs))
            patterns = tx.get_task_restart_patterns(list(hubs))
            histories = [history_of(tx, task) for task in arena.tasks]
        return {
            "statuses": [history.changes[-1].status for history in histories],
            "hubs": [sorted(map(str, arena.named(on_hub))) for on_hub in actioned],
            "patterns": [sorted(of_hub) for of_hub in patterns.values()],
            "restarts": [
                sorted((hubs[one.taskhub], one.pattern, one.retries) for one in history.restarts)
                for history in histories
            ],
            "attempts": [attempt.outcome for attempt in histories[0].attempts],
        }


def settle(tx: StateStore, arena: Arena) -> object:
    failure = ref(arena.claimed.scope, ok=False)
    answer = tx.settle_task(arena.claimed, failure, arena.service, 1, [NAN])
    return answer.status, answer.outcome


def deliver(tx: StateStore, arena: Arena) -> object:
    failure = ref(arena.claimed.scope, ok=False)
    answer = tx.deliver_result(arena.claimed, failure, arena.service)
    return answer.status, answer.settled


ACTS: dict[str, Act[Arena]] = {
    "settle": settle,
    "deliver": deliver,
    "resolve": lambda tx, arena: tx.resolve_task_restarts(arena.tasks),
    "add": lambda tx, arena: tx.add_task_restart_patterns(arena.hub, ["Particle", "NaN"], 2),
    "remove": lambda tx, arena: tx.remove_task_restart_patterns(arena.hub, ["NaN", "Particle"]),
    "clear": lambda tx, arena: tx.clear_task_restart_patterns(arena.hub),
    "set maximum": lambda tx, arena: tx.set_task_restart_patterns_max_retries(
        arena.hub, ["NaN", "Particle"], 1
    ),
    "cancel": lambda tx, arena: arena.named(tx.cancel_tasks(arena.tasks, arena.hub)),
    "action": lambda tx, arena: arena.named(tx.action_tasks(arena.tasks, arena.other.hub)),
    "set invalid": lambda tx, arena: arena.named(tx.set_task_invalid(arena.tasks)),
    "delete hub": lambda tx, arena: str(tx.delete_taskhub(arena.made.network)) == str(arena.hub),
    "deregister": lambda tx, arena: tx.deregister_computeservice(arena.service) == arena.service,
}
# Each pair once. `clear` locks what `remove` locks, and `set maximum` locks no tasks.
PARTNERS = {
    "settle": [*ACTS],
    "deliver": [name for name in ACTS if name not in ("settle", "clear", "set maximum")],
    "resolve": [name for name in ACTS if name not in ("settle", "deliver")],
    "add": ["add", "remove", "clear", "set maximum", "cancel", "action", "delete hub"],
    "remove": ["remove", "set maximum", "cancel", "set invalid", "delete hub"],
    "clear": ["clear", "cancel"],
    "set maximum": ["set maximum", "delete hub"],
}


@pytest.mark.parametrize("one", PARTNERS)
def test_calls_with_patterns_have_the_effect_of_a_serial_order(store: StateStore, one: str) -> None:
    # The early ones read the patterns before they lock the tasks.
    pairs = Pairs(store, Ring(store), ACTS, early=("settle", "resolve"))
    pairs.require_serial_orders(one, PARTNERS[one])
