"""Networks: stored whole, found by name, key and scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
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
from alchemistore.models import Scope, ScopedKey
from alchemistore.models.clock import now
from alchemistore.models.text import is_text
from alchemistore.operations.objects import (
    BinaryArray,
    add_scope,
    get_objects,
    store,
    stored,
    uuids,
)
from alchemistore.operations.taskhubs import drop_taskhub

M = TypeVar("M", "gufe_adapter.Edge", "gufe_adapter.Node")

# The rows of a network beside its documents, in one statement.
ADD_NETWORK = text("""
    WITH systems AS (
        INSERT INTO chemical_systems (scope_id, token, kind, name)
        SELECT :scope_id, * FROM unnest(CAST(:systems AS uuid[]), CAST(:system_kinds AS text[]), CAST(:system_names AS text[]))
            AS new (token)
        ORDER BY token
        ON CONFLICT DO NOTHING
    ),
    edges AS (
        INSERT INTO transformations (scope_id, token, kind, name, protocol)
        SELECT :scope_id, * FROM unnest(
            CAST(:edges AS uuid[]), CAST(:edge_kinds AS text[]), CAST(:edge_names AS text[]), CAST(:protocols AS text[])
        ) AS new (token)
        ORDER BY token
        ON CONFLICT DO NOTHING
    ),
    ends AS (
        INSERT INTO transformation_chemical_systems (scope_id, transformation, role, chemical_system)
        SELECT :scope_id, * FROM unnest(CAST(:end_edges AS uuid[]), CAST(:roles AS text[]), CAST(:end_systems AS uuid[]))
            AS new (transformation)
        ORDER BY transformation
        ON CONFLICT DO NOTHING
    ),
    network AS (
        INSERT INTO networks (scope_id, token, kind, name, created_at) VALUES (:scope_id, :token, :kind, :name, :now)
        ON CONFLICT DO NOTHING
    ),
    member_edges AS (
        INSERT INTO network_transformations (scope_id, network, transformation)
        SELECT :scope_id, :token, member FROM unnest(CAST(:member_edges AS uuid[])) AS new (member)
        ORDER BY member
        ON CONFLICT DO NOTHING
    )
    INSERT INTO network_chemical_systems (scope_id, network, chemical_system)
    SELECT :scope_id, :token, member FROM unnest(CAST(:member_systems AS uuid[])) AS new (member)
    ORDER BY member
    ON CONFLICT DO NOTHING
""")

LOCK_NETWORK = text(f"""
    SELECT scope_id, token FROM networks WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind FOR UPDATE
""")
# Its document goes too, unless something else refers to it; members and their tasks stay.
DELETE_NETWORK = (
    text("DELETE FROM networks WHERE scope_id = :scope_id AND token = :token"),
    text("DELETE FROM gufe_objects WHERE scope_id = :scope_id AND token = :token"),
)


def create_network(tx: Connection, network: Any, scope: Scope | str) -> ScopedKey:
    """Store a network with everything in it; a network that is there already stays as it is.

    Parameters
    ----------
    network : gufe.AlchemicalNetwork or list of (key, keyed dict)
        The network, or its keyed chain as gufe's ``to_keyed_chain`` and JSON files give it. Of a chain no object is built.
    scope : Scope or str
        Where to store it; specific.

    Returns
    -------
    ScopedKey
        Key of the network.

    Raises
    ------
    ValueError
        If a transformation leads from a chemical system to itself, the scope has open components, or the chain is not well
        formed. Nothing is stored then.
    """
    scope = parse_scope(scope)
    if not scope.specific():
        raise ValueError(
            f"{scope} is not specific: a network is stored in one organisation, campaign and project"
        )
    scope_id = add_scope(tx, scope)

    def known(keys: Any) -> Any:
        return stored(tx, scope_id, keys)

    if isinstance(network, str | bytes | Mapping):
        raise ValueError(
            "expected an AlchemicalNetwork or its keyed chain, a list of (key, keyed dict)"
        )
    if isinstance(network, Sequence):
        documents = gufe_adapter.read_chain(network, known)
        root = documents[-1].key
        known_root = root in known(frozenset([root]))
    else:
        if not gufe_adapter.is_network(network):
            raise ValueError(
                f"expected an AlchemicalNetwork or its keyed chain, not {type(network).__name__}"
            )
        root = gufe_adapter.key_of(network)
        documents = gufe_adapter.encode(network, known)
        known_root = not documents
    token = gufe_token(root)
    if token is None:
        raise ValueError(f"{root} is not the key of an AlchemicalNetwork")
    if not known_root:
        _add_network(
            tx, scope_id, {document.key: document for document in documents}, documents[-1]
        )
    return ScopedKey.from_parts(root.qualname, token, *(str(part) for part in scope.to_tuple()))


def _add_network(
    tx: Connection,
    scope_id: int,
    documents: Mapping[str, gufe_adapter.Document],
    root: gufe_adapter.Document,
) -> None:
    content = gufe_adapter.network_content(root)
    # What is not among the documents is stored already, and so are its rows.
    edges = [
        _member(gufe_adapter.edge_content(documents[key]), key, content)
        for key in content.edges
        if key in documents
    ]
    # The end states of an edge are nodes of the network, whether it says so or not.
    members = list(
        dict.fromkeys([*content.nodes, *(system for edge in edges for _, system in edge.systems)])
    )
    nodes = [
        _member(gufe_adapter.node_content(documents[key]), key, content)
        for key in members
        if key in documents
    ]
    store(tx, scope_id, list(documents.values()))
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
            f"{network.key} names {key} as a member, which is neither a transformation nor a chemical system"
        )
    return found


def delete_network(tx: Connection, network: ScopedKey | str) -> ScopedKey:
    """Delete a network with its hub; its transformations, chemical systems, tasks and results stay.

    Parameters
    ----------
    network : ScopedKey or str
        The network.

    Returns
    -------
    ScopedKey
        Its key.

    Raises
    ------
    KeyError
        If there is no such network.
    ValueError
        If it is the key of something else.
    """
    key = parse_key(network, "AlchemicalNetwork")
    row = tx.execute(LOCK_NETWORK, {**parameters(key), "kind": key.qualname}).first()
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
        conditions.append(
            "hashtextextended(o.name, 0) = hashtextextended(:name, 0) AND o.name = :name"
        )
    if key is not None:
        values |= {"token": gufe_token(key), "kind": key.partition("-")[0]}
        conditions.append("o.token = :token AND o.kind = :kind")
    statement = listing(f"SELECT o.kind, o.token FROM {table} AS o", *conditions)
    return keys_of(tx.execute(statement, {**scope_parameters(scope), **values}))


def query_networks(
    tx: Connection,
    *,
    name: str | None = None,
    key: str | None = None,
    scope: Scope | str | None = None,
    return_gufe: bool = False,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> Any:
    """Find networks.

    Parameters
    ----------
    name : str, optional
        Exactly this name.
    key : GufeKey or str, optional
        This gufe key.
    scope : Scope or str, default all
        In this scope; open components match anything.
    return_gufe : bool, default False
        Give a dict of the objects by their keys.
    limit : int, optional
        At most so many.
    after : ScopedKey or str, optional
        Only what comes after this key: the last one of the page before.

    Returns
    -------
    list of ScopedKey, or dict of ScopedKey to gufe.AlchemicalNetwork
        In the order of organisation, campaign, project and token.
    """
    found = _query(tx, "networks", name, key, scope, limit, after)
    return get_objects(tx, found) if return_gufe else found


def query_transformations(
    tx: Connection,
    *,
    name: str | None = None,
    key: str | None = None,
    scope: Scope | str | None = None,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> list[ScopedKey]:
    """Find transformations, NonTransformations among them; parameters and order as of `query_networks`."""
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
    """Find chemical systems; parameters and order as of `query_networks`."""
    return _query(tx, "chemical_systems", name, key, scope, limit, after)
