"""The campaign over HTTP, in an environment that has alchemiscale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alchemistore.alchemiscale import substitution
from harmonic_http.__main__ import main
from tests.alchemiscale.conftest import environment, server_python

__all__ = ["server_python"]

EXPECTED = (
    "✓ Another service completed the task of service",
    "✓ The pattern restarted 2 tasks, the user 1.",
    "✓ The strategist added ",
    "✓ All free energies are within 5 standard errors of the exact values.",
    "✓ 'alchemistore database check --objects' finds no problem.",
)


def test_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in substitution.REQUIRED:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(substitution, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["harmonic_http"])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2
    assert "needs alchemiscale and gufe and stratocaster" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_campaign_with_faults_ends_as_it_must(server_python: str, fresh_directory: Path) -> None:
    done = subprocess.run(
        [server_python, "-m", "harmonic_http", "--directory", os.fspath(fresh_directory)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=840,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for text in EXPECTED:
        assert text in done.stdout
