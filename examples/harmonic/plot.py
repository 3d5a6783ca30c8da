"""Plot estimated against exact free energies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harmonic.cycles import Leg

COLOURS = {"solvent": "#2a6f97", "vacuum": "#c8553d"}
GREY = "#8a8f98"
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#4a4e55",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.8,
}


def draw(legs: Sequence[Leg], path: Path) -> None:
    """Draw estimated against exact free energies, and the errors below; one column per environment.

    Parameters
    ----------
    legs : sequence of Leg
    path : Path
        The PNG file; an existing file is replaced.
    """
    environments = sorted({leg.environment for leg in legs})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.0 * len(environments), 6.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(
            2, len(environments), sharex="col", sharey="row", height_ratios=[3, 1.3], squeeze=False
        )
        figure.suptitle(
            f"Harmonic wells: {len(legs)} transformations, BAR estimates and exact values",
            fontsize=12,
            weight="bold",
        )
        for (above, below), label in zip(axes.T, environments, strict=True):
            members = [leg for leg in legs if leg.environment == label]
            exact = np.array([leg.exact for leg in members])
            error = np.array([leg.error for leg in members])
            uncertainty = np.array([leg.uncertainty for leg in members])
            colour = COLOURS.get(label, "#444444")
            bars = {
                "fmt": "o",
                "color": colour,
                "ecolor": colour,
                "markersize": 5.5,
                "markeredgecolor": "white",
                "markeredgewidth": 0.7,
                "elinewidth": 1.4,
                "capsize": 2.5,
            }
            low, high = exact.min() - 0.1, exact.max() + 0.1
            above.plot(
                [low, high],
                [low, high],
                color=GREY,
                linestyle="--",
                linewidth=1.2,
                zorder=1,
                label="estimate = exact",
            )
            above.errorbar(
                exact, exact + error, yerr=uncertainty, label="estimate ± standard error", **bars
            )
            above.set_title(f"in {label}", color=colour, weight="bold", loc="left")
            above.legend(frameon=False, loc="upper left")
            rms = float(np.sqrt(np.mean(error**2)))
            above.text(
                0.97,
                0.05,
                f"rms error {rms:.4f} kT\n"
                f"largest deviation {np.abs(error / uncertainty).max():.1f} σ",
                transform=above.transAxes,
                ha="right",
                va="bottom",
                color="#4a4e55",
            )
            below.axhline(0, color=GREY, linestyle="--", linewidth=1.2, zorder=1)
            below.errorbar(exact, error, yerr=uncertainty, **bars)
            below.set_xlabel(r"exact  $\frac{1}{2}\ln(k_B/k_A)$  (kT)")
        axes[0, 0].set_ylabel("estimated ΔF (kT)")
        axes[1, 0].set_ylabel("estimate − exact (kT)")
        figure.savefig(path, dpi=150)
