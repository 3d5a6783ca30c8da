"""Compare services, managers and identities with a graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from alchemistore.models.text import escape
from alchemistore.neo4j.comparison import Comparison
from alchemistore.neo4j.imports.parts import IDENTITIES, SERVICES
from alchemistore.neo4j.reader import GraphReader

# A service that left the graph stays while it has claims in a scope that was not imported.
SERVICES_TO_VERIFY = text("""
    SELECT s.identifier, s.registered_at, s.manager_name,
        ARRAY(
            SELECT f.failed_at FROM service_failures AS f WHERE f.service = s.identifier
            ORDER BY f.failed_at
        ) AS failures,
        EXISTS (SELECT FROM claims AS c WHERE c.service = s.identifier) AS claims
    FROM compute_services AS s
""")
MANAGERS_TO_VERIFY = text("SELECT name, uuid, registered_at FROM compute_managers")
IDENTITIES_TO_VERIFY = text("""
    SELECT i.type, i.identifier, i.hashed_key, i.expires_at, i.disabled, i.email, i.full_name,
        ARRAY(
            SELECT s.scope FROM identity_scopes AS s WHERE s.identity_id = i.id ORDER BY s.position
        ) AS scopes
    FROM identities AS i
""")


def compare_registrations(
    tx: Connection, reader: GraphReader, listed: Collection[str]
) -> list[Comparison]:
    """Return the comparisons of services with their failures, and of managers.

    Heartbeats and the last statuses of managers are not compared, because they change all the time.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    reader : GraphReader
        The graph.
    listed : collection of str
        The names that the report of the import lists.
    """
    services = {
        one.identifier: (one.registered, one.manager, sorted(one.failures))
        for one in reader.services()
    }
    managers = {one.name: (UUID(one.uuid), one.registered) for one in reader.managers()}
    return [
        _compared(
            Comparison(SERVICES, "services"),
            services,
            {
                row.identifier: (row.registered_at, row.manager_name, row.failures)
                for row in tx.execute(SERVICES_TO_VERIFY)
                if row.identifier in services or not row.claims
            },
            listed,
        ),
        _compared(
            Comparison(SERVICES, "managers"),
            managers,
            {row.name: (row.uuid, row.registered_at) for row in tx.execute(MANAGERS_TO_VERIFY)},
            listed,
        ),
    ]


def compare_identities(tx: Connection, reader: GraphReader, listed: Collection[str]) -> Comparison:
    """Return the comparison of identities, with the hashes of their keys and their scopes.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    reader : GraphReader
        The graph.
    listed : collection of str
        The identifiers that the report of the import lists.
    """
    return _compared(
        Comparison(IDENTITIES, "identities"),
        {
            f"{one.type} {one.identifier}": (
                one.hashed_key,
                one.expires,
                one.disabled,
                escape(one.email),
                escape(one.full_name),
                list(dict.fromkeys(one.scopes)),
            )
            for one in reader.identities()
        },
        {
            f"{row.type} {row.identifier}": (
                row.hashed_key,
                row.expires_at,
                row.disabled,
                row.email,
                row.full_name,
                row.scopes,
            )
            for row in tx.execute(IDENTITIES_TO_VERIFY)
        },
        [f"{kind} {one}" for kind in ("user", "compute") for one in listed],
    )


def _compared(
    found: Comparison,
    graph: Mapping[str, tuple[Any, ...]],
    store: Mapping[str, tuple[Any, ...]],
    listed: Collection[str],
) -> Comparison:
    """Fill in a comparison of objects with names."""
    found.graph, found.store = len(graph), len(store)
    found.listed = len(graph.keys() & {*listed})
    found.different = sorted(
        name
        for name in (graph.keys() | store.keys()) - {*listed}
        if graph.get(name) != store.get(name)
    )
    return found
