"""Store the gufe objects of a graph: networks and strategies with everything they refer to.

Objects that gufe cannot build are stored as the graph has them. A later import that can build them
stores them as gufe writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, bindparam, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import gufe_token
from alchemistore.database.transaction import savepoint
from alchemistore.database.translation import translate_errors, translate_values
from alchemistore.errors import GufeNotInstalledError
from alchemistore.models import GufeKey, Scope, ScopedKey
from alchemistore.neo4j.documents import GraphDocuments, documents
from alchemistore.neo4j.reader import GraphReader
from alchemistore.neo4j.records import GraphNetwork
from alchemistore.neo4j.report import PartReport, first_line
from alchemistore.operations.conflicts import AS_FOUND, store_documents
from alchemistore.operations.documents import ensure_scope, read_documents
from alchemistore.operations.networks import create_network
from alchemistore.operations.strategies import require_no_members

STORED_NETWORKS = text("SELECT token FROM networks WHERE scope_id = :scope_id")
STORED_OBJECTS = text("""
    SELECT token FROM gufe_objects
    WHERE scope_id = :scope_id AND token = ANY(CAST(:tokens AS uuid[]))
""")
UNBUILT = text("""
    SELECT kind, token FROM gufe_objects
    WHERE scope_id = :scope_id AND writer = :as_found ORDER BY kind, token
""").bindparams(bindparam("as_found", AS_FOUND))
# One object of each kind that was not built, without regard to its parts.
UNBUILT_EXAMPLES = text("""
    SELECT DISTINCT ON (o.kind) o.kind, o.token FROM gufe_objects AS o
    WHERE o.scope_id = :scope_id AND o.writer = :as_found AND NOT EXISTS (
        SELECT FROM gufe_objects AS part
        WHERE part.scope_id = o.scope_id AND part.token = ANY(o.children)
            AND part.writer = :as_found
    )
    ORDER BY o.kind, o.token
""").bindparams(bindparam("as_found", AS_FOUND))
COUNT_UNBUILT = text("""
    SELECT count(*) FROM gufe_objects
    WHERE scope_id = :scope_id AND token = ANY(CAST(:tokens AS uuid[])) AND writer = :as_found
""").bindparams(bindparam("as_found", AS_FOUND))
NOTE_BUILT = text("""
    UPDATE gufe_objects SET writer = :writer
    WHERE scope_id = :scope_id AND token = ANY(CAST(:tokens AS uuid[])) AND writer = :as_found
""").bindparams(bindparam("as_found", AS_FOUND))


class StoredObjects(NamedTuple):
    """The objects of a scope in the store.

    Attributes
    ----------
    networks : set of UUID
        The tokens of its networks.
    unbuilt : set of UUID
        The tokens of the objects that are stored as a graph has them.
    can_build : bool
        Whether some of these can be built now.
    """

    networks: set[UUID]
    unbuilt: set[UUID]
    can_build: bool

    def lacks(self, token: UUID | None) -> bool:
        """Check whether a network is not stored, or may be built now."""
        return token not in self.networks or (self.can_build and token in self.unbuilt)


def stored_objects(tx: Connection, scope: Scope) -> StoredObjects:
    """Return what a scope of the store has."""
    values = {"scope_id": ensure_scope(tx, scope)}
    networks = set(tx.scalars(STORED_NETWORKS, values))
    unbuilt = {row.token for row in tx.execute(UNBUILT, values)}
    return StoredObjects(networks, unbuilt, bool(unbuilt) and _can_build(tx, values["scope_id"]))


def _can_build(tx: Connection, scope_id: int) -> bool:
    """Check whether some kind of object that is stored as a graph has it can be built now."""
    for row in tx.execute(UNBUILT_EXAMPLES, {"scope_id": scope_id}).all():
        key = GufeKey(f"{row.kind}-{row.token.hex}")
        stored = read_documents(tx, scope_id, [key])
        plain = gufe_adapter.plain_documents([*stored], [*stored.values()])
        contents = dict(zip(stored, plain, strict=True))
        root = contents.pop(str(key))
        chain = gufe_adapter.read_chain([*contents.items(), (str(key), root)])
        try:
            restored = gufe_adapter.restore_documents(chain)
        except GufeNotInstalledError:
            return False
        if key not in restored.kept:
            return True
    return False


def store_networks(
    reader: GraphReader,
    scope: Scope,
    networks: Sequence[GraphNetwork],
    stored: StoredObjects,
    tx: Connection,
    report: PartReport,
) -> None:
    """Store networks with all their objects. One that cannot be stored is left out and listed."""
    for network in networks:
        try:
            found = documents(reader.objects(network.key), str(network.key.gufe_key))
            built = _count_unbuilt(tx, scope, found) if stored.can_build else 0
            with translate_errors(tx.engine), translate_values(), savepoint(tx):
                create_network(tx, found.chain, scope, written_by=_writer(found))
        except ValueError as error:
            report.find(network.key, f"the network was left out: {first_line(error)}")
            continue
        _note_built(tx, scope, found)
        is_new = network.key.token not in stored.networks
        report.count("networks", added=1 if is_new else 0)
        report.count("objects", changed=built)
        describe(report, scope, found)


def store_strategy(scope: Scope, found: GraphDocuments, tx: Connection, report: PartReport) -> None:
    """Store a strategy with all its objects.

    Raises
    ------
    ValueError
        If the strategy cannot be stored.
    """
    chain = gufe_adapter.read_chain(found.chain)
    require_no_members(chain)
    report.count("objects", changed=_count_unbuilt(tx, scope, found))
    store_documents(tx, ensure_scope(tx, scope), chain, compare=True, written_by=_writer(found))
    _note_built(tx, scope, found)


def is_stored(tx: Connection, key: ScopedKey) -> bool:
    """Check whether an object is stored."""
    values = {"scope_id": ensure_scope(tx, key.scope), "tokens": [key.token]}
    return bool(tx.scalars(STORED_OBJECTS, values).all())


def describe(report: PartReport, scope: Scope, found: GraphDocuments) -> None:
    """List the objects that are not, or not quite, as the graph has them."""
    for key, reason in found.kept.items():
        sentence = f"it is stored as the graph has it: {first_line(reason)}"
        report.find(f"{key}-{scope}", sentence, document=True)
    for key, added in found.completed.items():
        sentence = f"the graph had lost values, which its key has confirmed: {added}"
        report.find(f"{key}-{scope}", sentence, document=True)


def describe_unbuilt(tx: Connection, scope: Scope, report: PartReport) -> None:
    """List the objects that an earlier import has stored as the graph has them."""
    known = {finding.key for finding in report.findings if finding.document}
    for row in tx.execute(UNBUILT, {"scope_id": ensure_scope(tx, scope)}):
        key = f"{row.kind}-{row.token.hex}-{scope}"
        if key not in known:
            report.find(
                key,
                "it is stored as the graph has it, because an earlier import could not build it",
                document=True,
            )


def _writer(found: GraphDocuments) -> str | None:
    return AS_FOUND if found.kept else None


def _built_tokens(found: GraphDocuments) -> list[UUID | None]:
    kept = set(map(str, found.kept))
    return [gufe_token(key) for key, _ in found.chain if key not in kept]


def _count_unbuilt(tx: Connection, scope: Scope, found: GraphDocuments) -> int:
    values = {"scope_id": ensure_scope(tx, scope), "tokens": _built_tokens(found)}
    return tx.scalar(COUNT_UNBUILT, values) or 0


def _note_built(tx: Connection, scope: Scope, found: GraphDocuments) -> None:
    """Note the objects that gufe has built; a call can name one writer for all objects only."""
    tokens = _built_tokens(found)
    if tokens:
        values = {"scope_id": ensure_scope(tx, scope), "tokens": tokens}
        tx.execute(NOTE_BUILT, {**values, "writer": gufe_adapter.writer_versions()})
