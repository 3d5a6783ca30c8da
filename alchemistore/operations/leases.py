"""Leases: one process at a time has a task, as long as it renews its lease."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, text

from alchemistore.models.text import IDENTIFIER_MAX, check_length

# The lease of the process that does the regular work of a store.
MAINTENANCE = "maintenance"

# Waits for a transaction that takes or releases the same lease. The time of the statement is before
# the end that such a transaction has set, so that only one of them gets the lease.
ACQUIRE_LEASE = text("""
    INSERT INTO leases AS l (name, holder, ends_at)
    VALUES (:name, :holder, statement_timestamp() + CAST(:duration AS interval))
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, ends_at = excluded.ends_at
    WHERE l.holder = excluded.holder OR l.ends_at <= statement_timestamp()
    RETURNING name
""")
RELEASE_LEASE = text("""
    UPDATE leases SET ends_at = statement_timestamp()
    WHERE name = :name AND holder = :holder AND ends_at > statement_timestamp()
    RETURNING name
""")


def acquire_lease(tx: Connection, name: str, holder: str, duration: timedelta) -> bool:
    """Acquire or renew a lease, unless somebody else has it.

    Processes that call this regularly agree on one of them, also behind a pooler. The holder has
    the lease until `duration` after its last call, by the clock of the database. A holder that is
    suspended does not notice that its lease ends, so what it does must be harmless if two do it.

    Parameters
    ----------
    name : str
        What the lease is about; at most 2,000 bytes.
    holder : str
        Identifies the process among all that want the lease; at most 2,000 bytes.
    duration : timedelta
        How long the lease lasts unless it is renewed.

    Returns
    -------
    bool
        Whether `holder` has the lease now.

    Raises
    ------
    ValueError
        If a text is empty or too long, or `duration` is not positive.
    """
    if duration <= timedelta(0):
        raise ValueError(f"duration must be positive, not {duration}")
    values = {**_names(name, holder), "duration": duration}
    return tx.scalar(ACQUIRE_LEASE, values) is not None


def release_lease(tx: Connection, name: str, holder: str) -> bool:
    """Release a lease, so that another process can acquire it at once.

    Parameters
    ----------
    name : str
        What the lease is about.
    holder : str
        The process that has it.

    Returns
    -------
    bool
        Whether `holder` had the lease.

    Raises
    ------
    ValueError
        If a text is empty or too long.
    """
    return tx.scalar(RELEASE_LEASE, _names(name, holder)) is not None


def _names(name: str, holder: str) -> dict[str, str]:
    for what, given in (("name", name), ("holder", holder)):
        if not given:
            raise ValueError(f"{what} must not be empty")
        check_length(what, given, IDENTIFIER_MAX)
    return {"name": name, "holder": holder}
