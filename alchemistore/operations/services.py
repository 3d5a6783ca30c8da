"""Compute services: registration, heartbeats, failures and removal."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from alchemistore.database.arguments import integer
from alchemistore.database.cutoffs import cutoff, cutoff_parameters
from alchemistore.database.sql import check_limit
from alchemistore.errors import CONSTRAINT_ERRORS, unknown_service
from alchemistore.models import (
    ComputeServiceDetails,
    ComputeServiceID,
    ComputeServiceRegistration,
    Records,
)
from alchemistore.models.clock import now, utc, uuid7
from alchemistore.models.text import escape, unescape
from alchemistore.operations.queue.lanes import RAISE_FLOORS
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.requests import once
from alchemistore.operations.task_sets import row_locations

log = logging.getLogger(__name__)

# Heartbeats are kept and compared by the clock of the database, which is the same for all services
# and servers. A heartbeat is never in the future, so that every silent service expires.
ADD_SERVICE = text("""
    -- The manager of the service, locked so that it cannot be removed before the service is added.
    -- It may be replaced by another manager of the same name meanwhile.
    WITH manager AS MATERIALIZED (
        SELECT name FROM compute_managers WHERE name = :manager_name FOR KEY SHARE
    ),
    added AS (
        INSERT INTO compute_services (
            identifier, hostname, registered_at, heartbeat_at, manager_name
        )
        SELECT :identifier, :hostname, :registered, least(:heartbeat, statement_timestamp()),
            :manager_name
        WHERE CAST(:manager_name AS text) IS NULL OR EXISTS (SELECT FROM manager)
        RETURNING identifier
    ),
    failed AS (
        INSERT INTO service_failures (service, failed_at, token)
        SELECT added.identifier, least(x.failed_at, statement_timestamp()), x.token
        FROM added CROSS JOIN unnest(
            CAST(:failure_times AS timestamptz[]), CAST(:tokens AS uuid[])
        ) AS x (failed_at, token)
    )
    -- Nothing if the manager is not registered.
    SELECT identifier FROM added
""")
FIND_SERVICE = text("SELECT identifier FROM compute_services WHERE identifier = :identifier")
ADD_FAILURE = text("""
    INSERT INTO service_failures (service, failed_at, token)
    -- The registration, locked as a claim locks it. Nothing if it does not exist.
    SELECT identifier,
        least(CAST(:failed AS timestamptz), statement_timestamp()), CAST(:token AS uuid)
    FROM (
        SELECT identifier FROM compute_services WHERE identifier = :identifier FOR KEY SHARE
    ) AS s
""")
COUNT_FAILURES = text(f"""
    WITH
    -- The services that are registered.
    service AS MATERIALIZED (
        SELECT identifier FROM compute_services WHERE identifier = ANY(CAST(:services AS text[]))
    ),
    -- Those with failures to forgive, locked as a claim locks them, so that their removal waits
    -- here and not at the failures.
    locked AS MATERIALIZED (
        SELECT s.identifier FROM compute_services AS s
        WHERE s.identifier = ANY(ARRAY(
            SELECT identifier FROM service WHERE EXISTS (
                SELECT FROM service_failures AS f
                WHERE f.service = service.identifier AND f.failed_at <= {cutoff("forgive_time")}
            )
        ))
        ORDER BY s.identifier FOR KEY SHARE
    ),
    -- Removes the failures to forgive. Skips those that another call is just removing.
    forgiven AS (
        DELETE FROM service_failures WHERE ctid = ANY(ARRAY(
            SELECT f.ctid FROM locked JOIN service_failures AS f ON f.service = locked.identifier
            WHERE f.failed_at <= {cutoff("forgive_time")}
            FOR UPDATE OF f SKIP LOCKED
        ))
    )
    SELECT service.identifier, (
        SELECT count(*) FROM service_failures AS f
        WHERE f.service = service.identifier AND f.failed_at > {cutoff("forgive_time")}
    ) AS failures
    FROM service
""")
QUERY_SERVICES = text(f"""
    SELECT s.identifier, s.hostname, s.registered_at, s.heartbeat_at, s.manager_name,
        ARRAY(
            SELECT f.failed_at FROM service_failures AS f
            WHERE f.service = s.identifier ORDER BY f.failed_at
        ) AS failure_times,
        (SELECT count(*) FROM claims AS c WHERE c.service = s.identifier) AS tasks,
        greatest(statement_timestamp() - s.heartbeat_at, '0') AS silence
    FROM (
        SELECT * FROM compute_services
        WHERE (CAST(:manager_name AS text) IS NULL OR manager_name = :manager_name)
            AND (CAST(:all AS boolean) OR heartbeat_at < {cutoff("expire_time")})
            AND (CAST(:after AS text) IS NULL OR identifier > CAST(:after AS text))
        ORDER BY identifier LIMIT :limit
    ) AS s
    ORDER BY s.identifier
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
LOCK_SILENT_SERVICES = text(f"""
    SELECT identifier FROM compute_services WHERE heartbeat_at < {cutoff("expire_time")}
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
        The registration. Its heartbeat and failures are stored as the database's present time if
        they are later.
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
        If a service with this identifier is already registered, or if the manager that it names is
        not.
    """
    given = compute_service_registration
    values = given.to_dict()
    values["hostname"] = escape(given.hostname)
    values["tokens"] = [uuid7() for _ in given.failure_times]
    if tx.scalar(ADD_SERVICE, values) is None:
        if tx.scalar(FIND_SERVICE, {"identifier": given.identifier}) is not None:
            kind, message = CONSTRAINT_ERRORS["compute_services__pk"]
            raise kind(message)
        raise ValueError(
            f"Could not find ComputeManagerRegistration: no compute manager {given.manager_name!r}"
            " is registered; register it before its services"
        )
    return given.identifier


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
def log_failure_compute_service(
    tx: Connection,
    compute_service_id: str,
    failure_time: datetime | None = None,
    *,
    request: UUID | None = None,
) -> ComputeServiceID:
    """Record that a compute service failed at a task.

    Parameters
    ----------
    compute_service_id : ComputeServiceID or str
        The identifier of the service. Nothing is recorded for one that is not registered: it has
        expired, and a new registration starts without failures.
    failure_time : datetime, optional
        The time of the failure; naive means UTC. A time in the future is stored as the present.
        Default: the present time of the database.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier returns the first
        answer and changes nothing; with other arguments, it is a ValueError.

    Returns
    -------
    ComputeServiceID
        Its identifier.
    """
    moment = None if failure_time is None else utc(failure_time)
    identifier = str(compute_service_id)
    tx.execute(ADD_FAILURE, {"identifier": identifier, "failed": moment, "token": uuid7()})
    return ComputeServiceID(identifier)


def compute_services_can_claim(
    tx: Connection,
    compute_service_ids: Iterable[str | None],
    forgive_time: datetime | timedelta,
    max_failures: int,
) -> list[bool]:
    """Check whether compute services have failed so rarely that they may claim tasks.

    Claims do not check this; a server calls it before. Failures up to `forgive_time` are removed.

    Parameters
    ----------
    compute_service_ids : iterable of ComputeServiceID or str or None
        The identifiers of the services.
    forgive_time : datetime or timedelta
        Only failures after this time count; naive means UTC. With a timedelta, only failures that
        are less long ago, by the clock of the database.
    max_failures : int
        The largest number of failures with which a service may claim.

    Returns
    -------
    list of bool
        One entry per service, in order; False for a service that is not registered.

    Raises
    ------
    ValueError
        If a timedelta is negative.
    TypeError
        If `compute_service_ids` is a single identifier, or `max_failures` is not an integer.
    """
    if isinstance(compute_service_ids, str):
        raise TypeError(
            "expected a list of compute services, not the single identifier"
            f" {compute_service_ids!r}; use compute_service_can_claim"
        )
    most = integer(max_failures, "max_failures")
    since = cutoff_parameters("forgive_time", forgive_time)
    wanted = [None if one is None else str(one) for one in compute_service_ids]
    services = sorted({one for one in wanted if one is not None})
    counts = {
        row.identifier: row.failures
        for row in tx.execute(COUNT_FAILURES, {"services": services, **since})
    }
    return [one in counts and counts[one] <= most for one in wanted]


def compute_service_can_claim(
    tx: Connection,
    compute_service_id: str,
    forgive_time: datetime | timedelta,
    max_failures: int,
) -> bool:
    """Check whether a compute service has failed so rarely that it may claim tasks.

    Claims do not check this; a server calls it before. Failures up to `forgive_time` are removed.

    Parameters
    ----------
    compute_service_id : ComputeServiceID or str
        The identifier of the service.
    forgive_time : datetime or timedelta
        Only failures after this time count; naive means UTC. With a timedelta, only failures that
        are less long ago, by the clock of the database.
    max_failures : int
        The largest number of failures with which a service may claim.

    Returns
    -------
    bool
        False if the service is not registered.

    Raises
    ------
    ValueError
        If a timedelta is negative.
    TypeError
        If `max_failures` is not an integer.
    """
    return compute_services_can_claim(tx, [compute_service_id], forgive_time, max_failures)[0]


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


def query_computeservices(
    tx: Connection,
    *,
    manager_name: str | None = None,
    expire_time: datetime | timedelta | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Records[ComputeServiceDetails]:
    """Find registered compute services, with their heartbeats, failures and tasks.

    Parameters
    ----------
    manager_name : str, optional
        Only services that a compute manager of this name has started.
    expire_time : datetime or timedelta, optional
        Only services that `expire_registrations` would remove with this argument. Default: all.
    limit : int, optional
        Largest number of services to return.
    after : ComputeServiceID or str, optional
        Only services after this identifier; pass the last one of the previous page.

    Returns
    -------
    Records of ComputeServiceDetails
        In the order of their identifiers.

    Raises
    ------
    ValueError
        If `limit` or a timedelta is negative.
    """
    values = {
        "manager_name": manager_name,
        "all": expire_time is None,
        **cutoff_parameters("expire_time", timedelta(0) if expire_time is None else expire_time),
        "limit": check_limit(limit),
        "after": after,
    }
    return Records(
        ComputeServiceDetails(
            registration=ComputeServiceRegistration(
                identifier=row.identifier,
                registered=row.registered_at,
                heartbeat=row.heartbeat_at,
                hostname=unescape(row.hostname),
                failure_times=row.failure_times,
                manager_name=row.manager_name,
            ),
            num_tasks=row.tasks,
            silence=row.silence,
        )
        for row in tx.execute(QUERY_SERVICES, values)
    )


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
    values = cutoff_parameters("expire_time", expire_time)
    if isinstance(expire_time, timedelta):
        reason = f"no heartbeat for more than {expire_time}"
    else:
        reason = f"no heartbeat since before {utc(expire_time).isoformat(timespec='seconds')}"
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
