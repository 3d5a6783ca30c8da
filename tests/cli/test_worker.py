"""`alchemistore worker`: options, output and exit codes; see also tests/worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from alchemistore import S3ObjectStore, Scope, StateStore
from alchemistore.settings import S3ObjectStoreSettings, get_s3_settings
from tests.cli.conftest import Run
from tests.worker.conftest import MODULES, tricks


@pytest.fixture
def worker(
    run: Run,
    store: StateStore,
    pooled_database: str,
    objects: S3ObjectStore,
    bucket: S3ObjectStoreSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Runs a worker on the store."""
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    for name, value in MODULES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("alchemistore.settings.get_s3_settings", lambda: bucket)
    return lambda *options: run("worker", "-d", str(tmp_path / "work"), *options)


def test_people_read_what_happens(worker: Run, store: StateStore, scope: Scope) -> None:
    [task] = tricks(store, scope, "work").tasks
    done = worker("--name", "me", "--max-tasks", "1", "--memory", "2G", "--scope", str(scope))
    assert (done.exit_code, done.stderr) == (0, "")
    said = [line.partition("  ")[2] for line in done.stdout.splitlines()]
    assert said[0] == "Registered as me"
    assert said[1] == f"Claimed {task}"
    assert said[2].startswith(f"Started {task}, attempt 1; its output is in ")
    assert said[3:] == [
        f"{task}, attempt 1, succeeded; the task is complete",
        "Deregistered me",
        "Ended, because it has run as many tasks as it may; tasks: 1, failed: 0, stopped: 0",
    ]


def test_quiet_worker_prints_failures_and_ends_after_too_many(
    worker: Run, store: StateStore, scope: Scope
) -> None:
    [task] = tricks(store, scope, "no dag").tasks
    done = worker("-q", "--max-failures", "1")
    assert (done.exit_code, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.endswith(f"{task}, attempt 1, failed; the task is error: {REASON}")


NOWHERE = ("--url", "postgresql://nowhere/nothing")
REASON = "ArithmeticError: there is no DAG"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--memory", "5"], "'5' is not a size"),
        (["--memory", "0G"], "'0G' is not a size"),
        (["--wall-time", "soon"], "'soon' is not an age"),
        (["--claim-limit", "0"], "--claim-limit"),
        (["--max-tasks", "-1"], "--max-tasks"),
        (["--heartbeat", "0s"], "heartbeat must be above 0"),
        (["--scope", "nonsense"], "nonsense"),
        (["--protocol", "not a class"], "not a protocol"),
        (["--name", ""], "must not be empty"),
        (["--json", "--quiet"], "cannot be used together"),
    ],
)
def test_bad_option_is_explained(run: Run, options: list[str], reason: str) -> None:
    done = run("worker", *NOWHERE, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert reason in done.stderr


def test_settings_of_the_object_store_must_be_complete(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_S3_BUCKET", raising=False)
    get_s3_settings.cache_clear()
    done = run("worker", *NOWHERE)
    assert done.exit_code == 2
    assert "AWS_S3_BUCKET" in done.stderr
