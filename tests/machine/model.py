"""What a state store is to its users, in a hundred lines: tasks, hubs, actions, claims, and nothing about how it is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from alchemistore import ScopedKey

TERMINAL = ("invalid", "deleted")
SOURCES = {
    "waiting": ("waiting", "running", "error"),
    "running": ("waiting", "running"),
    "complete": ("running", "complete"),
    "error": ("running", "error"),
    "invalid": ("waiting", "running", "complete", "error", "invalid"),
    "deleted": ("waiting", "running", "complete", "error", "deleted"),
}

Answer = list[ScopedKey | None]


@dataclass(frozen=True)
class ModelTask:
    transformation: ScopedKey
    parent: ScopedKey | None
    status: str = "waiting"
    priority: int = 10
    service: str | None = None
    claimed: int = 0


@dataclass
class Model:
    """The hubs are called by their networks; `content` says what is in a network."""

    content: dict[ScopedKey, set[ScopedKey]]
    tasks: dict[ScopedKey, ModelTask] = field(default_factory=dict)
    actions: dict[ScopedKey, dict[ScopedKey, float]] = field(default_factory=dict)
    services: dict[str, int] = field(default_factory=dict)

    def _set(self, task: ScopedKey, **changes: object) -> None:
        self.tasks[task] = replace(self.tasks[task], **changes)  # type: ignore[arg-type]  # the names are checked

    def _tree(self, task: ScopedKey) -> set[ScopedKey]:
        below = {task}
        for one, what in self.tasks.items():
            # Tasks come after what they extend.
            if what.parent in below:
                below.add(one)
        return below

    def create(self, task: ScopedKey, transformation: ScopedKey, parent: ScopedKey | None) -> None:
        self.tasks[task] = ModelTask(transformation, parent)

    def can_be_extended(self, task: ScopedKey, transformation: ScopedKey) -> bool:
        return self.tasks[task].status not in TERMINAL and self.tasks[task].transformation == transformation

    def action(self, tasks: Iterable[ScopedKey | None], network: ScopedKey) -> Answer:
        answer: Answer = []
        for task in tasks:
            fits = (
                task in self.tasks
                and network in self.actions
                and task not in self.actions[network]
                and self.tasks[task].transformation in self.content[network]
                and self.tasks[task].status in ("waiting", "running", "error")
            )
            if fits and task is not None:
                self.actions[network][task] = 0.5
            answer.append(task if fits else None)
        return answer

    def cancel(self, tasks: Iterable[ScopedKey | None], network: ScopedKey) -> Answer:
        hub = self.actions.get(network, {})
        return [task if task is not None and hub.pop(task, None) is not None else None for task in tasks]

    def weigh(self, tasks: list[ScopedKey | None], network: ScopedKey, weight: float) -> Answer:
        hub = self.actions.get(network, {})
        hub.update((task, weight) for task in tasks if task in hub and task is not None)
        return [task if task in hub else None for task in tasks]

    def prioritize(self, tasks: list[ScopedKey | None], priority: int) -> Answer:
        for task in tasks:
            if task in self.tasks and task is not None:
                self._set(task, priority=priority)
        return [task if task in self.tasks else None for task in tasks]

    def accepted(self, tasks: Iterable[ScopedKey | None], status: str) -> Answer:
        return [task if task in self.tasks and self.tasks[task].status in SOURCES[status] else None for task in tasks]

    def set_status(self, tasks: list[ScopedKey | None], status: str) -> Answer:
        answer = self.accepted(tasks, status)
        for task in filter(None, answer):
            for one in self._tree(task) if status in TERMINAL else {task}:
                if self.tasks[one].status not in TERMINAL:
                    self._set(one, status=status)
                if status != "running":
                    self._set(one, service=None)
                if status in ("complete", *TERMINAL):
                    for hub in self.actions.values():
                        hub.pop(one, None)
        return answer

    def claimable(self, network: ScopedKey) -> set[ScopedKey]:
        return {
            task
            for task, weight in self.actions.get(network, {}).items()
            if weight > 0
            and self.tasks[task].status == "waiting"
            and (self.tasks[task].parent is None or self.tasks[self.tasks[task].parent].status == "complete")  # type: ignore[index]  # not None
        }

    def claim(self, task: ScopedKey, service: str) -> None:
        self._set(task, status="running", service=service, claimed=self.tasks[task].claimed + 1)

    def remove(self, service: str) -> None:
        del self.services[service]
        for task, what in list(self.tasks.items()):
            if what.service == service:
                self._set(task, service=None, status="waiting" if what.status == "running" else what.status)
