"""Transformations with their results, and the cycles that they form."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True)
class Leg:
    """The estimated and exact free energy of one transformation, in kT."""

    first: str
    second: str
    environment: str
    estimate: float
    uncertainty: float
    exact: float
    results: int
    samples: int

    @property
    def error(self) -> float:
        """The estimate minus the exact value, in kT."""
        return self.estimate - self.exact

    @property
    def deviation(self) -> float:
        """The error in units of the uncertainty."""
        return self.error / self.uncertainty


@dataclass(frozen=True)
class Cycle:
    """A closed path of transformations, whose free energies should add up to zero."""

    environment: str
    ligands: tuple[str, ...]
    closure: float
    uncertainty: float

    @property
    def deviation(self) -> float:
        """The closure error in units of its uncertainty."""
        return self.closure / self.uncertainty


def cycles(legs: Iterable[Leg]) -> list[Cycle]:
    """Return independent cycles with their closure errors.

    A spanning tree connects the ligands of each environment. Each transformation outside the tree
    closes one cycle.

    Parameters
    ----------
    legs : iterable of Leg

    Returns
    -------
    list of Cycle
        The independent cycles.
    """
    found = []
    by_environment: dict[str, list[Leg]] = {}
    for leg in legs:
        by_environment.setdefault(leg.environment, []).append(leg)
    for label, members in sorted(by_environment.items()):
        tree = _spanning_tree(members)
        in_tree = {id(leg) for leg in tree.values() if leg is not None}
        for leg in members:
            if id(leg) in in_tree:
                continue
            up_first, up_second = _to_root(tree, leg.first), _to_root(tree, leg.second)
            # Both paths share the transformations between their meeting point and the root.
            while up_first and up_second and up_first[-1][1] is up_second[-1][1]:
                up_first.pop()
                up_second.pop()
            # From first to second, up to the meeting point, and down to first again.
            back = [(_other(step, name), step) for name, step in reversed(up_first)]
            way = [(leg.first, leg), *up_second, *back]
            found.append(
                Cycle(
                    environment=label,
                    ligands=tuple(name for name, _ in way),
                    closure=sum(
                        step.estimate if name == step.first else -step.estimate
                        for name, step in way
                    ),
                    uncertainty=sqrt(sum(step.uncertainty**2 for _, step in way)),
                )
            )
    return found


def _other(leg: Leg, name: str) -> str:
    return leg.second if name == leg.first else leg.first


def _spanning_tree(legs: list[Leg]) -> dict[str, Leg | None]:
    """Return the transformation from each ligand towards the root, None for a root.

    The search is breadth-first, so that paths are short.
    """
    neighbours: dict[str, list[Leg]] = {}
    for leg in legs:
        for name in (leg.first, leg.second):
            neighbours.setdefault(name, []).append(leg)
    tree: dict[str, Leg | None] = {}
    for root in neighbours:
        if root in tree:
            continue
        tree[root] = None
        queue = deque([root])
        while queue:
            name = queue.popleft()
            for leg in neighbours[name]:
                other = _other(leg, name)
                if other not in tree:
                    tree[other] = leg
                    queue.append(other)
    return tree


def _to_root(tree: dict[str, Leg | None], name: str) -> list[tuple[str, Leg]]:
    way = []
    while (leg := tree[name]) is not None:
        way.append((name, leg))
        name = _other(leg, name)
    return way
