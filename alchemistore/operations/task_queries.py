"""Queries for tasks, and the relations of tasks to networks and transformations."""

from __future__ import annotations

from typing import Literal, overload

from sqlalchemy import Connection, text

from alchemistore.database.keys import (
    gufe_token,
    listed_keys,
    one_or_missing,
    parameters,
    parse_key,
    scope_parameters,
    scoped,
    scoped_tokens,
    token_of,
)
from alchemistore.database.sql import SCOPE_ID, all_tokens, listing_of_keys, page
from alchemistore.models import (
    ProtocolDAGResultRef,
    Scope,
    ScopedKey,
    TaskStatusEnum,
)
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.operations.documents import read_object
from alchemistore.operations.results import read_result
from alchemistore.operations.tasks import parse_status
from alchemistore.operations.topology import TRANSFORMATION_KINDS

TASKS_OF_NETWORK = text(f"""
    SELECT {all_tokens("t.token")} FROM network_transformations AS n
    JOIN tasks AS t ON t.scope_id = n.scope_id AND t.transformation = n.transformation
    WHERE n.scope_id = {SCOPE_ID} AND n.network = :token
        AND (CAST(:status AS text) IS NULL OR t.status = :status)
""")
NETWORKS_OF_TASK = text(f"""
    SELECT w.kind, w.token FROM tasks AS t
    JOIN network_transformations AS n
        ON n.scope_id = t.scope_id AND n.transformation = t.transformation
    JOIN networks AS w ON w.scope_id = n.scope_id AND w.token = n.network
    WHERE t.scope_id = {SCOPE_ID} AND t.token = :token
    ORDER BY w.token
""")
_OF_TRANSFORMATION = f"""
    -- The tasks that extend a given task, directly or not.
    WITH RECURSIVE descendants (scope_id, task) AS (
        SELECT scope_id, task FROM extends
        WHERE scope_id = {SCOPE_ID} AND parent = CAST(:extends AS uuid)
        UNION
        SELECT e.scope_id, e.task FROM extends AS e
        JOIN descendants AS d ON d.scope_id = e.scope_id AND d.task = e.parent
    )
    SELECT {{columns}}
    FROM tasks AS t LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    WHERE t.scope_id = {SCOPE_ID} AND t.transformation = :token
        AND (CAST(:status AS text) IS NULL OR t.status = :status)
        AND (NOT :descendants_only OR t.token IN (SELECT task FROM descendants))
"""
TASKS_OF_TRANSFORMATION = text(_OF_TRANSFORMATION.format(columns=all_tokens("t.token")))
GRAPH_OF_TRANSFORMATION = text(
    _OF_TRANSFORMATION.format(columns="t.token, e.parent") + "ORDER BY t.token"
)
# With the newest successful result of the task that this one extends.
TRANSFORMATION_OF_TASK = text(f"""
    SELECT tr.kind, tr.token, result.token AS result
    FROM tasks AS t
    JOIN transformations AS tr ON tr.scope_id = t.scope_id AND tr.token = t.transformation
    LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    LEFT JOIN LATERAL (
        SELECT r.token FROM task_results AS l
        JOIN results AS r ON r.scope_id = l.scope_id AND r.token = l.result
        WHERE l.scope_id = e.scope_id AND l.task = e.parent AND r.ok
        ORDER BY r.datetime_created DESC NULLS LAST, r.token LIMIT 1
    ) AS result ON true
    WHERE t.scope_id = {SCOPE_ID} AND t.token = :token
""")


def query_tasks(
    tx: Connection,
    *,
    status: TaskStatusEnum | str | None = None,
    key: str | None = None,
    scope: Scope | str | None = None,
    limit: int | None = None,
    after: ScopedKey | str | None = None,
) -> list[ScopedKey]:
    """Find tasks.

    Parameters
    ----------
    status : TaskStatusEnum or str, optional
        Only tasks with this status.
    key : GufeKey or str, optional
        Only the tasks with this key, ``Task-<token>``.
    scope : Scope or str, default all
        Only tasks in this scope; open components match anything.
    limit : int, optional
        Largest number of keys to return.
    after : ScopedKey or str, optional
        Only tasks after this key; pass the last key of the previous page.

    Returns
    -------
    list of ScopedKey
        In the order of organisation, campaign, project and token.

    Raises
    ------
    ValueError
        If there is no such status, `limit` is negative, or `scope` or `after` is malformed.
    """
    values, conditions = page(limit, after)
    if key is not None:
        values["token"] = gufe_token(key) if key.startswith("Task-") else None
        conditions.append("o.token = :token")
    if status is not None:
        values["status"] = parse_status(status).value
        conditions.append("o.status = :status")
    statement = listing_of_keys("SELECT 'Task' AS kind, o.token FROM tasks AS o", *conditions)
    return listed_keys(tx.execute(statement, {**scope_parameters(scope), **values}))


def _status_text(status: TaskStatusEnum | str | None) -> str | None:
    return None if status is None else parse_status(status).value


def get_network_tasks(
    tx: Connection, network: ScopedKey | str, status: TaskStatusEnum | str | None = None
) -> list[ScopedKey]:
    """Return the tasks of a network's transformations, actioned or not, ordered by key.

    Parameters
    ----------
    network : ScopedKey or str
        The network.
    status : TaskStatusEnum or str, optional
        Only tasks with this status.

    Returns
    -------
    list of ScopedKey
        Empty if there is no such network.

    Raises
    ------
    ValueError
        If there is no such status.
    """
    key, wanted = parse_key(network), _status_text(status)
    if key.qualname in (*TRANSFORMATION_KINDS, "Task"):
        return []
    found = tx.scalar(TASKS_OF_NETWORK, {**parameters(key), "status": wanted})
    return scoped_tokens(key, "Task", found)


def get_task_networks(tx: Connection, task: ScopedKey | str) -> list[ScopedKey]:
    """Return the networks with a task's transformation, ordered by key; empty if it is missing."""
    key = parse_key(task)
    if key.qualname != "Task":
        return []
    rows = tx.execute(NETWORKS_OF_TASK, parameters(key))
    return [scoped(key, row.kind, row.token) for row in rows]


@overload
def get_transformation_tasks(
    tx: Connection,
    transformation: ScopedKey | str,
    extends: ScopedKey | str | None = None,
    return_as: Literal["list"] = "list",
    status: TaskStatusEnum | str | None = None,
) -> list[ScopedKey]: ...


@overload
def get_transformation_tasks(
    tx: Connection,
    transformation: ScopedKey | str,
    extends: ScopedKey | str | None = None,
    *,
    return_as: Literal["graph"],
    status: TaskStatusEnum | str | None = None,
) -> dict[ScopedKey, ScopedKey | None]: ...


@overload
def get_transformation_tasks(
    tx: Connection,
    transformation: ScopedKey | str,
    extends: ScopedKey | str | None,
    return_as: Literal["graph"],
    status: TaskStatusEnum | str | None = None,
) -> dict[ScopedKey, ScopedKey | None]: ...


def get_transformation_tasks(
    tx: Connection,
    transformation: ScopedKey | str,
    extends: ScopedKey | str | None = None,
    return_as: Literal["list", "graph"] = "list",
    status: TaskStatusEnum | str | None = None,
) -> list[ScopedKey] | dict[ScopedKey, ScopedKey | None]:
    """Return the tasks of a transformation, in the order of their keys.

    Parameters
    ----------
    transformation : ScopedKey or str
        The transformation.
    extends : ScopedKey or str, optional
        Only tasks that extend this task, directly or not.
    return_as : {"list", "graph"}, default "list"
        Return a list of the tasks, or a dict of each task to the task it extends or ``None``.
    status : TaskStatusEnum or str, optional
        Only tasks with this status.

    Returns
    -------
    list of ScopedKey, or dict of ScopedKey to ScopedKey or None
        Empty if there is no such transformation.

    Raises
    ------
    ValueError
        If `return_as` is something else, or there is no such status.
    """
    wanted = _status_text(status)
    if return_as not in ("list", "graph"):
        raise ValueError(f"return_as must be 'list' or 'graph', not {return_as!r}")
    key = parse_key(transformation)
    parent = None if extends is None else parse_key(extends)
    if parent is not None and (parent.scope != key.scope or parent.qualname != "Task"):
        return {} if return_as == "graph" else []
    values = {
        **parameters(key),
        "descendants_only": parent is not None,
        "extends": token_of(parent),
        "status": wanted,
    }
    if return_as == "list":
        return scoped_tokens(key, "Task", tx.scalar(TASKS_OF_TRANSFORMATION, values))
    return {
        scoped(key, "Task", row.token): (
            None if row.parent is None else scoped(key, "Task", row.parent)
        )
        for row in tx.execute(GRAPH_OF_TRANSFORMATION, values)
    }


@overload
def get_task_transformation(
    tx: Connection, task: ScopedKey | str, return_gufe: Literal[True] = True
) -> tuple[GufeTokenizable, ProtocolDAGResultRef | None]: ...


@overload
def get_task_transformation(
    tx: Connection, task: ScopedKey | str, return_gufe: Literal[False]
) -> tuple[ScopedKey, ScopedKey | None]: ...


@overload
def get_task_transformation(
    tx: Connection, task: ScopedKey | str, return_gufe: bool
) -> tuple[GufeTokenizable, ProtocolDAGResultRef | None] | tuple[ScopedKey, ScopedKey | None]: ...


def get_task_transformation(
    tx: Connection, task: ScopedKey | str, return_gufe: bool = True
) -> tuple[GufeTokenizable, ProtocolDAGResultRef | None] | tuple[ScopedKey, ScopedKey | None]:
    """Return the transformation of a task, and the result that the task continues from.

    Parameters
    ----------
    task : ScopedKey or str
        The task.
    return_gufe : bool, default True
        Return the objects instead of their keys.

    Returns
    -------
    tuple of (Transformation, ProtocolDAGResultRef or None), or of (ScopedKey, ScopedKey or None)
        The second is the newest successful result of the task that this one extends; ``None`` if
        it extends nothing or there is no such result.

    Raises
    ------
    KeyError
        If there is no such task.
    ValueError
        If it is the key of something else.
    GufeNotInstalledError
        If gufe is not installed and `return_gufe` is set.
    """
    key = parse_key(task, "Task")
    row = one_or_missing(tx, TRANSFORMATION_OF_TASK, key)
    transformation = scoped(key, row.kind, row.token)
    result = None if row.result is None else scoped(key, "ProtocolDAGResultRef", row.result)
    if not return_gufe:
        return transformation, result
    return read_object(tx, transformation), None if result is None else read_result(tx, result)
