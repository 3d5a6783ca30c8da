"""Tasks: creation, extension, queries and priorities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any, Literal, overload
from uuid import UUID

from sqlalchemy import Connection, Row, text

from alchemistore.database.arguments import integer
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
from alchemistore.errors import MissingObjectError, QuotaError
from alchemistore.models import (
    ProtocolDAGResultRef,
    RefusalReason,
    Scope,
    ScopedKey,
    Task,
    TaskStatusEnum,
)
from alchemistore.models.clock import now, uuid7
from alchemistore.models.gufe import GufeTokenizable
from alchemistore.models.task import DEFAULT_PRIORITY, PRIORITY_MAX
from alchemistore.models.text import escape, unescape
from alchemistore.operations.documents import read_object
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.quotas import limit_of, lock_and_count
from alchemistore.operations.refusals import Refusals, explain
from alchemistore.operations.requests import Request, carry_out, once, plain, remember
from alchemistore.operations.results import read_result
from alchemistore.operations.task_sets import TASKS, lock, row_locations
from alchemistore.operations.topology import TRANSFORMATION_KINDS

READ_TASK = text(f"""
    SELECT t.status, t.priority, t.created_at, t.creator, e.parent, c.service
    FROM tasks AS t
    LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    LEFT JOIN claims AS c ON c.scope_id = t.scope_id AND c.task = t.token
    WHERE t.scope_id = {SCOPE_ID} AND t.token = :token
""")
FIND_TRANSFORMATIONS = text(f"""
    WITH
    -- The quota of each scope, if there is one. Looked up once for each.
    quota AS MATERIALIZED (
        SELECT s.id,
            {limit_of("waiting_per_transformation", "s.org", "s.campaign", "s.project")} AS waiting
        FROM scopes AS s WHERE s.id = ANY(CAST(:scope_ids AS bigint[]))
    )
    SELECT x.position, tr.kind, quota.waiting
    FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[]))
        WITH ORDINALITY AS x (scope_id, token, position)
    JOIN transformations AS tr ON tr.scope_id = x.scope_id AND tr.token = x.token
    JOIN quota ON quota.id = x.scope_id
""")
# The status of a parent cannot change before the tasks that extend it are committed.
LOCK_PARENTS = text(f"""
    SELECT t.scope_id, t.token, t.status, t.transformation
    FROM tasks AS t JOIN ({TASKS}) AS x ON x.scope_id = t.scope_id AND x.task = t.token
    ORDER BY t.scope_id, t.token
    FOR SHARE OF t
""")
CREATE_TASKS = text(f"""
    -- The tasks to create, with the tasks they extend.
    WITH new AS MATERIALIZED (
        SELECT * FROM unnest(
            CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[]),
            CAST(:transformations AS uuid[]), CAST(:parents AS uuid[])
        ) AS x (scope_id, token, transformation, parent)
    ),
    added AS (
        INSERT INTO tasks (
            scope_id, token, transformation, status, status_changed_at, priority, attempts,
            creator, created_at
        )
        SELECT scope_id, token, transformation, 'waiting', :now, {DEFAULT_PRIORITY}, 0,
            :creator, :now
        FROM new
    )
    INSERT INTO extends (scope_id, task, parent, transformation)
    SELECT scope_id, token, parent, transformation FROM new WHERE parent IS NOT NULL
""")
LOCK_TRANSFORMATION = text(f"""
    SELECT scope_id FROM transformations
    WHERE scope_id = {SCOPE_ID} AND token = :token AND kind = :kind FOR NO KEY UPDATE
""")
TASKS_THAT_EXTEND = text("""
    SELECT t.token FROM tasks AS t
    LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    WHERE t.scope_id = :scope_id AND t.transformation = :transformation
        AND t.status NOT IN ('invalid', 'deleted')
        AND e.parent IS NOT DISTINCT FROM CAST(:parent AS uuid)
    ORDER BY t.token
""")
SET_PRIORITY = text(f"""
    WITH wanted AS MATERIALIZED ({TASKS}),
    changed AS (
        UPDATE tasks SET priority = :priority
        WHERE ctid = ANY({row_locations("tasks", "wanted", "token")}) AND priority <> :priority
    )
    -- The tasks that do not exist.
    SELECT scope_id, task FROM wanted WHERE (
        SELECT t.token FROM tasks AS t WHERE t.scope_id = wanted.scope_id AND t.token = wanted.task
    ) IS NULL
""")
GET_PRIORITY = text(f"""
    SELECT t.scope_id, t.token, t.priority
    FROM tasks AS t
    JOIN ({TASKS}) AS wanted ON wanted.scope_id = t.scope_id AND wanted.task = t.token
""")
TASKS_OF_NETWORK = text(f"""
    SELECT t.token FROM network_transformations AS n
    JOIN tasks AS t ON t.scope_id = n.scope_id AND t.transformation = n.transformation
    WHERE n.scope_id = {SCOPE_ID} AND n.network = :token
        AND (CAST(:status AS text) IS NULL OR t.status = :status)
    ORDER BY t.token
""")
NETWORKS_OF_TASK = text(f"""
    SELECT w.kind, w.token FROM tasks AS t
    JOIN network_transformations AS n
        ON n.scope_id = t.scope_id AND n.transformation = t.transformation
    JOIN networks AS w ON w.scope_id = n.scope_id AND w.token = n.network
    WHERE t.scope_id = {SCOPE_ID} AND t.token = :token
    ORDER BY w.token
""")
TASKS_OF_TRANSFORMATION = text(f"""
    -- The tasks that extend a given task, directly or not.
    WITH RECURSIVE descendants (scope_id, task) AS (
        SELECT scope_id, task FROM extends
        WHERE scope_id = {SCOPE_ID} AND parent = CAST(:extends AS uuid)
        UNION
        SELECT e.scope_id, e.task FROM extends AS e
        JOIN descendants AS d ON d.scope_id = e.scope_id AND d.task = e.parent
    )
    SELECT t.token, e.parent
    FROM tasks AS t LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    WHERE t.scope_id = {SCOPE_ID} AND t.transformation = :token
        AND (CAST(:status AS text) IS NULL OR t.status = :status)
        AND (NOT :descendants_only OR t.token IN (SELECT task FROM descendants))
    ORDER BY t.token
""")
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


def task_from_row(key: ScopedKey, row: Row[Any]) -> Task:
    """Return a task.

    Parameters
    ----------
    key : ScopedKey
        Key of the task.
    row : Row
        With the columns that `READ_TASK` selects.
    """
    return Task(
        status=row.status,
        priority=row.priority,
        datetime_created=row.created_at,
        creator=unescape(row.creator),
        extends=None if row.parent is None else str(scoped(key, "Task", row.parent)),
        claim=row.service,
        key=key.gufe_key,
    )


def read_task(tx: Connection, key: ScopedKey) -> Task:
    """Return a task as it is now.

    Raises
    ------
    KeyError
        If there is no such task.
    """
    return task_from_row(key, one_or_missing(tx, READ_TASK, key))


@once()
def create_task(
    tx: Connection,
    transformation: ScopedKey | str,
    extends: ScopedKey | str | None = None,
    creator: str | None = None,
    *,
    request: UUID | None = None,
) -> ScopedKey:
    """Create a task, which is waiting, has priority 10 and is on no hub.

    Parameters
    ----------
    transformation : ScopedKey or str
        The transformation to perform.
    extends : ScopedKey or str, optional
        A task of the same transformation to continue from; it must not be invalid or deleted.
    creator : str, optional
        Name of the user or program that creates it.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier returns the first
        answer and changes nothing; with other arguments, it is a ValueError.

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
    QuotaError
        If a quota allows no more waiting tasks of the transformation.
    """
    [task] = create_tasks(tx, [transformation], [extends], creator)
    if task is None:
        raise _beyond_quota(transformation)
    return task


def _beyond_quota(transformation: ScopedKey | str) -> QuotaError:
    return QuotaError(
        f"{transformation} has as many waiting tasks as its quota allows; wait until they are run,"
        " or raise the quota with set_quota"
    )


def create_tasks(
    tx: Connection,
    transformations: Iterable[ScopedKey | str],
    extends: Iterable[ScopedKey | str | None] | None = None,
    creator: str | None = None,
    *,
    refusals: Refusals | None = None,
    request: UUID | None = None,
) -> list[ScopedKey | None]:
    """Create one task for each transformation listed, except beyond a quota.

    Parameters
    ----------
    transformations : iterable of ScopedKey or str
        The transformations to perform; one may be listed many times.
    extends : iterable of ScopedKey, str or None, optional
        One entry per transformation: the task to continue from, or ``None``.
    creator : str, optional
        Name of the user or program that creates them.
    refusals : dict, optional
        A dictionary to fill with the reason for each transformation of which a task was not
        created, by the text of its key. It is cleared first.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier returns the first
        answer and changes nothing; with other arguments, it is a ValueError.

    Returns
    -------
    list of ScopedKey or None
        Keys of the tasks, in the order of `transformations`. ``None`` where a quota allows no more
        waiting tasks of the transformation; the first ones in the list are created.

    Raises
    ------
    KeyError
        If a transformation or an extended task is missing. No task is created then.
    ValueError
        If a key is of another kind, a task cannot be extended, or the lists differ in length. No
        task is created then.
    TypeError
        If `transformations` is a single key.
    """
    if isinstance(transformations, str | ScopedKey):
        raise TypeError(
            f"expected a list of transformations, not the single key {transformations};"
            " use create_task"
        )
    wanted = list(transformations)
    parents = None if extends is None else list(extends)
    arguments = {"transformations": plain(wanted), "extends": plain(parents), "creator": creator}
    asked = Request.of(request, "create_tasks", arguments)

    def act() -> list[ScopedKey | None]:
        created = _create_within_quotas(tx, wanted, parents, creator)
        if asked is not None:
            remember(tx, asked, created)
        return created

    tasks = act() if asked is None else carry_out(tx, asked, act)
    if refusals is not None:
        refusals.clear()
        for transformation, task in zip(wanted, tasks, strict=True):
            if task is None:
                refusals[str(transformation)] = RefusalReason.quota
    return tasks


def _create_within_quotas(
    tx: Connection,
    transformations: Iterable[ScopedKey | str],
    extends: Iterable[ScopedKey | str | None] | None,
    creator: str | None,
) -> list[ScopedKey | None]:
    edges = [parse_key(one) for one in transformations]
    parents = (
        [None] * len(edges) if extends is None else [_parse_parent(parent) for parent in extends]
    )
    if len(parents) != len(edges):
        raise ValueError(
            f"{len(edges)} transformations, but {len(parents)} entries in extends;"
            " pass one entry per transformation, None where a task extends nothing"
        )
    if not edges:
        return []
    ids, limited = _require_transformations(tx, edges)
    chosen = _within_quotas(tx, edges, ids, limited)
    require_extendable(tx, edges, parents)
    created: list[ScopedKey | None] = [None] * len(edges)
    tasks = _create(
        tx,
        [edges[i] for i in chosen],
        [ids[i] for i in chosen],
        [token_of(parents[i]) for i in chosen],
        creator,
    )
    for i, task in zip(chosen, tasks, strict=True):
        created[i] = task
    return created


def _within_quotas(
    tx: Connection, edges: Sequence[ScopedKey], ids: Sequence[int], limited: Set[int]
) -> Sequence[int]:
    """Return the positions of the transformations of which a task may be created.

    `limited` has the positions of those that have a quota; only these are locked.
    """
    if not limited:
        return range(len(edges))
    room = lock_and_count(tx, [ids[i] for i in limited], [edges[i].token for i in limited])
    chosen = []
    for position, (scope_id, edge) in enumerate(zip(ids, edges, strict=True)):
        left = room.get((scope_id, edge.token))
        if left is not None:
            if left == 0:
                continue
            room[scope_id, edge.token] = left - 1
        chosen.append(position)
    return chosen


def _parse_parent(extends: ScopedKey | str | None) -> ScopedKey | None:
    key = None if extends is None else parse_key(extends)
    if key is not None and key.qualname != "Task":
        raise ValueError(f"`extends` ScopedKey ({key}) is not the key of a Task")
    return key


def _create(
    tx: Connection,
    edges: Sequence[ScopedKey],
    ids: Sequence[int],
    parents: Sequence[UUID | None],
    creator: str | None,
) -> list[ScopedKey]:
    # Sorted, so that the tasks of one call are in the order of their keys.
    tokens = sorted(uuid7() for _ in edges)
    tx.execute(
        CREATE_TASKS,
        {
            "scope_ids": ids,
            "tokens": tokens,
            "transformations": [edge.token for edge in edges],
            "parents": parents,
            "creator": escape(creator),
            "now": now(),
        },
    )
    return [scoped(edge, "Task", token) for edge, token in zip(edges, tokens, strict=True)]


def _require_transformations(
    tx: Connection, edges: Sequence[ScopedKey]
) -> tuple[list[int], set[int]]:
    """Return the scope ids of transformations, and the positions of those that have a quota."""
    known = scope_ids(tx, {(edge.org, edge.campaign, edge.project) for edge in edges})
    ids = [known.get((edge.org, edge.campaign, edge.project), -1) for edge in edges]
    rows = tx.execute(
        FIND_TRANSFORMATIONS, {"scope_ids": ids, "tokens": [edge.token for edge in edges]}
    ).all()
    found = {row.position: row.kind for row in rows}
    for position, edge in enumerate(edges, start=1):
        # A subclass of Transformation is fine if a network has stored it as a transformation.
        if found.get(position) == edge.qualname:
            continue
        parse_key(edge, TRANSFORMATION_KINDS)
        raise MissingObjectError(edge)
    return ids, {row.position - 1 for row in rows if row.waiting is not None}


def require_extendable(
    tx: Connection, edges: Sequence[ScopedKey], parents: Sequence[ScopedKey | None]
) -> None:
    """Raise an error unless the parents can be extended by tasks of these transformations.

    The statuses of the parents cannot change before the end of the transaction.
    """
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
        if row.status in ("invalid", "deleted"):
            raise ValueError(f"Cannot extend {parent}: it is {row.status}")
        if row.transformation != edge.token or parent.scope != edge.scope:
            raise ValueError(f"Cannot extend {parent}: it is not a task of {edge}")


def set_tasks(
    tx: Connection,
    transformation: ScopedKey | str,
    extends: ScopedKey | str | None = None,
    count: int = 1,
) -> list[ScopedKey]:
    """Create tasks until a transformation has a number of tasks that extend the same task.

    Invalid and deleted tasks do not count. Concurrent calls with the same arguments return the same
    tasks.

    Parameters
    ----------
    transformation : ScopedKey or str
        The transformation to perform.
    extends : ScopedKey or str, optional
        The task that they extend. Default: they extend nothing.
    count : int, default 1
        The smallest number of tasks there should be.

    Returns
    -------
    list of ScopedKey
        All such tasks, at least `count`, in the order of their keys.

    Raises
    ------
    KeyError
        If the transformation or the extended task is missing.
    ValueError
        If a key is of another kind, the task cannot be extended, or `count` is negative.
    QuotaError
        If a quota does not allow that many waiting tasks of the transformation. None is created.
    """
    count = integer(count, "count")
    if count < 0:
        raise ValueError(f"count must be 0 or more, not {count}")
    edge = parse_key(transformation)
    parent = _parse_parent(extends)
    _, limited = _require_transformations(tx, [edge])
    scope_id = tx.scalar(LOCK_TRANSFORMATION, {**parameters(edge), "kind": edge.qualname})
    require_extendable(tx, [edge], [parent])
    values = {"scope_id": scope_id, "transformation": edge.token, "parent": token_of(parent)}
    present = [scoped(edge, "Task", token) for token in tx.scalars(TASKS_THAT_EXTEND, values)]
    lacking = count - len(present)
    if lacking <= 0:
        return present
    if limited:
        room = lock_and_count(tx, [scope_id], [edge.token])[scope_id, edge.token]
        if room is not None and lacking > room:
            raise _beyond_quota(transformation)
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
    statement = listing("SELECT 'Task' AS kind, o.token FROM tasks AS o", *conditions)
    return keys_of(tx.execute(statement, {**scope_parameters(scope), **values}))


def parse_status(status: TaskStatusEnum | str) -> TaskStatusEnum:
    """Return the status with a name.

    Raises
    ------
    ValueError
        If there is no such status.
    """
    if isinstance(status, TaskStatusEnum):
        return status
    try:
        return TaskStatusEnum(status)
    except ValueError:
        known = ", ".join(known.value for known in TaskStatusEnum)
        raise ValueError(
            f"{status!r} is not a valid TaskStatusEnum: expected one of {known}"
        ) from None


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
    rows = tx.execute(TASKS_OF_NETWORK, {**parameters(key), "status": wanted})
    return [scoped(key, "Task", row.token) for row in rows]


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
    found = {
        scoped(key, "Task", row.token): (
            None if row.parent is None else scoped(key, "Task", row.parent)
        )
        for row in tx.execute(TASKS_OF_TRANSFORMATION, values)
    }
    return found if return_as == "graph" else list(found)


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


def set_task_priority(
    tx: Connection,
    tasks: Iterable[ScopedKey | str | None],
    priority: int,
    *,
    refusals: Refusals | None = None,
) -> list[ScopedKey | None]:
    """Set the priority of tasks.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.
    priority : int
        From 1, the most urgent, to 2**63 - 1.
    refusals : dict, optional
        A dictionary to fill with the reason for each refused task, by the text of its key. It is
        cleared first.

    Returns
    -------
    list of ScopedKey or None
        One entry per task, in order: its key, or ``None`` if it is missing.

    Raises
    ------
    ValueError
        If the priority is out of bounds.
    TypeError
        If the priority is not an integer.
    """
    priority = integer(priority, "priority")
    if not 1 <= priority <= PRIORITY_MAX:
        raise ValueError(
            f"priority must be between 1 and {PRIORITY_MAX}, inclusive, not {priority}"
        )
    keys = parse_keys(tx, tasks)
    missing: set[tuple[int, UUID]] = set()
    if keys:
        lock(tx, keys.parameters)
        rows = tx.execute(SET_PRIORITY, {**keys.parameters, "priority": priority})
        missing = {(row.scope_id, row.task) for row in rows}
        refresh(tx, keys.parameters)
    if refusals is not None:
        explain(tx, refusals, keys, missing, lambda state: RefusalReason.missing)
    return keys.align_keys(lambda pair: pair not in missing)


def get_task_priority(tx: Connection, tasks: Iterable[ScopedKey | str | None]) -> list[int | None]:
    """Return the priority of each task, in order; ``None`` for a missing task."""
    keys = parse_keys(tx, tasks)
    return keys.align(
        {
            (row.scope_id, row.token): row.priority
            for row in tx.execute(GET_PRIORITY, keys.parameters)
        }
    )
