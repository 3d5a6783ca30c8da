"""Strategies: an object of gufe that says how the effort for a network is to be spent."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import gufe_token, one_or_missing, parse_key, scoped
from alchemistore.database.sql import SCOPE_ID
from alchemistore.models import ScopedKey
from alchemistore.operations.objects import get_gufe, store

LOCK_NETWORK = text(f"""
    SELECT scope_id, token FROM networks WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind FOR NO KEY UPDATE
""")
SET = text("UPDATE networks SET strategy = :strategy WHERE scope_id = :scope_id AND token = :token")
GET = text(f"""
    SELECT o.kind, o.token
    FROM networks AS n LEFT JOIN gufe_objects AS o ON o.scope_id = n.scope_id AND o.token = n.strategy
    WHERE n.scope_id = {SCOPE_ID} AND n.token = :token AND n.kind = :kind
""")


def set_strategy(tx: Connection, strategy: Any, network: ScopedKey | str) -> ScopedKey | None:
    """Store a strategy and link it to a network, in place of the one it has.

    Parameters
    ----------
    strategy : GufeTokenizable or None
        Any object of gufe without networks, transformations and chemical systems in it; ``None`` leaves the network without one.
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
        If `network` is the key of something else, or `strategy` is no such object.
    """
    key = parse_key(network, "AlchemicalNetwork")
    documents = [] if strategy is None else _documents(strategy)
    row = one_or_missing(tx, LOCK_NETWORK, key, kind=key.qualname)
    store(tx, row.scope_id, documents)
    root = documents[-1].key if documents else None
    token = None if root is None else gufe_token(root)
    tx.execute(SET, {"scope_id": row.scope_id, "token": row.token, "strategy": token})
    return None if root is None or token is None else scoped(key, root.qualname, token)


def _documents(strategy: Any) -> list[gufe_adapter.Document]:
    if not gufe_adapter.is_gufe(strategy):
        raise ValueError(f"expected a gufe object or None, not {type(strategy).__name__}")
    documents = gufe_adapter.encode(strategy)
    for document in documents:
        # These have rows of their own, which only `create_network` writes, for objects that are not stored yet.
        if (
            gufe_adapter.node_content(document) is not None
            or gufe_adapter.edge_content(document) is not None
            or {"edges", "nodes"} <= document.content.keys()
        ):
            raise ValueError(
                f"a strategy cannot have {document.key} in it: that belongs into a network"
            )
    return documents


def get_strategy(tx: Connection, network: ScopedKey | str) -> Any:
    """Give the strategy of a network.

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
    row = one_or_missing(tx, GET, key, kind=key.qualname)
    return None if row.kind is None else get_gufe(tx, scoped(key, row.kind, row.token))
