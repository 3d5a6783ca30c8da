"""The simulated system: wells, media, and the network of transformations."""

from __future__ import annotations

from math import log
from typing import Any

import gufe

NETWORK_NAME = "harmonic wells"

# The force constants of the ligands, in kT/nm^2.
LIGANDS = {
    "anna": 8.0,
    "bert": 36.0,
    "cleo": 13.0,
    "dora": 80.0,
    "emil": 21.0,
    "faye": 130.0,
    "gino": 45.0,
    "hugo": 10.5,
    "iris": 60.0,
    "jack": 17.0,
    "kira": 100.0,
    "liam": 28.0,
}
# The force constant that each environment adds, in kT/nm^2.
ENVIRONMENTS = {"vacuum": 0.0, "solvent": 25.0}

# The ring connects each ligand to the next. The chords close further cycles.
_RING = [(i, (i + 1) % len(LIGANDS)) for i in range(len(LIGANDS))]
_CHORDS = [(0, 2), (1, 4), (2, 5), (3, 6), (4, 9), (5, 8), (6, 11), (7, 10)]


class _Spring(gufe.Component):
    """A spring that pulls the particle to the origin."""

    def __init__(self, name: str, force_constant: float) -> None:
        self._name = str(name)
        # 1 and 1.0 would give one well two keys.
        self._force_constant = float(force_constant)

    @property
    def name(self) -> str:
        return self._name

    @property
    def force_constant(self) -> float:
        """The force constant, in kT/nm^2."""
        return self._force_constant

    @property
    def total_charge(self) -> int:
        return 0

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {}

    def _to_dict(self) -> dict[str, Any]:
        return {"name": self._name, "force_constant": self._force_constant}

    @classmethod
    def _from_dict(cls, dct: dict[str, Any]) -> _Spring:
        return cls(**dct)


class HarmonicWell(_Spring):
    """A "ligand": a particle in a harmonic well.

    Parameters
    ----------
    name : str
    force_constant : float
        The force constant in kT/nm^2; above zero.
    """

    def __init__(self, name: str, force_constant: float) -> None:
        if not force_constant > 0:
            raise ValueError(
                f"{name}: the force constant of a well must be above zero, not {force_constant}"
            )
        super().__init__(name, force_constant)


class Medium(_Spring):
    """An environment, which adds a spring.

    Parameters
    ----------
    name : str
    force_constant : float
        The force constant in kT/nm^2; zero in vacuum.
    """


def force_constant(system: gufe.ChemicalSystem) -> float:
    """Return the total force constant of a system, in kT/nm^2."""
    return float(sum(component.force_constant for component in system.components.values()))


def analytic(transformation: gufe.Transformation) -> float:
    """Return the exact free energy of state B minus that of state A, in kT."""
    return 0.5 * log(force_constant(transformation.stateB) / force_constant(transformation.stateA))


def environment(transformation: gufe.Transformation) -> str:
    """Return the name of the environment of a transformation."""
    return str(transformation.stateA.components["environment"].name)


def ligands(transformation: gufe.Transformation) -> tuple[str, str]:
    """Return the names of the ligands of both states."""
    return (
        str(transformation.stateA.components["ligand"].name),
        str(transformation.stateB.components["ligand"].name),
    )


def is_chord(transformation: gufe.Transformation) -> bool:
    """Check whether a transformation is a chord, not a part of the ring."""
    order = list(LIGANDS)
    first, second = (order.index(name) for name in ligands(transformation))
    return (first, second) in _CHORDS


def build_network(protocol: gufe.Protocol, name: str = NETWORK_NAME) -> gufe.AlchemicalNetwork:
    """Return the network that connects the ligands, with the same transformations in each medium.

    Parameters
    ----------
    protocol : Protocol
        The protocol of every transformation.
    name : str, default "harmonic wells"

    Returns
    -------
    AlchemicalNetwork
        24 chemical systems and 40 transformations. Each environment is connected and has nine
        independent cycles.
    """
    wells = [HarmonicWell(ligand, constant) for ligand, constant in LIGANDS.items()]
    edges = []
    for medium in (Medium(label, constant) for label, constant in ENVIRONMENTS.items()):
        systems = [
            gufe.ChemicalSystem(
                {"ligand": well, "environment": medium}, name=f"{well.name} in {medium.name}"
            )
            for well in wells
        ]
        edges += [
            gufe.Transformation(
                stateA=systems[first],
                stateB=systems[second],
                protocol=protocol,
                name=f"{wells[first].name} to {wells[second].name} in {medium.name}",
            )
            for first, second in _RING + _CHORDS
        ]
    return gufe.AlchemicalNetwork(edges=edges, name=name)
