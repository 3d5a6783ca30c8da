"""The state of a strategy, which decides how much to compute for a network."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from alchemistore.models.clock import UTCDatetime
from alchemistore.models.text import FreeText

# The largest integer that the database holds.
INTEGER_MAX = 2**63 - 1
Count = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
PositiveCount = Annotated[int, Field(gt=0, le=INTEGER_MAX)]


class StrategyModeEnum(StrEnum):
    """The actions that a strategist may take."""

    # Create, action and cancel tasks.
    full = "full"
    # Create and action tasks, but never cancel them.
    partial = "partial"
    # Nothing: the strategy is not executed.
    disabled = "disabled"


class StrategyStatusEnum(StrEnum):
    """The status of a strategy."""

    awake = "awake"
    # Waits for new results.
    dormant = "dormant"
    # The last execution failed; the strategy is not executed until a user wakes it.
    error = "error"


class StrategyTaskScalingEnum(StrEnum):
    """The rule by which a weight becomes a number of tasks."""

    linear = "linear"
    exponential = "exponential"


class StateOrigin(NamedTuple):
    """The fields of a state at the time it was read, and the lease that it was read with.

    Attributes
    ----------
    values : dict
        The fields.
    lease : UUID or None
        The lease, if the state was read to execute the strategy.
    """

    values: Mapping[str, Any]
    lease: UUID | None


def _native(moment: Any) -> Any:
    """Return a standard time for a time of a driver, which has `to_native`."""
    return moment.to_native() if hasattr(moment, "to_native") else moment


class StrategyState(BaseModel):
    """The state of the strategy of a network.

    A state that was read from the store, and every copy of it, remembers what it was then.
    `update_strategy_state` uses this to write only what was changed in the copy.

    Parameters
    ----------
    mode : StrategyModeEnum or str, default partial
        What the strategist may do.
    status : StrategyStatusEnum or str, default awake
        Whether the strategy is awake, dormant or failed.
    iterations : int, default 0
        Number of executions.
    sleep_interval : int, default 3600
        Seconds between two executions.
    last_iteration : datetime, optional
        Time of the last execution; a naive time is taken as UTC.
    last_iteration_result_count : int, default 0
        Number of successful results at the last execution.
    max_tasks_per_transformation : int, default 3
        Largest number of tasks to action per transformation.
    task_scaling : StrategyTaskScalingEnum or str, default exponential
        How weights become numbers of tasks.
    exception : tuple of (str, str), optional
        Class and message of the error that ended the last execution.
    traceback : str, optional
        Its traceback.

    Examples
    --------
    >>> state = StrategyState(mode="full")
    >>> state.model_copy(update={"mode": "disabled"}).mode
    'disabled'
    """

    model_config = ConfigDict(frozen=True)

    mode: StrategyModeEnum = StrategyModeEnum.partial
    status: StrategyStatusEnum = StrategyStatusEnum.awake
    iterations: Count = 0
    sleep_interval: PositiveCount = 3600
    last_iteration: Annotated[UTCDatetime, BeforeValidator(_native)] | None = None
    last_iteration_result_count: Count = 0
    max_tasks_per_transformation: PositiveCount = 3
    task_scaling: StrategyTaskScalingEnum = StrategyTaskScalingEnum.exponential
    exception: tuple[FreeText, FreeText] | None = None
    traceback: FreeText | None = None

    _origin: StateOrigin | None = PrivateAttr(default=None)

    @classmethod
    def from_dict(cls, dct: dict[str, Any]) -> StrategyState:
        """Create a state from the fields of :meth:`to_dict`."""
        return cls(**dct)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, with the enumerations as plain strings."""
        names = ("mode", "status", "task_scaling")
        return {**dict(self), **{name: str(getattr(self, name)) for name in names}}

    @property
    def origin(self) -> StateOrigin | None:
        """The fields and lease with which this state, or the one that it copies, was read."""
        return self._origin

    def read(self, lease: UUID | None = None) -> Self:
        """Return this state as one that is read from the store now."""
        state = self.model_copy()
        state._origin = StateOrigin(dict(self), lease)
        return state

    def copy_of(self, origin: StateOrigin | None) -> Self:
        """Return this state as a copy of one that was read from the store.

        Parameters
        ----------
        origin : StateOrigin or None
            The `origin` of the state that was read.
        """
        state = self.model_copy()
        state._origin = origin
        return state

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StrategyState) and dict(self) == dict(other)

    def __hash__(self) -> int:
        return hash(tuple(dict(self).items()))
