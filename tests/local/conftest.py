"""Data directories for private servers, removed after the test."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from alchemistore.local import LocalServers
from alchemistore.local.daemon import exclusive


@pytest.fixture
def servers(fresh_directory: Path) -> LocalServers:
    """The servers of an empty directory; none is running."""
    return LocalServers(fresh_directory)


@pytest.fixture(scope="session")
def created_database(servers_directory: Path) -> Path:
    """The files of a new PostgreSQL server, created once for all workers; it is not running."""
    servers = LocalServers(servers_directory / "created")
    # The user of PostgreSQL must be able to enter it.
    servers_directory.chmod(0o711)
    done = servers_directory / "created.done"
    with exclusive(servers_directory / "created.lock"):
        if not done.exists():
            servers.start(s3=False)
            servers.stop()
            done.touch()
    return servers.directory / "postgres"


@pytest.fixture
def created_servers(servers: LocalServers, created_database: Path) -> LocalServers:
    """The servers of a directory with a new database, which saves its creation; none is running."""
    servers.directory.mkdir(0o700)
    subprocess.run(["cp", "-a", created_database, servers.directory], check=True)
    return servers
