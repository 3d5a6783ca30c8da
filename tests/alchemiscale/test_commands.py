"""The commands of alchemiscale, through ``alchemistore alchemiscale`` and ``python -m``."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from alchemistore import CredentialedUserIdentity, StateStore
from alchemistore.alchemiscale.settings import graph_address
from tests.alchemiscale.conftest import environment

PROGRAMS = {
    "alchemistore alchemiscale": (
        "-c",
        "from alchemistore.cli import main; main()",
        "alchemiscale",
    ),
    "python -m alchemistore.alchemiscale": ("-m", "alchemistore.alchemiscale"),
}
Command = Callable[..., str]


@pytest.fixture(params=PROGRAMS)
def command(server_python: str, tmp_path: Path, request: pytest.FixtureRequest) -> Command:
    """Runs a command of alchemiscale, and returns what it prints."""

    def run(*arguments: str, **variables: str) -> str:
        done = subprocess.run(
            [server_python, *PROGRAMS[request.param], *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=environment(**variables),
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_commands_work_on_a_database_that_a_bolt_url_names(
    command: Command, empty_database: str
) -> None:
    url = make_url(empty_database)
    variables = {
        "NEO4J_URL": f"bolt://{graph_address(url)}",
        "NEO4J_USER": url.username or "",
        "NEO4J_PASS": str(url.password or "none"),
    }
    command("database", "init", **variables)
    assert "No inconsistencies found" in command("database", "check", **variables)
    identity = ("-t", "user", "-i", "somebody")
    command("identity", "add", *identity, "-k", "a key", **variables)
    command("identity", "add-scope", *identity, "-s", "org-campaign-*", **variables)
    assert "somebody" in command("identity", "list", "-t", "user", **variables)

    store = StateStore(empty_database)
    assert [str(one) for one in store.list_scopes("somebody", CredentialedUserIdentity)] == [
        "org-campaign-*"
    ]
    assert store.authenticate("somebody", "a key", CredentialedUserIdentity) is not None
    store.close()
