"""The campaign over HTTP, in an environment that has alchemiscale."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.alchemiscale.conftest import environment, server_python

__all__ = ["server_python"]

EXPECTED = (
    "✓ Another service completed the task of service",
    "✓ The pattern restarted 2 tasks, the user 1.",
    "✓ The strategist added ",
    "✓ All free energies are within 5 standard errors of the exact values.",
    "✓ The check of the database finds no problem.",
)


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
