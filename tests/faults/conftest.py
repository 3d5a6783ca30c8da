"""Worker processes, an object store, and a proxy to it that can be held."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import psutil
import pytest

from alchemistore import AttemptOutcome, S3ObjectStore, ScopedKey, StateStore, gufe_adapter
from alchemistore.models import Settlement
from alchemistore.settings import S3ObjectStoreSettings
from tests.support import fault_worker
from tests.support.campaigns import Campaign
from tests.support.forks import FORKS
from tests.support.history import attempts, status


class WorkerProcess:
    """A worker that stops at each stage and reports it."""

    def __init__(self, taskhub: ScopedKey, identifier: str, environment: dict[str, str]) -> None:
        self.identifier = identifier
        self._worker, theirs = FORKS.Pipe()
        self._process = FORKS.Process(
            target=fault_worker.run,
            args=(taskhub, identifier, {**os.environ, **environment}, theirs),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self.task = ScopedKey.from_str(self.until("claimed"))

    def go_on(self) -> None:
        """Continue, without waiting for the next stage."""
        self._worker.send(None)

    def until(self, stage: str) -> str:
        """Continue until the worker reaches a stage, and return its message about it."""
        while True:
            try:
                reached, text = self._worker.recv()
            except EOFError:
                raise AssertionError(f"the worker ended before it was {stage}") from None
            if reached == stage:
                return str(text)
            self.go_on()

    def proceed(self, stage: str) -> str:
        """Leave the current stage, and continue until another."""
        self.go_on()
        return self.until(stage)

    def kill(self) -> None:
        """Kill it as the kernel does when memory runs out."""
        self._process.kill()
        self._process.join(60)
        assert self._process.exitcode == -signal.SIGKILL
        self._worker.close()

    def stop(self) -> None:
        """Suspend it, as a closed laptop does."""
        process = psutil.Process(self._process.pid)
        process.suspend()
        while process.status() != psutil.STATUS_STOPPED:
            os.sched_yield()

    def resume(self) -> None:
        """Resume it."""
        psutil.Process(self._process.pid).resume()

    def end(self) -> None:
        """Run it to its end."""
        self.go_on()
        self._process.join(60)
        assert self._process.exitcode == 0
        self._worker.close()

    def abandon(self) -> None:
        """Kill it, unless it has ended."""
        self._process.kill()
        self._process.join(60)
        self._worker.close()


class Wire:
    """A connection to a server that stalls in the middle of the first upload."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.half_way = Event()
        self._broken = Event()
        self._sockets: list[socket.socket] = []
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._broken.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            Thread(target=self._carry, args=(client, server, True), daemon=True).start()
            Thread(target=self._carry, args=(server, client, False), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, upwards: bool) -> None:
        uploading = False
        try:
            while data := source.recv(65536):
                uploading = uploading or (upwards and data.startswith(b"PUT "))
                head, separator, body = (
                    data.partition(b"\r\n\r\n") if data.startswith(b"PUT ") else (b"", b"", data)
                )
                if uploading and body:
                    target.sendall(head + separator + body[: len(body) // 2])
                    self.half_way.set()
                    self._broken.wait()
                    return
                target.sendall(data)
        except OSError:
            # The worker was killed, or the wire was cut.
            return

    def cut(self) -> None:
        """Drop all connections."""
        self._broken.set()
        self._listener.close()
        for one in self._sockets:
            one.close()


@pytest.fixture
def wire(bucket: S3ObjectStoreSettings) -> Iterator[Wire]:
    """A wire to the object store."""
    assert bucket.AWS_ENDPOINT_URL is not None
    wire = Wire(bucket.AWS_ENDPOINT_URL)
    yield wire
    wire.cut()


Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(
    pooled_database: str, objects: S3ObjectStore, bucket: S3ObjectStoreSettings
) -> Iterator[Start]:
    """Starts workers, which have claimed a task then; none outlives the test."""
    started: list[WorkerProcess] = []

    def start(taskhub: ScopedKey, identifier: str, endpoint: str | None = None) -> WorkerProcess:
        environment = {
            "ALCHEMISTORE_DATABASE_URL": pooled_database,
            "ALCHEMISTORE_APPLICATION_NAME": identifier,
        }
        for name, value in bucket.model_dump().items():
            if value is not None:
                environment[name] = (
                    value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
                )
        if endpoint is not None:
            environment["AWS_ENDPOINT_URL"] = endpoint
        worker = WorkerProcess(taskhub, identifier, environment)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.abandon()


class Here:
    """A worker in this process."""

    def __init__(self, store: StateStore, objects: S3ObjectStore) -> None:
        self._store, self._objects = store, objects

    def perform(self, task: ScopedKey, service: str) -> Settlement:
        """Run a task and settle it."""
        edge, _ = self._store.get_task_transformation(task, return_gufe=False)
        transformation, _ = self._store.get_task_transformation(task)
        with tempfile.TemporaryDirectory() as directory:
            dag = gufe_adapter.create_dag(transformation)
            result = gufe_adapter.execute_dag(
                dag, shared_basedir=Path(directory), scratch_basedir=Path(directory)
            )
        ref = self._objects.push_protocoldagresult(result, transformation=edge, creator=service)
        return self._store.settle_task(task, ref, compute_service_id=service)

    def story(self, task: ScopedKey) -> tuple[str, list[tuple[str, AttemptOutcome | None, bool]]]:
        """Return the status of a task and, by attempt: service, outcome, has a readable result."""
        told = []
        for attempt in attempts(self._store, task):
            if attempt.result is not None:
                listed = self._store.get_task_results(task) + self._store.get_task_failures(task)
                assert attempt.result in listed
                location = self._store.get_gufe(attempt.result).location
                assert self._objects.pull_protocoldagresult(location=location) is not None
            told.append((str(attempt.service), attempt.outcome, attempt.result is not None))
        return status(self._store, task), told

    def nothing_is_stranded(self, made: Campaign) -> None:
        """Assert that each task is complete, claimable, or run by a registered service."""
        for task in made.tasks:
            found = status(self._store, task)
            if found == "running":
                assert any(
                    task in self._store.get_service_tasks(one.service)
                    for one in attempts(self._store, task)
                )
            else:
                assert found == "complete" or task in self._store.get_taskhub_unclaimed_tasks(
                    made.hub
                )


@pytest.fixture
def here(store: StateStore, objects: S3ObjectStore) -> Here:
    """This process as a worker."""
    return Here(store, objects)
