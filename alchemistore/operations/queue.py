"""The queue: what is claimable now, in the order of an exponential race.

Drawing without replacement with weights w is giving each task a key ``Exp(1) / w`` and taking the smallest keys first (P. S. Efraimidis
and P. G. Spirakis, Information Processing Letters 97, 181, 2006). The key is drawn when a task becomes claimable, so a claim walks
the head of an index. A task that comes later must not overtake: by the memorylessness of the exponential its key is
``clock + Exp(1) / w``, the clock being the largest key handed out so far in that hub at that priority, read from the attempts. Every
change of weight or priority draws afresh. With concurrent claimers the clock may be as old as the claims not yet committed.

`queue` is a cache of the truth in `tasks`, `extends` and `actions`; :func:`refresh` is the only thing that writes it besides the
claim. It is called, by whatever changed a status, a priority, a weight or an action, as a statement of its own after the tasks
concerned were locked: then it sees all that was committed before.

The order of locks, kept by everything that touches tasks, actions and claims
-----------------------------------------------------------------------------
1. registrations of compute services, by identifier;
2. tasks, in the order of their keys (with them everything that hangs on a task: its actions, claim, attempts and results);
3. lanes, then queue rows.

A claim goes the other way, queue rows before tasks, and therefore asks for each lock with SKIP LOCKED: it waits for nobody, so it is
part of no deadlock. Hubs, networks and transformations are never updated on these paths.
"""

from __future__ import annotations

import random
import time
from typing import Any

from sqlalchemy import Connection, TextClause, text

from alchemistore.models.task import now

# Smaller weights race as if they had this one: a key beyond 1e8 would leave later keys no digits.
WEIGHT_MIN = 1e-6
_SYSTEM = random.SystemRandom()

# The tasks a statement is about, as (scope_id, task); each once.
TASKS = "SELECT scope_id, task FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) AS x (scope_id, task)"
CHILDREN = f"""
    {TASKS}
    UNION
    SELECT e.scope_id, e.task FROM extends AS e
    JOIN ({TASKS}) AS x ON x.scope_id = e.scope_id AND x.task = e.parent
"""
DESCENDANTS = f"""
    WITH RECURSIVE tree (scope_id, task) AS (
        SELECT x.scope_id, x.task FROM ({TASKS}) AS x
        UNION
        SELECT e.scope_id, e.task FROM extends AS e JOIN tree ON tree.scope_id = e.scope_id AND tree.task = e.parent
    )
    SELECT scope_id, task FROM tree
"""


def _refresh(touched: str) -> TextClause:
    return text(f"""
        WITH touched AS MATERIALIZED ({touched}),
        live AS MATERIALIZED (
            SELECT t.scope_id, t.token AS task, t.priority, t.transformation
            FROM touched JOIN tasks AS t ON t.scope_id = touched.scope_id AND t.token = touched.task
            WHERE t.status = 'waiting' AND NOT EXISTS (
                SELECT FROM extends AS e JOIN tasks AS parent ON parent.scope_id = e.scope_id AND parent.token = e.parent
                WHERE e.scope_id = t.scope_id AND e.task = t.token AND parent.status <> 'complete'
            )
        ),
        -- By the few transformations in use: joined to the tasks, a plan may go through all of a scope's for each.
        used AS MATERIALIZED (
            SELECT tr.scope_id, tr.token AS transformation, tr.protocol
            FROM (SELECT DISTINCT scope_id, transformation FROM live) AS d
            JOIN transformations AS tr ON tr.scope_id = d.scope_id AND tr.token = d.transformation
        ),
        -- What should be in the queue, of the tasks touched.
        truth AS MATERIALIZED (
            SELECT a.scope_id, a.taskhub, a.task, live.priority, used.protocol, a.weight
            FROM live
            JOIN used ON used.scope_id = live.scope_id AND used.transformation = live.transformation
            JOIN actions AS a ON a.scope_id = live.scope_id AND a.task = live.task AND a.weight > 0
        ),
        gone AS (
            DELETE FROM queue AS q USING touched
            WHERE q.scope_id = touched.scope_id AND q.task = touched.task AND NOT EXISTS (
                SELECT FROM truth WHERE truth.scope_id = q.scope_id AND truth.task = q.task AND truth.taskhub = q.taskhub
            )
        ),
        fresh AS MATERIALIZED (
            SELECT truth.* FROM truth
            LEFT JOIN queue AS q ON q.scope_id = truth.scope_id AND q.task = truth.task AND q.taskhub = truth.taskhub
            WHERE q.task IS NULL OR q.priority <> truth.priority OR q.weight <> truth.weight
        ),
        wanted AS MATERIALIZED (SELECT DISTINCT scope_id, taskhub, protocol, priority FROM fresh),
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
        )
        INSERT INTO queue (scope_id, taskhub, task, priority, protocol, weight, race)
        SELECT scope_id, taskhub, task, priority, protocol, weight,
            clock - ln(
                ((uuid_hash_extended(taskhub, uuid_hash_extended(task, :seed)) >> 11 & 9007199254740991) + 0.5) / 9007199254740992
            ) / greatest(weight, {WEIGHT_MIN})
        FROM fresh JOIN clocks USING (scope_id, taskhub, protocol, priority)
        ON CONFLICT (scope_id, task, taskhub)
            DO UPDATE SET priority = excluded.priority, protocol = excluded.protocol, weight = excluded.weight, race = excluded.race
    """)


_LOCK = "SELECT count(*) FROM (SELECT t.token FROM tasks AS t JOIN ({}) AS x ON x.scope_id = t.scope_id AND x.task = t.token ORDER BY t.scope_id, t.token FOR NO KEY UPDATE OF t) AS locked"

LOCK_TASKS, LOCK_CHILDREN, LOCK_DESCENDANTS = (text(_LOCK.format(touched)) for touched in (TASKS, CHILDREN, DESCENDANTS))
REFRESH_TASKS, REFRESH_CHILDREN, REFRESH_DESCENDANTS = (_refresh(touched) for touched in (TASKS, CHILDREN, DESCENDANTS))

# A lane's floor rises in two steps. First the present clock is noted as candidate, with the transaction that noted it. Once every
# transaction that ran at that moment has ended, whatever key it drew from an older clock is visible; then the floor is raised to the
# candidate, or to the smallest key still waiting. An old transaction that only reads holds nothing back.
RAISE_FLOORS = text("""
    WITH due AS MATERIALIZED (
        SELECT scope_id, taskhub, protocol, priority FROM lanes
        WHERE visited_at < CAST(:now AS timestamptz) - interval '1 second'
        ORDER BY visited_at LIMIT 100
        FOR NO KEY UPDATE SKIP LOCKED
    ),
    seen AS MATERIALIZED (
        SELECT l.scope_id, l.taskhub, l.protocol, l.priority,
            coalesce(l.candidate_xid < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint), true) AS ripe,
            greatest(
                (SELECT race FROM attempts AS a WHERE a.scope_id = l.scope_id AND a.taskhub = l.taskhub
                    AND a.lane = '' AND a.priority = l.priority ORDER BY race DESC LIMIT 1),
                (SELECT race FROM attempts AS a WHERE a.scope_id = l.scope_id AND a.taskhub = l.taskhub
                    AND a.lane = l.protocol AND a.priority = l.priority ORDER BY race DESC LIMIT 1),
                l.floor
            ) AS clock,
            CASE WHEN l.protocol = ''
                THEN (SELECT race FROM queue AS q WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub
                    AND q.priority = l.priority AND q.race >= l.floor ORDER BY race LIMIT 1)
                ELSE (SELECT race FROM queue AS q WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub
                    AND q.protocol = l.protocol AND q.priority = l.priority AND q.race >= l.floor ORDER BY race LIMIT 1)
            END AS head
        FROM due JOIN lanes AS l USING (scope_id, taskhub, protocol, priority)
    )
    UPDATE lanes AS l SET
        floor = CASE WHEN ripe THEN greatest(l.floor, least(l.candidate, head)) ELSE l.floor END,
        candidate = CASE WHEN ripe THEN clock ELSE l.candidate END,
        candidate_xid = CASE WHEN ripe THEN CAST(CAST(pg_current_xact_id() AS text) AS bigint) ELSE l.candidate_xid END,
        visited_at = :now
    FROM seen
    WHERE l.scope_id = seen.scope_id AND l.taskhub = seen.taskhub AND l.protocol = seen.protocol AND l.priority = seen.priority
""")

# The lock keeps out whoever is about to put a task into a lane that looks empty; claims only read lanes and go on.
CLOSE_LANES = (
    text("LOCK TABLE lanes IN SHARE ROW EXCLUSIVE MODE"),
    text("""
        DELETE FROM lanes AS l WHERE NOT EXISTS (
            SELECT FROM queue AS q WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub AND q.priority = l.priority
                AND (l.protocol = '' OR q.protocol = l.protocol)
        )
    """),
)


# Says that something entered some queue.
CHANNEL = "alchemistore_queue"
NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', '')")


def seed(tx: Connection) -> int:
    """Give 63 random bits, from the generator the store was made with."""
    generator: random.Random = tx.get_execution_options().get("generator", _SYSTEM)
    return generator.getrandbits(63)


def refresh(tx: Connection, statement: TextClause, parameters: dict[str, Any]) -> None:
    """Bring the queue rows of tasks in line with the truth.

    Parameters
    ----------
    tx : Connection
        The open transaction, in which the tasks are locked.
    statement : TextClause
        `REFRESH_TASKS`, `REFRESH_CHILDREN` or `REFRESH_DESCENDANTS`: which tasks, seen from the given ones.
    parameters : dict
        ``scope_ids`` and ``tokens`` of the given tasks.
    """
    entered = tx.execute(statement, {**parameters, "now": now(), "seed": seed(tx)}).rowcount
    if entered > 0:
        _notify_now_and_then(tx)


# When this process last notified, by the monotonic clock. Who waits looks again by itself, so one hint a second is plenty; and
# commits that notify go one after the other through PostgreSQL.
_last_notified = 0.0


def _notify_now_and_then(tx: Connection) -> None:
    global _last_notified
    if time.monotonic() - _last_notified > 1:
        _last_notified = time.monotonic()
        tx.execute(NOTIFY)


def tend_queue(tx: Connection) -> None:
    """Keep the queue quick: raise the floors of lanes and close lanes that are empty.

    Floors also rise as tasks end and as registrations are expired; this call is for an operator's schedule, once an hour or so.
    """
    tx.execute(RAISE_FLOORS, {"now": now()})
    for statement in CLOSE_LANES:
        tx.execute(statement)
