"""Compute services, which run tasks, and compute managers, which start services."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Self
from uuid import UUID, uuid4

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from alchemistore.models.clock import UTCDatetime, now
from alchemistore.models.display import HtmlRecord
from alchemistore.models.text import IDENTIFIER_MAX, FreeText, check_length

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.:]*")
_NAME_AND_UUID = re.compile(rf"({_NAME.pattern})-([0-9a-fA-F]{{32}})")


class _ComputeID(str):
    """An identifier that can have the form ``<name>-<uuid>``."""

    __slots__ = ()

    @classmethod
    def new_from_name(cls, name: str) -> Self:
        """Create an identifier from a name and a new UUID.

        Parameters
        ----------
        name : str
            An ASCII letter, then ASCII letters, digits, ``_``, ``.`` and ``:``.

        Raises
        ------
        ValueError
            If the name has other characters.
        """
        created = cls(f"{name}-{uuid4().hex}")
        created._parts()
        return created

    @classmethod
    def from_dict(cls, dct: dict[str, str]) -> Self:
        """Create an identifier from the fields of :meth:`to_dict`."""
        return cls(f"{dct['name']}-{dct['uuid']}")

    def to_dict(self) -> dict[str, str]:
        """Return the name and the UUID."""
        return {"name": self.name, "uuid": self.uuid}

    @property
    def name(self) -> str:
        """The name. A ValueError if the identifier does not have the form ``<name>-<uuid>``."""
        return self._parts()[0]

    @property
    def uuid(self) -> str:
        """The hexadecimal digits of the UUID. A ValueError if there is none."""
        return self._parts()[1]

    def _parts(self) -> tuple[str, str]:
        found = _NAME_AND_UUID.fullmatch(self)
        if found is None:
            raise ValueError(
                f"{str(self)!r:.100} is not of the form '<name>-<uuid>': expected an ASCII letter,"
                " then ASCII letters, digits, '_', '.' and ':', then '-' and 32 hexadecimal digits"
            )
        return found[1], found[2]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


class ComputeServiceID(_ComputeID):
    """The identifier of a compute service: any text, in practice ``<name>-<uuid>``."""

    __slots__ = ()


class ComputeManagerID(_ComputeID):
    """The identifier of a compute manager, ``<name>-<uuid>``.

    The name is an ASCII letter, then ASCII letters, digits, ``_``, ``.`` and ``:``. The UUID has 32
    hexadecimal digits, which become lower case. Other texts are a ValueError.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        name, uuid = _ComputeID(value)._parts()
        check_length("the name of a compute manager", name, IDENTIFIER_MAX)
        return super().__new__(cls, f"{name}-{uuid.lower()}")


class ComputeManagerStatus(StrEnum):
    """The status of a compute manager."""

    OK = "OK"
    ERROR = "ERROR"


class ComputeManagerInstruction(StrEnum):
    """The instructions for a compute manager: start services, start none now, or shut down."""

    OK = "OK"
    SKIP = "SKIP"
    SHUTDOWN = "SHUTDOWN"


class ComputeServiceRegistration(BaseModel):
    """A registration of a compute service, with its last heartbeat.

    Parameters
    ----------
    identifier : ComputeServiceID or str
        Unique among the registered services; at most 2,000 bytes.
    registered, heartbeat : datetime
        A naive time is taken as UTC.
    hostname : str, optional
        Name of the machine that the service runs on.
    failure_times : iterable of datetime, optional
        The times of failures of the service. A naive time is taken as UTC.
    manager_name : str, optional
        Name of the compute manager that started the service. It must be registered.
    """

    model_config = ConfigDict(frozen=True)

    identifier: ComputeServiceID = Field(min_length=1)
    registered: UTCDatetime
    heartbeat: UTCDatetime
    hostname: FreeText | None = None
    failure_times: tuple[UTCDatetime, ...] = ()
    manager_name: str | None = None

    @field_validator("identifier")
    @classmethod
    def _storable(cls, value: ComputeServiceID) -> ComputeServiceID:
        check_length("identifier", value, IDENTIFIER_MAX)
        return value

    @field_validator("manager_name")
    @classmethod
    def _name_of_a_manager(cls, value: str | None) -> str | None:
        return None if value is None else _manager_name(value)

    @classmethod
    def from_now(
        cls, identifier: str, hostname: str | None = None, manager_name: str | None = None
    ) -> ComputeServiceRegistration:
        """Create a registration with the current time."""
        moment = now()
        return cls(
            identifier=ComputeServiceID(identifier),
            registered=moment,
            heartbeat=moment,
            hostname=hostname,
            manager_name=manager_name,
        )

    @classmethod
    def from_dict(cls, dct: dict[str, Any]) -> ComputeServiceRegistration:
        """Create a registration from the fields of :meth:`to_dict`."""
        return cls(**dct)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, with the identifier as a plain string."""
        return {
            "identifier": str(self.identifier),
            "registered": self.registered,
            "heartbeat": self.heartbeat,
            "hostname": self.hostname,
            "failure_times": list(self.failure_times),
            "manager_name": self.manager_name,
        }

    def __str__(self) -> str:
        return str(self.identifier)


def _manager_name(value: str) -> str:
    check_length("the name of a compute manager", value, IDENTIFIER_MAX)
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value!r:.100} is not the name of a compute manager: expected an ASCII letter, then"
            " ASCII letters, digits, '_', '.' and ':'"
        )
    return value


def _hexadecimal(value: Any) -> str:
    try:
        return (value if isinstance(value, UUID) else UUID(value)).hex
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"uuid must be a UUID, not {value!r:.100}") from None


class ComputeManagerRegistration(BaseModel):
    """A registration of a compute manager, with its last status.

    Parameters
    ----------
    name : str
        Unique among the registered managers: an ASCII letter, then ASCII letters, digits, ``_``,
        ``.`` and ``:``; at most 2,000 bytes.
    uuid : str or UUID
        It tells apart managers that have the name one after another.
    last_status_update, registered : datetime
        A naive time is taken as UTC.
    status : ComputeManagerStatus or str
    detail : str, optional
        Why the manager is in error. Required for the status ERROR, empty for OK.
    saturation : float, optional
        Share of the services that the manager may start and that run, from 0 to 1. Required for the
        status OK, ``None`` for ERROR.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    uuid: Annotated[str, BeforeValidator(_hexadecimal)]
    last_status_update: UTCDatetime
    status: ComputeManagerStatus
    detail: FreeText | None = None
    saturation: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    registered: UTCDatetime

    @field_validator("name")
    @classmethod
    def _storable(cls, value: str) -> str:
        return _manager_name(value)

    @model_validator(mode="after")
    def _detail_and_saturation_fit_the_status(self) -> Self:
        require_fitting(self.status, self.detail, self.saturation)
        return self

    @classmethod
    def from_now(cls, identifier: str) -> ComputeManagerRegistration:
        """Create a registration of an idle manager with the current time."""
        moment, parts = now(), ComputeManagerID(identifier)
        return cls(
            name=parts.name,
            uuid=parts.uuid,
            last_status_update=moment,
            status=ComputeManagerStatus.OK,
            detail="",
            saturation=0.0,
            registered=moment,
        )

    @classmethod
    def from_dict(cls, dct: dict[str, Any]) -> ComputeManagerRegistration:
        """Create a registration from the fields of :meth:`to_dict`."""
        return cls(**dct)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return self.model_dump()

    def to_compute_manager_id(self) -> ComputeManagerID:
        """Return the identifier of the manager."""
        return ComputeManagerID(f"{self.name}-{self.uuid}")

    def __str__(self) -> str:
        return f"{self.name}-{self.uuid}"


def require_fitting(
    status: ComputeManagerStatus, detail: str | None, saturation: float | None
) -> None:
    """Check that a status has the detail or the saturation that it requires, and not the other.

    Raises
    ------
    ValueError
        If not, or if the saturation is not between 0 and 1.
    """
    ok, error = ComputeManagerStatus.OK, ComputeManagerStatus.ERROR
    if status is ok:
        if saturation is None:
            raise ValueError(f"saturation is required for the '{ok}' status")
        if detail:
            raise ValueError(f"detail should only be provided for the '{error}' status")
        if not 0 <= saturation <= 1:
            raise ValueError(f"saturation must be between 0 and 1, not {saturation}")
        return
    if saturation is not None:
        raise ValueError(f"saturation should only be provided for the '{ok}' status")
    if not detail:
        raise ValueError(f"detail is required for the '{error}' status")


class ComputeServiceDetails(HtmlRecord, BaseModel):
    """The current state of a registered compute service.

    Attributes
    ----------
    registration : ComputeServiceRegistration
    num_tasks : int
        Number of tasks that it has claimed and not finished.
    silence : timedelta
        Time since its last heartbeat, by the clock of the database.
    """

    model_config = ConfigDict(frozen=True)

    registration: ComputeServiceRegistration
    num_tasks: int
    silence: timedelta


class ComputeManagerDetails(HtmlRecord, BaseModel):
    """The current state of a registered compute manager.

    Attributes
    ----------
    registration : ComputeManagerRegistration
    num_services : int
        Number of registered services with its name.
    silence : timedelta
        Time since its last status update, by the clock of the database.
    """

    model_config = ConfigDict(frozen=True)

    registration: ComputeManagerRegistration
    num_services: int
    silence: timedelta


class TaskProvenance(BaseModel):
    """The service that ran a task, with start and end."""

    model_config = ConfigDict(frozen=True)

    computeserviceid: ComputeServiceID
    datetime_start: UTCDatetime
    datetime_end: UTCDatetime


class TaskArchive(BaseModel):
    """A record for archived tasks. It has no fields yet."""

    model_config = ConfigDict(frozen=True)
