"""Marks of networks: the states that queries and counts can select."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast, overload

from sqlalchemy import Connection, text

from alchemistore.database.keys import (
    gufe_token,
    one_or_missing,
    parse_network,
    parse_networks,
    parse_one_or_many,
    scoped,
)
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import MissingObjectError
from alchemistore.models import NetworkMark, NetworkStateEnum, ScopedKey
from alchemistore.models.clock import now
from alchemistore.models.network import parse_state

READ_MARK = text(f"""
    SELECT n.kind AS network_kind, m.network, m.state
    FROM network_marks AS m JOIN networks AS n ON n.scope_id = m.scope_id AND n.token = m.network
    WHERE m.scope_id = {SCOPE_ID} AND m.token = :token
""")
# A network without a mark, as previous versions create it, is active.
GET_NETWORK_STATE = text(f"""
    SELECT n.scope_id, n.token, coalesce(m.state, '{NetworkStateEnum.active.value}') AS state
    FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) AS x (scope_id, token)
    JOIN networks AS n ON n.scope_id = x.scope_id AND n.token = x.token
    LEFT JOIN network_marks AS m ON m.scope_id = n.scope_id AND m.network = n.token
""")
SET_NETWORK_STATE = text("""
    WITH
    -- The given networks that exist. They cannot be deleted until the end of the transaction.
    found AS MATERIALIZED (
        SELECT n.scope_id, n.token, x.mark, x.state
        FROM unnest(
            CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[]), CAST(:marks AS uuid[]),
            CAST(:states AS text[])
        ) AS x (scope_id, token, mark, state)
        JOIN networks AS n ON n.scope_id = x.scope_id AND n.token = x.token
        ORDER BY n.scope_id, n.token
        FOR KEY SHARE OF n
    )
    INSERT INTO network_marks (scope_id, token, network, state, created_at)
    SELECT scope_id, mark, token, state, :now FROM found
    ON CONFLICT (scope_id, network) DO UPDATE SET state = excluded.state
    RETURNING scope_id, network
""")


def read_mark(tx: Connection, key: ScopedKey) -> NetworkMark:
    """Return the mark of a network as it is now.

    Raises
    ------
    KeyError
        If there is no such mark.
    """
    row = one_or_missing(tx, READ_MARK, key)
    network = scoped(key, row.network_kind, row.network)
    return NetworkMark(target=str(network), state=row.state)


@overload
def get_network_state(  # type: ignore[overload-overlap]  # a str is an iterable of str, too
    tx: Connection, networks: ScopedKey | str
) -> str: ...
@overload
def get_network_state(
    tx: Connection, networks: Iterable[ScopedKey | str | None]
) -> list[str | None]: ...
def get_network_state(
    tx: Connection, networks: ScopedKey | str | Iterable[ScopedKey | str | None]
) -> str | list[str | None]:
    """Return the state of networks: active, inactive, invalid or deleted.

    Parameters
    ----------
    networks : iterable of ScopedKey or str, or one of them
        Several networks, or one.

    Returns
    -------
    list of str or None, or str
        For several networks, one entry per network, in order; ``None`` for a missing network and
        for the key of something else.

    Raises
    ------
    ValueError
        If a single key is that of something else.
    KeyError
        If a single network is missing.
    """
    if isinstance(networks, ScopedKey | str):
        networks = parse_network(networks)
    single, keys = parse_one_or_many(tx, networks, "AlchemicalNetwork")
    rows = tx.execute(GET_NETWORK_STATE, keys.parameters)
    states: list[str | None] = keys.align({(row.scope_id, row.token): row.state for row in rows})
    if not single:
        return states
    if states[0] is None:
        raise MissingObjectError(networks)
    return states[0]


@overload
def set_network_state(  # type: ignore[overload-overlap]  # a str is an iterable of str, too
    tx: Connection, networks: ScopedKey | str, states: NetworkStateEnum | str
) -> ScopedKey: ...
@overload
def set_network_state(
    tx: Connection,
    networks: Iterable[ScopedKey | str | None],
    states: Iterable[NetworkStateEnum | str] | NetworkStateEnum | str,
) -> list[ScopedKey | None]: ...
def set_network_state(
    tx: Connection,
    networks: ScopedKey | str | Iterable[ScopedKey | str | None],
    states: NetworkStateEnum | str | Iterable[NetworkStateEnum | str],
) -> ScopedKey | list[ScopedKey | None]:
    """Set the state of networks: active, inactive, invalid or deleted.

    The state can select networks in `query_networks` and tasks in `get_scope_status`. Tasks of a
    network that is not active can still be claimed.

    Parameters
    ----------
    networks : iterable of ScopedKey or str, or one of them
        Several networks, or one.
    states : iterable of NetworkStateEnum or str, or one of them
        One state per network, or one for all. A network listed twice gets the last state.

    Returns
    -------
    list of ScopedKey or None, or ScopedKey
        For several networks, one entry per network, in order: its key, or ``None`` if it is
        missing.

    Raises
    ------
    ValueError
        If the numbers of networks and states differ, a key is that of something else, or there is
        no such state. No state changes then.
    KeyError
        If a single network is missing.
    """
    single, keys = parse_networks(tx, networks)
    count = len(keys.parsed)
    given = [states] * count if isinstance(states, str) else list(states)
    if len(given) != count:
        raise ValueError(f"{count} networks, but {len(given)} states; pass one state per network")
    last = dict(zip(keys.index, map(parse_state, given), strict=True))
    changed = set()
    if keys:
        values = {
            **keys.parameters,
            "marks": [gufe_token(NetworkMark(target=str(key)).key) for key in keys.distinct],
            "states": [last[index].value for index in range(len(keys.distinct))],
            "now": now(),
        }
        changed = {(row.scope_id, row.network) for row in tx.execute(SET_NETWORK_STATE, values)}
    if single and not changed:
        raise MissingObjectError(networks)
    answer = keys.align_keys({*keys.pairs()} - changed)
    return cast(ScopedKey, answer[0]) if single else answer
