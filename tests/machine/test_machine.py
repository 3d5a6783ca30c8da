"""Whatever is done in whatever order, the store and the model agree on everything that can be seen.

`ALCHEMISTORE_TEST_EXAMPLES` sets how many sequences are tried (default 40), `ALCHEMISTORE_TEST_STEPS` how long they are (default 15);
with either of them the sequences are new ones each time.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from alchemistore import ComputeServiceID, ComputeServiceRegistration, Scope, ScopedKey, StateStore
from alchemistore.invariants import violations
from alchemistore.tables import metadata
from tests.builders import star
from tests.machine.model import Model

EXAMPLES, STEPS = "ALCHEMISTORE_TEST_EXAMPLES", "ALCHEMISTORE_TEST_STEPS"
SCOPE = Scope("org", "campaign", "project")
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
OBSERVER = "observer"
NOWHERE = ScopedKey.from_str(f"Task-{'0' * 32}-org-campaign-project")

hubs = st.integers(0, 1)
edges = st.integers(0, 2)
services = st.sampled_from(["a", "b", "c"])
minutes = st.integers(8, 12)


class _Undo(Exception):
    """Ends a transaction that is only looked at."""


class Machine(RuleBasedStateMachine):
    """Two networks that share two transformations; the second one has a third."""

    made = Bundle("made")
    some = st.lists(st.one_of(made, made, made, made, st.sampled_from([None, NOWHERE])), min_size=1, max_size=6)

    def __init__(self, store: StateStore) -> None:
        super().__init__()
        self.store = store
        with store._engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(table.name for table in metadata.sorted_tables)}"))
        self.networks = [store.create_network(star(2, "one"), SCOPE), store.create_network(star(3, "two"), SCOPE)]
        self.edges = sorted(
            store.get_network_transformations(self.networks[1]),
            key=lambda edge: edge not in store.get_network_transformations(self.networks[0]),
        )
        self.model = Model({network: set(store.get_network_transformations(network)) for network in self.networks})
        self.hubs = [store.create_taskhub(network) for network in self.networks]
        self.model.actions = {network: {} for network in self.networks}
        store.register_computeservice(ComputeServiceRegistration.from_now(OBSERVER))

    # tasks

    @initialize(target=made, on_hubs=st.booleans())
    def begin(self, on_hubs: bool) -> Any:
        roots = self.create([0, 0, 1, 2, 2], None)
        tasks = [*roots, *self.create([0], roots[0]), *self.create([2], roots[4])]
        for service in ("a", "b"):
            self.register(service, 10)
        if on_hubs:
            self.prioritize(tasks[:2], 2)
            for hub in (0, 1):
                self.action(tasks, hub)
        return multiple(*tasks)

    @rule(target=made, edges=st.lists(edges, min_size=1, max_size=3))
    def create_roots(self, edges: list[int]) -> Any:
        return multiple(*self.create(edges, None))

    def create(self, edges: list[int], parent: ScopedKey | None) -> list[ScopedKey]:
        wanted = [self.edges[edge] for edge in edges]
        made = self.store.create_tasks(wanted, None if parent is None else [parent] * len(wanted))
        for task, edge in zip(made, wanted, strict=True):
            self.model.create(task, edge, parent)
        return made

    @rule(target=made, edge=edges, parent=made, fitting=st.booleans())
    def extend(self, edge: int, parent: ScopedKey, fitting: bool) -> Any:
        if fitting:
            edge = self.edges.index(self.model.tasks[parent].transformation)
        if self.model.can_be_extended(parent, self.edges[edge]):
            return multiple(*self.create([edge], parent))
        with pytest.raises(ValueError, match="Cannot extend"):
            self.store.create_task(self.edges[edge], extends=parent)
        return multiple()

    @rule(tasks=some, priority=st.integers(1, 3))
    def prioritize(self, tasks: list[ScopedKey | None], priority: int) -> None:
        assert self.store.set_task_priority(tasks, priority) == self.model.prioritize(tasks, priority)

    @rule(tasks=some, status=st.sampled_from(["waiting", "running"]), strict=st.booleans())
    def begin_again(self, tasks: list[ScopedKey | None], status: str, strict: bool) -> None:
        self.set_status(tasks, status, strict)

    @rule(tasks=some, status=st.sampled_from(["complete", "error"]), strict=st.booleans())
    def finish(self, tasks: list[ScopedKey | None], status: str, strict: bool) -> None:
        self.set_status(tasks, status, strict)

    @rule(task=made, status=st.sampled_from(["invalid", "deleted"]))
    def end(self, task: ScopedKey, status: str) -> None:
        self.set_status([task], status, strict=False)

    def set_status(self, tasks: list[ScopedKey | None], status: str, strict: bool) -> None:
        if strict and None in self.model.accepted(tasks, status):
            with pytest.raises(ValueError, match="Cannot set task"):
                self.store.set_task_status(tasks, status, raise_error=True)
        else:
            assert self.store.set_task_status(tasks, status, raise_error=strict) == self.model.set_status(tasks, status)

    # hubs

    @rule(tasks=some, hub=hubs)
    def action(self, tasks: list[ScopedKey | None], hub: int) -> None:
        assert self.store.action_tasks(tasks, self.hubs[hub]) == self.model.action(tasks, self.networks[hub])

    @rule(tasks=some, hub=hubs)
    def cancel(self, tasks: list[ScopedKey | None], hub: int) -> None:
        assert self.store.cancel_tasks(tasks, self.hubs[hub]) == self.model.cancel(tasks, self.networks[hub])

    @rule(tasks=some, hub=hubs, weight=st.sampled_from([0.0, 0.1, 1.0]))
    def weigh(self, tasks: list[ScopedKey | None], hub: int, weight: float) -> None:
        found = self.store.set_task_weights(tasks, self.hubs[hub], weight)
        assert found == self.model.weigh(tasks, self.networks[hub], weight)

    @precondition(lambda self: len(self.model.actions) == 2)
    @rule(hub=hubs, really=st.sampled_from([False, False, True]))
    def delete_hub(self, hub: int, really: bool) -> None:
        if not really:
            return
        assert self.store.delete_taskhub(self.networks[hub]) == self.hubs[hub]
        del self.model.actions[self.networks[hub]]

    @precondition(lambda self: len(self.model.actions) == 1)
    @rule()
    def create_hubs(self) -> None:
        assert [self.store.create_taskhub(network) for network in self.networks] == self.hubs
        self.model.actions = {network: self.model.actions.get(network, {}) for network in self.networks}

    # services

    @rule(service=services, minute=minutes)
    def register(self, service: str, minute: int) -> None:
        moment = EPOCH + timedelta(minutes=minute)
        registration = ComputeServiceRegistration(identifier=ComputeServiceID(service), registered=moment, heartbeat=moment)
        if service in self.model.services:
            with pytest.raises(ValueError, match="already registered"):
                self.store.register_computeservice(registration)
        else:
            self.store.register_computeservice(registration)
            self.model.services[service] = minute

    @rule(service=services, minute=minutes)
    def heartbeat(self, service: str, minute: int) -> None:
        if service in self.model.services:
            self.store.heartbeat_computeservice(service, EPOCH + timedelta(minutes=minute))
            self.model.services[service] = max(minute, self.model.services[service])
        else:
            with pytest.raises(KeyError):
                self.store.heartbeat_computeservice(service, EPOCH)

    @rule(service=services)
    def deregister(self, service: str) -> None:
        if service in self.model.services:
            self.store.deregister_computeservice(service)
            self.model.remove(service)
        else:
            with pytest.raises(KeyError):
                self.store.deregister_computeservice(service)

    @rule(minute=st.integers(8, 11))
    def expire(self, minute: int) -> None:
        silent = sorted(service for service, last in self.model.services.items() if last < minute)
        assert self.store.expire_registrations(EPOCH + timedelta(minutes=minute)) == silent
        for service in silent:
            self.model.remove(service)

    @rule(service=services, hub=hubs, count=st.integers(0, 4), filtered=st.booleans())
    def claim(self, service: str, hub: int, count: int, filtered: bool) -> None:
        protocols = ["PushProtocol"] if filtered else None
        if count and service not in self.model.services:
            with pytest.raises(KeyError):
                self.store.claim_taskhub_tasks(self.hubs[hub], service, count, protocols)
            return
        claimed = self.store.claim_taskhub_tasks(self.hubs[hub], service, count, protocols)
        self.check_claimed(claimed, hub, count)
        for task in filter(None, claimed):
            self.model.claim(task, service)

    def check_claimed(self, claimed: list[ScopedKey | None], hub: int, count: int) -> None:
        claimable = self.model.claimable(self.networks[hub])
        got = [task for task in claimed if task is not None]
        assert claimed == got + [None] * (count - len(got))
        assert len(got) == len(set(got)) == min(count, len(claimable))
        assert set(got) <= claimable
        # The most urgent ones, in order.
        urgent = sorted(self.model.tasks[task].priority for task in claimable)
        assert [self.model.tasks[task].priority for task in got] == urgent[: len(got)]

    @rule()
    def tend(self) -> None:
        self.store.tend_queue()

    # what can be seen

    @invariant()
    def everything_agrees(self) -> None:
        with contextlib.suppress(_Undo), self.store.transaction() as tx:
            self.tasks_agree(tx)
            for number, (hub, network) in enumerate(zip(self.hubs, self.networks, strict=True)):
                self.hub_agrees(tx, hub, network)
                for protocols in (None, ["PushProtocol", "OtherProtocol"]):
                    with contextlib.suppress(_Undo), tx.transaction() as inner:
                        self.check_claimed(inner.claim_taskhub_tasks(hub, OBSERVER, 1000, protocols), number, 1000)
                        raise _Undo
            assert tx.claim_taskhub_tasks(self.hubs[0], OBSERVER, 1, ["OtherProtocol"]) == [None]
            raise _Undo

    def tasks_agree(self, tx: StateStore) -> None:
        tasks = list(self.model.tasks)
        assert tx.query_tasks() == sorted(tasks)
        assert tx.get_task_priority(tasks) == [self.model.tasks[task].priority for task in tasks]
        details = [one for one in tx.get_tasks_details(tasks) if one is not None]
        found = [(one.status.value, one.service, one.claimed) for one in details]
        assert found == [(one.status, one.service, one.claimed) for one in self.model.tasks.values()]
        assert tx.get_scope_status(SCOPE) == Counter(one.status for one in self.model.tasks.values())

    def hub_agrees(self, tx: StateStore, hub: ScopedKey, network: ScopedKey) -> None:
        actions = self.model.actions.get(network, {})
        assert tx.get_taskhub_actioned_tasks(hub) == actions
        shown = tx.get_taskhub_tasks(hub, return_gufe=True)
        expected = {task: self.model.tasks[task] for task in sorted(actions)}
        assert {task: (one.status.value, one.priority, one.extends, one.claim) for task, one in shown.items()} == {
            task: (one.status, one.priority, one.parent and str(one.parent), one.service) for task, one in expected.items()
        }
        unclaimed = [task for task, one in expected.items() if one.service is None]
        assert tx.get_taskhub_unclaimed_tasks(hub) == unclaimed

    def teardown(self) -> None:
        with self.store._engine.connect() as connection:
            assert violations(connection) == []
        super().teardown()


def test_the_store_does_what_the_model_does(store: StateStore) -> None:
    profile = settings(
        max_examples=int(os.environ.get(EXAMPLES, 40)),
        stateful_step_count=int(os.environ.get(STEPS, 15)),
        deadline=None,
        derandomize=not {EXAMPLES, STEPS} & set(os.environ),
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(partial(Machine, store), settings=profile)  # type: ignore[arg-type]  # it is called only
