"""The store and a model agree on everything visible after any sequence of calls.

`make soak` tries random sequences: `ALCHEMISTORE_TEST_EXAMPLES` sets how many (default 400) and
`ALCHEMISTORE_TEST_STEPS` how long they are (default 30).
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import gufe
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from sqlalchemy import text

from alchemistore import (
    ComputeServiceID,
    ComputeServiceRegistration,
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    StateStore,
)
from alchemistore.maintenance.invariants import violations
from alchemistore.models import GufeKey
from alchemistore.tables import metadata
from tests.support.assertions import (
    OBSERVER,
    claims_agree,
    hub_agrees,
    lists_agree,
    restarts_agree,
    results_agree,
    tasks_agree,
)
from tests.support.campaigns import created, star
from tests.support.databases import rolled_back
from tests.support.gufe_classes import Effort, PushProtocol, system
from tests.support.machines import run_machine, run_many
from tests.support.model import Model, ModelHub, ModelTask
from tests.support.results import reference_key

HERE, THERE = Scope("org", "campaign", "project"), Scope("org", "campaign", "second")
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
NOWHERE = ScopedKey.from_str(f"Task-{'0' * 32}-org-campaign-project")
RESULTS = [
    ProtocolDAGResultRef(obj_key=GufeKey(f"ProtocolDAGResult-{n:032x}"), scope=HERE, ok=ok)
    for n, ok in enumerate([True, True, False, False])
]
NUMBERS = {one.obj_key: n for n, one in enumerate(RESULTS)}
# What the results tell when they are settled; only failures do.
TOLD = {2: "NaN", 3: "NaN, lost"}
RESTARTS = ["NaN", "lost", "never"]
FILTERS = (None, ["PushProtocol"], ["PullProtocol"], ["PushProtocol", "PullProtocol", "NoProtocol"])

# An attempt, its result, and the sender's identification; "nothing new" repeats an old result.
Delivery = tuple[int, ProtocolDAGResultRef, str]

hubs = st.integers(0, 2)
edges = st.integers(0, 3)
services = st.sampled_from(["a", "b", "c"])
minutes = st.integers(8, 12)
weights = st.sampled_from([0.0, 0.1, 1.0])
results = st.sampled_from(RESULTS)
protocols = st.sampled_from([None, None, *FILTERS[1:]])
finals = st.sampled_from(["invalid", "deleted"])
states = st.sampled_from(["active", "active", "inactive", "invalid"])
counts = st.sampled_from([1, 1, 2, 4, 0])
some_restarts = st.lists(st.sampled_from(RESTARTS), max_size=2, unique=True)
nth = st.integers(0, 9)
deliveries = st.lists(
    st.tuples(nth, results, st.sampled_from(["service", "attempt", "both", "nothing new"])),
    min_size=1,
    max_size=3,
)
patterns = st.lists(
    st.sampled_from([HERE, THERE, Scope("org", "campaign"), Scope("other")]), max_size=2
)


class PullProtocol(PushProtocol):
    """Another protocol."""


def second() -> gufe.AlchemicalNetwork:
    """A network that has all of a small star and something else."""
    other = gufe.Transformation(
        system("middle"), system("arm 2"), PullProtocol(Effort()), name="pulled"
    )
    return gufe.AlchemicalNetwork([*star(2).edges, other], name="second")


class Machine(RuleBasedStateMachine):
    """Two networks that share two transformations; the second one has a third.

    A copy of the first network is in another scope.

    The random draws of the store must not decide what hypothesis can draw next: no precondition
    asks what was claimed, and a refused rule adds as many tasks to the bundle.
    """

    made = Bundle("made")
    any_task = st.one_of(made, made, made, made, st.sampled_from([None, NOWHERE]))
    some = st.lists(any_task, min_size=1, max_size=6)
    few = st.lists(any_task, max_size=2)

    def __init__(self, store: StateStore) -> None:
        super().__init__()
        self.store = store
        self.step = 0
        with store.engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        self.sources = [(star(2), HERE), (second(), HERE), (star(2), THERE)]
        self.networks = [store.create_network(network, at) for network, at in self.sources]
        content = {
            network: set(store.get_network_transformations(network)) for network in self.networks
        }
        here, all_here, there = content.values()
        self.edges = [*sorted(here), *(all_here - here), min(there)]
        kinds = {
            edge: "PullProtocol" if edge in all_here - here else "PushProtocol"
            for edge in self.edges
        }
        self.hubs = [store.create_taskhub(network) for network in self.networks]
        self.model = Model(content, kinds, {network: ModelHub() for network in self.networks})
        store.register_computeservice(ComputeServiceRegistration.from_now(OBSERVER))

    # tasks

    @initialize(
        target=made,
        again=st.booleans(),
        claims=st.lists(st.tuples(services, hubs), min_size=1, max_size=3),
        late=deliveries,
    )
    def begin(self, again: bool, claims: list[tuple[str, int]], late: list[Delivery]) -> Any:
        """Create tasks on all hubs; some have failed, were lost, or are claimed."""
        roots = self.create([(self.edges[edge], None) for edge in (0, 0, 1, 2, 2, 3)])
        tasks = [*roots, *self.create([(self.edges[0], roots[0]), (self.edges[2], roots[4])])]
        self.prioritize(tasks[:2], 2)
        for hub in range(3):
            self.action(tasks, hub)
        for service in ("a", "b", "c"):
            self.register(service, 10)
        self.claim("c", 0, 2, None)
        self.deliver(tasks[0], RESULTS[-1], "c", None)
        if again:
            self.set_status([tasks[0]], "waiting", strict=True)
        self.deregister("c")
        self.register("c", 10)
        self.claim("c", 0, 1, None)
        for service, hub in claims:
            self.claim(service, hub, 1, None)
        for delivery in late:
            self.settle(self.lost(), delivery, twice=False)
        return multiple(*tasks)

    @rule(
        target=made,
        wanted=st.lists(st.tuples(edges, st.one_of(st.none(), made, made)), max_size=3),
        how=st.sampled_from(["fitting", "elsewhere", "any"]),
    )
    def create_some(self, wanted: list[tuple[int, ScopedKey | None]], how: str) -> Any:
        pairs = [(self.edges[edge], parent) for edge, parent in wanted]
        if how != "any":
            known = self.model.tasks
            pairs = [
                (known[parent].transformation if parent in known else edge, parent)
                for edge, parent in pairs
            ]
        if how == "elsewhere":
            same = {
                edge: [other for other in self.edges if other.gufe_key == edge.gufe_key]
                for edge in self.edges
            }
            pairs = [(same[edge][-1], parent) for edge, parent in pairs]
        if all(
            parent is None or self.model.can_be_extended(parent, edge) for edge, parent in pairs
        ):
            return multiple(*self.create(pairs))
        with pytest.raises((ValueError, KeyError), match=r"Cannot extend|No such object"):
            self.create(pairs)
        return multiple(*[NOWHERE] * len(pairs))

    def create(self, pairs: list[tuple[ScopedKey, ScopedKey | None]]) -> list[ScopedKey]:
        made = created(
            self.store.create_tasks([edge for edge, _ in pairs], [parent for _, parent in pairs])
        )
        for task, (edge, parent) in zip(made, pairs, strict=True):
            self.model.tasks[task] = ModelTask(edge, parent)
        return made

    @rule(task=made, force=st.sampled_from([False, False, True]))
    def delete(self, task: ScopedKey, force: bool) -> None:
        if task not in self.model.tasks:
            with pytest.raises(KeyError):
                self.store.delete_task(task, force)
        elif self.model.must_stay(task) and not force:
            with pytest.raises(ValueError, match="Cannot delete"):
                self.store.delete_task(task)
        else:
            assert self.store.delete_task(task, force) == task
            self.model.delete(task)

    @rule(tasks=some, priority=st.integers(1, 3))
    def prioritize(self, tasks: list[ScopedKey | None], priority: int) -> None:
        assert self.store.set_task_priority(tasks, priority) == self.model.prioritize(
            tasks, priority
        )

    def these(self, which: int, *statuses: str) -> list[ScopedKey | None]:
        """One of the tasks with these statuses, if there are any."""
        found = [task for task, what in self.model.tasks.items() if what.status in statuses]
        return [found[which % len(found)]] if found else []

    @rule(which=nth, more=few, strict=st.booleans())
    def set_waiting(self, which: int, more: list[ScopedKey | None], strict: bool) -> None:
        self.set_status([*self.these(which, "running", "error"), *more], "waiting", strict)

    @rule(which=nth, more=few, strict=st.booleans())
    def set_running(self, which: int, more: list[ScopedKey | None], strict: bool) -> None:
        self.set_status([*self.these(which, "waiting"), *more], "running", strict)

    @rule(which=nth, more=few, status=st.sampled_from(["complete", "error"]), strict=st.booleans())
    def finish(self, which: int, more: list[ScopedKey | None], status: str, strict: bool) -> None:
        self.set_status([*more, *self.these(which, "running")], status, strict)

    @rule(task=made, status=finals)
    def end(self, task: ScopedKey, status: str) -> None:
        self.set_status([task], status, strict=False)

    @rule(which=nth, status=finals, then=finals)
    def end_from_below(self, which: int, status: str, then: str) -> None:
        children = [(task, what.parent) for task, what in self.model.tasks.items() if what.parent]
        if children:
            task, parent = children[which % len(children)]
            self.set_status([task], status, strict=False)
            self.set_status([parent], then, strict=False)

    def set_status(self, tasks: list[ScopedKey | None], status: str, strict: bool) -> None:
        if strict and None in self.model.accepted(tasks, status):
            with pytest.raises(ValueError, match="Cannot set task"):
                self.store.set_task_status(tasks, status, raise_error=True)
        else:
            assert self.store.set_task_status(
                tasks, status, raise_error=strict
            ) == self.model.set_status(tasks, status)

    # results

    @rule(deliveries=deliveries, before=st.one_of(st.none(), results), twice=st.booleans())
    def settle_what_is_held(
        self, deliveries: list[Delivery], before: ProtocolDAGResultRef | None, twice: bool
    ) -> None:
        for delivery in deliveries:
            held = [
                (task, len(what.attempts)) for task, what in self.model.tasks.items() if what.claim
            ]
            if before and held:
                self.keep(held[delivery[0] % len(held)][0], before)
            self.settle(held, delivery, twice)

    @rule(deliveries=deliveries, twice=st.booleans())
    def settle_what_was_lost(self, deliveries: list[Delivery], twice: bool) -> None:
        for delivery in deliveries:
            self.settle(self.lost(), delivery, twice)

    def lost(self) -> list[tuple[ScopedKey, int]]:
        tried = [
            (task, n, one)
            for task, what in self.model.tasks.items()
            for n, one in enumerate(what.attempts, 1)
        ]
        return [(task, n) for task, n, one in tried if one.outcome]

    def settle(self, tried: list[tuple[ScopedKey, int]], delivery: Delivery, twice: bool) -> None:
        if tried:
            which, result, named = delivery
            task, number = tried[which % len(tried)]
            attempt = self.model.tasks[task].attempts[number - 1]
            if named == "nothing new":
                result = attempt.result or result
            service = None if named == "attempt" else attempt.service
            for _ in range(1 + twice):
                self.deliver(
                    task, result, service, number if named in ("attempt", "both") else None
                )

    @rule(task=made, result=results, service=st.one_of(st.none(), services))
    def settle_unasked(
        self, task: ScopedKey, result: ProtocolDAGResultRef, service: str | None
    ) -> None:
        self.deliver(task, result, service, None)

    def deliver(
        self, task: ScopedKey, result: ProtocolDAGResultRef, service: str | None, number: int | None
    ) -> None:
        if task not in self.model.tasks:
            with pytest.raises(KeyError):
                self.store.settle_task(task, result, service, number)
            return
        result = result.model_copy(update={"scope": task.scope})
        told = TOLD.get(NUMBERS[result.obj_key])
        answer = self.store.settle_task(
            task, result, service, number, None if told is None else [told]
        )
        if told:
            self.model.tracebacks[result] = told
        assert answer.result == reference_key(result, task)
        assert (answer.status.value, answer.attempt, answer.outcome) == self.model.settle(
            task, result, service, number
        )

    @rule(which=nth, task=made, result=results)
    def set_result(self, which: int, task: ScopedKey, result: ProtocolDAGResultRef) -> None:
        if task not in self.model.tasks:
            with pytest.raises(KeyError):
                self.store.set_task_result(task, result)
        for one in [task, *self.these(which, "running")]:
            self.keep(one, result)

    def keep(self, task: ScopedKey | None, result: ProtocolDAGResultRef) -> None:
        if task is not None and task in self.model.tasks:
            result = result.model_copy(update={"scope": task.scope})
            assert self.store.set_task_result(task, result) == reference_key(result, task)
            what = self.model.tasks[task]
            what.keep(result, len(what.attempts) if what.claim else None)

    # hubs

    @rule(tasks=some, hub=hubs)
    def action(self, tasks: list[ScopedKey | None], hub: int) -> None:
        assert self.store.action_tasks(tasks, self.hubs[hub]) == self.model.action(
            tasks, self.networks[hub]
        )

    @rule(tasks=some, hub=hubs)
    def cancel(self, tasks: list[ScopedKey | None], hub: int) -> None:
        assert self.store.cancel_tasks(tasks, self.hubs[hub]) == self.model.cancel(
            tasks, self.networks[hub]
        )

    @rule(tasks=some, hub=hubs, weight=weights, more=st.lists(st.tuples(made, weights), max_size=3))
    def weigh(
        self,
        tasks: list[ScopedKey | None],
        hub: int,
        weight: float,
        more: list[tuple[ScopedKey, float]],
    ) -> None:
        on_hub = self.model.actions(self.networks[hub])
        found = self.store.set_task_weights(tasks, self.hubs[hub], weight)
        assert found == [task if task in on_hub else None for task in tasks]
        assert self.store.set_task_weights(dict(more), self.hubs[hub]) == [
            task if task in on_hub else None for task in dict(more)
        ]
        self.model.weigh({task: weight for task in tasks if task} | dict(more), self.networks[hub])

    @rule(wanted=st.lists(st.tuples(hubs, weights), min_size=1, max_size=3))
    def weigh_hubs(self, wanted: list[tuple[int, float]]) -> None:
        networks = [self.networks[hub] for hub, _ in wanted]
        there = [network if network in self.model.hubs else None for network in networks]
        assert self.store.set_taskhub_weight(networks, [weight for _, weight in wanted]) == there
        for network, (_, weight) in zip(there, wanted, strict=True):
            if network is not None:
                self.model.hubs[network].weight = weight

    @precondition(lambda self: len(self.model.hubs) == 3)
    @rule(hub=hubs, really=st.sampled_from([False, False, True]))
    def delete_hub(self, hub: int, really: bool) -> None:
        if really:
            assert self.store.delete_taskhub(self.networks[hub]) == self.hubs[hub]
            del self.model.hubs[self.networks[hub]]

    @precondition(lambda self: len(self.model.hubs) < 3)
    @rule()
    def create_hubs(self) -> None:
        assert [self.store.create_taskhub(network) for network in self.networks] == self.hubs
        self.model.hubs = {
            network: self.model.hubs.get(network, ModelHub()) for network in self.networks
        }

    @rule(hub=hubs, state=states)
    def assemble(self, hub: int, state: str) -> None:
        network, made, _ = self.store.assemble_network(*self.sources[hub], state)
        assert (network, made) == (self.networks[hub], self.hubs[hub])
        self.model.states[network] = state
        self.model.hubs.setdefault(network, ModelHub())

    @rule(wanted=st.lists(st.tuples(hubs, states), max_size=3))
    def set_states(self, wanted: list[tuple[int, str]]) -> None:
        networks = [self.networks[hub] for hub, _ in wanted]
        assert self.store.set_network_state(networks, [state for _, state in wanted]) == networks
        for network, (_, state) in zip(networks, wanted, strict=True):
            self.model.states[network] = state

    # restart patterns

    @rule(hub=hubs, wanted=some_restarts, maximum=st.integers(1, 2))
    def add_patterns(self, hub: int, wanted: list[str], maximum: int) -> None:
        model = self.model.hubs.get(self.networks[hub])
        if model is None:
            with pytest.raises(KeyError):
                self.store.add_task_restart_patterns(self.hubs[hub], wanted, maximum)
            return
        self.store.add_task_restart_patterns(self.hubs[hub], wanted, maximum)
        model.patterns.update(dict.fromkeys(wanted, maximum))
        self.model.resolve([*model.actions])

    @rule(hub=hubs, wanted=some_restarts, every=st.sampled_from([False, False, True]))
    def remove_patterns(self, hub: int, wanted: list[str], every: bool) -> None:
        if every:
            self.store.clear_task_restart_patterns(self.hubs[hub])
            wanted = RESTARTS
        else:
            self.store.remove_task_restart_patterns(self.hubs[hub], wanted)
        if (model := self.model.hubs.get(self.networks[hub])) is not None:
            kept = model.patterns.items()
            model.patterns = {one: maximum for one, maximum in kept if one not in wanted}
            model.forget(lambda _, pattern: pattern in wanted)

    @rule(hub=hubs, wanted=some_restarts, maximum=st.integers(1, 2))
    def set_maximum(self, hub: int, wanted: list[str], maximum: int) -> None:
        self.store.set_task_restart_patterns_max_retries(self.hubs[hub], wanted, maximum)
        if (model := self.model.hubs.get(self.networks[hub])) is not None:
            model.patterns.update({one: maximum for one in wanted if one in model.patterns})

    @rule(tasks=some, which=nth)
    def resolve(self, tasks: list[ScopedKey | None], which: int) -> None:
        tasks = [*tasks, *self.these(which, "error")]
        self.store.resolve_task_restarts(tasks)
        self.model.resolve(tasks)

    # services

    @rule(service=services, minute=minutes)
    def register(self, service: str, minute: int) -> None:
        moment = EPOCH + timedelta(minutes=minute)
        registration = ComputeServiceRegistration(
            identifier=ComputeServiceID(service), registered=moment, heartbeat=moment
        )
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
            self.model.services[service] = minute
        else:
            with pytest.raises(KeyError):
                self.store.heartbeat_computeservice(service, EPOCH)

    @rule(service=services)
    def deregister(self, service: str) -> None:
        if service in self.model.services:
            self.store.deregister_computeservice(service)
            self.model.remove(service, "deregistered")
        else:
            with pytest.raises(KeyError):
                self.store.deregister_computeservice(service)

    @rule(minute=st.integers(8, 11))
    def expire(self, minute: int) -> None:
        silent = sorted(service for service, last in self.model.services.items() if last < minute)
        assert self.store.expire_registrations(EPOCH + timedelta(minutes=minute)) == silent
        for service in silent:
            self.model.remove(service, "expired")

    @rule(service=services, hub=hubs, count=counts, protocols=protocols)
    def claim(self, service: str, hub: int, count: int, protocols: list[str] | None) -> None:
        if count and service not in self.model.services:
            with pytest.raises(KeyError):
                self.store.claim_taskhub_tasks(self.hubs[hub], service, count, protocols)
            return
        claimed = self.store.claim_taskhub_tasks(self.hubs[hub], service, count, protocols)
        assert self.model.can_give(claimed, [self.networks[hub]], count, protocols)
        for task in filter(None, claimed):
            self.model.claim(task, service)

    @rule(service=services, scopes=patterns, exclude=patterns, count=counts, protocols=protocols)
    def claim_anywhere(
        self,
        service: str,
        scopes: list[Scope],
        exclude: list[Scope],
        count: int,
        protocols: list[str] | None,
    ) -> None:
        if count and service not in self.model.services:
            with pytest.raises(KeyError):
                self.store.claim_tasks(scopes, service, count, protocols, exclude)
            return
        claimed = self.store.claim_tasks(scopes, service, count, protocols, exclude)
        assert self.model.can_give_anywhere(claimed, scopes, exclude, count, protocols)
        for task in filter(None, claimed):
            self.model.claim(task, service)

    @rule()
    def tend(self) -> None:
        # A lane is visited once a second, and its floor rises at the second visit.
        for _ in range(2):
            with self.store.engine.begin() as connection:
                connection.execute(text("UPDATE lanes SET visited_at = 'epoch'"))
            self.store.maintain_queue()

    # what can be seen

    @invariant()
    def everything_agrees(self) -> None:
        """All that is seen of the tasks, and of one hub, in turns."""
        self.step += 1
        with rolled_back(self.store) as tx:
            tasks_agree(tx, self.model)
            hub, network = list(zip(self.hubs, self.networks, strict=True))[self.step % 3]
            hub_agrees(tx, self.model, hub, network)
            restarts_agree(tx, self.model, hub, network)
            claims_agree(tx, self.model, hub, network, 1 + self.step % 5, FILTERS[self.step % 4])

    def teardown(self) -> None:
        """Compare the lists once at the end, unless a step failed or hypothesis stopped early."""
        if sys.exception() is not None:
            return
        with self.store.engine.connect() as connection:
            assert violations(connection) == []
        with rolled_back(self.store) as tx:
            lists_agree(tx, self.model)
            results_agree(tx, self.model)
            for hub, network in zip(self.hubs, self.networks, strict=True):
                hub_agrees(tx, self.model, hub, network)
                restarts_agree(tx, self.model, hub, network)
                for protocols in FILTERS:
                    claims_agree(tx, self.model, hub, network, 100, protocols)


def test_store_agrees_with_the_model(store: StateStore) -> None:
    run_machine(partial(Machine, store), 8, 15)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_store_agrees_with_the_model_in_many_random_sequences(store: StateStore) -> None:
    run_many(partial(Machine, store))
