"""Compute services that claim tasks or fall silent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from alchemistore import (
    ComputeServiceID,
    ComputeServiceRegistration,
    Scope,
    ScopedKey,
    StateStore,
)
from tests.support.campaigns import Campaign, campaign, register

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def register_silent(store: StateStore, *identifiers: str) -> None:
    """Register services whose only heartbeat is years old."""
    for identifier in identifiers:
        store.register_computeservice(
            ComputeServiceRegistration(
                identifier=ComputeServiceID(identifier),
                registered=LONG_AGO,
                heartbeat=LONG_AGO,
                hostname="host",
            )
        )


def expire_silent(store: StateStore) -> list[str]:
    """Expire the silent services only, and return their identifiers."""
    return [
        str(identifier) for identifier in store.expire_registrations(LONG_AGO + timedelta(days=1))
    ]


def campaign_of_one_task(store: StateStore, scope: Scope, *services: str) -> Campaign:
    """Store a task on a hub, and register the silent service `a` and other services."""
    register_silent(store, "a")
    register(store, *services)
    return campaign(store, scope, tasks=1, arms=1)


def claim(store: StateStore, made: Campaign, service: str) -> ScopedKey:
    """Claim one task."""
    [task] = store.claim_taskhub_tasks(made.hub, service)
    assert task is not None
    return task


def claim_rows(store: StateStore) -> list[tuple[str, int]]:
    """Return the service and the attempt number of each claim."""
    with store.engine.connect() as connection:
        return [
            (row.service, row.attempt)
            for row in connection.execute(text("SELECT service, attempt FROM claims"))
        ]
