"""The load: tasks with continuations on two hubs, worker processes, and one maintainer."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import text

from alchemistore import AlchemistoreError, Scope, ScopedKey, StateStore
from alchemistore.models.clock import now
from bench.soak.journal import Journal
from bench.soak.servers import until
from bench.soak.worker import Job
from bench.star import star

R = TypeVar("R")

ROOT = Path(__file__).parents[2]
SCOPE = Scope("soak", "soak", "soak")
ARMS = 5
# Tasks of one chain, each of which extends the one before.
CHAIN = 5
HEARTBEAT = 1.0
# Seconds between two looks of the maintainer and of the controller.
MAINTENANCE, LOOK = 0.7, 0.2
BATCH = 500
# Seconds that all workers may take to start.
STARTING = 120.0

PROGRESS = text("""
    SELECT
        (SELECT count(*) FROM tasks WHERE status = 'complete') AS complete,
        (SELECT count(*) FROM attempts) AS attempts,
        (SELECT count(*) FROM (
            SELECT FROM attempts WHERE ended_at IS NULL
            GROUP BY scope_id, task HAVING count(*) > 1
        ) AS twice) AS twice
""")
UNFINISHED = text("""
    SELECT t.token, t.status, c.service FROM tasks AS t
    LEFT JOIN claims AS c ON c.scope_id = t.scope_id AND c.task = t.token
    WHERE t.status <> 'complete' ORDER BY t.token
""")


@dataclass(frozen=True)
class Sizes:
    """How much load, and how many faults.

    Attributes
    ----------
    tasks, processes, threads, faults : int
        Numbers of tasks, worker processes, services of each process, and faults.
    expiry : float
        Seconds without a heartbeat after which a registration expires.
    limit : float
        Seconds after which a scenario ends.
    """

    tasks: int = 5000
    processes: int = 4
    threads: int = 4
    faults: int = 10
    expiry: float = 8.0
    limit: float = 270.0

    @property
    def patience(self) -> float:
        """Seconds without any progress after which the rest of the tasks counts as stranded."""
        return 2 * self.expiry + 10.0


QUICK = Sizes(tasks=300, processes=2, threads=4, faults=2, expiry=4.0, limit=180.0)


@dataclass
class Setup:
    """The differences between scenarios.

    Attributes
    ----------
    url : str
        The database, for all.
    fault : callable, optional
        Carried out several times, evenly over the tasks; takes the running load.
    nuisance : callable, optional
        Runs in a thread all the time; takes an event that tells it to end, and returns how often
        it did what it does.
    skews : sequence of float
        Seconds by which the clocks of the worker processes are fast, in turn.
    bucket : dict or None
        The settings of the object store for the workers.
    """

    url: str
    fault: Callable[[Load], None] | None = None
    nuisance: Callable[[threading.Event], int] | None = None
    skews: Sequence[float] = (0.0,)
    bucket: dict[str, str] | None = None


@dataclass
class Drained:
    """How a load ended.

    Attributes
    ----------
    seconds : float
        The time from the first claim to the last completion.
    complete : int
        How many tasks are complete.
    faults : int
        How many faults were carried out.
    twice : int
        The largest number of tasks with two open attempts that was seen at once.
    stranded : list of str
        The tasks that are not complete, with their status.
    """

    seconds: float = 0.0
    complete: int = 0
    faults: int = 0
    twice: int = 0
    stranded: list[str] = field(default_factory=list)


class Load:
    """A load on one store.

    Parameters
    ----------
    setup : Setup
        The servers and faults.
    sizes : Sizes
        How much of it.
    directory : Path
        The directory of the journals.
    """

    def __init__(self, setup: Setup, sizes: Sizes, directory: Path) -> None:
        self.setup, self.sizes, self.directory = setup, sizes, directory
        directory.mkdir()
        self.store = StateStore(setup.url)
        self.journal = Journal(directory / "maintainer.jsonl")
        self._workers: dict[str, subprocess.Popen[str]] = {}
        self._started = 0
        self._ended = threading.Event()
        self._hubs: list[ScopedKey] = []

    def run(self) -> Drained:
        """Create the tasks, run them all, and return how it ended."""
        self._hubs = seed(self.store, self.sizes.tasks)
        with ThreadPoolExecutor() as pool:
            try:
                for _ in range(self.sizes.processes):
                    self._start_worker()
                until("all workers run", self._all_run, STARTING)
                maintaining = pool.submit(self._maintain)
                annoying = self.setup.nuisance and pool.submit(self.setup.nuisance, self._ended)
                drained = self._drain()
                self._stop_workers()
            finally:
                self._ended.set()
                for worker in self._workers.values():
                    worker.kill()
                    worker.wait()
        maintaining.result()
        drained.faults += annoying.result() if annoying else 0
        return drained

    def kill_worker(self) -> None:
        """Kill a worker process in the middle of its work, and start another one."""
        name = random.choice(list(self._workers))
        worker = self._workers.pop(name)
        worker.kill()
        worker.wait()
        self._start_worker()

    def survived(self, service: str) -> bool:
        """Check whether a service ran until the end of the load."""
        return service.partition(".")[0] in self._workers

    def insist(self, call: str, action: Callable[[], R]) -> R:
        """Repeat a call until it is answered."""
        while True:
            try:
                return action()
            except AlchemistoreError as error:
                self.journal.write(
                    "error", call=call, error=type(error).__name__, text=str(error)[:300]
                )
                time.sleep(random.uniform(0.05, 0.3))

    def rows(self, statement: Any) -> Sequence[Any]:
        """Return the rows of a query."""

        def read() -> Sequence[Any]:
            with self.store.transaction(readonly=True) as tx:
                assert tx.connection is not None
                return tx.connection.execute(statement).all()

        return self.insist("query", read)

    def _all_run(self) -> bool:
        self._replace_crashed()
        return all((self.directory / f"{name}.jsonl").exists() for name in self._workers)

    def _drain(self) -> Drained:
        drained, fault = Drained(), self.setup.fault
        begun = changed = time.monotonic()
        last: tuple[int, int] | None = None
        while True:
            [progress] = self.rows(PROGRESS)
            drained.twice = max(drained.twice, progress.twice)
            drained.complete = progress.complete
            current, seen = (progress.complete, progress.attempts), time.monotonic()
            drained.seconds = seen - begun
            if current != last:
                last, changed = current, seen
            if progress.complete == self.sizes.tasks:
                return drained
            if seen - changed > self.sizes.patience or seen - begun > self.sizes.limit:
                self._look_for_stranded(drained)
                if seen - begun > self.sizes.limit:
                    drained.stranded.append(f"not finished within {self.sizes.limit:.0f} s")
                return drained
            share = self.sizes.tasks * (drained.faults + 1) / (self.sizes.faults + 1)
            left = drained.faults < self.sizes.faults
            if fault is not None and left and progress.complete >= share:
                fault(self)
                drained.faults += 1
            self._replace_crashed()
            time.sleep(LOOK)

    def _look_for_stranded(self, drained: Drained) -> None:
        for row in self.rows(UNFINISHED):
            held = "" if row.service is None else f", held by {row.service}"
            drained.stranded.append(f"{row.token} is {row.status}{held}")

    def _start_worker(self) -> None:
        name = f"worker{self._started}"
        job = Job(
            name=name,
            url=self.setup.url,
            hubs=[str(hub) for hub in self._hubs],
            scope=str(SCOPE),
            journal=str(self.directory / f"{name}.jsonl"),
            threads=self.sizes.threads,
            heartbeat=HEARTBEAT,
            skew=self.setup.skews[self._started % len(self.setup.skews)],
            bucket=self.setup.bucket,
        )
        self._started += 1
        with (self.directory / f"{name}.log").open("w") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "bench.soak.worker"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(dataclasses.asdict(job)))
        worker.stdin.close()
        self._workers[name] = worker

    def _replace_crashed(self) -> None:
        for name, worker in list(self._workers.items()):
            if worker.poll() is not None:
                self.journal.write("ended", worker=name, code=worker.returncode)
                del self._workers[name]
                self._start_worker()

    def _stop_workers(self) -> None:
        # A process that has not started yet would be ended by the signal.
        until("all workers run", self._all_run, STARTING)
        for worker in self._workers.values():
            worker.terminate()
        for name, worker in self._workers.items():
            with suppress(subprocess.TimeoutExpired):
                worker.wait(60)
            if worker.returncode != 0:
                self.journal.write("ended", worker=name, code=worker.returncode)

    def _maintain(self) -> None:
        """Expire silent services, and let failed tasks run again."""
        while not self._ended.wait(MAINTENANCE):
            self._attempt("expire_registrations", self._expire)
            self._attempt("set_task_status", self._retry)
            self._attempt("maintain_queue", self.store.maintain_queue)

    def _expire(self) -> None:
        self.store.expire_registrations(now() - timedelta(seconds=self.sizes.expiry))

    def _retry(self) -> None:
        failed = self.store.query_tasks(status="error")
        if failed:
            self.store.set_task_status(failed, "waiting")

    def _attempt(self, call: str, action: Callable[[], object]) -> None:
        try:
            action()
        except AlchemistoreError as error:
            self.journal.write(
                "error", call=call, error=type(error).__name__, text=str(error)[:300]
            )


def seed(store: StateStore, count: int) -> list[ScopedKey]:
    """Create two hubs, and chains of tasks on the first, the second or both of them."""
    store.initialize()
    networks = [store.create_network(star(ARMS, name=f"network {i}"), SCOPE) for i in range(2)]
    hubs = [store.create_taskhub(network) for network in networks]
    edges = store.get_network_transformations(networks[0])
    width = count // CHAIN
    kinds = [edges[i % len(edges)] for i in range(width)]
    tasks: list[ScopedKey] = []
    for level in range(CHAIN):
        extended = tasks[-width:] if level else None
        tasks += [task for task in store.create_tasks(kinds, extends=extended) if task]
    for remainder, hub in enumerate(hubs):
        # Two thirds of the tasks are on each hub, so one third is on both.
        chosen = [task for i, task in enumerate(tasks) if i % 3 != remainder]
        for start in range(0, len(chosen), BATCH):
            actioned = store.action_tasks(chosen[start : start + BATCH], hub)
            assert None not in actioned
    return hubs
