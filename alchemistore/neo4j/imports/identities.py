"""Users and compute identities, with the hashes of their keys and their scopes."""

from __future__ import annotations

from sqlalchemy import Connection, text

from alchemistore.models import Scope
from alchemistore.models.clock import now
from alchemistore.models.text import escape
from alchemistore.neo4j.imports import staging
from alchemistore.neo4j.imports.merge import COUNTS, Merge, merge, remove
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.report import PartReport

MERGES = (
    Merge(
        "identities",
        text("""
            DELETE FROM identities AS t WHERE NOT EXISTS (
                SELECT FROM graph_identities AS g
                WHERE g.type = t.type AND g.identifier = t.identifier
            )
            RETURNING 1
        """),
        text(f"""
            WITH new AS (
                INSERT INTO identities AS t (
                    type, identifier, hashed_key, expires_at, disabled, email, full_name, created_at
                )
                SELECT type, identifier, hashed_key, expires_at, disabled, email, full_name, :now
                FROM graph_identities ORDER BY type, identifier
                ON CONFLICT (type, identifier) DO UPDATE SET
                    hashed_key = excluded.hashed_key, expires_at = excluded.expires_at,
                    disabled = excluded.disabled, email = excluded.email,
                    full_name = excluded.full_name
                WHERE (t.hashed_key, t.expires_at, t.disabled, t.email, t.full_name)
                    IS DISTINCT FROM (
                        excluded.hashed_key, excluded.expires_at, excluded.disabled,
                        excluded.email, excluded.full_name
                    )
                RETURNING xmax = 0 AS added
            ) {COUNTS}
        """),
    ),
    Merge(
        "scopes of identities",
        text("""
            DELETE FROM identity_scopes AS s USING identities AS i, graph_identities AS g
            WHERE i.id = s.identity_id AND g.type = i.type AND g.identifier = i.identifier
                AND s.scope <> ALL(g.scopes)
            RETURNING 1
        """),
        text(f"""
            WITH new AS (
                INSERT INTO identity_scopes (identity_id, scope)
                SELECT i.id, x.scope
                FROM graph_identities AS g
                JOIN identities AS i ON i.type = g.type AND i.identifier = g.identifier
                CROSS JOIN LATERAL unnest(g.scopes) WITH ORDINALITY AS x (scope, place)
                ORDER BY i.id, x.place
                ON CONFLICT DO NOTHING
                RETURNING true AS added
            ) {COUNTS}
        """),
    ),
)


def import_identities(tx: Connection, report: PartReport, reader: GraphReader) -> None:
    """Make identities equal to the graph."""
    staging.create(tx)
    rows = []
    for one in reader.identities():
        scopes: dict[str, None] = {}
        for name in one.scopes:
            try:
                scopes[str(Scope.from_str(name))] = None
            except ValueError:
                report.find(one.identifier, f"its scope {name} is none; it was left out")
        rows.append(
            {
                "type": one.type,
                "identifier": one.identifier,
                "hashed_key": one.hashed_key,
                "expires_at": one.expires,
                "disabled": one.disabled,
                "email": escape(one.email),
                "full_name": escape(one.full_name),
                "scopes": staging.texts(list(scopes)),
            }
        )
    staging.stage(tx, "identities", rows)
    remove(tx, report, MERGES, {})
    merge(tx, report, MERGES, {"now": now()})
