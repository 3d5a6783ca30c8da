"""The numbers on the page about performance are those that were measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.plots import DRAWINGS, STORED, Capacity, tables

PAGE = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()


@pytest.mark.parametrize("name", tables())
def test_table_has_the_measured_numbers(name: str) -> None:
    """`python -m bench.plots` prints the tables."""
    assert tables()[name] in PAGE


def test_every_plot_is_shown() -> None:
    assert sorted(DRAWINGS.glob("plot-*.svg")) == [
        DRAWINGS / name
        for name in ("plot-capacity.svg", "plot-depths.svg", "plot-http.svg")
        if f"drawings/{name}" in PAGE
    ]


def test_size_of_many_tasks_is_computed_from_the_measured_sizes() -> None:
    capacity = Capacity.read()
    gigabytes = STORED * (capacity.waiting + capacity.result) / 1e9
    assert f"are {gigabytes:.0f} GB in the database at most" in PAGE


def test_share_of_a_core_grows_with_services_and_short_tasks() -> None:
    capacity = Capacity({"claim": 1, "transformation": 2, "settlement": 3, "heartbeat": 60}, 0, 0)
    assert capacity.life == 6
    # One service needs 6 s of CPU for each task of 12 s, and 60 s for a heartbeat each minute.
    assert capacity.share(1, 12) == pytest.approx(0.5 + 1)
    assert capacity.share(10, 12) == pytest.approx(15)
