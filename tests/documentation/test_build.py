"""The documentation is built without a warning, as `make docs` does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.soak
def test_documentation_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    options = ["--quiet", "--nitpicky", "--fail-on-warning", "--keep-going"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, CHECKOUT / "docs", tmp_path / "docs"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    call = (tmp_path / "docs" / "reference" / "compute.html").read_text()
    assert 'id="alchemistore.StateStore.claim_tasks"' in call
