"""A fixture that runs commands in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from alchemistore.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command; what it prints to standard output and to standard error is kept apart."""
    monkeypatch.delenv("ALCHEMISTORE_DATABASE_URL", raising=False)
    runner = CliRunner()

    def run(*arguments: str, typed: str | None = None) -> Result:
        return runner.invoke(main, arguments, input=typed, catch_exceptions=False)

    return run
