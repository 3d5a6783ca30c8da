"""Compute services: who runs tasks."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from alchemistore.models.clock import UTCDatetime, now


class ComputeServiceID(str):
    """The identifier of a compute service: any text, in practice ``<name>-<uuid>``."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


class ComputeServiceRegistration(BaseModel):
    """That a compute service is there, and when it was last heard of.

    Parameters
    ----------
    identifier : ComputeServiceID or str
        Unique among the registered services.
    registered, heartbeat : datetime
        Naive means UTC.
    hostname : str, optional
        The machine it runs on.
    """

    model_config = ConfigDict(frozen=True)

    identifier: ComputeServiceID = Field(min_length=1)
    registered: UTCDatetime
    heartbeat: UTCDatetime
    hostname: str | None = None

    @classmethod
    def from_now(cls, identifier: str, hostname: str | None = None) -> ComputeServiceRegistration:
        """Register at this moment."""
        moment = now()
        return cls(
            identifier=ComputeServiceID(identifier),
            registered=moment,
            heartbeat=moment,
            hostname=hostname,
        )

    @classmethod
    def from_dict(cls, dct: dict[str, Any]) -> ComputeServiceRegistration:
        """Make one from the fields of :meth:`to_dict`."""
        return cls(**dct)

    def to_dict(self) -> dict[str, Any]:
        """Give the fields, the identifier as plain text."""
        return {
            "identifier": str(self.identifier),
            "registered": self.registered,
            "heartbeat": self.heartbeat,
            "hostname": self.hostname,
        }

    def __str__(self) -> str:
        return str(self.identifier)


class TaskProvenance(BaseModel):
    """Which service ran a task, from when to when."""

    model_config = ConfigDict(frozen=True)

    computeserviceid: ComputeServiceID
    datetime_start: UTCDatetime
    datetime_end: UTCDatetime


class TaskArchive(BaseModel):
    """A place for tasks that are put away; it has no fields yet."""

    model_config = ConfigDict(frozen=True)
