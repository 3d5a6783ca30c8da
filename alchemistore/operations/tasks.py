"""Tasks: created, extended, found, and put in order of urgency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from alchemistore.database.keys import (
    gufe_token,
    keys_of,
    one_or_missing,
    parameters,
    parse_key,
    parse_keys,
    scope_ids,
    scope_parameters,
    scoped,
    token_of,
)
from alchemistore.database.sql import SCOPE_ID, listing, page
from alchemistore.errors import MissingObjectError
from alchemistore.models import Scope, ScopedKey, TaskStatusEnum
from alchemistore.models.clock import now, uuid7
from alchemistore.models.task import DEFAULT_PRIORITY, PRIORITY_MAX
from alchemistore.operations.objects import get_gufe
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.task_sets import TASKS, lock, row_locations

EDGES = ("Transformation", "NonTransformation")
PARENTS_OVER = ("invalid", "deleted")

FIND_TRANSFORMATIONS = text("""
    SELECT x.position, tr.kind
    FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) WITH ORDINALITY AS x (scope_id, token, position)
    JOIN transformations AS tr ON tr.scope_id = x.scope_id AND tr.token = x.token
""")
# Until the new task is there, its parent keeps its status.
LOCK_PARENTS = text(f"""
    SELECT t.scope_id, t.token, t.status, t.transformation
    FROM tasks AS t JOIN ({TASKS}) AS x ON x.scope_id = t.scope_id AND x.task = t.token
    ORDER BY t.scope_id, t.token
    FOR SHARE OF t
""")
CREATE = text(f"""
    WITH new AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[]), CAST(:transformations AS uuid[]),
            CAST(:parents AS uuid[])) AS x (scope_id, token, transformation, parent)
    ),
    added AS (
        INSERT INTO tasks
            (scope_id, token, transformation, status, status_changed_at, priority, attempts, creator, created_at)
        SELECT scope_id, token, transformation, 'waiting', :now, {DEFAULT_PRIORITY}, 0, :creator, :now FROM new
    )
    INSERT INTO extends (scope_id, task, parent, transformation)
    SELECT scope_id, token, parent, transformation FROM new WHERE parent IS NOT NULL
""")
LOCK_TRANSFORMATION = text(f"""
    SELECT scope_id FROM transformations WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind FOR NO KEY UPDATE
""")
COUNTED = text("""
    SELECT t.token FROM tasks AS t LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    WHERE t.scope_id = :scope_id AND t.transformation = :transformation AND t.status NOT IN ('invalid', 'deleted')
        AND e.parent IS NOT DISTINCT FROM CAST(:parent AS uuid)
    ORDER BY t.token
""")
SET_PRIORITY = text(f"""
    WITH wanted AS MATERIALIZED ({TASKS}),
    changed AS (
        UPDATE tasks SET priority = :priority WHERE ctid = ANY({row_locations("tasks", "wanted", "token")}) AND priority <> :priority
    )
    SELECT scope_id, task FROM wanted WHERE (
        SELECT t.token FROM tasks AS t WHERE t.scope_id = wanted.scope_id AND t.token = wanted.task
    ) IS NULL
""")
GET_PRIORITY = text(f"""
    SELECT t.scope_id, t.token, t.priority
    FROM tasks AS t JOIN ({TASKS}) AS wanted ON wanted.scope_id = t.scope_id AND wanted.task = t.token
""")
OF_NETWORK = text(f"""
    SELECT t.token FROM network_transformations AS n
    JOIN tasks AS t ON t.scope_id = n.scope_id AND t.transformation = n.transformation
    WHERE n.scope_id = {SCOPE_ID} AND n.network = :token AND (CAST(:status AS text) IS NULL OR t.status = :status)
    ORDER BY t.token
""")
NETWORKS_OF = text(f"""
    SELECT w.kind, w.token FROM tasks AS t
    JOIN network_transformations AS n ON n.scope_id = t.scope_id AND n.transformation = t.transformation
    JOIN networks AS w ON w.scope_id = n.scope_id AND w.token = n.network
    WHERE t.scope_id = {SCOPE_ID} AND t.token = :token
    ORDER BY w.token
""")
OF_TRANSFORMATION = text(f"""
    WITH RECURSIVE below (scope_id, task) AS (
        SELECT scope_id, task FROM extends WHERE scope_id = {SCOPE_ID} AND parent = CAST(:extends AS uuid)
        UNION
        SELECT e.scope_id, e.task FROM extends AS e JOIN below ON below.scope_id = e.scope_id AND below.task = e.parent
    )
    SELECT t.token, e.parent
    FROM tasks AS t LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    WHERE t.scope_id = {SCOPE_ID} AND t.transformation = :token
        AND (CAST(:status AS text) IS NULL OR t.status = :status)
        AND (NOT :below OR t.token IN (SELECT task FROM below))
    ORDER BY t.token
""")
TRANSFORMATION_OF = text(f"""
    SELECT tr.kind, tr.token, result.token AS result
    FROM tasks AS t
    JOIN transformations AS tr ON tr.scope_id = t.scope_id AND tr.token = t.transformation
    LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    LEFT JOIN LATERAL (
        SELECT r.token FROM task_results AS l JOIN results AS r ON r.scope_id = l.scope_id AND r.token = l.result
        WHERE l.scope_id = e.scope_id AND l.task = e.parent AND r.ok
        ORDER BY r.datetime_created DESC NULLS LAST, r.token LIMIT 1
    ) AS result ON true
    WHERE t.scope_id = {SCOPE_ID} AND t.token = :token
""")


def create_task(
    tx: Connection,
    transformation: ScopedKey | str,
    extends: ScopedKey | str | None = None,
    creator: str | None = None,
) -> ScopedKey:
    """Create a task: waiting, with priority 10, on no hub.

    Parameters
    ----------
    transformation : ScopedKey or str
        What the task is to perform.
    extends : ScopedKey or str, optional
        A task of the same transformation from which this one continues; neither invalid nor deleted.
    creator : str, optional
        Who made it.

    Returns
    -------
    ScopedKey
        Key of the task, in the scope of the transformation.

    Raises
    ------
    KeyError
        If the transformation or the extended task is missing.
    ValueError
        If a key is of another kind, or the task cannot be extended.
    """
    return create_tasks(tx, [transformation], [extends], creator)[0]


def create_tasks(
    tx: Connection,
    transformations: Iterable[ScopedKey | str],
    extends: Iterable[ScopedKey | str | None] | None = None,
    creator: str | None = None,
) -> list[ScopedKey]:
    """Create a task for each transformation listed, all or none; a transformation may be listed many times.

    Parameters
    ----------
    transformations : iterable of ScopedKey or str
        What the tasks are to perform.
    extends : iterable of ScopedKey, str or None, optional
        For each of them a task to continue from, or ``None``; as long as `transformations`.
    creator : str, optional
        Who made them.

    Returns
    -------
    list of ScopedKey
        The keys of the tasks, in the order given.

    Raises
    ------
    KeyError
        If a transformation or an extended task is missing.
    ValueError
        If a key is of another kind, a task cannot be extended, or the lists differ in length.
    """
    if isinstance(transformations, str | ScopedKey):
        raise TypeError(f"expected a list of transformations, not the single key {transformations}")
    edges = [parse_key(one) for one in transformations]
    parents = (
        [None] * len(edges)
        if extends is None
        else [None if one is None else parse_key(one, "Task") for one in extends]
    )
    if len(parents) != len(edges):
        raise ValueError(
            f"{len(edges)} transformations, but {len(parents)} tasks to extend: they must be as many"
        )
    if not edges:
        return []
    ids = _require_transformations(tx, edges)
    _require_extendable(tx, edges, parents)
    return _create(tx, edges, ids, [token_of(parent) for parent in parents], creator)


def _create(
    tx: Connection,
    edges: Sequence[ScopedKey],
    ids: Sequence[int],
    parents: Sequence[UUID | None],
    creator: str | None,
) -> list[ScopedKey]:
    # Sorted, so that tasks made together are in the order of their keys.
    tokens = sorted(uuid7() for _ in edges)
    tx.execute(
        CREATE,
        {
            "scope_ids": ids,
            "tokens": tokens,
            "transformations": [edge.token for edge in edges],
            "parents": parents,
            "creator": creator,
            "now": now(),
        },
    )
    return [scoped(edge, "Task", token) for edge, token in zip(edges, tokens, strict=True)]


def _require_transformations(tx: Connection, edges: Sequence[ScopedKey]) -> list[int]:
    known = scope_ids(tx, {(edge.org, edge.campaign, edge.project) for edge in edges})
    ids = [known.get((edge.org, edge.campaign, edge.project), -1) for edge in edges]
    found = {
        row.position: row.kind
        for row in tx.execute(
            FIND_TRANSFORMATIONS, {"scope_ids": ids, "tokens": [edge.token for edge in edges]}
        )
    }
    for position, edge in enumerate(edges, start=1):
        # A class derived from Transformation is fine where the database knows it as an edge of a network.
        if found.get(position) == edge.qualname:
            continue
        parse_key(edge, EDGES)
        raise MissingObjectError(edge)
    return ids


def _require_extendable(
    tx: Connection, edges: Sequence[ScopedKey], parents: Sequence[ScopedKey | None]
) -> None:
    if not any(parents):
        return
    keys = parse_keys(tx, parents)
    rows = {(row.scope_id, row.token): row for row in tx.execute(LOCK_PARENTS, keys.parameters)}
    answers: list[Row[Any] | None] = keys.align(rows)
    for edge, parent, row in zip(edges, parents, answers, strict=True):
        if parent is None:
            continue
        if row is None:
            raise MissingObjectError(parent)
        if row.status in PARENTS_OVER:
            raise ValueError(f"Cannot extend {parent}: it is {row.status}")
        if row.transformation != edge.token or parent.scope != edge.scope:
            raise ValueError(f"Cannot extend {parent}: it does not perform {edge}")


def set_tasks(
    tx: Connection,
    transformation: ScopedKey | str,
    extends: ScopedKey | str | None = None,
    count: int = 1,
) -> list[ScopedKey]:
    """Make sure that there are so many tasks of a transformation that extend a given task, or nothing.

    Invalid and deleted tasks do not count. Callers at the same moment that ask for the same number get the same tasks.

    Parameters
    ----------
    transformation : ScopedKey or str
        What the tasks perform.
    extends : ScopedKey or str, optional
        The task they extend; default none.
    count : int, default 1
        How many there should be at least.

    Returns
    -------
    list of ScopedKey
        All such tasks, in the order of their keys: at least `count`.

    Raises
    ------
    KeyError
        If the transformation or the extended task is missing.
    ValueError
        If a key is of another kind, the task cannot be extended, or `count` is negative.
    """
    if count < 0:
        raise ValueError(f"count must be 0 or more, not {count}")
    edge = parse_key(transformation)
    parent = None if extends is None else parse_key(extends, "Task")
    _require_transformations(tx, [edge])
    scope_id = tx.scalar(LOCK_TRANSFORMATION, {**parameters(edge), "kind": edge.qualname})
    _require_extendable(tx, [edge], [parent])
    values = {"scope_id": scope_id, "transformation": edge.token, "parent": token_of(parent)}
    present = [scoped(edge, "Task", token) for token in tx.scalars(COUNTED, values)]
    lacking = count - len(present)
    if lacking <= 0:
        return present
    return present + _create(
        tx, [edge] * lacking, [scope_id] * lacking, [token_of(parent)] * lacking, None
    )


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
        With this status; a text that is no status matches nothing.
    key : GufeKey or str, optional
        With this key, ``Task-<token>``.
    scope : Scope or str, default all
        In this scope; open components match anything.
    limit : int, optional
        At most so many.
    after : ScopedKey or str, optional
        Only what comes after this key: the last one of the page before.

    Returns
    -------
    list of ScopedKey
        In the order of organisation, campaign, project and token.
    """
    values, conditions = page(limit, after)
    if key is not None:
        values["token"] = gufe_token(key) if key.startswith("Task-") else None
        conditions.append("o.token = :token")
    if status is not None:
        values["status"] = _text(status)
        conditions.append("o.status = :status")
    statement = listing("SELECT 'Task' AS kind, o.token FROM tasks AS o", *conditions)
    return keys_of(tx.execute(statement, {**scope_parameters(scope), **values}))


def _text(status: TaskStatusEnum | str | None) -> str | None:
    return status.value if isinstance(status, TaskStatusEnum) else status


def get_network_tasks(
    tx: Connection, network: ScopedKey | str, status: TaskStatusEnum | str | None = None
) -> list[ScopedKey]:
    """Give the tasks of a network's transformations, actioned or not, in the order of their keys.

    Parameters
    ----------
    network : ScopedKey or str
        The network.
    status : TaskStatusEnum or str, optional
        Only those with this status.

    Returns
    -------
    list of ScopedKey
        Empty if there is no such network.
    """
    key = parse_key(network)
    if key.qualname in EDGES or key.qualname == "Task":
        return []
    rows = tx.execute(OF_NETWORK, {**parameters(key), "status": _text(status)})
    return [scoped(key, "Task", row.token) for row in rows]


def get_task_networks(tx: Connection, task: ScopedKey | str) -> list[ScopedKey]:
    """Give the networks that contain the transformation of a task, in the order of their keys; empty if there are none."""
    key = parse_key(task)
    if key.qualname != "Task":
        return []
    return [scoped(key, row.kind, row.token) for row in tx.execute(NETWORKS_OF, parameters(key))]


def get_transformation_tasks(
    tx: Connection,
    transformation: ScopedKey | str,
    extends: ScopedKey | str | None = None,
    return_as: str = "list",
    status: TaskStatusEnum | str | None = None,
) -> Any:
    """Give the tasks of a transformation, in the order of their keys.

    Parameters
    ----------
    transformation : ScopedKey or str
        The transformation.
    extends : ScopedKey or str, optional
        Only those that extend this task, directly or not.
    return_as : "list" or "graph", default "list"
        A list of the tasks, or a dict of each task to the task it extends or ``None``.
    status : TaskStatusEnum or str, optional
        Only those with this status.

    Returns
    -------
    list of ScopedKey, or dict of ScopedKey to ScopedKey or None
        Empty if there is no such transformation.

    Raises
    ------
    ValueError
        If `return_as` is something else.
    """
    if return_as not in ("list", "graph"):
        raise ValueError(f"return_as must be 'list' or 'graph', not {return_as!r}")
    key = parse_key(transformation)
    parent = None if extends is None else parse_key(extends)
    same_scope = parent is None or (parent.scope == key.scope and parent.qualname == "Task")
    found: dict[ScopedKey, ScopedKey | None] = {}
    if same_scope:
        values = {"below": parent is not None, "extends": token_of(parent), "status": _text(status)}
        for row in tx.execute(OF_TRANSFORMATION, {**parameters(key), **values}):
            found[scoped(key, "Task", row.token)] = (
                None if row.parent is None else scoped(key, "Task", row.parent)
            )
    return found if return_as == "graph" else list(found)


def get_task_transformation(
    tx: Connection, task: ScopedKey | str, return_gufe: bool = True
) -> tuple[Any, Any]:
    """Give the transformation of a task, and the result it is to continue from.

    Parameters
    ----------
    task : ScopedKey or str
        The task.
    return_gufe : bool, default True
        Give the objects instead of their keys.

    Returns
    -------
    tuple of (Transformation, ProtocolDAGResultRef or None), or of their ScopedKeys
        The second is the newest successful result of the task that this one extends; ``None`` if it extends nothing, or what it
        extends has no successful result.

    Raises
    ------
    KeyError
        If there is no such task.
    ValueError
        If it is the key of something else.
    """
    key = parse_key(task, "Task")
    row = one_or_missing(tx, TRANSFORMATION_OF, key)
    transformation = scoped(key, row.kind, row.token)
    result = None if row.result is None else scoped(key, "ProtocolDAGResultRef", row.result)
    if not return_gufe:
        return transformation, result
    return get_gufe(tx, transformation), None if result is None else get_gufe(tx, result)


def set_task_priority(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], priority: int
) -> list[ScopedKey | None]:
    """Set how urgent tasks are.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.
    priority : int
        From 1, the most urgent, to 2**63 - 1.

    Returns
    -------
    list of ScopedKey or None
        For each task in the order given: its key, or ``None`` if it is missing.

    Raises
    ------
    ValueError
        If the priority is out of bounds.
    """
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority must be an integer, not {priority!r}")
    if not 1 <= priority <= PRIORITY_MAX:
        raise ValueError(
            f"priority must be between 1 and {PRIORITY_MAX}, inclusive, not {priority}"
        )
    keys = parse_keys(tx, tasks)
    if not keys:
        return [None] * len(keys.parsed)
    lock(tx, keys.parameters)
    missing = {
        (row.scope_id, row.task)
        for row in tx.execute(SET_PRIORITY, {**keys.parameters, "priority": priority})
    }
    refresh(tx, keys.parameters)
    return keys.align_keys(lambda pair: pair not in missing)


def get_task_priority(tx: Connection, tasks: Iterable[ScopedKey | str | None]) -> list[int | None]:
    """Give how urgent each task is, in the order given; ``None`` for what is missing."""
    keys = parse_keys(tx, tasks)
    return keys.align(
        {
            (row.scope_id, row.token): row.priority
            for row in tx.execute(GET_PRIORITY, keys.parameters)
        }
    )
