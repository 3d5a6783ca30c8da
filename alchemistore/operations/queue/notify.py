"""Notification of waiting services when a task enters a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection

if TYPE_CHECKING:
    from alchemistore.database.throttle import Throttle

CHANNEL = "alchemistore_queue"
NOTIFY = f"pg_notify('{CHANNEL}', '')"


def should_notify(tx: Connection) -> bool:
    """Return whether to notify waiting services, if a task enters a queue now.

    One hint a second per store is enough, because waiting services also poll. Commits that notify
    are serialised by PostgreSQL.
    """
    return _throttle(tx).is_due("notify")


def note_notification(tx: Connection) -> None:
    """Record that waiting services are notified."""
    _throttle(tx).note("notify")


def _throttle(tx: Connection) -> Throttle:
    return cast("Throttle", tx.get_execution_options()["throttle"])
