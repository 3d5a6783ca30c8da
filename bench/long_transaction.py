"""Claims and settlements, with and without a long transaction held open."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack

import psycopg

from alchemistore import ProtocolDAGResultRef, ScopedKey, StateStore
from alchemistore.models import GufeKey
from bench.run import Run
from bench.seeding import SCOPE, add_tasks, register, seed
from bench.servers import connect, opened
from bench.timing import BenchError, Measure, Target, clocked, compare

SERVICE = "bench-service"
WARMUP = 20
BATCH = 500
# The end of the run is what counts.
LAST = 0.2
DEAD = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'queue'"


def old_transaction(run: Run) -> list[Measure]:
    """Measure two databases in turn; in one of them a reader keeps its snapshot."""
    waiting = run.size(20_000, 2_000)
    held, free = "with", "without"
    with ExitStack() as stack:
        cycles: dict[str, Callable[[], None]] = {}
        urls: dict[str, str] = {}
        hubs: dict[str, ScopedKey] = {}
        with run.step("seed two databases", 2 * waiting) as advance:
            for name in (held, free):
                urls[name] = stack.enter_context(run.server.database())
                store = stack.enter_context(opened(urls[name]))
                hubs[name] = seed(store, urls[name], waiting, advance=advance)[0]
                register(store, SERVICE)
                cycles[name] = cycle(store, hubs[name])
        feeders = {name: stack.enter_context(connect(url)) for name, url in urls.items()}
        for _ in range(WARMUP):
            for once in cycles.values():
                once()
        stack.enter_context(_holding(urls[held]))
        moments: list[float] = []
        found: dict[str, list[float]] = {name: [] for name in cycles}
        start = time.monotonic()
        with run.step("claim and settle, old transaction", run.old_seconds) as advance:
            while (passed := time.monotonic() - start) < run.old_seconds:
                for name, once in cycles.items():
                    found[name].append(clocked(once))
                moments.append(passed)
                if len(moments) % BATCH == 0:
                    for name, connection in feeders.items():
                        add_tasks(connection, [hubs[name]], BATCH)
                advance(time.monotonic() - start - passed)
        dead = {name: connection.execute(DEAD).fetchone() for name, connection in feeders.items()}
    late = sum(moment >= run.old_seconds * (1 - LAST) for moment in moments)
    if not late:
        raise BenchError(
            "no cycle was done at the end; hold the old transaction longer with --old-seconds"
        )
    return [
        compare(
            f"claim and settle after {run.old_seconds:g} s with a long transaction,"
            " against without",
            {name: seconds[-late:] for name, seconds in found.items()},
            target=Target(2),
            unit="ms",
            note="medians of the last fifth; a REPEATABLE READ reader with its snapshot;"
            f" {len(moments):,} cycles in each of two databases,"
            f" about {len(moments) / run.old_seconds:.0f} a second, {waiting:,} waiting;"
            f" dead rows in the queue at the end: {_count(dead[held])} and {_count(dead[free])}",
        )
    ]


def cycle(store: StateStore, hub: ScopedKey) -> Callable[[], None]:
    """Return an action that claims and settles a task."""

    def once() -> None:
        task = store.claim_taskhub_tasks(hub, SERVICE)[0]
        if task is None:
            raise BenchError(f"{hub} had nothing left to claim")
        name = uuid.uuid4().hex
        result = ProtocolDAGResultRef(
            location=f"bench/{name}",
            obj_key=GufeKey(f"ProtocolDAGResult-{name}"),
            scope=SCOPE,
            ok=True,
        )
        store.settle_task(task, result, SERVICE)

    return once


def _holding(url: str) -> psycopg.Connection[tuple[object, ...]]:
    connection = connect(url)
    connection.autocommit = False
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute("SELECT count(*) FROM scopes")
    return connection


def _count(row: tuple[object, ...] | None) -> str:
    return "unknown" if row is None else f"{row[0]:,}"
