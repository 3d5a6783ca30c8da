"""Identifiers and registrations of compute services and managers."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from alchemistore import (
    ComputeManagerID,
    ComputeManagerRegistration,
    ComputeManagerStatus,
    ComputeServiceID,
    ComputeServiceRegistration,
)

UUID_TEXT = "0123456789abcdef" * 2
MOMENT = datetime(2024, 1, 19, 12, 30, 15, 123456, tzinfo=UTC)
FIELDS: dict[str, Any] = {
    "name": "east",
    "uuid": UUID_TEXT,
    "last_status_update": MOMENT,
    "status": "OK",
    "detail": "",
    "saturation": 0.5,
    "registered": MOMENT,
}


def build(cls: type[BaseModel], **fields: Any) -> Any:
    """Make a record of values that its types do not allow."""
    return cls(**fields)


@pytest.mark.parametrize("cls", [ComputeServiceID, ComputeManagerID])
def test_identifier_has_a_name_and_a_uuid(cls: type[ComputeServiceID | ComputeManagerID]) -> None:
    made = cls(f"my_site.a:1-{UUID_TEXT}")
    assert made == f"my_site.a:1-{UUID_TEXT}"
    assert (made.name, made.uuid) == ("my_site.a:1", UUID_TEXT)
    assert made.to_dict() == {"name": "my_site.a:1", "uuid": UUID_TEXT}
    again = cls.from_dict(made.to_dict())
    assert (again, type(again)) == (made, cls)
    copied = pickle.loads(pickle.dumps(made))
    assert (copied, type(copied)) == (made, cls)


@pytest.mark.parametrize("cls", [ComputeServiceID, ComputeManagerID])
def test_identifiers_of_one_name_differ(cls: type[ComputeServiceID | ComputeManagerID]) -> None:
    one, other = cls.new_from_name("east"), cls.new_from_name("east")
    assert one.name == other.name == "east"
    assert one != other
    assert UUID(one.uuid).version == 4


WRONG = [
    "",
    "east",
    "east-",
    f"-{UUID_TEXT}",
    f"1st-{UUID_TEXT}",
    f"a b-{UUID_TEXT}",
    f"é-{UUID_TEXT}",
    f"a-b-{UUID_TEXT}",
    f"east-{UUID_TEXT}0",
    f"east-{UUID_TEXT[:-1]}g",
    f"east-{UUID(UUID_TEXT)}",
    f"east-{UUID_TEXT}\n",
]


@pytest.mark.parametrize("text", WRONG)
def test_manager_identifier_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form '<name>-<uuid>'"):
        ComputeManagerID(text)
    with pytest.raises(ValidationError, match="is not of the form"):
        TypeAdapter(ComputeManagerID).validate_python(text)


@pytest.mark.parametrize("text", WRONG)
def test_service_identifier_of_another_form_has_no_name(text: str) -> None:
    made = ComputeServiceID(text)
    assert made == text
    for part in ("name", "uuid"):
        with pytest.raises(ValueError, match="is not of the form '<name>-<uuid>'"):
            getattr(made, part)


@pytest.mark.parametrize("name", ["", "1st", "a b", "a-b", "é", "a\0"])
def test_new_identifier_needs_a_name_of_plain_characters(name: str) -> None:
    for cls in (ComputeServiceID, ComputeManagerID):
        with pytest.raises(ValueError, match="is not of the form"):
            cls.new_from_name(name)


def test_digits_of_a_uuid_become_lower_case() -> None:
    assert ComputeManagerID(f"East-{UUID_TEXT.upper()}") == f"East-{UUID_TEXT}"


def test_manager_name_that_is_too_long_is_refused() -> None:
    assert ComputeManagerID(f"{'x' * 2000}-{UUID_TEXT}").name == "x" * 2000
    for make in (
        lambda: ComputeManagerID(f"{'x' * 2001}-{UUID_TEXT}"),
        lambda: build(ComputeManagerRegistration, **{**FIELDS, "name": "x" * 2001}),
        lambda: ComputeServiceRegistration.from_now("a", manager_name="x" * 2001),
    ):
        with pytest.raises(ValueError, match="at most 2000 are allowed"):
            make()


@pytest.mark.parametrize(
    "uuid", [UUID_TEXT, UUID_TEXT.upper(), UUID(UUID_TEXT), str(UUID(UUID_TEXT))]
)
def test_manager_registration_takes_a_uuid_in_any_form(uuid: Any) -> None:
    made = ComputeManagerRegistration(**{**FIELDS, "uuid": uuid})
    assert made.uuid == UUID_TEXT
    identifier = made.to_compute_manager_id()
    assert (identifier, type(identifier)) == (f"east-{UUID_TEXT}", ComputeManagerID)
    assert str(made) == identifier
    assert made.status is ComputeManagerStatus.OK


def test_manager_registration_survives_its_dict() -> None:
    made = ComputeManagerRegistration(**FIELDS)
    assert made.to_dict() == FIELDS
    assert ComputeManagerRegistration.from_dict(made.to_dict()) == made
    assert json.loads(made.model_dump_json())["uuid"] == UUID_TEXT


def test_manager_registration_from_now_is_idle() -> None:
    made = ComputeManagerRegistration.from_now(f"east-{UUID_TEXT}")
    assert (made.status, made.detail, made.saturation) == ("OK", "", 0.0)
    assert made.registered == made.last_status_update


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "1st"}, "is not the name of a compute manager"),
        ({"name": "a-b"}, "is not the name of a compute manager"),
        ({"name": "a\0"}, "NUL"),
        ({"uuid": "1234"}, "uuid must be a UUID"),
        ({"uuid": None}, "uuid must be a UUID"),
        ({"status": "SLEEPING"}, "'OK' or 'ERROR'"),
        ({"saturation": None}, "saturation is required for the 'OK' status"),
        ({"saturation": 1.5}, "less than or equal to 1"),
        ({"saturation": float("nan")}, "finite number"),
        ({"detail": "x"}, "detail should only be provided for the 'ERROR' status"),
        ({"status": "ERROR"}, "saturation should only be provided for the 'OK' status"),
        ({"status": "ERROR", "saturation": None}, "detail is required for the 'ERROR' status"),
        ({"registered": "yesterday"}, "registered"),
    ],
)
def test_manager_registration_that_does_not_fit_is_refused(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(ComputeManagerRegistration, **{**FIELDS, **changed})


def test_service_registration_has_a_manager_and_failures() -> None:
    made = ComputeServiceRegistration(
        identifier=ComputeServiceID("a"),
        registered=MOMENT,
        heartbeat=MOMENT,
        failure_times=build_list(MOMENT, MOMENT.replace(tzinfo=None)),
        manager_name="east",
    )
    assert made.failure_times == (MOMENT, MOMENT)
    assert made.to_dict()["failure_times"] == [MOMENT, MOMENT]
    assert made.to_dict()["manager_name"] == "east"
    assert ComputeServiceRegistration.from_dict(made.to_dict()) == made
    without = ComputeServiceRegistration.from_now("a")
    assert (without.failure_times, without.manager_name) == ((), None)


def build_list(*moments: datetime) -> Any:
    """Return a list where a tuple is declared, as alchemiscale passes it."""
    return list(moments)


@pytest.mark.parametrize("name", ["", "a-b", "1st"])
def test_service_registration_names_a_possible_manager(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a compute manager"):
        ComputeServiceRegistration.from_now("a", manager_name=name)
