"""Notification of waiting services when a task enters a queue."""

from __future__ import annotations

from sqlalchemy import Connection, text

CHANNEL = "alchemistore_queue"
NOTIFY_WAITING_SERVICES = text(f"SELECT pg_notify('{CHANNEL}', '')")


def notify_throttled(tx: Connection) -> None:
    """Notify waiting services, at most once a second per store.

    One hint a second is enough, because waiting services also poll. Commits that notify are
    serialised by PostgreSQL.
    """
    if tx.get_execution_options()["throttle"].allows("notify"):
        tx.execute(NOTIFY_WAITING_SERVICES)
