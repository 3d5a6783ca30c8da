"""``make soak``: the load under each scenario, a table of the figures, and a verdict."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.report import RESULTS, WIDTH
from bench.soak.load import QUICK, Sizes
from bench.soak.run import Figures, run
from bench.soak.scenarios import SCENARIOS

SHOWN = 5


def record(figures: Figures, path: Path) -> None:
    """Add the figures to a file of JSON Lines."""
    line: dict[str, Any] = {
        **vars(figures),
        "passed": figures.passed,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def table(found: Sequence[Figures]) -> Table:
    """Return a table with a line per scenario."""
    made = Table(title="load under faults", title_justify="left")
    counted = list(next((one.faulty for one in found if one.faulty), {}))
    for heading in ("scenario", "tasks", "faults", "seconds", "tasks/s", *counted, "errors seen"):
        made.add_column(heading, justify="left" if heading == "scenario" else "right")
    made.add_column("verdict")
    for one in found:
        if one.skipped or one.failed:
            ending = "skipped" if one.skipped else "[bold red]FAILED[/]"
            made.add_row(one.scenario, *[""] * (5 + len(counted)), ending)
            continue
        made.add_row(
            one.scenario,
            f"{one.tasks}",
            f"{one.faults}",
            f"{one.seconds:.0f}",
            f"{one.rate:.0f}",
            *(f"{len(one.faulty[name])}" for name in counted),
            f"{sum(one.errors.values())}",
            "[green]passed[/]" if one.passed else "[bold red]FAILED[/]",
        )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run scenarios; return 0 if all passed or were skipped, and 1 otherwise."""
    options = _parser().parse_args(arguments)
    names = [name for one in options.only for name in one.split(",") if name]
    unknown = sorted(set(names) - set(SCENARIOS))
    if unknown:
        _parser().error(f"no such scenario: {', '.join(unknown)}; see --help")
    sizes = QUICK if options.quick else Sizes()
    changes = {
        name: value
        for name, value in (
            ("tasks", options.tasks),
            ("faults", options.faults),
            ("limit", options.limit),
        )
        if value
    }
    sizes = replace(sizes, **changes)
    # Stop servers and workers, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / ("soak-quick.jsonl" if options.quick else "soak.jsonl")
    path.unlink(missing_ok=True)
    found = []
    for name in names or SCENARIOS:
        begun = time.monotonic()
        console.print(f"{name}: {(SCENARIOS[name].__doc__ or '').strip()}", highlight=False)
        figures = run(name, sizes, options.small_disk, keep=RESULTS / "soak")
        record(figures, path)
        found.append(figures)
        result = (
            f"skipped: {figures.skipped}"
            if figures.skipped
            else ("passed" if figures.passed else f"FAILED {figures.failed}".strip())
        )
        console.print(
            f"    {result} after {time.monotonic() - begun:.0f} s", highlight=False, markup=False
        )
        for what, texts in figures.faulty.items():
            for text in texts[:SHOWN]:
                console.print(f"    {what}: {text}", highlight=False, markup=False)
    console.print(table(found))
    console.print(f"written: {path}", highlight=False)
    return 0 if all(one.passed for one in found) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description="Run a load under faults, and count what must not happen.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="scenarios:\n"
        + "\n".join(f"  {name:16} {one.__doc__}" for name, one in SCENARIOS.items()),
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="SCENARIO", help="one or more; default: all"
    )
    parser.add_argument(
        "--quick", action="store_true", help="300 tasks and 2 faults, to see that it works"
    )
    parser.add_argument("--tasks", type=int, help="number of tasks of each scenario")
    parser.add_argument("--faults", type=int, help="number of faults of each scenario")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="longest time of a load")
    parser.add_argument(
        "--small-disk",
        type=Path,
        metavar="DIRECTORY",
        help="on a file system of 300 to 1,000 MB that 'disk' may fill; default: mount a tmpfs",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
