"""Compute managers: registration, status, instructions, expiry and removal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from alchemistore import (
    ComputeManagerID,
    ComputeManagerInstruction,
    ComputeManagerRegistration,
    ComputeManagerStatus,
    ComputeServiceID,
    ComputeServiceRegistration,
    Scope,
    StateStore,
)
from tests.support.campaigns import Campaign, campaign, chain, move_to_status
from tests.support.databases import all_rows
from tests.support.gufe_classes import PushProtocol

NOON = datetime(2024, 1, 19, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FIRST = ComputeManagerID(f"east-{'1' * 32}")
SECOND = ComputeManagerID(f"east-{'2' * 32}")
OTHER = ComputeManagerID(f"west-{'3' * 32}")
ANYWHERE = (Scope(),)
OK, SKIP, SHUTDOWN = ComputeManagerInstruction
REGISTERED = "ComputeManager with this name is already registered with status"
UNKNOWN = "no compute manager was found with the given manager name and UUID"


def registration(identifier: str = FIRST, **more: Any) -> ComputeManagerRegistration:
    made = ComputeManagerRegistration.from_now(identifier)
    return ComputeManagerRegistration.from_dict({**made.to_dict(), **more})


def managers(store: StateStore) -> dict[str, tuple[Any, ...]]:
    """Return the columns of each registered manager but the times, by its identifier."""
    with store.engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM compute_managers ORDER BY name")).all()
    return {f"{row.name}-{row.uuid.hex}": (row.status, row.detail, row.saturation) for row in rows}


def updated(store: StateStore, name: str = "east") -> datetime:
    with store.engine.connect() as connection:
        found = connection.scalar(
            text("SELECT status_updated_at FROM compute_managers WHERE name = :name"),
            {"name": name},
        )
    assert isinstance(found, datetime)
    return found


def database_now(store: StateStore) -> datetime:
    with store.engine.connect() as connection:
        found = connection.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(found, datetime)
    return found


def start(store: StateStore, *names: str, manager: str | None = "east") -> None:
    """Register services of a manager."""
    for name in names:
        store.register_computeservice(
            ComputeServiceRegistration.from_now(name, manager_name=manager)
        )


def instruction(
    store: StateStore,
    identifier: str = FIRST,
    most: int = 0,
    scopes: Any = ANYWHERE,
    protocols: Any = (),
) -> tuple[ComputeManagerInstruction, dict[str, Any]]:
    return store.get_computemanager_instruction(identifier, MINUTE, most, scopes, protocols)


def fail(store: StateStore, identifier: str = FIRST) -> None:
    store.update_compute_manager_status(identifier, "ERROR", "it broke")


# registration


def test_registration_is_kept_as_given(store: StateStore) -> None:
    given = registration(saturation=0.25, registered=NOON, last_status_update=NOON)
    answer = store.register_computemanager(given)
    assert (answer, type(answer)) == (FIRST, ComputeManagerID)
    assert managers(store) == {FIRST: ("OK", "", 0.25)}
    with store.engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM compute_managers")).one()
    assert (row.uuid, row.registered_at, row.status_updated_at) == (UUID("1" * 32), NOON, NOON)
    found = store.get_compute_manager_id("east")
    assert (found, type(found)) == (FIRST, ComputeManagerID)
    assert store.get_compute_manager_status(FIRST) is ComputeManagerStatus.OK


def test_registration_in_error_keeps_any_detail(store: StateStore) -> None:
    detail = "naïve 'quoted' \0 \ud800"
    given = registration(status="ERROR", detail=detail, saturation=None)
    store.register_computemanager(given)
    [(status, kept, saturation)] = managers(store).values()
    assert (status, kept, saturation) == ("ERROR", "naïve 'quoted' \x1a0000 \x1ad800", None)


def test_unknown_manager_has_no_id_and_no_status(store: StateStore) -> None:
    store.register_computemanager(registration())
    assert store.get_compute_manager_id("EAST") is None
    assert store.get_compute_manager_id("") is None
    assert store.get_compute_manager_status(SECOND) is None
    assert store.get_compute_manager_status(OTHER) is None


@pytest.mark.parametrize("steal", [False, True])
@pytest.mark.parametrize("status", ["OK", "ERROR"])
def test_second_manager_of_a_name_is_refused_or_steals_from_one_that_is_ok(
    store: StateStore, status: str, steal: bool
) -> None:
    store.register_computemanager(registration())
    if status == "ERROR":
        fail(store)
    before = all_rows(store)
    if status == "OK" and steal:
        assert store.register_computemanager(registration(SECOND), steal=True) == SECOND
        assert managers(store) == {SECOND: ("OK", "", 0.0)}
        return
    for again in (FIRST, SECOND):
        with pytest.raises(ValueError, match=f"{REGISTERED} {status}: {FIRST}"):
            store.register_computemanager(registration(again), steal=steal)
    assert all_rows(store) == before


def test_manager_steals_a_name_that_nobody_has(store: StateStore) -> None:
    assert store.register_computemanager(registration(), steal=True) == FIRST
    assert store.register_computemanager(registration(OTHER), steal=True) == OTHER
    assert [*managers(store)] == [FIRST, OTHER]


def test_replaced_manager_shuts_down_and_its_services_belong_to_the_new_one(
    store: StateStore,
) -> None:
    store.register_computemanager(registration())
    start(store, "b", "a")
    store.register_computemanager(registration(SECOND), steal=True)
    assert instruction(store) == (SHUTDOWN, {"message": UNKNOWN})
    assert instruction(store, SECOND) == (
        OK,
        {"compute_service_ids": ["a", "b"], "num_tasks": 0},
    )
    with pytest.raises(ValueError, match=f"No record for ComputeManager: {FIRST}"):
        store.update_compute_manager_status(FIRST, "OK", saturation=0)
    store.deregister_computemanager(FIRST)
    with pytest.raises(ValueError, match="Could not find an ERROR compute manager"):
        store.clear_errored_computemanager(FIRST)
    assert [*managers(store)] == [SECOND]


def test_status_update_in_the_future_is_stored_as_the_present(store: StateStore) -> None:
    future = datetime.now(UTC) + timedelta(days=365)
    before = database_now(store)
    store.register_computemanager(registration(last_status_update=future))
    assert before <= updated(store) <= database_now(store)
    store.update_compute_manager_status(FIRST, "OK", None, 0.5, future)
    assert before <= updated(store) <= database_now(store)


# services


def test_service_of_an_unknown_manager_is_refused(store: StateStore) -> None:
    store.register_computemanager(registration(OTHER))
    before = all_rows(store)
    with pytest.raises(ValueError, match=r"Could not find ComputeManagerRegistration.*'east'"):
        start(store, "a")
    assert all_rows(store) == before


def test_registered_service_is_refused_whatever_its_manager(store: StateStore) -> None:
    start(store, "a", manager=None)
    before = all_rows(store)
    with pytest.raises(ValueError, match="already registered under this identifier"):
        start(store, "a")
    assert all_rows(store) == before


def test_services_outlive_their_manager_and_are_taken_over(store: StateStore) -> None:
    store.register_computemanager(registration())
    store.register_computemanager(registration(OTHER))
    start(store, "a", "b")
    start(store, "c", manager="west")
    start(store, "d", manager=None)
    store.deregister_computemanager(FIRST)
    assert instruction(store)[0] is SHUTDOWN
    for name in ("a", "b", "d"):
        assert store.heartbeat_computeservice(name) == name
    store.register_computemanager(registration(SECOND))
    assert instruction(store, SECOND)[1]["compute_service_ids"] == ["a", "b"]
    store.deregister_computeservice("b")
    [found] = instruction(store, SECOND)[1]["compute_service_ids"]
    assert (found, type(found)) == ("a", ComputeServiceID)
    assert instruction(store, OTHER)[1]["compute_service_ids"] == ["c"]


# status


def test_status_replaces_detail_and_saturation(store: StateStore) -> None:
    store.register_computemanager(registration(last_status_update=NOON))
    store.update_compute_manager_status(FIRST, ComputeManagerStatus.OK, saturation=1)
    assert managers(store) == {FIRST: ("OK", None, 1.0)}
    store.update_compute_manager_status(FIRST, "ERROR", detail="x")
    assert managers(store) == {FIRST: ("ERROR", "x", None)}
    assert store.get_compute_manager_status(FIRST) is ComputeManagerStatus.ERROR
    store.update_compute_manager_status(FIRST, "OK", "", 0.5)
    assert managers(store) == {FIRST: ("OK", None, 0.5)}


def test_status_update_is_at_the_time_of_the_database_or_at_the_one_given(
    store: StateStore,
) -> None:
    store.register_computemanager(registration(last_status_update=NOON))
    before = database_now(store)
    store.update_compute_manager_status(FIRST, "OK", saturation=0)
    assert before <= updated(store) <= database_now(store)
    naive = (NOON - MINUTE).replace(tzinfo=None)
    store.update_compute_manager_status(FIRST, "OK", saturation=0, update_time=naive)
    assert updated(store) == NOON - MINUTE


@pytest.mark.parametrize(
    ("status", "detail", "saturation", "message"),
    [
        ("INVALID", None, None, '"INVALID" is not a valid ComputeManagerStatus'),
        ("ok", None, 0.5, '"ok" is not a valid ComputeManagerStatus'),
        (None, None, 0.5, '"None" is not a valid ComputeManagerStatus'),
        ("OK", None, None, "saturation is required for the 'OK' status"),
        ("OK", "x", 0.5, "detail should only be provided for the 'ERROR' status"),
        ("OK", None, -1, "saturation must be between 0 and 1"),
        ("OK", None, 1.01, "saturation must be between 0 and 1"),
        ("OK", None, float("nan"), "saturation must be between 0 and 1"),
        ("OK", None, "much", "saturation must be between 0 and 1"),
        ("ERROR", "x", 0.5, "saturation should only be provided for the 'OK' status"),
        ("ERROR", None, None, "detail is required for the 'ERROR' status"),
        ("ERROR", "", None, "detail is required for the 'ERROR' status"),
    ],
)
def test_status_that_does_not_fit_is_refused(
    store: StateStore, status: Any, detail: Any, saturation: Any, message: str
) -> None:
    store.register_computemanager(registration())
    before = all_rows(store)
    with pytest.raises(ValueError, match=message):
        store.update_compute_manager_status(FIRST, status, detail, saturation)
    assert all_rows(store) == before


def test_saturation_is_a_number_and_no_truth_value(store: StateStore) -> None:
    store.register_computemanager(registration())
    wrong: Any
    for wrong in (True, []):
        with pytest.raises(TypeError, match="saturation"):
            store.update_compute_manager_status(FIRST, "OK", saturation=wrong)


def test_status_of_an_unknown_manager_is_refused(store: StateStore) -> None:
    store.register_computemanager(registration())
    for unknown in (SECOND, OTHER, str(OTHER)):
        with pytest.raises(ValueError, match=f"No record for ComputeManager: {unknown}"):
            store.update_compute_manager_status(unknown, "OK", saturation=0)
    assert managers(store) == {FIRST: ("OK", "", 0.0)}


# removal


def test_deregistration_keeps_a_manager_in_error_until_it_is_cleared(store: StateStore) -> None:
    store.register_computemanager(registration())
    store.register_computemanager(registration(OTHER))
    with pytest.raises(ValueError, match="Could not find an ERROR compute manager"):
        store.clear_errored_computemanager(FIRST)
    fail(store)
    store.deregister_computemanager(FIRST)
    store.deregister_computemanager(OTHER)
    store.deregister_computemanager(OTHER)
    assert [*managers(store)] == [FIRST]
    with pytest.raises(
        ValueError,
        match="Could not find an ERROR compute manager with the provided name and UUID",
    ):
        store.clear_errored_computemanager(SECOND)
    store.clear_errored_computemanager(FIRST)
    assert managers(store) == {}
    with pytest.raises(ValueError, match="Could not find an ERROR compute manager"):
        store.clear_errored_computemanager(store.get_compute_manager_id("east"))


def test_error_is_cleared_in_a_transaction_passed_by_keyword(store: StateStore) -> None:
    store.register_computemanager(registration())
    fail(store)
    calls: Any = store
    with pytest.raises(InterruptedError), store.transaction() as tx:
        found = calls.get_compute_manager_id(name="east", tx=tx)
        calls.clear_errored_computemanager(found, tx=tx)
        assert calls.get_compute_manager_status(found, tx=tx) is None
        raise InterruptedError
    assert [*managers(store)] == [FIRST]


def test_silent_managers_expire_by_their_status(store: StateStore) -> None:
    tick = timedelta(microseconds=1)
    for age, name in enumerate(("new", "just", "old")):
        for status in ("OK", "ERROR"):
            identifier = f"{name}_{status}-{'1' * 32}"
            store.register_computemanager(
                registration(
                    identifier,
                    status=status,
                    detail="x" if status == "ERROR" else "",
                    saturation=0.5 if status == "OK" else None,
                    last_status_update=NOON - age * tick,
                )
            )

    def names() -> list[str]:
        return [identifier.partition("-")[0] for identifier in managers(store)]

    store.expire_computemanager_registrations(NOON - 2 * tick, NOON - 2 * tick)
    assert len(names()) == 6
    store.expire_computemanager_registrations(NOON.replace(tzinfo=None), NOON - tick)
    assert names() == ["just_ERROR", "new_ERROR", "new_OK"]
    store.expire_computemanager_registrations(NOON - MINUTE, NOON + tick)
    assert names() == ["new_OK"]


def test_managers_expire_by_the_clock_of_the_database(store: StateStore) -> None:
    store.register_computemanager(registration(last_status_update=datetime.now(UTC) - MINUTE))
    store.expire_computemanager_registrations(2 * MINUTE, timedelta(0))
    assert [*managers(store)] == [FIRST]
    store.expire_computemanager_registrations(MINUTE, timedelta(days=1))
    assert managers(store) == {}
    for negative in ((-MINUTE, MINUTE), (MINUTE, -MINUTE)):
        with pytest.raises(ValueError, match=r"expire_time_\w+ must be 0 or more"):
            store.expire_computemanager_registrations(*negative)


# instructions


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Six tasks on a hub, and the manager `east`."""
    store.register_computemanager(registration())
    return campaign(store, scope, tasks=6)


def count(store: StateStore, scopes: Any = ANYWHERE, protocols: Any = ()) -> int:
    answer, data = instruction(store, scopes=scopes, protocols=protocols)
    assert answer is OK
    assert {*data} == {"compute_service_ids", "num_tasks"}
    return int(data["num_tasks"])


def test_tasks_that_can_be_started_are_counted_once(
    store: StateStore, made: Campaign, scope: Scope, other_scope: Scope
) -> None:
    assert count(store) == 6
    # On two hubs, with weight 0, on a hub of weight 0.
    other = campaign(store, scope, name="other")
    store.action_tasks(made.tasks, other.hub)
    store.set_task_weights(made.tasks[:2], made.hub, 0)
    store.set_taskhub_weight(made.network, 0)
    assert count(store) == 6
    move_to_status(store, made.tasks[:1], "running")
    move_to_status(store, made.tasks[1:2], "error")
    assert count(store) == 4
    # Not on a hub.
    store.create_task(made.transformations[0])
    store.cancel_tasks(made.tasks[2:3], made.hub)
    assert count(store) == 4
    store.cancel_tasks(made.tasks[2:3], other.hub)
    assert count(store) == 3
    campaign(store, other_scope, tasks=2)
    assert count(store) == 5


def test_tasks_that_extend_an_incomplete_task_are_not_counted(
    store: StateStore, made: Campaign
) -> None:
    links = chain(store, made.transformations[0], 3)
    store.action_tasks(links[1:], made.hub)
    assert count(store) == 6
    store.set_task_running(links[:1])
    store.set_task_complete(links[:1])
    assert count(store) == 7


def test_tasks_of_some_scopes_and_protocols_are_counted(
    store: StateStore, made: Campaign, scope: Scope, other_scope: Scope
) -> None:
    campaign(store, other_scope, tasks=2)
    assert count(store, [scope]) == 6
    assert count(store, [str(other_scope)]) == 2
    assert count(store, [scope, Scope("org"), scope]) == 8
    assert count(store, [Scope("nobody")]) == 0
    assert count(store, []) == 0
    for protocols in ("PushProtocol", PushProtocol, ["NoProtocol", "PushProtocol"]):
        assert count(store, [scope], protocols) == 6
    for other in (["NoProtocol"], ["ChemicalSystem"], ["Protocol"], ["pushprotocol"]):
        assert count(store, [scope], other) == 0


def test_service_with_too_many_failures_makes_the_manager_skip(
    store: StateStore, made: Campaign
) -> None:
    start(store, "b", "a")
    for _ in range(2):
        store.log_failure_compute_service("b")
    both = ["a", "b"]
    assert instruction(store, most=1) == (SKIP, {"compute_service_ids": both})
    assert instruction(store, most=2) == (OK, {"compute_service_ids": both, "num_tasks": 6})
    # The failures are forgiven, for good.
    later = datetime.now(UTC) + MINUTE
    answer, _ = store.get_computemanager_instruction(FIRST, later, 0, [], [])
    assert answer is OK
    assert store.compute_service_can_claim("b", NOON, 0)


def test_manager_in_error_gets_instructions(store: StateStore, made: Campaign) -> None:
    fail(store)
    assert count(store) == 6


def test_wrong_arguments_of_an_instruction_are_refused(store: StateStore, made: Campaign) -> None:
    with pytest.raises(ValueError, match="is not a protocol"):
        instruction(store, protocols=["not a name"])
    with pytest.raises(ValueError, match="not a scope"):
        instruction(store, scopes=["nonsense"])
    with pytest.raises(TypeError, match="max_failures must be an integer"):
        instruction(store, most=True)
    with pytest.raises(ValueError, match="forgive_time must be 0 or more"):
        store.get_computemanager_instruction(FIRST, -MINUTE, 0, [], [])


@pytest.mark.parametrize(
    "wrong",
    ["", "east", "east-", f"1st-{'1' * 32}", f"a b-{'1' * 32}", f"a-b-{'1' * 32}", "east-1\0", 5],
)
def test_text_that_is_no_identifier_of_a_manager_is_refused(store: StateStore, wrong: Any) -> None:
    for call in (
        store.get_compute_manager_status,
        store.deregister_computemanager,
        store.clear_errored_computemanager,
        lambda one: store.update_compute_manager_status(one, "OK", saturation=0),
        lambda one: instruction(store, one),
    ):
        with pytest.raises(ValueError, match=r"<name>-<uuid>|expected a ComputeManagerID"):
            call(wrong)


def test_managers_are_listed_with_status_and_services(store: StateStore) -> None:
    for identifier in (OTHER, FIRST):
        store.register_computemanager(registration(identifier, last_status_update=NOON))
    start(store, "a", "b")
    start(store, "c", manager=None)
    store.update_compute_manager_status(OTHER, "ERROR", detail="it \0 broke")
    east, west = store.query_computemanagers()
    assert east.registration.to_compute_manager_id() == FIRST
    assert (east.num_services, east.silence > timedelta(days=1)) == (2, True)
    assert (west.registration.name, west.num_services) == ("west", 0)
    assert west.registration.status == ComputeManagerStatus.ERROR
    assert west.registration.detail == "it \0 broke"
    assert [one.registration.name for one in store.query_computemanagers(limit=1)] == ["east"]
    assert [one.registration.name for one in store.query_computemanagers(after="east")] == ["west"]
    assert store.query_computeservices(manager_name="west") == []
    assert len(store.query_computeservices(manager_name="east")) == 2
    with pytest.raises(ValueError, match="limit must be 0 or more"):
        store.query_computemanagers(limit=-1)
