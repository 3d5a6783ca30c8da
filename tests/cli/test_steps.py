"""Progress of long commands, with the time left."""

from __future__ import annotations

import io
import re
import sys

import pytest

from alchemistore.cli.progress import steps


class Terminal(io.StringIO):
    """Standard error of somebody who is watching."""

    def isatty(self) -> bool:
        return True


def watched(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Take the place of standard error; pytest would undo it between a fixture and its test."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return shown


def lines(terminal: Terminal) -> list[str]:
    """What was shown, without the control characters."""
    return (
        re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n").split("\n")
    )


def test_steps_are_shown_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    with steps() as show:
        show("tasks of [a-b-c]", 0, 10_000)
        show("tasks of [a-b-c]", 2_500, 10_000)
        show("tasks of [a-b-c]", 5_000, 10_000)
    last = [line for line in lines(terminal) if "tasks of [a-b-c]" in line][-1]
    assert re.search(r"5,000 of 10,000 +\d+:\d\d:\d\d left", last)


def test_step_that_is_done_disappears(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    with steps() as show:
        show("first", 1, 2)
        show("second", 1, 2)
        show("first", 2, 2)
        terminal.truncate(0)
        show("second", 2, 3)
    assert "second" in terminal.getvalue()
    assert "first" not in terminal.getvalue()


def test_nothing_is_shown_to_a_file_or_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    with steps(quiet=True) as show:
        show("tasks", 1, 2)
    assert terminal.getvalue() == ""
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with steps() as show:
        show("tasks", 1, 2)
    assert file.getvalue() == ""
