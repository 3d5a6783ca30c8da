"""`alchemistore worker`: options, output and exit codes; see also tests/worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from alchemistore import S3ObjectStore, Scope, StateStore
from alchemistore.cli.output import Output
from alchemistore.cli.worker import print_event
from alchemistore.settings import S3ObjectStoreSettings, get_s3_settings
from alchemistore.worker import Event, Summary
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
    [task] = tricks(store, scope, "no dag").tasks
    done = worker("--name", "me", "--max-failures", "1", "--memory", "2G", "-s", str(scope))
    assert done.exit_code == 1
    said = [line.partition("  ")[2] for line in done.stdout.splitlines()]
    assert said[0] == "Registered as me"
    assert said[1] == f"Claimed {task}"
    assert said[2].startswith(f"Started {task}, attempt 1; its output is in ")
    assert said[3:] == [
        "Deregistered me",
        "Ended, because too many tasks in a row have failed (1); tasks: 1, failed: 1, stopped: 0",
    ]
    # Failures are on standard error.
    [line] = done.stderr.splitlines()
    assert line.endswith(f"{task}, attempt 1, failed; the task is error: {REASON}")


REASON = "ArithmeticError: there is no DAG"


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_worker_prints_warnings_only(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    for warning in (False, True):
        print_event(Output(False, quiet), Event("kind", f"text {warning}", warning=warning))
    said = capsys.readouterr()
    assert [line[-10:] for line in said.out.splitlines()] == ([] if quiet else ["text False"])
    assert said.err.endswith("  text True\n")


@pytest.mark.parametrize(("aborted", "code"), [(True, 130), (False, 0)])
def test_worker_that_was_told_to_stop_at_once_says_so(
    worker: Run, monkeypatch: pytest.MonkeyPatch, aborted: bool, code: int
) -> None:
    summary = Summary(1, 1, 1, 0, "a reason", aborted)
    monkeypatch.setattr("alchemistore.worker.Worker.run", lambda self: summary)
    assert worker().exit_code == code


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
