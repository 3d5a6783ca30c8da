"""Strategies: gufe objects that say how to spend the effort on a network.

A strategist executes them: it asks for those that are due, which gives it a lease on each, and
later updates their states, which ends the lease. Other strategists do not get them meanwhile.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, text

from alchemistore import gufe_adapter
from alchemistore.database.keys import (
    gufe_token,
    one_or_missing,
    parameters,
    parse_key,
    parse_scope,
    scoped,
)
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import MissingObjectError
from alchemistore.models import Scope, ScopedKey, StrategyState, StrategyStatusEnum
from alchemistore.models.clock import now
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.models.text import escape, unescape
from alchemistore.operations.conflicts import store_documents
from alchemistore.operations.documents import read_object

log = logging.getLogger(__name__)

# Seconds for which a strategist has a strategy to itself, if it does not say how long.
LEASE_SECONDS = 3600.0
# A longer lease is one that does not end.
LEASE_MAX = 1e9

FIELDS = tuple(StrategyState.model_fields)
# The fields that every execution changes, unless it finds that a dormant strategy may sleep on.
PROGRESS = ("iterations", "last_iteration", "last_iteration_result_count")
# The columns are named as the fields, but a column with a time ends in `_at`.
STORED = {name: f"{name}_at" if name == "last_iteration" else name for name in FIELDS}
NAMES = ", ".join(STORED.values())
COLUMNS = ", ".join(f"n.{column} AS {name}" for name, column in STORED.items())
VALUES = ", ".join(f":{name}" for name in FIELDS)
ASSIGNMENTS = ", ".join(f"{column} = :{name}" for name, column in STORED.items())

LOCK_NETWORK_OF_STRATEGY = text(f"""
    SELECT scope_id, token, strategy FROM networks
    WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind FOR NO KEY UPDATE
""")
# Another transaction cannot remove the document before this one ends.
HOLD_DOCUMENT = text("""
    SELECT token FROM gufe_objects WHERE scope_id = :scope_id AND token = :token FOR KEY SHARE
""")
LINK_STRATEGY = text("""
    UPDATE networks SET strategy = :strategy WHERE scope_id = :scope_id AND token = :token
""")
# A lease that has not ended stays, because its holder is still at work on the network.
SET_STATE = text(f"""
    INSERT INTO network_strategies AS n (
        scope_id, network, set_at, set_since_lease, {NAMES}
    )
    VALUES (:scope_id, :token, :now, true, {VALUES})
    ON CONFLICT (scope_id, network) DO UPDATE SET
        set_at = :now, {ASSIGNMENTS}, set_since_lease = true,
        lease = CASE WHEN n.lease_ends_at > statement_timestamp() THEN n.lease END,
        lease_ends_at = CASE WHEN n.lease_ends_at > statement_timestamp() THEN n.lease_ends_at END,
        leased_state = CASE WHEN n.lease_ends_at > statement_timestamp() THEN n.leased_state END
""")
# States for strategies that have none, because a worker of an older release set them.
ADD_MISSING_STATES = text(f"""
    INSERT INTO network_strategies (
        scope_id, network, set_at, set_since_lease, {NAMES}
    )
    SELECT n.scope_id, n.token, :now, true, {VALUES}
    FROM networks AS n
    WHERE n.strategy IS NOT NULL AND NOT EXISTS (
        SELECT FROM network_strategies AS s WHERE s.scope_id = n.scope_id AND s.network = n.token
    )
    ON CONFLICT DO NOTHING
""")
# A document that another transaction is about to use is locked, and stays.
LOCK_UNUSED_STRATEGY = text("""
    SELECT token FROM gufe_objects
    WHERE scope_id = :scope_id AND token = :strategy FOR UPDATE SKIP LOCKED
""")
REMOVE_UNUSED_STRATEGY = text("""
    DELETE FROM gufe_objects AS o
    WHERE o.scope_id = :scope_id AND o.token = :strategy
        AND NOT EXISTS (
            SELECT FROM networks AS n
            WHERE n.scope_id = o.scope_id AND o.token IN (n.strategy, n.token)
        )
        AND NOT EXISTS (
            SELECT FROM transformations AS t WHERE t.scope_id = o.scope_id AND t.token = o.token
        )
        AND NOT EXISTS (
            SELECT FROM chemical_systems AS c WHERE c.scope_id = o.scope_id AND c.token = o.token
        )
        AND NOT EXISTS (
            SELECT FROM gufe_objects AS holder
            WHERE holder.scope_id = o.scope_id AND o.token = ANY(holder.children)
        )
""")
GET_STRATEGY = text(f"""
    SELECT o.kind, o.token
    FROM networks AS n
    LEFT JOIN gufe_objects AS o ON o.scope_id = n.scope_id AND o.token = n.strategy
    WHERE n.scope_id = {SCOPE_ID} AND n.token = :token AND n.kind = :kind
""")
# A worker of an older release may have set a strategy without a state.
GET_STATE = text(f"""
    SELECT {COLUMNS} FROM networks AS w
    LEFT JOIN network_strategies AS n ON n.scope_id = w.scope_id AND n.network = w.token
    WHERE w.scope_id = {SCOPE_ID} AND w.token = :token AND w.strategy IS NOT NULL
""")
LOCK_STATE = text(f"""
    SELECT n.lease, n.lease_ends_at IS NOT NULL AS is_leased, n.leased_state, n.set_since_lease,
        {COLUMNS}
    FROM network_strategies AS n WHERE n.scope_id = :scope_id AND n.network = :token
    FOR NO KEY UPDATE
""")
# `ended` says whether the lease is over.
UPDATE_STATE = text(f"""
    UPDATE network_strategies SET {ASSIGNMENTS},
        lease_ends_at = CASE WHEN NOT :ended THEN lease_ends_at END,
        leased_state = CASE WHEN NOT :ended THEN leased_state END
    WHERE scope_id = :scope_id AND network = :token
""")
DUE = f"""
    SELECT n.scope_id, n.network, w.kind AS network_kind, w.strategy, g.kind,
        s.org, s.campaign, s.project, {COLUMNS}
    FROM network_strategies AS n
    JOIN scopes AS s ON s.id = n.scope_id
    JOIN networks AS w ON w.scope_id = n.scope_id AND w.token = n.network
    JOIN gufe_objects AS g ON g.scope_id = w.scope_id AND g.token = w.strategy
    WHERE n.mode <> 'disabled' AND n.status <> 'error'
        AND extract(epoch FROM statement_timestamp() - coalesce(n.last_iteration_at, 'epoch'))
            >= greatest(n.sleep_interval, CAST(:min_sleep_interval AS numeric))
        AND (n.lease_ends_at IS NULL OR n.lease_ends_at <= statement_timestamp())
        AND EXISTS (
            SELECT FROM unnest(
                CAST(:orgs AS text[]), CAST(:campaigns AS text[]), CAST(:projects AS text[])
            ) AS wanted (org, campaign, project)
            WHERE coalesce(wanted.org = s.org, true)
                AND coalesce(wanted.campaign = s.campaign, true)
                AND coalesce(wanted.project = s.project, true)
        )
    ORDER BY n.scope_id, n.network
"""
# By whether to lock them. A strategy that is being leased or changed is left out then.
DUE_STRATEGIES = {
    False: text(DUE),
    True: text(f"{DUE} FOR NO KEY UPDATE OF w, n SKIP LOCKED"),
}
LEASE_STRATEGIES = text("""
    UPDATE network_strategies AS n
    SET lease = CAST(new.lease AS uuid), leased_state = new.state, set_since_lease = false,
        lease_ends_at = statement_timestamp() + make_interval(secs => :seconds)
    FROM unnest(
        CAST(:scope_ids AS bigint[]), CAST(:networks AS uuid[]), CAST(:leases AS text[]),
        CAST(:states AS text[])
    ) AS new (scope_id, network, lease, state)
    WHERE n.scope_id = new.scope_id AND n.network = new.network
""")


def set_network_strategy(
    tx: Connection,
    network: ScopedKey | str,
    strategy: GufeTokenizable | None,
    strategy_state: StrategyState | None = None,
) -> ScopedKey | None:
    """Set the strategy of a network, and its state.

    Parameters
    ----------
    network : ScopedKey or str
        The network.
    strategy : GufeTokenizable or None
        Any gufe object that contains no network, transformation or chemical system. ``None``
        removes the strategy of the network.
    strategy_state : StrategyState, optional
        The state. Default: a new one, with the defaults of its fields.

    Returns
    -------
    ScopedKey or None
        Key of the strategy, in the scope of the network; ``None`` without a strategy.

    Raises
    ------
    KeyError
        If there is no such network, and `strategy` is not ``None``.
    ValueError
        If `network` is the key of something else, `strategy` is not such an object, or
        `strategy_state` is not a valid state.

    Notes
    -----
    A strategy that is not used by any network or by another object is deleted. A
    strategist that is executing the old strategy keeps its lease, but its update changes nothing.
    """
    key = parse_key(network, "AlchemicalNetwork")
    documents = [] if strategy is None else _encode_strategy(strategy)
    state = StrategyState() if strategy_state is None else _checked(strategy_state)
    row = tx.execute(LOCK_NETWORK_OF_STRATEGY, {**parameters(key), "kind": key.qualname}).first()
    if row is None and strategy is not None:
        raise MissingObjectError(key)
    if row is None:
        return None
    place = {"scope_id": row.scope_id, "token": row.token}
    root = documents[-1].key if documents else None
    token = None if root is None else gufe_token(root)
    if root is not None:
        _store_strategy(tx, row.scope_id, documents)
    if token is not None or row.strategy is not None:
        tx.execute(LINK_STRATEGY, {**place, "strategy": token})
        tx.execute(SET_STATE, {**place, "now": now(), **_values(state)})
    if row.strategy is not None and row.strategy != token:
        remove_unused_strategy(tx, row.scope_id, row.strategy)
    return None if root is None or token is None else scoped(key, root.qualname, token)


def set_strategy(
    tx: Connection, strategy: GufeTokenizable | None, network: ScopedKey | str
) -> ScopedKey | None:
    """Set the strategy of a network, with a new state; see `set_network_strategy`.

    Parameters
    ----------
    strategy : GufeTokenizable or None
        Any gufe object that contains no network, transformation or chemical system. ``None``
        removes the strategy of the network.
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
    if strategy is None:
        key = parse_key(network, "AlchemicalNetwork")
        one_or_missing(tx, LOCK_NETWORK_OF_STRATEGY, key, kind=key.qualname)
    return set_network_strategy(tx, network, strategy)


def _encode_strategy(strategy: GufeTokenizable) -> list[gufe_adapter.Document]:
    if not gufe_adapter.is_gufe(strategy):
        raise ValueError(f"expected a gufe object or None, not {type(strategy).__name__}")
    documents = gufe_adapter.encode(strategy)
    require_no_members(documents)
    return documents


def require_no_members(documents: Iterable[gufe_adapter.Document]) -> None:
    """Raise an error if the parts of a strategy can be members of networks.

    Members of networks have rows of their own, and only `create_network` writes them.
    """
    for document in documents:
        if (
            "components" in document.content
            or gufe_adapter.edge_content(document) is not None
            or {"edges", "nodes"} <= document.content.keys()
        ):
            raise ValueError(
                f"a strategy cannot contain {document.key}; store networks and their members with"
                " create_network"
            )


def _store_strategy(tx: Connection, scope_id: int, documents: list[gufe_adapter.Document]) -> None:
    """Store a strategy and keep others from removing it before the end of the transaction."""
    place = {"scope_id": scope_id, "token": gufe_token(documents[-1].key)}
    held = None
    while held is None:
        store_documents(tx, scope_id, documents)
        # Another transaction may have removed it meanwhile, as unused.
        held = tx.scalar(HOLD_DOCUMENT, place)


def remove_unused_strategy(tx: Connection, scope_id: int, strategy: UUID) -> None:
    """Delete the document of a strategy, unless a network or another object needs it."""
    place = {"scope_id": scope_id, "strategy": strategy}
    if tx.scalar(LOCK_UNUSED_STRATEGY, place) is not None:
        tx.execute(REMOVE_UNUSED_STRATEGY, place)


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


def get_network_strategy(tx: Connection, network: ScopedKey | str) -> GufeTokenizable | None:
    """Return the strategy of a network.

    Parameters
    ----------
    network : ScopedKey or str
        The network.

    Returns
    -------
    GufeTokenizable or None
        ``None`` if it has none, or if there is no such network.

    Raises
    ------
    ValueError
        If it is the key of something else.
    """
    try:
        return get_strategy(tx, network)
    except MissingObjectError:
        return None


def get_network_strategy_state(tx: Connection, network: ScopedKey | str) -> StrategyState | None:
    """Return the state of the strategy of a network.

    Parameters
    ----------
    network : ScopedKey or str
        The network.

    Returns
    -------
    StrategyState or None
        ``None`` if it has no strategy, or if there is no such network.

    Raises
    ------
    ValueError
        If it is the key of something else.
    """
    key = parse_key(network, "AlchemicalNetwork")
    row = tx.execute(GET_STATE, parameters(key)).first()
    if row is None:
        return None
    return (StrategyState() if row.mode is None else _state(row)).read()


def get_strategies_for_execution(
    tx: Connection,
    scopes: Iterable[Scope | str] | None = None,
    min_sleep_interval: int = 0,
    *,
    lease: float = LEASE_SECONDS,
) -> list[tuple[ScopedKey, ScopedKey, StrategyState]]:
    """Return the strategies that are due, and lease them to the caller.

    A strategy is due if it is not disabled, its status is not error, and its sleep interval has
    passed since its last iteration. Dormant strategies are due, too, because only an execution
    finds out whether there are new results.

    Parameters
    ----------
    scopes : iterable of Scope or str, optional
        Only networks in one of these scopes; open components match anything. Default, and if it is
        empty: all.
    min_sleep_interval : int, default 0
        Seconds that must have passed since the last iteration, even if the sleep interval of the
        strategy is shorter.
    lease : float, default 3600
        Seconds for which nobody else gets these strategies. `update_strategy_state` ends the lease
        earlier. With 0, the strategies are returned without a lease.

    Returns
    -------
    list of (ScopedKey, ScopedKey, StrategyState)
        Network, strategy and state, in the order of the networks.

    Raises
    ------
    ValueError
        If a scope is malformed, or `lease` is negative or not a number.

    Notes
    -----
    If the lease ends before the execution does, another strategist may execute the same strategy.
    """
    if not lease >= 0:
        raise ValueError(f"lease must be a number of seconds, 0 or more, not {lease}")
    wanted = [parse_scope(scope).to_tuple() for scope in scopes or ()] or [Scope().to_tuple()]
    orgs, campaigns, projects = (list(part) for part in zip(*wanted, strict=True))
    tx.execute(ADD_MISSING_STATES, {"now": now(), **_values(StrategyState())})
    rows = tx.execute(
        DUE_STRATEGIES[lease > 0],
        {
            "orgs": orgs,
            "campaigns": campaigns,
            "projects": projects,
            "min_sleep_interval": min_sleep_interval,
        },
    ).all()
    found = [(row, _state(row), uuid4() if lease else None) for row in rows]
    if found and lease:
        tx.execute(
            LEASE_STRATEGIES,
            {
                "scope_ids": [row.scope_id for row in rows],
                "networks": [row.network for row in rows],
                "leases": [str(given) for _, _, given in found],
                "states": [_to_json(state) for _, state, _ in found],
                "seconds": min(lease, LEASE_MAX),
            },
        )
    place = [(row.org, row.campaign, row.project) for row in rows]
    return [
        (
            ScopedKey.from_parts(row.network_kind, row.network, *scope),
            ScopedKey.from_parts(row.kind, row.strategy, *scope),
            state.read(given),
        )
        for (row, state, given), scope in zip(found, place, strict=True)
    ]


def update_strategy_state(
    tx: Connection, network: ScopedKey | str, strategy_state: StrategyState
) -> ScopedKey | None:
    """Update the state of the strategy of a network.

    Parameters
    ----------
    network : ScopedKey or str
        The network.
    strategy_state : StrategyState
        The new state. If it is a changed copy of a state that was read, only the fields that differ
        from what was read are written; otherwise all.

    Returns
    -------
    ScopedKey or None
        Key of the network. ``None`` if it has no strategy, or the strategy was set again or given
        to another strategist since `get_strategies_for_execution` returned the state; nothing is
        changed then.

    Raises
    ------
    ValueError
        If `network` is the key of something else, or `strategy_state` is not a valid state.

    Notes
    -----
    The update of a strategist ends its lease and does not change fields that were changed since the
    lease was given. It is recognised by its state, a copy of the one that
    `get_strategies_for_execution` returned. A state without such an origin is taken for the update
    of the strategist if the strategy is leased and the number or time of iterations or the number
    of results differ from those leased, or if it is the same as leased and dormant.
    """
    key = parse_key(network, "AlchemicalNetwork")
    given = _checked(strategy_state)
    network_row = tx.execute(
        LOCK_NETWORK_OF_STRATEGY, {**parameters(key), "kind": key.qualname}
    ).first()
    if network_row is None or network_row.strategy is None:
        return None
    place = {"scope_id": network_row.scope_id, "token": network_row.token}
    row = tx.execute(LOCK_STATE, place).first()
    if row is None:
        tx.execute(ADD_MISSING_STATES, {"now": now(), **_values(StrategyState())})
        row = tx.execute(LOCK_STATE, place).one()
    origin, current = strategy_state.origin, _state(row)
    leased = _from_json(row.leased_state) if row.is_leased else None
    if origin is not None and origin.lease is not None:
        if origin.lease != row.lease:
            log.info("%s: its strategy was set or leased again, so a late state is ignored", key)
            return None
        ends_lease = leased is not None
    else:
        ends_lease = origin is None and leased is not None and _is_outcome(given, leased)
    before: Mapping[str, Any] | None = None if origin is None else origin.values
    kept: set[str] = set()
    if ends_lease:
        before = dict(cast(StrategyState, leased))
        kept = {name for name, value in current if value != before[name]}
        if row.set_since_lease:
            log.info("%s: its strategy was set during the execution, whose state is ignored", key)
            kept = set(FIELDS)
    changed = {
        name: value
        for name, value in given
        if name not in kept and (before is None or value != before[name])
    }
    tx.execute(
        UPDATE_STATE,
        {**place, "ended": ends_lease, **_values(current.model_copy(update=changed))},
    )
    return None if ends_lease and row.set_since_lease else key


def _is_outcome(state: StrategyState, leased: StrategyState) -> bool:
    """Check whether a state is what an execution makes of the state that was leased."""
    if any(getattr(state, name) != getattr(leased, name) for name in PROGRESS):
        return True
    return state == leased and state.status is StrategyStatusEnum.dormant


def _checked(state: StrategyState) -> StrategyState:
    """Return a state with valid fields; `model_copy` does not validate them."""
    if not isinstance(state, StrategyState):
        raise ValueError(f"expected a StrategyState, not {type(state).__name__}")
    return StrategyState(**dict(state))


def _values(state: StrategyState) -> dict[str, Any]:
    """Return the fields as they are stored."""
    exception = state.exception and [escape(part) for part in state.exception]
    return {**dict(state), "exception": exception, "traceback": escape(state.traceback)}


def _state(row: Row[Any]) -> StrategyState:
    values = {name: getattr(row, name) for name in FIELDS}
    values["exception"] = row.exception and tuple(unescape(part) for part in row.exception)
    values["traceback"] = unescape(row.traceback)
    return StrategyState(**values)


def _to_json(state: StrategyState) -> str:
    return json.dumps(state.to_dict(), default=str)


def _from_json(state: str) -> StrategyState:
    return StrategyState(**json.loads(state))
