"""Contestants take turns, so that a slow machine slows down all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# A contestant does its work and returns the seconds that count.
Contestant = Callable[[], float]


class BenchError(Exception):
    """A measurement could not be made; the text says why."""


@dataclass(frozen=True)
class Target:
    """The limit of a value: an upper one, or with `at_least` a lower one."""

    limit: float
    at_least: bool = False

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def strain(self, value: float) -> float:
        """Return the value in units of the target; 1 or less means that it is reached."""
        return self.limit / value if self.at_least else value / self.limit


@dataclass(frozen=True)
class Measure:
    """One line of a report.

    Attributes
    ----------
    name : str
        What was measured.
    value : float
        What is held against the target: a ratio, a share or a number.
    form : "ratio", "share", "count" or "amount"
        How to print it.
    sides : tuple of (str, float)
        What the ratio is made of: labels and medians.
    unit : str
        Unit of the sides.
    spread : tuple of (float, float), optional
        Quartiles of the ratio, turn by turn.
    target : Target, optional
        What it should be.
    note : str
        How it was measured, or what else to know.
    """

    name: str
    value: float
    form: str = "ratio"
    sides: tuple[tuple[str, float], ...] = ()
    unit: str = "s"
    spread: tuple[float, float] | None = None
    target: Target | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Check whether the target is reached; ``None`` without a target."""
        return None if self.target is None else self.target.reached(self.value)


def clocked(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def alternate(
    contestants: Mapping[str, Contestant], rounds: int, *, warmup: int, advance: Callable[[], None]
) -> dict[str, list[float]]:
    """Run contestants in turn.

    Parameters
    ----------
    contestants : mapping of str to callable
        Each returns the seconds of one turn.
    rounds : int
        Turns of each that count.
    warmup : int
        Turns of each before, that do not: caches fill, statements get prepared.
    advance : callable
        Called after each round.

    Returns
    -------
    dict of str to list of float
        The seconds of each, by round.
    """
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(-warmup, rounds):
        for name, contestant in contestants.items():
            gc.collect(0)
            seconds = contestant()
            if turn >= 0:
                found[name].append(seconds)
        advance()
    return found


def compare(
    name: str,
    found: Mapping[str, Sequence[float]],
    against: str | None = None,
    *,
    target: Target | None = None,
    unit: str = "s",
    note: str = "",
) -> Measure:
    """Return the ratio of the first contestant to another.

    Parameters
    ----------
    name : str
        What was measured.
    found : mapping of str to sequence of float
        Values by contestant, turn by turn.
    against : str, optional
        The contestant compared with. Default: the second one.
    """
    first, second = next(iter(found)), against or list(found)[1]
    ratios = sorted(a / b for a, b in zip(found[first], found[second], strict=True))
    lower, _, upper = (
        statistics.quantiles(ratios, n=4, method="inclusive")
        if len(ratios) > 1
        else (ratios[0],) * 3
    )
    middle = {label: statistics.median(found[label]) for label in (first, second)}
    return Measure(
        name,
        middle[first] / middle[second],
        sides=tuple(middle.items()),
        unit=unit,
        spread=(lower, upper),
        target=target,
        note=note,
    )
