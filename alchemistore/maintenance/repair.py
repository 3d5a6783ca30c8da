"""Repair: the queue, a cache, is made again from the truth."""

from __future__ import annotations

from sqlalchemy import Connection, text

from alchemistore.maintenance.invariants import CLAIMABLE
from alchemistore.models import QueueRepair
from alchemistore.operations.queue.refresh import refresh

# So many tasks are put into the queue in one statement.
BATCH = 10_000

# Who is about to write there has locked its tasks and does so afterwards, from what it sees then.
LOCK = text("LOCK TABLE queue, lanes IN SHARE ROW EXCLUSIVE MODE")

# What compares whole tables needs to know how large they are; after a restore from a backup nobody may have looked yet.
ANALYZE = text("ANALYZE tasks, extends, actions, transformations, queue, lanes")

CLOSE_IMPOSSIBLE_LANES = text("DELETE FROM lanes WHERE floor < 0 OR floor >= 'Infinity'")
REMOVE = (
    text(f"""
        DELETE FROM queue AS q WHERE NOT EXISTS (
            SELECT FROM ({CLAIMABLE}) AS t
            WHERE (t.scope_id, t.taskhub, t.task, t.priority, t.protocol, t.weight)
                = (q.scope_id, q.taskhub, q.task, q.priority, q.protocol, q.weight)
        )
    """),
    # What no claim can see: a lane for its protocol or the one for all is closed, or has its floor above it.
    text("""
        DELETE FROM queue AS q WHERE 2 > (
            SELECT count(*) FROM lanes AS l
            WHERE l.scope_id = q.scope_id AND l.taskhub = q.taskhub AND l.priority = q.priority
                AND l.protocol IN ('', q.protocol) AND l.floor <= q.race
        )
    """),
)
LACKING = text(f"""
    SELECT t.scope_id, t.task, count(*) AS hubs FROM ({CLAIMABLE}) AS t
    WHERE NOT EXISTS (
        SELECT FROM queue AS q WHERE q.scope_id = t.scope_id AND q.task = t.task AND q.taskhub = t.taskhub
    )
    GROUP BY t.scope_id, t.task
    ORDER BY t.scope_id, t.task
""")


def repair_queue(tx: Connection) -> QueueRepair:
    """Make the queue again what it must be, from tasks and actions, which stay as they are. Claims wait meanwhile.

    Returns
    -------
    QueueRepair
        The numbers of entries removed and added.
    """
    tx.execute(ANALYZE)
    tx.execute(LOCK)
    tx.execute(CLOSE_IMPOSSIBLE_LANES)
    removed = sum(tx.execute(statement).rowcount for statement in REMOVE)
    lacking = tx.execute(LACKING).all()
    for start in range(0, len(lacking), BATCH):
        batch = lacking[start : start + BATCH]
        refresh(
            tx,
            {"scope_ids": [row.scope_id for row in batch], "tokens": [row.task for row in batch]},
        )
    return QueueRepair(removed=removed, added=sum(row.hubs for row in lacking))
