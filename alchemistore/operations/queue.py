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

# Finds a row of `queue` beside its scope and task: by a comparison of hubs that no index serves, for the other indexes begin with the
# hub, and without statistics they look as good as the key.
SAME_HUB = "q.taskhub IS NOT DISTINCT FROM {}.taskhub"

# The tasks a statement is about, as (scope_id, task); each once.
TASKS = "SELECT scope_id, task FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) AS x (scope_id, task)"

# From tasks to rows of a large table goes a LATERAL with OFFSET 0, or a subquery for one value: then each is looked up by the key,
# whatever the statistics say of the tables. A join of lists that exist only in the statement has no key, and none is joined here.
_BELOW = """
    CROSS JOIN LATERAL (
        SELECT e.scope_id, e.task FROM extends AS e WHERE e.scope_id = {above}.scope_id AND e.parent = {above}.task OFFSET 0
    ) AS e
"""
CHILDREN = f"{TASKS} UNION SELECT e.scope_id, e.task FROM ({TASKS}) AS x {_BELOW.format(above='x')}"


def tree(roots: str) -> str:
    """Give the body of a recursive query called `tree`: tasks, and all that extends them, directly or not."""
    return f"{roots} UNION SELECT e.scope_id, e.task FROM tree {_BELOW.format(above='tree')}"


DESCENDANTS = f"WITH RECURSIVE tree (scope_id, task) AS ({tree(TASKS)}) SELECT scope_id, task FROM tree"


def places(table: str, tasks: str, key: str = "task") -> str:
    """Give an array of the places (`ctid`) of the rows of a table that belong to tasks, which must be locked: then no row moves.

    A statement that changes ``WHERE ctid = ANY(places)`` looks each row up by its key, as the above.

    Parameters
    ----------
    table : str
        The table; it has the columns scope_id and `key`.
    tasks : str
        What precedes in the statement with the columns scope_id and task, and, for attempts, attempt.
    key : str, default "task"
        The column of the table that holds the task.
    """
    and_attempt = f"AND x.attempt = {tasks}.attempt" if table == "attempts" else ""
    return f"""ARRAY(
        SELECT x.ctid FROM {tasks} CROSS JOIN LATERAL (
            SELECT x.ctid FROM {table} AS x WHERE x.scope_id = {tasks}.scope_id AND x.{key} = {tasks}.task {and_attempt} OFFSET 0
        ) AS x
    )"""


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


def _lock(tasks: str) -> TextClause:
    return text(f"""
        SELECT count(*) FROM (
            SELECT FROM (SELECT scope_id, task FROM ({tasks}) AS x ORDER BY scope_id, task) AS x
            CROSS JOIN LATERAL (
                SELECT FROM tasks AS t WHERE t.scope_id = x.scope_id AND t.token = x.task FOR NO KEY UPDATE
            ) AS t
        ) AS locked
    """)


# About tasks, or them and what extends them, directly or down to the end.
_REACH = {"tasks": TASKS, "children": CHILDREN, "descendants": DESCENDANTS}
LOCK = {reach: _lock(tasks) for reach, tasks in _REACH.items()}
REFRESH = {reach: _refresh(tasks) for reach, tasks in _REACH.items()}

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


def lock(tx: Connection, tasks: dict[str, Any], reach: str = "tasks") -> int:
    """Lock tasks until the end of the transaction.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    tasks : dict
        Their ``scope_ids`` and ``tokens``, as of :attr:`Keys.parameters`.
    reach : "tasks", "children" or "descendants", default "tasks"
        Whether to lock what extends them, too.

    Returns
    -------
    int
        How many there are.
    """
    return tx.execute(LOCK[reach], tasks).scalar_one()  # type: ignore[no-any-return]  # count(*)


def refresh(tx: Connection, tasks: dict[str, Any], reach: str = "tasks") -> None:
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
