"""Pairs of open transactions that create and action tasks within a quota."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from alchemistore import Scope, ScopedKey, StateStore
from tests.support.campaigns import Campaign, campaign, created, register
from tests.support.history import statuses
from tests.support.pairs import Act, Pairs


@dataclass(frozen=True)
class Arena:
    """A transformation and a hub that take one task more each.

    The first task is on the hub and running, the others are waiting.
    """

    made: Campaign
    tasks: list[ScopedKey]
    service: str

    @property
    def hub(self) -> ScopedKey:
        return self.made.hub

    @property
    def scope(self) -> Scope:
        return self.made.hub.scope


class Ring:
    """A source of arenas, each in a scope of its own."""

    def __init__(self, store: StateStore) -> None:
        self.store, self.count = store, 0

    @contextmanager
    def arena(self, *names: str) -> Iterator[Arena]:
        self.count += 1
        scope, service = Scope("org", "camp", f"arena{self.count}"), f"service {self.count}"
        with self.store.transaction() as tx:
            made = campaign(tx, scope, arms=1)
            tasks = created(tx.create_tasks(made.transformations * 3))
            tx.action_tasks(tasks[:1], made.hub)
            register(tx, service)
            assert tx.claim_taskhub_tasks(made.hub, service) == tasks[:1]
            tx.set_quota(scope, waiting_per_transformation=3, actioned_per_hub=2)
        yield Arena(made, tasks, service)

    def outcome(self, arena: Arena) -> object:
        with self.store.transaction(readonly=True) as tx:
            return {
                "statuses": statuses(tx, arena.tasks),
                "counts": tx.get_transformation_status(arena.made.transformations[0]),
                "on the hub": [
                    weight is not None for weight in tx.get_task_weights(arena.tasks, arena.hub)
                ],
                "quota": tx.get_quota(arena.scope).model_dump(exclude={"scope"}),
            }


def done(answers: Sequence[ScopedKey | None]) -> list[bool]:
    return [answer is not None for answer in answers]


ACTS: dict[str, Act[Arena]] = {
    "create": lambda tx, arena: done(tx.create_tasks(arena.made.transformations * 2)),
    "create children": lambda tx, arena: done(
        tx.create_tasks(arena.made.transformations * 2, arena.tasks[1:])
    ),
    "create one": lambda tx, arena: tx.create_task(arena.made.transformations[0]) is not None,
    "set tasks": lambda tx, arena: len(tx.set_tasks(arena.made.transformations[0], count=4)),
    "action": lambda tx, arena: done(tx.action_tasks(arena.tasks[1:], arena.hub)),
    "action second": lambda tx, arena: done(tx.action_tasks(arena.tasks[1:2], arena.hub)),
    "action third": lambda tx, arena: done(tx.action_tasks(arena.tasks[2:], arena.hub)),
    "action again": lambda tx, arena: done(tx.action_tasks(arena.tasks[::-1], arena.hub)),
    "set quota": lambda tx, arena: tx.set_quota(arena.scope, 4, 1).actioned_per_hub,
    "cancel": lambda tx, arena: done(tx.cancel_tasks(arena.tasks, arena.hub)),
    "set waiting": lambda tx, arena: done(tx.set_task_waiting(arena.tasks)),
    "set invalid": lambda tx, arena: done(tx.set_task_invalid(arena.tasks[:2])),
    "deregister": lambda tx, arena: tx.deregister_computeservice(arena.service) == arena.service,
    "delete hub": lambda tx, arena: str(tx.delete_taskhub(arena.made.network)) == str(arena.hub),
    "delete network": lambda tx, arena: (
        str(tx.delete_network(arena.made.network)) == str(arena.made.network)
    ),
}
# Each pair once.
PARTNERS = {
    "create": ["create", "create one", "set tasks", "set quota", "set waiting", "set invalid"],
    "create children": ["create children", "create", "set invalid", "delete network"],
    "create one": ["create one", "set tasks", "set quota", "deregister"],
    "action": ["action", "action again", "set quota", "cancel", "set invalid", "delete hub"],
    "action again": ["cancel", "set waiting", "deregister", "delete network"],
    "action second": ["action third"],
}


@pytest.mark.parametrize("one", PARTNERS)
def test_calls_with_quotas_have_the_effect_of_a_serial_order(store: StateStore, one: str) -> None:
    Pairs(store, Ring(store), ACTS).require_serial_orders(one, PARTNERS[one])
