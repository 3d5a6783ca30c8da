"""`alchemistore serve` and `alchemistore alchemiscale`, without alchemiscale."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from alchemistore.alchemiscale import program, substitution
from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("command", "passed_on"),
    [
        (["serve", "api"], ["api"]),
        (["serve", "compute"], ["compute", "api"]),
        (["serve", "strategist"], ["strategist"]),
        (["alchemiscale"], []),
    ],
)
def test_options_are_passed_on(
    monkeypatch: pytest.MonkeyPatch, run: Run, command: list[str], passed_on: list[str]
) -> None:
    seen: list[Sequence[str]] = []
    monkeypatch.setattr(program, "run", seen.append)
    options = ["--workers", "4", "-c", "file", "--help", "--"]
    assert run(*command, *options).exit_code == 0
    assert [list(arguments) for arguments in seen] == [[*passed_on, *options]]


@pytest.mark.parametrize("command", [["serve", "api"], ["alchemiscale", "database", "init"]])
def test_missing_packages_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, run: Run, command: list[str]
) -> None:
    monkeypatch.setattr(substitution, "REQUIRED", ("alchemiscale_that_is_missing",))
    done = run(*command)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(
        "Error: an alchemiscale server needs alchemiscale_that_is_missing"
    )
    assert len(done.stderr.splitlines()) == 1
