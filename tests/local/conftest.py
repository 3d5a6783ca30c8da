"""Data directories for private servers, removed after the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from alchemistore.local import LocalServers


@pytest.fixture
def servers(fresh_directory: Path) -> LocalServers:
    """The servers of an empty directory; none is running."""
    return LocalServers(fresh_directory)
