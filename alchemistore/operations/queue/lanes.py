"""Lanes: their floors rise as tasks leave the queue, and empty lanes are closed."""

from __future__ import annotations

from sqlalchemy import Connection, text

from alchemistore.models.clock import now

# The newest transaction id in use. Transactions newer than the current one may also have drawn keys from an older clock, if the
# current one got its id before the statement. No snapshot lists them, but each holds a lock on its id.
_NEWEST_XID = """
    CAST(CAST(pg_current_xact_id() AS text) AS bigint) - least(0, (
        SELECT min(age(transactionid)) FROM pg_locks WHERE locktype = 'transactionid'
    ))
"""
# A lane's floor rises in two steps. First the present clock is noted as candidate, with the newest transaction. Once every
# transaction that ran at that moment has ended, whatever key it drew from an older clock is visible; then the floor is raised to the
# candidate, or to the smallest key still waiting. An old transaction that only reads holds nothing back.
RAISE_FLOORS = text(f"""
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
        floor = CASE WHEN ripe THEN greatest(l.floor, least(coalesce(l.candidate, 0), head)) ELSE l.floor END,
        candidate = CASE WHEN ripe THEN clock ELSE l.candidate END,
        candidate_xid = CASE WHEN ripe THEN {_NEWEST_XID} ELSE l.candidate_xid END,
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


def raise_floors_throttled(tx: Connection) -> None:
    """Raise the floors of lanes, at most once a second per store."""
    if tx.get_execution_options()["throttle"].allows("raise floors"):
        tx.execute(RAISE_FLOORS, {"now": now()})


def maintain_queue(tx: Connection) -> None:
    """Keep the queue quick: raise the floors of lanes and close lanes that are empty.

    Floors also rise as tasks end and as registrations are expired; this call is for an operator's schedule, once an hour or so.
    """
    tx.execute(RAISE_FLOORS, {"now": now()})
    for statement in CLOSE_LANES:
        tx.execute(statement)
