"""Pairs of open transactions on a compute manager and its services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from alchemistore import (
    ComputeManagerID,
    ComputeManagerRegistration,
    ComputeServiceRegistration,
    StateStore,
)
from tests.support.pairs import Act, Pairs

NOON = datetime(2024, 1, 19, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Arena:
    """A silent manager with a service that has failed, and a manager that may replace it."""

    name: str
    present: ComputeManagerID
    rival: ComputeManagerID
    service: str


def registration(identifier: ComputeManagerID) -> ComputeManagerRegistration:
    fields = ComputeManagerRegistration.from_now(identifier).to_dict()
    return ComputeManagerRegistration.from_dict({**fields, "last_status_update": NOON})


class Ring:
    """A source of arenas, each with names of its own."""

    def __init__(self, store: StateStore) -> None:
        self.store, self.count = store, 0

    @contextmanager
    def arena(self, *names: str) -> Iterator[Arena]:
        """Return the start for these calls: a manager in error for `clear`."""
        self.count += 1
        name = f"manager{self.count}"
        present, rival = (ComputeManagerID(f"{name}-{digit * 32}") for digit in "12")
        arena = Arena(name, present, rival, f"service {self.count}")
        self.store.register_computemanager(registration(present))
        add_service(self.store, arena)
        self.store.log_failure_compute_service(arena.service, NOON - MINUTE)
        if "clear" in names:
            self.store.update_compute_manager_status(present, "ERROR", "full", None, NOON)
        yield arena
        # Otherwise the next arena would expire this one, too.
        for one in (present, rival):
            if self.store.get_compute_manager_status(one) is not None:
                self.store.update_compute_manager_status(one, "OK", None, 0.5)

    def outcome(self, arena: Arena) -> object:
        return {
            one: (
                self.store.get_compute_manager_status(identifier),
                instruction(self.store, arena, identifier),
            )
            for one, identifier in {"present": arena.present, "rival": arena.rival}.items()
        }


def instruction(store: StateStore, arena: Arena, identifier: ComputeManagerID) -> object:
    told, about = store.get_computemanager_instruction(identifier, NOON, 0, [], [])
    services = about.get("compute_service_ids", [])
    return told, [service.removeprefix(arena.service) for service in services]


def add_service(store: StateStore, arena: Arena, suffix: str = "") -> None:
    store.register_computeservice(
        ComputeServiceRegistration.from_now(f"{arena.service}{suffix}", manager_name=arena.name)
    )


def is_rival(identifier: ComputeManagerID, arena: Arena) -> bool:
    return identifier == arena.rival


ACTS: dict[str, Act[Arena]] = {
    "register": lambda tx, arena: is_rival(
        tx.register_computemanager(registration(arena.rival)), arena
    ),
    "steal": lambda tx, arena: is_rival(
        tx.register_computemanager(registration(arena.rival), steal=True), arena
    ),
    "deregister": lambda tx, arena: tx.deregister_computemanager(arena.present),
    "expire": lambda tx, arena: tx.expire_computemanager_registrations(
        NOON + MINUTE, NOON - MINUTE
    ),
    "report": lambda tx, arena: tx.update_compute_manager_status(arena.present, "OK", None, 0.25),
    "report error": lambda tx, arena: tx.update_compute_manager_status(
        arena.present, "ERROR", "full"
    ),
    "clear": lambda tx, arena: tx.clear_errored_computemanager(arena.present),
    "add service": lambda tx, arena: add_service(tx, arena, " two"),
    "ask": lambda tx, arena: instruction(tx, arena, arena.present),
    "fail": lambda tx, arena: (
        tx.log_failure_compute_service(arena.service, NOON + MINUTE) == arena.service
    ),
    "forgive": lambda tx, arena: tx.compute_services_can_claim([arena.service], NOON, 0),
    "remove service": lambda tx, arena: (
        tx.deregister_computeservice(arena.service) == arena.service
    ),
}


# Each pair once. The last four are about the services.
PARTNERS = {
    "register": ["register", "steal", "deregister", "expire", "clear", "add service"],
    "steal": ["steal", "deregister", "expire", "report", "report error", "clear", "add service"],
    "deregister": ["deregister", "expire", "report error", "add service", "ask"],
    "expire": ["expire", "report", "report error", "clear", "add service"],
    "report": ["report", "report error", "clear", "ask"],
    "clear": ["clear", "add service"],
    "ask": ["fail", "remove service", "add service"],
    "forgive": ["fail", "forgive", "remove service"],
    "fail": ["fail", "remove service"],
}


@pytest.mark.parametrize("one", PARTNERS)
def test_calls_of_managers_have_the_effect_of_a_serial_order(store: StateStore, one: str) -> None:
    # The early ones only read, apart from failures that are forgiven.
    pairs = Pairs(store, Ring(store), ACTS, early=("ask", "forgive"))
    pairs.require_serial_orders(one, PARTNERS[one])
