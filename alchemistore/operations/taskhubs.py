"""Task hubs: one for each network, where its tasks are actioned to be claimed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from alchemistore.database.keys import (
    gufe_token,
    keys_of,
    parameters,
    parse_key,
    parse_one_or_many,
    scope_parameters,
    scoped,
)
from alchemistore.database.sql import SCOPE_ID, listing, page
from alchemistore.errors import MissingObjectError
from alchemistore.models import Scope, ScopedKey, Task, TaskHub
from alchemistore.models.clock import now
from alchemistore.models.task import DEFAULT_WEIGHT
from alchemistore.operations.objects import read_taskhub
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.task_sets import lock

CREATE = text(f"""
    INSERT INTO taskhubs (scope_id, token, network, weight, created_at)
    SELECT scope_id, :hub, token, :weight, :now FROM networks
    WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind
    ON CONFLICT DO NOTHING
""")
FIND = text(f"SELECT token FROM taskhubs WHERE scope_id = {SCOPE_ID} AND network = :token")
ROWS = """
    SELECT 'TaskHub' AS kind, o.token, o.weight, o.network, (
        SELECT n.kind FROM networks AS n WHERE n.scope_id = o.scope_id AND n.token = o.network
    ) AS network_kind
    FROM taskhubs AS o
"""
# Nobody can action a task on a hub that is locked like this.
LOCK = text(
    "SELECT token FROM taskhubs WHERE scope_id = :scope_id AND network = :network FOR UPDATE"
)
ACTIONED = text("SELECT task FROM actions WHERE scope_id = :scope_id AND taskhub = :taskhub")
DELETE = (
    text("DELETE FROM actions WHERE scope_id = :scope_id AND taskhub = :taskhub"),
    text("DELETE FROM taskhubs WHERE scope_id = :scope_id AND token = :taskhub"),
    text("DELETE FROM lanes WHERE scope_id = :scope_id AND taskhub = :taskhub"),
)
SET_WEIGHT = text("""
    UPDATE taskhubs AS h SET weight = :weight
    FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) AS x (scope_id, network)
    WHERE h.scope_id = x.scope_id AND h.network = x.network
    RETURNING h.scope_id, h.network
""")
GET_WEIGHT = text("""
    SELECT h.scope_id, h.network, h.weight FROM taskhubs AS h
    JOIN unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) AS x (scope_id, network) USING (scope_id, network)
""")
TASKS = text(f"""
    SELECT t.token, t.status, t.priority, t.created_at, t.creator, e.parent, c.service
    FROM actions AS a
    JOIN tasks AS t ON t.scope_id = a.scope_id AND t.token = a.task
    LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    LEFT JOIN claims AS c ON c.scope_id = t.scope_id AND c.task = t.token
    WHERE a.scope_id = {SCOPE_ID} AND a.taskhub = :token AND (c.task IS NULL OR NOT :unclaimed)
    ORDER BY t.token
""")


def check_weight(weight: float) -> float:
    """Give the weight.

    Raises
    ------
    ValueError
        If it is not between 0 and 1.
    """
    if (
        isinstance(weight, bool)
        or not isinstance(weight, int | float)
        or math.isnan(weight)
        or not 0 <= weight <= 1
    ):
        raise ValueError(f"weight must be between 0.0 and 1.0 (inclusive), not {weight!r}")
    return float(weight)


def create_taskhub(tx: Connection, network: ScopedKey | str) -> ScopedKey:
    """Create the hub of a network, with weight 0.5; a hub that is there already stays as it is.

    Parameters
    ----------
    network : ScopedKey or str
        The network.

    Returns
    -------
    ScopedKey
        Key of the hub.

    Raises
    ------
    KeyError
        If there is no such network.
    ValueError
        If it is the key of something else.
    """
    key = parse_key(network, "AlchemicalNetwork")
    hub = TaskHub(network=str(key)).key
    values = {
        **parameters(key),
        "hub": gufe_token(hub),
        "kind": key.qualname,
        "weight": DEFAULT_WEIGHT,
        "now": now(),
    }
    tx.execute(CREATE, values)
    found = tx.scalar(FIND, values)
    if found is None:
        raise MissingObjectError(key)
    return scoped(key, "TaskHub", found)


def get_taskhub(tx: Connection, network: ScopedKey | str, return_gufe: bool = False) -> Any:
    """Give the hub of a network.

    Parameters
    ----------
    network : ScopedKey or str
        The network.
    return_gufe : bool, default False
        Give the TaskHub instead of its key.

    Returns
    -------
    ScopedKey or TaskHub

    Raises
    ------
    KeyError
        If there is no such network, or it has no hub.
    ValueError
        If it is the key of something else.
    """
    key = parse_key(network, "AlchemicalNetwork")
    found = tx.scalar(FIND, parameters(key))
    if found is None:
        raise MissingObjectError(f"the task hub of {key}")
    hub = scoped(key, "TaskHub", found)
    return read_taskhub(tx, hub) if return_gufe else hub


def query_taskhubs(
    tx: Connection,
    scope: Scope | str | None = None,
    return_gufe: bool = False,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> Any:
    """Find hubs.

    Parameters
    ----------
    scope : Scope or str, default all
        In this scope; open components match anything.
    return_gufe : bool, default False
        Give a dict of the hubs by their keys.
    limit : int, optional
        At most so many.
    after : ScopedKey or str, optional
        Only what comes after this key: the last one of the page before.

    Returns
    -------
    list of ScopedKey, or dict of ScopedKey to TaskHub
        In the order of organisation, campaign, project and key.
    """
    values, conditions = page(limit, after)
    rows = tx.execute(listing(ROWS, *conditions), {**scope_parameters(scope), **values}).all()
    found = keys_of(rows)
    if not return_gufe:
        return found
    return {
        hub: TaskHub(network=str(scoped(hub, row.network_kind, row.network)), weight=row.weight)
        for hub, row in zip(found, rows, strict=True)
    }


def delete_taskhub(tx: Connection, network: ScopedKey | str) -> ScopedKey:
    """Delete the hub of a network; the tasks actioned on it stay, and so do claims on them.

    Parameters
    ----------
    network : ScopedKey or str
        The network.

    Returns
    -------
    ScopedKey
        Key of the hub deleted.

    Raises
    ------
    KeyError
        If there is no such network, or it has no hub.
    ValueError
        If it is the key of something else.
    """
    key = parse_key(network, "AlchemicalNetwork")
    scope_id = tx.scalar(text(f"SELECT {SCOPE_ID}"), parameters(key))
    hub = drop_taskhub(tx, scope_id, key.token)
    if hub is None:
        raise MissingObjectError(f"the task hub of {key}")
    return scoped(key, "TaskHub", hub)


def drop_taskhub(tx: Connection, scope_id: int | None, network: UUID | None) -> UUID | None:
    """Delete the hub of a network with its actions, and give its token; ``None`` if there is no hub."""
    hub: UUID | None = tx.scalar(LOCK, {"scope_id": scope_id, "network": network})
    if hub is None:
        return None
    values = {"scope_id": scope_id, "taskhub": hub}
    tasks = tx.scalars(ACTIONED, values).all()
    touched = {"scope_ids": [scope_id] * len(tasks), "tokens": tasks}
    lock(tx, touched)
    for statement in DELETE:
        tx.execute(statement, values)
    refresh(tx, touched)
    return hub


def set_taskhub_weight(
    tx: Connection, network: ScopedKey | str | Iterable[ScopedKey | str | None], weight: float
) -> Any:
    """Set how often a hub is chosen over others.

    Parameters
    ----------
    network : ScopedKey or str, or iterable of them
        The network whose hub it is, or several.
    weight : float
        Between 0 and 1; 0 disables the hub.

    Returns
    -------
    None, or list of ScopedKey or None
        For several networks: the key of each whose hub was set, in the order given.

    Raises
    ------
    ValueError
        If the weight is out of bounds, or a single key is not a network's.
    KeyError
        If a single network is missing or has no hub.
    """
    weight = check_weight(weight)
    single, keys = parse_one_or_many(tx, network, "AlchemicalNetwork", strict=True)
    done = {
        (row.scope_id, row.network)
        for row in tx.execute(SET_WEIGHT, {**keys.parameters, "weight": weight})
    }
    if not single:
        return keys.align_keys(done.__contains__)
    if not done:
        raise MissingObjectError(f"the task hub of {network}")
    return None


def get_taskhub_weight(
    tx: Connection, network: ScopedKey | str | Iterable[ScopedKey | str | None]
) -> Any:
    """Give the weight of a hub.

    Parameters
    ----------
    network : ScopedKey or str, or iterable of them
        The network whose hub it is, or several.

    Returns
    -------
    float, or list of float or None
        In a list ``None`` where there is no such network or it has no hub.

    Raises
    ------
    ValueError
        If a single key is not a network's.
    KeyError
        If a single network is missing or has no hub.
    """
    single, keys = parse_one_or_many(tx, network, "AlchemicalNetwork", strict=True)
    weights = keys.align(
        {(row.scope_id, row.network): row.weight for row in tx.execute(GET_WEIGHT, keys.parameters)}
    )
    if not single:
        return weights
    if weights[0] is None:
        raise MissingObjectError(f"the task hub of {network}")
    return weights[0]


def _tasks(tx: Connection, taskhub: ScopedKey | str, return_gufe: bool, unclaimed: bool) -> Any:
    hub = parse_key(taskhub)
    if hub.qualname != "TaskHub":
        return {} if return_gufe else []
    rows = tx.execute(TASKS, {**parameters(hub), "unclaimed": unclaimed}).all()
    keys = [scoped(hub, "Task", row.token) for row in rows]
    if not return_gufe:
        return keys
    return {
        key: Task(
            status=row.status,
            priority=row.priority,
            datetime_created=row.created_at,
            creator=row.creator,
            extends=None if row.parent is None else str(scoped(hub, "Task", row.parent)),
            claim=row.service,
            key=key.gufe_key,
        )
        for key, row in zip(keys, rows, strict=True)
    }


def get_taskhub_tasks(tx: Connection, taskhub: ScopedKey | str, return_gufe: bool = False) -> Any:
    """Give the tasks that are actioned on a hub, whatever their status, in the order of their keys.

    Parameters
    ----------
    taskhub : ScopedKey or str
        The hub.
    return_gufe : bool, default False
        Give a dict of the tasks by their keys.

    Returns
    -------
    list of ScopedKey, or dict of ScopedKey to Task
        Empty if there is no such hub.
    """
    return _tasks(tx, taskhub, return_gufe, unclaimed=False)


def get_taskhub_unclaimed_tasks(
    tx: Connection, taskhub: ScopedKey | str, return_gufe: bool = False
) -> Any:
    """Give the tasks that are actioned on a hub and that no compute service holds; as `get_taskhub_tasks` otherwise."""
    return _tasks(tx, taskhub, return_gufe, unclaimed=True)
