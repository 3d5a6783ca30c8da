"""Estimate free energy differences from work values with Bennett's acceptance ratio.

C. H. Bennett, J. Comput. Phys. 22, 245 (1976): equation (12) for the estimate and (10) for its
variance. The form for unequal numbers of work values is from M. R. Shirts et al.,
Phys. Rev. Lett. 91, 140601 (2003).
"""

from __future__ import annotations

from math import log, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Works = NDArray[np.float64]

TOLERANCE = 1e-10


def bar(forward: ArrayLike, backward: ArrayLike) -> tuple[float, float]:
    """Estimate the free energy difference between two states.

    Parameters
    ----------
    forward : array_like
        ``u_B(x) - u_A(x)`` in kT at independent samples of state A.
    backward : array_like
        ``u_A(x) - u_B(x)`` in kT at independent samples of state B.

    Returns
    -------
    estimate, uncertainty : float
        The free energy of B minus that of A, and its standard error, in kT.

    Raises
    ------
    ValueError
        If a direction has fewer than two work values, or a work value is not finite.
    """
    from_a, from_b = _works(forward, "forward"), _works(backward, "backward")
    offset = log(from_a.size / from_b.size)

    def acceptances(estimate: float) -> tuple[Works, Works]:
        return _fermi(from_a + offset - estimate), _fermi(from_b - offset + estimate)

    def imbalance(estimate: float) -> float:
        of_a, of_b = acceptances(estimate)
        return float(of_a.sum() - of_b.sum())

    # The imbalance grows from -n_B to n_A, so it has one zero. Beyond these two bounds, all
    # acceptances of one side are above one half, and those of the other below.
    low = min(from_a.min(), -from_b.max()) - abs(offset) - 1.0
    high = max(from_a.max(), -from_b.min()) + abs(offset) + 1.0
    while imbalance(low) > 0:
        low -= high - low
    while imbalance(high) < 0:
        high += high - low
    while high - low > TOLERANCE * max(1.0, abs(low), abs(high)):
        middle = 0.5 * (low + high)
        if imbalance(middle) < 0:
            low = middle
        else:
            high = middle
    estimate = float(0.5 * (low + high))
    return estimate, sqrt(sum(_relative_variance(side) for side in acceptances(estimate)))


def _works(values: ArrayLike, direction: str) -> Works:
    works = np.asarray(values, dtype=np.float64).ravel()
    if works.size < 2:
        raise ValueError(f"BAR needs at least two {direction} work values, not {works.size}")
    if not np.isfinite(works).all():
        raise ValueError(
            f"a {direction} work value is not a finite number; check the settings of the sampling"
        )
    return works


def _fermi(x: Works) -> Works:
    # 1 / (1 + exp(x)) without overflow.
    return 0.5 * (1.0 - np.tanh(0.5 * x))


def _relative_variance(acceptance: Works) -> float:
    return float(acceptance.var() / acceptance.mean() ** 2 / acceptance.size)
