"""A model of the state store: tasks, hubs, claims and results, without storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

from alchemistore import ProtocolDAGResultRef, Scope, ScopedKey

Answer = list[ScopedKey | None]
Tasks = Sequence[ScopedKey | None]

# From which statuses each is reached, and how an attempt ends by it; running is no end.
STATUSES: Mapping[str, tuple[tuple[str, ...], str | None]] = {
    "waiting": (("waiting", "running", "error"), "released"),
    "running": (("waiting", "running"), None),
    "complete": (("running", "complete"), "complete"),
    "error": (("running", "error"), "error"),
    "invalid": (("waiting", "running", "complete", "error", "invalid"), "invalid"),
    "deleted": (("waiting", "running", "complete", "error", "deleted"), "deleted"),
}
LIVE = ("waiting", "running", "error")
FOR_GOOD = ("invalid", "deleted")


@dataclass
class ModelAttempt:
    """A claim; it is open while it has no outcome."""

    service: str
    outcome: str | None = None
    result: ProtocolDAGResultRef | None = None


@dataclass
class ModelTask:
    """A task and its history; `results` maps each result to the attempt that it settled first."""

    transformation: ScopedKey
    parent: ScopedKey | None = None
    priority: int = 10
    statuses: list[str] = field(default_factory=lambda: ["waiting"])
    attempts: list[ModelAttempt] = field(default_factory=list)
    results: dict[ProtocolDAGResultRef, int | None] = field(default_factory=dict)

    @property
    def status(self) -> str:
        return self.statuses[-1]

    @property
    def claim(self) -> ModelAttempt | None:
        return self.attempts[-1] if self.attempts and self.attempts[-1].outcome is None else None

    @property
    def service(self) -> str | None:
        return self.claim.service if self.claim else None

    def become(self, status: str, outcome: str | None) -> None:
        """Set a status unless the current one is final, and end a claim with the outcome."""
        if status != self.status and self.status not in FOR_GOOD:
            self.statuses.append(status)
        if outcome and self.claim:
            self.claim.outcome = outcome

    def keep(
        self, result: ProtocolDAGResultRef, attempt: int | None, settles: bool = False
    ) -> None:
        """Keep a result. An attempt has the one that settled it, else the first that came in."""
        self.results[result] = self.results.get(result) or attempt
        if attempt and (settles or not self.attempts[attempt - 1].result):
            self.attempts[attempt - 1].result = result


@dataclass
class ModelHub:
    """A hub; `patterns` maps restart patterns to maxima, `retries` counts by task and pattern."""

    weight: float = 0.5
    actions: dict[ScopedKey, float] = field(default_factory=dict)
    patterns: dict[str, int] = field(default_factory=dict)
    retries: dict[tuple[ScopedKey, str], int] = field(default_factory=dict)

    def drop(self, task: ScopedKey) -> float | None:
        """Take a task off the hub, and return the weight that it had."""
        self.forget(lambda counted, _: counted == task)
        return self.actions.pop(task, None)

    def forget(self, which: Callable[[ScopedKey, str], bool]) -> None:
        """Forget the retries of some tasks and patterns."""
        self.retries = {key: used for key, used in self.retries.items() if not which(*key)}


@dataclass
class Model:
    """Hubs are keyed by network; `content` maps networks, `protocols` maps transformations."""

    content: Mapping[ScopedKey, set[ScopedKey]]
    protocols: Mapping[ScopedKey, str]
    hubs: dict[ScopedKey, ModelHub] = field(default_factory=dict)
    tasks: dict[ScopedKey, ModelTask] = field(default_factory=dict)
    services: dict[str, int] = field(default_factory=dict)
    states: dict[ScopedKey, str] = field(default_factory=dict)
    tracebacks: dict[ProtocolDAGResultRef, str] = field(default_factory=dict)

    def in_state(self, task: ScopedKey, states: Sequence[str]) -> bool:
        """Whether the task's transformation is in a network with one of these states."""
        return any(
            self.tasks[task].transformation in edges
            and self.states.get(network, "active") in states
            for network, edges in self.content.items()
        )

    def tree(self, task: ScopedKey) -> list[ScopedKey]:
        """The task and all that extends it, directly or not."""
        below = [task]
        # Tasks come after what they extend.
        for one, what in self.tasks.items():
            if what.parent in below:
                below.append(one)
        return below

    def take_off(self, task: ScopedKey) -> None:
        for hub in self.hubs.values():
            hub.drop(task)

    def can_be_extended(self, task: ScopedKey, transformation: ScopedKey) -> bool:
        return (
            task in self.tasks
            and self.tasks[task].status not in FOR_GOOD
            and self.tasks[task].transformation == transformation
        )

    def prioritize(self, tasks: Tasks, priority: int) -> Answer:
        for task in tasks:
            if task in self.tasks:
                self.tasks[task].priority = priority
        return [task if task in self.tasks else None for task in tasks]

    def accepted(self, tasks: Tasks, status: str) -> Answer:
        return [
            task if task in self.tasks and self.tasks[task].status in STATUSES[status][0] else None
            for task in tasks
        ]

    def set_status(self, tasks: Tasks, status: str) -> Answer:
        answer = self.accepted(tasks, status)
        for task in filter(None, answer):
            self.become(task, status, STATUSES[status][1])
        return answer

    def become(self, task: ScopedKey, status: str, outcome: str | None) -> None:
        """Set a final status on all descendants, and take ended tasks off their hubs."""
        for one in self.tree(task) if status in FOR_GOOD else [task]:
            self.tasks[one].become(status, outcome)
            if status not in LIVE:
                self.take_off(one)

    def settle(
        self, task: ScopedKey, result: ProtocolDAGResultRef, service: str | None, number: int | None
    ) -> tuple[str, int | None, str | None]:
        """Return the named attempt, else the service's last one with this result, else its last."""
        what = self.tasks[task]
        mine = [
            n
            for n, one in enumerate(what.attempts, 1)
            if service in (None, one.service) and number in (None, n)
        ]
        if service is None and number is None:
            mine = []
        again = [
            n
            for n in mine
            if n == what.results.get(result) or what.attempts[n - 1].result == result
        ]
        sender = next(reversed(again or mine), None)
        holds = sender is not None and what.attempts[sender - 1] is what.claim
        what.keep(result, sender, settles=holds)
        if holds:
            ended = "complete" if result.ok else "error"
            self.become(task, ended, ended)
            self.resolve([task])
        elif result.ok and what.status in LIVE:
            self.become(task, "complete", "superseded")
        return what.status, sender, what.attempts[sender - 1].outcome if sender else None

    def must_stay(self, task: ScopedKey) -> bool:
        what = self.tasks[task]
        return what.status == "running" or bool(what.results) or self.tree(task) != [task]

    def delete(self, task: ScopedKey) -> None:
        for one in self.tree(task):
            del self.tasks[one]
            self.take_off(one)
        kept = {result for what in self.tasks.values() for result in what.results}
        self.tracebacks = {one: told for one, told in self.tracebacks.items() if one in kept}

    def resolve(self, tasks: Tasks) -> None:
        """Let the hubs with restart patterns decide on the tasks in error, each on its own."""
        for task in dict.fromkeys(tasks):
            if task in self.tasks and self.tasks[task].status == "error":
                hubs = [h for h in self.hubs.values() if task in h.actions and h.patterns]
                restarts = [self._restarts(task, hub) for hub in hubs]
                if any(restarts):
                    self.become(task, "waiting", "released")

    def _restarts(self, task: ScopedKey, hub: ModelHub) -> bool:
        told = [self.tracebacks.get(one) for one in self.tasks[task].results]
        # The last result that has a traceback decides.
        latest = next(filter(None, reversed(told)), "")
        hits = [pattern for pattern in hub.patterns if pattern in latest]
        used = {pattern: hub.retries.get((task, pattern), 0) for pattern in hits}
        if not hits or any(used[pattern] >= hub.patterns[pattern] for pattern in hits):
            hub.drop(task)
            return False
        hub.retries.update({(task, pattern): used[pattern] + 1 for pattern in hits})
        return True

    def action(self, tasks: Tasks, network: ScopedKey) -> Answer:
        answer: Answer = []
        for task in tasks:
            what, hub = self.tasks.get(task) if task else None, self.hubs.get(network)
            new = what and hub and task not in hub.actions and what.status in LIVE
            if task and what and hub and new and what.transformation in self.content[network]:
                hub.actions[task] = 0.5
                answer.append(task)
            else:
                answer.append(None)
        return answer

    def actions(self, network: ScopedKey) -> dict[ScopedKey, float]:
        return self.hubs[network].actions if network in self.hubs else {}

    def cancel(self, tasks: Tasks, network: ScopedKey) -> Answer:
        return [
            task
            if task and network in self.hubs and self.hubs[network].drop(task) is not None
            else None
            for task in tasks
        ]

    def weigh(self, weights: Mapping[ScopedKey, float], network: ScopedKey) -> None:
        actions = self.actions(network)
        actions.update((task, weight) for task, weight in weights.items() if task in actions)

    def claimable(self, network: ScopedKey, protocols: Iterable[str] | None) -> set[ScopedKey]:
        able = {
            task: self.tasks[task] for task, weight in self.actions(network).items() if weight > 0
        }
        return {
            task
            for task, what in able.items()
            if what.status == "waiting"
            and (what.parent is None or self.tasks[what.parent].status == "complete")
            and (protocols is None or self.protocols[what.transformation] in protocols)
        }

    def can_give(
        self,
        claimed: Answer,
        networks: Sequence[ScopedKey],
        count: int,
        protocols: Iterable[str] | None = None,
    ) -> bool:
        """Check whether these tasks may be claimed from these hubs in turn, most urgent first."""
        expected: Answer = []
        for network in networks:
            able = self.claimable(network, protocols) - set(expected)
            urgent = sorted(self.tasks[task].priority for task in able)[: count - len(expected)]
            got = claimed[len(expected) : len(expected) + len(urgent)]
            if (
                not able.issuperset(got)
                or [self.tasks[task].priority for task in got if task] != urgent
            ):
                return False
            expected += got
        return len(expected) == len(set(expected)) and claimed == expected + [None] * (
            count - len(expected)
        )

    def can_give_anywhere(
        self,
        claimed: Answer,
        scopes: Iterable[Scope],
        exclude: Iterable[Scope],
        count: int,
        protocols: Iterable[str] | None,
    ) -> bool:
        """Check the same for all hubs of these scopes in any order; weight 0 closes a hub."""
        hubs = [
            network
            for network, hub in self.hubs.items()
            if hub.weight > 0
            and any(scope.is_superset(network.scope) for scope in scopes)
            and not any(scope.is_superset(network.scope) for scope in exclude)
        ]
        return any(self.can_give(claimed, order, count, protocols) for order in permutations(hubs))

    def claim(self, task: ScopedKey, service: str) -> None:
        self.tasks[task].attempts.append(ModelAttempt(service))
        self.tasks[task].statuses.append("running")

    def remove(self, service: str, outcome: str) -> None:
        del self.services[service]
        for task in self.tasks.values():
            if task.service == service:
                task.become("waiting", outcome)
