"""The demo command: its exit codes, and the files that it removes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import harmonic.campaign
from alchemistore.cli import main
from harmonic.analysis import Answers
from harmonic.report import Report
from harmonic.worker_pool import CampaignError


@pytest.fixture
def demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Report | BaseException], Result]:
    """Runs the command on a simulated campaign."""

    def invoke(end: Report | BaseException) -> Result:
        def run(*_: Any, **__: Any) -> Report:
            if isinstance(end, BaseException):
                raise end
            return end

        monkeypatch.setattr(harmonic.campaign, "run", run)
        # The command extends the path.
        monkeypatch.setattr(sys, "path", list(sys.path))
        return CliRunner().invoke(main, ["demo", "-d", str(tmp_path / "demo")])

    return invoke


def came_to(complete: bool) -> Report:
    return Report(Answers((), (), (), tasks=1), Path("plot.png"), Path("tables.txt"), complete)


def test_successful_campaign_exits_with_code_0(demo: Callable[[Report], Result]) -> None:
    assert demo(came_to(complete=True)).exit_code == 0


def test_failed_campaign_exits_with_code_1(demo: Callable[[Report], Result]) -> None:
    assert demo(came_to(complete=False)).exit_code == 1


def test_interrupted_demo_exits_quietly_with_code_130(
    demo: Callable[[BaseException], Result],
) -> None:
    result = demo(KeyboardInterrupt())
    assert (result.exit_code, result.output) == (130, "Interrupted.\n")


def test_campaign_that_cannot_continue_explains_and_exits_with_code_2(
    demo: Callable[[BaseException], Result],
) -> None:
    result = demo(CampaignError("no worker is left"))
    assert (result.exit_code, result.stderr) == (2, "Error: no worker is left\n")


def test_clean_without_a_demo_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", "--clean", "-d", str(tmp_path / "demo")])
    assert result.exit_code == 0
    assert "there is no directory" in result.output


def test_clean_removes_no_directory_that_a_demo_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    result = CliRunner().invoke(main, ["demo", "--clean", "-d", str(tmp_path)])
    assert result.exit_code == 2
    assert "nothing was removed" in result.stderr
    assert (tmp_path / "thesis.tex").exists()
