"""``python -m bench.plots``: draw what was measured for docs/performance.md.

It reads ``bench/measured/*.json``, which are results of the benchmarks on one machine, and writes
SVG files into ``docs/drawings``. `tables` returns the tables of the page; a test compares them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

HOME = Path(__file__).parent
MEASURED = HOME / "measured"
DRAWINGS = HOME.parent / "docs" / "drawings"
BLUE, RED, GREY = "#2566a8", "#b83232", "#8a99a8"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    # The same file each time.
    "svg.hashsalt": "alchemistore",
}
MINUTE, HOUR = 60.0, 3600.0
TASKS = {"1 minute": MINUTE, "10 minutes": 10 * MINUTE, "1 hour": HOUR, "10 hours": 10 * HOUR}
HEARTBEAT = 60.0
SERVICES = 10_000
STORED = 10_000_000


@dataclass(frozen=True)
class Capacity:
    """The needs of one server.

    Attributes
    ----------
    cpu : dict of str to float
        CPU seconds of PostgreSQL by call.
    waiting, result : float
        Bytes of a waiting task, and of an attempt with a result.
    """

    cpu: dict[str, float]
    waiting: float
    result: float

    @classmethod
    def read(cls) -> Capacity:
        """Read the measured numbers."""
        measures = _read("capacity")["measures"]
        return cls(
            {one["name"]: one["sides"][0][1] for one in measures if one["sides"]},
            *(one["value"] for one in measures if one["name"].startswith("bytes")),
        )

    @property
    def life(self) -> float:
        """The CPU seconds for the life of a task: claim, transformation, settlement."""
        return self.cpu["claim"] + self.cpu["transformation"] + self.cpu["settlement"]

    def share(self, services: float, duration: float) -> float:
        """Return the share of a core that services need.

        Parameters
        ----------
        services : float
            The number of services, each with one task at a time.
        duration : float
            The duration of a task, in seconds.
        """
        each = self.life / duration + self.cpu["heartbeat"] / HEARTBEAT
        return services * each


def tables() -> dict[str, str]:
    """Return the tables of the page as Markdown, by name."""
    capacity = Capacity.read()
    calls = [
        f"| {name} | {1000 * seconds:.2f} ms | {_rounded(1 / seconds)} |"
        for name, seconds in capacity.cpu.items()
    ]
    shares = [
        f"| {name} | {_rounded(SERVICES / duration * HOUR)} | {100 * share:.2g} % |"
        for name, duration in TASKS.items()
        for share in [capacity.share(SERVICES, duration)]
    ]
    depths = [
        f"| {_depth(one):,} | {one['value']:.2f} | {lower:.2f} to {upper:.2f} |"
        for one in _depths()
        for lower, upper in [one["spread"]]
    ]
    return {
        "calls": _table("call", "CPU of PostgreSQL", "calls per second and core", rows=calls),
        "shares": _table("tasks take", "results per hour", "of one core", rows=shares),
        "depths": _table("waiting tasks", "ratio", "quartiles", rows=depths),
    }


def draw() -> None:
    """Draw all plots."""
    with mpl.rc_context(STYLE):
        for name, plot in {
            "depths": _plot_depths,
            "http": _plot_http,
            "capacity": _plot_capacity,
        }.items():
            figure = Figure(figsize=(7.2, 3.0), layout="constrained")
            plot(figure)
            figure.savefig(DRAWINGS / f"plot-{name}.svg", metadata={"Date": None})


def _plot_depths(figure: Figure) -> None:
    axes = figure.subplots()
    sizes = [1_000, *(_depth(one) for one in _depths())]
    ratios = [1.0, *(one["value"] for one in _depths())]
    lower = [0.0, *(one["value"] - one["spread"][0] for one in _depths())]
    upper = [0.0, *(one["spread"][1] - one["value"] for one in _depths())]
    axes.errorbar(
        sizes, ratios, yerr=np.maximum([lower, upper], 0), fmt="o-", color=BLUE, capsize=3,
        label="stored race",
    )  # fmt: skip
    [slow] = [one for one in _read("claims")["measures"] if "naive" in one["name"]]
    times = dict(slow["sides"])
    at = _number(slow["name"])
    factor = times["naive"] / times["stored race"]
    axes.plot([at], [factor], "s", color=RED, label="a statement that sorts the hub")
    axes.annotate(f"{factor:,.0f} times", (at, factor), (8, -3), textcoords="offset points")
    axes.set(xscale="log", yscale="log", ylim=(0.4, 1.6 * factor))
    axes.set_xlabel("waiting tasks on the hub")
    axes.set_ylabel("time of a claim,\nrelative to 1,000 waiting tasks")
    axes.legend(frameon=False, loc="upper left")


def _plot_http(figure: Figure) -> None:
    measured = _read("http")
    left, right = figure.subplots(1, 2, width_ratios=[1, 2])
    rates = measured["claims per second"]
    left.bar(list(rates), list(rates.values()), color=[BLUE, GREY], width=0.6)
    left.set_title("claims per second", loc="left", fontsize=9)
    for place, rate in enumerate(rates.values()):
        left.annotate(str(rate), (place, rate), (0, 3), textcoords="offset points", ha="center")
    start = {"on Neo4j": 0.0, "here": 0.0}
    colours = {
        "alchemiscale itself": "#b7791f",
        "calls of the store": BLUE,
        "database server": GREY,
    }
    for part, times in measured["CPU of a claim, ms"].items():
        values = [times[where] for where in start]
        right.barh(list(start), values, left=list(start.values()), color=colours[part], label=part)
        start = {where: start[where] + times[where] for where in start}
    right.set_title("CPU time of a claim, in ms", loc="left", fontsize=9)
    right.legend(frameon=False, loc="lower right")
    right.set_ylim(-1.2, 1.6)


def _plot_capacity(figure: Figure) -> None:
    capacity = Capacity.read()
    axes = figure.subplots()
    services = np.geomspace(100, 100_000, 50)
    for (name, duration), shade in zip(TASKS.items(), (1.0, 0.75, 0.5, 0.3), strict=True):
        shares = [100 * capacity.share(number, duration) for number in services]
        axes.plot(services, shares, color=BLUE, alpha=shade, label=f"tasks of {name}")
    axes.axhline(100, color=RED, linewidth=1, linestyle="--")
    axes.annotate("one core", (110, 100), (0, 3), textcoords="offset points", color=RED)
    axes.axvline(SERVICES, color=GREY, linewidth=1, linestyle=":")
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("compute services, with one task each and a heartbeat each minute")
    axes.set_ylabel("CPU of PostgreSQL,\n% of one core (computed)")
    axes.legend(frameon=False, loc="lower right")


def _depths() -> list[dict[str, Any]]:
    found = [one for one in _read("claims")["measures"] if "against 1 k waiting" in one["name"]]
    return sorted(found, key=_depth)


def _depth(measure: dict[str, Any]) -> int:
    return _number(measure["name"].partition(":")[2])


def _number(text: str) -> int:
    """Return the first number with a unit in a text, such as 10 k or 1 M."""
    found = re.search(r"(\d+) ([kM])", text)
    assert found is not None, text
    return int(found[1]) * {"k": 1_000, "M": 1_000_000}[found[2]]


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((MEASURED / f"{name}.json").read_text())
    return document


def _rounded(number: float) -> str:
    return f"{float(f'{number:.2g}'):,.0f}"


def _table(*titles: str, rows: Sequence[str]) -> str:
    return "\n".join([f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *rows])


if __name__ == "__main__":
    draw()
    for table in tables().values():
        print(table, end="\n\n")
