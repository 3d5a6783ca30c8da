"""`alchemistore database`: exit codes and output."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import make_url, text

from alchemistore import Scope, StateStore
from alchemistore.database import migrations
from tests.cli.conftest import Run
from tests.support.campaigns import Campaign, campaign, register
from tests.support.catalog import catalog_of, is_empty
from tests.support.history import statuses
from tests.support.restarts import Failure
from tests.support.results import ref

NOWHERE = "postgresql://somebody:s3cret@127.0.0.1:1/nothing?connect_timeout=2"


@pytest.fixture
def worn(database: str) -> Iterator[StateStore]:
    """A store that a test may spoil."""
    with closing(StateStore(database)) as store:
        yield store


@pytest.fixture
def made(worn: StateStore, scope: Scope) -> Campaign:
    """Three tasks on a hub."""
    return campaign(worn, scope, tasks=3)


def spoil(store: StateStore, statement: str, **values: object) -> None:
    with store.engine.begin() as connection:
        assert connection.execute(text(statement), values).rowcount > 0


# Creating and upgrading


@pytest.mark.parametrize("command", ["init", "upgrade"])
def test_init_creates_the_schema_and_a_second_init_changes_nothing(
    run: Run, empty_database: str, command: str
) -> None:
    first, second = (run("database", command, "--url", empty_database) for _ in range(2))
    assert (first.exit_code, first.stdout) == (
        0,
        f"The schema is now at revision {migrations.head()}.\n",
    )
    assert (second.exit_code, second.stdout) == (
        0,
        f"The schema is at revision {migrations.head()}.\n",
    )
    assert run("database", "check", "--url", empty_database).exit_code == 0


def test_url_can_come_from_the_environment(
    run: Run, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", database)
    assert run("database", "check").exit_code == 0


def test_option_wins_over_the_environment(
    run: Run, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", NOWHERE)
    assert run("database", "check", "--url", database).exit_code == 0


@pytest.mark.parametrize("command", ["init", "upgrade", "check"])
def test_newer_schema_is_left_alone_and_explained(
    run: Run, worn: StateStore, database: str, command: str
) -> None:
    spoil(worn, "UPDATE alembic_version SET version_num = '9999'")
    done = run("database", command, "--url", database)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "9999" in done.stderr
    assert "newer; install" in done.stderr


def test_older_schema_is_explained_with_the_command_to_run(
    run: Run, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "head", lambda: "9999")
    done = run("database", "check", "--url", database)
    assert done.exit_code == 2
    assert "too old" in done.stderr
    assert "alchemistore database upgrade" in done.stderr


# Checking


def test_check_of_a_sound_database(run: Run, made: Campaign, database: str) -> None:
    done = run("database", "check", "--url", database)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "No problems found.\n", "")
    done = run("database", "check", "--url", database, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"ok": True, "repaired": None, "after": None}


def test_check_names_broken_objects(
    run: Run, worn: StateStore, made: Campaign, database: str
) -> None:
    spoil(worn, "UPDATE tasks SET attempts = 7 WHERE token = :task", task=made.tasks[1].token)
    done = run("database", "check", "--url", database)
    problem = (
        f"broken rule: the attempt counter of a task is the number of its attempts: {made.tasks[1]}"
    )
    assert done.exit_code == 1
    assert done.stdout == f"- {problem}\n1 problem found.\n"
    done = run("database", "check", "--url", database, "--json")
    assert done.exit_code == 1
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"kind": "invariant", "text": problem, "key": str(made.tasks[1]), "location": None},
        {"ok": False, "repaired": None, "after": None},
    ]


def test_check_without_schema_exits_with_failure(run: Run, empty_database: str) -> None:
    done = run("database", "check", "--url", empty_database)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "alchemistore database init" in done.stderr


def test_check_alone_repairs_nothing(
    run: Run, worn: StateStore, made: Campaign, database: str
) -> None:
    spoil(worn, "DELETE FROM queue")
    for _ in range(2):
        assert run("database", "check", "--url", database).exit_code == 1


def test_repair_rebuilds_the_queue(
    run: Run, worn: StateStore, made: Campaign, database: str
) -> None:
    spoil(worn, "DELETE FROM queue WHERE task = :task", task=made.tasks[0].token)
    spoil(worn, "UPDATE queue SET weight = 0.25 WHERE task = :task", task=made.tasks[1].token)
    done = run("database", "check", "--repair", "--url", database)
    assert done.exit_code == 0
    assert done.stdout == "Repaired the queue: removed 1 entries, added 2.\nNo problems found.\n"
    assert list(worn.problems()) == []


def test_repair_reports_as_json(run: Run, worn: StateStore, made: Campaign, database: str) -> None:
    spoil(worn, "DELETE FROM queue")
    done = run("database", "check", "--repair", "--json", "--url", database)
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "ok": True,
        "repaired": {"removed": 0, "added": 3, "restarts": 0},
        "after": None,
    }


def test_repair_of_a_sound_database_does_nothing(run: Run, made: Campaign, database: str) -> None:
    done = run("database", "check", "--repair", "--url", database)
    assert (done.exit_code, done.stdout) == (0, "No problems found.\n")


def test_repair_changes_nothing_but_the_queue(
    run: Run, worn: StateStore, made: Campaign, database: str
) -> None:
    spoil(worn, "DELETE FROM queue")
    spoil(worn, "UPDATE tasks SET attempts = 7 WHERE token = :task", task=made.tasks[1].token)
    done = run("database", "check", "--repair", "--url", database)
    assert done.exit_code == 1
    assert (
        "- broken rule: the attempt counter of a task is the number of its attempts" in done.stdout
    )
    assert done.stdout.endswith("\n1 problem left.\n")


def test_repair_applies_restart_patterns_that_a_server_did_not_apply(
    run: Run, worn: StateStore, made: Campaign, database: str
) -> None:
    worn.add_task_restart_patterns(made.hub, ["NaN"], 1)
    register(worn, "service")
    claimed = [one for one in worn.claim_taskhub_tasks(made.hub, "service", count=2) if one]
    for task in claimed:
        worn.deliver_result(task, ref(task.scope, ok=False), "service")
    [failure] = worn.get_task_failures(claimed[0])
    worn.add_protocol_dag_result_ref_tracebacks([Failure("it is NaN")], failure)
    # What is younger may still be at work.
    assert run("database", "check", "--url", database).exit_code == 0
    spoil(
        worn,
        "UPDATE tasks SET status_changed_at = status_changed_at - interval '1 day'"
        " WHERE status = 'error'",
    )
    spoil(worn, "UPDATE actions SET created_at = created_at - interval '1 day'")
    done = run("database", "check", "--url", database)
    assert done.exit_code == 1
    rule = "broken rule: restart patterns have decided about each failed task on their hub"
    assert sorted(done.stdout.splitlines()[:2]) == [f"- {rule}: {task}" for task in sorted(claimed)]

    done = run("database", "check", "--repair", "--url", database)
    assert done.exit_code == 0
    assert "Applied restart patterns to 2 failed tasks.\n" in done.stdout
    assert statuses(worn, claimed) == ["waiting", "error"]
    assert claimed[0] in worn.get_taskhub_tasks(made.hub)
    assert claimed[1] not in worn.get_taskhub_tasks(made.hub)


def test_failed_task_that_a_user_has_actioned_again_is_no_problem(
    run: Run, worn: StateStore, made: Campaign, database: str
) -> None:
    register(worn, "service")
    [task] = worn.claim_taskhub_tasks(made.hub, "service")
    assert task is not None
    worn.add_task_restart_patterns(made.hub, ["NaN"], 1)
    worn.settle_task(task, ref(task.scope, ok=False), "service")
    spoil(
        worn,
        "UPDATE tasks SET status_changed_at = status_changed_at - interval '1 day'"
        " WHERE status = 'error'",
    )
    assert worn.action_tasks([task], made.hub) == [task]
    assert run("database", "check", "--url", database).exit_code == 0


def test_lost_claims_are_listed(run: Run, worn: StateStore, made: Campaign, database: str) -> None:
    register(worn, "service", "other")
    [lost] = worn.claim_taskhub_tasks(made.hub, "service")
    worn.claim_taskhub_tasks(made.hub, "other")
    assert run("database", "lost-claims", "--url", database).stdout == ""
    for table in ("claims", "attempts"):
        spoil(worn, f"UPDATE {table} SET claimed_at = claimed_at - interval '1 hour'")
    worn.claim_taskhub_tasks(made.hub, "service")

    done = run("database", "lost-claims", "--url", database)
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{lost}  attempt 1 of service, since ")
    assert len(done.stdout.splitlines()) == 1
    [line] = run("database", "lost-claims", "--json", "--url", database).stdout.splitlines()
    assert json.loads(line).keys() == {"task", "attempt", "service", "claimed_at"}
    assert json.loads(line)["task"] == str(lost)


# Removing


def test_reset_asks_and_removes_everything(
    run: Run, worn: StateStore, made: Campaign, database: str
) -> None:
    done = run("database", "reset", "--url", database, typed="y\n")
    assert done.exit_code == 0
    assert str(make_url(database).database) in done.stdout
    assert is_empty(catalog_of(database))
    assert run("database", "check", "--url", database).exit_code == 2


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_reset_without_confirmation_removes_nothing(
    run: Run, worn: StateStore, made: Campaign, database: str, typed: str
) -> None:
    done = run("database", "reset", "--url", database, typed=typed)
    assert done.exit_code == 2
    assert "nothing was removed" in done.stderr
    assert worn.query_tasks() == made.tasks


def test_reset_with_yes_does_not_ask(run: Run, database: str) -> None:
    done = run("database", "reset", "--url", database, "--yes")
    assert done.exit_code == 0
    assert "?" not in done.output.partition("Removed")[0]
    assert is_empty(catalog_of(database))


# What is never printed


@pytest.mark.parametrize(
    "arguments",
    [["init"], ["upgrade"], ["check"], ["check", "--json"], ["reset", "--yes"], ["reset"]],
)
def test_without_a_server_the_error_says_what_to_do_and_not_the_password(
    run: Run, arguments: list[str]
) -> None:
    done = run("database", *arguments, "--url", NOWHERE, typed="y\n")
    assert done.exit_code == 2
    assert "ALCHEMISTORE_DATABASE_URL" in done.stderr
    assert "s3cret" not in done.output


@pytest.mark.parametrize(
    "url",
    ["mysql://me:s3cret@host/db", "nonsense s3cret", "postgresql://me:s3cret@host:port/db", ""],
)
def test_url_of_another_database_is_refused_without_showing_it(run: Run, url: str) -> None:
    done = run("database", "check", "--url", url)
    assert done.exit_code == 2
    assert "database URL" in done.stderr or "--url" in done.stderr
    assert "s3cret" not in done.output


def test_usage_error_does_not_show_the_password(run: Run) -> None:
    for arguments in (
        ["check", "--url", NOWHERE, "--nonsense"],
        ["nonsense", "--url", NOWHERE],
        ["reset", "--url", NOWHERE, "x"],
    ):
        done = run("database", *arguments)
        assert done.exit_code == 2
        assert "s3cret" not in done.output


@pytest.mark.parametrize(("fixture", "code"), [("database", 0), ("empty_database", 2)])
def test_program_reports_by_exit_code(
    request: pytest.FixtureRequest, fixture: str, code: int
) -> None:
    url = request.getfixturevalue(fixture)
    command = [
        sys.executable,
        "-c",
        "from alchemistore.cli import main; main()",
        "database",
        "check",
        "--url",
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done


# Output for programs


def test_forms_of_the_output(run: Run, empty_database: str) -> None:
    url = ("--url", empty_database)
    done = run("database", "init", *url, "--json")
    made = json.loads(done.stdout)
    assert (made["before"], made["revision"]) == (None, migrations.head())
    assert run("database", "upgrade", *url, "-q").output == ""
    assert (
        json.loads(run("database", "upgrade", *url, "--json").stdout)["before"] == migrations.head()
    )
    quiet = run("database", "check", *url, "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert run("database", "lost-claims", *url, "-q").output == ""
    done = run("database", "reset", *url, "--json", "--yes")
    assert [*json.loads(done.stdout)] == ["removed"]


def test_quiet_check_ends_with_1_if_there_are_problems(
    run: Run, worn: StateStore, made: Campaign, database: str
) -> None:
    with worn.engine.begin() as connection:
        connection.execute(text("DELETE FROM queue"))
    done = run("database", "check", "--url", database, "--quiet")
    assert (done.exit_code, done.output) == (1, "")
