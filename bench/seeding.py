"""Seed data, written by SQL into the tables with every invariant kept."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg.errors import InsufficientPrivilege

from alchemistore import ComputeServiceRegistration, Scope, ScopedKey, StateStore
from alchemistore.models.task import DEFAULT_PRIORITY, DEFAULT_WEIGHT
from alchemistore.operations.queue.race import WEIGHT_MIN
from bench.servers import connect
from bench.star import star

SCOPE = Scope("bench", "bench", "bench")
CHUNK = 100_000
ARMS = 3

# Task keys are UUIDs of version 7, in the order of creation.
FRESH = """
    CREATE TEMPORARY TABLE fresh ON COMMIT DROP AS
    SELECT h.scope_id, edges.tokens[1 + n %% cardinality(edges.tokens)] AS transformation,
        (%(statuses)s::text[])[1 + n %% cardinality(%(statuses)s::text[])] AS status,
        CAST(
            lpad(to_hex(%(milliseconds)s + n / 20), 12, '0')
            || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15) AS uuid
        ) AS token
    FROM generate_series(0, %(count)s - 1) AS n
    CROSS JOIN LATERAL (SELECT md5(%(salt)s || n) AS hash) AS random
    CROSS JOIN (SELECT scope_id, network FROM taskhubs WHERE token = ANY(%(hubs)s) LIMIT 1) AS h
    CROSS JOIN LATERAL (
        SELECT array_agg(transformation ORDER BY transformation) AS tokens
        FROM network_transformations AS e WHERE e.scope_id = h.scope_id AND e.network = h.network
    ) AS edges
"""
TASKS = f"""
    INSERT INTO tasks
        (scope_id, token, transformation, status, status_changed_at, priority, attempts, created_at)
    SELECT scope_id, token, transformation, status, now(), {DEFAULT_PRIORITY}, 0, now() FROM fresh
"""
ACTIONS = f"""
    INSERT INTO actions (scope_id, taskhub, task, weight, created_at)
    SELECT scope_id, hub, token, {DEFAULT_WEIGHT}, now()
    FROM fresh CROSS JOIN unnest(%(hubs)s) AS hub
    WHERE status IN ('waiting', 'running', 'error')
"""
LANES = f"""
    INSERT INTO lanes (scope_id, taskhub, protocol, priority, visited_at)
    SELECT DISTINCT scope_id, hub, protocol, {DEFAULT_PRIORITY}, now()
    FROM fresh CROSS JOIN unnest(%(hubs)s) AS hub
    CROSS JOIN LATERAL (
        SELECT ''
        UNION ALL
        SELECT tr.protocol FROM transformations AS tr
        WHERE tr.scope_id = fresh.scope_id AND tr.token = fresh.transformation
    ) AS lane (protocol)
    ON CONFLICT DO NOTHING
"""
# The law of the queue: clock + Exp(1) / weight.
QUEUE = f"""
    INSERT INTO queue (scope_id, taskhub, task, priority, protocol, weight, race)
    SELECT a.scope_id, a.taskhub, a.task, {DEFAULT_PRIORITY}, tr.protocol, a.weight,
        clock.race - ln(1 - random()) / greatest(a.weight, {WEIGHT_MIN})
    FROM unnest(%(hubs)s) AS hub
    CROSS JOIN LATERAL (
        SELECT greatest(
            0,
            (SELECT max(floor) FROM lanes WHERE taskhub = hub AND priority = {DEFAULT_PRIORITY}),
            (SELECT max(race) FROM attempts WHERE taskhub = hub AND priority = {DEFAULT_PRIORITY}
                AND scope_id = (SELECT scope_id FROM fresh LIMIT 1) AND lane = '')
        ) AS race
    ) AS clock
    CROSS JOIN fresh
    JOIN actions AS a ON a.scope_id = fresh.scope_id AND a.taskhub = hub AND a.task = fresh.token
    JOIN transformations AS tr ON tr.scope_id = fresh.scope_id AND tr.token = fresh.transformation
    WHERE fresh.status = 'waiting'
"""


def make_hubs(store: StateStore, count: int) -> list[ScopedKey]:
    """Create networks of the same transformations, with a hub each; tasks can be on every hub."""
    return [
        store.create_taskhub(store.create_network(star(ARMS, name=f"network {i}"), SCOPE))
        for i in range(count)
    ]


def add_tasks(
    connection: psycopg.Connection[Any],
    hubs: Sequence[ScopedKey],
    count: int,
    *,
    statuses: Sequence[str] = ("waiting",),
    actioned: bool = True,
    advance: Callable[[int], None] = lambda done: None,
) -> None:
    """Make tasks that are on all the hubs given.

    Parameters
    ----------
    connection : psycopg.Connection
        One that commits each statement.
    hubs : sequence of ScopedKey
        Hubs whose networks share their transformations.
    count : int
        How many tasks.
    statuses : sequence of str, default waiting
        The tasks get these in turn.
    actioned : bool, default True
        Put them on the hubs, and into the queue if they are waiting.
    advance : callable, optional
        Called now and then with the number of further tasks.
    """
    values = {"hubs": [hub.token for hub in hubs], "statuses": list(statuses)}
    for done in range(0, count, CHUNK):
        part = min(CHUNK, count - done)
        with connection.transaction():
            last = connection.execute(
                "SELECT extract(epoch FROM clock_timestamp()) * 1000"
            ).fetchone()
            assert last is not None
            more = {"count": part, "salt": secrets.token_hex(16), "milliseconds": int(last[0])}
            connection.execute(FRESH, {**values, **more}, prepare=False)
            connection.execute("ANALYZE fresh")
            for statement in (TASKS, ACTIONS, LANES, QUEUE) if actioned else (TASKS,):
                names = values if "%(" in statement else None
                connection.execute(statement.encode(), names, prepare=False)
        advance(part)


def settle_down(connection: psycopg.Connection[Any]) -> None:
    """Gather statistics and finish what PostgreSQL would otherwise do during the measurement."""
    connection.execute("VACUUM ANALYZE")
    try:
        connection.execute("CHECKPOINT")
    except InsufficientPrivilege:
        return


def seed(
    store: StateStore,
    url: str,
    count: int,
    *,
    hubs: int = 1,
    shared: bool = False,
    statuses: Sequence[str] = ("waiting",),
    actioned: bool = True,
    advance: Callable[[int], None] = lambda done: None,
) -> list[ScopedKey]:
    """Fill an empty database: `count` tasks per hub, or with `shared` the same ones on all hubs."""
    made = make_hubs(store, hubs)
    with connect(url) as connection:
        for group in [made] if shared else [[hub] for hub in made]:
            add_tasks(
                connection, group, count, statuses=statuses, actioned=actioned, advance=advance
            )
        settle_down(connection)
    return made


def register(store: StateStore, *identifiers: str) -> None:
    """Register compute services."""
    for identifier in identifiers:
        store.register_computeservice(
            ComputeServiceRegistration.from_now(identifier, hostname="bench")
        )


def task_keys(connection: psycopg.Connection[Any]) -> list[ScopedKey]:
    """Return the keys of all tasks in order."""
    org, campaign, project = (str(part) for part in SCOPE.to_tuple())
    rows: list[tuple[UUID]] = connection.execute(
        "SELECT token FROM tasks ORDER BY scope_id, token"
    ).fetchall()
    return [ScopedKey.from_parts("Task", token, org, campaign, project) for (token,) in rows]


def scope_id(connection: psycopg.Connection[Any]) -> int:
    """Return the id of the only scope."""
    row = connection.execute("SELECT id FROM scopes").fetchone()
    assert row is not None
    return int(row[0])
