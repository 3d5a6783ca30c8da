"""CPU time of commands that need no server, from the start of the process to its end."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from bench.run import Run
from bench.timing import Measure, Target

TARGET = Target(0.4)
ROUNDS = 15
START = "from alchemistore.cli import main; main()"
COMMANDS = (
    ("--help",),
    ("status", "--help"),
    ("network", "--help"),
    ("metrics", "--help"),
    ("metrics", "--print", "alerts"),
)


def startup(run: Run) -> list[Measure]:
    """Measure the user and system time of each command."""
    rounds = run.size(ROUNDS, 3)
    measures = []
    with run.step("start of commands", len(COMMANDS) * rounds) as advance:
        for command in COMMANDS:
            found = []
            for _ in range(rounds):
                found.append(_seconds(command))
                advance(1)
            quartiles = statistics.quantiles(found, n=4, method="inclusive")
            measures.append(
                Measure(
                    f"alchemistore {' '.join(command)}",
                    statistics.median(found),
                    form="amount",
                    spread=(quartiles[0], quartiles[2]),
                    target=TARGET,
                    note="seconds of CPU",
                )
            )
    return measures


def _seconds(command: tuple[str, ...]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", START, *command],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "ALCHEMISTORE_DATABASE_URL": ""},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
