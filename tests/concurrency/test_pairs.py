"""Pairs of open transactions on one task have the effect of a serial order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import text

from alchemistore import ComputeServiceID, ComputeServiceRegistration, Scope, ScopedKey, StateStore
from tests.support.campaigns import Campaign, campaign, chain, created, register
from tests.support.concurrency import in_a_transaction
from tests.support.history import outcomes as outcomes_of, statuses
from tests.support.pairs import Act, Pairs

NOON = datetime(2024, 1, 19, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Arena:
    """A task on one of two hubs, its parent, a service that holds it and one that may claim it."""

    hub: ScopedKey
    other_hub: ScopedKey
    parent: ScopedKey
    task: ScopedKey
    old: str
    new: str

    def named(self, keys: Iterable[ScopedKey | None]) -> list[str | None]:
        """Return the names of tasks."""
        names = {None: None, self.parent: "parent", self.task: "task"}
        return [names[key] for key in keys]


ACTS: dict[str, Act[Arena]] = {
    "claim": lambda tx, arena: arena.named(tx.claim_taskhub_tasks(arena.hub, arena.new, count=2)),
    "expire": lambda tx, arena: arena.old in tx.expire_registrations(NOON + MINUTE),
    "cancel": lambda tx, arena: arena.named(tx.cancel_tasks([arena.task], arena.hub)),
    "action": lambda tx, arena: arena.named(tx.action_tasks([arena.task], arena.other_hub)),
    "set priority": lambda tx, arena: arena.named(tx.set_task_priority([arena.task], 3)),
    "set weight": lambda tx, arena: arena.named(tx.set_task_weights([arena.task], arena.hub, 0.25)),
    "set running": lambda tx, arena: arena.named(tx.set_task_running([arena.task])),
    "set waiting": lambda tx, arena: arena.named(tx.set_task_waiting([arena.task])),
    "set invalid": lambda tx, arena: arena.named(tx.set_task_invalid([arena.task])),
    "complete parent": lambda tx, arena: arena.named(tx.set_task_complete([arena.parent])),
    "delete parent": lambda tx, arena: arena.named(tx.set_task_deleted([arena.parent])),
}


class Ring:
    """A source of arenas, each in a scope of its own."""

    def __init__(self, store: StateStore) -> None:
        self.store, self.count = store, 0

    @contextmanager
    def arena(self, *names: str) -> Iterator[Arena]:
        """Return the start for these calls: a held task for `expire`, or an incomplete parent."""
        self.count += 1
        scope = Scope("org", "camp", f"arena{self.count}")
        with self.store.transaction() as tx:
            made, other = (campaign(tx, scope, arms=1, name=name) for name in ("one", "other"))
            parent, task = chain(tx, made.transformations[0], 2)
            old, new = f"old {self.count}", f"new {self.count}"
            for identifier, heartbeat in {old: NOON, new: NOON + MINUTE}.items():
                tx.register_computeservice(
                    ComputeServiceRegistration(
                        identifier=ComputeServiceID(identifier),
                        registered=NOON,
                        heartbeat=heartbeat,
                    )
                )
            tx.action_tasks([task], made.hub)
            tx.set_task_running([parent])
            if "complete parent" not in names:
                tx.set_task_complete([parent])
            if "expire" in names:
                tx.claim_taskhub_tasks(made.hub, old)
        yield Arena(made.hub, other.hub, parent, task, old, new)

    def outcome(self, arena: Arena) -> object:
        with self.store.transaction(readonly=True) as tx:
            return {
                "statuses": tx.get_task_status([arena.parent, arena.task]),
                "priority": tx.get_task_priority([arena.task]),
                "weights": [
                    tx.get_task_weights([arena.task], hub) for hub in (arena.hub, arena.other_hub)
                ],
                "attempts": [
                    (service.partition(" ")[0], outcome)
                    for service, outcome in outcomes_of(tx, arena.task)
                ],
            }


@pytest.mark.parametrize("one", ACTS)
def test_two_concurrent_calls_have_the_effect_of_a_serial_order(
    store: StateStore, one: str
) -> None:
    names = list(ACTS)
    # A claim may pass over a task that somebody is at.
    pairs = Pairs(store, Ring(store), ACTS, passing={"claim": [None, None]})
    pairs.require_serial_orders(one, names[names.index(one) :])


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """A task on a hub, and the services `a` and `b`."""
    register(store, "a", "b")
    return campaign(store, scope, tasks=1)


def outcomes(store: StateStore) -> list[str | None]:
    with store.engine.connect() as connection:
        return list(connection.scalars(text("SELECT outcome FROM attempts ORDER BY attempt")))


GOING: dict[str, Callable[[StateStore], object]] = {
    "deregister": lambda tx: tx.deregister_computeservice("a"),
    "expire": lambda tx: tx.expire_registrations(datetime.max),
}


@pytest.mark.parametrize("way", GOING)
@pytest.mark.parametrize("goes", [True, False])
def test_claim_waits_while_its_own_registration_is_being_removed(
    store: StateStore, made: Campaign, way: str, goes: bool
) -> None:
    with store.transaction(ignore_exceptions=True) as tx:
        GOING[way](tx)
        claim = in_a_transaction(store, lambda tx: tx.claim_taskhub_tasks(made.hub, "a"))
        assert claim.waits_for(tx)
        if not goes:
            raise InterruptedError("the removal is rolled back")
    if goes:
        with pytest.raises(KeyError, match="a"):
            claim.result()
        assert store.get_taskhub_unclaimed_tasks(made.hub) == made.tasks
    else:
        assert claim.result() == made.tasks


@pytest.mark.parametrize("way", GOING)
def test_removal_of_a_service_waits_for_and_releases_its_open_claim(
    store: StateStore, made: Campaign, way: str
) -> None:
    with store.transaction() as tx:
        assert tx.claim_taskhub_tasks(made.hub, "a") == made.tasks
        removal = in_a_transaction(store, GOING[way])
        assert removal.waits_for(tx)
    removal.result()
    assert store.get_taskhub_unclaimed_tasks(made.hub) == made.tasks
    assert outcomes(store) == ["deregistered" if way == "deregister" else "expired"]
    register(store, "c")
    assert store.claim_taskhub_tasks(made.hub, "c") == made.tasks


def test_claims_and_heartbeats_do_not_wait_for_each_other(
    store: StateStore, made: Campaign
) -> None:
    with store.transaction() as tx:
        tx.heartbeat_computeservice("a")
        claim = in_a_transaction(store, lambda tx: tx.claim_taskhub_tasks(made.hub, "a"))
        assert not claim.waits_for(tx)
        assert claim.result() == made.tasks
    store.set_task_waiting(made.tasks)
    with store.transaction() as tx:
        assert tx.claim_taskhub_tasks(made.hub, "a") == made.tasks
        heartbeat = in_a_transaction(store, lambda tx: tx.heartbeat_computeservice("a"))
        assert not heartbeat.waits_for(tx)


def test_heartbeat_before_expiry_keeps_the_service(store: StateStore, made: Campaign) -> None:
    assert store.claim_taskhub_tasks(made.hub, "a") == made.tasks
    limit = datetime.now(UTC)
    with store.transaction() as tx:
        tx.heartbeat_computeservice("a")
        expiry = in_a_transaction(store, lambda tx: tx.expire_registrations(limit))
        expiry.waits_for(tx)
    assert expiry.result() == ["b"]
    assert outcomes(store) == [None]


def test_heartbeat_after_expiry_is_a_key_error(store: StateStore, made: Campaign) -> None:
    with store.transaction() as tx:
        tx.expire_registrations(datetime.max)
        heartbeat = in_a_transaction(store, lambda tx: tx.heartbeat_computeservice("a"))
        assert heartbeat.waits_for(tx)
    with pytest.raises(KeyError, match="a"):
        heartbeat.result()


def test_one_of_two_concurrent_registrations_is_refused(store: StateStore) -> None:
    with store.transaction() as tx:
        register(tx, "a")
        other = in_a_transaction(store, lambda tx: register(tx, "a"))
        assert other.waits_for(tx)
    with pytest.raises(ValueError, match="already registered"):
        other.result()


def test_concurrent_claims_skip_each_other_on_one_hub_and_on_two(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    other_hub = campaign(store, scope, name="other").hub
    more = created(store.create_tasks(made.transformations))
    store.action_tasks(more, made.hub)
    store.action_tasks(made.tasks + more, other_hub)
    store.set_task_priority(made.tasks, 1)

    def claim_two(hub: ScopedKey, tx: StateStore) -> object:
        return tx.claim_taskhub_tasks(hub, "b", count=2)

    with store.transaction() as tx:
        assert tx.claim_taskhub_tasks(made.hub, "a") == made.tasks
        for hub in (made.hub, other_hub):
            claim = in_a_transaction(store, partial(claim_two, hub))
            assert not claim.waits_for(tx)
            answer = claim.result()
            assert isinstance(answer, list)
            assert set(answer) <= {*more, None}
            assert answer[0] is not None


@pytest.mark.parametrize(
    ("first", "second"), [("complete", "error"), ("error", "complete"), ("invalid", "deleted")]
)
def test_first_of_two_concurrent_final_statuses_is_kept(
    store: StateStore, made: Campaign, first: str, second: str
) -> None:
    store.claim_taskhub_tasks(made.hub, "a")
    with store.transaction() as tx:
        assert tx.set_task_status(made.tasks, first) == made.tasks
        setter = in_a_transaction(store, lambda tx: tx.set_task_status(made.tasks, second))
        assert setter.waits_for(tx)
    assert setter.result() == [None]
    assert statuses(store, made.tasks) == [first]
    assert outcomes(store) == [first]


def test_extension_of_a_task_being_deleted_is_refused(store: StateStore, made: Campaign) -> None:
    with store.transaction() as tx:
        tx.set_task_invalid(made.tasks)
        creation = in_a_transaction(
            store, lambda tx: tx.create_task(made.transformations[0], extends=made.tasks[0])
        )
        assert creation.waits_for(tx)
    with pytest.raises(ValueError, match="Cannot extend"):
        creation.result()


def test_child_being_created_is_deleted_with_its_parent(store: StateStore, made: Campaign) -> None:
    with store.transaction() as tx:
        child = tx.create_task(made.transformations[0], extends=made.tasks[0])
        setter = in_a_transaction(store, lambda tx: tx.set_task_deleted(made.tasks))
        setter.waits_for(tx)
    setter.result()
    assert statuses(store, [child]) == ["deleted"]


def test_completion_does_not_wait_for_a_lock_on_a_grandchild(
    store: StateStore, made: Campaign
) -> None:
    child = store.create_task(made.transformations[0], extends=made.tasks[0])
    grandchild = store.create_task(made.transformations[0], extends=child)
    store.set_task_running(made.tasks)
    with store.transaction() as tx:
        assert tx.set_task_priority([grandchild], 3) == [grandchild]
        completion = in_a_transaction(store, lambda tx: tx.set_task_complete(made.tasks))
        assert not completion.waits_for(tx)
    assert completion.result() == made.tasks


def test_child_is_claimable_from_the_commit_that_completes_its_parent(
    store: StateStore, made: Campaign
) -> None:
    child = store.create_task(made.transformations[0], extends=made.tasks[0])
    store.action_tasks([child], made.hub)
    store.claim_taskhub_tasks(made.hub, "a")
    with store.transaction() as tx:
        tx.set_task_complete(made.tasks)
        claim = in_a_transaction(store, lambda tx: tx.claim_taskhub_tasks(made.hub, "b"))
        assert not claim.waits_for(tx)
    assert claim.result() == [None]
    assert store.claim_taskhub_tasks(made.hub, "b") == [child]
