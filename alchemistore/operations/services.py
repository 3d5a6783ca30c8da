"""Compute services: registration, heartbeats and removal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from alchemistore.errors import unknown_service
from alchemistore.models import ComputeServiceID, ComputeServiceRegistration
from alchemistore.models.clock import now, utc, uuid7
from alchemistore.models.text import escape
from alchemistore.operations.queue.lanes import RAISE_FLOORS
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.task_sets import row_locations

ADD_SERVICE = text("""
    INSERT INTO compute_services (identifier, hostname, registered_at, heartbeat_at)
    VALUES (:identifier, :hostname, :registered, :heartbeat)
""")
RECORD_HEARTBEAT = text("""
    UPDATE compute_services SET heartbeat_at = greatest(heartbeat_at, :heartbeat)
    WHERE identifier = :identifier
    RETURNING identifier
""")
# A running claim locks the registration of its service. These statements wait for running claims
# and prevent new ones.
LOCK_SERVICE = text("""
    SELECT identifier FROM compute_services WHERE identifier = :identifier FOR UPDATE
""")
LOCK_SILENT_SERVICES = text("""
    SELECT identifier FROM compute_services
    WHERE heartbeat_at < :since ORDER BY identifier FOR UPDATE
""")
LOCK_TASKS_OF_SERVICES = text("""
    SELECT t.scope_id, t.token
    FROM (
        SELECT scope_id, task FROM claims
        WHERE service = ANY(CAST(:services AS text[])) ORDER BY scope_id, task
    ) AS c
    -- Looks up and locks each task by key, one by one and in order.
    CROSS JOIN LATERAL (
        SELECT t.scope_id, t.token FROM tasks AS t
        WHERE t.scope_id = c.scope_id AND t.token = c.task FOR NO KEY UPDATE
    ) AS t
""")
RELEASE_TASKS_OF_SERVICES = text(f"""
    WITH
    -- Ends the claims of the services.
    ended AS (
        DELETE FROM claims WHERE service = ANY(CAST(:services AS text[]))
        RETURNING scope_id, task, attempt
    ),
    -- Records how the attempts with these claims ended.
    closed AS (
        UPDATE attempts SET ended_at = :now, outcome = :outcome, reason = :reason
        WHERE ctid = ANY({row_locations("attempts", "ended")})
    ),
    -- Sets their tasks back to waiting.
    back AS (
        UPDATE tasks SET status = 'waiting', status_changed_at = :now, reason = :reason
        WHERE ctid = ANY({row_locations("tasks", "ended", "token")}) AND status = 'running'
        RETURNING scope_id, token
    )
    -- Adds the changes to the history of the tasks.
    INSERT INTO status_changes (scope_id, task, change, status, changed_at, reason)
    SELECT scope_id, token, :change, 'waiting', :now, :reason FROM back
""")
REMOVE_SERVICES = text("""
    DELETE FROM compute_services WHERE identifier = ANY(CAST(:services AS text[]))
""")


def register_computeservice(
    tx: Connection, compute_service_registration: ComputeServiceRegistration
) -> ComputeServiceID:
    """Register a compute service, so that it can claim tasks.

    Parameters
    ----------
    compute_service_registration : ComputeServiceRegistration
        The registration.

    Returns
    -------
    ComputeServiceID
        Its identifier.

    Raises
    ------
    ValueError
        If a service with this identifier is already registered.
    """
    values = compute_service_registration.to_dict()
    values["hostname"] = escape(compute_service_registration.hostname)
    tx.execute(ADD_SERVICE, values)
    return compute_service_registration.identifier


def heartbeat_computeservice(
    tx: Connection, compute_service_id: str, heartbeat: datetime
) -> ComputeServiceID:
    """Record that a compute service is alive.

    Parameters
    ----------
    compute_service_id : ComputeServiceID or str
        The identifier of the service.
    heartbeat : datetime
        The time of the heartbeat; naive means UTC. A time before the last heartbeat has no effect.

    Returns
    -------
    ComputeServiceID
        Its identifier.

    Raises
    ------
    KeyError
        If it is not registered. A service whose registration expired has lost its claims and must
        register again.
    """
    found = tx.scalar(
        RECORD_HEARTBEAT, {"identifier": str(compute_service_id), "heartbeat": utc(heartbeat)}
    )
    if found is None:
        raise unknown_service(compute_service_id)
    return ComputeServiceID(found)


def deregister_computeservice(tx: Connection, compute_service_id: str) -> ComputeServiceID:
    """Remove the registration of a compute service and set its running tasks to waiting.

    Parameters
    ----------
    compute_service_id : ComputeServiceID or str
        The identifier of the service.

    Returns
    -------
    ComputeServiceID
        Its identifier.

    Raises
    ------
    KeyError
        If it is not registered.
    """
    found = tx.scalar(LOCK_SERVICE, {"identifier": str(compute_service_id)})
    if found is None:
        raise unknown_service(compute_service_id)
    _remove(tx, [found], "deregistered", "the compute service was deregistered")
    return ComputeServiceID(found)


def expire_registrations(tx: Connection, expire_time: datetime) -> list[ComputeServiceID]:
    """Remove the registrations of silent compute services and set their tasks to waiting.

    Parameters
    ----------
    expire_time : datetime
        Services whose last heartbeat is before this time expire; naive means UTC.

    Returns
    -------
    list of ComputeServiceID
        The identifiers of the removed services, sorted.
    """
    silent = list(tx.scalars(LOCK_SILENT_SERVICES, {"since": utc(expire_time)}))
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
    held = tx.execute(LOCK_TASKS_OF_SERVICES, {"services": services}).all()
    tx.execute(
        RELEASE_TASKS_OF_SERVICES,
        {
            "services": services,
            "outcome": outcome,
            "reason": reason,
            "now": now(),
            "change": uuid7(),
        },
    )
    tx.execute(REMOVE_SERVICES, {"services": services})
    if held:
        refresh(
            tx, {"scope_ids": [row.scope_id for row in held], "tokens": [row.token for row in held]}
        )
