"""Contests: stores of tasks take turns to claim, settle and submit on one machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from alchemistore import ProtocolDAGResultRef, ScopedKey, StateStore
from alchemistore.models import GufeKey
from alchemistore.models.clock import uuid7
from bench.report import RESULTS
from bench.run import Run
from bench.seeding import SCOPE, register, seed, settle_down
from bench.servers import connect, opened
from bench.timing import Contestant, Measure, Target, alternate, clocked, compare

OURS = "alchemistore"
SERVICE = "bench-service"
# Statements are prepared after some executions, and get their general plan after some more.
WARMUP = 12
# Tasks that are submitted with one call.
SUBMITTED = 100
DURABLE = {True: "durable", False: "not durable"}


class Peer(Protocol):
    """A store of tasks with one queue, of which tasks wait."""

    name: str

    def submit(self, count: int) -> float:
        """Create tasks that can be claimed, in as few calls as it offers; return the seconds."""

    def claim(self) -> float:
        """Claim a task, and return the seconds."""

    def settle(self) -> float:
        """Return the seconds of finishing the task that was claimed last."""


@dataclass(frozen=True)
class Row:
    """A line of the table: an operation, and the seconds of each contestant, turn by turn."""

    what: str
    waiting: int
    durable: bool
    seconds: Mapping[str, Sequence[float]]


class OurQueue:
    """This store: one hub of a network with three transformations.

    Parameters
    ----------
    store : StateStore
        The store.
    hub : ScopedKey
        The hub.
    """

    name = OURS

    def __init__(self, store: StateStore, hub: ScopedKey) -> None:
        self._store, self._hub = store, hub
        network = store.query_networks(scope=SCOPE)[0]
        self._transformations = store.get_network_transformations(network)
        self._claimed: list[ScopedKey] = []

    def submit(self, count: int) -> float:
        """Create and action tasks in one transaction."""
        edges = self._transformations * (count // len(self._transformations) + 1)

        def submit() -> None:
            with self._store.transaction() as tx:
                tx.action_tasks(tx.create_tasks(edges[:count]), self._hub)

        return clocked(submit)

    def claim(self) -> float:
        """Claim a task."""

        def claim() -> None:
            [task] = self._store.claim_taskhub_tasks(self._hub, SERVICE)
            assert task is not None
            self._claimed.append(task)

        return clocked(claim)

    def settle(self) -> float:
        """Store a reference to a result and complete the task."""
        task = self._claimed.pop()
        key = GufeKey(f"ProtocolDAGResult-{uuid7().hex}")
        ref = ProtocolDAGResultRef(obj_key=key, scope=task.scope, ok=True, location=f"bench/{key}")
        return clocked(lambda: self._store.settle_task(task, ref, SERVICE))


@contextmanager
def our_queue(run: Run, waiting: int, durable: bool) -> Iterator[OurQueue]:
    """Yield this store on a database of its own, with waiting tasks."""
    with run.server.database(durable=durable) as url, opened(url) as store:
        [hub] = seed(store, url, waiting)
        register(store, SERVICE)
        with connect(url) as connection:
            settle_down(connection)
        yield OurQueue(store, hub)


def contest(
    run: Run, waiting: int, durable: bool, peers: Sequence[Peer], rounds: int, submissions: int
) -> list[Row]:
    """Measure claims, settlements and submissions of all peers in turn; finish each claim."""
    settled: dict[str, list[float]] = {peer.name: [] for peer in peers}

    def turn(peer: Peer) -> Contestant:
        def claim() -> float:
            seconds = peer.claim()
            settled[peer.name].append(peer.settle())
            return seconds

        return claim

    what = f"{waiting:,} waiting, {DURABLE[durable]}"
    with run.step(what, rounds + submissions + WARMUP + 1) as advance:
        claimed = alternate(
            {peer.name: turn(peer) for peer in peers},
            rounds,
            warmup=WARMUP,
            advance=lambda: advance(1),
        )
        submitted = alternate(
            {peer.name: _submitting(peer) for peer in peers},
            submissions,
            warmup=1,
            advance=lambda: advance(1),
        )
    found = {
        "claim one": claimed,
        "settle one": {name: seconds[WARMUP:] for name, seconds in settled.items()},
        f"submit {SUBMITTED}": submitted,
    }
    return [Row(operation, waiting, durable, seconds) for operation, seconds in found.items()]


def _submitting(peer: Peer) -> Contestant:
    return lambda: peer.submit(SUBMITTED)


def drain(run: Run, waiting: int, durable: bool, peers: Sequence[Peer]) -> list[Row]:
    """Measure claims until no task is left: those of the first, the middle and the last tenth."""
    tenth = waiting // 10
    claims: dict[str, list[float]] = {peer.name: [] for peer in peers}
    with run.step(f"drain {waiting:,}, {DURABLE[durable]}", 10) as advance:
        for _ in range(10):
            for peer in peers:
                for _ in range(tenth):
                    claims[peer.name].append(peer.claim())
                    peer.settle()
            advance(1)
    parts = {"first tenth": 0, "middle": 5, "last tenth": 9}
    return [
        Row(
            f"drain, {part}",
            waiting,
            durable,
            {
                name: seconds[index * tenth : (index + 1) * tenth]
                for name, seconds in claims.items()
            },
        )
        for part, index in parts.items()
    ]


def measures(rows: Sequence[Row], targets: Mapping[str, Target], note: str) -> list[Measure]:
    """Return the ratios of this store to each of the others.

    Parameters
    ----------
    rows : sequence of Row
        What was measured.
    targets : mapping of str to Target
        The limits of the ratio for claims, by the name of the other store.
    note : str
        What the contestants do.
    """
    found = []
    for row in rows:
        for name, seconds in row.seconds.items():
            if name == OURS:
                continue
            claims = row.what.startswith(("claim", "drain"))
            sides = {OURS: row.seconds[OURS], name: seconds}
            what = f"{row.what}, {row.waiting:,} waiting, {DURABLE[row.durable]}, against {name}"
            target = targets.get(name) if claims else None
            found.append(compare(what, sides, target=target, unit="ms", note=note))
            note = ""
    return found


def table(rows: Sequence[Row]) -> str:
    """Return a table in Markdown: the median milliseconds of each contestant."""
    names = list(dict.fromkeys(name for row in rows for name in row.seconds))

    def line(*cells: str) -> str:
        return f"| {' | '.join(cells)} |\n"

    def middle(seconds: Sequence[float] | None) -> str:
        return f"{statistics.median(seconds) * 1e3:,.2f}" if seconds else "-"

    lines = [line("median ms", "waiting", "", *names), f"|{'---|' * (3 + len(names))}\n"]
    for row in rows:
        values = [middle(row.seconds.get(name)) for name in names]
        lines.append(line(row.what, f"{row.waiting:,}", DURABLE[row.durable], *values))
    return "".join(lines)


def publish_table(run: Run, name: str, rows: Sequence[Row]) -> Path:
    """Write the table into the results, and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}{'-quick' if run.quick else ''}-table.md"
    path.write_text(table(rows))
    return path
