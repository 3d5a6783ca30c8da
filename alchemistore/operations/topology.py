"""What is in what: networks, transformations and chemical systems."""

from __future__ import annotations

from sqlalchemy import Connection, TextClause, text

from alchemistore.database.keys import parameters, parse_key, scoped
from alchemistore.database.sql import SCOPE_ID
from alchemistore.models import ScopedKey


def _adjacent(wanted: str, link: str, near: str, far: str, own: str) -> TextClause:
    return text(f"""
        SELECT DISTINCT f.kind, f.token FROM {own} AS o
        JOIN {link} AS l ON l.scope_id = o.scope_id AND l.{near} = o.token
        JOIN {wanted} AS f ON f.scope_id = l.scope_id AND f.token = l.{far}
        WHERE o.scope_id = {SCOPE_ID} AND o.token = :token AND o.kind = :kind
        ORDER BY f.kind, f.token
    """)


NETWORK_TRANSFORMATIONS = _adjacent(
    "transformations", "network_transformations", "network", "transformation", "networks"
)
TRANSFORMATION_NETWORKS = _adjacent(
    "networks", "network_transformations", "transformation", "network", "transformations"
)
NETWORK_SYSTEMS = _adjacent(
    "chemical_systems", "network_chemical_systems", "network", "chemical_system", "networks"
)
SYSTEM_NETWORKS = _adjacent(
    "networks", "network_chemical_systems", "chemical_system", "network", "chemical_systems"
)
TRANSFORMATION_SYSTEMS = _adjacent(
    "chemical_systems",
    "transformation_chemical_systems",
    "transformation",
    "chemical_system",
    "transformations",
)
SYSTEM_TRANSFORMATIONS = _adjacent(
    "transformations",
    "transformation_chemical_systems",
    "chemical_system",
    "transformation",
    "chemical_systems",
)


def _neighbours(tx: Connection, statement: TextClause, key: ScopedKey | str) -> list[ScopedKey]:
    key = parse_key(key)
    rows = tx.execute(statement, {**parameters(key), "kind": key.qualname})
    return [scoped(key, row.kind, row.token) for row in rows]


def get_network_transformations(tx: Connection, network: ScopedKey | str) -> list[ScopedKey]:
    """Give the transformations of a network, in the order of their keys; empty if there is no such network."""
    return _neighbours(tx, NETWORK_TRANSFORMATIONS, network)


def get_transformation_networks(tx: Connection, transformation: ScopedKey | str) -> list[ScopedKey]:
    """Give the networks that contain a transformation, in the order of their keys; empty if there is none such."""
    return _neighbours(tx, TRANSFORMATION_NETWORKS, transformation)


def get_network_chemicalsystems(tx: Connection, network: ScopedKey | str) -> list[ScopedKey]:
    """Give the chemical systems of a network, in the order of their keys; empty if there is no such network."""
    return _neighbours(tx, NETWORK_SYSTEMS, network)


def get_chemicalsystem_networks(tx: Connection, chemicalsystem: ScopedKey | str) -> list[ScopedKey]:
    """Give the networks that contain a chemical system, in the order of their keys; empty if there is none such."""
    return _neighbours(tx, SYSTEM_NETWORKS, chemicalsystem)


def get_transformation_chemicalsystems(
    tx: Connection, transformation: ScopedKey | str
) -> list[ScopedKey]:
    """Give the end states of a transformation, in the order of their keys: two, or the one of a NonTransformation."""
    return _neighbours(tx, TRANSFORMATION_SYSTEMS, transformation)


def get_chemicalsystem_transformations(
    tx: Connection, chemicalsystem: ScopedKey | str
) -> list[ScopedKey]:
    """Give the transformations that have a chemical system as an end state, in the order of their keys."""
    return _neighbours(tx, SYSTEM_TRANSFORMATIONS, chemicalsystem)
