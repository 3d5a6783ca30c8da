"""The report of the example campaign."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from io import StringIO
from math import log
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console
from scipy.stats import chi2, norm

from harmonic.analysis import Answers, LostLease, Service
from harmonic.cycles import Leg, cycles
from harmonic.odds import chi_square_tail, largest_of, normal_below
from harmonic.plot import draw, draw_estimates
from harmonic.protocol import HarmonicProtocol
from harmonic.ranking import rank
from harmonic.report import Report
from harmonic.system import LIGANDS, analytic, build_network, environment, ligands


@pytest.fixture
def legs() -> list[Leg]:
    """The transformations of the campaign, answered exactly."""
    edges = build_network(HarmonicProtocol(HarmonicProtocol.default_settings())).edges
    return sorted(
        (
            Leg(
                *ligands(edge),
                environment(edge),
                analytic(edge),
                0.01,
                analytic(edge),
                results=3,
                samples=6144,
            )
            for edge in edges
        ),
        key=lambda leg: (leg.environment, leg.first, leg.second),
    )


def told(
    legs: list[Leg], services: tuple[Service, ...] = (), complete: bool = True
) -> tuple[Report, str]:
    report = Report(
        Answers(tuple(legs), tuple(cycles(legs)), services, tasks=3 * len(legs)),
        Path("plot.png"),
        Path("tables.txt"),
        complete,
    )
    console = Console(file=StringIO(), width=120)
    report.show(console)
    assert isinstance(console.file, StringIO)
    return report, console.file.getvalue()


def table_of(report: Report) -> str:
    """Return the tables that the report prints on request, and writes to a file."""
    console = Console(file=StringIO(), width=120)
    report.show(console, tables=True)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def shifted(legs: list[Leg], number: int, by: float) -> list[Leg]:
    return [
        *legs[:number],
        replace(legs[number], estimate=legs[number].estimate + by),
        *legs[number + 1 :],
    ]


def test_exact_free_energies_close_every_cycle(legs: list[Leg]) -> None:
    found = cycles(legs)
    assert Counter(cycle.environment for cycle in found) == {"solvent": 9, "vacuum": 9}
    for cycle in found:
        assert cycle.closure == pytest.approx(0, abs=1e-12)
        assert cycle.uncertainty == pytest.approx(0.01 * len(cycle.ligands) ** 0.5)


def test_cycles_follow_transformations_back_to_their_start(legs: list[Leg]) -> None:
    found = cycles(legs)
    joined = {(leg.environment, frozenset((leg.first, leg.second))) for leg in legs}
    for cycle in found:
        steps = [
            frozenset(pair)
            for pair in zip(cycle.ligands, (*cycle.ligands[1:], cycle.ligands[0]), strict=True)
        ]
        assert len(set(cycle.ligands)) == len(cycle.ligands) >= 3
        assert all((cycle.environment, step) in joined for step in steps)
    assert len({(cycle.environment, frozenset(cycle.ligands)) for cycle in found}) == 18


def test_direction_of_a_transformation_does_not_matter_to_closure(legs: list[Leg]) -> None:
    turned = [
        replace(leg, first=leg.second, second=leg.first, estimate=-leg.estimate, exact=-leg.exact)
        for leg in legs[::2]
    ]
    assert [cycle.closure for cycle in cycles([*turned, *legs[1::2]])] == pytest.approx(
        [0] * 18, abs=1e-12
    )


@pytest.mark.parametrize("number", range(40))
def test_wrong_free_energy_opens_a_cycle(legs: list[Leg], number: int) -> None:
    opened = [
        cycle.closure for cycle in cycles(shifted(legs, number, 0.5)) if abs(cycle.closure) > 1e-9
    ]
    assert opened
    assert [abs(closure) for closure in opened] == pytest.approx([0.5] * len(opened))


def test_tree_has_no_cycles() -> None:
    line = [
        Leg(a, b, "vacuum", 1.0, 0.1, 1.0, 1, 10)
        for a, b in (("a", "b"), ("c", "b"), ("c", "d"), ("x", "y"))
    ]
    assert cycles(line) == []


def test_two_transformations_between_the_same_ligands_are_a_cycle() -> None:
    pair = [
        Leg("a", "b", "vacuum", 1.0, 0.3, 1.0, 1, 10),
        Leg("b", "a", "vacuum", -1.5, 0.4, -1.0, 1, 10),
    ]
    [cycle] = cycles(pair)
    assert abs(cycle.closure) == pytest.approx(0.5)
    assert cycle.uncertainty == pytest.approx(0.5)


def test_correct_answers_are_reported_as_correct(legs: list[Leg]) -> None:
    report, text = told(legs)
    assert report.ok
    assert "All 40 transformations agree with the exact values" in text
    assert "All 66 pairs of ligands are in the order of the exact values" in text
    assert "plot.png" in text
    assert "tables.txt" in text
    assert "!" not in text
    assert "✗" not in text


def test_deviation_of_more_than_three_sigmas_is_flagged_and_explained(legs: list[Leg]) -> None:
    report, text = told(shifted(legs, 0, 0.035))
    assert report.ok
    assert "+3.5 σ !" in table_of(report)
    # Of 40 normal deviations, the largest is at least 3.5 in 1.8 % of cases.
    assert "39 of 40 transformations agree with the exact values" in text
    assert "Largest deviation: 3.5 σ (anna → bert in solvent)" in text
    assert "chance gives one as large in 2 % of campaigns" in text
    assert "χ² = 12.2; chance gives more in 100 % of campaigns" in text


def test_wrong_answer_is_reported_as_wrong(legs: list[Leg]) -> None:
    report, text = told(shifted(legs, 0, log(2)))
    assert not report.ok
    assert "σ ✗" in table_of(report)
    assert "The results are wrong" in text
    assert "less than one of a billion campaigns" in text


def test_incomplete_campaign_report_says_how_to_continue(legs: list[Leg]) -> None:
    report, text = told(legs[:5], complete=False)
    assert not report.ok
    assert "run it again" in text
    assert "so there is no ranking" in text


def test_campaign_without_results_can_be_reported() -> None:
    report, text = told([], complete=False)
    assert not report.ok
    assert "not complete" in text


@pytest.mark.parametrize(
    ("lease", "told_as"),
    [
        (LostLease(False, "worker-1"), "lost; worker-1 completed its task"),
        (LostLease(False, None), "lost; its task is open"),
        (LostLease(True, "worker-2"), "expired; its late result counts"),
        (
            LostLease(True, "worker-2", "worker-3"),
            "expired; its late result counts, worker-3 was superseded",
        ),
        (
            LostLease(True, "worker-1"),
            "expired; worker-1 completed its task, its late result is kept",
        ),
    ],
)
def test_report_tells_the_fate_of_a_lost_task(
    legs: list[Leg], lease: LostLease, told_as: str
) -> None:
    services = (
        Service("worker-1", Counter(complete=20)),
        Service("worker-2", Counter(complete=4, expired=1), (lease,)),
    )
    report, text = told(legs, services)
    assert "worker-2" not in text
    text = table_of(report)
    [line] = [line for line in text.splitlines() if line.strip().startswith("worker-2")]
    assert line.split()[:4] == ["worker-2", "5", "4", "1"]
    assert line.strip().endswith("  " + told_as)


def test_tables_are_written_to_a_file(legs: list[Leg], tmp_path: Path) -> None:
    report = replace(told(legs)[0], tables=tmp_path / "tables.txt")
    report.write_tables()
    written = report.tables.read_text()
    assert "anna → bert" in written
    assert written in table_of(report)


# odds


@pytest.mark.parametrize("freedom", [1, 2, 3, 17, 18, 40, 401])
def test_chi_square_tail_agrees_with_scipy(freedom: int) -> None:
    for value in (0.01, 1.0, 0.5 * freedom, freedom, 3.0 * freedom):
        assert chi_square_tail(value, freedom) == pytest.approx(chi2.sf(value, freedom), rel=1e-9)
    assert chi_square_tail(0, freedom) == 1


def test_odds_of_the_largest_deviation_agree_with_scipy() -> None:
    assert largest_of(1, 1.96) == pytest.approx(0.05, abs=1e-3)
    assert largest_of(40, -3.0) == pytest.approx(1 - (1 - 2 * norm.sf(3.0)) ** 40)
    assert normal_below(1.0) == pytest.approx(norm.cdf(1.0))


# ranking

BOTH = ("solvent", "vacuum")


def test_exact_results_rank_all_ligands_exactly(legs: list[Leg]) -> None:
    ranking = rank(legs, BOTH)
    assert ranking is not None
    # A stiffer well notices the solvent less.
    assert [one.name for one in ranking.ligands] == sorted(LIGANDS, key=lambda n: -LIGANDS[n])
    shifts = {name: 0.5 * log((k + 25) / k) for name, k in LIGANDS.items()}
    mean = sum(shifts.values()) / len(shifts)
    for ligand in ranking.ligands:
        assert ligand.exact == pytest.approx(shifts[ligand.name] - mean)
        assert ligand.estimate == pytest.approx(ligand.exact)
    assert ranking.wrong_pairs == []
    assert ranking.independent_cycles == 18
    assert ranking.closure == pytest.approx(0, abs=1e-12)


def line(environment: str, *steps: float) -> list[Leg]:
    """Return transformations from a to b to c, with an error of 0.1 each; the exact value is 1."""
    return [
        Leg(first, second, environment, step, 0.1, 1.0, results=1, samples=10)
        for (first, second), step in zip((("a", "b"), ("b", "c")), steps, strict=True)
    ]


def test_values_are_relative_to_the_mean_with_their_errors() -> None:
    ranking = rank([*line("solvent", 1.0, 2.0), *line("vacuum", 0.5, 0.5)], BOTH)
    assert ranking is not None
    assert [one.name for one in ranking.ligands] == ["a", "b", "c"]
    # The differences are 0.5 and 1.5, so the values are 0, 0.5 and 2, less their mean.
    assert [one.estimate for one in ranking.ligands] == pytest.approx([-5 / 6, -1 / 3, 7 / 6])
    # Each environment: a is -(2 x + y) / 3 for the steps x and y.
    assert ranking.ligands[0].uncertainty == pytest.approx((2 * 0.01 * 5 / 9) ** 0.5)
    assert ranking.below_next(0) == pytest.approx(norm.cdf(0.5 / (2 * 0.01) ** 0.5))
    assert ranking.closure_odds == 1


def test_results_around_a_cycle_are_averaged_by_their_errors() -> None:
    # Two transformations between the same ligands, of which one is three times as precise.
    pair = [
        Leg("a", "b", "solvent", 1.0, 0.3, 1.0, results=1, samples=10),
        Leg("b", "a", "solvent", -2.0, 0.1, -1.0, results=1, samples=10),
    ]
    other = [Leg("a", "b", "vacuum", 0.0, 0.1, 0.0, results=1, samples=10)]
    ranking = rank([*pair, *other], BOTH)
    assert ranking is not None
    a, b = ranking.ligands
    assert b.estimate - a.estimate == pytest.approx((1.0 * 1 + 2.0 * 9) / 10)
    assert ranking.independent_cycles == 1
    assert ranking.closure == pytest.approx(1 / (0.3**2 + 0.1**2))


def test_wrong_order_is_named(legs: list[Leg]) -> None:
    def shift(leg: Leg) -> float:
        ends = (leg.second == "kira") - (leg.first == "kira")
        return 0.03 * ends if leg.environment == "solvent" else 0.0

    _, text = told([replace(leg, estimate=leg.estimate + shift(leg)) for leg in legs])
    assert "65 of 66 pairs of ligands are in the order of the exact values; not dora and k" in text


def test_ligands_without_a_connection_are_not_ranked(legs: list[Leg]) -> None:
    assert rank([], BOTH) is None
    assert rank([leg for leg in legs if leg.environment == "solvent"], BOTH) is None
    assert rank([leg for leg in legs if "anna" not in (leg.first, leg.second)], BOTH) is not None
    lost = [
        leg for leg in legs if leg.environment == "vacuum" or "anna" not in (leg.first, leg.second)
    ]
    assert rank(lost, BOTH) is None


# plot


@pytest.mark.parametrize("ranked", [True, False])
def test_plot_is_a_picture(legs: list[Leg], tmp_path: Path, ranked: bool) -> None:
    draw(legs, rank(legs, BOTH) if ranked else None, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_one_kt_is_equally_long_on_both_axes(legs: list[Leg]) -> None:
    axes = Figure().add_subplot()
    draw_estimates(axes, legs)
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_box_aspect() == 1
