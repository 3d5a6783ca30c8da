"""`alchemistore status`: what it shows, and its forms."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from alchemistore import Scope, StateStore
from alchemistore.cli.output import duration
from alchemistore.cli.status import STATUSES, bar
from tests.cli.conftest import Run
from tests.support.campaigns import Campaign, campaign, move_to_status, register

PROGRAM = [sys.executable, "-c", "from alchemistore.cli import main; main()", "status"]


@pytest.fixture
def status(
    run: Run, store: StateStore, pooled_database: str, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs the command on the store."""
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    return lambda *arguments, typed=None: run("status", *map(str, arguments), typed=typed)


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """A hub with six tasks: one is complete, one has failed, and two are running."""
    made = campaign(store, scope, tasks=6, name="mine")
    register(store, "alive", "silent", "expired")
    first = store.claim_taskhub_tasks(made.hub, "alive", count=2)
    store.set_task_complete(first[:1])
    store.set_task_error(first[1:])
    store.claim_taskhub_tasks(made.hub, "alive", count=2)
    with store.engine.begin() as connection:
        for name, minutes in (("silent", 11), ("expired", 31)):
            connection.execute(
                text(
                    "UPDATE compute_services SET heartbeat_at = clock_timestamp() - :ago"
                    " WHERE identifier = :name"
                ),
                {"name": name, "ago": timedelta(minutes=minutes)},
            )
    return made


COUNTS = {"complete": 1, "running": 2, "waiting": 2, "error": 1}


def test_json_has_counts_rates_services_and_the_oldest(
    status: Run, store: StateStore, made: Campaign
) -> None:
    done = status("--json")
    assert (done.exit_code, done.stderr) == (0, "")
    [line] = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found["tasks"] == COUNTS
    assert found["scopes"] == {"org-campaign-project": COUNTS}
    assert found["networks"] == [{"network": str(made.network), "name": "mine", "tasks": COUNTS}]
    assert found["services"] == {"alive": 1, "silent": 1, "expired": 1}
    assert (found["minutes"], found["claims_per_minute"]) == (10, 0.4)
    assert (found["results_per_minute"], found["failures_per_minute"]) == (0.2, 0.1)
    assert (found["claimable"], found["lost_attempts"]) == (2, 0)
    assert found["oldest_claimable"] in [str(task) for task in made.tasks]
    assert found["running_on"] == "alive"
    assert found["running_for"] >= 0


def test_page_has_a_bar_for_each_scope_and_network(status: Run, made: Campaign) -> None:
    done = status()
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("All of *-*-*")
    assert lines[1].startswith("org-campaign-project")
    assert lines[2].startswith("  mine")
    for line in lines[:3]:
        assert line.rstrip().endswith("1 complete, 2 running, 2 waiting, 1 error")
    assert "Services   1 alive, 1 silent, 1 expired" in lines
    assert "Rates      0.4 claims and 0.2 results per minute, of which 0.1 failed, over 10 min" in (
        lines
    )
    [running] = [line for line in lines if line.startswith("Running")]
    assert running.endswith(" on alive")
    assert running.startswith("Running    2 tasks; Task-")
    assert status("-q").stdout == "1 complete, 2 running, 2 waiting, 1 error\n"


def test_scope_lease_and_networks_restrict_what_is_shown(
    status: Run, store: StateStore, made: Campaign, other_scope: Scope
) -> None:
    other = campaign(store, other_scope, tasks=9, name="other")
    inactive = campaign(store, other_scope, name="inactive")
    store.set_network_state(inactive.network, "inactive")
    [both] = status("--json").stdout.splitlines()
    assert {*json.loads(both)["scopes"]} == {"org-campaign-project", str(other_scope)}
    # Most to do first.
    assert [one["name"] for one in json.loads(both)["networks"]] == ["other", "mine"]
    found = json.loads(status("--json", "--scope", other_scope).stdout)
    assert found["tasks"] == {"waiting": 9}
    assert [one["network"] for one in found["networks"]] == [str(other.network)]
    assert (found["oldest_running"], found["claims_per_minute"]) == (None, 0)
    found = json.loads(status("--json", "--networks", "1", "--lease", "1h").stdout)
    assert (len(found["networks"]), found["networks_not_shown"]) == (1, 1)
    assert found["services"] == {"alive": 2, "silent": 1, "expired": 0}
    assert "1 more network; " in status("--networks", "1").stdout
    assert status("--scope", "nonsense").exit_code == 2
    assert status("--since", "x").exit_code == 2


def test_empty_store_has_a_page_too(status: Run) -> None:
    done = status()
    assert done.exit_code == 0
    assert "no tasks" in done.stdout
    assert "Claimable  0 tasks" in done.stdout


@pytest.mark.parametrize(
    "tasks",
    [
        {"waiting": 1},
        {"waiting": 1, "running": 1_000_000},
        dict.fromkeys(STATUSES, 1),
        {"complete": 1, "error": 2, "waiting": 40_000, "running": 3},
        {"complete": 999, "waiting": 1001},
    ],
)
def test_bar_has_the_whole_width_and_shows_every_status(tasks: dict[str, int]) -> None:
    shown = bar(tasks, 40).plain
    assert len(shown) == 40
    for one, (_, character) in STATUSES.items():
        assert (character in shown) == (one in tasks)
    assert bar({}, 40).plain == "·" * 40


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (-1, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_duration_is_said_in_its_largest_unit(seconds: int, said: str) -> None:
    assert duration(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize("terminal", [True, False])
def test_watch_shows_changes_until_it_is_interrupted(
    store: StateStore, pooled_database: str, made: Campaign, terminal: bool
) -> None:
    ours, theirs = pty.openpty()
    read_end, write_end = os.pipe()
    source, sink = (ours, theirs) if terminal else (read_end, write_end)
    environment = {
        **os.environ,
        "TERM": "xterm",
        "COLUMNS": "200",
        "LINES": "40",
        "PYTHONUNBUFFERED": "1",
        "ALCHEMISTORE_DATABASE_URL": pooled_database,
    }
    program = subprocess.Popen(
        [*PROGRAM, "--watch", "--interval", "0.1"],
        stdout=sink,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        # Interrupts are ignored where the tests run in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    seen = b""
    try:
        while b"2 waiting" not in seen:
            seen += os.read(source, 4096)
        move_to_status(store, store.get_network_tasks(made.network, "waiting"), "invalid")
        while b"2 invalid" not in seen:
            seen += os.read(source, 4096)
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=60)
    finally:
        program.kill()
        for one in (ours, theirs, read_end, write_end):
            os.close(one)
    assert (program.returncode, said) == (0, b"")
