"""The report of the example campaign."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from io import StringIO
from math import log
from pathlib import Path

import pytest
from rich.console import Console

from harmonic.analysis import Answers, LostLease, Service
from harmonic.cycles import Leg, cycles
from harmonic.plot import draw
from harmonic.protocol import HarmonicProtocol
from harmonic.report import Report
from harmonic.system import analytic, build_network, environment, ligands


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
        complete,
    )
    console = Console(file=StringIO(), width=120)
    report.show(console)
    assert isinstance(console.file, StringIO)
    return report, console.file.getvalue()


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
    assert "All 40 transformations and 18 cycles are within 3 σ" in text
    assert "plot.png" in text
    assert "!" not in text
    assert "✗" not in text


def test_deviation_of_more_than_three_sigmas_is_flagged_and_explained(legs: list[Leg]) -> None:
    report, text = told(shifted(legs, 0, 0.035))
    assert report.ok
    assert "+3.5 σ !" in text
    assert "chance" in text


def test_wrong_answer_is_reported_as_wrong(legs: list[Leg]) -> None:
    report, text = told(shifted(legs, 0, log(2)))
    assert not report.ok
    assert "σ ✗" in text
    assert "The results are wrong" in text


def test_incomplete_campaign_report_says_how_to_continue(legs: list[Leg]) -> None:
    report, text = told(legs[:5], complete=False)
    assert not report.ok
    assert "run it again" in text


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
    _, text = told(legs, services)
    [line] = [line for line in text.splitlines() if line.strip().startswith("worker-2")]
    assert line.split()[:4] == ["worker-2", "5", "4", "1"]
    assert line.strip().endswith("  " + told_as)


def test_plot_is_a_picture(legs: list[Leg], tmp_path: Path) -> None:
    draw(legs, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
