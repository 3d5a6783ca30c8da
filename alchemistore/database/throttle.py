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

    def allows(self, work: str) -> bool:
        """Return whether a kind of work is due; if so, it counts as done now."""
        now = time.monotonic()
        if now - self._last.get(work, float("-inf")) <= self.seconds:
            return False
        self._last[work] = now
        return True
