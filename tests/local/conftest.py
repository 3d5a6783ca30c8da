"""Data directories whose servers are stopped and removed after the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from alchemistore.local import LocalServers


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that does not exist yet, in a place that every user may enter (PostgreSQL does not run as root)."""
    parent = Path(tempfile.mkdtemp(prefix="alchemistore-local-"))
    parent.chmod(0o755)
    yield parent / "data"
    LocalServers(parent / "data").stop()
    shutil.rmtree(parent)


@pytest.fixture
def servers(directory: Path) -> LocalServers:
    """The servers of that directory; nothing is started."""
    return LocalServers(directory)
