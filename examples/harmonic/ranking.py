"""Rank the ligands by the difference of their free energies between two environments.

The free energies of all transformations of one environment are combined by weighted least squares,
the maximum-likelihood estimate for normal errors: H. Xu, J. Chem. Inf. Model. 59, 4720 (2019). The
values are relative to the mean of all ligands, because only differences are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harmonic.cycles import Leg
from harmonic.odds import chi_square_tail, normal_below

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Ligand:
    """A ligand: ΔΔG, its standard error, and the exact value, in kT, relative to the mean.

    ΔΔG is the free energy in the first environment minus that in the second.
    """

    name: str
    estimate: float
    uncertainty: float
    exact: float

    @property
    def deviation(self) -> float:
        """The error in units of the uncertainty."""
        return (self.estimate - self.exact) / self.uncertainty


@dataclass(frozen=True)
class Ranking:
    """The ligands in the order of ΔΔG, the smallest first.

    Attributes
    ----------
    environments : tuple of str
        ΔΔG is the free energy in the first minus that in the second.
    ligands : tuple of Ligand
    covariance : tuple of tuple of float
        The covariance of the values, in the same order.
    closure : float
        The sum of squared deviations, in σ, of the transformations from the values of the ligands:
        a chi-square for all cycles together.
    independent_cycles : int
        Its degrees of freedom.
    """

    environments: tuple[str, str]
    ligands: tuple[Ligand, ...]
    covariance: tuple[tuple[float, ...], ...]
    closure: float
    independent_cycles: int

    def below_next(self, index: int) -> float:
        """Return the probability that a ligand really comes before the next one.

        Parameters
        ----------
        index : int
            Its position in the ranking, from 0.
        """
        after = index + 1
        difference = self.ligands[after].estimate - self.ligands[index].estimate
        c = self.covariance
        variance = c[index][index] + c[after][after] - 2 * c[index][after]
        return normal_below(difference / variance**0.5)

    @property
    def closure_odds(self) -> float:
        """The probability that chance alone opens the cycles at least as far."""
        return chi_square_tail(self.closure, self.independent_cycles)

    @cached_property
    def wrong_pairs(self) -> list[tuple[str, str]]:
        """The pairs of ligands whose order differs from that of the exact values."""
        return [
            (one.name, other.name)
            for index, one in enumerate(self.ligands)
            for other in self.ligands[index + 1 :]
            if one.exact > other.exact
        ]

    @property
    def pairs(self) -> int:
        """The number of pairs of ligands."""
        return len(self.ligands) * (len(self.ligands) - 1) // 2


def rank(legs: Sequence[Leg], environments: tuple[str, str]) -> Ranking | None:
    """Return the ranking of the ligands.

    Parameters
    ----------
    legs : sequence of Leg
        The transformations of both environments.
    environments : tuple of str
        ΔΔG is the free energy in the first minus that in the second.

    Returns
    -------
    Ranking or None
        ``None`` while the results do not yet connect all ligands in both environments.
    """
    names = sorted({name for leg in legs for name in (leg.first, leg.second)})
    solved = [
        _solve([leg for leg in legs if leg.environment == one], names) for one in environments
    ]
    if len(names) < 2 or any(one is None for one in solved):
        return None
    first, second = (one for one in solved if one is not None)
    estimates, exact = first.values - second.values, first.exact - second.exact
    covariance = first.covariance + second.covariance
    order = np.argsort(estimates)
    return Ranking(
        environments=environments,
        ligands=tuple(
            Ligand(names[i], float(estimates[i]), float(np.sqrt(covariance[i, i])), float(exact[i]))
            for i in order
        ),
        covariance=tuple(tuple(map(float, row)) for row in covariance[np.ix_(order, order)]),
        closure=first.squares + second.squares,
        independent_cycles=first.freedom + second.freedom,
    )


@dataclass(frozen=True)
class _Solution:
    values: Matrix
    exact: Matrix
    covariance: Matrix
    squares: float
    freedom: int


def _solve(legs: Sequence[Leg], names: Sequence[str]) -> _Solution | None:
    """Return the values of the ligands in one environment, if it connects them."""
    differences = np.zeros((len(legs), len(names)))
    for row, leg in enumerate(legs):
        differences[row, names.index(leg.first)] -= 1
        differences[row, names.index(leg.second)] += 1
    weights = np.array([leg.uncertainty**-2 for leg in legs])
    normal = differences.T @ (weights[:, None] * differences)
    if not legs or np.linalg.matrix_rank(normal) < len(names) - 1:
        return None
    # The values are relative to their mean, which the pseudo-inverse sets to zero.
    covariance: Matrix = np.linalg.pinv(normal, hermitian=True).astype(np.float64)

    def values(of: Sequence[float]) -> Matrix:
        found: Matrix = covariance @ differences.T @ (weights * np.array(of))
        return found

    found = values([leg.estimate for leg in legs])
    left = np.array([leg.estimate for leg in legs]) - differences @ found
    return _Solution(
        values=found,
        exact=values([leg.exact for leg in legs]),
        covariance=covariance,
        squares=float(weights @ left**2),
        freedom=len(legs) - len(names) + 1,
    )
