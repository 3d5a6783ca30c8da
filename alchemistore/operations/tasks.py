"""Tasks: creation, extension, queries and priorities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from alchemistore.database.arguments import integer
from alchemistore.database.keys import (
    one_or_missing,
    parameters,
    parse_key,
    parse_keys,
    scope_ids,
    scoped,
    token_of,
)
from alchemistore.database.sql import SCOPE_ID
from alchemistore.database.together import together
from alchemistore.errors import MissingObjectError, QuotaError
from alchemistore.models import (
    RefusalReason,
    ScopedKey,
    Task,
    TaskStatusEnum,
)
from alchemistore.models.clock import now, uuid7
from alchemistore.models.task import DEFAULT_PRIORITY, PRIORITY_MAX
from alchemistore.models.text import escape, unescape
from alchemistore.operations.queue.refresh import set_priority_with
from alchemistore.operations.quotas import limit_of, lock_and_count
from alchemistore.operations.refusals import Refusals, explain
from alchemistore.operations.requests import Request, carry_out, once, plain, remember
from alchemistore.operations.task_sets import TASKS, execute, form, lock_with, row_locations
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
    partly: bool = True,
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
    partly : bool, default True
        Create the tasks that quotas allow, although they do not allow all. If not, create all or
        none.
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
    QuotaError
        If quotas do not allow all tasks, and `partly` is false. No task is created then.
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
        created = _create_within_quotas(tx, wanted, parents, creator, partly)
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
    partly: bool,
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
    if not partly and len(chosen) < len(edges):
        raise _beyond_quota(edges[min({*range(len(edges))}.difference(chosen))])
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
    # A subclass of Transformation is fine if a network has stored it as a transformation.
    unknown = [
        edge for position, edge in enumerate(edges, start=1) if found.get(position) != edge.qualname
    ]
    for edge in unknown:
        parse_key(edge, TRANSFORMATION_KINDS)
    if unknown:
        raise MissingObjectError(unknown[0])
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
    keys = parse_keys(tx, tasks, later=refusals is None)
    missing: set[tuple[int, UUID]] = set()
    if keys:
        values = {**keys.parameters, "priority": priority}
        with together(tx, last=refusals is None) as send:
            lock_with(send, values)
            answer = send(form(SET_PRIORITY, values), values)
            set_priority_with(send, values)
        missing = {keys.pair(row.scope_id, row.task) for row in answer.rows}
    if refusals is not None:
        explain(tx, refusals, keys, missing, lambda state: RefusalReason.missing)
    return keys.align_keys(missing)


def get_task_priority(tx: Connection, tasks: Iterable[ScopedKey | str | None]) -> list[int | None]:
    """Return the priority of each task, in order; ``None`` for a missing task."""
    keys = parse_keys(tx, tasks, later=True)
    return keys.align(
        {
            keys.pair(row.scope_id, row.token): row.priority
            for row in execute(tx, GET_PRIORITY, keys.parameters)
        }
    )
