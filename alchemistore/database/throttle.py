"""A limit on how often a process does optional work."""

from __future__ import annotations

import time


class Throttle:
    """Allow each kind of work at most once per interval.

    Parameters
    ----------
    seconds : float
        The interval.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._last: dict[str, float] = {}

    def is_due(self, work: str) -> bool:
        """Return whether a kind of work is due."""
        return time.monotonic() - self._last.get(work, float("-inf")) > self.seconds

    def note(self, work: str) -> None:
        """Record that a kind of work is done now."""
        self._last[work] = time.monotonic()

    def allows(self, work: str) -> bool:
        """Return whether a kind of work is due; if so, it counts as done now."""
        due = self.is_due(work)
        if due:
            self.note(work)
        return due
