"""What became of a task: its attempts, its changes of status, and what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from alchemistore.models.clock import UTCDatetime
from alchemistore.models.compute import ComputeServiceID, TaskProvenance
from alchemistore.models.keys import ScopedKey
from alchemistore.models.task import TaskStatusEnum


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    complete = "complete"
    error = "error"
    released = "released"
    expired = "expired"
    deregistered = "deregistered"
    superseded = "superseded"
    invalid = "invalid"
    deleted = "deleted"


class QueueRepair(_Record):
    """Changes that a repair of the queue made.

    Attributes
    ----------
    removed : int
        Number of entries that were wrong.
    added : int
        Number of entries that were missing, the wrong ones included.
    """

    removed: int
    added: int


class Attempt(_Record):
    """A claim, from beginning to end.

    Attributes
    ----------
    task : ScopedKey
        The task.
    attempt : int
        1 for the first attempt at the task.
    service : ComputeServiceID
        Who ran it; its registration may be gone.
    hostname : str or None
        On which machine, if the service said so.
    claimed_at : UTCDatetime
    ended_at : datetime or None
        ``None`` while it goes on.
    outcome : AttemptOutcome or None
        complete, error, released, expired, deregistered, superseded, invalid or deleted; ``None`` while it goes on.
    reason : str or None
        Why it ended so.
    result : ScopedKey or None
        The reference to the result it produced, be it after its end.
    environment : mapping of str to str, or None
        What was installed there: package name to version.
    """

    task: ScopedKey
    attempt: int
    service: ComputeServiceID
    hostname: str | None = None
    claimed_at: UTCDatetime
    ended_at: UTCDatetime | None = None
    outcome: AttemptOutcome | None = None
    reason: str | None = None
    result: ScopedKey | None = None
    environment: Mapping[str, str] | None = None

    @property
    def provenance(self) -> TaskProvenance | None:
        """Who ran it, from when to when; ``None`` while it goes on."""
        if self.ended_at is None:
            return None
        return TaskProvenance(
            computeserviceid=self.service,
            datetime_start=self.claimed_at,
            datetime_end=self.ended_at,
        )


class StatusChange(_Record):
    """A task got a status.

    Attributes
    ----------
    status : TaskStatusEnum
    changed_at : UTCDatetime
    reason : str or None
        Why.
    actor : str or None
        Who: a compute service, or whom a caller named.
    """

    status: TaskStatusEnum
    changed_at: UTCDatetime
    reason: str | None = None
    actor: str | None = None


class TaskHistory(_Record):
    """All that happened to a task, in the order of time.

    Attributes
    ----------
    task : ScopedKey
    changes : tuple of StatusChange
        From its creation on.
    attempts : tuple of Attempt
    """

    task: ScopedKey
    changes: tuple[StatusChange, ...]
    attempts: tuple[Attempt, ...]


class TaskDetails(_Record):
    """Where a task stands.

    Attributes
    ----------
    task : ScopedKey
    status : TaskStatusEnum
    status_changed_at : UTCDatetime
        Time of the last change of status.
    reason : str or None
        Why it has it.
    num_attempts : int
        Number of times the task was claimed.
    service : ComputeServiceID or None
        Who is running it.
    last_service : ComputeServiceID or None
        Who ran it last, or is running it.
    num_results, num_failures : int
        Numbers of its successful and failed results.
    """

    task: ScopedKey
    status: TaskStatusEnum
    status_changed_at: UTCDatetime
    reason: str | None = None
    num_attempts: int
    service: ComputeServiceID | None = None
    last_service: ComputeServiceID | None = None
    num_results: int
    num_failures: int


class Settlement(_Record):
    """What became of a result that was delivered.

    Attributes
    ----------
    result : ScopedKey
        The reference, stored now.
    status : TaskStatusEnum
        The status of the task now.
    attempt : int or None
        The attempt the result belongs to; ``None`` if the sender never claimed the task.
    outcome : AttemptOutcome or None
        How that attempt ended.
    """

    result: ScopedKey
    status: TaskStatusEnum
    attempt: int | None = None
    outcome: AttemptOutcome | None = None


class BlockerKind(StrEnum):
    """What can keep a task from being run."""

    status = "status"
    parent = "parent"
    not_actioned = "not_actioned"
    weight = "weight"
    hub_weight = "hub_weight"
    priority = "priority"
    no_service = "no_service"


class Blocker(_Record):
    """Something that keeps a task from being run.

    Attributes
    ----------
    kind : BlockerKind
    text : str
        The same in a sentence.
    task : ScopedKey or None
        The unfinished task it extends, for `parent`.
    taskhub : ScopedKey or None
        The hub, for `weight`, `hub_weight` and `priority`.
    count : int or None
        How many more urgent tasks wait there, for `priority`; counted up to 10,000.
    """

    kind: BlockerKind
    text: str
    task: ScopedKey | None = None
    taskhub: ScopedKey | None = None
    count: int | None = None
