"""Plot the results: estimates against exact values, deviations in σ, and the ranking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harmonic.cycles import Leg
from harmonic.ranking import Ranking

COLOURS = {"solvent": "#2a6f97", "vacuum": "#c8553d"}
MARKERS = {"solvent": "o", "vacuum": "s"}
INK, GREY = "#4a4e55", "#8a8f98"
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.8,
}
POINTS = {
    "markersize": 5.5,
    "markeredgecolor": "white",
    "markeredgewidth": 0.7,
    "elinewidth": 1.4,
    "capsize": 2.5,
    "linestyle": "none",
}


def draw(legs: Sequence[Leg], ranking: Ranking | None, path: Path) -> None:
    """Draw estimates against exact values, the deviations in σ below, and the ranking beside them.

    Parameters
    ----------
    legs : sequence of Leg
        The transformations of all environments.
    ranking : Ranking or None
        The ligands; ``None`` leaves this part out.
    path : Path
        The PNG file; an existing file is replaced.
    """
    with mpl.rc_context(STYLE):
        columns = 1 if ranking is None else 2
        figure = Figure(figsize=(5.2 * columns, 7.2), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(2, columns, height_ratios=[3, 1])
        above = figure.add_subplot(grid[0, 0])
        below = figure.add_subplot(grid[1, 0], sharex=above)
        draw_estimates(above, legs)
        _deviations(below, legs)
        if ranking is not None:
            _ranking(figure.add_subplot(grid[:, 1]), ranking)
        figure.savefig(path, dpi=150)


def draw_estimates(axes: Any, legs: Sequence[Leg]) -> None:
    """Draw estimates against exact values, with the same scale on both axes.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    legs : sequence of Leg
    """
    values = [value for leg in legs for value in (leg.exact, leg.estimate)]
    # The same limits on both axes of a square: one kT is equally long on both.
    margin = 0.06 * (max(values) - min(values)) + 0.02
    limits = (min(values) - margin, max(values) + margin)
    axes.set(xlim=limits, ylim=limits, box_aspect=1, ylabel="estimated ΔF (kT)")
    axes.plot(limits, limits, color=GREY, linestyle="--", linewidth=1.2, zorder=1)
    axes.tick_params(labelbottom=False)
    for label in sorted({leg.environment for leg in legs}):
        members = [leg for leg in legs if leg.environment == label]
        axes.errorbar(
            [leg.exact for leg in members],
            [leg.estimate for leg in members],
            yerr=[leg.uncertainty for leg in members],
            label=f"in {label}",
            **_points(label),
        )
    axes.legend(frameon=False, loc="upper left")
    error = np.array([leg.error for leg in legs])
    axes.set_title(f"{len(legs)} transformations, BAR", loc="left", weight="bold")
    axes.text(
        0.97,
        0.04,
        f"dashed: estimate = exact\nrms error {np.sqrt(np.mean(error**2)):.4f} kT",
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        color=INK,
    )


def _deviations(axes: Any, legs: Sequence[Leg]) -> None:
    largest = max(3.5, 1.15 * max(abs(leg.deviation) for leg in legs))
    axes.set(
        ylim=(-largest, largest),
        xlabel=r"exact ΔF = $\frac{1}{2}\ln(k_B/k_A)$ (kT)",
        ylabel="deviation (σ)",
    )
    for sigmas, shade in ((2, "#eef1f4"), (1, "#dfe5ea")):
        axes.axhspan(-sigmas, sigmas, color=shade, linewidth=0, zorder=0)
    axes.axhline(0, color=GREY, linestyle="--", linewidth=1.2, zorder=1)
    for label in sorted({leg.environment for leg in legs}):
        members = [leg for leg in legs if leg.environment == label]
        axes.plot(
            [leg.exact for leg in members],
            [leg.deviation for leg in members],
            **{name: _points(label)[name] for name in ("marker", "color", "linestyle")},
            markersize=5,
        )
    within = [sum(abs(leg.deviation) <= sigmas for leg in legs) for sigmas in (1, 2)]
    axes.set_title(
        f"{within[0]} of {len(legs)} within 1 σ (expected {0.683 * len(legs):.0f}),"
        f" {within[1]} within 2 σ (expected {0.954 * len(legs):.0f})",
        loc="left",
        fontsize=9,
        color=INK,
    )


def _ranking(axes: Any, ranking: Ranking) -> None:
    first, second = ranking.environments
    places = range(len(ranking.ligands))
    axes.errorbar(
        [ligand.estimate for ligand in ranking.ligands],
        places,
        xerr=[ligand.uncertainty for ligand in ranking.ligands],
        label="estimate ± standard error",
        **(POINTS | {"marker": "o", "color": INK}),
    )
    axes.plot(
        [ligand.exact for ligand in ranking.ligands],
        places,
        marker="|",
        markersize=15,
        markeredgewidth=1.6,
        color=COLOURS["vacuum"],
        linestyle="none",
        label="exact",
        zorder=1,
    )
    axes.set_yticks(places, [ligand.name for ligand in ranking.ligands])
    axes.invert_yaxis()
    axes.set_xlabel("ΔΔG, relative to the mean (kT)")
    axes.set_title(f"Ranking: ΔG({first}) − ΔG({second})", loc="left", weight="bold")
    axes.legend(frameon=False, loc="upper right")
    axes.text(
        0.03,
        0.03,
        f"{ranking.pairs - len(ranking.wrong_pairs)} of {ranking.pairs} pairs in the right order",
        transform=axes.transAxes,
        color=INK,
    )


def _points(label: str) -> dict[str, Any]:
    return {
        **POINTS,
        "marker": MARKERS.get(label, "D"),
        "color": COLOURS.get(label, "#444444"),
    }
