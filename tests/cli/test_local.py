"""`alchemistore local`: output and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

from alchemistore.local import LocalServers
from tests.cli.conftest import Run


def test_servers_are_started_shown_and_stopped(run: Run, fresh_directory: Path) -> None:
    where = ("--directory", str(fresh_directory))
    done = run("local", "status", *where)
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        f"Directory   {fresh_directory}",
        "PostgreSQL  not running",
        "S3          not running",
    ]
    quiet = run("local", "status", *where, "--quiet")
    assert (quiet.exit_code, quiet.output) == (1, "")
    try:
        started = run("local", "start", *where, "--json")
        assert started.exit_code == 0
        found = json.loads(started.stdout)
        assert found["directory"] == str(fresh_directory)
        assert found["database"]["pid"] > 0
        assert json.loads(run("local", "status", *where, "--json").stdout) == found
        again = run("local", "start", *where)
        assert "PostgreSQL  running, process" in again.stdout
        assert 'eval "$(alchemistore local env --directory' in again.stdout
        assert run("local", "start", *where, "-q").output == ""
        assert "export ALCHEMISTORE_DATABASE_URL=" in run("local", "env", *where).stdout
        variables = json.loads(run("local", "env", *where, "--json").stdout)
        assert variables["ALCHEMISTORE_DATABASE_URL"].startswith("postgresql://")
        assert run("local", "env", *where, "-q").stdout.split() == [*variables]
        stopped = run("local", "stop", *where)
        assert stopped.stdout == f"Stopped. The data are in {fresh_directory}.\n"
        stopped = run("local", "stop", *where, "--json")
        assert json.loads(stopped.stdout) == {"directory": str(fresh_directory)}
        assert run("local", "status", *where, "-q").exit_code == 1
    finally:
        LocalServers(fresh_directory).remove()
