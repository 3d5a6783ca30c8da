"""Compute services: registration, heartbeats and removal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from alchemistore.errors import unknown_service
from alchemistore.models import ComputeServiceID, ComputeServiceRegistration
from alchemistore.models.clock import now, utc, uuid7
from alchemistore.models.text import escape
from alchemistore.operations.queue.lanes import RAISE_FLOORS
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.requests import once
from alchemistore.operations.task_sets import row_locations

log = logging.getLogger(__name__)

# Heartbeats are kept and compared by the clock of the database, which is the same for all services
# and servers. A heartbeat is never in the future, so that every silent service expires.
ADD_SERVICE = text("""
    INSERT INTO compute_services (identifier, hostname, registered_at, heartbeat_at)
    VALUES (:identifier, :hostname, :registered, least(:heartbeat, statement_timestamp()))
""")
# Without a time, `least` returns the time of the database.
RECORD_HEARTBEAT = text("""
    UPDATE compute_services
    SET heartbeat_at = least(CAST(:heartbeat AS timestamptz), statement_timestamp())
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
    WHERE heartbeat_at < coalesce(
        CAST(:since AS timestamptz), statement_timestamp() - CAST(:silence AS interval)
    )
    ORDER BY identifier FOR UPDATE
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


@once()
def register_computeservice(
    tx: Connection,
    compute_service_registration: ComputeServiceRegistration,
    *,
    request: UUID | None = None,
) -> ComputeServiceID:
    """Register a compute service, so that it can claim tasks.

    Parameters
    ----------
    compute_service_registration : ComputeServiceRegistration
        The registration. Its heartbeat is stored as the database's present time if it is later.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier returns the first
        answer and changes nothing; with other arguments, it is a ValueError.

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
    tx: Connection, compute_service_id: str, heartbeat: datetime | None = None
) -> ComputeServiceID:
    """Record that a compute service is alive.

    Parameters
    ----------
    compute_service_id : ComputeServiceID or str
        The identifier of the service.
    heartbeat : datetime, optional
        The time of the heartbeat; naive means UTC. It replaces the last one, even if it is earlier;
        a time in the future is stored as the present. Default: the present time of the database,
        so that the clock of the service does not matter.

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
    moment = None if heartbeat is None else utc(heartbeat)
    values = {"identifier": str(compute_service_id), "heartbeat": moment}
    found = tx.scalar(RECORD_HEARTBEAT, values)
    if found is None:
        raise unknown_service(compute_service_id)
    return ComputeServiceID(found)


@once()
def deregister_computeservice(
    tx: Connection, compute_service_id: str, *, request: UUID | None = None
) -> ComputeServiceID:
    """Remove the registration of a compute service and set its running tasks to waiting.

    Parameters
    ----------
    compute_service_id : ComputeServiceID or str
        The identifier of the service.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier returns the first
        answer and changes nothing; with other arguments, it is a ValueError.

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
    released = _remove(tx, [found], "deregistered", "the compute service was deregistered")
    log.info("compute service %s was deregistered; it held %d tasks", found, released)
    return ComputeServiceID(found)


def expire_registrations(
    tx: Connection, expire_time: datetime | timedelta
) -> list[ComputeServiceID]:
    """Remove the registrations of silent compute services and set their tasks to waiting.

    Parameters
    ----------
    expire_time : datetime or timedelta
        Services whose last heartbeat is before this time expire; naive means UTC. With a timedelta,
        those whose last heartbeat is longer ago, by the clock of the database.

    Returns
    -------
    list of ComputeServiceID
        The identifiers of the removed services, sorted.

    Raises
    ------
    ValueError
        If a timedelta is negative.
    """
    values: dict[str, datetime | timedelta | None] = {"since": None, "silence": None}
    if isinstance(expire_time, timedelta):
        if expire_time < timedelta(0):
            raise ValueError(f"expire_time must be 0 or more, not {expire_time}")
        values["silence"], reason = expire_time, f"no heartbeat for more than {expire_time}"
    else:
        values["since"] = since = utc(expire_time)
        reason = f"no heartbeat since before {since.isoformat(timespec='seconds')}"
    silent = list(tx.scalars(LOCK_SILENT_SERVICES, values))
    released = _remove(tx, silent, "expired", reason)
    if silent:
        log.info("%d compute services expired and held %d tasks: %s", len(silent), released, silent)
    tx.execute(RAISE_FLOORS, {"now": now()})
    return [ComputeServiceID(identifier) for identifier in silent]


def _remove(tx: Connection, services: Sequence[str], outcome: str, reason: str) -> int:
    """Remove services and return the number of tasks that they held."""
    if not services:
        return 0
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
    return len(held)
