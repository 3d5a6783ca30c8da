"""`alchemistore hub`: output, effects and exit codes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alchemistore import Scope, StateStore
from tests.cli.conftest import Run
from tests.support.campaigns import ZERO, Campaign, campaign, move_to_status

NO_HUB = f"TaskHub-{ZERO}-org-campaign-project"


@pytest.fixture
def hubs(run: Run, store: StateStore, pooled_database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs commands of this group on the store."""
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    return lambda *arguments, typed=None: run("hub", *map(str, arguments), typed=typed)


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """A hub with three tasks."""
    return campaign(store, scope, tasks=3)


def json_lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_list_shows_weight_patterns_and_network(
    hubs: Run, store: StateStore, made: Campaign, other_scope: Scope
) -> None:
    other = campaign(store, other_scope)
    store.set_taskhub_weight(made.network, 0.25)
    store.add_task_restart_patterns(made.hub, ["NaN", "CUDA"], 3)
    assert json_lines(hubs("list", "--json").stdout) == [
        {
            "hub": str(other.hub),
            "weight": 0.5,
            "restart_patterns": 0,
            "network": str(other.network),
        },
        {"hub": str(made.hub), "weight": 0.25, "restart_patterns": 2, "network": str(made.network)},
    ]
    title, row = hubs("list", "--scope", other_scope).stdout.splitlines()
    assert title.split() == ["HUB", "WEIGHT", "RESTART", "PATTERNS", "NETWORK"]
    assert row.split() == [str(other.hub), "0.5", "0", str(other.network)]
    assert hubs("list", "-q").stdout.split() == [str(other.hub), str(made.hub)]


def test_weight_is_shown_and_set(hubs: Run, store: StateStore, made: Campaign) -> None:
    assert hubs("weight", made.hub).stdout == "0.5\n"
    assert hubs("weight", made.hub, "0").stdout == "0\n"
    assert store.get_taskhub_weight(made.network) == 0
    assert json_lines(hubs("weight", made.hub, "1", "--json").stdout) == [
        {"hub": str(made.hub), "weight": 1}
    ]


def test_tasks_are_actioned_with_a_weight_and_cancelled(
    hubs: Run, store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=3, action=False)
    move_to_status(store, made.tasks[2:], "complete")
    done = hubs("action", made.hub, *made.tasks, "--weight", "0.75")
    assert (done.exit_code, done.stdout) == (1, "Actioned 2 tasks.\n")
    assert done.stderr == f"Error: {made.tasks[2]}: its status does not allow it\n"
    assert store.get_task_weights(made.tasks, made.hub) == [0.75, 0.75, None]
    done = hubs("action", made.hub, made.tasks[0], "--json")
    assert json_lines(done.stdout) == [
        {"task": str(made.tasks[0]), "hub": None, "refused": "already_actioned"}
    ]
    done = hubs("cancel", made.hub, "-", typed=f"{made.tasks[0]}\n{made.tasks[1]}\n")
    assert (done.exit_code, done.stdout) == (0, "Cancelled 2 tasks.\n")
    assert store.get_taskhub_tasks(made.hub) == []
    assert hubs("cancel", made.hub, made.tasks[0]).exit_code == 1


def test_patterns_are_added_listed_and_removed(
    hubs: Run, store: StateStore, made: Campaign
) -> None:
    assert hubs("patterns", made.hub).output == ""
    done = hubs("patterns", made.hub, "--add", "NaN", "--add", "CUDA", "--retries", "3", "--json")
    assert json_lines(done.stdout) == [
        {"pattern": "CUDA", "max_retries": 3},
        {"pattern": "NaN", "max_retries": 3},
    ]
    refused = hubs("patterns", made.hub, "--remove", "NaN", typed="n\n")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert len(store.get_task_restart_patterns([made.hub])[made.hub]) == 2
    assert hubs("patterns", made.hub, "--remove", "NaN", "-y", "-q").stdout == "CUDA\n"
    assert hubs("patterns", made.hub, "--clear", typed="y\n").exit_code == 0
    assert store.get_task_restart_patterns([made.hub])[made.hub] == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["weight", NO_HUB], "No such object in database: TaskHub-"),
        (["weight", f"Task-{ZERO}-a-b-c"], "is not the key of a TaskHub"),
        (["weight", "nonsense"], "is not a scoped key"),
        (["weight", NO_HUB, "2"], "0<=x<=1"),
        (["action", NO_HUB, f"Task-{ZERO}-a-b-c"], "No such object in database: TaskHub-"),
        (["cancel", NO_HUB, f"Task-{ZERO}-a-b-c"], "No such object in database: TaskHub-"),
        (["patterns", NO_HUB], "No such object in database: TaskHub-"),
        (["patterns", NO_HUB, "--add", "x"], "--add needs --retries"),
        (["patterns", NO_HUB, "--retries", "2"], "--add needs --retries"),
        (["action", NO_HUB], "TASK..."),
    ],
)
def test_wrong_arguments_are_explained(hubs: Run, arguments: list[str], said: str) -> None:
    done = hubs(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_invalid_pattern_changes_nothing(hubs: Run, store: StateStore, made: Campaign) -> None:
    store.add_task_restart_patterns(made.hub, ["NaN"], 1)
    done = hubs("patterns", made.hub, "--clear", "--add", "(", "--retries", "1", "--yes")
    assert (done.exit_code, done.stdout) == (2, "")
    assert store.get_task_restart_patterns([made.hub])[made.hub] == {("NaN", 1)}
