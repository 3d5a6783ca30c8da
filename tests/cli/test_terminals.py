"""Output that fits a terminal, and that is the same for programs whatever its width."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click
import pytest

from alchemistore import StateStore
from alchemistore.cli.output import Output
from alchemistore.maintenance.doctor import Diagnosis, Level

# The module, which the command of the same name hides.
doctor = import_module("alchemistore.cli.doctor")
ROWS: list[dict[str, Any]] = [
    {"task": "Task-" + "0" * 32, "status": "waiting", "priority": 1},
    {"task": "Task-1", "status": "complete", "priority": 10},
]
COLUMNS = ("task", "status", "priority")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes standard output a terminal with so many columns."""

    def make(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return make


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return click.unstyle(capsys.readouterr().out).splitlines()


def test_rows_that_fit_are_in_one_line(capsys: pytest.CaptureFixture[str], terminal: Any) -> None:
    terminal(57)
    Output(False, False).table(ROWS, *COLUMNS)
    assert lines(capsys) == [
        "TASK                                   STATUS    PRIORITY",
        "Task-00000000000000000000000000000000  waiting   1",
        "Task-1                                 complete  10",
    ]


def test_rows_that_do_not_fit_have_their_key_above(
    capsys: pytest.CaptureFixture[str], terminal: Any
) -> None:
    terminal(56)
    Output(False, False).table(ROWS, *COLUMNS)
    assert lines(capsys) == [
        "TASK",
        "    STATUS    PRIORITY",
        "Task-00000000000000000000000000000000",
        "    waiting   1",
        "Task-1",
        "    complete  10",
    ]


def test_rows_are_in_one_line_where_nobody_is_watching(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    Output(False, False).table(ROWS, *COLUMNS)
    assert len(lines(capsys)) == 3


@pytest.mark.parametrize("watched", [True, False])
def test_empty_table_says_so_to_people_only(
    capsys: pytest.CaptureFixture[str], terminal: Any, watched: bool
) -> None:
    if watched:
        terminal(80)
    Output(False, False).table([], *COLUMNS)
    Output(True, False).table([], *COLUMNS)
    Output(False, True).table([], *COLUMNS)
    assert lines(capsys) == (["Nothing to show."] if watched else [])


def test_findings_are_wrapped_below_their_beginning(
    capsys: pytest.CaptureFixture[str], terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Diagnosis("tables", Level.warning, "many dead rows in queue and tasks", "run VACUUM")
    monkeypatch.setattr("alchemistore.maintenance.doctor.examine", lambda *_: iter([found]))
    monkeypatch.setattr(doctor, "open_store", StateStore)

    def examine() -> None:
        with pytest.raises(SystemExit):
            doctor.doctor.main(["--url", "postgresql://nowhere/x"], standalone_mode=False)

    examine()
    assert lines(capsys) == [
        "warning  tables        many dead rows in queue and tasks",
        "                       → run VACUUM",
    ]
    terminal(54)
    examine()
    assert lines(capsys) == [
        "warning  tables        many dead rows in queue and",
        "                       tasks",
        "                       → run VACUUM",
    ]
