"""``make bench-original``: this store beside alchemiscale's own on a private Neo4j server.

It needs Java 17 and Maven, which fetches Neo4j's packages, and an interpreter with alchemiscale
that ``ALCHEMISTORE_SERVER_PYTHON`` names. Both servers keep the defaults that make commits durable.
The two stores take turns; each task that is claimed is finished outside the time of the claim.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.contest import Row, contest, measures, our_queue, publish_table
from bench.neo4j_server import build, missing, serving
from bench.run import Run, main
from bench.timing import BenchError, Measure

PYTHON = "ALCHEMISTORE_SERVER_PYTHON"
CHECKOUT = Path(__file__).parents[1]
NAME = "alchemiscale on Neo4j"
NOTE = (
    "settle: set_task_result and set_task_complete there, settle_task here; submit: create_tasks"
    " and action_tasks"
)


class OriginalQueue:
    """alchemiscale's own store, in a process of its own.

    Parameters
    ----------
    process : Popen
        The program `bench.original_side`.
    """

    name = NAME

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, command: str) -> str:
        """Send a command, and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if command:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise BenchError(f"{NAME}: {command or 'the start'} failed; its error is above")
        return answer

    def fill(self, count: int) -> None:
        """Create a network of its own, and put waiting tasks on its hub."""
        self.ask(f"fill {count}")

    def submit(self, count: int) -> float:
        """Create and action tasks with one call each."""
        return float(self.ask(f"submit {count}"))

    def claim(self) -> float:
        """Claim a task."""
        return float(self.ask("claim 1"))

    def settle(self) -> float:
        """Store a reference to a result and complete the task."""
        return float(self.ask("settle 1"))


def original(run: Run) -> list[Measure]:
    """Measure both stores at several depths."""
    sizes = [(run.size(1_000, 100), run.size(50, 3)), (run.size(10_000, 300), run.size(30, 3))]
    if not run.quick:
        # A claim takes seconds there.
        sizes.append((100_000, 10))
    rows: list[Row] = []
    with _original() as theirs:
        for waiting, rounds in sizes:
            theirs.fill(waiting)
            with our_queue(run, waiting, durable=True) as ours:
                rows += contest(run, waiting, True, [ours, theirs], rounds, run.size(3, 1))
    path = publish_table(run, "original", rows)
    run.progress.console.print(f"written: {path}", highlight=False)
    return measures(rows, {}, NOTE)


@contextmanager
def _original() -> Iterator[OriginalQueue]:
    python = os.environ.get(PYTHON)
    if not python:
        raise BenchError(f"{PYTHON} names no interpreter that has alchemiscale")
    lacking = missing()
    if lacking:
        raise BenchError(f"{lacking} is not installed")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(serving(build(CHECKOUT / "build" / "neo4j"), directory))
        process = stack.enter_context(
            subprocess.Popen(
                [python, "-m", "bench.original_side", url],
                env={
                    **os.environ,
                    "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'examples'}",
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        queue = OriginalQueue(process)
        queue.ask("")
        yield queue
        assert process.stdin is not None
        process.stdin.close()


if __name__ == "__main__":
    sys.exit(
        main(
            "bench.original",
            "alchemistore beside alchemiscale's own store",
            {"original": original},
        )
    )
