"""Compute services with their failures, and compute managers."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection, text

from alchemistore.models import ComputeManagerRegistration, ComputeManagerStatus
from alchemistore.models.text import escape
from alchemistore.neo4j.imports import staging
from alchemistore.neo4j.imports.merge import COUNTS, Merge, merge, remove
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.report import PartReport, first_line

NAMESPACE = UUID("0d6cbb3a-2c5b-4f1e-9a0f-6d0a5a1f7c11")
MERGES = (
    Merge(
        "managers",
        text("""
            DELETE FROM compute_managers AS t WHERE NOT EXISTS (
                SELECT FROM graph_managers AS g WHERE g.name = t.name
            )
            RETURNING 1
        """),
        text(f"""
            WITH new AS (
                INSERT INTO compute_managers AS t (
                    name, uuid, registered_at, status, detail, saturation, status_updated_at
                )
                SELECT name, uuid, registered_at, status, detail, saturation, status_updated_at
                FROM graph_managers ORDER BY name
                ON CONFLICT (name) DO UPDATE SET
                    uuid = excluded.uuid, registered_at = excluded.registered_at,
                    status = excluded.status, detail = excluded.detail,
                    saturation = excluded.saturation,
                    status_updated_at = excluded.status_updated_at
                WHERE (
                    t.uuid, t.registered_at, t.status, t.detail, t.saturation, t.status_updated_at
                ) IS DISTINCT FROM (
                    excluded.uuid, excluded.registered_at, excluded.status, excluded.detail,
                    excluded.saturation, excluded.status_updated_at
                )
                RETURNING xmax = 0 AS added
            ) {COUNTS}
        """),
    ),
    Merge(
        "services",
        None,
        text(f"""
            WITH new AS (
                INSERT INTO compute_services AS t (
                    identifier, registered_at, heartbeat_at, manager_name
                )
                SELECT identifier, registered_at, heartbeat_at, manager_name
                FROM graph_services ORDER BY identifier
                ON CONFLICT (identifier) DO UPDATE SET
                    registered_at = excluded.registered_at, heartbeat_at = excluded.heartbeat_at,
                    manager_name = excluded.manager_name
                WHERE (t.registered_at, t.heartbeat_at, t.manager_name) IS DISTINCT FROM (
                    excluded.registered_at, excluded.heartbeat_at, excluded.manager_name
                )
                RETURNING xmax = 0 AS added
            ) {COUNTS}
        """),
    ),
    Merge(
        "failures of services",
        text("""
            DELETE FROM service_failures AS t WHERE NOT EXISTS (
                SELECT FROM graph_failures AS g
                WHERE (g.service, g.failed_at, g.token) = (t.service, t.failed_at, t.token)
            )
            RETURNING 1
        """),
        text(f"""
            WITH new AS (
                INSERT INTO service_failures (service, failed_at, token)
                SELECT service, failed_at, token FROM graph_failures
                ON CONFLICT DO NOTHING
                RETURNING true AS added
            ) {COUNTS}
        """),
    ),
)
# A service with claims in a scope that was not imported stays.
REMOVE_SERVICES = text("""
    DELETE FROM compute_services AS t
    WHERE NOT EXISTS (SELECT FROM graph_services AS g WHERE g.identifier = t.identifier)
        AND NOT EXISTS (SELECT FROM claims AS c WHERE c.service = t.identifier)
    RETURNING 1
""")


def import_registrations(tx: Connection, report: PartReport, reader: GraphReader) -> None:
    """Make services and managers equal to the graph; services that left it stay for now."""
    staging.create(tx)
    _stage_services(tx, reader)
    managers: dict[str, dict[str, Any]] = {}
    for manager in reader.managers():
        try:
            checked = ComputeManagerRegistration(
                name=manager.name,
                uuid=manager.uuid,
                registered=manager.registered,
                status=ComputeManagerStatus(manager.status),
                detail=manager.detail or None,
                saturation=manager.saturation,
                last_status_update=manager.updated,
            )
        except ValueError as error:
            report.find(manager.name, f"this manager was left out: {first_line(error)}")
            continue
        other = managers.get(checked.name)
        if other is not None:
            report.find(
                manager.name,
                "there are several managers with this name; the one registered last was taken",
            )
        if other is None or other["registered_at"] < checked.registered:
            managers[checked.name] = {
                "name": checked.name,
                "uuid": UUID(hex=checked.uuid),
                "registered_at": checked.registered,
                "status": str(checked.status),
                "detail": escape(checked.detail) or None,
                "saturation": checked.saturation,
                "status_updated_at": checked.last_status_update,
            }
    staging.stage(tx, "managers", managers.values())
    remove(tx, report, MERGES, {})
    merge(tx, report, MERGES, {})


def _stage_services(tx: Connection, reader: GraphReader) -> None:
    services = list(reader.services())
    staging.stage(
        tx,
        "services",
        (
            {
                "identifier": one.identifier,
                "registered_at": one.registered,
                "heartbeat_at": one.heartbeat,
                "manager_name": one.manager,
            }
            for one in services
        ),
    )
    staging.stage(
        tx,
        "failures",
        (
            {
                "service": one.identifier,
                "failed_at": moment,
                "token": uuid5(NAMESPACE, f"{one.identifier} {moment.isoformat()} {place}"),
            }
            for one in services
            for place, moment in enumerate(one.failures)
        ),
    )


def remove_services(tx: Connection, report: PartReport, reader: GraphReader) -> None:
    """Remove the services that the graph does not have, after their claims."""
    staging.create(tx)
    _stage_services(tx, reader)
    report.count("services", removed=tx.execute(REMOVE_SERVICES).rowcount)
