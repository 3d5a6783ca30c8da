"""Strategies: gufe objects that say how to spend the effort on a network."""

from __future__ import annotations

from sqlalchemy import Connection, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import gufe_token, one_or_missing, parse_key, scoped
from alchemistore.database.sql import SCOPE_ID
from alchemistore.models import ScopedKey
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.operations.conflicts import store_documents
from alchemistore.operations.documents import read_object

LOCK_NETWORK_OF_STRATEGY = text(f"""
    SELECT scope_id, token FROM networks
    WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind FOR NO KEY UPDATE
""")
SET_STRATEGY = text(
    "UPDATE networks SET strategy = :strategy WHERE scope_id = :scope_id AND token = :token"
)
GET_STRATEGY = text(f"""
    SELECT o.kind, o.token
    FROM networks AS n
    LEFT JOIN gufe_objects AS o ON o.scope_id = n.scope_id AND o.token = n.strategy
    WHERE n.scope_id = {SCOPE_ID} AND n.token = :token AND n.kind = :kind
""")


def set_strategy(
    tx: Connection, strategy: GufeTokenizable | None, network: ScopedKey | str
) -> ScopedKey | None:
    """Store a strategy and link it to a network, instead of the strategy that the network has.

    Parameters
    ----------
    strategy : GufeTokenizable or None
        Any gufe object that contains no network, transformation or chemical system. ``None``
        removes the link.
    network : ScopedKey or str
        The network.

    Returns
    -------
    ScopedKey or None
        Key of the strategy, in the scope of the network.

    Raises
    ------
    KeyError
        If there is no such network.
    ValueError
        If `network` is the key of something else, or `strategy` is not such an object.
    """
    key = parse_key(network, "AlchemicalNetwork")
    documents = [] if strategy is None else _encode_strategy(strategy)
    row = one_or_missing(tx, LOCK_NETWORK_OF_STRATEGY, key, kind=key.qualname)
    store_documents(tx, row.scope_id, documents)
    root = documents[-1].key if documents else None
    token = None if root is None else gufe_token(root)
    tx.execute(SET_STRATEGY, {"scope_id": row.scope_id, "token": row.token, "strategy": token})
    return None if root is None or token is None else scoped(key, root.qualname, token)


def _encode_strategy(strategy: GufeTokenizable) -> list[gufe_adapter.Document]:
    if not gufe_adapter.is_gufe(strategy):
        raise ValueError(f"expected a gufe object or None, not {type(strategy).__name__}")
    documents = gufe_adapter.encode(strategy)
    for document in documents:
        # The members of networks have rows of their own, and only `create_network` writes them.
        if (
            "components" in document.content
            or gufe_adapter.edge_content(document) is not None
            or {"edges", "nodes"} <= document.content.keys()
        ):
            raise ValueError(
                f"a strategy cannot contain {document.key}; store networks and their members with"
                " create_network"
            )
    return documents


def get_strategy(tx: Connection, network: ScopedKey | str) -> GufeTokenizable | None:
    """Return the strategy of a network.

    Parameters
    ----------
    network : ScopedKey or str
        The network.

    Returns
    -------
    GufeTokenizable or None
        ``None`` if it has none.

    Raises
    ------
    KeyError
        If there is no such network.
    ValueError
        If it is the key of something else.
    """
    key = parse_key(network, "AlchemicalNetwork")
    row = one_or_missing(tx, GET_STRATEGY, key, kind=key.qualname)
    return None if row.kind is None else read_object(tx, scoped(key, row.kind, row.token))
