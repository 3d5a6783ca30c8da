"""Data directories whose servers are stopped and removed after the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from alchemistore.local import LocalServers


@pytest.fixture
def servers(fresh_directory: Path) -> LocalServers:
    """The servers of that directory; nothing is started."""
    return LocalServers(fresh_directory)
