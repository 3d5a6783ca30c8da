"""Notification: tells waiting services that a task entered some queue."""

from __future__ import annotations

from sqlalchemy import Connection, text

# Says that something entered some queue.
CHANNEL = "alchemistore_queue"
NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', '')")


def notify_throttled(tx: Connection) -> None:
    """Notify waiting services, at most once a second per store.

    One hint a second is enough, because waiting services also poll. Commits that notify are
    serialised by PostgreSQL.
    """
    if tx.get_execution_options()["throttle"].allows("notify"):
        tx.execute(NOTIFY)
