"""`alchemistore objects` and `alchemistore database check --objects`."""

from __future__ import annotations

import json

import pytest

from alchemistore import ProtocolDAGResultRef, S3ObjectStore, Scope, StateStore, get_s3os
from alchemistore.models import GufeKey
from alchemistore.settings import S3ObjectStoreSettings, get_s3_settings
from tests.builders import campaign
from tests.cli.conftest import Run

LOOSE = "protocoldagresult/o/c/p/T-1/results/R-1/obj.json.zst"


@pytest.fixture
def objects(s3_server: S3ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch, database: str) -> S3ObjectStore:
    """An object store that the environment names, with an object that nothing refers to."""
    settings = s3_server.model_copy(update={"AWS_S3_PREFIX": database.rpartition("/")[2].partition("?")[0]})
    for name, value in settings:
        if value is not None:
            monkeypatch.setenv(name, value.get_secret_value() if hasattr(value, "get_secret_value") else value)
    get_s3_settings.cache_clear()
    made = get_s3os(settings)
    made._folder.put(LOOSE, b"x", "application/json")
    return made


def test_sweep_says_what_it_would_do_and_does_it(run: Run, database: str, objects: S3ObjectStore) -> None:
    would = run("objects", "sweep", "--url", database, "--older-than", "0s", "--dry-run")
    assert (would.exit_code, would.stdout) == (0, f"{LOOSE}\nWould remove 1 object, 1 bytes.\n")
    done = run("objects", "sweep", "--url", database, "--older-than", "0s", "--json")
    assert json.loads(done.stdout)["location"] == LOOSE
    assert "Removed 1 object" in done.stderr
    assert list(objects.iter_contents()) == []


@pytest.mark.parametrize("age", ["7", "d", "-1d", "7 days", ""])
def test_an_age_without_a_unit_is_a_usage_error(run: Run, database: str, age: str) -> None:
    result = run("objects", "sweep", "--url", database, "--older-than", age)
    assert result.exit_code == 2
    assert "7d" in result.stderr


def test_check_names_a_reference_without_object(
    run: Run, database: str, objects: S3ObjectStore, store: StateStore, scope: Scope
) -> None:
    assert run("database", "check", "--url", database, "--objects").exit_code == 0
    ref = ProtocolDAGResultRef(obj_key=GufeKey("R-2"), location="a/b/results/R-2/obj.json", scope=scope, ok=True)
    key = store.set_task_result(campaign(store, scope, tasks=1).tasks[0], ref)
    result = run("database", "check", "--url", database, "--objects", "--json")
    assert result.exit_code == 1
    assert [problem for problem in json.loads(result.stdout)["problems"] if str(key) in problem]
