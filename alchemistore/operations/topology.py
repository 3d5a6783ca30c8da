"""Topology: which networks, transformations and chemical systems belong together."""

from __future__ import annotations

from sqlalchemy import Connection, TextClause, text

from alchemistore.database.keys import parameters, parse_key, scoped
from alchemistore.database.sql import SCOPE_ID
from alchemistore.models import ScopedKey

TRANSFORMATION_KINDS = ("Transformation", "NonTransformation")


def _neighbours_of(
    table: str, links: str, link: str, neighbour: str, neighbours: str
) -> TextClause:
    return text(f"""
        SELECT DISTINCT n.kind, n.token FROM {table} AS o
        JOIN {links} AS l ON l.scope_id = o.scope_id AND l.{link} = o.token
        JOIN {neighbours} AS n ON n.scope_id = l.scope_id AND n.token = l.{neighbour}
        WHERE o.scope_id = {SCOPE_ID} AND o.token = :token AND o.kind = :kind
        ORDER BY n.kind, n.token
    """)


TRANSFORMATIONS_OF_NETWORK = _neighbours_of(
    "networks", "network_transformations", "network", "transformation", "transformations"
)
NETWORKS_OF_TRANSFORMATION = _neighbours_of(
    "transformations", "network_transformations", "transformation", "network", "networks"
)
SYSTEMS_OF_NETWORK = _neighbours_of(
    "networks", "network_chemical_systems", "network", "chemical_system", "chemical_systems"
)
NETWORKS_OF_SYSTEM = _neighbours_of(
    "chemical_systems", "network_chemical_systems", "chemical_system", "network", "networks"
)
SYSTEMS_OF_TRANSFORMATION = text(f"""
    SELECT s.kind, s.token FROM transformations AS o
    JOIN transformation_chemical_systems AS l
        ON l.scope_id = o.scope_id AND l.transformation = o.token
    JOIN chemical_systems AS s ON s.scope_id = l.scope_id AND s.token = l.chemical_system
    WHERE o.scope_id = {SCOPE_ID} AND o.token = :token AND o.kind = :kind
    GROUP BY s.kind, s.token
    ORDER BY min(l.role)
""")
TRANSFORMATIONS_OF_SYSTEM = _neighbours_of(
    "chemical_systems",
    "transformation_chemical_systems",
    "chemical_system",
    "transformation",
    "transformations",
)


def _neighbours(tx: Connection, statement: TextClause, key: ScopedKey | str) -> list[ScopedKey]:
    key = parse_key(key)
    rows = tx.execute(statement, {**parameters(key), "kind": key.qualname})
    return [scoped(key, row.kind, row.token) for row in rows]


def get_network_transformations(tx: Connection, network: ScopedKey | str) -> list[ScopedKey]:
    """Return the transformations of a network, ordered by key; empty if it does not exist."""
    return _neighbours(tx, TRANSFORMATIONS_OF_NETWORK, network)


def get_transformation_networks(tx: Connection, transformation: ScopedKey | str) -> list[ScopedKey]:
    """Return the networks with a transformation, ordered by key; empty if it does not exist."""
    return _neighbours(tx, NETWORKS_OF_TRANSFORMATION, transformation)


def get_network_chemicalsystems(tx: Connection, network: ScopedKey | str) -> list[ScopedKey]:
    """Return the chemical systems of a network, ordered by key; empty if it does not exist."""
    return _neighbours(tx, SYSTEMS_OF_NETWORK, network)


def get_chemicalsystem_networks(tx: Connection, chemicalsystem: ScopedKey | str) -> list[ScopedKey]:
    """Return the networks with a chemical system, ordered by key; empty if it does not exist."""
    return _neighbours(tx, NETWORKS_OF_SYSTEM, chemicalsystem)


def get_transformation_chemicalsystems(
    tx: Connection, transformation: ScopedKey | str
) -> list[ScopedKey]:
    """Return the end states of a transformation, state A before state B.

    Parameters
    ----------
    transformation : ScopedKey or str
        The transformation.

    Returns
    -------
    list of ScopedKey
        Two, or one for a NonTransformation; empty if there is no such transformation.
    """
    return _neighbours(tx, SYSTEMS_OF_TRANSFORMATION, transformation)


def get_chemicalsystem_transformations(
    tx: Connection, chemicalsystem: ScopedKey | str
) -> list[ScopedKey]:
    """Return the transformations with a chemical system as an end state, ordered by key."""
    return _neighbours(tx, TRANSFORMATIONS_OF_SYSTEM, chemicalsystem)
