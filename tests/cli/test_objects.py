"""`alchemistore objects` and `alchemistore database check --objects`."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alchemistore import ProtocolDAGResultRef, S3ObjectStore, Scope, StateStore, get_s3os
from alchemistore.errors import S3UnavailableError, StoreUnavailableError
from alchemistore.maintenance import object_audit
from alchemistore.maintenance.findings import Finding, FindingKind
from alchemistore.models import GufeKey
from alchemistore.settings import S3ObjectStoreSettings, get_s3_settings
from tests.cli.conftest import Run
from tests.support.campaigns import campaign

SOON = timedelta(hours=1)
LOOSE = "protocoldagresult/o/c/p/T-1/results/R-1/obj.json.zst"
PROGRAM = [sys.executable, "-c", "from alchemistore.cli import main; main()"]
# Walks in pages of one, and after the second waits for a line on standard input.
HALTING = """
import signal, sys
# Not so where the tests run in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
from alchemistore.maintenance import object_audit
object_audit.PAGE = 1
walk, sweep = object_audit.walk, object_audit.sweep
def halting(pages):
    for number, page in enumerate(pages):
        yield page
        if number:
            print("halted", file=sys.stderr, flush=True)
            sys.stdin.readline()
object_audit.walk = lambda *given: halting(walk(*given))
object_audit.sweep = lambda *given: halting(sweep(*given))
from alchemistore.cli import main
main()
"""


@pytest.fixture
def objects(
    s3_server: S3ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3ObjectStore]:
    """An object store that the environment names."""
    settings = s3_server.model_copy(update={"AWS_S3_PREFIX": uuid.uuid4().hex})
    for name, value in settings:
        if value is not None:
            monkeypatch.setenv(
                name, value.get_secret_value() if hasattr(value, "get_secret_value") else value
            )
    get_s3_settings.cache_clear()
    yield get_s3os(settings)
    get_s3_settings.cache_clear()


@pytest.fixture
def loose(objects: S3ObjectStore) -> list[str]:
    """Objects that nothing refers to."""
    locations = [LOOSE.replace("1", str(i)) for i in range(4)]
    for location in locations:
        objects.bucket_prefix.put(location, b"x", "application/json")
    return locations


@pytest.fixture
def lost(store: StateStore, scope: Scope) -> list[Finding]:
    """Findings about references without objects."""
    task = campaign(store, scope, tasks=1).tasks[0]
    refs = [
        ProtocolDAGResultRef(obj_key=GufeKey("R-2"), location=f"a/{i}/x", scope=scope, ok=True)
        for i in range(3)
    ]
    keys = [store.set_task_result(task, ref) for ref in refs]
    return [
        Finding(
            FindingKind.dangling_reference,
            f"{key} refers to the missing object {ref.location}",
            str(key),
            ref.location,
        )
        for key, ref in zip(keys, refs, strict=True)
    ]


def json_lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


# Sweeping


def test_sweep_dry_run_lists_objects_and_sweep_removes_them(
    run: Run, pooled_database: str, objects: S3ObjectStore, loose: list[str]
) -> None:
    would = run("objects", "sweep", "--url", pooled_database, "--older-than", "0s", "--dry-run")
    assert (would.exit_code, would.stderr) == (0, "")
    assert (
        would.stdout
        == "".join(f"{location}\n" for location in loose) + "Would remove 4 objects, 4 bytes.\n"
    )
    done = run(
        "objects",
        "sweep",
        "--url",
        pooled_database,
        "--older-than",
        "0s",
        "--json",
        "--after",
        loose[0],
        "--yes",
    )
    found = json_lines(done.stdout)
    assert [one.pop("location") for one in found] == loose[1:]
    assert [sorted(one) for one in found] == [["modified", "removed", "size"]] * 3
    assert "Removed 3 objects" in done.stderr
    assert list(objects.iter_contents()) == loose[:1]


def test_sweep_removes_uploads_that_were_never_completed(
    run: Run, pooled_database: str, objects: S3ObjectStore
) -> None:
    client = objects.bucket_prefix.client
    name = objects.bucket_prefix.name(LOOSE)
    client.create_multipart_upload(Bucket=objects.bucket, Key=name)
    command = ["objects", "sweep", "--url", pooled_database, "--older-than"]
    assert run(*command, "1h", "--yes").stdout == "Removed 0 objects, 0 bytes.\n"
    would = run(*command, "0s", "--dry-run")
    assert would.stdout == (
        f"{LOOSE} (incomplete upload)\nWould remove 0 objects, 0 bytes, and 1 incomplete upload.\n"
    )
    done = run(*command, "0s", "--yes", "--json")
    [found] = json_lines(done.stdout)
    assert sorted(found) == ["location", "removed", "started"]
    assert (found["location"], found["removed"]) == (LOOSE, True)
    assert "1 incomplete upload." in done.stderr
    assert list(objects.iter_incomplete_uploads()) == []


@pytest.mark.parametrize("age", ["7", "d", "-1d", "7 days", ""])
def test_age_without_a_unit_is_a_usage_error(run: Run, pooled_database: str, age: str) -> None:
    result = run("objects", "sweep", "--url", pooled_database, "--older-than", age)
    assert result.exit_code == 2
    assert "7d" in result.stderr


@pytest.mark.parametrize("typed", ["n\n", ""])
def test_sweep_asks_first(
    run: Run, pooled_database: str, objects: S3ObjectStore, loose: list[str], typed: str
) -> None:
    command = ("objects", "sweep", "--url", pooled_database, "--older-than", "0s")
    refused = run(*command, typed=typed)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "nothing was removed" in refused.stderr
    assert list(objects.iter_contents()) == loose
    assert run(*command, "-q", typed="y\n").stdout == ""
    assert list(objects.iter_contents()) == []


def test_sweep_removes_nothing_without_a_schema(
    run: Run, empty_database: str, objects: S3ObjectStore, loose: list[str]
) -> None:
    done = run("objects", "sweep", "--url", empty_database, "--older-than", "0s", "--yes")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "alchemistore database init" in done.stderr
    assert list(objects.iter_contents()) == loose


# Checking


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects need not be old to be called unreferenced, and each makes a page."""
    monkeypatch.setattr(sys.modules["alchemistore.cli.database"], "IN_FLIGHT", -SOON)
    monkeypatch.setattr(object_audit, "PAGE", 1)


def test_check_leaves_young_objects_alone(run: Run, pooled_database: str, loose: list[str]) -> None:
    done = run("database", "check", "--url", pooled_database, "--objects")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "No problems found.\n", "")


def test_check_names_objects_and_references_missing_on_either_side(
    run: Run, pooled_database: str, loose: list[str], lost: list[Finding], at_once: None
) -> None:
    unreferenced = [
        Finding(
            FindingKind.unreferenced_object,
            f"object {location} has no reference; see 'alchemistore objects sweep'",
            location=location,
        )
        for location in loose
    ]
    done = run("database", "check", "--url", pooled_database, "--objects")
    assert (done.exit_code, done.stderr) == (1, "")
    assert (
        done.stdout
        == "".join(f"- {finding.text}\n" for finding in [*lost, *unreferenced])
        + "7 problems found.\n"
    )
    done = run(
        "database", "check", "--url", pooled_database, "--objects", "--json", "--after", "a/0/x"
    )
    assert done.exit_code == 1
    assert json_lines(done.stdout) == [
        *map(asdict, [*lost[1:], *unreferenced]),
        {"ok": False, "repaired": None, "after": None},
    ]


@pytest.mark.parametrize(
    "error", [S3UnavailableError("no server"), StoreUnavailableError("no server")]
)
@pytest.mark.parametrize("pages", [0, 2])
def test_check_that_loses_its_connection_prints_findings_and_resume_location(
    run: Run,
    pooled_database: str,
    objects: S3ObjectStore,
    lost: list[Finding],
    at_once: None,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    pages: int,
) -> None:
    walk = object_audit.walk

    def breaking(*given: Any) -> Iterator[object_audit.Page]:
        for number, page in enumerate(walk(*given)):
            if number == pages:
                raise error
            yield page

    monkeypatch.setattr(object_audit, "walk", breaking)
    done = run("database", "check", "--url", pooled_database, "--objects", "--json")
    assert done.exit_code == 2
    after = "a/1/x" if pages else ""
    assert json_lines(done.stdout) == [
        *map(asdict, lost[:pages]),
        {"ok": False if pages else None, "repaired": None, "after": after},
    ]
    hint = "To resume, run again with --after a/1/x\n" if pages else ""
    assert done.stderr == f"{hint}Error: no server\n"
    done = run("database", "check", "--url", pooled_database, "--objects")
    assert done.exit_code == 2
    assert done.stdout == "".join(f"- {finding.text}\n" for finding in lost[:pages]) + (
        "2 problems so far.\n" if pages else ""
    )


def test_after_without_objects_is_a_usage_error(run: Run, pooled_database: str) -> None:
    done = run("database", "check", "--url", pooled_database, "--after", "x")
    assert done.exit_code == 2
    assert "--objects" in done.stderr


# Breaking off


@pytest.mark.parametrize(
    "command",
    [
        ["database", "check", "--objects", "--json"],
        ["objects", "sweep", "--older-than", "0s", "--yes"],
    ],
)
def test_interrupted_command_prints_the_resume_location(
    pooled_database: str,
    objects: S3ObjectStore,
    loose: list[str],
    lost: list[Finding],
    command: list[str],
) -> None:
    wanted = "a/1/x" if "check" in command else loose[1]
    with subprocess.Popen(
        [sys.executable, "-c", HALTING, *command, "--url", pooled_database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stderr.readline() == b"halted\n"
        # What was found by then has been printed.
        printed = os.read(program.stdout.fileno(), 4096)
        assert wanted.encode() in printed
        program.send_signal(signal.SIGINT)
        rest, said = program.communicate(timeout=60)
    assert program.returncode == 130, said
    hint, interrupted = said.decode().splitlines()
    assert interrupted == "Interrupted."
    [_, after] = shlex.split(hint.partition("run again with ")[2])
    assert after == wanted
    if "check" in command:
        assert json_lines((printed + rest).decode()) == [
            *map(asdict, lost[:2]),
            {"ok": False, "repaired": None, "after": after},
        ]
    else:
        assert list(objects.iter_contents()) == loose[2:]


def test_progress_is_shown_on_a_terminal_and_not_in_the_output(
    pooled_database: str,
    objects: S3ObjectStore,
    loose: list[str],
    lost: list[Finding],
    tmp_path: Path,
) -> None:
    ours, theirs = pty.openpty()
    with (tmp_path / "out").open("w+") as out:
        command = [*PROGRAM, "database", "check", "--objects", "--json", "--url", pooled_database]
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
        program = subprocess.Popen(command, stdout=out, stderr=theirs, env=environment)
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 4096):
                shown += data
        except OSError:
            # What Linux says when the other side of a terminal is closed.
            pass
        finally:
            os.close(ours)
        assert program.wait(timeout=60) == 1
        out.seek(0)
        assert json_lines(out.read())[:-1] == [asdict(finding) for finding in lost]
    assert b"4 objects, 3 references" in shown
