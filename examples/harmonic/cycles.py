"""Transformations with their answers, and the cycles they form."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True)
class Leg:
    """One transformation: what was found and what is true, in kT."""

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
        """Estimate minus truth, kT."""
        return self.estimate - self.exact

    @property
    def deviation(self) -> float:
        """The error in units of the uncertainty."""
        return self.error / self.uncertainty


@dataclass(frozen=True)
class Cycle:
    """Transformations that lead back to where they began, so that their free energies add up to zero."""

    environment: str
    ligands: tuple[str, ...]
    closure: float
    uncertainty: float

    @property
    def deviation(self) -> float:
        """The closure error in units of its uncertainty."""
        return self.closure / self.uncertainty


def cycles(legs: Iterable[Leg]) -> list[Cycle]:
    """Find independent cycles and by how much they fail to close.

    A spanning tree joins the ligands of each environment; every transformation outside the tree closes one cycle through it.

    Parameters
    ----------
    legs : iterable of Leg

    Returns
    -------
    list of Cycle
        As many as are independent.
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
            # Above their meeting point both ways run along the same transformations.
            while up_first and up_second and up_first[-1][1] is up_second[-1][1]:
                up_first.pop()
                up_second.pop()
            # first -> second by the leg, up to the meeting point, and down again to first.
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
    """Give for each ligand the transformation towards the root, breadth first so that ways are short; None for a root."""
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
