"""``make bench-peers``: this store beside exorcist, procrastinate and pgqueuer.

All are on one server, each in a database of its own, and exorcist in a file of SQLite as well. They
take turns. One connection each claims one task at a time. Each task that is claimed is finished at
once, but not within the time of the claim: unfinished jobs make some queues slower.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.contest import Peer, Row, contest, drain, measures, our_queue, publish_table
from bench.peer_queues import (
    exorcist_file,
    exorcist_queue,
    pgqueuer_queue,
    procrastinate_queue,
)
from bench.run import Run, main
from bench.timing import Measure, Target

NOTE = (
    "settle: this store stores the reference to a result, the attempt and its outcome, and makes"
    " dependent tasks claimable; the others change the status of a job, or move it to a log"
)
# exorcist reads all tasks until it finds one, so draining it takes hours.
DRAINED = 100_000
DEEP = 1_000_000
TARGETS = {"pgqueuer": Target(0.9)}


def peers(run: Run) -> list[Measure]:
    """Measure all queues at several depths, and while they drain."""
    sizes = [run.size(1_000, 200), run.size(100_000, 400), *([DEEP] if run.deep else [])]
    rows: list[Row] = []
    for durable in (True, False):
        for waiting in sizes:
            rows += _beside(run, waiting, durable)
        rows += _draining(run, run.size(DRAINED, 200), durable)
    path = publish_table(run, "peers", rows)
    run.progress.console.print(f"written: {path}", highlight=False)
    return measures(rows, TARGETS, NOTE)


def _beside(run: Run, waiting: int, durable: bool) -> list[Row]:
    rounds = run.size(300, 10)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        contestants: list[Peer] = [
            stack.enter_context(our_queue(run, waiting, durable)),
            stack.enter_context(pgqueuer_queue(_empty(run, stack, durable), waiting)),
            stack.enter_context(procrastinate_queue(_empty(run, stack, durable), waiting)),
            stack.enter_context(exorcist_queue(_empty(run, stack, durable), waiting)),
            stack.enter_context(exorcist_file(Path(directory), waiting, durable)),
        ]
        return contest(run, waiting, durable, contestants, rounds, run.size(20, 2))


def _draining(run: Run, waiting: int, durable: bool) -> list[Row]:
    with ExitStack() as stack:
        contestants: list[Peer] = [
            stack.enter_context(our_queue(run, waiting, durable)),
            stack.enter_context(pgqueuer_queue(_empty(run, stack, durable), waiting)),
            stack.enter_context(procrastinate_queue(_empty(run, stack, durable), waiting)),
        ]
        return drain(run, waiting, durable, contestants)


def _empty(run: Run, stack: ExitStack, durable: bool) -> str:
    return stack.enter_context(run.server.database(schema=False, durable=durable))


if __name__ == "__main__":
    sys.exit(main("bench.peers", "alchemistore beside what people use instead", {"peers": peers}))
