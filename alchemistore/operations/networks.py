"""Networks: storage with all their members, hub and mark, and deletion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, TypeVar, cast
from uuid import UUID

from sqlalchemy import Connection, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import (
    gufe_token,
    parameters,
    parse_key,
    parse_scope,
    scoped,
    uuids,
)
from alchemistore.database.sql import SCOPE_ID
from alchemistore.database.together import together
from alchemistore.errors import MissingObjectError
from alchemistore.models import (
    GufeKey,
    NetworkMark,
    NetworkStateEnum,
    Scope,
    ScopedKey,
    TaskHub,
)
from alchemistore.models.clock import now
from alchemistore.models.gufe import AlreadyStored, GufeTokenizable
from alchemistore.models.network import parse_state
from alchemistore.models.task import DEFAULT_WEIGHT
from alchemistore.operations.conflicts import store_documents
from alchemistore.operations.corrections import correct_dependents
from alchemistore.operations.documents import (
    BinaryArray,
    ensure_scope,
    find_root,
    read_documents,
    stored_keys,
)
from alchemistore.operations.requests import once
from alchemistore.operations.strategies import remove_unused_strategy
from alchemistore.operations.taskhubs import drop_taskhub

M = TypeVar("M", "gufe_adapter.Edge", "gufe_adapter.Node")

# All rows of a network except its documents, in one statement.
ADD_NETWORK = text("""
    WITH systems AS (
        INSERT INTO chemical_systems (scope_id, token, kind, name)
        SELECT :scope_id, * FROM unnest(
            CAST(:systems AS uuid[]), CAST(:system_kinds AS text[]), CAST(:system_names AS text[])
        ) AS new (token)
        ORDER BY token
        ON CONFLICT DO NOTHING
    ),
    edges AS (
        INSERT INTO transformations (scope_id, token, kind, name, protocol)
        SELECT :scope_id, * FROM unnest(
            CAST(:edges AS uuid[]), CAST(:edge_kinds AS text[]), CAST(:edge_names AS text[]),
            CAST(:protocols AS text[])
        ) AS new (token)
        ORDER BY token
        ON CONFLICT DO NOTHING
    ),
    -- The end states of the transformations.
    ends AS (
        INSERT INTO transformation_chemical_systems (
            scope_id, transformation, role, chemical_system
        )
        SELECT :scope_id, * FROM unnest(
            CAST(:end_edges AS uuid[]), CAST(:roles AS text[]), CAST(:end_systems AS uuid[])
        ) AS new (transformation)
        ORDER BY transformation
        ON CONFLICT DO NOTHING
    ),
    network AS (
        INSERT INTO networks (scope_id, token, kind, name, created_at)
        VALUES (:scope_id, :token, :kind, :name, :now)
        ON CONFLICT DO NOTHING
    ),
    -- The mark of a new network; that of a network that exists keeps its state.
    mark AS (
        INSERT INTO network_marks (scope_id, token, network, state, created_at)
        VALUES (:scope_id, :mark, :token, 'active', :now)
        ON CONFLICT DO NOTHING
    ),
    member_edges AS (
        INSERT INTO network_transformations (scope_id, network, transformation)
        SELECT :scope_id, :token, member
        FROM unnest(CAST(:member_edges AS uuid[])) AS new (member)
        ORDER BY member
        ON CONFLICT DO NOTHING
    )
    INSERT INTO network_chemical_systems (scope_id, network, chemical_system)
    SELECT :scope_id, :token, member FROM unnest(CAST(:member_systems AS uuid[])) AS new (member)
    ORDER BY member
    ON CONFLICT DO NOTHING
""")
# Returns nothing if the network has been deleted meanwhile.
ADD_HUB_AND_MARK = text(f"""
    WITH
    -- The network. It cannot be deleted until the end of the transaction.
    network AS MATERIALIZED (
        SELECT scope_id, token FROM networks
        WHERE scope_id = {SCOPE_ID} AND token = :token FOR KEY SHARE
    ),
    -- Adds the hub; a hub that exists keeps its weight.
    hub AS (
        INSERT INTO taskhubs (scope_id, token, network, weight, created_at)
        SELECT scope_id, :hub, token, :weight, :now FROM network
        ON CONFLICT DO NOTHING
    )
    INSERT INTO network_marks (scope_id, token, network, state, created_at)
    SELECT scope_id, :mark, token, :state, :now FROM network
    ON CONFLICT (scope_id, network) DO UPDATE SET state = excluded.state
    RETURNING token
""")
# The rows of members are added again by ADD_NETWORK.
CORRECT_EDGES = (
    text("""
        UPDATE transformations AS t SET name = new.name, protocol = new.protocol
        FROM unnest(
            CAST(:edges AS uuid[]), CAST(:edge_names AS text[]), CAST(:protocols AS text[])
        ) AS new (token, name, protocol)
        WHERE t.scope_id = :scope_id AND t.token = new.token
    """),
    text("""
        DELETE FROM transformation_chemical_systems
        WHERE scope_id = :scope_id AND transformation = ANY(CAST(:edges AS uuid[]))
    """),
)
CORRECT_SYSTEMS = text("""
    UPDATE chemical_systems AS s SET name = new.name
    FROM unnest(CAST(:systems AS uuid[]), CAST(:system_names AS text[])) AS new (token, name)
    WHERE s.scope_id = :scope_id AND s.token = new.token
""")
CORRECT_NETWORK = (
    text("UPDATE networks SET name = :name WHERE scope_id = :scope_id AND token = :network"),
    text("DELETE FROM network_transformations WHERE scope_id = :scope_id AND network = :network"),
    text("DELETE FROM network_chemical_systems WHERE scope_id = :scope_id AND network = :network"),
)
LOCK_NETWORK_TO_DELETE = text(f"""
    SELECT scope_id, token, strategy FROM networks
    WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind FOR UPDATE
""")
# Its document is deleted, too, unless another object holds it; the documents of its members stay.
DELETE_NETWORK = (
    text("DELETE FROM networks WHERE scope_id = :scope_id AND token = :token"),
    text("""
        DELETE FROM gufe_objects AS o
        WHERE o.scope_id = :scope_id AND o.token = :token
            AND NOT EXISTS (
                SELECT FROM gufe_objects AS holder
                WHERE holder.scope_id = o.scope_id AND o.token = ANY(holder.children)
            )
            AND NOT EXISTS (
                SELECT FROM networks AS n WHERE n.scope_id = o.scope_id AND n.strategy = o.token
            )
    """),
)
NETWORK_EXISTS = text(
    "SELECT 1 FROM networks WHERE scope_id = :scope_id AND token = CAST(:token AS uuid)"
)


def _key_text(network: object) -> str | None:
    """Return the key of a network or of its keyed chain; ``None`` for anything malformed."""
    if gufe_adapter.is_keyed_chain(network):
        network = list(cast(Iterable[Any], network))
    if isinstance(network, Sequence) and not isinstance(network, str | bytes):
        root = network[-1] if network else None
        return str(root[0]) if isinstance(root, Sequence) and root else None
    return str(gufe_adapter.key_of(network)) if gufe_adapter.is_network(network) else None


@once(idempotent=True, network=_key_text)
def create_network(
    tx: Connection,
    network: GufeTokenizable | Sequence[tuple[str, Mapping[str, Any]]],
    scope: Scope | str,
    *,
    verify: bool = False,
    rekey: bool = False,
    written_by: str | None = None,
    request: UUID | None = None,
) -> ScopedKey:
    """Store a network with all its members; a network that exists stays unchanged.

    Parameters
    ----------
    network : gufe.AlchemicalNetwork, KeyedChain or list of (key, keyed dict)
        The network, or its keyed chain as gufe's ``to_keyed_chain`` returns it and gufe's JSON
        files contain it. `add_file` takes other forms. No object is built from a chain, unless one
        of its documents differs from the one stored under its key.
    scope : Scope or str
        The scope to store it in; it must be specific.
    verify : bool, default False
        Build all objects of a chain and refuse it if gufe computes other keys.
    rekey : bool, default False
        Build all objects of a chain and store them under the keys that gufe computes.
    written_by : str, optional
        The versions of the packages that wrote a chain, such as ``gufe 1.9.0``, if they are not
        the installed ones. A document that differs from the one that another version stored under
        its key is then no error, if the installed packages cannot tell which one is right.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier returns the first
        answer and changes nothing; with other arguments, it is a ValueError.

    Returns
    -------
    ScopedKey
        Key of the network.

    Raises
    ------
    ValueError
        If both end states of a transformation are the same, the scope has open components or more
        than 300 characters, or the chain is malformed. Nothing is stored then.
    DocumentConflictError
        If a document of a chain differs from the one stored under its key, and is not known to be
        the right one. The message names the first difference.
    DocumentNotBuildableError
        If `verify` or `rekey` is set and the installed packages cannot build an object.
    GufeNotInstalledError
        If gufe is not installed, and `network` is not a chain, `verify` or `rekey` is set, or a
        document of the chain differs from the one stored under its key.

    Warns
    -----
    DocumentConflictWarning
        If a stored document differs and stays, because another version wrote it.

    Notes
    -----
    If gufe computes the key of a document of a chain, and another key for the document stored under
    it, the right document takes its place. This is logged as an error, and the table
    ``document_conflicts`` keeps both.
    """
    scope = parse_scope(scope).require_storable()
    if not scope.specific():
        raise ValueError(
            f"{scope} is not specific; name an organisation, a campaign and a project to store"
            " the network in"
        )
    if gufe_adapter.is_keyed_chain(network):
        network = list(network)
    is_chain = isinstance(network, Sequence) and not isinstance(network, str | bytes)
    if is_chain:
        scope_id = ensure_scope(tx, scope)
        documents: Sequence[gufe_adapter.Document] = gufe_adapter.read_chain(
            network, _already_stored(tx, scope_id)
        )
        root = documents[-1].key
        if verify or rekey:
            network = _built(tx, scope_id, documents, rekey)
        is_chain = not rekey
    if not is_chain:
        scope_id, root, documents = _encode_network(tx, network, scope)
    token = gufe_token(root)
    if token is None:
        raise ValueError(f"{root} is not the key of an AlchemicalNetwork")
    parts = (str(part) for part in scope.to_tuple())
    key = ScopedKey.from_parts(root.qualname, token, *parts)
    if documents:
        _add_network(tx, scope_id, key, documents, is_chain, written_by)
    return key


@once(network=_key_text)
def assemble_network(
    tx: Connection,
    network: GufeTokenizable | Sequence[tuple[str, Mapping[str, Any]]],
    scope: Scope | str,
    state: NetworkStateEnum | str = NetworkStateEnum.active,
    *,
    verify: bool = False,
    rekey: bool = False,
    written_by: str | None = None,
    request: UUID | None = None,
) -> tuple[ScopedKey, ScopedKey, ScopedKey]:
    """Store a network with its hub, and set its state.

    A network that exists gets the state; its hub keeps its weight, and its tasks stay on the hub.

    Parameters
    ----------
    network : gufe.AlchemicalNetwork, KeyedChain or list of (key, keyed dict)
        The network, or its keyed chain; see `create_network`.
    scope : Scope or str
        The scope to store it in; it must be specific.
    state : NetworkStateEnum or str, default active
        The state of the network.
    verify, rekey, written_by
        For keyed chains; see `create_network`.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier returns the first
        answer and changes nothing; with other arguments, it is a ValueError.

    Returns
    -------
    tuple of (ScopedKey, ScopedKey, ScopedKey)
        Keys of the network, of its hub and of its mark.

    Raises
    ------
    ValueError
        If there is no such state, and for the reasons of `create_network`. Nothing is stored then.
    """
    state = parse_state(state)
    if gufe_adapter.is_keyed_chain(network):
        network = list(network)
    while True:
        key = create_network(tx, network, scope, verify=verify, rekey=rekey, written_by=written_by)
        hub, mark = TaskHub(network=str(key)).key, NetworkMark(target=str(key)).key
        hub_token, mark_token = UUID(hex=hub.token), UUID(hex=mark.token)
        values = {
            **parameters(key),
            "hub": hub_token,
            "mark": mark_token,
            "weight": DEFAULT_WEIGHT,
            "state": state.value,
            "now": now(),
        }
        # A network that another transaction was deleting is stored again.
        if tx.scalar(ADD_HUB_AND_MARK, values) is not None:
            return key, scoped(key, hub.qualname, hub_token), scoped(key, mark.qualname, mark_token)


def _already_stored(tx: Connection, scope_id: int) -> AlreadyStored:
    return lambda keys: stored_keys(tx, scope_id, keys)


def _encode_network(
    tx: Connection, network: GufeTokenizable, scope: Scope
) -> tuple[int, GufeKey, Sequence[gufe_adapter.Document]]:
    """Return the id of the scope, the key of a network and the documents to store.

    There are none if the network is stored.
    """
    if isinstance(network, str | bytes | Mapping) or not gufe_adapter.is_network(network):
        raise ValueError(
            "expected an AlchemicalNetwork or its keyed chain, a list of (key, keyed dict),"
            f" not {type(network).__name__}"
        )
    root = gufe_adapter.key_of(network)
    scope_id, stored = find_root(tx, scope, root)

    def already_stored(keys: Set[GufeKey]) -> Set[GufeKey]:
        return stored if keys == {root} else stored_keys(tx, scope_id, keys)

    documents = gufe_adapter.encode(network, already_stored)
    if not documents and not _exists(tx, scope_id, root):
        # Its document is stored as a part of another object.
        documents = gufe_adapter.encode(network)
    return scope_id, root, documents


def _exists(tx: Connection, scope_id: int, network: GufeKey) -> bool:
    values = {"scope_id": scope_id, "token": gufe_token(network)}
    return tx.scalar(NETWORK_EXISTS, values) is not None


def _built(
    tx: Connection, scope_id: int, documents: Sequence[gufe_adapter.Document], rekey: bool
) -> GufeTokenizable:
    """Return the network that gufe builds from a chain.

    Raises
    ------
    ValueError
        If gufe computes other keys than those of the chain, and `rekey` is not set.
    """
    given = {document.key for document in documents}
    outside = {child for document in documents for child in document.children} - given
    stored = read_documents(tx, scope_id, outside) if outside else {}
    network, drifted = gufe_adapter.verify_documents(documents, stored)
    if drifted and not rekey:
        key, computed = drifted[0]
        raise ValueError(
            f"{key} and {len(drifted) - 1} more keys of the chain are not those that the installed"
            f" gufe computes; the first should be {computed}. The document was changed, or another"
            " version of gufe wrote it; pass rekey=True to store it under the computed keys"
        )
    return network


def _add_network(
    tx: Connection,
    scope_id: int,
    network: ScopedKey,
    documents: Sequence[gufe_adapter.Document],
    is_chain: bool,
    written_by: str | None,
) -> None:
    root = documents[-1]
    content = gufe_adapter.network_content(root)
    by_key = {document.key: document for document in documents}
    # A member without a document here is stored already, and so are its rows.
    edges = [
        _member(gufe_adapter.edge_content(by_key[key]), key, content)
        for key in content.edges
        if key in by_key
    ]
    # The end states of an edge are nodes of the network, even if the network does not list them.
    members = list(
        dict.fromkeys([*content.nodes, *(system for edge in edges for _, system in edge.systems)])
    )
    nodes = [
        _member(gufe_adapter.node_content(by_key[key]), key, content)
        for key in members
        if key in by_key
    ]
    added, replaced = store_documents(
        tx, scope_id, documents, compare=is_chain, written_by=written_by
    )
    if replaced:
        _remove_rows(tx, scope_id, root, replaced, edges, nodes)
    elif not added and _exists(tx, scope_id, root.key):
        return
    ends = [(edge.key, role, system) for edge in edges for role, system in edge.systems]
    with together(tx, last=not replaced) as send:
        send(
            ADD_NETWORK,
            {
                "scope_id": scope_id,
                "systems": uuids(node.key for node in nodes),
                "system_kinds": BinaryArray(node.key.qualname for node in nodes),
                "system_names": BinaryArray(node.name for node in nodes),
                "edges": uuids(edge.key for edge in edges),
                "edge_kinds": BinaryArray(edge.key.qualname for edge in edges),
                "edge_names": BinaryArray(edge.name for edge in edges),
                "protocols": BinaryArray(edge.protocol for edge in edges),
                "end_edges": uuids(edge for edge, _, _ in ends),
                "roles": BinaryArray(role for _, role, _ in ends),
                "end_systems": uuids(system for _, _, system in ends),
                "token": UUID(hex=root.key.token),
                "mark": gufe_token(NetworkMark(target=str(network)).key),
                "kind": root.key.qualname,
                "name": content.name,
                "now": now(),
                "member_edges": uuids(content.edges),
                "member_systems": uuids(members),
            },
        )
    if replaced:
        keys = {document.key for document in replaced}
        wrong = uuids(edge.key for edge in edges if edge.key in keys)
        correct_dependents(tx, network, scope_id, wrong)


def _remove_rows(
    tx: Connection,
    scope_id: int,
    root: gufe_adapter.Document,
    replaced: Sequence[gufe_adapter.Document],
    edges: Sequence[gufe_adapter.Edge],
    nodes: Sequence[gufe_adapter.Node],
) -> None:
    """Correct or remove the rows that were read from documents which have been replaced."""
    keys = {document.key for document in replaced}
    edges = [edge for edge in edges if edge.key in keys]
    nodes = [node for node in nodes if node.key in keys]
    values = {
        "scope_id": scope_id,
        "edges": uuids(edge.key for edge in edges),
        "edge_names": BinaryArray(edge.name for edge in edges),
        "protocols": BinaryArray(edge.protocol for edge in edges),
        "systems": uuids(node.key for node in nodes),
        "system_names": BinaryArray(node.name for node in nodes),
        "network": gufe_token(root.key),
        "name": gufe_adapter.network_content(root).name,
    }
    for statement in CORRECT_EDGES if edges else ():
        tx.execute(statement, values)
    if nodes:
        tx.execute(CORRECT_SYSTEMS, values)
    for statement in CORRECT_NETWORK if root.key in keys else ():
        tx.execute(statement, values)


def _member(found: M | None, key: str, network: gufe_adapter.NetworkContent) -> M:
    if found is None:
        raise ValueError(
            f"{network.key} has the member {key}, which is not an object of the expected"
            " kind: its edges must be transformations, its nodes chemical systems"
        )
    return found


@once()
def delete_network(
    tx: Connection, network: ScopedKey | str, *, request: UUID | None = None
) -> ScopedKey:
    """Delete a network with its hub and strategy; its members, their tasks and results stay.

    The document of a network or strategy that other objects or networks need stays, too.

    Parameters
    ----------
    network : ScopedKey or str
        The network.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier returns the first
        answer and changes nothing; with other arguments, it is a ValueError.

    Returns
    -------
    ScopedKey
        Key of the deleted network.

    Raises
    ------
    KeyError
        If there is no such network.
    ValueError
        If it is the key of something else.
    """
    key = parse_key(network, "AlchemicalNetwork")
    row = tx.execute(LOCK_NETWORK_TO_DELETE, {**parameters(key), "kind": key.qualname}).first()
    if row is None:
        raise MissingObjectError(key)
    drop_taskhub(tx, row.scope_id, row.token)
    for statement in DELETE_NETWORK:
        tx.execute(statement, {"scope_id": row.scope_id, "token": row.token})
    if row.strategy is not None:
        remove_unused_strategy(tx, row.scope_id, row.strategy)
    return key
