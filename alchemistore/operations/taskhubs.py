"""Task hubs: one per network, where its tasks are actioned to be claimed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, overload
from uuid import UUID

from sqlalchemy import Connection, Row, text

from alchemistore.database.keys import (
    gufe_token,
    keys_of,
    listed_keys,
    one_or_missing,
    parameters,
    parse_hub,
    parse_network,
    parse_networks,
    scope_parameters,
    scoped,
    scoped_tokens,
)
from alchemistore.database.sql import SCOPE_ID, all_tokens, listing, listing_of_keys, page
from alchemistore.errors import MissingObjectError
from alchemistore.models import Scope, ScopedKey, Task, TaskHub
from alchemistore.models.clock import now
from alchemistore.models.task import DEFAULT_WEIGHT
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.requests import once
from alchemistore.operations.task_sets import lock
from alchemistore.operations.tasks import task_from_row

# The network cannot be deleted until the end of the transaction.
CREATE_TASKHUB = text(f"""
    INSERT INTO taskhubs (scope_id, token, network, weight, created_at)
    SELECT scope_id, :hub, token, :weight, :now FROM networks
    WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind FOR KEY SHARE
    ON CONFLICT DO NOTHING
""")
FIND_TASKHUB = text(f"SELECT token FROM taskhubs WHERE scope_id = {SCOPE_ID} AND network = :token")
READ_TASKHUB = text(f"""
    SELECT n.kind AS network_kind, h.network, h.weight
    FROM taskhubs AS h JOIN networks AS n ON n.scope_id = h.scope_id AND n.token = h.network
    WHERE h.scope_id = {SCOPE_ID} AND h.token = :token
""")
GET_TASKHUBS = text("""
    SELECT h.scope_id, h.network, h.token, h.weight FROM taskhubs AS h
    JOIN unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) AS x (scope_id, network)
        USING (scope_id, network)
""")
TASKHUB_ROWS = """
    SELECT 'TaskHub' AS kind, o.token, o.weight, o.network, (
        SELECT n.kind FROM networks AS n WHERE n.scope_id = o.scope_id AND n.token = o.network
    ) AS network_kind
    FROM taskhubs AS o
"""
TASKHUB_KEYS = "SELECT 'TaskHub' AS kind, o.token FROM taskhubs AS o"
TASKHUB_COLUMNS = ("kind", "token", "weight", "network", "network_kind")
# No task can be actioned on a hub that is locked like this.
LOCK_TASKHUB = text(
    "SELECT token FROM taskhubs WHERE scope_id = :scope_id AND network = :network FOR UPDATE"
)
# Calls that count retries lock patterns before tasks.
LOCK_PATTERNS_OF_TASKHUB = text("""
    SELECT token FROM restart_patterns WHERE scope_id = :scope_id AND taskhub = :taskhub
    ORDER BY token FOR UPDATE
""")
TASK_TOKENS_OF_TASKHUB = text(
    "SELECT task FROM actions WHERE scope_id = :scope_id AND taskhub = :taskhub"
)
# Counters are deleted with the actions, and restart patterns with the hub.
DELETE_TASKHUB = (
    text("DELETE FROM actions WHERE scope_id = :scope_id AND taskhub = :taskhub"),
    text("DELETE FROM taskhubs WHERE scope_id = :scope_id AND token = :taskhub"),
    text("DELETE FROM lanes WHERE scope_id = :scope_id AND taskhub = :taskhub"),
)
KEYS_OF_TASKHUB = text(f"""
    SELECT {all_tokens("a.task")} FROM actions AS a
    LEFT JOIN claims AS c ON c.scope_id = a.scope_id AND c.task = a.task
    WHERE a.scope_id = {SCOPE_ID} AND a.taskhub = :token AND (c.task IS NULL OR NOT :unclaimed)
""")
TASKS_OF_TASKHUB = text(f"""
    SELECT t.token, t.status, t.priority, t.created_at, t.creator, e.parent, c.service
    FROM actions AS a
    JOIN tasks AS t ON t.scope_id = a.scope_id AND t.token = a.task
    LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    LEFT JOIN claims AS c ON c.scope_id = t.scope_id AND c.task = t.token
    WHERE a.scope_id = {SCOPE_ID} AND a.taskhub = :token AND (c.task IS NULL OR NOT :unclaimed)
    ORDER BY t.token
""")


def _taskhub_from_row(key: ScopedKey, row: Row[Any]) -> TaskHub:
    network = scoped(key, row.network_kind, row.network)
    return TaskHub(network=str(network), weight=row.weight)


def read_taskhub(tx: Connection, key: ScopedKey) -> TaskHub:
    """Return a hub as it is now.

    Raises
    ------
    KeyError
        If there is no such hub.
    """
    return _taskhub_from_row(key, one_or_missing(tx, READ_TASKHUB, key))


def create_taskhub(tx: Connection, network: ScopedKey | str) -> ScopedKey:
    """Create the hub of a network, with weight 0.5; a hub that exists stays unchanged.

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
    key = parse_network(network)
    hub = TaskHub(network=str(key)).key
    values = {
        **parameters(key),
        "hub": gufe_token(hub),
        "kind": key.qualname,
        "weight": DEFAULT_WEIGHT,
        "now": now(),
    }
    tx.execute(CREATE_TASKHUB, values)
    found = tx.scalar(FIND_TASKHUB, values)
    if found is None:
        raise MissingObjectError(key)
    return scoped(key, "TaskHub", found)


@overload
def get_taskhub(
    tx: Connection, network: ScopedKey | str, return_gufe: Literal[False] = False
) -> ScopedKey | None: ...
@overload
def get_taskhub(
    tx: Connection, network: ScopedKey | str, return_gufe: Literal[True]
) -> TaskHub | None: ...
@overload
def get_taskhub(
    tx: Connection, network: ScopedKey | str, return_gufe: bool
) -> ScopedKey | TaskHub | None: ...
def get_taskhub(
    tx: Connection, network: ScopedKey | str, return_gufe: bool = False
) -> ScopedKey | TaskHub | None:
    """Return the hub of a network.

    Parameters
    ----------
    network : ScopedKey or str
        The network.
    return_gufe : bool, default False
        Return the TaskHub instead of its key.

    Returns
    -------
    ScopedKey or TaskHub or None
        The hub; ``None`` if there is no such network, or it has no hub.

    Raises
    ------
    ValueError
        If it is the key of something else.
    """
    return get_taskhubs(tx, [parse_network(network)], return_gufe)[0]


@overload
def get_taskhubs(
    tx: Connection,
    network_scoped_keys: Iterable[ScopedKey | str | None],
    return_gufe: Literal[False] = False,
) -> list[ScopedKey | None]: ...
@overload
def get_taskhubs(
    tx: Connection,
    network_scoped_keys: Iterable[ScopedKey | str | None],
    return_gufe: Literal[True],
) -> list[TaskHub | None]: ...
@overload
def get_taskhubs(
    tx: Connection, network_scoped_keys: Iterable[ScopedKey | str | None], return_gufe: bool
) -> list[ScopedKey | None] | list[TaskHub | None]: ...
def get_taskhubs(
    tx: Connection,
    network_scoped_keys: Iterable[ScopedKey | str | None],
    return_gufe: bool = False,
) -> list[ScopedKey | None] | list[TaskHub | None]:
    """Return the hubs of networks.

    Parameters
    ----------
    network_scoped_keys : iterable of ScopedKey or str
        The networks.
    return_gufe : bool, default False
        Return the TaskHubs instead of their keys.

    Returns
    -------
    list of ScopedKey or None, or of TaskHub or None
        One entry per network, in order; ``None`` for a network that is missing or has no hub.

    Raises
    ------
    ValueError
        If one of them is the key of something else.
    TypeError
        If a single key is passed.
    """
    if isinstance(network_scoped_keys, str | ScopedKey):
        raise TypeError(
            f"expected a list of networks, not the single key {network_scoped_keys};"
            " use get_taskhub"
        )
    _, keys = parse_networks(tx, network_scoped_keys)
    found = {(row.scope_id, row.network): row for row in tx.execute(GET_TASKHUBS, keys.parameters)}
    rows = [found.get(pair) for pair in keys.pairs()]
    if return_gufe:
        return keys.align_values(
            [
                None if row is None else TaskHub(network=str(key), weight=row.weight)
                for key, row in zip(keys.distinct, rows, strict=True)
            ]
        )
    return keys.align_values(
        [
            None if row is None else scoped(key, "TaskHub", row.token)
            for key, row in zip(keys.distinct, rows, strict=True)
        ]
    )


@overload
def query_taskhubs(
    tx: Connection,
    scope: Scope | str | None = None,
    return_gufe: Literal[False] = False,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> list[ScopedKey]: ...


@overload
def query_taskhubs(
    tx: Connection,
    scope: Scope | str | None = None,
    *,
    return_gufe: Literal[True],
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> dict[ScopedKey, TaskHub]: ...


@overload
def query_taskhubs(
    tx: Connection,
    scope: Scope | str | None,
    return_gufe: Literal[True],
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> dict[ScopedKey, TaskHub]: ...


@overload
def query_taskhubs(
    tx: Connection,
    scope: Scope | str | None = None,
    return_gufe: bool = False,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> list[ScopedKey] | dict[ScopedKey, TaskHub]: ...


def query_taskhubs(
    tx: Connection,
    scope: Scope | str | None = None,
    return_gufe: bool = False,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> list[ScopedKey] | dict[ScopedKey, TaskHub]:
    """Find hubs.

    Parameters
    ----------
    scope : Scope or str, default all
        Only hubs in this scope; open components match anything.
    return_gufe : bool, default False
        Return a dict of the hubs by their keys.
    limit : int, optional
        Largest number of hubs to return.
    after : ScopedKey or str, optional
        Only hubs after this key; pass the last key of the previous page.

    Returns
    -------
    list of ScopedKey, or dict of ScopedKey to TaskHub
        In the order of organisation, campaign, project and token.

    Raises
    ------
    ValueError
        If `limit` is negative, or `scope` or `after` is malformed.
    """
    values, conditions = page(limit, after)
    values |= scope_parameters(scope)
    if not return_gufe:
        return listed_keys(tx.execute(listing_of_keys(TASKHUB_KEYS, *conditions), values))
    statement = listing(TASKHUB_ROWS, *conditions, columns=TASKHUB_COLUMNS)
    rows = tx.execute(statement, values).all()
    found = keys_of(rows)
    return {hub: _taskhub_from_row(hub, row) for hub, row in zip(found, rows, strict=True)}


@once()
def delete_taskhub(
    tx: Connection, network: ScopedKey | str, *, request: UUID | None = None
) -> ScopedKey:
    """Delete the hub of a network. Its tasks stay, and so do the claims on them.

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
        Key of the deleted hub, not of the network.

    Raises
    ------
    KeyError
        If there is no such network, or it has no hub.
    ValueError
        If it is the key of something else.
    """
    key = parse_network(network)
    scope_id = tx.scalar(text(f"SELECT {SCOPE_ID}"), parameters(key))
    hub = drop_taskhub(tx, scope_id, key.token)
    if hub is None:
        raise MissingObjectError(f"the task hub of {key}")
    return scoped(key, "TaskHub", hub)


def drop_taskhub(tx: Connection, scope_id: int | None, network: UUID | None) -> UUID | None:
    """Delete the hub of a network with its actions, and return its token; ``None`` without one."""
    hub: UUID | None = tx.scalar(LOCK_TASKHUB, {"scope_id": scope_id, "network": network})
    if hub is None:
        return None
    values = {"scope_id": scope_id, "taskhub": hub}
    tx.execute(LOCK_PATTERNS_OF_TASKHUB, values)
    tokens = tx.scalars(TASK_TOKENS_OF_TASKHUB, values).all()
    tasks = {"scope_ids": [scope_id] * len(tokens), "tokens": tokens}
    lock(tx, tasks)
    for statement in DELETE_TASKHUB:
        tx.execute(statement, values)
    refresh(tx, tasks)
    return hub


def _tasks_of(
    tx: Connection, taskhub: ScopedKey | str | None, return_gufe: bool, unclaimed: bool
) -> list[ScopedKey] | dict[ScopedKey, Task]:
    hub = parse_hub(taskhub)
    if hub is None:
        return {} if return_gufe else []
    values = {**parameters(hub), "unclaimed": unclaimed}
    if not return_gufe:
        return scoped_tokens(hub, "Task", tx.scalar(KEYS_OF_TASKHUB, values))
    rows = tx.execute(TASKS_OF_TASKHUB, values).all()
    keys = [scoped(hub, "Task", row.token) for row in rows]
    return {key: task_from_row(key, row) for key, row in zip(keys, rows, strict=True)}


@overload
def get_taskhub_tasks(
    tx: Connection, taskhub: ScopedKey | str | None, return_gufe: Literal[False] = False
) -> list[ScopedKey]: ...


@overload
def get_taskhub_tasks(
    tx: Connection, taskhub: ScopedKey | str | None, return_gufe: Literal[True]
) -> dict[ScopedKey, Task]: ...


@overload
def get_taskhub_tasks(
    tx: Connection, taskhub: ScopedKey | str | None, return_gufe: bool
) -> list[ScopedKey] | dict[ScopedKey, Task]: ...


def get_taskhub_tasks(
    tx: Connection, taskhub: ScopedKey | str | None, return_gufe: bool = False
) -> list[ScopedKey] | dict[ScopedKey, Task]:
    """Return the tasks that are actioned on a hub, with any status, ordered by key.

    Parameters
    ----------
    taskhub : ScopedKey or str or None
        The hub.
    return_gufe : bool, default False
        Return a dict of the tasks by their keys.

    Returns
    -------
    list of ScopedKey, or dict of ScopedKey to Task
        Empty if there is no such hub.

    Raises
    ------
    ValueError
        If it is the key of something else.
    """
    return _tasks_of(tx, taskhub, return_gufe, unclaimed=False)


@overload
def get_taskhub_unclaimed_tasks(
    tx: Connection, taskhub: ScopedKey | str | None, return_gufe: Literal[False] = False
) -> list[ScopedKey]: ...


@overload
def get_taskhub_unclaimed_tasks(
    tx: Connection, taskhub: ScopedKey | str | None, return_gufe: Literal[True]
) -> dict[ScopedKey, Task]: ...


@overload
def get_taskhub_unclaimed_tasks(
    tx: Connection, taskhub: ScopedKey | str | None, return_gufe: bool
) -> list[ScopedKey] | dict[ScopedKey, Task]: ...


def get_taskhub_unclaimed_tasks(
    tx: Connection, taskhub: ScopedKey | str | None, return_gufe: bool = False
) -> list[ScopedKey] | dict[ScopedKey, Task]:
    """Return the tasks that are actioned on a hub and not claimed, ordered by key.

    Parameters
    ----------
    taskhub : ScopedKey or str or None
        The hub.
    return_gufe : bool, default False
        Return a dict of the tasks by their keys.

    Returns
    -------
    list of ScopedKey, or dict of ScopedKey to Task
        Empty if there is no such hub.

    Raises
    ------
    ValueError
        If it is the key of something else.
    """
    return _tasks_of(tx, taskhub, return_gufe, unclaimed=True)
