"""Reports: a table on screen and in a file, JSON, and a plot."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from bench.timing import Measure, Target

RESULTS = Path(__file__).parent / "results"
WIDTH = 170
REACHED = {True: "reached", False: "NOT reached", None: "-"}
COLOURS = {True: "tab:green", False: "tab:red", None: "tab:gray"}
FACTORS = {"s": (1.0, "s"), "ms": (1e3, "ms"), "tasks/s": (1.0, "tasks/s"), "MB": (1.0, "MB")}
SMALLEST = 0.01


def table(title: str, measures: Sequence[Measure]) -> Table:
    """Return a table of the measures with their targets."""
    made = Table(title=title, title_justify="left", show_lines=False)
    for heading in ("measure", "", "", "value", "quartiles", "target", ""):
        made.add_column(heading, justify="left" if heading in ("measure", "target") else "right")
    for one in measures:
        sides = [f"{label} {_quantity(value, one.unit)}" for label, value in one.sides]
        spread = "" if one.spread is None else f"{one.spread[0]:.2f} … {one.spread[1]:.2f}"
        colour = {True: "green", False: "bold red", None: "dim"}[one.reached]
        made.add_row(
            one.name,
            *[*sides, "", ""][:2],
            _value(one, one.value),
            spread,
            _target(one),
            f"[{colour}]{REACHED[one.reached]}[/]",
        )
    return made


def publish(
    name: str, title: str, facts: Mapping[str, str], measures: Sequence[Measure], console: Console
) -> None:
    """Print the table and write ``<name>.txt``, ``.json`` and ``.png`` into the results."""
    RESULTS.mkdir(exist_ok=True)
    written = io.StringIO()
    for target in (console, Console(file=written, width=WIDTH)):
        target.print(table(title, measures))
        for one in measures:
            if one.note:
                target.print(f"[bold]{one.name}[/]: {one.note}", highlight=False)
        target.print(
            "; ".join(f"{fact} {value}" for fact, value in facts.items()),
            style="dim",
            highlight=False,
        )
    (RESULTS / f"{name}.txt").write_text(written.getvalue())
    document = {
        "title": title,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "facts": dict(facts),
        "measures": [{**dataclasses.asdict(one), "reached": one.reached} for one in measures],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    plot(title, measures, RESULTS / f"{name}.png")
    console.print(f"written: {RESULTS}/{name}.txt, .json, .png", highlight=False)


def plot(title: str, measures: Sequence[Measure], path: Path) -> None:
    """Draw every measure in units of its target: left of the line is reached."""
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(10, 1.2 + 0.32 * len(measures)), layout="constrained")
        axes = figure.subplots()
        for row, one in enumerate(measures):
            target = one.target or Target(1.0)
            position = max(_strain(target, one.value), SMALLEST)
            if one.spread is not None:
                ends = [max(_strain(target, end), SMALLEST) for end in one.spread]
                axes.plot(
                    ends,
                    [row, row],
                    color=COLOURS[one.reached],
                    linewidth=4,
                    alpha=0.3,
                    solid_capstyle="butt",
                )
            axes.plot([position], [row], "o", color=COLOURS[one.reached])
            axes.annotate(
                _value(one, one.value),
                (position, row),
                (0, 5),
                textcoords="offset points",
                ha="center",
            )
        axes.axvline(1, color="black", linewidth=1)
        axes.set_xscale("log")
        axes.set_yticks(
            range(len(measures)),
            [f"{one.name}  [{_target(one) or 'no target'}]" for one in measures],
        )
        axes.set_ylim(len(measures) - 0.4, -0.8)
        axes.set_xlabel(
            "value / target; left of the line: target reached (grey: no target, ratio itself)"
        )
        figure.suptitle(title)
        axes.grid(axis="x", alpha=0.3)
        figure.savefig(path, dpi=150)


def _strain(target: Target, value: float) -> float:
    if target.at_least and value == 0:
        return 1 / SMALLEST
    # A target of none: nothing found is reached, one is twice too much.
    return 1.0 + value if target.limit == 0 else target.strain(value)


def _quantity(value: float, unit: str) -> str:
    factor, label = FACTORS[unit]
    return (
        f"{value * factor:,.3g} {label}"
        if value * factor < 1000
        else f"{value * factor:,.0f} {label}"
    )


def _value(one: Measure, value: float) -> str:
    if one.form == "share":
        return f"{value:.0%}"
    return f"{value:.0f}" if one.form == "count" or value >= 100 else f"{value:.2f}"


def _target(one: Measure) -> str:
    if one.target is None:
        return ""
    if one.form == "count" and one.target.limit == 0:
        return "none"
    limit = f"{one.target.limit:.0%}" if one.form == "share" else f"{one.target.limit:g}"
    return f"{'≥' if one.target.at_least else '≤'} {limit}"
