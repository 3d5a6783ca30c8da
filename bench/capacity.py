"""``python -m bench.capacity``: how many services and tasks one database server carries.

It measures the CPU time of all processes of PostgreSQL for each call in the life of a task, with
many tasks and many registered services, and the bytes on disk. From these, the share of a core that
any number of services needs can be computed; ``bench/plots.py`` does so.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import psycopg

from alchemistore import ProtocolDAGResultRef, ScopedKey
from alchemistore.models import GufeKey
from alchemistore.models.clock import uuid7
from bench.run import Run, main
from bench.seeding import SCOPE, register, seed
from bench.servers import connect, opened
from bench.timing import BenchError, Measure


@dataclass(frozen=True)
class Processor:
    """The CPU time of a PostgreSQL server on this machine."""

    postmaster: psutil.Process

    @classmethod
    def of(cls, connection: psycopg.Connection[Any]) -> Processor:
        """Find the server of a connection."""
        try:
            parent = psutil.Process(connection.info.backend_pid).parent()
        except psutil.NoSuchProcess:
            parent = None
        if parent is None:
            raise BenchError("the server is not on this machine, so its CPU time is not known")
        return cls(parent)

    def seconds(self) -> float:
        """Return the CPU time of all its processes so far, also of those that have ended."""
        spent = self.postmaster.cpu_times()
        total = float(spent.user + spent.system + spent.children_user + spent.children_system)
        for process in self.postmaster.children(recursive=True):
            try:
                spent = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += spent.user + spent.system
        return total


def capacity(run: Run) -> list[Measure]:
    """Measure the calls in the life of a task, and the bytes of it."""
    tasks, services = run.size(200_000, 2_000), run.size(10_000, 100)
    calls = run.size(2_000, 100)
    names = [f"service-{number}" for number in range(services)]
    with run.server.database() as url, opened(url) as store, connect(url) as connection:
        empty = _size(connection)
        with run.step(f"seed {tasks:,} tasks", tasks) as advance:
            [hub] = seed(store, url, tasks, advance=advance)
        full = _size(connection)
        with run.step(f"register {services:,} services", services) as advance:
            for name in names:
                register(store, name)
                advance(1)
        processor = Processor.of(connection)
        held: list[tuple[ScopedKey, str]] = []

        def claim(name: str) -> None:
            [task] = store.claim_taskhub_tasks(hub, name)
            if task is None:
                raise BenchError(f"{hub} had nothing left to claim")
            held.append((task, name))

        measures = []

        def measure(name: str, call: Callable[[Any], object], given: Iterable[Any]) -> None:
            given = list(given)
            with run.step(name, len(given)) as advance:
                start, before = time.perf_counter(), processor.seconds()
                for one in given:
                    call(one)
                    advance(1)
                spent = processor.seconds() - before
                elapsed = time.perf_counter() - start
            measures.append(_measure(name, spent / len(given), elapsed / len(given)))

        chosen = [random.choice(names) for _ in range(calls)]
        measure("heartbeat", store.heartbeat_computeservice, chosen)
        measure("claim", claim, chosen)
        measure(
            "transformation",
            lambda one: store.get_task_transformation(one[0], return_gufe=False),
            held,
        )
        before = _size(connection)
        measure("settlement", lambda one: store.settle_task(one[0], _reference(), one[1]), held)
        grown = _size(connection) - before
        measure(
            "expiry, nobody silent",
            store.expire_registrations,
            itertools.repeat(timedelta(hours=1), run.size(50, 2)),
        )
        measure("counts of a scope", store.get_scope_status, itertools.repeat(SCOPE, 5))
    note = f"{tasks:,} tasks on one hub, {services:,} registered services"
    return [
        *measures,
        Measure("bytes of a waiting task", (full - empty) / tasks, form="count", note=note),
        Measure("bytes of a result", grown / len(held), form="count", note="attempt and reference"),
    ]


def _measure(name: str, spent: float, elapsed: float) -> Measure:
    return Measure(
        name,
        1 / max(spent, 1e-9),
        form="count",
        sides=(("CPU of the server", spent), ("call", elapsed)),
        unit="ms",
        note="calls per second and core of the server",
    )


def _reference() -> ProtocolDAGResultRef:
    key = GufeKey(f"ProtocolDAGResult-{uuid7().hex}")
    return ProtocolDAGResultRef(obj_key=key, scope=SCOPE, ok=True, location=f"bench/{key}/obj.json")


def _size(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])


if __name__ == "__main__":
    sys.exit(
        main("bench.capacity", "alchemistore: what one server carries", {"capacity": capacity})
    )
