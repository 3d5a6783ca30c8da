"""Lanes: raise their floors as tasks leave the queue, and close empty lanes."""

from __future__ import annotations

from sqlalchemy import Connection, text

from alchemistore.database.together import Together, together
from alchemistore.models.clock import now
from alchemistore.operations.queue.race import largest_race
from alchemistore.operations.requests import forget_requests

# The newest transaction id in use. Transactions newer than the current one may also have drawn
# races from an older clock, if the current one got its id before this statement. No snapshot lists
# them, but each holds a lock on its id.
_NEWEST_XID = """
    CAST(CAST(pg_current_xact_id() AS text) AS bigint) - least(0, (
        SELECT min(age(transactionid)) FROM pg_locks WHERE locktype = 'transactionid'
    ))
"""
# A floor rises in two steps. First, the present clock is noted as candidate, together with the
# newest transaction. When every transaction that was running at that moment has ended, all races
# drawn from an older clock are visible. Then the floor rises to the candidate, or to the smallest
# race in the lane if that is smaller. Read-only transactions do not delay this.
RAISE_FLOORS = text(f"""
    WITH
    -- The lanes not visited for a second, at most a hundred. Locked lanes are skipped, because
    -- another transaction is just visiting them. `place` is the location of the row.
    due AS MATERIALIZED (
        SELECT ctid AS place, scope_id, taskhub, protocol, priority, floor, candidate_xid
        FROM lanes
        WHERE visited_at < CAST(:now AS timestamptz) - interval '1 second'
        ORDER BY visited_at LIMIT 100
        FOR NO KEY UPDATE SKIP LOCKED
    ),
    -- The same lanes with their clock, the smallest race in them, and whether their candidate is
    -- ripe, that is, whether all transactions that it has to wait for have ended.
    seen AS MATERIALIZED (
        SELECT l.place,
            coalesce(
                l.candidate_xid
                    < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint),
                true
            ) AS ripe,
            greatest(
                {largest_race("l", "''")}, {largest_race("l", "l.protocol")}, l.floor
            ) AS clock,
            -- Each kind of lane has an index of its own.
            CASE WHEN l.protocol = ''
                THEN (
                    SELECT race FROM queue AS q
                    WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub
                        AND q.priority = l.priority AND q.race >= l.floor
                    ORDER BY race LIMIT 1
                )
                ELSE (
                    SELECT race FROM queue AS q
                    WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub
                        AND q.protocol = l.protocol AND q.priority = l.priority
                        AND q.race >= l.floor
                    ORDER BY race LIMIT 1
                )
            END AS head
        FROM due AS l
    )
    -- Raises the floor to a ripe candidate and notes the next one.
    UPDATE lanes AS l SET
        floor = CASE WHEN ripe
            THEN greatest(l.floor, least(coalesce(l.candidate, 0), head)) ELSE l.floor END,
        candidate = CASE WHEN ripe THEN clock ELSE l.candidate END,
        candidate_xid = CASE WHEN ripe
            THEN {_NEWEST_XID} ELSE l.candidate_xid END,
        visited_at = :now
    FROM seen WHERE l.ctid = seen.place
""")

# The lock blocks refreshes, which may be about to put a task into a lane that looks empty. Claims
# only read lanes and are not blocked.
CLOSE_LANES = (
    text("LOCK TABLE lanes IN SHARE ROW EXCLUSIVE MODE"),
    text("""
        DELETE FROM lanes AS l WHERE NOT EXISTS (
            SELECT FROM queue AS q
            WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub AND q.priority = l.priority
                AND (l.protocol = '' OR q.protocol = l.protocol)
        )
    """),
)


def raise_floors_throttled(tx: Connection) -> None:
    """Raise the floors of lanes, at most once a second per store."""
    with together(tx) as send:
        raise_floors_with(send)


def raise_floors_with(send: Together) -> None:
    """Raise the floors of lanes, with other statements; see `raise_floors_throttled`."""
    if send.tx.get_execution_options()["throttle"].allows("raise floors"):
        send(RAISE_FLOORS, {"now": now()})


def maintain_queue(tx: Connection) -> None:
    """Raise the floors of lanes, close empty lanes, and forget old request identifiers.

    This keeps claims fast. Identifiers are remembered for at least 7 days. Floors are also raised
    when tasks end and when registrations expire. Schedule this call about once an hour.
    """
    tx.execute(RAISE_FLOORS, {"now": now()})
    forget_requests(tx)
    for statement in CLOSE_LANES:
        tx.execute(statement)
