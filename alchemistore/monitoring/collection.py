"""The latest samples, which are read in the background and shown at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from alchemistore import __version__
from alchemistore.errors import StoreUnavailableError
from alchemistore.monitoring.families import FAMILIES, Kind, Sample
from alchemistore.monitoring.readings import Part

log = logging.getLogger(__name__)

# A part is read for at most a twentieth of the time, whatever the interval.
SHARE = 20
Name = tuple[str, tuple[str, ...]]


class Totals:
    """Counters that only grow, from counts that may shrink because rows were deleted.

    Parameters
    ----------
    absolute : bool
        Begin with the first counts instead of zero. A process that starts again begins with zero,
        so that no deletion between two processes looks like a sudden growth.
    """

    def __init__(self, absolute: bool) -> None:
        self._absolute = absolute
        self._last: dict[Name, tuple[float, ...]] = {}
        self._totals: dict[Name, tuple[float, ...]] = {}
        self._begun = False

    def update(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yield the samples of all counters that were ever seen, after these counts."""
        for one in samples:
            name = (one.family, one.labels)
            nothing = (0.0,) * len(one.numbers)
            first = nothing if self._begun or self._absolute else one.numbers
            last, total = self._last.get(name, first), self._totals.get(name, nothing)
            self._last[name] = one.numbers
            self._totals[name] = tuple(
                whole + max(now - before, 0.0)
                for whole, now, before in zip(total, one.numbers, last, strict=True)
            )
        self._begun = True
        for (family, labels), numbers in self._totals.items():
            yield Sample(family, labels, *numbers)


@dataclass(slots=True)
class _State:
    part: Part
    totals: Totals
    due: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    up: bool = False
    seconds: float = 0.0
    read_at: float | None = None
    failures: int = 0
    error: str | None = None


class Collection:
    """The latest samples of the parts of one server.

    A part that fails keeps its last samples back until it is read again; the others are not
    affected.

    Parameters
    ----------
    parts : iterable of Part
    interval : float
        Seconds between two readings of a part. A part that takes longer than a twentieth of it is
        read less often.
    absolute : bool, default False
        Begin counters with the counts of the database instead of zero.
    clock : callable, default time.monotonic
        The clock.
    """

    def __init__(
        self,
        parts: Iterable[Part],
        interval: float,
        absolute: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._states = [_State(part, Totals(absolute), clock()) for part in parts]
        self._interval, self._clock = interval, clock
        self._lock = threading.Lock()

    def refresh(self) -> float:
        """Read the parts that are due, one after the other, and return the time until the next."""
        unreachable: StoreUnavailableError | None = None
        for state in self._states:
            if self._clock() >= state.due:
                # All parts are on the same server: it is asked once, and not once for each part.
                unreachable = self._read(state, unreachable)
        return max(min(state.due for state in self._states) - self._clock(), 0.0)

    def _read(
        self, state: _State, unreachable: StoreUnavailableError | None
    ) -> StoreUnavailableError | None:
        began = self._clock()
        samples: list[Sample] = []
        error: Exception | None = unreachable
        try:
            if unreachable is None:
                samples = list(state.part.read())
        # One part must not end the others.
        except Exception as reason:
            error = reason
            log.warning("cannot read the metrics of %s: %s", state.part.name, reason)
            log.debug("its traceback", exc_info=True)
        seconds = self._clock() - began
        pause = max(self._interval, state.part.pause)
        if not isinstance(error, StoreUnavailableError):
            # A server that cannot be reached has no load from the attempt.
            pause = max(pause, SHARE * seconds)
        with self._lock:
            state.due, state.seconds = began + pause, seconds
            state.up, state.error = error is None, None if error is None else str(error)
            if error is None:
                state.read_at = time.time()
                state.samples = _complete(samples, state.totals)
            else:
                state.failures += 1
        return error if isinstance(error, StoreUnavailableError) else None

    def samples(self) -> list[Sample]:
        """Return the latest samples, and those about the collection itself."""
        found = []
        with self._lock:
            for state in self._states:
                part = (state.part.name,)
                found += [
                    Sample("collection_up", part, state.up),
                    Sample("collection_seconds", part, state.seconds),
                    Sample("collection_failures", part, state.failures),
                ]
                if state.read_at is not None:
                    found.append(Sample("collection_timestamp_seconds", part, state.read_at))
                found += state.samples if state.up else ()
        return found

    def errors(self) -> dict[str, str]:
        """Return the error of each part that was not read, by its name."""
        with self._lock:
            return {one.part.name: one.error for one in self._states if one.error is not None}


def _complete(samples: list[Sample], totals: Totals) -> list[Sample]:
    gauges = [one for one in samples if FAMILIES[one.family].kind is Kind.gauge]
    growing = [one for one in samples if FAMILIES[one.family].kind is not Kind.gauge]
    return [*gauges, *totals.update(growing)]


def build_info() -> Sample:
    """Return the sample with the version of this package."""
    return Sample("build_info", (__version__,), 1)
