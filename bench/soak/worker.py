"""A worker process: compute services that claim, deliver and settle until SIGTERM.

``python -m bench.soak.worker`` reads a :class:`Job` as JSON from its standard input.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch
from uuid import uuid4

from alchemistore import (
    AlchemistoreError,
    ComputeServiceRegistration,
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    StateStore,
    get_s3os,
)
from alchemistore.errors import MissingObjectError
from alchemistore.models import clock
from alchemistore.objectstore.packing import pack, unpack
from alchemistore.settings import S3ObjectStoreSettings
from bench.soak.journal import Journal

R = TypeVar("R")

# Seconds to wait before an unanswered call is repeated, and if there is no task to claim.
AGAIN = (0.05, 0.3)
IDLE = (0.1, 0.3)
LARGEST_CLAIM = 3
# How often, and for how many seconds, an idle service waits for a notification.
LISTENING, LISTENING_SECONDS = 0.2, 1.0
# The share of tasks that fail; the maintainer sets them back to waiting.
FAILURES = 0.05


@dataclasses.dataclass(frozen=True)
class Job:
    """The work of one process.

    Attributes
    ----------
    name : str
        The name of the process; its services are ``<name>.<number>``.
    url : str
        The database.
    hubs : list of str
        The hubs to claim from.
    scope : str
        The scope of the hubs.
    journal : str
        The file of its journal.
    threads : int
        The number of services.
    heartbeat : float
        Seconds between two heartbeats.
    skew : float
        Seconds by which the clock of the process is fast.
    bucket : dict or None
        The settings of the object store; without them, references have no objects.
    """

    name: str
    url: str
    hubs: list[str]
    scope: str
    journal: str
    threads: int
    heartbeat: float
    skew: float = 0.0
    bucket: dict[str, str] | None = None


class Stopped(Exception):
    """The process was told to end while a call had no answer yet."""


class Crew:
    """The services of one process, which share a store."""

    def __init__(self, job: Job, stopped: threading.Event) -> None:
        self.job, self.stopped = job, stopped
        self.journal = Journal(Path(job.journal))
        self.store = StateStore(job.url)
        self.objects = (
            None
            if job.bucket is None
            else get_s3os(S3ObjectStoreSettings.model_validate(job.bucket))
        )

    def run(self) -> None:
        """Run all services until the process is told to stop, or its parent has ended."""
        services = [Service(self, f"{self.job.name}.{i}") for i in range(self.job.threads)]
        threads = [threading.Thread(target=service.run) for service in services]
        for thread in threads:
            thread.start()
        parent = os.getppid()
        while not self.stopped.wait(self.job.heartbeat):
            if os.getppid() != parent:
                # The controller was killed.
                self.stopped.set()
            for service in services:
                service.beat()
        for thread in threads:
            thread.join()
        self.store.close()

    def insist(self, call: str, action: Callable[[], R]) -> R:
        """Repeat a call until it is answered, as the errors advise."""
        while True:
            try:
                return action()
            except AlchemistoreError as error:
                self.note(call, error)
            if self.stopped.wait(random.uniform(*AGAIN)):
                raise Stopped

    def note(self, call: str, error: Exception) -> None:
        """Add an error to the journal."""
        self.journal.write("error", call=call, error=type(error).__name__, text=str(error)[:300])


class Service:
    """A compute service: one thread that claims tasks and runs them."""

    def __init__(self, crew: Crew, name: str) -> None:
        self._crew, self._store, self._name = crew, crew.store, name

    def run(self) -> None:
        """Claim and run tasks until the process is told to stop."""
        try:
            self._register()
            while not self._crew.stopped.is_set():
                tasks = self._claim()
                for task in tasks:
                    self._perform(task)
                if not tasks:
                    self._idle()
        except Stopped:
            return

    def beat(self) -> None:
        """Send a heartbeat; register again if the registration has expired."""
        try:
            self._store.heartbeat_computeservice(self._name, clock.now())
        except MissingObjectError:
            try:
                self._register()
            except Stopped:
                return
        except AlchemistoreError as error:
            self._crew.note("heartbeat_computeservice", error)

    def _register(self) -> None:
        try:
            self._crew.insist(
                "register_computeservice",
                lambda: self._store.register_computeservice(
                    ComputeServiceRegistration.from_now(self._name, hostname="soak")
                ),
            )
        except ValueError as error:
            # By the other thread, or by a call whose answer was lost.
            if "already registered" not in str(error):
                raise

    def _claim(self) -> list[ScopedKey]:
        count, hub = random.randint(1, LARGEST_CLAIM), random.choice(self._crew.job.hubs)
        method: Callable[..., list[ScopedKey | None]]
        if random.random() < 0.5:
            method, source = self._store.claim_taskhub_tasks, hub
        else:
            method, source = self._store.claim_tasks, [Scope.from_str(self._crew.job.scope)]  # type: ignore[assignment]  # the methods take different sources
        # Repeated with the same identifier, a claim whose answer was lost returns it.
        identified: dict[str, Any] = (
            {"request": uuid4()} if "request" in inspect.signature(method).parameters else {}
        )
        try:
            claimed = self._crew.insist(
                method.__name__, lambda: method(source, self._name, count, **identified)
            )
        except MissingObjectError:
            self._register()
            return []
        tasks = [task for task in claimed if task is not None]
        for task in tasks:
            self._crew.journal.write("claimed", service=self._name, task=str(task))
        return tasks

    def _idle(self) -> None:
        """Wait until there may be tasks: most often for a moment, sometimes for a notification."""
        if random.random() < LISTENING:
            hubs = self._crew.job.hubs
            self._crew.insist(
                "wait_for_tasks",
                lambda: self._store.wait_for_tasks(taskhubs=hubs, timeout=LISTENING_SECONDS),
            )
        else:
            self._crew.stopped.wait(random.uniform(*IDLE))

    def _perform(self, task: ScopedKey) -> None:
        _, previous = self._crew.insist(
            "get_task_transformation",
            lambda: self._store.get_task_transformation(task, return_gufe=False),
        )
        if previous is not None:
            self._read(previous)
        ok = random.random() >= FAILURES
        ref = self._deliver(task, ok)
        facts = {"service": self._name, "task": str(task), "result": str(ref.key), "ok": ok}
        self._crew.journal.write("settling", **facts)
        settlement = self._crew.insist(
            "settle_task",
            lambda: self._store.settle_task(
                task, ref, self._name, tracebacks=None if ok else [f"{task} failed"]
            ),
        )
        self._crew.journal.write("settled", attempt=settlement.attempt, **facts)

    def _deliver(self, task: ScopedKey, ok: bool) -> ProtocolDAGResultRef:
        """Store an object, if there is an object store, and return the reference to it."""
        name, objects = uuid4().hex, self._crew.objects
        location = None if objects is None else f"soak/{name}"
        if objects is not None and location is not None:
            prefix, data = objects.bucket_prefix, pack(content(location))
            self._crew.insist("put", lambda: prefix.put(location, data, "application/zstd"))
        return ProtocolDAGResultRef(
            obj_key=f"ProtocolDAGResult-{name}",  # type: ignore[arg-type]  # pydantic parses it
            scope=task.scope,
            ok=ok,
            location=location,
            datetime_created=clock.now(),
            creator=self._name,
        )

    def _read(self, result: ScopedKey) -> None:
        """Read the result that a task continues."""
        objects = self._crew.objects
        ref = self._crew.insist("get_gufe", lambda: self._store.get_gufe(result))
        if objects is not None:
            prefix = objects.bucket_prefix
            data = self._crew.insist("get", lambda: prefix.get(ref.location))
            if unpack(data, ref.location).encode() != content(ref.location):
                raise AssertionError(f"the object at {ref.location} is not the one written")


def content(location: str) -> bytes:
    """Return the content of the object at a location; large enough to be sent in pieces."""
    return random.Random(location).randbytes(30_000).hex().encode()


def end_on_crash(journal: Journal) -> Callable[[Any], None]:
    """Return a hook that ends the process if a thread has an error that nothing handles."""

    def hook(arguments: Any) -> None:
        text = "".join(traceback.format_exception(arguments.exc_value))
        journal.write("crash", error=arguments.exc_type.__name__, text=text[-2000:])
        os._exit(1)

    return hook


def main() -> None:
    """Run a job."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    job = Job(**json.loads(sys.stdin.read()))
    crew = Crew(job, stopped)
    threading.excepthook = end_on_crash(crew.journal)
    shift = timedelta(seconds=job.skew)
    skewed = SimpleNamespace(now=lambda zone: datetime.now(zone) + shift)
    milliseconds = SimpleNamespace(time_ns=lambda: time.time_ns() + int(job.skew * 1e9))
    assert clock.now().tzinfo is UTC
    with patch.object(clock, "datetime", skewed), patch.object(clock, "time", milliseconds):
        crew.run()


if __name__ == "__main__":
    main()
