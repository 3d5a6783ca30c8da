"""The command line and progress display of both benchmarks."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import SQLAlchemyError

from alchemistore.errors import AlchemistoreError
from bench.report import WIDTH, publish
from bench.servers import Server, server
from bench.timing import BenchError, Measure


@dataclass(frozen=True)
class Run:
    """The parameters of a suite.

    Attributes
    ----------
    server : Server
        Where to make databases.
    quick, deep : bool
        Sizes that show that everything works; sizes that take long.
    old_seconds : float
        How long an old transaction is held open.
    chain : Path or None
        A network, or molecules to make one of.
    bolt : str or None
        A Neo4j server for alchemiscale's own store.
    progress : Progress
        Where to show what is going on.
    """

    server: Server
    quick: bool
    deep: bool
    old_seconds: float
    chain: Path | None
    bolt: str | None
    progress: Progress

    def size(self, normal: int, quick: int) -> int:
        """Choose a size."""
        return quick if self.quick else normal

    @contextmanager
    def step(self, what: str, total: float) -> Iterator[Callable[[float], None]]:
        """Show a bar; yields what moves it on."""
        task = self.progress.add_task(what, total=total)

        def advance(done: float = 1) -> None:
            self.progress.advance(task, done)

        yield advance
        self.progress.update(task, visible=False)


Suite = Callable[[Run], list[Measure]]


def main(
    name: str, title: str, suites: Mapping[str, Suite], arguments: Sequence[str] | None = None
) -> int:
    """Run a benchmark.

    Parameters
    ----------
    name : str
        Of the module and of the files written.
    title : str
        Of the table.
    suites : mapping of str to callable
        What can be measured.
    arguments : sequence of str, optional
        The command line.

    Returns
    -------
    int
        The exit code: 0 whatever the times are, 2 if something could not be measured.
    """
    options = _parser(name, title, suites).parse_args(arguments)
    chosen = [
        suite
        for suite in suites
        if any(fnmatch.fnmatchcase(suite, pattern) for pattern in options.only)
    ]
    if not chosen:
        print(
            f"nothing to measure: --only {' '.join(options.only)}, of {', '.join(suites)}",
            file=sys.stderr,
        )
        return 2
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    old_seconds = options.old_seconds or (2 if options.quick else 600 if options.deep else 60)
    measures: list[Measure] = []
    try:
        with (
            Progress(*columns, console=console, transient=True) as progress,
            server(options.url) as where,
        ):
            run = Run(
                where,
                options.quick,
                options.deep,
                old_seconds,
                options.chain,
                options.bolt,
                progress,
            )
            facts = where.facts()
            for suite in chosen:
                measures += suites[suite](run)
    except (
        AlchemistoreError,
        BenchError,
        SQLAlchemyError,
        psycopg.Error,
        OSError,
        ValueError,
    ) as error:
        print(f"the benchmark could not run: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    suffix = "-quick" if options.quick else ""
    note = " (quick: sizes too small to mean anything)" if options.quick else ""
    publish(f"{name.removeprefix('bench.')}{suffix}", title + note, facts, measures, console)
    return 0


def _parser(name: str, title: str, suites: Mapping[str, Suite]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=title)
    parser.add_argument(
        "--url",
        metavar="postgresql://...",
        help="a server to measure, with a user that may create databases (default: a private one)",
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--quick", action="store_true", help="small sizes, to see that everything works"
    )
    sizes.add_argument(
        "--deep",
        action="store_true",
        help="five million tasks, and an old transaction of ten minutes",
    )
    parser.add_argument(
        "--old-seconds", type=float, default=0, help="hold the old transaction so long (default 60)"
    )
    parser.add_argument(
        "--chain",
        type=Path,
        metavar="FILE",
        help="a network as keyed chain (.json), or molecules (.sdf) to make a network of",
    )
    parser.add_argument(
        "--bolt",
        metavar="bolt://...",
        help="an empty Neo4j server of this machine, for alchemiscale's own store (bench.http)",
    )
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="SUITE", help=f"of {', '.join(suites)}"
    )
    return parser
