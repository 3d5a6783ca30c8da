"""Workers in this process, whose attempts run in real processes."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from alchemistore import S3ObjectStore, Scope, ScopedKey, StateStore, get_s3os
from alchemistore.settings import S3ObjectStoreSettings
from alchemistore.worker import Event, Launcher, Options, Summary, Worker
from tests.support.campaigns import Campaign, created
from tests.support.servers import discard_bucket
from tests.support.tricks import trick_network

CHECKOUT = Path(__file__).parents[2]
NAME = "a worker"
# What the processes of attempts need to find the protocol of the tests.
MODULES = {
    "PYTHONPATH": os.pathsep.join(
        [str(CHECKOUT), str(CHECKOUT / "examples"), *filter(None, [os.environ.get("PYTHONPATH")])]
    ),
    "ALCHEMISTORE_MODULES": "tests.support,harmonic",
}


def tricks(store: StateStore, scope: Scope, mode: str, tasks: int = 1) -> Campaign:
    """Store a network whose only transformation carries out a mode, with tasks on its hub."""
    network = store.create_network(trick_network(mode), scope)
    hub = store.create_taskhub(network)
    edges = store.get_network_transformations(network)
    made = created(store.create_tasks(edges * tasks))
    assert store.action_tasks(made, hub) == made
    return Campaign(network, hub, edges, made)


@dataclass
class Told:
    """The events of a worker; at some kinds of them, something is done."""

    events: list[Event] = field(default_factory=list)
    at: dict[str, Callable[[], None]] = field(default_factory=dict)
    worker: Worker | None = None

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if (act := self.at.get(event.kind)) is not None:
            act()

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def one(self, kind: str) -> dict[str, Any]:
        """Return the fields of the only event of a kind."""
        [event] = [event for event in self.events if event.kind == kind]
        return dict(event.fields)


@pytest.fixture(scope="module")
def bucket(s3_server: S3ObjectStoreSettings) -> Iterator[S3ObjectStoreSettings]:
    """The settings of one bucket for all tests of a module."""
    settings = s3_server.model_copy(update={"AWS_S3_BUCKET": f"test-{uuid.uuid4().hex}"})
    yield settings
    discard_bucket(settings)


@pytest.fixture(scope="module")
def objects(bucket: S3ObjectStoreSettings) -> S3ObjectStore:
    """One object store for all tests of a module, because a client takes long to create."""
    objects = get_s3os(bucket)
    objects.initialize()
    return objects


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """One launcher for all tests of a module, because it takes long to import gufe."""
    launcher = Launcher({**os.environ, **MODULES, "AWS_SECRET_ACCESS_KEY": "a secret"})
    yield launcher
    launcher.close()


@pytest.fixture
def told() -> Told:
    return Told()


Run = Callable[..., Summary]


@pytest.fixture
def run(
    store: StateStore, objects: S3ObjectStore, launcher: Launcher, told: Told, tmp_path: Path
) -> Run:
    """Runs a worker until there is nothing to claim, or as the options say."""

    def run(on: StateStore = store, **options: Any) -> Summary:
        defaults = {"max_idle": 0.0, "heartbeat": 60.0}
        chosen = Options(name=NAME, directory=tmp_path / "work", **(defaults | options))
        told.worker = Worker(on, objects, chosen, told, launcher)
        return told.worker.run()

    return run


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is fulfilled."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def processes(directory: Path) -> list[psutil.Process]:
    """Return the processes of a hanging attempt, as soon as they run."""
    wait_until((directory / "pids").exists)
    return [psutil.Process(int(pid)) for pid in (directory / "pids").read_text().split()]


def ended(found: list[psutil.Process]) -> bool:
    """Wait until processes have ended."""
    _, alive = psutil.wait_procs(found, timeout=60)
    return not alive


def only_task(made: Campaign) -> ScopedKey:
    [task] = made.tasks
    return task
