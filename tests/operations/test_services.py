"""Compute services: registration, heartbeats, expiry and removal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import text

from alchemistore import ComputeServiceID, ComputeServiceRegistration, Scope, ScopedKey, StateStore
from alchemistore.models import clock
from tests.support.campaigns import campaign, chain, register
from tests.support.history import attempts, statuses

NOON = datetime(2024, 1, 19, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
IN_DELHI = timezone(timedelta(hours=5, minutes=30))


def registration(
    identifier: str, heartbeat: datetime = NOON, registered: datetime = NOON
) -> ComputeServiceRegistration:
    return ComputeServiceRegistration(
        identifier=ComputeServiceID(identifier), registered=registered, heartbeat=heartbeat
    )


def services(store: StateStore) -> dict[str, tuple[datetime, datetime]]:
    """When each service registered, and when it was last heard of."""
    with store.engine.connect() as connection:
        rows = connection.execute(
            text("SELECT identifier, registered_at, heartbeat_at FROM compute_services")
        ).all()
    return {row.identifier: (row.registered_at, row.heartbeat_at) for row in rows}


def outcomes(store: StateStore, tasks: Sequence[ScopedKey]) -> list[list[str | None]]:
    return [[attempt.outcome for attempt in attempts(store, task)] for task in tasks]


@pytest.mark.parametrize(
    "identifier",
    ["plain", "with some spaces", 'it\'s "quoted" \\ 100%', "naïve-服务-🧪", "x" * 2000],
)
def test_registration_is_kept_as_given(store: StateStore, identifier: str) -> None:
    answer = store.register_computeservice(registration(identifier, NOON + MINUTE))
    assert (answer, type(answer)) == (identifier, ComputeServiceID)
    assert services(store) == {identifier: (NOON, NOON + MINUTE)}
    assert store.heartbeat_computeservice(identifier, NOON + 2 * MINUTE) == identifier
    assert store.deregister_computeservice(identifier) == identifier
    assert services(store) == {}


def test_second_registration_under_one_identifier_is_refused(store: StateStore) -> None:
    store.register_computeservice(registration("a"))
    with pytest.raises(ValueError, match="already registered"):
        store.register_computeservice(registration("a", NOON + MINUTE, NOON + MINUTE))
    assert services(store) == {"a": (NOON, NOON)}


def test_identifiers_differ_by_case_and_space(store: StateStore) -> None:
    register(store, "a", "A", "a ", " a")
    assert store.deregister_computeservice("a") == "a"
    assert set(services(store)) == {"A", "a ", " a"}


def test_last_heartbeat_counts(store: StateStore) -> None:
    sent = {
        "later": NOON + MINUTE,
        "later, naive": (NOON + MINUTE).replace(tzinfo=None),
        "later, elsewhere": (NOON + MINUTE).astimezone(IN_DELHI),
        "earlier": NOON - MINUTE,
        "earlier, naive": (NOON - MINUTE).replace(tzinfo=None),
        "earlier, elsewhere": (NOON - MINUTE).astimezone(IN_DELHI),
        "not at all": None,
    }
    for name, heartbeat in sent.items():
        store.register_computeservice(registration(name))
        if heartbeat is not None:
            answer = store.heartbeat_computeservice(name, heartbeat)
            assert (answer, type(answer)) == (name, ComputeServiceID)
    moved = {"later": MINUTE, "earlier": -MINUTE, "not at all": timedelta(0)}
    assert services(store) == {name: (NOON, NOON + moved[name.split(",")[0]]) for name in sent}


# clocks


@contextmanager
def clock_off_by(shift: timedelta) -> Iterator[None]:
    """Shift the clock of this process, but not that of the database."""
    original = clock.now
    with pytest.MonkeyPatch.context() as patch:
        for name, module in [*sys.modules.items()]:
            if name.startswith("alchemistore.") and getattr(module, "now", None) is original:
                patch.setattr(module, "now", lambda: original() + shift)
        assert abs(ComputeServiceRegistration.from_now("x").heartbeat - original()) > abs(shift) / 2
        yield


def database_now(store: StateStore) -> datetime:
    with store.engine.connect() as connection:
        found = connection.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(found, datetime)
    return found


def let_pass(store: StateStore, time: timedelta) -> None:
    """Move all heartbeats into the past, as if time had passed."""
    with store.engine.begin() as connection:
        statement = "UPDATE compute_services SET heartbeat_at = heartbeat_at - :time"
        connection.execute(text(statement), {"time": time})


SHIFTS = pytest.mark.parametrize("shift", [-10 * MINUTE, 10 * MINUTE], ids=["behind", "ahead"])


@SHIFTS
@pytest.mark.parametrize("where", ["service", "server"])
def test_wrong_clock_loses_no_live_claim_and_keeps_no_dead_one(
    store: StateStore, scope: Scope, shift: timedelta, where: str
) -> None:
    made = campaign(store, scope, tasks=2)
    of_service = clock_off_by(shift) if where == "service" else nullcontext()
    with of_service:
        for name in ("dead", "live"):
            register(store, name)
            store.heartbeat_computeservice(name)
            assert store.claim_taskhub_tasks(made.hub, name) != [None]
    of_server = clock_off_by(shift) if where == "server" else nullcontext()
    with of_server:
        assert store.expire_registrations(5 * MINUTE) == []
        let_pass(store, 6 * MINUTE)
        with clock_off_by(shift) if where == "service" else nullcontext():
            store.heartbeat_computeservice("live")
        assert store.expire_registrations(5 * MINUTE) == ["dead"]
    assert {*statuses(store, made.tasks)} == {"running", "waiting"}
    assert len(store.get_service_tasks("live")) == 1


def test_heartbeat_in_the_future_is_stored_as_the_present(store: StateStore) -> None:
    future = datetime.now(UTC) + timedelta(days=365)
    before = database_now(store)
    store.register_computeservice(registration("at registration", future))
    store.register_computeservice(registration("later"))
    store.heartbeat_computeservice("later", future)
    store.register_computeservice(registration("naive"))
    store.heartbeat_computeservice("naive", future.replace(tzinfo=None))
    after = database_now(store)
    heartbeats = [heartbeat for _, heartbeat in services(store).values()]
    assert all(before <= heartbeat <= after for heartbeat in heartbeats)
    let_pass(store, MINUTE)
    assert store.expire_registrations(MINUTE) == ["at registration", "later", "naive"]


def test_heartbeat_without_a_time_is_that_of_the_database(store: StateStore) -> None:
    store.register_computeservice(registration("a", datetime.now(UTC)))
    before = database_now(store)
    assert store.heartbeat_computeservice("a") == "a"
    [(_, heartbeat)] = services(store).values()
    assert before <= heartbeat <= database_now(store)
    with pytest.raises(KeyError, match="b"):
        store.heartbeat_computeservice("b")


def test_silence_is_named_as_the_reason(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    register(store, "a")
    store.claim_taskhub_tasks(made.hub, "a")
    let_pass(store, 2 * MINUTE)
    assert store.expire_registrations(MINUTE) == ["a"]
    [attempt] = attempts(store, made.tasks[0])
    assert attempt.reason == "no heartbeat for more than 0:01:00"


def test_negative_silence_is_refused(store: StateStore) -> None:
    register(store, "a")
    with pytest.raises(ValueError, match="expire_time must be 0 or more"):
        store.expire_registrations(-MINUTE)
    assert store.expire_registrations(timedelta(0)) == ["a"]


# registrations


def test_naive_times_of_a_registration_are_utc(store: StateStore) -> None:
    naive = NOON.replace(tzinfo=None)
    store.register_computeservice(registration("a", naive, naive))
    assert services(store) == {"a": (NOON, NOON)}


@pytest.mark.parametrize("past", ["never registered", "deregistered", "expired"])
def test_unknown_service_is_a_key_error(store: StateStore, past: str) -> None:
    if past != "never registered":
        store.register_computeservice(registration("a"))
    if past == "deregistered":
        store.deregister_computeservice("a")
    elif past == "expired":
        assert store.expire_registrations(NOON + MINUTE) == ["a"]
    with pytest.raises(KeyError, match="a"):
        store.heartbeat_computeservice("a", NOON)
    with pytest.raises(KeyError, match="a"):
        store.deregister_computeservice("a")
    assert services(store) == {}
    store.register_computeservice(registration("a"))
    assert store.heartbeat_computeservice("a", NOON) == "a"


def test_heartbeat_strictly_before_the_time_is_expired(store: StateStore) -> None:
    tick = timedelta(microseconds=1)
    store.register_computeservice(registration("same"))
    store.register_computeservice(registration("new", NOON + tick))
    for limit in (NOON, NOON.replace(tzinfo=None), NOON.astimezone(IN_DELHI)):
        for name, heartbeat in {"old": NOON - MINUTE, "just": NOON - tick}.items():
            store.register_computeservice(registration(name, heartbeat, NOON - 2 * MINUTE))
        assert store.expire_registrations(limit - MINUTE) == []
        expired = store.expire_registrations(limit)
        assert expired == ["just", "old"]
        assert {type(name) for name in expired} == {ComputeServiceID}
        assert set(services(store)) == {"same", "new"}
        assert store.expire_registrations(limit) == []


def test_heartbeat_saves_from_expiry(store: StateStore) -> None:
    for name in ("a", "b"):
        store.register_computeservice(registration(name))
    store.heartbeat_computeservice("a", NOON + MINUTE)
    assert store.expire_registrations(NOON + MINUTE) == ["b"]
    assert set(services(store)) == {"a"}


def test_expiry_without_expired_services_returns_nothing(store: StateStore) -> None:
    assert store.expire_registrations(NOON) == []


@pytest.mark.parametrize("outcome", ["deregistered", "expired"])
def test_running_tasks_of_a_lost_service_wait_again(
    store: StateStore, scope: Scope, outcome: str
) -> None:
    made = campaign(store, scope, tasks=6)
    hubs = [made.hub, campaign(store, scope, name="other").hub]
    store.action_tasks(made.tasks, hubs[1])
    for name, heartbeat in {"lost": NOON, "kept": NOON + MINUTE}.items():
        store.register_computeservice(registration(name, heartbeat))
    lost = [task for task in store.claim_taskhub_tasks(made.hub, "lost", count=4) if task]
    kept = [task for task in store.claim_taskhub_tasks(made.hub, "kept", count=2) if task]

    if outcome == "deregistered":
        assert store.deregister_computeservice("lost") == "lost"
    else:
        assert store.expire_registrations(NOON + MINUTE) == ["lost"]

    assert statuses(store, lost + kept) == ["waiting"] * 4 + ["running"] * 2
    assert outcomes(store, lost + kept) == [[outcome]] * 4 + [[None]] * 2
    for task in lost:
        [attempt] = attempts(store, task)
        assert (attempt.service, attempt.attempt) == ("lost", 1)
        assert attempt.ended_at is not None
        assert attempt.ended_at >= attempt.claimed_at
    for hub in hubs:
        assert store.get_taskhub_tasks(hub) == made.tasks
        assert store.get_taskhub_unclaimed_tasks(hub) == sorted(lost)
    again = store.claim_taskhub_tasks(hubs[1], "kept", count=5)
    assert set(again) == {*lost, None}
    assert outcomes(store, lost) == [[outcome, None]] * 4


@pytest.mark.parametrize("outcome", ["deregistered", "expired"])
def test_ended_tasks_of_a_lost_service_keep_their_status(
    store: StateStore, scope: Scope, outcome: str
) -> None:
    made = campaign(store, scope, tasks=7)
    store.register_computeservice(registration("lost"))
    store.claim_taskhub_tasks(made.hub, "lost", count=7)
    ends = ["complete", "error", "invalid", "deleted", "waiting", "waiting", "running"]
    for task, status in zip(made.tasks, ends, strict=True):
        assert store.set_task_status([task], status) == [task]
    by_hand = made.tasks[5]
    assert store.set_task_running([by_hand]) == [by_hand]
    before = [attempts(store, task) for task in made.tasks[:6]]

    if outcome == "deregistered":
        store.deregister_computeservice("lost")
    else:
        store.expire_registrations(NOON + MINUTE)

    assert statuses(store, made.tasks) == [*ends[:5], "running", "waiting"]
    assert [attempts(store, task) for task in made.tasks[:6]] == before
    assert outcomes(store, made.tasks[6:]) == [[outcome]]


def test_cancelled_task_of_a_lost_service_waits_on_no_hub(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=1)
    register(store, "a", "b")
    assert store.claim_taskhub_tasks(made.hub, "a") == made.tasks
    store.cancel_tasks(made.tasks, made.hub)
    store.deregister_computeservice("a")
    assert statuses(store, made.tasks) == ["waiting"]
    assert store.claim_taskhub_tasks(made.hub, "b") == [None]
    store.action_tasks(made.tasks, made.hub)
    assert store.claim_taskhub_tasks(made.hub, "b") == made.tasks


def test_lost_link_of_a_chain_does_not_free_the_next(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    links = chain(store, made.transformations[0], 2)
    store.action_tasks(links, made.hub)
    register(store, "a", "b")
    assert store.claim_taskhub_tasks(made.hub, "a", count=2) == [links[0], None]
    store.deregister_computeservice("a")
    assert store.claim_taskhub_tasks(made.hub, "b", count=2) == [links[0], None]


def test_registering_again_restores_no_claim(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=2)
    store.register_computeservice(registration("a"))
    assert store.claim_taskhub_tasks(made.hub, "a", count=2) != [None, None]
    store.expire_registrations(NOON + MINUTE)
    store.register_computeservice(registration("a"))
    assert store.get_taskhub_unclaimed_tasks(made.hub) == made.tasks
    assert outcomes(store, made.tasks) == [["expired"]] * 2
    assert store.expire_registrations(NOON + MINUTE) == ["a"]
    assert outcomes(store, made.tasks) == [["expired"]] * 2


def test_many_services_expire_at_once_across_scopes(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    here, there = campaign(store, scope, tasks=6), campaign(store, other_scope, tasks=6)
    names = [f"service {i}" for i in range(6)]
    for name in names:
        store.register_computeservice(registration(name))
        for made in (here, there):
            assert store.claim_taskhub_tasks(made.hub, name) != [None]
    store.heartbeat_computeservice(names[0], NOON + MINUTE)
    assert store.expire_registrations(NOON + MINUTE) == names[1:]
    for made in (here, there):
        assert sorted(outcomes(store, made.tasks), key=str) == [["expired"]] * 5 + [[None]]
        assert len(store.get_taskhub_unclaimed_tasks(made.hub)) == 5


# failures


def failures(store: StateStore) -> dict[str, list[datetime]]:
    with store.engine.connect() as connection:
        rows = connection.execute(
            text("SELECT service, failed_at FROM service_failures ORDER BY service, failed_at")
        ).all()
    found: dict[str, list[datetime]] = {}
    for row in rows:
        found.setdefault(row.service, []).append(row.failed_at)
    return found


def test_failures_after_the_time_count(store: StateStore) -> None:
    register(store, "a", "b")
    for moment in (NOON, NOON + MINUTE, NOON + MINUTE, NOON - MINUTE):
        answer = store.log_failure_compute_service("a", moment)
        assert (answer, type(answer)) == ("a", ComputeServiceID)
    assert len(failures(store)["a"]) == 4
    before_all = NOON - 2 * MINUTE
    assert store.compute_services_can_claim(["a"], before_all, 3) == [False]
    assert store.compute_services_can_claim(["a"], before_all, 4) == [True]
    # A failure at that time does not count.
    assert store.compute_service_can_claim("a", NOON.replace(tzinfo=None), 2)
    assert not store.compute_service_can_claim("a", NOON, 1)
    assert store.compute_service_can_claim("b", before_all, 0)
    assert not store.compute_service_can_claim("b", before_all, -1)


def test_forgiven_failures_are_removed(store: StateStore) -> None:
    register(store, "a", "b")
    for name in ("a", "b"):
        for moment in (NOON, NOON + MINUTE):
            store.log_failure_compute_service(name, moment)
    assert store.compute_service_can_claim("a", NOON, 1)
    assert failures(store) == {"a": [NOON + MINUTE], "b": [NOON, NOON + MINUTE]}
    assert store.compute_service_can_claim("a", NOON - MINUTE, 1)


def test_answers_about_services_are_in_the_order_given(store: StateStore) -> None:
    register(store, "a", "b")
    store.log_failure_compute_service("b")
    asked = ["b", None, "a", "unknown", "b", ComputeServiceID("a")]
    answers = [False, False, True, False, False, True]
    assert store.compute_services_can_claim(asked, MINUTE, 0) == answers
    assert store.compute_services_can_claim(iter(asked), MINUTE, 0) == answers
    assert store.compute_services_can_claim([], MINUTE, 0) == []
    assert not store.compute_service_can_claim("unknown", MINUTE, 100)


def test_failure_of_an_unknown_service_is_not_recorded(store: StateStore) -> None:
    assert store.log_failure_compute_service("a", NOON) == "a"
    register(store, "a")
    assert store.compute_service_can_claim("a", NOON - MINUTE, 0)
    assert failures(store) == {}


def test_failures_go_with_the_registration(store: StateStore) -> None:
    register(store, "a", "b")
    for name in ("a", "b"):
        store.log_failure_compute_service(name)
    store.deregister_computeservice("a")
    store.expire_registrations(timedelta(0))
    assert failures(store) == {}
    register(store, "a")
    assert store.compute_service_can_claim("a", MINUTE, 0)


def test_failure_is_at_the_time_of_the_database_and_never_in_the_future(
    store: StateStore,
) -> None:
    register(store, "a")
    before = database_now(store)
    store.log_failure_compute_service("a")
    store.log_failure_compute_service("a", datetime.now(UTC) + timedelta(days=365))
    assert all(before <= moment <= database_now(store) for moment in failures(store)["a"])
    assert not store.compute_service_can_claim("a", MINUTE, 1)
    assert store.compute_service_can_claim("a", timedelta(0), 1)


def test_registration_brings_its_failures(store: StateStore) -> None:
    given = ComputeServiceRegistration(
        identifier=ComputeServiceID("a"),
        registered=NOON,
        heartbeat=NOON,
        failure_times=(NOON, NOON.replace(tzinfo=None), NOON + MINUTE),
    )
    store.register_computeservice(given)
    assert failures(store) == {"a": [NOON, NOON, NOON + MINUTE]}


def test_wrong_arguments_about_failures_are_refused(store: StateStore) -> None:
    register(store, "a")
    wrong: Any
    for wrong in (True, 1.5, "1", None):
        with pytest.raises(TypeError, match=r"max_failures must be (an integer|of type int)"):
            store.compute_service_can_claim("a", NOON, wrong)
    with pytest.raises(TypeError, match="not the single identifier 'a'"):
        store.compute_services_can_claim("a", NOON, 1)
    with pytest.raises(ValueError, match="forgive_time must be 0 or more"):
        store.compute_services_can_claim(["a"], -MINUTE, 1)
    for wrong in (5, "noon"):
        with pytest.raises(TypeError, match="time must be of type"):
            store.compute_services_can_claim(["a"], wrong, 1)
        with pytest.raises(TypeError, match="time must be of type"):
            store.log_failure_compute_service("a", wrong)
    with pytest.raises(ValueError, match="NUL"):
        store.log_failure_compute_service("a\0")
    with pytest.raises(ValueError, match="NUL"):
        store.compute_services_can_claim(["a\0"], NOON, 1)


# Listing


def test_services_are_listed_with_heartbeat_failures_and_tasks(
    store: StateStore, scope: Scope
) -> None:
    made = campaign(store, scope, tasks=3)
    store.register_computeservice(registration("silent", NOON))
    store.register_computeservice(ComputeServiceRegistration.from_now("busy", hostname="\0node"))
    store.log_failure_compute_service("busy", NOON)
    assert store.claim_taskhub_tasks(made.hub, "busy", count=2) != [None, None]
    busy, silent = store.query_computeservices()
    assert silent.registration == registration("silent", NOON)
    assert (silent.num_tasks, silent.silence > timedelta(days=1)) == (0, True)
    assert busy.registration.hostname == "\0node"
    assert busy.registration.failure_times == (NOON,)
    assert (busy.num_tasks, busy.silence >= timedelta(0)) == (2, True)


def test_listed_services_are_limited_to_silent_ones_or_a_page(store: StateStore) -> None:
    for number, name in enumerate(("a", "b", "c")):
        store.register_computeservice(registration(name, NOON + number * MINUTE))

    def names(**conditions: Any) -> list[str]:
        return [one.registration.identifier for one in store.query_computeservices(**conditions)]

    assert names() == ["a", "b", "c"]
    assert names(limit=2) == ["a", "b"]
    assert names(limit=2, after="b") == ["c"]
    assert names(expire_time=NOON + MINUTE) == ["a"]
    assert names(expire_time=timedelta(days=1)) == ["a", "b", "c"]
    assert names(manager_name="east") == []
    assert names(limit=0) == []
    assert store.expire_registrations(NOON + MINUTE) == ["a"]
    with pytest.raises(ValueError, match="limit must be 0 or more"):
        names(limit=-1)
    with pytest.raises(ValueError, match="expire_time must be 0 or more"):
        names(expire_time=-MINUTE)
