"""Rebuild the queue from tasks, extends and actions, and make up for restarts."""

from __future__ import annotations

import logging

from sqlalchemy import Connection, text

from alchemistore.maintenance.invariants import CLAIMABLE, UNDECIDED
from alchemistore.models import QueueRepair
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.restarts import resolve

log = logging.getLogger(__name__)

# Number of tasks that one statement adds to the queue.
BATCH = 10_000

# Block concurrent refreshes. A writer that waits here already holds the locks of its tasks, and
# reads the tables again after this transaction has committed.
LOCK = text("LOCK TABLE queue, lanes IN SHARE ROW EXCLUSIVE MODE")

# The statements compare whole tables, so the planner needs statistics. After a restore from a
# backup there are none.
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
    # Rows that no claim can see: one of their two lanes is closed or has a higher floor.
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
        SELECT FROM queue AS q
        WHERE q.scope_id = t.scope_id AND q.task = t.task AND q.taskhub = t.taskhub
    )
    GROUP BY t.scope_id, t.task
    ORDER BY t.scope_id, t.task
""")
# A role that only reads is refused although there is nothing to repair.
REQUIRE_RIGHT = text("LOCK TABLE actions IN ROW EXCLUSIVE MODE")
FIND_UNDECIDED = text(f"{UNDECIDED} ORDER BY scope_id, token LIMIT :limit")


def repair_queue(tx: Connection) -> QueueRepair:
    """Rebuild wrong and missing entries of the queue. Claims wait meanwhile.

    Tasks, extends and actions are not modified.

    Returns
    -------
    QueueRepair
        The numbers of removed and added entries.
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
    repair = QueueRepair(removed=removed, added=sum(row.hubs for row in lacking))
    if repair.removed or repair.added:
        log.warning(
            "the queue was wrong: removed %d entries and added %d", repair.removed, repair.added
        )
    return repair


def repair_restarts(tx: Connection) -> int:
    """Restart failed tasks about which restart patterns have not decided, or remove them from hubs.

    A server that ends between storing a failure and applying the patterns leaves such tasks. The
    patterns decide as in `resolve_task_restarts`.

    Returns
    -------
    int
        The number of these tasks, at most 10,000; call it again for more.
    """
    tx.execute(REQUIRE_RIGHT)
    rows = tx.execute(FIND_UNDECIDED, {"limit": BATCH}).all()
    if rows:
        tasks = {"scope_ids": [row.scope_id for row in rows], "tokens": [row.token for row in rows]}
        resolve(tx, tasks)
        log.warning("restart patterns were applied to %d failed tasks that had waited", len(rows))
    return len(rows)
