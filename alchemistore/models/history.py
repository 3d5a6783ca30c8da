"""The history of a task: attempts, status changes and blockers."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from alchemistore.models.clock import UTCDatetime
from alchemistore.models.compute import ComputeServiceID, TaskProvenance
from alchemistore.models.display import HtmlRecord
from alchemistore.models.keys import ScopedKey
from alchemistore.models.restarts import RestartCount
from alchemistore.models.task import TaskStatusEnum
from alchemistore.models.text import FreeText


class _Record(HtmlRecord, BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class AttemptOutcome(StrEnum):
    """The outcome of an attempt."""

    complete = "complete"
    error = "error"
    released = "released"
    expired = "expired"
    deregistered = "deregistered"
    superseded = "superseded"
    invalid = "invalid"
    deleted = "deleted"


class QueueRepair(_Record):
    """Changes that a repair made to the queue.

    Attributes
    ----------
    removed : int
        Number of wrong entries.
    added : int
        Number of missing entries, including the replacements of wrong ones.
    """

    removed: int
    added: int


class Attempt(_Record):
    """An attempt to run a task, from its claim to its end.

    Attributes
    ----------
    task : ScopedKey
        The task.
    attempt : int
        Number of the attempt; the first attempt at a task is 1.
    service : ComputeServiceID
        The service that claimed the task. It may no longer be registered.
    hostname : str or None
        The machine of the service, if registered with the service.
    claimed_at : UTCDatetime
    ended_at : datetime or None
        ``None`` while the attempt is open.
    outcome : AttemptOutcome or None
        ``None`` while the attempt is open.
    reason : str or None
        Reason for the outcome.
    result : ScopedKey or None
        The reference to the result of the attempt. It may be stored after the attempt has ended.
    environment : mapping of str to str, or None
        Installed packages of the worker: package name to version.
    """

    task: ScopedKey
    attempt: int
    service: ComputeServiceID
    hostname: FreeText | None = None
    claimed_at: UTCDatetime
    ended_at: UTCDatetime | None = None
    outcome: AttemptOutcome | None = None
    reason: FreeText | None = None
    result: ScopedKey | None = None
    environment: Mapping[FreeText, FreeText] | None = None

    @property
    def provenance(self) -> TaskProvenance | None:
        """The service with start and end; ``None`` while the attempt is open."""
        if self.ended_at is None:
            return None
        return TaskProvenance(
            computeserviceid=self.service,
            datetime_start=self.claimed_at,
            datetime_end=self.ended_at,
        )


class AttemptLog(_Record):
    """The output of an attempt.

    Attributes
    ----------
    attempt : int
        Number of the attempt.
    log : str
        The end of what was written to standard output and standard error.
    size : int
        Number of bytes of the whole output, of which `log` is the end.
    tracebacks : tuple of str
        Why the attempt failed, if it has no result. The tracebacks of a result are stored with its
        reference.
    created_at : UTCDatetime
        When the log was stored for the first time.
    """

    attempt: int
    log: FreeText
    size: int
    tracebacks: tuple[FreeText, ...] = ()
    created_at: UTCDatetime


class StatusChange(_Record):
    """A change of the status of a task.

    Attributes
    ----------
    status : TaskStatusEnum
    changed_at : UTCDatetime
    reason : str or None
        Reason for the change.
    actor : str or None
        A compute service, or the actor that the caller named.
    """

    status: TaskStatusEnum
    changed_at: UTCDatetime
    reason: FreeText | None = None
    actor: FreeText | None = None


class TaskHistory(_Record):
    """All events of a task, in order of time.

    Attributes
    ----------
    task : ScopedKey
    changes : tuple of StatusChange
        All changes since the task was created.
    attempts : tuple of Attempt
    restarts : tuple of RestartCount
        The retries used now, for each hub that the task is on and each of its restart patterns.
    """

    task: ScopedKey
    changes: tuple[StatusChange, ...]
    attempts: tuple[Attempt, ...]
    restarts: tuple[RestartCount, ...] = ()


class TaskDetails(_Record):
    """The current state of a task.

    Attributes
    ----------
    task : ScopedKey
    status : TaskStatusEnum
    status_changed_at : UTCDatetime
        Time of the last change of status.
    reason : str or None
        Reason for the status.
    num_attempts : int
        Number of times the task was claimed.
    service : ComputeServiceID or None
        The service that is running the task.
    last_service : ComputeServiceID or None
        The service that made the latest attempt.
    num_results, num_failures : int
        Numbers of successful and failed results.
    restarts : tuple of RestartCount
        The retries used, for each hub that the task is on and each of its restart patterns.
    """

    task: ScopedKey
    status: TaskStatusEnum
    status_changed_at: UTCDatetime
    reason: FreeText | None = None
    num_attempts: int
    service: ComputeServiceID | None = None
    last_service: ComputeServiceID | None = None
    num_results: int
    num_failures: int
    restarts: tuple[RestartCount, ...] = ()


class Activity(_Record):
    """The recent claims and results of a scope, and the tasks that have taken longest.

    Attributes
    ----------
    time : UTCDatetime
        The time of the database, to which all ages refer.
    since : UTCDatetime
        The time since which claims and ends of attempts are counted.
    num_claimed : int
        Number of claims since then.
    num_complete, num_error : int
        Numbers of attempts that have ended with a result since then, successful and failed.
    num_lost : int
        Number of attempts that have ended since then because their service expired or was
        deregistered.
    num_claimable : int
        Number of tasks that can be claimed from a hub.
    oldest_claimable : ScopedKey or None
        The one of them that has been waiting longest.
    claimable_since : UTCDatetime or None
        When it was set to waiting.
    oldest_running : Attempt or None
        The open attempt with the oldest claim, without environment.
    """

    time: UTCDatetime
    since: UTCDatetime
    num_claimed: int
    num_complete: int
    num_error: int
    num_lost: int
    num_claimable: int
    oldest_claimable: ScopedKey | None = None
    claimable_since: UTCDatetime | None = None
    oldest_running: Attempt | None = None


class Settlement(_Record):
    """The effect of settling a task with a result.

    Attributes
    ----------
    result : ScopedKey
        The stored reference.
    status : TaskStatusEnum
        The status of the task afterwards.
    attempt : int or None
        The attempt the result belongs to; ``None`` if the sender never claimed the task.
    outcome : AttemptOutcome or None
        The outcome of that attempt.
    """

    result: ScopedKey
    status: TaskStatusEnum
    attempt: int | None = None
    outcome: AttemptOutcome | None = None


class Delivery(_Record):
    """The effect of delivering a result.

    Attributes
    ----------
    result : ScopedKey
        The stored reference: that of the first delivery, if this one repeats it.
    status : TaskStatusEnum
        The status of the task afterwards.
    attempt : int or None
        The attempt that the result belongs to; ``None`` if the sender never claimed the task.
    settled : bool
        Whether this delivery ended the attempt, or completed the task.
    repeated : bool
        Whether the result was stored already.
    """

    result: ScopedKey
    status: TaskStatusEnum
    attempt: int | None = None
    settled: bool = False
    repeated: bool = False


class BlockerKind(StrEnum):
    """The reasons why a task cannot be claimed."""

    status = "status"
    parent = "parent"
    not_actioned = "not_actioned"
    weight = "weight"
    hub_weight = "hub_weight"
    priority = "priority"
    no_service = "no_service"


class Blocker(_Record):
    """A reason why a task cannot be claimed, or not yet.

    Attributes
    ----------
    kind : BlockerKind
    text : str
        The reason in a sentence.
    task : ScopedKey or None
        For `parent`: the incomplete task that this task extends.
    taskhub : ScopedKey or None
        For `weight`, `hub_weight` and `priority`: the hub.
    count : int or None
        For `priority`: number of more urgent tasks on the hub, counted up to 10,000.
    """

    kind: BlockerKind
    text: str
    task: ScopedKey | None = None
    taskhub: ScopedKey | None = None
    count: int | None = None
