"""Tasks, task statuses and task hubs."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from alchemistore.models.clock import UTCDatetime, now, uuid7
from alchemistore.models.display import HtmlRecord
from alchemistore.models.keys import GufeKey
from alchemistore.models.text import FreeText, KeyText

PRIORITY_MAX = 2**63 - 1
DEFAULT_PRIORITY = 10
DEFAULT_WEIGHT = 0.5
Weight = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Priority = Annotated[int, Field(ge=1, le=PRIORITY_MAX)]


class TaskStatusEnum(StrEnum):
    """The status of a task."""

    waiting = "waiting"
    running = "running"
    complete = "complete"
    error = "error"
    invalid = "invalid"
    deleted = "deleted"


class RefusalReason(StrEnum):
    """The reasons why a bulk call does not accept a task."""

    missing = "missing"
    no_hub = "no_hub"
    status = "status"
    not_in_network = "not_in_network"
    already_actioned = "already_actioned"
    not_actioned = "not_actioned"
    quota = "quota"


class TaskHub(HtmlRecord, BaseModel):
    """The hub of a network. Tasks actioned on a hub can be claimed from it.

    Parameters
    ----------
    network : str or ScopedKey
        Scoped key of the network.
    weight : float, default 0.5
        Relative frequency, from 0 to 1, with which the hub is chosen; 0 disables the hub.
    """

    model_config = ConfigDict(frozen=True)

    network: KeyText
    weight: Weight = DEFAULT_WEIGHT

    @property
    def key(self) -> GufeKey:
        """The key of the hub, ``TaskHub-<md5 of the scoped key of the network>``."""
        return GufeKey(
            f"TaskHub-{hashlib.md5(self.network.encode(), usedforsecurity=False).hexdigest()}"
        )


class Task(HtmlRecord, BaseModel):
    """A task: one run of the protocol of a transformation.

    Parameters
    ----------
    status : TaskStatusEnum or str, default waiting
    priority : int, default 10
        From 1, the most urgent, to 2**63 - 1.
    datetime_created : datetime, default now
        A naive time is taken as UTC.
    creator : str, optional
        Creator of the task.
    extends : str or ScopedKey, optional
        Scoped key of the task that this task continues.
    claim : str, optional
        Identifier of the compute service that is running the task.
    key : GufeKey
        ``Task-<uuid>``; default a new key.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    status: TaskStatusEnum = TaskStatusEnum.waiting
    priority: Priority = DEFAULT_PRIORITY
    datetime_created: UTCDatetime = Field(default_factory=now)
    creator: FreeText | None = None
    extends: KeyText | None = None
    claim: str | None = None
    key: Annotated[GufeKey, BeforeValidator(GufeKey)] = Field(
        default_factory=lambda: GufeKey(f"Task-{uuid7().hex}")
    )
