"""Refresh: brings the queue rows of tasks in line with tasks, extends and actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, TextClause, text

from alchemistore.models.clock import now
from alchemistore.operations.queue.notify import notify_throttled
from alchemistore.operations.task_sets import REACHES, Reach

if TYPE_CHECKING:
    import random

# Smaller weights race as if they had this one: a key beyond 1e8 would leave later keys no digits.
WEIGHT_MIN = 1e-6

# Finds a row of `queue` beside its scope and task: by a comparison of hubs that no index serves, for the other indexes begin with the
# hub, and without statistics they look as good as the key.
SAME_HUB = "q.taskhub IS NOT DISTINCT FROM {}.taskhub"


def _refresh(touched: str) -> TextClause:
    return text(f"""
        WITH touched AS MATERIALIZED ({touched}),
        -- Priority and transformation of those that may be claimed, NULL of the others.
        live AS MATERIALIZED (
            SELECT touched.scope_id, touched.task, t.priority, t.transformation
            FROM touched LEFT JOIN LATERAL (
                SELECT t.priority, t.transformation FROM tasks AS t
                WHERE t.scope_id = touched.scope_id AND t.token = touched.task AND t.status = 'waiting' AND coalesce((
                    SELECT parent.status = 'complete'
                    FROM extends AS e JOIN tasks AS parent ON parent.scope_id = e.scope_id AND parent.token = e.parent
                    WHERE e.scope_id = t.scope_id AND e.task = t.token
                ), true)
                OFFSET 0
            ) AS t ON true
        ),
        gone AS (
            DELETE FROM queue WHERE ctid = ANY(ARRAY(
                SELECT q.ctid FROM live CROSS JOIN LATERAL (
                    SELECT q.ctid, q.taskhub FROM queue AS q WHERE q.scope_id = live.scope_id AND q.task = live.task OFFSET 0
                ) AS q
                WHERE live.priority IS NULL OR coalesce((
                    SELECT a.weight FROM actions AS a
                    WHERE a.scope_id = live.scope_id AND a.taskhub = q.taskhub AND a.task = live.task
                ), 0) = 0
            ))
        ),
        fresh AS MATERIALIZED (
            SELECT a.scope_id, a.taskhub, a.task, live.priority, live.transformation, a.weight, q.place
            FROM live
            CROSS JOIN LATERAL (
                SELECT a.* FROM actions AS a WHERE a.scope_id = live.scope_id AND a.task = live.task AND a.weight > 0 OFFSET 0
            ) AS a
            LEFT JOIN LATERAL (
                SELECT q.ctid AS place, q.priority, q.weight FROM queue AS q
                WHERE q.scope_id = a.scope_id AND q.task = a.task AND {SAME_HUB.format("a")} OFFSET 0
            ) AS q ON true
            WHERE live.priority IS NOT NULL AND (q.priority, q.weight) IS DISTINCT FROM (live.priority, a.weight)
        ),
        grouped AS MATERIALIZED (
            SELECT scope_id, taskhub, transformation, priority,
                array_agg(task) AS tasks, array_agg(weight) AS weights, array_agg(place) AS places
            FROM fresh GROUP BY scope_id, taskhub, transformation, priority
        ),
        wanted AS MATERIALIZED (
            SELECT g.*, (
                SELECT tr.protocol FROM transformations AS tr WHERE tr.scope_id = g.scope_id AND tr.token = g.transformation
            ) AS protocol
            FROM grouped AS g
        ),
        opened AS (
            INSERT INTO lanes (scope_id, taskhub, protocol, priority, visited_at)
            SELECT scope_id, taskhub, protocol, priority, :now FROM wanted
            UNION
            SELECT scope_id, taskhub, '', priority, :now FROM wanted
            ORDER BY 1, 2, 3, 4
            ON CONFLICT DO NOTHING
        ),
        clocks AS MATERIALIZED (
            SELECT wanted.*, greatest(
                (SELECT max(floor) FROM lanes AS l WHERE l.scope_id = wanted.scope_id AND l.taskhub = wanted.taskhub
                    AND l.priority = wanted.priority AND l.protocol IN ('', wanted.protocol)),
                (SELECT race FROM attempts AS a WHERE a.scope_id = wanted.scope_id AND a.taskhub = wanted.taskhub
                    AND a.lane = '' AND a.priority = wanted.priority ORDER BY race DESC LIMIT 1),
                (SELECT race FROM attempts AS a WHERE a.scope_id = wanted.scope_id AND a.taskhub = wanted.taskhub
                    AND a.lane = wanted.protocol AND a.priority = wanted.priority ORDER BY race DESC LIMIT 1),
                0
            ) AS clock
            FROM wanted
        ),
        drawn AS MATERIALIZED (
            SELECT scope_id, taskhub, task, priority, protocol, weight, place,
                clock - ln(
                    ((uuid_hash_extended(taskhub, uuid_hash_extended(task, :seed)) >> 11 & 9007199254740991) + 0.5)
                        / 9007199254740992
                ) / greatest(weight, {WEIGHT_MIN}) AS race
            FROM clocks CROSS JOIN LATERAL unnest(tasks, weights, places) AS x (task, weight, place)
        ),
        moved AS (
            UPDATE queue AS q SET priority = drawn.priority, protocol = drawn.protocol, weight = drawn.weight, race = drawn.race
            FROM drawn WHERE q.ctid = drawn.place
        )
        INSERT INTO queue (scope_id, taskhub, task, priority, protocol, weight, race)
        SELECT scope_id, taskhub, task, priority, protocol, weight, race FROM drawn WHERE place IS NULL
        ON CONFLICT DO NOTHING
    """)


REFRESH = {reach: _refresh(tasks) for reach, tasks in REACHES.items()}


def seed(tx: Connection) -> int:
    """Give 63 random bits, from the generator the store was made with."""
    rng: random.Random = tx.get_execution_options()["rng"]
    return rng.getrandbits(63)


def refresh(tx: Connection, tasks: dict[str, Any], reach: Reach = "tasks") -> None:
    """Bring the queue rows of tasks in line with the truth.

    Parameters
    ----------
    tx : Connection
        The open transaction, in which the tasks are locked.
    tasks : dict
        Their ``scope_ids`` and ``tokens``.
    reach : "tasks", "children" or "descendants", default "tasks"
        Whether to look at what extends them, too; also at what came while their locks were waited for.
    """
    entered = tx.execute(REFRESH[reach], {**tasks, "now": now(), "seed": seed(tx)}).rowcount
    if entered > 0:
        notify_throttled(tx)
