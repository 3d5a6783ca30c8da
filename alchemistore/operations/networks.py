"""Networks: storage with all their members, deletion and queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, Literal, TypeVar, overload
from uuid import UUID

from sqlalchemy import Connection, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import (
    gufe_token,
    keys_of,
    parameters,
    parse_key,
    parse_scope,
    scope_parameters,
)
from alchemistore.database.sql import SCOPE_ID, listing, page
from alchemistore.errors import MissingObjectError
from alchemistore.models import GufeKey, Scope, ScopedKey
from alchemistore.models.clock import now
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.models.text import is_text
from alchemistore.operations.documents import (
    BinaryArray,
    ensure_scope,
    read_objects,
    store_documents,
    stored_keys,
    uuids,
)
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
LOCK_NETWORK_TO_DELETE = text(f"""
    SELECT scope_id, token FROM networks
    WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind FOR UPDATE
""")
# Its document is deleted, too; the documents of its members stay.
DELETE_NETWORK = (
    text("DELETE FROM networks WHERE scope_id = :scope_id AND token = :token"),
    text("DELETE FROM gufe_objects WHERE scope_id = :scope_id AND token = :token"),
)


def create_network(
    tx: Connection,
    network: GufeTokenizable | Sequence[tuple[str, Mapping[str, Any]]],
    scope: Scope | str,
) -> ScopedKey:
    """Store a network with all its members; a network that exists stays unchanged.

    Parameters
    ----------
    network : gufe.AlchemicalNetwork, KeyedChain or list of (key, keyed dict)
        The network, or its keyed chain as gufe's ``to_keyed_chain`` returns it and gufe's JSON
        files contain it. `add_file` takes other forms. No object is built from a chain.
    scope : Scope or str
        The scope to store it in; it must be specific.

    Returns
    -------
    ScopedKey
        Key of the network.

    Raises
    ------
    ValueError
        If both end states of a transformation are the same, the scope has open components or more
        than 300 characters, or the chain is malformed. Nothing is stored then.
    GufeNotInstalledError
        If `network` is not a chain and gufe is not installed.
    """
    scope = parse_scope(scope).require_storable()
    if not scope.specific():
        raise ValueError(
            f"{scope} is not specific; name an organisation, a campaign and a project to store"
            " the network in"
        )
    scope_id = ensure_scope(tx, scope)
    root, documents = _encode_network(tx, network, scope_id)
    token = gufe_token(root)
    if token is None:
        raise ValueError(f"{root} is not the key of an AlchemicalNetwork")
    if documents:
        _add_network(tx, scope_id, documents)
    return ScopedKey.from_parts(root.qualname, token, *(str(part) for part in scope.to_tuple()))


def _encode_network(
    tx: Connection,
    network: GufeTokenizable | Sequence[tuple[str, Mapping[str, Any]]],
    scope_id: int,
) -> tuple[GufeKey, Sequence[gufe_adapter.Document]]:
    """Return the key of a network and the documents to store, none if the network is stored."""

    if gufe_adapter.is_keyed_chain(network):
        network = list(network)

    def already_stored(keys: Set[GufeKey]) -> Set[GufeKey]:
        return stored_keys(tx, scope_id, keys)

    if isinstance(network, Sequence) and not isinstance(network, str | bytes):
        documents = gufe_adapter.read_chain(network, already_stored)
        root = documents[-1].key
        return root, [] if already_stored({root}) else documents
    if isinstance(network, str | bytes | Mapping) or not gufe_adapter.is_network(network):
        raise ValueError(
            "expected an AlchemicalNetwork or its keyed chain, a list of (key, keyed dict),"
            f" not {type(network).__name__}"
        )
    return gufe_adapter.key_of(network), gufe_adapter.encode(network, already_stored)


def _add_network(
    tx: Connection,
    scope_id: int,
    documents: Sequence[gufe_adapter.Document],
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
    store_documents(tx, scope_id, documents)
    ends = [(edge.key, role, system) for edge in edges for role, system in edge.systems]
    tx.execute(
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
            "kind": root.key.qualname,
            "name": content.name,
            "now": now(),
            "member_edges": uuids(content.edges),
            "member_systems": uuids(members),
        },
    )


def _member(found: M | None, key: str, network: gufe_adapter.NetworkContent) -> M:
    if found is None:
        raise ValueError(
            f"{network.key} has the member {key}, which is not an object of the expected"
            " kind: its edges must be transformations, its nodes chemical systems"
        )
    return found


def delete_network(tx: Connection, network: ScopedKey | str) -> ScopedKey:
    """Delete a network with its hub; its members, their tasks and results stay.

    Parameters
    ----------
    network : ScopedKey or str
        The network.

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
    return key


def _query(
    tx: Connection,
    table: str,
    name: str | None,
    key: str | None,
    scope: Scope | str | None,
    limit: int | None,
    after: ScopedKey | str | None,
) -> list[ScopedKey]:
    values, conditions = page(limit, after)
    if name is not None:
        if not is_text(name):
            return []
        values["name"] = name
        same = "hashtextextended(o.name, 0) = hashtextextended(:name, 0) AND o.name = :name"
        conditions.append(same if name else f"({same} OR o.name IS NULL)")
    if key is not None:
        values |= {"token": gufe_token(key), "kind": key.partition("-")[0]}
        conditions.append("o.token = :token AND o.kind = :kind")
    statement = listing(f"SELECT o.kind, o.token FROM {table} AS o", *conditions)
    return keys_of(tx.execute(statement, {**scope_parameters(scope), **values}))


@overload
def query_networks(
    tx: Connection,
    *,
    name: str | None = None,
    key: str | None = None,
    scope: Scope | str | None = None,
    return_gufe: Literal[False] = False,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> list[ScopedKey]: ...


@overload
def query_networks(
    tx: Connection,
    *,
    name: str | None = None,
    key: str | None = None,
    scope: Scope | str | None = None,
    return_gufe: Literal[True],
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> dict[ScopedKey, GufeTokenizable]: ...


@overload
def query_networks(
    tx: Connection,
    *,
    name: str | None = None,
    key: str | None = None,
    scope: Scope | str | None = None,
    return_gufe: bool,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> list[ScopedKey] | dict[ScopedKey, GufeTokenizable]: ...


def query_networks(
    tx: Connection,
    *,
    name: str | None = None,
    key: str | None = None,
    scope: Scope | str | None = None,
    return_gufe: bool = False,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> list[ScopedKey] | dict[ScopedKey, GufeTokenizable]:
    """Find networks.

    Parameters
    ----------
    name : str, optional
        Only networks with exactly this name; an empty text finds those without a name.
    key : GufeKey or str, optional
        Only the networks with this gufe key.
    scope : Scope or str, default all
        Only networks in this scope; open components match anything.
    return_gufe : bool, default False
        Return a dict of the objects by their keys.
    limit : int, optional
        Largest number of networks to return.
    after : ScopedKey or str, optional
        Only networks after this key; pass the last key of the previous page.

    Returns
    -------
    list of ScopedKey, or dict of ScopedKey to gufe.AlchemicalNetwork
        In the order of organisation, campaign, project and token.

    Raises
    ------
    ValueError
        If `limit` is negative, or `scope` or `after` is malformed.
    GufeNotInstalledError
        If gufe is not installed and `return_gufe` is set.
    """
    found = _query(tx, "networks", name, key, scope, limit, after)
    return read_objects(tx, found) if return_gufe else found


def query_transformations(
    tx: Connection,
    *,
    name: str | None = None,
    key: str | None = None,
    scope: Scope | str | None = None,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> list[ScopedKey]:
    """Find transformations, including NonTransformations; see `query_networks`."""
    return _query(tx, "transformations", name, key, scope, limit, after)


def query_chemicalsystems(
    tx: Connection,
    *,
    name: str | None = None,
    key: str | None = None,
    scope: Scope | str | None = None,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> list[ScopedKey]:
    """Find chemical systems; see `query_networks`."""
    return _query(tx, "chemical_systems", name, key, scope, limit, after)
