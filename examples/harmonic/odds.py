"""Probabilities that chance alone explains what was observed."""

from __future__ import annotations

from math import erf, erfc, exp, lgamma, log, sqrt


def normal_below(deviation: float) -> float:
    """Return the probability that a normal deviation, in σ, is smaller than this."""
    return 0.5 * (1 + erf(deviation / sqrt(2)))


def largest_of(number: int, deviation: float) -> float:
    """Return the probability that the largest of some normal deviations is at least as large.

    Parameters
    ----------
    number : int
        The number of independent deviations.
    deviation : float
        The largest one, in σ; its sign does not matter.
    """
    return float(1 - (1 - erfc(abs(deviation) / sqrt(2))) ** number)


def chi_square_tail(value: float, freedom: int) -> float:
    """Return the probability that a chi-square is at least as large.

    It is the regularised upper incomplete gamma function Q(freedom / 2, value / 2), by the
    recurrence in its first argument: https://dlmf.nist.gov/8.8#E6.

    Parameters
    ----------
    value : float
    freedom : int
        The degrees of freedom. Without any, the value is 0 and the probability 1.
    """
    if freedom == 0 or value <= 0:
        return 1.0
    half = value / 2
    order, tail = (0.5, erfc(sqrt(half))) if freedom % 2 else (1.0, exp(-half))
    while order < freedom / 2:
        tail += exp(order * log(half) - half - lgamma(order + 1))
        order += 1
    return min(tail, 1.0)
