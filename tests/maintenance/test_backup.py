"""The drill of docs/backup.md: back up database and bucket, restore both, and lose nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from alchemistore import S3ObjectStore, Scope, StateStore, add_file, get_s3os
from alchemistore.local.postgres import PrivatePostgres
from alchemistore.settings import S3ObjectStoreSettings
from tests.cli.conftest import Run
from tests.conftest import SERVER
from tests.support.campaigns import campaign, register, star
from tests.support.databases import libpq
from tests.support.files import run as run_edge
from tests.support.servers import variables


@pytest.fixture
def programs(request: pytest.FixtureRequest) -> Path:
    """The directory with pg_dump and pg_restore of the server's version."""
    if SERVER not in os.environ:
        process = PrivatePostgres(request.getfixturevalue("servers_directory")).process()
        assert process is not None
        return Path(process.exe()).parent
    found = shutil.which("pg_dump")
    if found is None:
        pytest.skip("needs pg_dump")
    return Path(found).parent


def call(program: Path, *arguments: str | Path) -> None:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def copy(source: S3ObjectStore, target: S3ObjectStore) -> None:
    for location in source.iter_contents():
        data = source.bucket_prefix.get(location)
        target.bucket_prefix.put(location, data, "application/zstd")


def test_restored_backup_is_consistent_and_late_results_are_found(
    run: Run,
    programs: Path,
    database: str,
    empty_database: str,
    bucket: S3ObjectStoreSettings,
    objects: S3ObjectStore,
    scope: Scope,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edges = {edge.name: edge for edge in star(3).edges}
    with closing(StateStore(database)) as store:
        made = campaign(store, scope, tasks=3)
        register(store, "service")

        def finish() -> str:
            """Run a task, and return the location of its result."""
            [task] = store.claim_taskhub_tasks(made.hub, "service")
            assert task is not None
            key, _ = store.get_task_transformation(task, return_gufe=False)
            result = run_edge(edges[store.get_task_transformation(task)[0].name], tmp_path)
            ref = objects.push_protocoldagresult(result, transformation=key, creator="service")
            store.settle_task(task, ref, "service")
            assert ref.location is not None
            return ref.location

        early = finish()
        # One task is running, and the result of another one comes between the two backups.
        assert store.claim_taskhub_tasks(made.hub, "service") != [None]
        dump = tmp_path / "alchemistore.dump"
        call(programs / "pg_dump", "--format=custom", f"--file={dump}", libpq(database))
        late = finish()
        copied = bucket.model_copy(update={"AWS_S3_PREFIX": f"copy-{uuid.uuid4().hex}"})
        kept = get_s3os(copied)
        copy(objects, kept)

    call(
        programs / "pg_restore",
        *("--no-owner", "--no-privileges", "--exit-on-error"),
        f"--dbname={libpq(empty_database)}",
        dump,
    )
    with psycopg.connect(libpq(empty_database), autocommit=True) as connection:
        connection.execute("ANALYZE")
    for name, value in variables(empty_database, copied).items():
        monkeypatch.setenv(name, value)
    assert run("database", "check", "--objects").exit_code == 0
    swept = run("objects", "sweep", "--older-than", "0m", "--dry-run", "--json")
    assert late in swept.stdout
    assert early not in swept.stdout

    with closing(StateStore(empty_database)) as restored:
        assert restored.get_network_status(made.network) == {
            "complete": 1,
            "running": 1,
            "waiting": 1,
        }
        # The services of that time are gone.
        assert run("service", "expire", "--lease", "0m", "--yes").exit_code == 0
        assert restored.get_network_status(made.network) == {"complete": 1, "waiting": 2}
        # gufe 1.x names the transformation in the result; the location names it in any case.
        [transformation] = [part for part in late.split("/") if part.startswith("Transformation-")]
        added = add_file(
            restored,
            kept.bucket_prefix.get(late),
            scope,
            transformation=f"{transformation}-{scope}",
            object_store=kept,
        )
        assert added.num_new_tasks == 1
        assert restored.get_network_status(made.network) == {"complete": 2, "waiting": 2}
        restored.check()
