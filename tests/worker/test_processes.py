"""`alchemistore worker` as a process: signals, kills, and several on one hub."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from alchemistore import S3ObjectStore, Scope, StateStore
from alchemistore.cli import main
from alchemistore.settings import S3ObjectStoreSettings
from tests.support.forks import FORKS
from tests.support.history import attempts, status
from tests.worker.conftest import MODULES, ended, only_task, processes, tricks, wait_until


def execute(arguments: list[str], environment: dict[str, str], output: Connection) -> None:
    """Run a command in this process, as its console script does."""
    # A terminal and a batch queue send signals to a process and everything that it has started.
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(environment)
    for number in (1, 2):
        os.dup2(output.fileno(), number)
    output.close()
    # The tests may run under `nohup`.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    sys.argv = ["alchemistore", *arguments]
    main()


TEMPLATE = "alchemistore.worker.template"


class Process:
    """A process of the command, and the events that it has printed."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        ours, theirs = FORKS.Pipe()
        self._process = FORKS.Process(target=execute, args=(arguments, environment, theirs))
        self._process.start()
        theirs.close()
        self._output = os.fdopen(os.dup(ours.fileno()), closefd=True)
        ours.close()

    def until(self, kind: str) -> dict[str, Any]:
        """Read what it prints until an event of a kind, and return that."""
        said = []
        while line := self._output.readline():
            said.append(line)
            if line.startswith("{") and (found := dict(json.loads(line)))["event"] == kind:
                return found
        raise AssertionError("".join(said))

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def send(self, number: int) -> None:
        """Send a signal to its process group."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """Kill it alone."""
        self._process.kill()

    def end(self) -> int | None:
        """Wait for its end, and return the exit code."""
        self._process.join(60)
        return self._process.exitcode

    def abandon(self) -> None:
        """Kill it, unless it has ended."""
        self._process.kill()
        self._process.join(60)
        self._output.close()


Start = Callable[..., Process]


@pytest.fixture
def start(
    pooled_database: str, objects: S3ObjectStore, bucket: S3ObjectStoreSettings, tmp_path: Path
) -> Iterator[Start]:
    """Starts workers that print events as JSON; none outlives the test."""
    started: list[Process] = []
    environment = {**os.environ, **MODULES, "ALCHEMISTORE_DATABASE_URL": pooled_database}
    for name, value in bucket.model_dump().items():
        if value is not None:
            secret = hasattr(value, "get_secret_value")
            environment[name] = value.get_secret_value() if secret else str(value)

    def start(name: str, *options: str) -> Process:
        chosen = ["worker", "--json", "--name", name, "-d", str(tmp_path / "work"), *options]
        started.append(Process(chosen, environment))
        return started[-1]

    yield start
    for one in started:
        one.abandon()


def test_two_workers_share_a_hub_and_one_takes_over_from_a_killed_one(
    store: StateStore, scope: Scope, start: Start, tmp_path: Path
) -> None:
    hanging = only_task(tricks(store, scope, f"hang {tmp_path}"))
    killed = start("killed", "--heartbeat", "1s")
    killed.until("started")
    found = processes(tmp_path)
    others = tricks(store, scope, "work", tasks=3).tasks
    second = start("second")
    for _ in others:
        assert second.until("finished")["ok"]
    killed.kill()
    assert killed.end() == -signal.SIGKILL
    # The attempt ends with its worker; processes that it has started may go on.
    assert ended(found[:1])
    found[1].kill()
    assert status(store, hanging) == "running"
    (tmp_path / "go").touch()
    wait_until(lambda: "killed" in store.expire_registrations(timedelta(seconds=2)))
    # The other one waits for work and is notified.
    assert second.until("finished")["task"] == str(hanging)
    # The end of its terminal ends it while it waits.
    second.send(signal.SIGHUP)
    assert second.until("ended")["reason"] == "it was told to end"
    assert second.end() == 0
    assert store.query_computeservices() == []
    assert [(one.service, one.outcome) for one in attempts(store, hanging)] == [
        ("killed", "expired"),
        ("second", "complete"),
    ]
    assert {attempts(store, task)[0].service for task in others} == {"second"}


def test_first_signal_drains_and_the_task_is_finished(
    store: StateStore, scope: Scope, start: Start, tmp_path: Path
) -> None:
    tasks = tricks(store, scope, f"hang {tmp_path}", tasks=2).tasks
    worker = start("draining", "--claim-limit", "2")
    running = worker.until("started")["task"]
    processes(tmp_path)
    worker.send(signal.SIGTERM)
    released = worker.until("released")["task"]
    assert {running, released} == set(map(str, tasks))
    (tmp_path / "go").touch()
    assert worker.until("finished")["ok"]
    assert worker.until("ended")["reason"] == "it was told to end"
    assert worker.end() == 0
    assert store.get_task_status([running, released]) == ["complete", "waiting"]
    assert store.query_computeservices() == []


@pytest.mark.soak
def test_second_signal_stops_at_once_and_gives_the_claim_back(
    store: StateStore, scope: Scope, start: Start, tmp_path: Path
) -> None:
    task = only_task(tricks(store, scope, f"hang {tmp_path}"))
    worker = start("stopping")
    worker.until("started")
    found = processes(tmp_path)
    worker.send(signal.SIGINT)
    worker.until("draining")
    worker.send(signal.SIGTERM)
    assert worker.until("ended")["stopped"] == 1
    assert worker.end() == 130
    assert ended(found)
    assert status(store, task) == "waiting"
    assert [one.outcome for one in attempts(store, task)] == ["deregistered"]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_killed_workers_lose_no_task_and_leave_no_process(
    store: StateStore, objects: S3ObjectStore, scope: Scope, start: Start
) -> None:
    tasks = tricks(store, scope, "pause 0.3", tasks=60).tasks
    number = count()
    workers = [start(f"worker-{next(number)}", "--heartbeat", "1s") for _ in range(3)]
    pids = [one.pid for one in workers]
    draw = random.Random(1)
    kills = 0
    while store.get_scope_status(scope) != {"complete": len(tasks)}:
        store.expire_registrations(timedelta(seconds=4))
        if kills < 8 and store.get_scope_status(scope).get("complete", 0) > 5 * kills:
            victim = workers.pop(draw.randrange(3))
            victim.kill()
            victim.end()
            workers.append(start(f"worker-{next(number)}", "--heartbeat", "1s"))
            pids.append(workers[-1].pid)
            kills += 1
        time.sleep(0.1)
    for one in workers:
        one.send(signal.SIGTERM)
        assert one.end() == 0
    assert kills == 8
    store.check()
    for task in tasks:
        outcomes = [str(attempt.outcome) for attempt in attempts(store, task)]
        assert outcomes.count("complete") == 1
        assert set(outcomes) <= {"complete", "expired"}
        [reference] = store.get_task_results(task)
        assert objects.absent([store.get_gufe(reference).location]) == set()
    # The processes of attempts have the command line of the one that they are forked from.
    mine = {str(pid) for pid in pids}
    lines = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if TEMPLATE in line and mine & {*line}]
