"""A network of any size, made of the classes of the example campaign."""

from __future__ import annotations

import gufe

from harmonic.protocol import HarmonicProtocol, HarmonicSettings
from harmonic.system import HarmonicWell, Medium


def star(arms: int, name: str) -> gufe.AlchemicalNetwork:
    """Return a network of one system in the middle and a transformation to each other system."""
    protocol, vacuum = HarmonicProtocol(HarmonicSettings()), Medium("vacuum", 0.0)
    middle, *others = [
        gufe.ChemicalSystem(
            {"ligand": HarmonicWell(f"well {i}", 1.0 + i), "environment": vacuum}, name=f"well {i}"
        )
        for i in range(arms + 1)
    ]
    edges = [
        gufe.Transformation(middle, system, protocol, name=f"to {system.name}") for system in others
    ]
    return gufe.AlchemicalNetwork(edges, name=name)
