"""Options of a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alchemistore.models import Scope
from alchemistore.operations.claims import parse_protocols, parse_scopes


@dataclass(frozen=True)
class Options:
    """The tasks that a worker claims, its limits, and when it ends. Times are in seconds.

    Attributes
    ----------
    name : str
        The identifier to register under. No other registered service may have it.
    directory : Path
        The directory for the files and the output of attempts. Workers may share it.
    scopes, exclude_scopes : sequence of Scope or str
        Claim in the first, but not in the second. Default: in all.
    protocols : sequence of str, optional
        Claim only tasks that use one of these protocols. Default: any.
    claim_limit : int, default 1
        The number of tasks to claim at once. They run one after the other.
    heartbeat : float, default 30
        Time between two heartbeats, and between two looks at the claim of the running task.
    wall_time : float, optional
        A task that runs for longer is stopped, and has failed.
    memory : int, optional
        The bytes of data that a process of a task may allocate.
    retries : int, default 0
        How often gufe runs a failed unit again.
    max_tasks : int, optional
        End after this number of tasks.
    max_time : float, optional
        Claim nothing after this time; a running task is finished.
    max_idle : float, optional
        End when there has been nothing to claim for this time.
    max_failures : int, optional
        End after this number of failures in a row.
    keep_files : bool, default False
        Keep the files of finished attempts.

    Raises
    ------
    ValueError
        If an option is malformed.
    """

    name: str
    directory: Path
    scopes: Sequence[Scope | str] = (Scope(),)
    exclude_scopes: Sequence[Scope | str] = ()
    protocols: Sequence[str] | None = None
    claim_limit: int = 1
    heartbeat: float = 30.0
    wall_time: float | None = None
    memory: int | None = None
    retries: int = 0
    max_tasks: int | None = None
    max_time: float | None = None
    max_idle: float | None = None
    max_failures: int | None = None
    keep_files: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("the name of the worker must not be empty")
        parse_scopes(self.scopes)
        parse_scopes(self.exclude_scopes)
        parse_protocols(self.protocols)
        for what in ("claim_limit", "max_tasks", "max_failures", "memory"):
            if (value := getattr(self, what)) is not None and value < 1:
                raise ValueError(f"{what} must be at least 1, not {value}")
        for what in ("heartbeat", "wall_time"):
            if (value := getattr(self, what)) is not None and not value > 0:
                raise ValueError(f"{what} must be above 0, not {value}")
        for what in ("retries", "max_time", "max_idle"):
            if (value := getattr(self, what)) is not None and not value >= 0:
                raise ValueError(f"{what} must not be negative, not {value}")
