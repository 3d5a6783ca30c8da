"""Restart patterns over the tracebacks of many failed tasks, against reading and searching alone.

The call reads the tracebacks, searches them, counts retries, and makes the tasks claimable or takes
them off the hub. The reference reads the same tracebacks with one statement and searches them with
`re`; it writes nothing.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import psycopg

from alchemistore import ScopedKey, StateStore
from bench.run import Run
from bench.seeding import scope_id, seed, settle_down, task_keys
from bench.servers import connect, opened
from bench.timing import BenchError, Measure, Target, alternate, clocked, compare

TARGET = Target(1.5)
# The last one matches.
PATTERNS = [
    r"CUDA_ERROR_\w+",
    r"(?i)out of memory",
    r"OpenMMException: .*(NaN|infinite)",
    "Particle coordinate is NaN",
]
FRAMES = 30

# A result for each task, and for each result tracebacks of its own.
RESULTS = """
    INSERT INTO results (scope_id, token, obj_key, location, scope, ok, creator, datetime_created,
        created_at)
    SELECT scope_id, token, 'ProtocolDAGResult-1', 'a', 'a-b-c', false, 'bench', now(), now()
    FROM tasks
"""
TASK_RESULTS = """
    INSERT INTO task_results (scope_id, task, result, attempt, created_at)
    SELECT scope_id, token, token, NULL, now() FROM tasks
"""
TRACEBACKS = """
    INSERT INTO tracebacks (
        scope_id, result, token, tracebacks, source_keys, failure_keys, size, created_at
    )
    SELECT scope_id, token, token, ARRAY[told], '{}', '{}', octet_length(told), now()
    FROM (
        SELECT scope_id, token, 'Traceback (most recent call last):' || chr(10) || (
            SELECT string_agg(
                '  File "/opt/conda/envs/' || md5(CAST(token AS text) || n) || '/lib/python3.12/'
                || 'site-packages/openmmtools/multistate/multistatesampler.py", line ' || n
                || ', in _propagate_replica' || chr(10)
                || '    context.integrator.step(self.n_steps - ' || n || ')' || chr(10), ''
            ) FROM generate_series(1, %(frames)s) AS n
        ) || 'openmm.OpenMMException: Particle coordinate is NaN' AS told
        FROM tasks
    ) AS t
"""
PATTERN_ROWS = """
    INSERT INTO restart_patterns (scope_id, taskhub, token, pattern, max_retries, created_at)
    SELECT scope_id, token, CAST(md5(pattern) AS uuid), pattern, 3, now()
    FROM taskhubs CROSS JOIN unnest(CAST(%(patterns)s AS text[])) AS pattern
"""
READ = """
    SELECT b.tracebacks FROM task_results AS l
    JOIN tracebacks AS b ON b.scope_id = l.scope_id AND b.result = l.result
    WHERE l.scope_id = %(scope_id)s AND l.task = ANY(%(tokens)s)
"""


def restarts(run: Run) -> list[Measure]:
    """Measure one call for many failed tasks on one hub, with some patterns."""
    count, rounds = run.size(10_000, 200), run.size(7, 1)
    with run.server.database() as template:
        with opened(template) as store, connect(template) as connection:
            with run.step(f"seed {count:,} failed tasks", count) as advance:
                seed(store, template, count, statuses=["error"], advance=advance)
            for statement in (RESULTS, TASK_RESULTS):
                connection.execute(statement.encode())
            connection.execute(TRACEBACKS.encode(), {"frames": FRAMES})
            connection.execute(PATTERN_ROWS.encode(), {"patterns": PATTERNS})
            settle_down(connection)
            keys, scope = task_keys(connection), scope_id(connection)
            size = connection.execute(b"SELECT sum(size) FROM tracebacks").fetchone()
        assert size is not None

        def call() -> float:
            with run.server.database(template) as url, opened(url) as store:
                store.get_task_status(keys[:1])
                seconds = clocked(lambda: store.resolve_task_restarts(keys))
                _check(store, keys)
                return seconds

        def bare() -> float:
            with run.server.database(template) as url, connect(url) as connection:
                connection.execute(b"SELECT count(*) FROM scopes")
                return clocked(partial(_read_and_search, connection, scope, keys))

        with run.step(f"resolve {count:,} failed tasks", rounds + 1) as advance:
            found = alternate(
                {"resolve_task_restarts": call, "read and re.search": bare},
                rounds,
                warmup=run.size(1, 0),
                advance=lambda: advance(1),
            )
    return [
        compare(
            f"resolve_task_restarts, {count:,} failed tasks, against reading and re.search",
            found,
            target=TARGET,
            unit="ms",
            note=(
                f"{len(PATTERNS)} patterns, {int(size[0]) / 1e6:.0f} MB of tracebacks, all"
                " different; all tasks restart; the reference writes nothing"
            ),
        )
    ]


def _read_and_search(
    connection: psycopg.Connection[Any], scope: int, keys: list[ScopedKey]
) -> None:
    values = {"scope_id": scope, "tokens": [key.token for key in keys]}
    rows = connection.execute(READ.encode(), values).fetchall()
    hits = 0
    for (tracebacks,) in rows:
        for pattern in PATTERNS:
            hits += any(re.search(pattern, one) for one in tracebacks)
    if hits < len(keys):
        raise BenchError("the patterns were not found")


def _check(store: StateStore, keys: list[ScopedKey]) -> None:
    if {str(status) for status in store.get_task_status(keys)} != {"waiting"}:
        raise BenchError("not all tasks were restarted")
