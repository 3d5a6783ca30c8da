"""Compute services, which run tasks."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, field_validator
from pydantic_core import CoreSchema, core_schema

from alchemistore.models.clock import UTCDatetime, now
from alchemistore.models.text import IDENTIFIER_MAX, FreeText, check_length


class ComputeServiceID(str):
    """The identifier of a compute service: any text, in practice ``<name>-<uuid>``."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


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
    """

    model_config = ConfigDict(frozen=True)

    identifier: ComputeServiceID = Field(min_length=1)
    registered: UTCDatetime
    heartbeat: UTCDatetime
    hostname: FreeText | None = None

    @field_validator("identifier")
    @classmethod
    def _storable(cls, value: ComputeServiceID) -> ComputeServiceID:
        check_length("identifier", value, IDENTIFIER_MAX)
        return value

    @classmethod
    def from_now(cls, identifier: str, hostname: str | None = None) -> ComputeServiceRegistration:
        """Create a registration with the current time."""
        moment = now()
        return cls(
            identifier=ComputeServiceID(identifier),
            registered=moment,
            heartbeat=moment,
            hostname=hostname,
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
        }

    def __str__(self) -> str:
        return str(self.identifier)


class TaskProvenance(BaseModel):
    """The service that ran a task, with start and end."""

    model_config = ConfigDict(frozen=True)

    computeserviceid: ComputeServiceID
    datetime_start: UTCDatetime
    datetime_end: UTCDatetime


class TaskArchive(BaseModel):
    """A record for archived tasks. It has no fields yet."""

    model_config = ConfigDict(frozen=True)
