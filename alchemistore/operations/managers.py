"""Compute managers: registration, status, instructions and removal.

A manager starts compute services as long as there are tasks for them. It asks for instructions and
reports its status, which is also its heartbeat.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from alchemistore.database.cutoffs import cutoff, cutoff_parameters
from alchemistore.database.planner import FENCE
from alchemistore.database.sql import check_limit
from alchemistore.models import (
    ComputeManagerDetails,
    ComputeManagerID,
    ComputeManagerInstruction,
    ComputeManagerRegistration,
    ComputeManagerStatus,
    ComputeServiceID,
    Records,
    Scope,
)
from alchemistore.models.clock import utc
from alchemistore.models.compute import require_fitting
from alchemistore.models.text import escape, unescape
from alchemistore.operations.claims import (
    SCOPES_WANTED,
    Protocols,
    parse_protocols,
    parse_scopes,
    scope_lists,
)
from alchemistore.operations.requests import once
from alchemistore.operations.services import compute_services_can_claim

log = logging.getLogger(__name__)

_NEW_MANAGER = """
    INSERT INTO compute_managers (
        name, uuid, registered_at, status, detail, saturation, status_updated_at
    )
    VALUES (
        :name, CAST(:uuid AS uuid), :registered, :status, :detail, :saturation,
        least(CAST(:updated AS timestamptz), statement_timestamp())
    )
"""
# Waits for a call that registers or removes a manager of this name.
ADD_MANAGER = text(f"{_NEW_MANAGER} ON CONFLICT (name) DO NOTHING RETURNING name")
REPLACE_MANAGER = text(f"""
    {_NEW_MANAGER}
    ON CONFLICT (name) DO UPDATE SET
        uuid = excluded.uuid, registered_at = excluded.registered_at, status = excluded.status,
        detail = excluded.detail, saturation = excluded.saturation,
        status_updated_at = excluded.status_updated_at
    WHERE compute_managers.status <> 'ERROR'
    RETURNING name
""")
MANAGER_OF_NAME = text("SELECT uuid, status FROM compute_managers WHERE name = :name")
QUERY_MANAGERS = text("""
    SELECT m.name, m.uuid, m.registered_at, m.status, m.detail, m.saturation, m.status_updated_at,
        (SELECT count(*) FROM compute_services AS s WHERE s.manager_name = m.name) AS services,
        greatest(statement_timestamp() - m.status_updated_at, '0') AS silence
    FROM (
        SELECT * FROM compute_managers
        WHERE CAST(:after AS text) IS NULL OR name > CAST(:after AS text)
        ORDER BY name LIMIT :limit
    ) AS m
    ORDER BY m.name
""")
REMOVE_MANAGER = text("""
    DELETE FROM compute_managers
    WHERE name = :name AND uuid = CAST(:uuid AS uuid)
        AND (status = 'ERROR') = CAST(:errored AS boolean)
    RETURNING name
""")
REMOVE_SILENT_MANAGERS = text(f"""
    DELETE FROM compute_managers WHERE name = ANY(ARRAY(
        SELECT name FROM compute_managers
        WHERE status_updated_at < CASE status
            WHEN 'OK' THEN {cutoff("expire_time_ok")} ELSE {cutoff("expire_time_error")}
        END
        ORDER BY name FOR UPDATE
    ))
    RETURNING name, uuid
""")
SET_MANAGER_STATUS = text("""
    UPDATE compute_managers
    SET status = :status, detail = :detail, saturation = :saturation,
        -- Without a time, `least` returns the time of the database.
        status_updated_at = least(CAST(:updated AS timestamptz), statement_timestamp())
    WHERE name = :name AND uuid = CAST(:uuid AS uuid)
    RETURNING name
""")
# One row without a service if the manager has none, and no row if it is not registered.
SERVICES_OF_MANAGER = text("""
    SELECT s.identifier
    FROM compute_managers AS m LEFT JOIN compute_services AS s ON s.manager_name = m.name
    WHERE m.name = :name AND m.uuid = CAST(:uuid AS uuid)
    ORDER BY s.identifier
""")
COUNT_CLAIMABLE = text(f"""
    -- The tasks by transformation, so that each protocol is looked up once.
    WITH counted AS MATERIALIZED (
        SELECT a.scope_id, t.transformation, count(*) AS tasks FROM (
            -- The actioned tasks; one that is on several hubs counts once.
            SELECT DISTINCT a.scope_id, a.task
            FROM ({SCOPES_WANTED}) AS s JOIN actions AS a ON a.scope_id = s.id
        ) AS a
        -- Looks up each of them, and below the task that it extends, by key.
        CROSS JOIN LATERAL (
            SELECT t.transformation FROM tasks AS t
            WHERE t.scope_id = a.scope_id AND t.token = a.task AND t.status = 'waiting' {FENCE}
        ) AS t
        WHERE coalesce((
            SELECT (
                SELECT p.status FROM tasks AS p WHERE p.scope_id = e.scope_id AND p.token = e.parent
            )
            FROM extends AS e WHERE e.scope_id = a.scope_id AND e.task = a.task
        ), 'complete') = 'complete'
        GROUP BY a.scope_id, t.transformation
    )
    SELECT sum(tasks) FROM counted
    WHERE CAST(:protocols AS text[]) IS NULL OR (
        SELECT tr.protocol FROM transformations AS tr
        WHERE tr.scope_id = counted.scope_id AND tr.token = counted.transformation
    ) = ANY(CAST(:protocols AS text[]))
""")

NO_MANAGER = "no compute manager was found with the given manager name and UUID"


@once()
def register_computemanager(
    tx: Connection,
    compute_manager_registration: ComputeManagerRegistration,
    steal: bool = False,
    *,
    request: UUID | None = None,
) -> ComputeManagerID:
    """Register a compute manager.

    It manages all registered services with its name, also those that an earlier manager of this
    name has left.

    Parameters
    ----------
    compute_manager_registration : ComputeManagerRegistration
        The registration. Its status update is stored as the database's present time if it is later.
    steal : bool, default False
        Replace the manager that is registered under this name, if its status is not ERROR. The
        replaced manager is told to shut down when it asks for instructions.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier returns the first
        answer and changes nothing; with other arguments, it is a ValueError.

    Returns
    -------
    ComputeManagerID
        Its identifier.

    Raises
    ------
    ValueError
        If a manager is registered under this name, and may not be replaced.
    """
    given = compute_manager_registration
    values = {
        "name": given.name,
        "uuid": given.uuid,
        "registered": given.registered,
        "status": given.status.value,
        "detail": escape(given.detail),
        "saturation": given.saturation,
        "updated": given.last_status_update,
    }
    statement = REPLACE_MANAGER if steal else ADD_MANAGER
    while tx.scalar(statement, values) is None:
        holder = tx.execute(MANAGER_OF_NAME, {"name": given.name}).first()
        # It may just have been removed, or its error cleared.
        if holder is not None and not (steal and holder.status != "ERROR"):
            how = "clear its error" if holder.status == "ERROR" else "deregister it, or steal"
            raise ValueError(
                "ComputeManager with this name is already registered with status"
                f" {holder.status}: {given.name}-{holder.uuid.hex}; {how}"
            )
    return given.to_compute_manager_id()


@once(idempotent=True)
def deregister_computemanager(
    tx: Connection, compute_manager_id: str, *, request: UUID | None = None
) -> None:
    """Remove the registration of a compute manager, unless its status is ERROR.

    Its services stay registered. A new manager of the same name takes them over.

    Parameters
    ----------
    compute_manager_id : ComputeManagerID or str
        The identifier of the manager. Nothing happens if it is not registered.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier changes nothing; with
        other arguments, it is a ValueError.

    Raises
    ------
    ValueError
        If it is not the identifier of a manager.
    """
    tx.execute(REMOVE_MANAGER, {**_parts(compute_manager_id), "errored": False})


def expire_computemanager_registrations(
    tx: Connection,
    expire_time_ok: datetime | timedelta,
    expire_time_error: datetime | timedelta,
) -> None:
    """Remove the registrations of silent compute managers.

    Their services stay registered. A new manager of the same name takes them over.

    Parameters
    ----------
    expire_time_ok : datetime or timedelta
        Managers with status OK whose last status update is before this time expire; naive means
        UTC. With a timedelta, those whose last update is longer ago, by the clock of the database.
    expire_time_error : datetime or timedelta
        The same for managers with status ERROR.

    Raises
    ------
    ValueError
        If a timedelta is negative.
    """
    values = {
        **cutoff_parameters("expire_time_ok", expire_time_ok),
        **cutoff_parameters("expire_time_error", expire_time_error),
    }
    silent = sorted(
        f"{row.name}-{row.uuid.hex}" for row in tx.execute(REMOVE_SILENT_MANAGERS, values)
    )
    if silent:
        log.info("%d compute managers expired: %s", len(silent), silent)


def query_computemanagers(
    tx: Connection, *, limit: int | None = None, after: str | None = None
) -> Records[ComputeManagerDetails]:
    """Find registered compute managers, with their status and the number of their services.

    Parameters
    ----------
    limit : int, optional
        Largest number of managers to return.
    after : str, optional
        Only managers after this name; pass the last one of the previous page.

    Returns
    -------
    Records of ComputeManagerDetails
        In the order of their names.

    Raises
    ------
    ValueError
        If `limit` is negative.
    """
    values = {"limit": check_limit(limit), "after": after}
    return Records(
        ComputeManagerDetails(
            registration=ComputeManagerRegistration(
                name=row.name,
                uuid=row.uuid,
                last_status_update=row.status_updated_at,
                status=row.status,
                detail=unescape(row.detail),
                saturation=row.saturation,
                registered=row.registered_at,
            ),
            num_services=row.services,
            silence=row.silence,
        )
        for row in tx.execute(QUERY_MANAGERS, values)
    )


def get_compute_manager_id(tx: Connection, name: str) -> ComputeManagerID | None:
    """Return the identifier of the compute manager with a name; ``None`` if there is none."""
    row = tx.execute(MANAGER_OF_NAME, {"name": name}).first()
    return None if row is None else ComputeManagerID(f"{name}-{row.uuid.hex}")


def get_compute_manager_status(
    tx: Connection, compute_manager_id: str
) -> ComputeManagerStatus | None:
    """Return the status of a compute manager; ``None`` if it is not registered.

    Parameters
    ----------
    compute_manager_id : ComputeManagerID or str
        The identifier of the manager.

    Raises
    ------
    ValueError
        If it is not the identifier of a manager.
    """
    parts = _parts(compute_manager_id)
    row = tx.execute(MANAGER_OF_NAME, {"name": parts["name"]}).first()
    if row is None or row.uuid.hex != parts["uuid"]:
        return None
    return ComputeManagerStatus(row.status)


@once()
def clear_errored_computemanager(
    tx: Connection, compute_manager_id: str | None, *, request: UUID | None = None
) -> None:
    """Remove the registration of a compute manager whose status is ERROR.

    Parameters
    ----------
    compute_manager_id : ComputeManagerID or str or None
        The identifier of the manager. ``None``, which `get_compute_manager_id` returns for an
        unknown name, is like a manager that is not registered.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier changes nothing; with
        other arguments, it is a ValueError.

    Raises
    ------
    ValueError
        If it is not registered, its status is another, or it is not the identifier of a manager.
    """
    if (
        compute_manager_id is None
        or tx.scalar(REMOVE_MANAGER, {**_parts(compute_manager_id), "errored": True}) is None
    ):
        raise ValueError(
            "Could not find an ERROR compute manager with the provided name and UUID:"
            f" {compute_manager_id}"
        )


def update_compute_manager_status(
    tx: Connection,
    compute_manager_id: str,
    status: ComputeManagerStatus | str,
    detail: str | None = None,
    saturation: float | None = None,
    update_time: datetime | None = None,
) -> None:
    """Set the status of a compute manager, which also shows that it is alive.

    Parameters
    ----------
    compute_manager_id : ComputeManagerID or str
        The identifier of the manager.
    status : ComputeManagerStatus or str
        The status.
    detail : str, optional
        Why it is in error. Required for the status ERROR, an error for OK.
    saturation : float, optional
        Share of the services that the manager may start and that run, from 0 to 1. Required for the
        status OK, an error for ERROR.
    update_time : datetime, optional
        The time of the update; naive means UTC. It replaces the last one, even if it is earlier; a
        time in the future is stored as the present. Default: the present time of the database.

    Raises
    ------
    ValueError
        If the manager is not registered, there is no such status, or `detail` and `saturation` do
        not fit it.
    """
    try:
        parsed = ComputeManagerStatus(status)
    except ValueError:
        known = ", ".join(ComputeManagerStatus)
        raise ValueError(
            f'"{status}" is not a valid ComputeManagerStatus: expected one of {known}'
        ) from None
    share = None if saturation is None else _share(saturation)
    require_fitting(parsed, detail, share)
    values = {
        **_parts(compute_manager_id),
        "status": parsed.value,
        "detail": escape(detail) if parsed is ComputeManagerStatus.ERROR else None,
        "saturation": share,
        "updated": None if update_time is None else utc(update_time),
    }
    if tx.scalar(SET_MANAGER_STATUS, values) is None:
        raise ValueError(
            f"No record for ComputeManager: {compute_manager_id}; it has expired or was replaced,"
            " so register it again"
        )


def _share(saturation: float) -> float:
    if isinstance(saturation, bool):
        raise TypeError(f"saturation must be a number, not {saturation!r}")
    try:
        share = float(saturation)
    except (ValueError, OverflowError):
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"saturation must be between 0 and 1, not {saturation!r:.100}")
    return share


def get_computemanager_instruction(
    tx: Connection,
    compute_manager_id: str,
    forgive_time: datetime | timedelta,
    max_failures: int,
    scopes: Iterable[Scope | str],
    protocols: Protocols,
) -> tuple[ComputeManagerInstruction, dict[str, Any]]:
    """Return what a compute manager should do.

    Failures of its services up to `forgive_time` are removed.

    Parameters
    ----------
    compute_manager_id : ComputeManagerID or str
        The identifier of the manager.
    forgive_time : datetime or timedelta
        Only failures after this time count; naive means UTC. With a timedelta, only failures that
        are less long ago, by the clock of the database.
    max_failures : int
        The largest number of failures with which a service may claim.
    scopes : iterable of Scope or str
        Count the tasks in these scopes; open components match anything.
    protocols : str, type, or iterable of them
        Class names of protocols, or classes; count only tasks of transformations that use one of
        them. If empty, any.

    Returns
    -------
    tuple of (ComputeManagerInstruction, dict)
        SHUTDOWN with a ``message`` if the manager is not registered, or was replaced. SKIP with the
        sorted ``compute_service_ids`` of its services if one of them has failed too often. OK with
        these and ``num_tasks``, the number of waiting tasks on any hub, except those that extend an
        incomplete task.

    Raises
    ------
    ValueError
        If it is not the identifier of a manager, a scope or protocol is malformed, or a timedelta
        is negative.
    TypeError
        If `max_failures` is not an integer.
    """
    parts, wanted = _parts(compute_manager_id), parse_scopes(scopes)
    rows = list(tx.scalars(SERVICES_OF_MANAGER, parts))
    services = [ComputeServiceID(identifier) for identifier in rows if identifier is not None]
    may_claim = compute_services_can_claim(tx, services, forgive_time, max_failures)
    if not rows:
        return ComputeManagerInstruction.SHUTDOWN, {"message": NO_MANAGER}
    if not all(may_claim):
        return ComputeManagerInstruction.SKIP, {"compute_service_ids": services}
    return ComputeManagerInstruction.OK, {
        "compute_service_ids": services,
        "num_tasks": _count_claimable(tx, wanted, protocols),
    }


def _count_claimable(tx: Connection, scopes: list[Scope], protocols: Protocols) -> int:
    if not scopes:
        return 0
    several = [protocols] if isinstance(protocols, str | type) else list(protocols)
    values = {
        **scope_lists("in", scopes),
        **scope_lists("out", ()),
        "protocols": parse_protocols(several) if several else None,
    }
    return int(tx.scalar(COUNT_CLAIMABLE, values) or 0)


def _parts(compute_manager_id: str) -> dict[str, Any]:
    if not isinstance(compute_manager_id, str):
        raise ValueError(
            f"expected a ComputeManagerID or its text, not {type(compute_manager_id).__name__}"
        )
    return dict(ComputeManagerID(compute_manager_id).to_dict())
