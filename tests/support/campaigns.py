"""Small networks, hubs with tasks, and services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gufe

from alchemistore import ComputeServiceRegistration, Scope, ScopedKey, StateStore
from tests.support.gufe_classes import Effort, PushProtocol, system

# The token of a key that is never stored.
ZERO = "0" * 32
STATUSES = ("waiting", "running", "complete", "error", "invalid", "deleted")


def star(arms: int = 3, name: str = "star", mode: str = "work") -> gufe.AlchemicalNetwork:
    """Return a network of one system in the middle and a transformation to each other system."""
    protocol, middle = PushProtocol(Effort(mode)), system("middle")
    edges = [
        gufe.Transformation(middle, system(f"arm {i}"), protocol, name=f"to arm {i}")
        for i in range(arms)
    ]
    return gufe.AlchemicalNetwork(edges, name=name)


@dataclass(frozen=True)
class Campaign:
    """A stored network with its hub, its transformations, and tasks actioned on the hub."""

    network: ScopedKey
    hub: ScopedKey
    transformations: list[ScopedKey]
    tasks: list[ScopedKey]


def campaign(
    store: StateStore,
    scope: Scope,
    *,
    tasks: int = 0,
    arms: int = 3,
    name: str = "star",
    action: bool = True,
) -> Campaign:
    """Store a network with a hub, and `tasks` tasks in all, spread over its transformations."""
    network = store.create_network(star(arms, name), scope)
    hub = store.create_taskhub(network)
    transformations = store.get_network_transformations(network)
    made = created(
        store.create_tasks([transformations[i % len(transformations)] for i in range(tasks)])
    )
    if action:
        assert store.action_tasks(made, hub) == made
    return Campaign(network, hub, transformations, made)


def created(tasks: Sequence[ScopedKey | None]) -> list[ScopedKey]:
    """Return the tasks that a call created; it must not have refused one."""
    made = [task for task in tasks if task is not None]
    assert len(made) == len(tasks)
    return made


def register(store: StateStore, *identifiers: str) -> None:
    """Register compute services."""
    for identifier in identifiers:
        store.register_computeservice(
            ComputeServiceRegistration.from_now(identifier, hostname="host")
        )


def chain(store: StateStore, transformation: ScopedKey, length: int) -> list[ScopedKey]:
    """Create tasks, each of which extends the one before."""
    tasks = [store.create_task(transformation)]
    while len(tasks) < length:
        tasks.append(store.create_task(transformation, extends=tasks[-1]))
    return tasks


def tree(
    store: StateStore, transformation: ScopedKey, extends: ScopedKey | None = None
) -> list[ScopedKey]:
    """Create seven tasks: a root, two that extend it, and two that extend each of these."""
    tasks = [store.create_task(transformation, extends=extends)]
    for i in range(6):
        tasks.append(store.create_task(transformation, extends=tasks[i // 2]))
    return tasks


def move_to_status(store: StateStore, tasks: Sequence[ScopedKey], status: str) -> None:
    """Set a status on waiting tasks, through the statuses in between."""
    for step in {
        "waiting": [],
        "complete": ["running", "complete"],
        "error": ["running", "error"],
    }.get(status, [status]):
        assert store.set_task_status(tasks, step) == list(tasks)
