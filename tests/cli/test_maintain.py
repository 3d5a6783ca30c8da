"""`alchemistore maintain`: one of any number of processes does the regular work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import URL, text

from alchemistore import ComputeManagerID, ComputeManagerRegistration, Scope, StateStore
from alchemistore.database.engine import database_url
from tests.cli.conftest import Run
from tests.support.campaigns import campaign, register
from tests.support.pgbouncer import pgbouncer

PROGRAM = [sys.executable, "-c", "from alchemistore.cli import main; main()", "maintain"]
QUICK = ["--interval", "0.3", "--json"]
HOUR = timedelta(hours=1)


@pytest.fixture
def maintain(
    run: Run, store: StateStore, pooled_database: str, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs the command on the store, once."""
    monkeypatch.setenv("ALCHEMISTORE_DATABASE_URL", pooled_database)
    return lambda *arguments: run("maintain", "--once", *arguments)


def silence(store: StateStore, table: str, column: str, name: str, ago: timedelta) -> None:
    key = "identifier" if table == "compute_services" else "name"
    with store.engine.begin() as connection:
        connection.execute(
            text(f"UPDATE {table} SET {column} = clock_timestamp() - :ago WHERE {key} = :name"),
            {"ago": ago, "name": name},
        )


def silent_service(store: StateStore, name: str) -> None:
    register(store, name)
    silence(store, "compute_services", "heartbeat_at", name, timedelta(minutes=31))


def test_once_expires_services_and_managers_and_cleans_the_queue(
    maintain: Run, store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1)
    silent_service(store, "lost")
    register(store, "alive")
    silence(store, "compute_services", "heartbeat_at", "alive", timedelta(minutes=29))
    [task] = store.claim_taskhub_tasks(made.hub, "lost")
    for name, ago in (("old", HOUR * 1.1), ("new", HOUR * 0.9), ("failed", HOUR * 23)):
        identifier = ComputeManagerID.new_from_name(name)
        store.register_computemanager(ComputeManagerRegistration.from_now(identifier))
        if name == "failed":
            store.update_compute_manager_status(identifier, "ERROR", detail="broken")
        silence(store, "compute_managers", "status_updated_at", name, ago)
    store.set_task_invalid([task])
    done = maintain("--json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"leads": True, "services": ["lost"], "cleaned": True}
    assert [one.registration.identifier for one in store.query_computeservices()] == ["alive"]
    assert [one.registration.name for one in store.query_computemanagers()] == ["failed", "new"]
    with store.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM lanes")) == 0
    # It has released its lease.
    assert store.acquire_lease("maintenance", "somebody", HOUR)


def test_leases_of_services_and_managers_are_options(maintain: Run, store: StateStore) -> None:
    silent_service(store, "a")
    identifier = ComputeManagerID.new_from_name("m")
    store.register_computemanager(ComputeManagerRegistration.from_now(identifier))
    silence(store, "compute_managers", "status_updated_at", "m", timedelta(minutes=31))
    assert json.loads(maintain("--json", "--lease", "1h").stdout)["services"] == []
    assert len(store.query_computemanagers()) == 1
    done = maintain("--manager-lease", "30m", "--lease", "30m")
    assert done.stdout.splitlines() == [
        "This process does the work.",
        "1 compute service expired: a",
        "Cleaned the queue.",
    ]
    assert store.query_computemanagers() == []
    assert maintain("-q").output == ""
    assert maintain("--lease", "soon").exit_code == 2


def test_nothing_is_done_while_another_process_leads(maintain: Run, store: StateStore) -> None:
    silent_service(store, "lost")
    assert store.acquire_lease("maintenance", "another", HOUR)
    done = maintain()
    assert (done.exit_code, done.stdout) == (0, "Another process does it.\n")
    assert len(store.query_computeservices()) == 1
    # The lease of the other is kept.
    assert store.acquire_lease("maintenance", "another", HOUR)


class Process:
    """A process that runs the command in a loop, and what it has printed."""

    def __init__(self, url: str, *options: str) -> None:
        environment = {**os.environ, "ALCHEMISTORE_DATABASE_URL": url}
        self.process = subprocess.Popen(
            [*PROGRAM, *QUICK, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            # Interrupts are ignored where the tests run in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def wait_until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read what it prints until a round fulfils a condition."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            found: dict[str, Any] = json.loads(line)
            if condition(found):
                return found
        assert self.process.stderr is not None
        raise AssertionError(self.process.stderr.read())

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal, and return the exit code and what was said on standard error."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture(scope="module")
def pooler(server: URL) -> Iterator[URL]:
    """PgBouncer in transaction mode."""
    with pgbouncer(server) as url:
        yield url


@pytest.fixture
def url(request: pytest.FixtureRequest, pooled_database: str) -> str:
    """The URL of the store, directly and through PgBouncer."""
    if request.param == "direct":
        return pooled_database
    pooler: URL = request.getfixturevalue("pooler")
    name = database_url(pooled_database).database
    return pooler.set(database=name).render_as_string(hide_password=False)


@contextmanager
def two(store: StateStore, url: str) -> Iterator[tuple[Process, Process]]:
    """Yield two processes, the first of which leads."""
    both = [Process(url), Process(url)]
    try:
        for one in both:
            one.wait_until(lambda found: True)
        with store.engine.connect() as connection:
            holder = connection.scalar(text("SELECT holder FROM leases"))
        leaders = [one for one in both if f":{one.process.pid}:" in holder]
        assert len(leaders) == 1
        [other] = [one for one in both if one not in leaders]
        yield leaders[0], other
    finally:
        for one in both:
            one.process.kill()
            one.process.communicate()


@pytest.mark.parametrize(
    ("url", "number"),
    [
        ("direct", signal.SIGTERM),
        ("direct", signal.SIGINT),
        ("direct", signal.SIGKILL),
        ("pgbouncer", signal.SIGKILL),
    ],
    indirect=["url"],
)
def test_another_process_takes_over_when_the_leader_ends(
    store: StateStore, url: str, number: int
) -> None:
    with two(store, url) as (first, second):
        silent_service(store, "one")
        while store.query_computeservices():
            time.sleep(0.01)
        code, said = first.end(number)
        assert (code, said) == ((-9 if number == signal.SIGKILL else 0), "")
        silent_service(store, "two")
        found = second.wait_until(lambda found: "two" in found["services"])
        assert found["leads"]
        assert second.end(signal.SIGTERM) == (0, "")


def test_suspended_leader_follows_when_it_comes_back(
    store: StateStore, pooled_database: str
) -> None:
    with two(store, pooled_database) as (first, second):
        first.process.send_signal(signal.SIGSTOP)
        second.wait_until(lambda found: found["leads"])
        first.process.send_signal(signal.SIGCONT)
        first.wait_until(lambda found: not found["leads"])
        silent_service(store, "one")
        while store.query_computeservices():
            time.sleep(0.01)


def test_queue_is_cleaned_at_its_own_interval(store: StateStore, pooled_database: str) -> None:
    process = Process(pooled_database)
    try:
        rounds = [process.wait_until(lambda found: True)["cleaned"] for _ in range(5)]
        assert rounds == [True, False, False, False, False]
    finally:
        process.process.kill()
        process.process.communicate()
    process = Process(pooled_database, "--queue-interval", "0.1")
    try:
        for _ in range(3):
            process.wait_until(lambda found: found["cleaned"])
    finally:
        process.process.kill()
        process.process.communicate()


def test_lost_database_is_tried_again(store: StateStore, database: str, run_sql: Any) -> None:
    name = database.rpartition("/")[2].partition("?")[0]
    process = Process(database)
    try:
        process.wait_until(lambda found: found["leads"])
        run_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        run_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        )
        assert process.process.stderr is not None
        said = process.process.stderr.readline()
        assert said.endswith("the next round tries again\n")
        run_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        process.wait_until(lambda found: found["leads"])
    finally:
        process.process.kill()
        process.process.communicate()
