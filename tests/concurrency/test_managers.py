"""Concurrent calls about compute managers and failures of services."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import text

from alchemistore import (
    ComputeManagerID,
    ComputeManagerInstruction,
    ComputeManagerRegistration,
    ComputeServiceRegistration,
    Scope,
    StateStore,
)
from tests.support.campaigns import campaign, register
from tests.support.concurrency import (
    Running,
    committed_or_rolled_back,
    run_concurrently,
    run_while_open,
)

N = 6
MINUTE = timedelta(minutes=1)
LONG_AGO = datetime(2024, 1, 19, tzinfo=UTC)
FIRST, SECOND = (ComputeManagerID(f"east-{digit * 32}") for digit in "12")
RIVALS = [ComputeManagerID(f"east-{number:032x}") for number in range(N)]


def manager(
    identifier: ComputeManagerID, last_status_update: datetime | None = None
) -> ComputeManagerRegistration:
    made = ComputeManagerRegistration.from_now(identifier).to_dict()
    if last_status_update is not None:
        made["last_status_update"] = last_status_update
    return ComputeManagerRegistration.from_dict(made)


def service(name: str) -> ComputeServiceRegistration:
    return ComputeServiceRegistration.from_now(name, manager_name="east")


def told(store: StateStore, identifier: ComputeManagerID) -> ComputeManagerInstruction:
    return store.get_computemanager_instruction(identifier, MINUTE, 0, [], [])[0]


def services_of(store: StateStore, identifier: ComputeManagerID) -> list[str]:
    found: list[str] = store.get_computemanager_instruction(identifier, MINUTE, 0, [], [])[1][
        "compute_service_ids"
    ]
    return found


# registration


def test_one_of_several_managers_of_a_name_is_registered(store: StateStore) -> None:
    def attempt(identifier: ComputeManagerID) -> ComputeManagerID | None:
        try:
            return store.register_computemanager(manager(identifier))
        except ValueError:
            return None

    answers = run_concurrently([partial(attempt, one) for one in RIVALS])
    [winner] = [answer for answer in answers if answer is not None]
    assert store.get_compute_manager_id("east") == winner


def test_last_of_several_thieves_has_the_name_and_all_services(store: StateStore) -> None:
    store.register_computemanager(manager(FIRST))
    for name in ("a", "b"):
        store.register_computeservice(service(name))
    answers = run_concurrently(
        [partial(store.register_computemanager, manager(one), steal=True) for one in RIVALS]
    )
    assert answers == RIVALS
    holder = store.get_compute_manager_id("east")
    assert holder in RIVALS
    instructions = Counter(told(store, one) for one in [FIRST, *RIVALS])
    assert instructions == {
        ComputeManagerInstruction.SHUTDOWN: N,
        ComputeManagerInstruction.OK: 1,
    }
    assert services_of(store, holder) == ["a", "b"]


@committed_or_rolled_back
@pytest.mark.parametrize("steal", [False, True])
def test_registration_waits_for_another_of_the_same_name(
    store: StateStore, steal: bool, commit: bool
) -> None:
    _, second = run_while_open(
        store,
        lambda tx: tx.register_computemanager(manager(FIRST)),
        partial(store.register_computemanager, manager(SECOND), steal=steal),
        commit=commit,
    )
    assert second.waited
    if commit and not steal:
        with pytest.raises(ValueError, match=f"already registered with status OK: {FIRST}"):
            second.result()
        assert store.get_compute_manager_id("east") == FIRST
    else:
        assert second.result() == SECOND
        assert store.get_compute_manager_id("east") == SECOND


@committed_or_rolled_back
@pytest.mark.parametrize("way", ["expiry", "deregistration", "cleared error"])
def test_registration_waits_for_the_removal_of_the_holder(
    store: StateStore, way: str, commit: bool
) -> None:
    store.register_computemanager(manager(FIRST, LONG_AGO))
    if way == "cleared error":
        store.update_compute_manager_status(FIRST, "ERROR", "x")

    def remove(tx: StateStore) -> None:
        if way == "expiry":
            tx.expire_computemanager_registrations(MINUTE, MINUTE)
        elif way == "deregistration":
            tx.deregister_computemanager(FIRST)
        else:
            tx.clear_errored_computemanager(FIRST)

    _, second = run_while_open(
        store, remove, partial(store.register_computemanager, manager(SECOND)), commit=commit
    )
    assert second.waited
    if commit:
        assert second.result() == SECOND
        assert told(store, FIRST) is ComputeManagerInstruction.SHUTDOWN
    else:
        with pytest.raises(ValueError, match="already registered"):
            second.result()
        assert told(store, FIRST) is ComputeManagerInstruction.OK


@committed_or_rolled_back
def test_thief_waits_for_the_error_of_the_holder(store: StateStore, commit: bool) -> None:
    store.register_computemanager(manager(FIRST))
    _, thief = run_while_open(
        store,
        lambda tx: tx.update_compute_manager_status(FIRST, "ERROR", "it broke"),
        partial(store.register_computemanager, manager(SECOND), steal=True),
        commit=commit,
    )
    assert thief.waited
    if commit:
        with pytest.raises(ValueError, match="already registered with status ERROR"):
            thief.result()
        assert store.get_compute_manager_id("east") == FIRST
    else:
        assert thief.result() == SECOND


@committed_or_rolled_back
def test_status_of_a_manager_that_is_just_replaced_is_refused(
    store: StateStore, commit: bool
) -> None:
    store.register_computemanager(manager(FIRST))
    _, update = run_while_open(
        store,
        lambda tx: tx.register_computemanager(manager(SECOND), steal=True),
        partial(store.update_compute_manager_status, FIRST, "ERROR", "it broke"),
        commit=commit,
    )
    assert update.waited
    if commit:
        with pytest.raises(ValueError, match=f"No record for ComputeManager: {FIRST}"):
            update.result()
        assert store.get_compute_manager_status(SECOND) == "OK"
    else:
        update.result()
        assert store.get_compute_manager_status(FIRST) == "ERROR"


# expiry


@committed_or_rolled_back
def test_status_update_before_expiry_keeps_the_manager(store: StateStore, commit: bool) -> None:
    store.register_computemanager(manager(FIRST, LONG_AGO))
    _, expiry = run_while_open(
        store,
        lambda tx: tx.update_compute_manager_status(FIRST, "OK", saturation=1),
        partial(store.expire_computemanager_registrations, MINUTE, MINUTE),
        commit=commit,
    )
    assert expiry.waited
    expiry.result()
    assert store.get_compute_manager_id("east") == (FIRST if commit else None)


def test_silent_managers_expire_once_in_concurrent_calls(store: StateStore) -> None:
    for number in range(20):
        identifier = ComputeManagerID.new_from_name(f"manager{number}")
        store.register_computemanager(manager(identifier, LONG_AGO))
    store.register_computemanager(manager(FIRST))
    run_concurrently([partial(store.expire_computemanager_registrations, MINUTE, MINUTE)] * N)
    with store.engine.connect() as connection:
        names = connection.scalars(text("SELECT name FROM compute_managers")).all()
    assert names == ["east"]


# services


@committed_or_rolled_back
def test_service_waits_for_the_removal_of_its_manager(store: StateStore, commit: bool) -> None:
    store.register_computemanager(manager(FIRST))
    _, registered = run_while_open(
        store,
        lambda tx: tx.deregister_computemanager(FIRST),
        partial(store.register_computeservice, service("a")),
        commit=commit,
    )
    assert registered.waited
    if commit:
        with pytest.raises(ValueError, match="Could not find ComputeManagerRegistration"):
            registered.result()
    else:
        assert registered.result() == "a"
        assert services_of(store, FIRST) == ["a"]


@committed_or_rolled_back
def test_removal_of_a_manager_waits_for_its_new_service(store: StateStore, commit: bool) -> None:
    store.register_computemanager(manager(FIRST))
    _, removal = run_while_open(
        store,
        lambda tx: tx.register_computeservice(service("a")),
        partial(store.deregister_computemanager, FIRST),
        commit=commit,
    )
    assert removal.waited
    removal.result()
    store.register_computemanager(manager(SECOND))
    assert services_of(store, SECOND) == (["a"] if commit else [])


def test_services_register_while_their_manager_is_replaced(store: StateStore) -> None:
    store.register_computemanager(manager(FIRST))
    with store.transaction() as tx:
        tx.register_computemanager(manager(SECOND), steal=True)
        answers = run_concurrently(
            [partial(store.register_computeservice, service(name)) for name in ("a", "b")]
        )
        assert answers == ["a", "b"]
        assert services_of(store, FIRST) == ["a", "b"]
    assert told(store, FIRST) is ComputeManagerInstruction.SHUTDOWN
    assert services_of(store, SECOND) == ["a", "b"]


# failures


def test_no_failure_is_lost(store: StateStore) -> None:
    register(store, "a")
    run_concurrently([partial(store.log_failure_compute_service, "a")] * N)
    assert not store.compute_service_can_claim("a", MINUTE, N - 1)
    assert store.compute_service_can_claim("a", MINUTE, N)


def test_failures_are_forgiven_in_concurrent_calls_with_services_in_any_order(
    store: StateStore,
) -> None:
    names = [f"service {number}" for number in range(20)]
    register(store, *names)
    for name in names:
        store.log_failure_compute_service(name, LONG_AGO)
    calls = [
        partial(store.compute_services_can_claim, order, MINUTE, 0)
        for order in (names, names[::-1]) * 3
    ]
    assert run_concurrently(calls) == [[True] * 20] * 6
    assert store.compute_services_can_claim(names, LONG_AGO - MINUTE, 0) == [True] * 20


def test_check_and_claim_in_one_transaction_do_not_deadlock_with_removal(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=1)
    register(store, "a")
    store.log_failure_compute_service("a", LONG_AGO)
    with store.transaction() as tx:
        assert tx.compute_service_can_claim("a", MINUTE, 0)
        removal = Running(partial(store.deregister_computeservice, "a"))
        assert removal.waits_for(tx)
        assert tx.claim_taskhub_tasks(made.hub, "a") == made.tasks
    assert removal.result() == "a"
    assert store.get_taskhub_unclaimed_tasks(made.hub) == made.tasks
