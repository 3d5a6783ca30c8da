"""The parts of the metrics, each with the statements that read it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from alchemistore.database import migrations
from alchemistore.database.engine import schema_of
from alchemistore.database.transaction import open_transaction
from alchemistore.database.translation import translate_errors
from alchemistore.errors import SchemaError
from alchemistore.models import AttemptOutcome, ComputeManagerStatus, TaskStatusEnum
from alchemistore.monitoring.families import BOUNDS, Sample
from alchemistore.operations.leases import MAINTENANCE

# A statement uses one process of the server, however many rows it reads.
ALONE = text("SET LOCAL max_parallel_workers_per_gather TO 0")
ROUND_TRIP = text("SELECT 1")
SERVER = text("""
    SELECT pg_is_in_recovery() AS standby, age(d.datfrozenxid) AS ids,
        pg_database_size(d.oid) AS size
    FROM pg_database AS d WHERE d.datname = current_database()
""")
CONNECTIONS = text("""
    SELECT count(*) AS clients,
        CAST(current_setting('max_connections') AS integer)
            - CAST(current_setting('superuser_reserved_connections') AS integer) AS allowed
    FROM pg_stat_activity WHERE backend_type = 'client backend'
""")
# Other users' transactions are visible to superusers and members of pg_read_all_stats only.
OLDEST_TRANSACTION = text("""
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND backend_type = 'client backend'
""")
TABLES = text("""
    SELECT relname AS name, n_live_tup AS live, n_dead_tup AS dead FROM pg_stat_user_tables
    WHERE schemaname = :schema
""")
SERVICES = text("""
    SELECT count(*) FILTER (WHERE silence <= CAST(:lease AS interval) / 3) AS alive,
        count(*) FILTER (
            WHERE silence > CAST(:lease AS interval) / 3 AND silence <= CAST(:lease AS interval)
        ) AS silent,
        count(*) FILTER (WHERE silence > CAST(:lease AS interval)) AS expired
    FROM (SELECT statement_timestamp() - heartbeat_at AS silence FROM compute_services) AS s
""")
MANAGERS = text("SELECT status, count(*) AS managers FROM compute_managers GROUP BY status")
LEASE = text("""
    SELECT count(*) FROM leases WHERE name = :name AND ends_at > statement_timestamp()
""")
# Reads all tasks.
TASKS = text("""
    WITH
    -- The counts by scope id, because there are far fewer scopes than tasks.
    counted AS MATERIALIZED (
        SELECT scope_id, status, count(*) AS tasks,
            count(*) FILTER (WHERE attempts >= :attempts) AS often
        FROM tasks GROUP BY scope_id, status
    )
    SELECT s.org, s.campaign, s.project, c.status, c.tasks, c.often
    FROM counted AS c JOIN scopes AS s ON s.id = c.scope_id
""")
# Reads all attempts.
ATTEMPTS = text("""
    WITH
    -- The counts by scope id, outcome and duration. The duration of an open attempt is NULL.
    counted AS MATERIALIZED (
        SELECT scope_id, outcome, width_bucket(seconds, CAST(:bounds AS float8[])) AS size,
            count(*) AS attempts, sum(seconds) AS seconds
        FROM (
            SELECT scope_id, outcome, CASE WHEN ended_at IS NOT NULL THEN
                CAST(extract(epoch FROM greatest(ended_at, claimed_at) - claimed_at) AS float8)
            END AS seconds FROM attempts
        ) AS a
        GROUP BY scope_id, outcome, size
    )
    SELECT s.org, s.campaign, s.project, c.outcome, c.size, c.attempts, c.seconds
    FROM counted AS c JOIN scopes AS s ON s.id = c.scope_id
""")
# Reads the waiting tasks and the queue.
CLAIMABLE = text("""
    WITH
    -- The tasks in the queue of a hub that claims choose; one that is on several hubs counts once.
    claimable AS MATERIALIZED (
        SELECT t.scope_id, count(*) AS tasks, min(t.status_changed_at) AS since
        FROM tasks AS t
        WHERE t.status = 'waiting' AND EXISTS (
            SELECT FROM queue AS q
            JOIN taskhubs AS h ON h.scope_id = q.scope_id AND h.token = q.taskhub
            WHERE q.scope_id = t.scope_id AND q.task = t.token AND h.weight > 0
        )
        GROUP BY t.scope_id
    )
    SELECT s.org, s.campaign, s.project, c.tasks,
        extract(epoch FROM statement_timestamp() - c.since) AS age
    FROM claimable AS c JOIN scopes AS s ON s.id = c.scope_id
""")
RUNNING = text("""
    SELECT s.org, s.campaign, s.project,
        extract(epoch FROM statement_timestamp() - min(c.claimed_at)) AS age
    FROM claims AS c JOIN scopes AS s ON s.id = c.scope_id
    GROUP BY s.org, s.campaign, s.project
""")
# A task that is not complete after so many attempts will hardly be.
MANY_ATTEMPTS = 5
# Seconds between two tries of the object store, each of which is a few paid requests.
OBJECTS_PAUSE = 300.0
UNFINISHED = (TaskStatusEnum.waiting, TaskStatusEnum.running, TaskStatusEnum.error)


class By(StrEnum):
    """The part of a scope by which tasks and attempts are counted."""

    project = "project"
    campaign = "campaign"
    org = "org"
    all = "all"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the metrics that is read at once and fails alone.

    Attributes
    ----------
    name : str
    read : callable
        Returns the samples.
    pause : float, default 0
        Seconds that must be between two readings.
    """

    name: str
    read: Callable[[], Sequence[Sample]]
    pause: float = 0.0


def database_parts(engine: Engine, lease: timedelta, by: By = By.project) -> list[Part]:
    """Return the parts that are read from the database, each in a transaction of its own.

    Parameters
    ----------
    engine : Engine
        The database; its statement timeout limits what a part may take.
    lease : timedelta
        The silence after which a compute service has expired.
    by : By, default By.project
        The part of a scope by which to count tasks and attempts.
    """

    def part(name: str, read: Callable[[Connection], Iterator[Sample]]) -> Part:
        def run() -> list[Sample]:
            with translate_errors(engine), open_transaction(engine, readonly=True) as tx:
                tx.execute(ALONE)
                return list(read(tx))

        return Part(name, run)

    return [
        part("database", _database),
        part("tables", _tables),
        part("services", lambda tx: _services(tx, lease)),
        part("tasks", lambda tx: _tasks(tx, by)),
        part("queue", lambda tx: _queue(tx, by)),
        part("attempts", lambda tx: _attempts(tx, by)),
    ]


def object_store_part(check: Callable[[], None]) -> Part:
    """Return the part that tries the object store.

    Parameters
    ----------
    check : callable
        Lists, writes, reads and deletes objects, or raises an error.
    """

    def run() -> list[Sample]:
        began = time.perf_counter()
        check()
        return [Sample("object_store_latency_seconds", (), time.perf_counter() - began)]

    return Part("objects", run, OBJECTS_PAUSE)


def _place(row: Row[Any], by: By) -> tuple[str, ...]:
    # An empty label is no label to Prometheus.
    depth = {By.project: 3, By.campaign: 2, By.org: 1, By.all: 0}[by]
    parts = (row.org, row.campaign, row.project)
    return (*parts[:depth], *("",) * (3 - depth))


def _database(tx: Connection) -> Iterator[Sample]:
    began = time.perf_counter()
    tx.execute(ROUND_TRIP)
    yield Sample("database_latency_seconds", (), time.perf_counter() - began)
    server = tx.execute(SERVER).one()
    yield Sample("database_standby", (), server.standby)
    yield Sample("database_size_bytes", (), server.size)
    yield Sample("database_transaction_ids_used", (), server.ids)
    connections = tx.execute(CONNECTIONS).one()
    yield Sample("database_connections", (), connections.clients)
    yield Sample("database_connections_max", (), connections.allowed)
    age = tx.execute(OLDEST_TRANSACTION).scalar_one()
    yield Sample("database_oldest_transaction_seconds", (), age)
    try:
        migrations.require_current(tx)
    except SchemaError:
        yield Sample("schema_current", (), 0.0)
    else:
        yield Sample("schema_current", (), 1.0)


def _tables(tx: Connection) -> Iterator[Sample]:
    for row in tx.execute(TABLES, {"schema": schema_of(tx)}):
        yield Sample("table_rows", (row.name, "live"), row.live)
        yield Sample("table_rows", (row.name, "dead"), row.dead)


def _services(tx: Connection, lease: timedelta) -> Iterator[Sample]:
    services = tx.execute(SERVICES, {"lease": lease}).one()
    for state in ("alive", "silent", "expired"):
        yield Sample("compute_services", (state,), services._mapping[state])
    managers = {row.status: row.managers for row in tx.execute(MANAGERS)}
    for status in ComputeManagerStatus:
        yield Sample("compute_managers", (status.value,), managers.get(status, 0))
    works = tx.execute(LEASE, {"name": MAINTENANCE}).scalar_one()
    yield Sample("maintenance_running", (), works)


def _tasks(tx: Connection, by: By) -> Iterator[Sample]:
    tasks: dict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
    often: dict[tuple[str, ...], int] = defaultdict(int)
    for row in tx.execute(TASKS, {"attempts": MANY_ATTEMPTS}):
        place = _place(row, by)
        tasks[place][row.status] = tasks[place].get(row.status, 0) + row.tasks
        often[place] += row.often if row.status in UNFINISHED else 0
    for place, counts in sorted(tasks.items()):
        # A status without tasks has the value 0, so that its line in a plot goes down to it.
        for status in TaskStatusEnum:
            yield Sample("tasks", (*place, status.value), counts.get(status, 0))
        yield Sample("poisoned_tasks", place, often[place])


def _queue(tx: Connection, by: By) -> Iterator[Sample]:
    depth: dict[tuple[str, ...], int] = defaultdict(int)
    waiting: dict[tuple[str, ...], float] = defaultdict(float)
    for row in tx.execute(CLAIMABLE):
        place = _place(row, by)
        depth[place] += row.tasks
        waiting[place] = max(waiting[place], row.age)
    running: dict[tuple[str, ...], float] = defaultdict(float)
    for row in tx.execute(RUNNING):
        place = _place(row, by)
        running[place] = max(running[place], row.age)
    for place in sorted(depth):
        yield Sample("claimable_tasks", place, depth[place])
        yield Sample("oldest_claimable_seconds", place, waiting[place])
    for place in sorted(running):
        yield Sample("oldest_running_seconds", place, running[place])


def _attempts(tx: Connection, by: By) -> Iterator[Sample]:
    claims: dict[tuple[str, ...], int] = defaultdict(int)
    ended: dict[tuple[str, ...], int] = defaultdict(int)
    sizes = {outcome: [0] * (len(BOUNDS) + 1) for outcome in AttemptOutcome}
    seconds: dict[AttemptOutcome, float] = defaultdict(float)
    for row in tx.execute(ATTEMPTS, {"bounds": list(BOUNDS)}):
        place = _place(row, by)
        claims[place] += row.attempts
        if row.outcome is not None:
            outcome = AttemptOutcome(row.outcome)
            ended[*place, outcome.value] += row.attempts
            sizes[outcome][row.size] += row.attempts
            seconds[outcome] += row.seconds
    for place, number in sorted(claims.items()):
        yield Sample("claims", place, number)
    for labels, number in sorted(ended.items()):
        yield Sample("ended_attempts", labels, number)
    for outcome, counts in sizes.items():
        numbers = (*counts, seconds[outcome])
        yield Sample("attempt_duration_seconds", (outcome.value,), *numbers)
