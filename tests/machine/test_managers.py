"""Managers, failures of services and quotas agree with a model after any sequence of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from alchemistore import (
    ComputeManagerID,
    ComputeManagerInstruction,
    ComputeManagerRegistration,
    ComputeServiceID,
    ComputeServiceRegistration,
    QuotaError,
    RefusalReason,
    Scope,
    ScopedKey,
    StateStore,
)
from alchemistore.tables import metadata
from tests.support.campaigns import campaign
from tests.support.machines import run_machine, run_many

NOON = datetime(2024, 1, 19, 12, tzinfo=UTC)
NAMES = ("east", "west")
HERE, THERE = Scope("org", "campaign", "here"), Scope("org", "campaign", "there")

managers = st.builds(
    lambda name, digit: ComputeManagerID(f"{name}-{digit * 32}"),
    st.sampled_from(NAMES),
    st.sampled_from("12"),
)
services = st.sampled_from(["a", "b"])
minutes = st.integers(0, 5)
limits = st.none() | st.integers(0, 3)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def outcome(call: Callable[[], Any]) -> Any:
    """Return the answer of a call, or the class of its error."""
    try:
        return call()
    except (ValueError, KeyError, QuotaError) as error:
        return type(error)


@dataclass
class Manager:
    """A registered manager."""

    identifier: ComputeManagerID
    status: str
    updated: int


@dataclass
class Service:
    """A registered service."""

    manager: str | None
    failures: list[int] = field(default_factory=list)


def emptied(store: StateStore) -> StateStore:
    """Remove all rows."""
    with store.engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
    return store


class ManagersMachine(RuleBasedStateMachine):
    """Two managers for each of two names, and two services."""

    def __init__(self, store: StateStore) -> None:
        super().__init__()
        self.store = emptied(store)
        self.managers: dict[str, Manager] = {}
        self.services: dict[str, Service] = {}

    def found(self, identifier: ComputeManagerID) -> Manager | None:
        manager = self.managers.get(identifier.name)
        return manager if manager is not None and manager.identifier == identifier else None

    @rule(one=managers, steal=st.booleans(), minute=minutes)
    def register_manager(self, one: ComputeManagerID, steal: bool, minute: int) -> None:
        given = ComputeManagerRegistration.from_dict(
            {
                **ComputeManagerRegistration.from_now(one).to_dict(),
                "last_status_update": at(minute),
            }
        )
        answer = outcome(partial(self.store.register_computemanager, given, steal))
        holder = self.managers.get(one.name)
        if holder is None or (steal and holder.status == "OK"):
            assert answer == one
            self.managers[one.name] = Manager(one, "OK", minute)
        else:
            assert answer is ValueError

    @rule(one=managers)
    def deregister_manager(self, one: ComputeManagerID) -> None:
        self.store.deregister_computemanager(one)
        manager = self.found(one)
        if manager is not None and manager.status == "OK":
            del self.managers[one.name]

    @rule(one=managers)
    def clear_error(self, one: ComputeManagerID) -> None:
        answer = outcome(partial(self.store.clear_errored_computemanager, one))
        manager = self.found(one)
        if manager is not None and manager.status == "ERROR":
            assert answer is None
            del self.managers[one.name]
        else:
            assert answer is ValueError

    @rule(one=managers, ok=st.booleans(), minute=minutes)
    def update_status(self, one: ComputeManagerID, ok: bool, minute: int) -> None:
        status, detail, share = ("OK", None, 0.5) if ok else ("ERROR", "it broke", None)
        update = partial(self.store.update_compute_manager_status, one, status)
        answer = outcome(partial(update, detail=detail, saturation=share, update_time=at(minute)))
        manager = self.found(one)
        if manager is None:
            assert answer is ValueError
        else:
            assert answer is None
            manager.status, manager.updated = status, minute

    @rule(ok=minutes, error=minutes)
    def expire(self, ok: int, error: int) -> None:
        self.store.expire_computemanager_registrations(at(ok), at(error))
        since = {"OK": ok, "ERROR": error}
        self.managers = {
            name: one for name, one in self.managers.items() if one.updated >= since[one.status]
        }

    @rule(name=services, manager=st.sampled_from([None, *NAMES]), minute=st.none() | minutes)
    def register_service(self, name: str, manager: str | None, minute: int | None) -> None:
        given = ComputeServiceRegistration(
            identifier=ComputeServiceID(name),
            registered=NOON,
            heartbeat=NOON,
            manager_name=manager,
            failure_times=() if minute is None else (at(minute),),
        )
        answer = outcome(partial(self.store.register_computeservice, given))
        if name in self.services or (manager is not None and manager not in self.managers):
            assert answer is ValueError
        else:
            assert answer == name
            self.services[name] = Service(manager, [] if minute is None else [minute])

    @rule(name=services)
    def deregister_service(self, name: str) -> None:
        outcome(partial(self.store.deregister_computeservice, name))
        self.services.pop(name, None)

    @rule(name=services, minute=minutes)
    def fail(self, name: str, minute: int) -> None:
        assert self.store.log_failure_compute_service(name, at(minute)) == name
        if name in self.services:
            self.services[name].failures.append(minute)

    def may_claim(self, name: str, minute: int, most: int) -> bool:
        if name not in self.services:
            return False
        kept = [failure for failure in self.services[name].failures if failure > minute]
        self.services[name].failures = kept
        return len(kept) <= most

    @rule(names=st.lists(services, max_size=3), minute=minutes, most=st.integers(0, 2))
    def ask_for_claims(self, names: list[str], minute: int, most: int) -> None:
        answers = self.store.compute_services_can_claim(names, at(minute), most)
        assert answers == [self.may_claim(name, minute, most) for name in names]

    @rule(one=managers, minute=minutes, most=st.integers(0, 2))
    def ask_for_an_instruction(self, one: ComputeManagerID, minute: int, most: int) -> None:
        answer, data = self.store.get_computemanager_instruction(one, at(minute), most, [], [])
        if self.found(one) is None:
            assert answer is ComputeManagerInstruction.SHUTDOWN
            return
        managed = sorted(name for name, s in self.services.items() if s.manager == one.name)
        assert data["compute_service_ids"] == managed
        may = [self.may_claim(name, minute, most) for name in managed]
        expected = ComputeManagerInstruction.OK if all(may) else ComputeManagerInstruction.SKIP
        assert answer is expected

    @invariant()
    def managers_agree(self) -> None:
        for name in NAMES:
            manager = self.managers.get(name)
            identifier = self.store.get_compute_manager_id(name)
            assert identifier == (None if manager is None else manager.identifier)
            if identifier is not None and manager is not None:
                assert self.store.get_compute_manager_status(identifier) == manager.status


class QuotasMachine(RuleBasedStateMachine):
    """Quotas for two projects and what is above them, on hubs with two transformations each."""

    def __init__(self, store: StateStore) -> None:
        super().__init__()
        self.store = emptied(store)
        self.hubs, self.edges = {}, {}
        for scope in (HERE, THERE):
            made = campaign(store, scope, arms=2)
            self.hubs[scope], self.edges[scope] = made.hub, made.transformations
        self.quotas: dict[Scope, tuple[int | None, int | None]] = {}
        self.tasks: list[ScopedKey] = []

    def limit(self, scope: Scope, which: int) -> int | None:
        above = (scope, Scope(scope.org, scope.campaign), Scope(scope.org), Scope())
        for one in above:
            limit = self.quotas.get(one, (None, None))[which]
            if limit is not None:
                return limit
        return None

    def waiting(self, edge: ScopedKey) -> int:
        return self.store.get_transformation_status(edge).get("waiting", 0)

    @rule(
        scope=st.sampled_from([HERE, THERE, Scope("org", "campaign"), Scope("org"), Scope()]),
        waiting=limits,
        actioned=limits,
    )
    def set_quota(self, scope: Scope, waiting: int | None, actioned: int | None) -> None:
        self.quotas[scope] = (waiting, actioned)
        answer = self.store.set_quota(scope, waiting, actioned)
        assert answer.waiting_per_transformation == self.limit(scope, 0)
        assert answer.actioned_per_hub == self.limit(scope, 1)

    @rule(wanted=st.lists(st.tuples(st.sampled_from([HERE, THERE]), st.integers(0, 1)), max_size=5))
    def create(self, wanted: list[tuple[Scope, int]]) -> None:
        edges = [self.edges[scope][number] for scope, number in wanted]
        counts = {edge: self.waiting(edge) for edge in edges}
        refusals: dict[str, RefusalReason] = {}
        answers = self.store.create_tasks(edges, refusals=refusals)
        refused = set()
        for edge, task in zip(edges, answers, strict=True):
            limit = self.limit(edge.scope, 0)
            accepted = limit is None or counts[edge] < limit
            assert (task is not None) is accepted
            counts[edge] += accepted
            if task is None:
                refused.add(str(edge))
            else:
                self.tasks.append(task)
        assert refusals == dict.fromkeys(refused, RefusalReason.quota)

    @rule(scope=st.sampled_from([HERE, THERE]), number=st.integers(0, 1))
    def create_one(self, scope: Scope, number: int) -> None:
        edge = self.edges[scope][number]
        limit, count = self.limit(scope, 0), self.waiting(edge)
        answer = outcome(partial(self.store.create_task, edge))
        if limit is None or count < limit:
            self.tasks.append(answer)
        else:
            assert answer is QuotaError

    @rule(scope=st.sampled_from([HERE, THERE]), numbers=st.lists(st.integers(0, 9), max_size=5))
    def action(self, scope: Scope, numbers: list[int]) -> None:
        chosen = [self.tasks[number] for number in numbers if number < len(self.tasks)]
        on_hub = set(self.store.get_taskhub_tasks(self.hubs[scope]))
        live = {
            task
            for task, status in zip(chosen, self.store.get_task_status(chosen), strict=True)
            if status in ("waiting", "running", "error") and task.scope == scope
        }
        limit = self.limit(scope, 1)
        answers = self.store.action_tasks(chosen, self.hubs[scope])
        for task, answer in zip(chosen, answers, strict=True):
            fits = limit is None or len(on_hub) < limit
            accepted = task in live and task not in on_hub and fits
            assert answer == (task if accepted else None)
            if accepted:
                on_hub.add(task)
        assert set(self.store.get_taskhub_tasks(self.hubs[scope])) == on_hub

    @rule(number=st.integers(0, 9), status=st.sampled_from(["running", "waiting", "invalid"]))
    def set_status(self, number: int, status: str) -> None:
        if number < len(self.tasks):
            task = self.tasks[number]
            before = self.store.get_task_status([task])
            answer = self.store.set_task_status([task], status)
            assert answer == [None if before == ["invalid"] != [status] else task]


def test_managers_agree_with_the_model(store: StateStore) -> None:
    run_machine(partial(ManagersMachine, store), 10, 20)


def test_quotas_agree_with_the_model(store: StateStore) -> None:
    run_machine(partial(QuotasMachine, store), 10, 20)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("machine", [ManagersMachine, QuotasMachine])
def test_managers_and_quotas_agree_with_the_models_in_many_random_sequences(
    store: StateStore, machine: type[ManagersMachine | QuotasMachine]
) -> None:
    run_many(partial(machine, store))
