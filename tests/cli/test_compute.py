"""`alchemistore service`, `manager` and `quota`: output, effects and exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import text

from alchemistore import (
    ComputeManagerID,
    ComputeManagerRegistration,
    ComputeServiceRegistration,
    Scope,
    StateStore,
)
from tests.cli.conftest import Run
from tests.support.campaigns import campaign, register

EAST = ComputeManagerID(f"east-{'1' * 32}")
Ago = Callable[[str, timedelta], None]


@pytest.fixture
def commands(
    run: Run, store: StateStore, pooled_database: str, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs commands on the store."""
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    return lambda *arguments, typed=None: run(*map(str, arguments), typed=typed)


@pytest.fixture
def silence(store: StateStore) -> Ago:
    """Sets how long ago the last heartbeat of a service was."""

    def set_(service: str, ago: timedelta) -> None:
        with store.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE compute_services SET heartbeat_at = clock_timestamp() - :ago"
                    " WHERE identifier = :service"
                ),
                {"service": service, "ago": ago},
            )

    return set_


def json_lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


# service


def test_services_are_listed_with_tasks_and_silence(
    commands: Run, store: StateStore, scope: Scope, silence: Ago
) -> None:
    made = campaign(store, scope, tasks=2)
    store.register_computemanager(ComputeManagerRegistration.from_now(EAST))
    store.register_computeservice(
        ComputeServiceRegistration.from_now("busy", hostname="node1", manager_name="east")
    )
    register(store, "silent")
    silence("silent", timedelta(hours=3))
    store.claim_taskhub_tasks(made.hub, "busy", count=2)
    title, busy, silent = commands("service", "list").stdout.splitlines()
    assert title.split()[:5] == ["SERVICE", "HOSTNAME", "TASKS", "SILENT", "FOR"]
    assert busy.split()[:3] == ["busy", "node1", "2"]
    assert silent.split()[:5] == ["silent", "host", "0", "3", "h"]
    [found] = json_lines(commands("service", "list", "--json", "--manager", "east").stdout)
    assert (found["service"], found["tasks"], found["manager"]) == ("busy", 2, "east")
    assert commands("service", "list", "-q", "--silent", "2h").stdout == "silent\n"
    assert commands("service", "list", "-q", "--silent", "4h").stdout == ""
    assert commands("service", "list", "--silent", "soon").exit_code == 2


def test_all_pages_of_services_and_managers_are_listed(
    commands: Run, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("service", "manager"):
        monkeypatch.setattr(import_module(f"alchemistore.cli.{name}"), "PAGE", 2)
    names = [f"s{number}" for number in range(5)]
    register(store, *names)
    for name in names:
        identifier = ComputeManagerID.new_from_name(name)
        store.register_computemanager(ComputeManagerRegistration.from_now(identifier))
    assert commands("service", "list", "-q").stdout.split() == names
    assert commands("manager", "list", "-q").stdout.split() == names


def test_silent_services_expire_after_a_question(
    commands: Run, store: StateStore, scope: Scope, silence: Ago
) -> None:
    made = campaign(store, scope, tasks=2)
    register(store, "alive", "lost")
    [task] = store.claim_taskhub_tasks(made.hub, "lost")
    silence("lost", timedelta(minutes=31))
    silence("alive", timedelta(minutes=29))
    refused = commands("service", "expire", typed="n\n")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "Remove 1 compute service and set 1 task to waiting?" in refused.stderr
    assert store.get_task_status([task]) == ["running"]
    done = commands("service", "expire", "--yes")
    assert (done.exit_code, done.output) == (0, "Removed lost\n")
    assert store.get_task_status([task]) == ["waiting"]
    # Nothing to ask about.
    assert commands("service", "expire").output == "No service was removed.\n"
    done = commands("service", "expire", "--lease", "10m", "--json", "--yes")
    assert json_lines(done.stdout) == [{"service": "alive"}]


def test_named_services_expire_and_unknown_ones_are_reported(
    commands: Run, store: StateStore
) -> None:
    register(store, "a", "b")
    assert commands("service", "expire", "a", typed="").exit_code == 2
    done = commands("service", "expire", "a", "unknown", "--yes")
    assert (done.exit_code, done.stdout) == (1, "Removed a\n")
    assert "unknown" in done.stderr
    assert done.stderr.count("\n") == 1
    assert commands("service", "list", "-q").stdout == "b\n"


# manager


def test_manager_in_error_is_listed_and_cleared(commands: Run, store: StateStore) -> None:
    store.register_computemanager(ComputeManagerRegistration.from_now(EAST))
    assert commands("manager", "clear", "east", "--yes").exit_code == 2
    store.update_compute_manager_status(EAST, "ERROR", detail="queue is\nfull")
    title, row = commands("manager", "list").stdout.splitlines()
    assert title.split()[:3] == ["MANAGER", "STATUS", "SATURATION"]
    assert row.split()[:4] == ["east", "ERROR", "-", "0"]
    assert row.endswith(r"queue is\nfull")
    [found] = json_lines(commands("manager", "list", "--json").stdout)
    assert (found["uuid"], found["detail"]) == (EAST.uuid, "queue is\nfull")
    assert commands("manager", "clear", "east", typed="n\n").exit_code == 2
    assert store.get_compute_manager_id("east") == EAST
    done = commands("manager", "clear", "east", typed="y\n")
    assert (done.exit_code, done.stdout) == (0, f"Removed {EAST}\n")
    assert store.get_compute_manager_id("east") is None
    done = commands("manager", "clear", "east", "--yes")
    assert (done.exit_code, done.stderr) == (2, "Error: there is no compute manager 'east'\n")


# quota


def test_quota_is_set_and_shown(commands: Run, store: StateStore) -> None:
    done = commands("quota", "set", "org-*-*", "--actioned-per-hub", "5", "--json")
    limits = {"waiting_per_transformation": None, "actioned_per_hub": 5}
    assert json_lines(done.stdout) == [{"scope": "org-*-*", **limits}]
    shown = commands("quota", "show", "org-a-b").stdout
    assert [re.split("  +", line)[-1] for line in shown.splitlines()] == [
        "org-a-b",
        "no limit",
        "5",
    ]
    assert json_lines(commands("quota", "show", "org-a-b", "--json").stdout) == [
        {"scope": "org-a-b", **limits}
    ]
    title, row = commands("quota", "list").stdout.splitlines()
    assert title.split() == ["SCOPE", "WAITING", "PER", "TRANSFORMATION", "ACTIONED", "PER", "HUB"]
    assert row.split() == ["org-*-*", "-", "5"]
    assert commands("quota", "list", "-q", "--scope", "other-*-*").output == ""
    assert commands("quota", "set", "org-*-*", "-q").output == ""
    assert store.get_quota("org-*-*").actioned_per_hub is None
    for arguments in (["show", "nonsense"], ["set", "a-b-c", "--actioned-per-hub", "-1"]):
        assert commands("quota", *arguments).exit_code == 2
