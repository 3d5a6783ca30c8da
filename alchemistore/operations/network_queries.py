"""Queries for networks, transformations and chemical systems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, overload

from sqlalchemy import Connection, Row, text

from alchemistore.database.keys import (
    gufe_token,
    listed_keys,
    parse_keys,
    scope_parameters,
    scoped,
)
from alchemistore.database.patterns import parse_pattern
from alchemistore.database.sql import listing_of_keys, page
from alchemistore.models import NetworkDetails, NetworkStateEnum, Records, Scope, ScopedKey
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.models.text import is_text
from alchemistore.operations.documents import read_objects
from alchemistore.operations.status_counts import get_network_status

# A network without a mark, as previous versions create it, is active.
STATE_MATCHES = """
    coalesce((
        SELECT m.state FROM network_marks AS m
        WHERE m.scope_id = o.scope_id AND m.network = o.token
    ), 'active') ~ :state
"""
NAME_MATCHES = "o.name ~ :name"
KEY_MATCHES = "o.kind || '-' || replace(CAST(o.token AS text), '-', '') ~ :key"


# A network without a mark, as previous versions create it, is active.
DETAILS_OF_NETWORKS = text("""
    SELECT n.scope_id, n.token, n.name, coalesce(m.state, 'active') AS state, n.created_at,
        h.token AS taskhub, h.weight, n.strategy, g.kind AS strategy_kind,
        (
            SELECT count(*) FROM network_transformations AS t
            WHERE t.scope_id = n.scope_id AND t.network = n.token
        ) AS transformations
    FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) AS x (scope_id, network)
    JOIN networks AS n ON n.scope_id = x.scope_id AND n.token = x.network
    LEFT JOIN network_marks AS m ON m.scope_id = n.scope_id AND m.network = n.token
    LEFT JOIN taskhubs AS h ON h.scope_id = n.scope_id AND h.network = n.token
    LEFT JOIN gufe_objects AS g ON g.scope_id = n.scope_id AND g.token = n.strategy
""")


def _query(
    tx: Connection,
    table: str,
    name: str | None,
    key: str | None,
    scope: Scope | str | None,
    limit: int | None,
    after: ScopedKey | str | None,
    state: NetworkStateEnum | str | None = None,
    patterns: bool = False,
) -> list[ScopedKey]:
    values, conditions = page(limit, after, by_kind=True)
    if state is not None:
        values["state"] = parse_pattern(state, "the state")
        conditions.append(STATE_MATCHES)
    if name is not None and patterns:
        values["name"] = parse_pattern(name, "the name")
        conditions.append(NAME_MATCHES)
    elif name is not None:
        if not is_text(name):
            return []
        values["name"] = name
        same = "hashtextextended(o.name, 0) = hashtextextended(:name, 0) AND o.name = :name"
        conditions.append(same if name else f"({same} OR o.name IS NULL)")
    if key is not None and patterns:
        values["key"] = parse_pattern(key, "the key")
        conditions.append(KEY_MATCHES)
    elif key is not None:
        values |= {"token": gufe_token(key), "kind": key.partition("-")[0]}
        conditions.append("o.token = :token AND o.kind = :kind")
    statement = listing_of_keys(
        f"SELECT o.kind, o.token FROM {table} AS o", *conditions, by_kind=True
    )
    return listed_keys(tx.execute(statement, {**scope_parameters(scope), **values}))


@overload
def query_networks(
    tx: Connection,
    *,
    name: str | None = None,
    key: str | None = None,
    scope: Scope | str | None = None,
    return_gufe: Literal[False] = False,
    state: NetworkStateEnum | str | None = None,
    patterns: bool = False,
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
    state: NetworkStateEnum | str | None = None,
    patterns: bool = False,
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
    state: NetworkStateEnum | str | None = None,
    patterns: bool = False,
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
    state: NetworkStateEnum | str | None = None,
    patterns: bool = False,
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
    state : NetworkStateEnum or str, optional
        Only networks whose state matches this pattern, such as ``active|inactive``. Default: any
        state.
    patterns : bool, default False
        Whether `name` and `key` are patterns, too. A network without a name then matches no name.
    limit : int, optional
        Largest number of networks to return.
    after : ScopedKey or str, optional
        Only networks after this key; pass the last key of the previous page.

    Returns
    -------
    list of ScopedKey, or dict of ScopedKey to gufe.AlchemicalNetwork
        In the order of organisation, campaign, project and gufe key.

    Raises
    ------
    ValueError
        If `limit` is negative, `scope` or `after` is malformed, or a pattern cannot be used.
    GufeNotInstalledError
        If gufe is not installed and `return_gufe` is set.

    Notes
    -----
    A pattern is a regular expression that the whole text must match. It consists of the elements
    in :mod:`alchemistore.database.patterns`; others are refused, so that no pattern takes long.
    """
    found = _query(tx, "networks", name, key, scope, limit, after, state, patterns)
    return read_objects(tx, found) if return_gufe else found


def get_network_details(
    tx: Connection, networks: Iterable[ScopedKey | str | None]
) -> Records[NetworkDetails | None]:
    """Return the name, state, hub, strategy, and numbers of tasks by status of each network.

    Parameters
    ----------
    networks : iterable of ScopedKey or str
        The networks.

    Returns
    -------
    Records of NetworkDetails or None
        One entry per network, in order; ``None`` for a missing network.
    """
    keys = parse_keys(tx, networks, "AlchemicalNetwork")
    counts = get_network_status(tx, keys.distinct)
    rows = {
        (row.scope_id, row.token): row for row in tx.execute(DETAILS_OF_NETWORKS, keys.parameters)
    }
    found = keys.align(
        {
            pair: _details(key, rows[pair], tasks)
            for (key, pair), tasks in zip(keys.items(), counts, strict=True)
            if pair in rows
        }
    )
    return Records(found)


def _details(key: ScopedKey, row: Row[Any], tasks: Mapping[str, int]) -> NetworkDetails:
    return NetworkDetails(
        network=key,
        name=row.name,
        state=row.state,
        created_at=row.created_at,
        taskhub=None if row.taskhub is None else scoped(key, "TaskHub", row.taskhub),
        weight=row.weight,
        strategy=None if row.strategy is None else scoped(key, row.strategy_kind, row.strategy),
        num_transformations=row.transformations,
        tasks=tasks,
    )


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
