"""The examination of a store: each finding appears, and only then."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from alchemistore import ComputeManagerID, ComputeManagerRegistration, Scope, StateStore
from alchemistore.maintenance import doctor
from alchemistore.maintenance.doctor import Diagnosis, Level, Limits, examine
from alchemistore.settings import S3ObjectStoreSettings, get_s3_settings
from tests.cli.conftest import Run
from tests.conftest import RunSql
from tests.support.campaigns import Campaign, campaign, register

SUBJECTS = (
    *("revision", "server", "settings", "connections", "transactions", "tables", "indexes"),
    *("services", "maintenance", "tasks", "clocks"),
)
NOTHING = timedelta(0)


def found(store: StateStore, subject: str, **limits: Any) -> list[Diagnosis]:
    """Return what is said about a subject, and see that it is well formed."""
    everything = list(examine(store.engine, Limits(**limits)))
    for one in everything:
        assert (one.advice is None) == (one.level is Level.ok)
    return [one for one in everything if one.subject == subject]


def levels(store: StateStore, subject: str, **limits: Any) -> list[Level]:
    return [one.level for one in found(store, subject, **limits)]


def execute(store: StateStore, *statements: str, **values: Any) -> None:
    with store.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement), values)


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """A hub with three tasks."""
    return campaign(store, scope, tasks=3)


def test_healthy_store_has_one_finding_for_each_subject(store: StateStore, made: Campaign) -> None:
    register(store, "service")
    assert store.acquire_lease("maintenance", "me", timedelta(hours=1))
    everything = list(examine(store.engine))
    subjects = [one.subject for one in everything]
    assert tuple(dict.fromkeys(subjects)) == SUBJECTS
    # The server of the tests may be fast instead of safe.
    wrong = [one for one in everything if one.level is not Level.ok and one.subject != "settings"]
    assert wrong == []


def test_missing_schema_is_the_only_finding(empty_database: str) -> None:
    store = StateStore(empty_database)
    [one] = examine(store.engine)
    store.close()
    assert (one.subject, one.level) == ("revision", Level.problem)
    assert one.advice is not None


def test_setting_that_can_lose_results_is_found(database: str, run_sql: RunSql) -> None:
    name = database.rpartition("/")[2].partition("?")[0]
    for value, expected in (("on", False), ("off", True), ("remote_apply", False)):
        run_sql(f"ALTER DATABASE {name} SET synchronous_commit TO {value}")
        store = StateStore(database)
        said = [one for one in found(store, "settings") if "synchronous_commit is" in one.text]
        store.close()
        assert [one.level for one in said] == [Level.warning] * expected


def test_old_transaction_is_found(store: StateStore) -> None:
    other = create_engine(store.engine.url)
    with other.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        [one] = found(store, "transactions", transaction=NOTHING)
        assert one.level is Level.warning
        assert one.advice is not None
        assert f"pg_terminate_backend({pid})" in one.advice
        assert levels(store, "transactions") == [Level.ok]
    other.dispose()
    assert levels(store, "transactions", transaction=NOTHING) == [Level.ok]


def test_table_of_dead_rows_is_found(
    own_store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "DEAD_ROWS", 20)
    assert levels(own_store, "tables") == [Level.ok]
    execute(
        own_store,
        "INSERT INTO requests (request, call, arguments, answer, made_at)"
        " SELECT gen_random_uuid(), 'x', gen_random_uuid(), 'null', now()"
        " FROM generate_series(1, 50)",
        "DELETE FROM requests WHERE call = 'x'",
        "SELECT pg_stat_force_next_flush()",
    )
    # The counters are written after the transaction.
    said = [one.text for one in found(own_store, "tables") if one.level is Level.warning]
    assert [one.split()[0] for one in said] == ["requests"]


def test_index_that_is_not_valid_is_found(own_store: StateStore) -> None:
    execute(
        own_store,
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = CAST('claims__service__ix' AS regclass)",
    )
    [one] = found(own_store, "indexes")
    assert one.level is Level.problem
    assert "claims__service__ix is not valid" in one.text


def test_silent_services_and_failed_managers_are_found(store: StateStore) -> None:
    register(store, "alive", "silent")
    execute(
        store,
        "UPDATE compute_services SET heartbeat_at = heartbeat_at - interval '1 hour'"
        " WHERE identifier = 'silent'",
    )
    [one] = found(store, "services")
    assert one.level is Level.warning
    assert one.text.startswith("1 of 2 compute services")
    assert levels(store, "services", silence=timedelta(hours=2)) == [Level.ok]
    manager = ComputeManagerID.new_from_name("east")
    store.register_computemanager(ComputeManagerRegistration.from_now(manager))
    store.update_compute_manager_status(manager, "ERROR", detail="x")
    _, two = found(store, "services")
    assert two.level is Level.warning
    assert "east" in two.text


def test_process_that_does_the_regular_work_is_named(store: StateStore) -> None:
    assert levels(store, "maintenance") == [Level.note]
    assert store.acquire_lease("maintenance", "host:1:a", timedelta(hours=1))
    [one] = found(store, "maintenance")
    assert (one.level, one.text) == (Level.ok, "done by host:1:a")
    assert store.release_lease("maintenance", "host:1:a")
    assert levels(store, "maintenance") == [Level.note]


def hang(store: StateStore, made: Campaign) -> None:
    register(store, "a")
    store.claim_taskhub_tasks(made.hub, "a")
    execute(store, "UPDATE claims SET claimed_at = claimed_at - interval '3 days'")
    execute(store, "UPDATE attempts SET claimed_at = claimed_at - interval '3 days'")


def wait(store: StateStore, made: Campaign) -> None:
    execute(store, "UPDATE tasks SET status_changed_at = status_changed_at - interval '7 hours'")


def lose(store: StateStore, made: Campaign) -> None:
    register(store, "a")
    store.claim_taskhub_tasks(made.hub, "a")
    for table in ("claims", "attempts"):
        execute(store, f"UPDATE {table} SET claimed_at = claimed_at - interval '5 minutes'")
    store.claim_taskhub_tasks(made.hub, "a")


def run_by_hand(store: StateStore, made: Campaign) -> None:
    store.set_task_running(made.tasks[:1])


def fail_again_and_again(store: StateStore, made: Campaign) -> None:
    register(store, "a")
    store.cancel_tasks(made.tasks[1:], made.hub)
    for _ in range(5):
        store.set_task_error(store.claim_taskhub_tasks(made.hub, "a"))
        store.set_task_waiting(made.tasks[:1])


@pytest.mark.parametrize(
    ("act", "said", "limits"),
    [
        (hang, "has been running for 3 days", {"running": timedelta(days=4)}),
        (wait, "could have been claimed for 7:00", {"waiting": timedelta(hours=8)}),
        (lose, "1 tasks are running on services that have probably never", None),
        (run_by_hand, "1 tasks are running without a claim", None),
        (fail_again_and_again, "1 tasks are not complete after 5 or more", {"attempts": 6}),
    ],
)
def test_stuck_tasks_are_found(
    store: StateStore,
    made: Campaign,
    act: Callable[[StateStore, Campaign], None],
    said: str,
    limits: dict[str, Any] | None,
) -> None:
    assert levels(store, "tasks") == [Level.ok]
    act(store, made)
    [one] = found(store, "tasks")
    assert one.level is Level.warning
    assert said in one.text
    if limits is not None:
        assert levels(store, "tasks", **limits) == [Level.ok]


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_clock_that_differs_is_found(
    store: StateStore, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    offset = timedelta(hours=hours)
    monkeypatch.setattr(doctor, "now", lambda: datetime.now(UTC) + offset)
    [one] = found(store, "clocks")
    assert one.level is (Level.warning if hours else Level.ok)
    if hours:
        assert f"{-3600 * hours // 10}" in one.text.replace(".", "")


def test_many_connections_are_found(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    few = text("SELECT 81 AS clients, 5 AS here, 100 AS allowed")
    monkeypatch.setattr(doctor, "CONNECTIONS", few)
    [one] = found(store, "connections")
    assert (one.level, one.text) == (
        Level.warning,
        "81 of 100 connections are in use, 5 of them here",
    )


@pytest.mark.parametrize(
    ("statement", "row", "subject", "level", "said"),
    [
        (
            "TABLES",
            "SELECT 'tasks' AS name, 20000 AS live, 0 AS dead, true AS never_analyzed"
            " WHERE :schema <> ''",
            "tables",
            Level.warning,
            "tasks has 20,000 rows and no statistics",
        ),
        (
            "INDEX_USE",
            "SELECT 'queue' AS name, 2000 AS seq_scan, CAST(NULL AS bigint) AS idx_scan"
            " WHERE :schema <> ''",
            "indexes",
            Level.note,
            "queue was read as a whole 2,000 times, and by an index 0 times",
        ),
        (
            "PREPARED_TRANSACTION",
            "SELECT 'one' AS gid, interval '1 hour' AS age",
            "transactions",
            Level.warning,
            "the prepared transaction 'one' is 1:00:00 old",
        ),
        (
            "BLOCKED_SESSIONS",
            "SELECT 3",
            "transactions",
            Level.warning,
            "3 sessions have been waiting for a lock for more than 10 seconds",
        ),
        (
            "SERVER",
            "SELECT '18' AS version, true AS standby, 1500000000 AS oldest_id, 1073741824 AS size",
            "server",
            Level.problem,
            "the oldest transaction id is 1,500,000,000 transactions old",
        ),
    ],
)
def test_state_of_the_server_that_tests_cannot_make_is_reported(
    store: StateStore,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    row: str,
    subject: str,
    level: Level,
    said: str,
) -> None:
    assert said not in [one.text for one in found(store, subject)]
    monkeypatch.setattr(doctor, statement, text(row))
    assert (level, said) in [(one.level, one.text) for one in found(store, subject)]


# The command


@pytest.fixture
def examined(
    run: Run, store: StateStore, pooled_database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    """Runs the command on the store, on a server whose settings are right."""
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    monkeypatch.delenv("AWS_S3_BUCKET", raising=False)
    monkeypatch.setattr(
        doctor, "CHECKS", tuple(one for one in doctor.CHECKS if one.__name__ != "_settings")
    )
    get_s3_settings.cache_clear()
    yield lambda *arguments: run("doctor", *arguments)
    get_s3_settings.cache_clear()


def test_command_ends_with_0_if_nothing_needs_attention(examined: Run) -> None:
    done = examined()
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "Nothing needs attention."
    quiet = examined("--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    lines = [json.loads(line) for line in examined("--json").stdout.splitlines()]
    # That nobody runs 'maintain' is a note.
    assert {line["level"] for line in lines} == {"ok", "note"}
    assert {line["subject"] for line in lines} == {*SUBJECTS} - {"settings"}


def test_command_ends_with_1_and_prints_advice(
    examined: Run, store: StateStore, made: Campaign
) -> None:
    store.set_task_running(made.tasks[:1])
    done = examined("--quiet")
    assert done.exit_code == 1
    first, second = done.stdout.splitlines()
    assert first.startswith("warning  tasks")
    assert second.lstrip().startswith("→ their status was set by hand")
    done = examined("--json")
    assert done.exit_code == 1
    [one] = [json.loads(line) for line in done.stdout.splitlines() if '"warning"' in line]
    assert one["advice"].startswith("their status")


def test_limits_are_options(examined: Run, store: StateStore, made: Campaign) -> None:
    wait(store, made)
    assert examined().exit_code == 1
    assert examined("--waiting", "8h").exit_code == 0
    register(store, "a")
    execute(store, "UPDATE compute_services SET heartbeat_at = heartbeat_at - interval '1 hour'")
    assert examined("--waiting", "8h", "--silence", "2h").exit_code == 0
    assert examined("--waiting", "8h").exit_code == 1
    assert examined("--waiting", "long").exit_code == 2


def test_command_that_cannot_examine_ends_with_2(run: Run) -> None:
    done = run("doctor", "--url", "postgresql://somebody@127.0.0.1:1/nothing", "--no-objects")
    assert (done.exit_code, done.stdout) == (2, "")


def test_object_store_is_examined_if_it_is_named(
    examined: Run, s3_server: S3ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = s3_server.model_copy(update={"AWS_S3_PREFIX": uuid.uuid4().hex})
    for name, value in settings:
        if value is not None:
            monkeypatch.setenv(
                name, value.get_secret_value() if hasattr(value, "get_secret_value") else value
            )
    done = examined()
    assert done.exit_code == 0
    assert "objects can be listed, written, read and deleted" in done.stdout
    get_s3_settings.cache_clear()
    monkeypatch.setenv("AWS_S3_BUCKET", "no-such-bucket")
    done = examined("-q")
    assert done.exit_code == 1
    assert done.stdout.startswith("problem  object store")
    assert examined("--no-objects").exit_code == 0
