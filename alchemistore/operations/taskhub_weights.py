"""The weights of task hubs, and the rules for weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import cast, overload

from sqlalchemy import Connection, text

from alchemistore.database.arguments import also_named
from alchemistore.database.keys import parse_networks
from alchemistore.errors import MissingObjectError
from alchemistore.models import ScopedKey
from alchemistore.operations.queue.race import WEIGHT_MIN

SET_TASKHUB_WEIGHTS = text("""
    WITH
    -- The hubs of the given networks, locked in the order of their keys.
    found AS MATERIALIZED (
        SELECT h.scope_id, h.network, x.weight
        FROM unnest(
            CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[]),
            CAST(:weights AS double precision[])
        ) AS x (scope_id, network, weight)
        JOIN taskhubs AS h ON h.scope_id = x.scope_id AND h.network = x.network
        ORDER BY h.scope_id, h.network
        FOR NO KEY UPDATE OF h
    )
    UPDATE taskhubs AS h SET weight = found.weight FROM found
    WHERE h.scope_id = found.scope_id AND h.network = found.network
    RETURNING h.scope_id, h.network
""")
GET_TASKHUB_WEIGHT = text("""
    SELECT h.scope_id, h.network, h.weight FROM taskhubs AS h
    JOIN unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) AS x (scope_id, network)
        USING (scope_id, network)
""")


def check_weight(weight: float) -> float:
    """Return the weight as a float; it may be a number of NumPy.

    Raises
    ------
    ValueError
        If it is not 0, or between 1e-6 and 1.
    """
    if (
        isinstance(weight, bool)
        or not isinstance(weight, Real)
        or math.isnan(weight)
        or not 0 <= weight <= 1
    ):
        raise ValueError(f"all `weights` must be between 0.0 and 1.0 (inclusive), not {weight!r}")
    if 0 < weight < WEIGHT_MIN:
        raise ValueError(
            f"weight {weight!r} is too small: draws cannot tell weights below {WEIGHT_MIN} apart;"
            " use 0 for never, or multiply all weights by the same number"
        )
    return float(weight)


@overload
def set_taskhub_weight(  # type: ignore[overload-overlap]  # a str is an iterable of str, too
    tx: Connection, network: ScopedKey | str, weight: float
) -> None: ...
@overload
def set_taskhub_weight(
    tx: Connection, network: Iterable[ScopedKey | str | None], weight: float | Iterable[float]
) -> list[ScopedKey | None]: ...
@overload
def set_taskhub_weight(
    tx: Connection,
    *,
    networks: Iterable[ScopedKey | str | None],
    weights: float | Iterable[float],
) -> list[ScopedKey | None]: ...
@also_named(networks="network", weights="weight")
def set_taskhub_weight(
    tx: Connection,
    network: ScopedKey | str | Iterable[ScopedKey | str | None],
    weight: float | Iterable[float],
) -> list[ScopedKey | None] | None:
    """Set how often a hub is chosen over others.

    Parameters
    ----------
    network : ScopedKey or str, or iterable of them
        The network of the hub, or several networks.
    weight : float, or iterable of float
        Between 1e-6 and 1, or 0 to disable the hub. For several networks, one weight for all or one
        per network; a network listed twice gets the last weight.
    networks : iterable of ScopedKey or str, optional
        Second name of `network`.
    weights : iterable of float, optional
        Second name of `weight`.

    Returns
    -------
    None, or list of ScopedKey or None
        For several networks, one entry per network, in order: its key, or ``None`` if it is
        missing or has no hub.

    Raises
    ------
    ValueError
        If a weight is out of bounds, one of the networks is the key of something else, or the
        numbers of networks and weights differ. No weight changes then.
    KeyError
        If a single network is missing or has no hub.
    """
    several = isinstance(weight, Iterable) and not isinstance(weight, str | bytes)
    listed = cast("Iterable[float]", weight if several else [weight])
    given = [check_weight(one) for one in listed]
    single, keys = parse_networks(tx, network)
    if single and several:
        raise ValueError(f"one network has one weight, not the list {given}")
    count = len(keys.parsed)
    if not several:
        given *= count
    if len(given) != count:
        raise ValueError(
            f"{count} networks, but {len(given)} weights; pass one weight per network, or one for"
            " all"
        )
    last = dict(zip(keys.index, given, strict=True))
    values = {**keys.parameters, "weights": [last[index] for index in range(len(keys.distinct))]}
    changed = {(row.scope_id, row.network) for row in tx.execute(SET_TASKHUB_WEIGHTS, values)}
    if not single:
        return keys.align_keys({*keys.pairs()} - changed)
    if not changed:
        raise MissingObjectError(f"the task hub of {network}")
    return None


@overload
def get_taskhub_weight(  # type: ignore[overload-overlap]  # a str is an iterable of str, too
    tx: Connection, network: ScopedKey | str
) -> float: ...
@overload
def get_taskhub_weight(
    tx: Connection, network: Iterable[ScopedKey | str | None]
) -> list[float | None]: ...
@overload
def get_taskhub_weight(
    tx: Connection, *, networks: Iterable[ScopedKey | str | None]
) -> list[float | None]: ...
@also_named(networks="network")
def get_taskhub_weight(
    tx: Connection, network: ScopedKey | str | Iterable[ScopedKey | str | None]
) -> float | list[float | None]:
    """Return the weight of a hub.

    Parameters
    ----------
    network : ScopedKey or str, or iterable of them
        The network of the hub, or several networks.
    networks : iterable of ScopedKey or str, optional
        Second name of `network`.

    Returns
    -------
    float, or list of float or None
        For several networks, one entry per network, in order; ``None`` for a network that is
        missing or has no hub.

    Raises
    ------
    ValueError
        If one of them is the key of something else.
    KeyError
        If a single network is missing or has no hub.
    """
    single, keys = parse_networks(tx, network)
    rows = tx.execute(GET_TASKHUB_WEIGHT, keys.parameters)
    weights: list[float | None] = keys.align(
        {(row.scope_id, row.network): row.weight for row in rows}
    )
    if not single:
        return weights
    if weights[0] is None:
        raise MissingObjectError(f"the task hub of {network}")
    return weights[0]
