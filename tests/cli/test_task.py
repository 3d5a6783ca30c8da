"""`alchemistore task`: output, effects and exit codes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import text

from alchemistore import Scope, ScopedKey, StateStore
from tests.cli.conftest import Run
from tests.support.campaigns import ZERO, Campaign, campaign, chain, move_to_status, register
from tests.support.restarts import Failure
from tests.support.results import ref

MISSING = f"Task-{ZERO}-org-campaign-project"
PROGRAM = [sys.executable, "-c", "from alchemistore.cli import main; main()"]


@pytest.fixture
def tasks(
    run: Run, store: StateStore, pooled_database: str, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs commands of this group on the store."""
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    return lambda *arguments, typed=None: run("task", *map(str, arguments), typed=typed)


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """A hub with three tasks."""
    return campaign(store, scope, tasks=3)


def json_lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def texts(keys: list[ScopedKey]) -> list[str]:
    return [str(key) for key in keys]


# list


def test_list_prints_a_table_json_lines_or_keys(
    tasks: Run, store: StateStore, made: Campaign
) -> None:
    register(store, "service")
    [claimed] = store.claim_taskhub_tasks(made.hub, "service")
    done = tasks("list")
    assert (done.exit_code, done.stderr) == (0, "")
    title, *rows = done.stdout.splitlines()
    assert title.split()[:4] == ["TASK", "STATUS", "PRIORITY", "ATTEMPTS"]
    assert [row.split()[0] for row in rows] == sorted(texts(made.tasks))
    [running] = [row for row in rows if str(claimed) in row]
    assert running.split()[1:5] == ["running", "10", "1", "service"]
    printed = json_lines(tasks("list", "--json", "--status", "running").stdout)
    assert [(one["task"], one["status"], one["service"]) for one in printed] == [
        (str(claimed), "running", "service")
    ]
    assert tasks("list", "-q").stdout.split() == sorted(texts(made.tasks))


def test_list_selects_by_scope_network_hub_transformation_and_status(
    tasks: Run, store: StateStore, made: Campaign, other_scope: Scope
) -> None:
    other = campaign(store, other_scope, tasks=2, action=False)
    move_to_status(store, made.tasks[:1], "error")
    cases: list[tuple[list[object], list[ScopedKey]]] = [
        (["--scope", other_scope], other.tasks),
        (["--scope", "org-*-*"], made.tasks + other.tasks),
        (["--network", made.network], made.tasks),
        (["--network", made.network, "--status", "error"], made.tasks[:1]),
        (["--hub", made.hub], made.tasks),
        (["--hub", made.hub, "--status", "waiting"], made.tasks[1:]),
        (["--hub", other.hub], []),
        (["--transformation", made.transformations[0]], made.tasks[:1]),
        (["--status", "complete"], []),
    ]
    for options, expected in cases:
        assert sorted(tasks("list", "-q", *options).stdout.split()) == sorted(texts(expected))
    assert len(tasks("list", "-q", "--limit", "2").stdout.split()) == 2
    assert tasks("list", "--limit", "0").stdout == ""


def test_list_goes_through_all_pages(
    tasks: Run, store: StateStore, made: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("alchemistore.cli.task"), "PAGE", 2)
    assert tasks("list", "-q").stdout.split() == sorted(texts(made.tasks))
    rows = tasks("list").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["TASK", *sorted(texts(made.tasks))]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--network", "a", "--hub", "b"], "only one of"),
        (["list", "--json", "--quiet"], "cannot be used together"),
        (["list", "--hub", f"TaskHub-{ZERO}-a-b-c"], "No such object in database: TaskHub-"),
        (["list", "--scope", "nonsense"], "'nonsense' is not a scope"),
        (["list", "--limit", "-1"], "--limit"),
        (["restart"], "name the tasks to restart"),
        (["restart", MISSING, "--scope", "a-b-c"], "not both"),
        (["restart", MISSING, "--hub", f"TaskHub-{ZERO}-a-b-c"], "No such object in database"),
        (["set-status", "done", MISSING], "'done' is not one of"),
        (["set-priority", "0", MISSING], "x>=1"),
        (["show"], "TASK..."),
    ],
)
def test_wrong_arguments_are_explained(tasks: Run, arguments: list[str], said: str) -> None:
    done = tasks(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_control_characters_of_a_reason_do_not_reach_the_terminal(
    tasks: Run, store: StateStore, made: Campaign
) -> None:
    store.set_task_status(made.tasks[:1], "running", reason="\x1b[31mred\nline")
    shown = tasks("list", "--status", "running").stdout
    assert "\x1b" not in shown
    assert r"\x1b[31mred\nline" in shown
    [row] = json_lines(tasks("list", "--status", "running", "--json").stdout)
    assert row["reason"] == "\x1b[31mred\nline"


# show, history, why


def test_show_prints_what_is_known_about_a_task(
    tasks: Run, store: StateStore, made: Campaign
) -> None:
    register(store, "service")
    first, second = chain(store, made.transformations[0], 2)
    store.action_tasks([first, second], made.hub)
    store.set_task_weights([second], made.hub, 0.25)
    done = tasks("show", second)
    assert done.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["task"] == str(second)
    assert lines["extends"] == str(first)
    assert lines["transformation"] == str(made.transformations[0])
    [shown] = json_lines(tasks("show", second, "--json").stdout)
    assert (shown["extends"], shown["status"]) == (str(first), "waiting")
    assert shown["hub_weights"] == {str(made.hub): 0.25}
    assert shown["networks"] == [str(made.network)]
    assert tasks("show", first, second, "-q").stdout.split() == texts([first, second])


def test_history_prints_changes_attempts_and_tracebacks(
    tasks: Run, store: StateStore, made: Campaign, scope: Scope
) -> None:
    register(store, "service")
    [claimed] = store.claim_taskhub_tasks(made.hub, "service")
    assert claimed is not None
    failure = store.set_task_result(claimed, ref(scope, ok=False))
    store.add_protocol_dag_result_ref_tracebacks([Failure("Particle is NaN")], failure)
    store.set_task_error([claimed])
    done = tasks("history", claimed, "--tracebacks")
    assert done.exit_code == 0
    words = done.stdout.split()
    assert [word for word in words if word in ("waiting", "running", "error")] == [
        "waiting",
        "running",
        "error",
        "error",
    ]
    assert "Particle is NaN" in done.stdout
    [shown] = json_lines(tasks("history", claimed, "--json").stdout)
    assert [one["status"] for one in shown["changes"]] == ["waiting", "running", "error"]
    assert [one["outcome"] for one in shown["attempts"]] == ["error"]
    assert "tracebacks" not in shown
    [shown] = json_lines(tasks("history", claimed, "--json", "--tracebacks").stdout)
    assert shown["tracebacks"] == store.get_task_tracebacks(claimed)


def test_log_prints_the_output_of_attempts(tasks: Run, store: StateStore, made: Campaign) -> None:
    register(store, "service")
    [task] = store.claim_taskhub_tasks(made.hub, "service")
    assert task is not None
    assert tasks("log", task).exit_code == 1
    store.set_attempt_log(task, 1, "hello\n\x1b[2J\tworld\n", ["Traceback: no luck"], size=40)
    done = tasks("log", task)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Attempt 1 (23 bytes before it left out)",
        "hello",
        "\\x1b[2J    world",
        "Traceback: no luck",
    ]
    [shown] = json_lines(tasks("history", task, "--tracebacks", "--json").stdout)
    assert shown["tracebacks"] == [["Traceback: no luck"]]
    assert tasks("log", task, "-q", "--attempt", 1).stdout.startswith("hello\n")
    [shown] = json_lines(tasks("log", task, "--json").stdout)
    assert (shown["task"], shown["attempt"], shown["size"]) == (str(task), 1, 40)
    assert shown["tracebacks"] == ["Traceback: no luck"]
    assert tasks("log", task, "--attempt", 2).exit_code == 1
    missing = tasks("log", MISSING)
    assert (missing.exit_code, missing.stdout) == (2, "")


def test_why_explains_what_keeps_a_task_from_being_claimed(
    tasks: Run, store: StateStore, made: Campaign
) -> None:
    first, second = chain(store, made.transformations[0], 2)
    register(store, "service")
    done = tasks("why", made.tasks[0], second)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{made.tasks[0]}: the next claim may take it",
        f"{second}:",
        f"  it extends {first}, which is waiting, not complete",
        "  it is actioned on no hub",
    ]
    claimable, blocked = json_lines(tasks("why", made.tasks[0], second, "--json").stdout)
    assert (claimable["claimable"], claimable["blockers"]) == (True, [])
    assert [one["kind"] for one in blocked["blockers"]] == ["parent", "not_actioned"]
    assert tasks("why", "-q", made.tasks[0], second).stdout.split() == [str(second)]


@pytest.mark.parametrize("command", [["show"], ["history"], ["why"], ["set-priority", "1"]])
def test_missing_task_is_named_and_others_are_handled(
    tasks: Run, made: Campaign, command: list[str]
) -> None:
    done = tasks(*command, MISSING, made.tasks[0], "--json")
    assert done.exit_code == 1
    assert MISSING in done.stderr
    assert done.stderr.count("\n") == 1
    assert json_lines(done.stdout)[-1]["task"] == str(made.tasks[0])


# changes


def test_set_status_records_reason_and_actor_and_names_refused_tasks(
    tasks: Run, store: StateStore, made: Campaign
) -> None:
    first, second, _ = made.tasks
    move_to_status(store, [second], "complete")
    done = tasks("set-status", "running", first, second, "--reason", "by hand", "--actor", "me")
    assert done.exit_code == 1
    assert done.stdout == "Set 1 task to running.\n"
    assert done.stderr == f"Error: {second}: its status does not allow it\n"
    [found] = store.get_task_history([first])
    assert found is not None
    assert (found.changes[-1].reason, found.changes[-1].actor) == ("by hand", "me")
    lines = json_lines(tasks("set-status", "running", first, second, "--json").stdout)
    assert lines == [
        {"task": str(first), "status": "running", "refused": None},
        {"task": str(second), "status": None, "refused": "status"},
    ]
    assert tasks("set-status", "running", first, "-q").output == ""


@pytest.mark.parametrize("status", ["invalid", "deleted"])
def test_final_status_asks_first(
    tasks: Run, store: StateStore, made: Campaign, status: str
) -> None:
    for typed in ("", "n\n"):
        done = tasks("set-status", status, made.tasks[0], typed=typed)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "nothing was changed" in done.stderr
    assert store.get_task_status(made.tasks[:1]) == ["waiting"]
    assert tasks("set-status", status, made.tasks[0], typed="y\n").exit_code == 0
    assert tasks("set-status", status, made.tasks[1], "--yes").exit_code == 0
    assert store.get_task_status(made.tasks) == [status, status, "waiting"]


def test_keys_are_read_from_standard_input(tasks: Run, store: StateStore, made: Campaign) -> None:
    listed = tasks("list", "-q").stdout
    done = tasks("set-priority", "3", "-", typed=listed)
    assert (done.exit_code, done.stdout) == (0, "Set the priority of 3 tasks to 3.\n")
    assert store.get_task_priority(made.tasks) == [3, 3, 3]
    assert tasks("restart", "-", typed="").stdout == "Restarted 0 tasks.\n"


def test_restart_sets_failed_tasks_to_waiting_and_refuses_others(
    tasks: Run, store: StateStore, made: Campaign
) -> None:
    failed, running, waiting = made.tasks
    move_to_status(store, [failed], "error")
    store.set_task_running([running])
    done = tasks("restart", *made.tasks, "--reason", "new driver")
    assert done.exit_code == 1
    assert done.stdout == "Restarted 1 task.\n"
    assert done.stderr.splitlines() == [
        f"Error: {key}: its status does not allow it" for key in (running, waiting)
    ]
    assert store.get_task_status(made.tasks) == ["waiting", "running", "waiting"]
    [found] = store.get_task_history([failed])
    assert found is not None
    assert found.changes[-1].reason == "new driver"
    assert tasks("restart", running, "--running").exit_code == 0
    assert store.get_task_status([running]) == ["waiting"]


def test_restart_of_a_network_puts_tasks_back_on_the_hub(
    tasks: Run, store: StateStore, made: Campaign, other_scope: Scope
) -> None:
    other = campaign(store, other_scope, tasks=1)
    move_to_status(store, [*made.tasks[:2], *other.tasks], "error")
    store.cancel_tasks(made.tasks[:1], made.hub)
    done = tasks("restart", "--network", made.network, "--hub", made.hub)
    assert (done.exit_code, done.stdout) == (0, "Restarted 2 tasks.\n")
    assert store.get_task_status([*made.tasks, *other.tasks]) == [*["waiting"] * 3, "error"]
    assert {*store.get_taskhub_tasks(made.hub)} == {*made.tasks}
    done = tasks("restart", "--scope", other_scope, "--hub", made.hub)
    assert done.exit_code == 1
    assert "not a task of the network of the hub" in done.stderr
    assert store.get_task_status(other.tasks) == ["waiting"]


def test_progress_is_shown_on_a_terminal_and_not_in_the_output(
    store: StateStore, pooled_database: str, made: Campaign
) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "ALCHEMISTORE_DATABASE_URL": pooled_database}
    seen = b""
    with store.engine.begin() as connection:
        connection.execute(text("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"))
        program = subprocess.Popen(
            [*PROGRAM, "task", "list", "-q"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=environment,
            text=True,
        )
        os.close(theirs)
        while b"Reading the keys" not in seen:
            seen += os.read(ours, 4096)
    printed, _ = program.communicate(timeout=60)
    os.close(ours)
    assert program.returncode == 0
    assert printed.split() == sorted(texts(made.tasks))
