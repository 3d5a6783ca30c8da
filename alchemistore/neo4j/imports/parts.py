"""Parts of a store, each with a digest of what an import has written."""

from __future__ import annotations

from sqlalchemy import Connection, TextClause, text

from alchemistore.errors import GraphError
from alchemistore.models import Scope
from alchemistore.models.clock import now
from alchemistore.operations.documents import ensure_scope
from alchemistore.tables import metadata

SERVICES, IDENTITIES = "services", "identities"

# One transaction at a time imports a part.
LOCK_PART = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('import of ' || CAST(:part AS text), 0))"
)
READ_PART = text("SELECT source, digest FROM graph_imports WHERE part = :part")
NOTE_PART = text("""
    INSERT INTO graph_imports AS t (part, source, digest, imported_at)
    VALUES (:part, :source, :digest, :now)
    ON CONFLICT (part) DO UPDATE
    SET source = excluded.source, digest = excluded.digest, imported_at = excluded.imported_at
""")
_OF_A_SCOPE = sorted(
    name
    for name, table in metadata.tables.items()
    # The queue and its lanes follow from the others; the rest never changes what was imported.
    if "scope_id" in table.columns
    and name not in ("queue", "lanes", "environments", "document_conflicts", "gufe_objects")
)


def _digest(tables: list[str], condition: str) -> TextClause:
    """Return a statement for the number of rows of tables, and a digest of their contents."""
    rows = " UNION ALL ".join(
        f"SELECT hash_record_extended(t, {place}) AS hash FROM {table} AS t {condition}"
        for place, table in enumerate(tables)
    )
    return text(f"""
        SELECT count(*) AS rows, CAST(coalesce(sum(hash), 0) AS text) AS digest FROM ({rows}) AS x
    """)


DIGEST_OF_SCOPE = _digest(_OF_A_SCOPE, "WHERE t.scope_id = :scope_id")
DIGESTS = {
    SERVICES: _digest(["compute_managers", "compute_services", "service_failures"], ""),
    IDENTITIES: _digest(["identities", "identity_scopes"], ""),
}


def lock_part(tx: Connection, part: str) -> None:
    """Wait until no other transaction imports a part."""
    tx.execute(LOCK_PART, {"part": part})


def require_untouched(tx: Connection, part: str) -> None:
    """Raise an error if something else than an import has written to a part.

    Raises
    ------
    GraphError
        If it has, or if the part has contents and was never imported.
    """
    rows, digest = read_digest(tx, part)
    noted = tx.execute(READ_PART, {"part": part}).first()
    if noted is None and rows:
        raise GraphError(
            f"the store has {'objects in the scope ' if '-' in part else ''}{part} that no"
            " import has written; import into an empty store, or use --force to make it equal"
            " to the graph, which removes what the graph does not have"
        )
    if noted is not None and noted.digest != digest:
        raise GraphError(
            f"something else has written to {part} since the last import; use --force to make"
            " it equal to the graph again, which undoes these changes"
        )


def note_part(tx: Connection, part: str, source: str) -> None:
    """Record the digest of a part that an import has written."""
    _, digest = read_digest(tx, part)
    tx.execute(NOTE_PART, {"part": part, "source": source, "digest": digest, "now": now()})


def read_digest(tx: Connection, part: str) -> tuple[int, str]:
    """Return the number of rows of a part, and a digest of their contents."""
    statement = DIGESTS.get(part)
    if statement is None:
        scope_id = ensure_scope(tx, Scope.from_str(part))
        row = tx.execute(DIGEST_OF_SCOPE, {"scope_id": scope_id}).one()
    else:
        row = tx.execute(statement).one()
    return row.rows, row.digest
