"""Compute services: registration, heartbeats, and what happens when one goes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from alchemistore.errors import unknown_service
from alchemistore.models import ComputeServiceID, ComputeServiceRegistration
from alchemistore.models.clock import now, utc, uuid7
from alchemistore.operations.queue.lanes import RAISE_FLOORS
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.task_sets import row_locations

REGISTER = text("""
    INSERT INTO compute_services (identifier, hostname, registered_at, heartbeat_at)
    VALUES (:identifier, :hostname, :registered, :heartbeat)
""")
HEARTBEAT = text("""
    UPDATE compute_services SET heartbeat_at = greatest(heartbeat_at, :heartbeat) WHERE identifier = :identifier
    RETURNING identifier
""")
# A claim in progress holds the registration; these wait for it, and no claim begins after them.
LOCK_ONE = text("SELECT identifier FROM compute_services WHERE identifier = :identifier FOR UPDATE")
LOCK_SILENT = text(
    "SELECT identifier FROM compute_services WHERE heartbeat_at < :since ORDER BY identifier FOR UPDATE"
)
LOCK_HELD = text("""
    SELECT t.scope_id, t.token
    FROM (
        SELECT scope_id, task FROM claims WHERE service = ANY(CAST(:services AS text[])) ORDER BY scope_id, task
    ) AS c
    CROSS JOIN LATERAL (
        SELECT t.scope_id, t.token FROM tasks AS t WHERE t.scope_id = c.scope_id AND t.token = c.task FOR NO KEY UPDATE
    ) AS t
""")
RELEASE = text(f"""
    WITH ended AS (
        DELETE FROM claims WHERE service = ANY(CAST(:services AS text[])) RETURNING scope_id, task, attempt
    ),
    closed AS (
        UPDATE attempts SET ended_at = :now, outcome = :outcome, reason = :reason
        WHERE ctid = ANY({row_locations("attempts", "ended")})
    ),
    back AS (
        UPDATE tasks SET status = 'waiting', status_changed_at = :now, reason = :reason
        WHERE ctid = ANY({row_locations("tasks", "ended", "token")}) AND status = 'running'
        RETURNING scope_id, token
    )
    INSERT INTO status_changes (scope_id, task, change, status, changed_at, reason)
    SELECT scope_id, token, :change, 'waiting', :now, :reason FROM back
""")
REMOVE = text("DELETE FROM compute_services WHERE identifier = ANY(CAST(:services AS text[]))")


def register_computeservice(
    tx: Connection, compute_service_registration: ComputeServiceRegistration
) -> ComputeServiceID:
    """Register a compute service, so that it can claim tasks.

    Parameters
    ----------
    compute_service_registration : ComputeServiceRegistration
        Its identifier and times.

    Returns
    -------
    ComputeServiceID
        Its identifier.

    Raises
    ------
    ValueError
        If a service is registered under this identifier already.
    """
    tx.execute(REGISTER, compute_service_registration.to_dict())
    return compute_service_registration.identifier


def heartbeat_computeservice(
    tx: Connection, compute_service_id: str, heartbeat: datetime
) -> ComputeServiceID:
    """Note that a compute service is alive.

    Parameters
    ----------
    compute_service_id : ComputeServiceID or str
        Its identifier.
    heartbeat : datetime
        When it was heard of; naive means UTC. An earlier moment than the one noted changes nothing.

    Returns
    -------
    ComputeServiceID
        Its identifier.

    Raises
    ------
    KeyError
        If it is not registered, or not any more: its claims are gone, and it has to register again.
    """
    found = tx.scalar(
        HEARTBEAT, {"identifier": str(compute_service_id), "heartbeat": utc(heartbeat)}
    )
    if found is None:
        raise unknown_service(compute_service_id)
    return ComputeServiceID(found)


def deregister_computeservice(tx: Connection, compute_service_id: str) -> ComputeServiceID:
    """Remove the registration of a compute service; what it was running is waiting again.

    Parameters
    ----------
    compute_service_id : ComputeServiceID or str
        Its identifier.

    Returns
    -------
    ComputeServiceID
        Its identifier.

    Raises
    ------
    KeyError
        If it is not registered.
    """
    found = tx.scalar(LOCK_ONE, {"identifier": str(compute_service_id)})
    if found is None:
        raise unknown_service(compute_service_id)
    _remove(tx, [found], "deregistered", "the compute service was deregistered")
    return ComputeServiceID(found)


def expire_registrations(tx: Connection, expire_time: datetime) -> list[ComputeServiceID]:
    """Remove the registrations of all compute services not heard of since a moment; what they were running is waiting again.

    Parameters
    ----------
    expire_time : datetime
        Services whose last heartbeat is strictly before it expire; naive means UTC.

    Returns
    -------
    list of ComputeServiceID
        The identifiers removed, in order.
    """
    silent = list(tx.scalars(LOCK_SILENT, {"since": utc(expire_time)}))
    _remove(
        tx,
        silent,
        "expired",
        f"no heartbeat since before {utc(expire_time).isoformat(timespec='seconds')}",
    )
    tx.execute(RAISE_FLOORS, {"now": now()})
    return [ComputeServiceID(identifier) for identifier in silent]


def _remove(tx: Connection, services: Sequence[str], outcome: str, reason: str) -> None:
    if not services:
        return
    held = tx.execute(LOCK_HELD, {"services": services}).all()
    tx.execute(
        RELEASE,
        {
            "services": services,
            "outcome": outcome,
            "reason": reason,
            "now": now(),
            "change": uuid7(),
        },
    )
    tx.execute(REMOVE, {"services": services})
    if held:
        refresh(
            tx, {"scope_ids": [row.scope_id for row in held], "tokens": [row.token for row in held]}
        )
