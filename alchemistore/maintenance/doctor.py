"""The examination of a store in operation: server, connections, tables, tasks and clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, Engine, text

from alchemistore.database import migrations
from alchemistore.database.engine import schema_of
from alchemistore.database.transaction import open_transaction
from alchemistore.database.translation import translate_errors
from alchemistore.errors import SchemaError
from alchemistore.models.clock import now
from alchemistore.operations.history import get_activity, get_lost_claims
from alchemistore.operations.leases import MAINTENANCE


class Level(StrEnum):
    """The level of a diagnosis: nothing to do, something to know, to do, or to do at once."""

    ok = "ok"
    note = "note"
    warning = "warning"
    problem = "problem"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A result of the examination.

    Attributes
    ----------
    subject : str
        The subject that was examined.
    level : Level
    text : str
        The result in a sentence.
    advice : str or None, default None
        What to do, if there is something to do.
    """

    subject: str
    level: Level
    text: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The times and numbers beyond which the examination warns.

    Attributes
    ----------
    transaction : timedelta, default 10 minutes
        Age of a transaction.
    silence : timedelta, default 30 minutes
        Time without a heartbeat of a service.
    waiting : timedelta, default 6 hours
        Time that a task can be claimed and is not.
    running : timedelta, default 2 days
        Time since the claim of a running task.
    attempts : int, default 5
        Number of attempts at a task that is not complete.
    skew : timedelta, default 5 seconds
        Difference between the clocks of this machine and of the database.
    """

    transaction: timedelta = timedelta(minutes=10)
    silence: timedelta = timedelta(minutes=30)
    waiting: timedelta = timedelta(hours=6)
    running: timedelta = timedelta(days=2)
    attempts: int = 5
    skew: timedelta = timedelta(seconds=5)


# Dead rows below this number are of no interest.
DEAD_ROWS = 10_000
# Half of all transaction ids, of which the server stops at about 2.1 billion.
OLD_IDS = 1_000_000_000

# Settings with their right values, and what another value costs.
SETTINGS = {
    "fsync": ("on", Level.problem, "a crash of the machine can destroy the database"),
    "full_page_writes": ("on", Level.problem, "a crash of the machine can destroy the database"),
    "autovacuum": ("on", Level.problem, "tables grow and claims become slow"),
    "track_counts": ("on", Level.problem, "autovacuum does not work without it"),
    "synchronous_commit": ("on", Level.warning, "a crash of the server can lose the last results"),
}
# The values that the server would use for another session. The store sets some of its own.
READ_SETTINGS = text("""
    SELECT name, CASE WHEN source = 'session' THEN reset_val ELSE setting END AS setting
    FROM pg_settings WHERE name = ANY(CAST(:names AS text[]))
""")
SERVER = text("""
    SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
        age(d.datfrozenxid) AS oldest_id, pg_database_size(d.oid) AS size
    FROM pg_database AS d WHERE d.datname = current_database()
""")
CONNECTIONS = text("""
    SELECT count(*) FILTER (WHERE backend_type = 'client backend') AS clients,
        count(*) FILTER (WHERE datname = current_database()) AS here,
        CAST(current_setting('max_connections') AS integer)
            - CAST(current_setting('superuser_reserved_connections') AS integer) AS allowed
    FROM pg_stat_activity
""")
# Other users' transactions are visible to superusers and members of pg_read_all_stats only.
OLDEST_TRANSACTION = text("""
    SELECT pid, usename, application_name, state, clock_timestamp() - xact_start AS age
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
        AND backend_type = 'client backend'
    ORDER BY xact_start LIMIT 1
""")
PREPARED_TRANSACTION = text("""
    SELECT gid, clock_timestamp() - prepared AS age FROM pg_prepared_xacts
    WHERE database = current_database() ORDER BY prepared LIMIT 1
""")
BLOCKED_SESSIONS = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND query_start < clock_timestamp() - interval '10 seconds'
""")
TABLES = text("""
    SELECT s.relname AS name, s.n_live_tup AS live, s.n_dead_tup AS dead,
        c.reltuples < 0 AND s.n_live_tup > 10000 AS never_analyzed
    FROM pg_stat_user_tables AS s JOIN pg_class AS c ON c.oid = s.relid
    WHERE s.schemaname = :schema ORDER BY s.relname
""")
INDEXES = text("""
    SELECT c.relname AS name, i.indisvalid AND i.indisready AS valid
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema ORDER BY c.relname
""")
# Claims and settlements look up rows by key; a share of index scans that is low shows that
# statistics are wrong. Counting tasks reads a whole table, which is one scan.
INDEX_USE = text("""
    SELECT relname AS name, seq_scan, idx_scan, n_live_tup AS live
    FROM pg_stat_user_tables
    WHERE schemaname = :schema AND n_live_tup > 10000 AND seq_scan > 1000 AND seq_scan > idx_scan
    ORDER BY relname
""")
SERVICES = text("""
    SELECT count(*) AS services,
        count(*) FILTER (WHERE heartbeat_at < clock_timestamp() - CAST(:silence AS interval))
            AS silent
    FROM compute_services
""")
MANAGERS_IN_ERROR = text("SELECT name FROM compute_managers WHERE status = 'ERROR' ORDER BY name")
HOLDER = text("""
    SELECT holder FROM leases WHERE name = :name AND ends_at > statement_timestamp()
""")
UNCLAIMED_RUNNING = text("""
    SELECT count(*) FROM tasks AS t
    WHERE t.status = 'running' AND NOT EXISTS (
        SELECT FROM claims AS c WHERE c.scope_id = t.scope_id AND c.task = t.token
    )
""")
POISONED = text("""
    SELECT count(*) FROM tasks
    WHERE attempts >= :attempts AND status IN ('waiting', 'running', 'error')
""")
CLOCK = text("SELECT clock_timestamp()")


def examine(engine: Engine, limits: Limits | None = None) -> Iterator[Diagnosis]:
    """Yield what is found in the database. Nothing is changed.

    Parameters
    ----------
    engine : Engine
        The database.
    limits : Limits, optional
        The times and numbers beyond which to warn.
    """
    given = Limits() if limits is None else limits
    for check in CHECKS:
        # Each in a transaction of its own, so that none of them is old.
        with (
            translate_errors(engine),
            open_transaction(engine, readonly=True) as connection,
        ):
            try:
                found = list(check(connection, given))
            except SchemaError as error:
                advice = "run 'alchemistore database upgrade' or 'init'"
                yield Diagnosis("revision", Level.problem, str(error), advice)
                return
        yield from found


def _revision(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    migrations.require_current(tx)
    yield Diagnosis("revision", Level.ok, f"the schema is at revision {migrations.revision(tx)}")


def _server(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    server = tx.execute(SERVER).one()
    role = ", a standby" if server.standby else ""
    size = f"{server.size / 2**30:.1f} GiB"
    yield Diagnosis("server", Level.ok, f"PostgreSQL {server.version}{role}; {size}")
    if server.oldest_id > OLD_IDS:
        yield Diagnosis(
            "server",
            Level.problem,
            f"the oldest transaction id is {server.oldest_id:,} transactions old",
            "end old transactions and run VACUUM: the server stops at about 2.1 billion",
        )


def _settings(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    wrong = False
    for row in tx.execute(READ_SETTINGS, {"names": list(SETTINGS)}):
        right, level, cost = SETTINGS[row.name]
        # 'remote_apply' and its like are stricter than 'on'.
        if row.setting in ("off", "local") and row.setting != right:
            wrong = True
            yield Diagnosis(
                "settings",
                level,
                f"{row.name} is {row.setting}: {cost}",
                f"set {row.name} = {right} in postgresql.conf",
            )
    if not wrong:
        yield Diagnosis("settings", Level.ok, f"{', '.join(SETTINGS)} are as they should be")


def _connections(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    found = tx.execute(CONNECTIONS).one()
    words = f"{found.clients} of {found.allowed} connections are in use, {found.here} of them here"
    if found.clients > 0.8 * found.allowed:
        yield Diagnosis(
            "connections",
            Level.warning,
            words,
            "put PgBouncer in between, or lower ALCHEMISTORE_POOL_SIZE, or raise max_connections",
        )
    else:
        yield Diagnosis("connections", Level.ok, words)


def _transactions(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    oldest = tx.execute(OLDEST_TRANSACTION).first()
    if oldest is not None and oldest.age > limits.transaction:
        yield Diagnosis(
            "transactions",
            Level.warning,
            f"a transaction of {oldest.usename} ({oldest.application_name}, {oldest.state}) has"
            f" been open for {_rounded(oldest.age)}, so dead rows stay and claims become slow",
            f"end it: SELECT pg_terminate_backend({oldest.pid}); consider"
            " ALCHEMISTORE_IDLE_TIMEOUT",
        )
    elif oldest is None:
        yield Diagnosis("transactions", Level.ok, "no other transaction is open")
    else:
        age = _rounded(oldest.age)
        yield Diagnosis("transactions", Level.ok, f"the oldest has been open for {age}")
    prepared = tx.execute(PREPARED_TRANSACTION).first()
    if prepared is not None and prepared.age > limits.transaction:
        yield Diagnosis(
            "transactions",
            Level.warning,
            f"the prepared transaction {prepared.gid!r} is {_rounded(prepared.age)} old",
            "the store makes none: find its owner, then COMMIT PREPARED or ROLLBACK PREPARED",
        )
    if blocked := tx.scalar(BLOCKED_SESSIONS):
        yield Diagnosis(
            "transactions",
            Level.warning,
            f"{blocked} sessions have been waiting for a lock for more than 10 seconds",
            "look at pg_blocking_pids(pid) in pg_stat_activity, and end what blocks them",
        )


def _tables(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    schema, healthy = schema_of(tx), True
    for row in tx.execute(TABLES, {"schema": schema}):
        if row.dead > DEAD_ROWS and row.dead > row.live:
            healthy = False
            yield Diagnosis(
                "tables",
                Level.warning,
                f"{row.name} has {row.dead:,} dead and {row.live:,} live rows",
                f"look for old transactions, then run VACUUM {schema}.{row.name}",
            )
        if row.never_analyzed:
            healthy = False
            yield Diagnosis(
                "tables",
                Level.warning,
                f"{row.name} has {row.live:,} rows and no statistics",
                f"run ANALYZE {schema}.{row.name}, and see that autovacuum runs",
            )
    if healthy:
        yield Diagnosis("tables", Level.ok, "few dead rows, and statistics where they matter")


def _indexes(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    schema, healthy = schema_of(tx), True
    for row in tx.execute(INDEXES, {"schema": schema}):
        if not row.valid:
            healthy = False
            yield Diagnosis(
                "indexes",
                Level.problem,
                f"the index {row.name} is not valid, so it is not used",
                f"run REINDEX INDEX CONCURRENTLY {schema}.{row.name}",
            )
    for row in tx.execute(INDEX_USE, {"schema": schema}):
        healthy = False
        yield Diagnosis(
            "indexes",
            Level.note,
            f"{row.name} was read as a whole {row.seq_scan:,} times, and by an index"
            f" {row.idx_scan or 0:,} times",
            f"run ANALYZE {schema}.{row.name}; counting tasks often is another cause",
        )
    if healthy:
        yield Diagnosis("indexes", Level.ok, "all indexes are valid, and used")


def _services(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    found = tx.execute(SERVICES, {"silence": limits.silence}).one()
    if found.silent:
        yield Diagnosis(
            "services",
            Level.warning,
            f"{found.silent} of {found.services} compute services have sent no heartbeat for"
            f" {_rounded(limits.silence)}, and are still registered",
            "run 'alchemistore maintain', which releases their tasks",
        )
    else:
        yield Diagnosis("services", Level.ok, f"{found.services} compute services, none silent")
    if names := list(tx.scalars(MANAGERS_IN_ERROR)):
        yield Diagnosis(
            "services",
            Level.warning,
            f"compute managers with errors: {', '.join(names)}",
            "see 'alchemistore manager list'; when it is mended, 'alchemistore manager clear'",
        )


def _maintenance(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    holder = tx.scalar(HOLDER, {"name": MAINTENANCE})
    if holder is not None:
        yield Diagnosis("maintenance", Level.ok, f"done by {holder}")
        return
    yield Diagnosis(
        "maintenance",
        Level.note,
        "no process runs 'alchemistore maintain' now",
        "run it, unless something else calls expire_registrations and maintain_queue",
    )


def _tasks(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    found = list(_stuck(tx, limits))
    yield from found
    if not found:
        yield Diagnosis("tasks", Level.ok, "none is stuck")


def _stuck(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    activity = get_activity(tx)
    since, running = activity.claimable_since, activity.oldest_running
    if since is not None and activity.time - since > limits.waiting:
        age = _rounded(activity.time - since)
        yield Diagnosis(
            "tasks",
            Level.warning,
            f"{activity.oldest_claimable} could have been claimed for {age}",
            "are there services for its scope and protocol? see 'alchemistore task why'",
        )
    if running is not None and activity.time - running.claimed_at > limits.running:
        age = _rounded(activity.time - running.claimed_at)
        yield Diagnosis(
            "tasks",
            Level.warning,
            f"{running.task} has been running for {age} on {running.service}",
            "if it hangs, end the service, or run 'alchemistore task restart --running'",
        )
    if lost := len(get_lost_claims(tx)):
        yield Diagnosis(
            "tasks",
            Level.warning,
            f"{lost} tasks are running on services that have probably never learned of their claim",
            "see 'alchemistore database lost-claims'",
        )
    if unclaimed := tx.scalar(UNCLAIMED_RUNNING):
        yield Diagnosis(
            "tasks",
            Level.warning,
            f"{unclaimed} tasks are running without a claim, so no service will end them",
            "their status was set by hand; set it to waiting: 'alchemistore task set-status'",
        )
    if poisoned := tx.scalar(POISONED, {"attempts": limits.attempts}):
        yield Diagnosis(
            "tasks",
            Level.warning,
            f"{poisoned} tasks are not complete after {limits.attempts} or more attempts",
            "see 'alchemistore task history --tracebacks'; set hopeless ones to invalid",
        )


def _clocks(tx: Connection, limits: Limits) -> Iterator[Diagnosis]:
    before = now()
    there = tx.scalar(CLOCK)
    after = now()
    skew = _skew(before, there, after)
    words = f"the clock of the database differs from that of this machine by {_seconds(skew)}"
    if abs(skew) > limits.skew:
        yield Diagnosis(
            "clocks",
            Level.warning,
            words,
            "synchronise both clocks (chrony, ntpd): times in histories come from both",
        )
    else:
        yield Diagnosis("clocks", Level.ok, words)


def _skew(before: datetime, there: datetime, after: datetime) -> timedelta:
    """Return how far a clock is ahead, if its time was read between two times of another one."""
    if there < before:
        return there - before
    return max(there - after, timedelta(0))


def _seconds(time: timedelta) -> str:
    return f"{time.total_seconds():.1f} s"


def _rounded(time: timedelta) -> str:
    return str(timedelta(seconds=round(time.total_seconds())))


Check = Callable[[Connection, Limits], Iterator[Diagnosis]]
# The revision comes first: if it is wrong, nothing else can be examined.
CHECKS: tuple[Check, ...] = (
    _revision,
    _server,
    _settings,
    _connections,
    _transactions,
    _tables,
    _indexes,
    _services,
    _maintenance,
    _tasks,
    _clocks,
)
