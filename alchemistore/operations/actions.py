"""Actions: tasks on hubs, where they can be claimed, with their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast, overload
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from alchemistore.database.arguments import also_named
from alchemistore.database.keys import (
    Keys,
    parameters,
    parse_hub,
    parse_key,
    parse_keys,
    scoped,
    scoped_tokens,
)
from alchemistore.database.planner import FENCE
from alchemistore.database.sql import SCOPE_ID, all_tokens
from alchemistore.database.together import Together, together
from alchemistore.database.transaction import call_of
from alchemistore.models import RefusalReason, ScopedKey
from alchemistore.models.task import DEFAULT_WEIGHT
from alchemistore.operations.queue.refresh import leave_hub_with, refresh_with
from alchemistore.operations.quotas import limit_of, room
from alchemistore.operations.refusals import Refusals, explain, explain_missing_hub
from alchemistore.operations.task_sets import TASKS, execute, form, lock, lock_with
from alchemistore.operations.taskhub_weights import check_weight

_UpdateQueue: TypeAlias = Callable[[Together, dict[str, Any]], None]
# The statuses of tasks that can still be run.
ACTIONABLE = ("waiting", "running", "error")

_HUB = f"""
    SELECT scope_id, token, network FROM taskhubs WHERE scope_id = {SCOPE_ID} AND token = :token
"""
# Prevents the deletion of the hub until the end of the transaction.
LOCK_HUB_AGAINST_DELETION = text(f"{_HUB} FOR KEY SHARE")
_LIMIT = limit_of("actioned_per_hub", ":org", ":campaign", ":project")
# Calls that count tasks for a quota, and calls that change restart patterns, come one after the
# other.
LOCK_HUB = text(f"{_HUB} FOR NO KEY UPDATE")
_ACTIONS_OF_HUB = """
    SELECT FROM actions AS a WHERE a.scope_id = hub.scope_id AND a.taskhub = hub.token
"""
ROOM_ON_HUB = text(f"""
    SELECT {room("hub.allowed", _ACTIONS_OF_HUB)}
    FROM (SELECT hub.*, {_LIMIT} AS allowed FROM ({_HUB}) AS hub {FENCE}) AS hub
""")

_HUB_AND_TASKS = f"""
    -- The hub, or nothing if it does not exist.
    hub AS MATERIALIZED ({_HUB}),
    -- The given tasks. Read once, because two steps use them.
    wanted AS MATERIALIZED ({TASKS})
"""
_PRESENT = f"""
    -- The given tasks on the hub, with the locations of their actions, so that the next step reads
    -- only these rows.
    present AS MATERIALIZED (
        SELECT wanted.*, a.place FROM hub JOIN wanted ON wanted.scope_id = hub.scope_id
        -- Looks up the action of each task by key.
        CROSS JOIN LATERAL (
            SELECT a.ctid AS place FROM actions AS a
            WHERE a.scope_id = hub.scope_id AND a.taskhub = hub.token AND a.task = wanted.task
            {FENCE}
        ) AS a
    )
"""

# The tasks that can still be run and whose transformation is in the network of the hub.
_ADMITTED = f"""
    FROM hub
    JOIN wanted ON wanted.scope_id = hub.scope_id
    -- Looks up each task by key.
    CROSS JOIN LATERAL (
        SELECT t.token, t.transformation FROM tasks AS t
        WHERE t.scope_id = wanted.scope_id AND t.token = wanted.task
            AND t.status IN {ACTIONABLE!r} {FENCE}
    ) AS t
    -- Looks up its transformation in the network by key.
    CROSS JOIN LATERAL (
        SELECT FROM network_transformations AS n
        WHERE n.scope_id = hub.scope_id AND n.network = hub.network
            AND n.transformation = t.transformation {FENCE}
    ) AS n
"""
_ADD = f"""
        INSERT INTO actions (scope_id, taskhub, task, weight, created_at)
        SELECT hub.scope_id, hub.token, t.token, {DEFAULT_WEIGHT}, :now {_ADMITTED}
"""
# The next statements return the tasks that they did not change, usually few.
ADD_ACTIONS = text(f"""
    WITH
    -- The hub with its quota, or nothing if it does not exist.
    hub AS MATERIALIZED (SELECT hub.*, {_LIMIT} AS quota FROM ({_HUB}) AS hub),
    -- The given tasks. Read once, because two steps use them.
    wanted AS MATERIALIZED ({TASKS}),
    -- Adds the tasks, unless there is a quota.
    added AS (
        {_ADD} WHERE hub.quota IS NULL
        ON CONFLICT DO NOTHING RETURNING scope_id, task
    )
    (SELECT scope_id, task FROM wanted EXCEPT ALL SELECT scope_id, task FROM added)
    -- A row that says that there is a quota.
    UNION ALL SELECT NULL, NULL FROM hub WHERE quota IS NOT NULL
""")
# The tasks that a call has put on the hub before it lost the connection.
FIND_ADDED = text(f"""
    WITH {_HUB_AND_TASKS}
    SELECT wanted.scope_id, wanted.task FROM hub JOIN wanted ON wanted.scope_id = hub.scope_id
    -- Looks up the action of each task by key.
    CROSS JOIN LATERAL (
        SELECT a.created_at FROM actions AS a
        WHERE a.scope_id = hub.scope_id AND a.taskhub = hub.token AND a.task = wanted.task
        {FENCE}
    ) AS a
    WHERE a.created_at = :now
""")
ADD_ACTIONS_WITHIN_QUOTA = text(f"""
    WITH
    -- The hub, or nothing if it does not exist.
    hub AS MATERIALIZED ({_HUB}),
    -- The given tasks in order. Read once, because two steps use them.
    wanted AS MATERIALIZED (
        SELECT scope_id, task, position
        FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[]))
            WITH ORDINALITY AS x (scope_id, task, position)
    ),
    -- Adds the first of them that are not yet on the hub, as many as there is room for.
    added AS (
        {_ADD}
        -- Looks up the action of each task by key.
        WHERE (
            SELECT a.task FROM actions AS a
            WHERE a.scope_id = hub.scope_id AND a.taskhub = hub.token AND a.task = wanted.task
        ) IS NULL
        ORDER BY wanted.position LIMIT CAST(:room AS bigint)
        ON CONFLICT DO NOTHING RETURNING scope_id, task
    )
    SELECT scope_id, task FROM wanted EXCEPT ALL SELECT scope_id, task FROM added
""")
REMOVE_ACTIONS = text(f"""
    WITH {_HUB_AND_TASKS},
    {_PRESENT},
    -- Removes the tasks from the hub.
    removed AS (
        DELETE FROM actions WHERE ctid = ANY(ARRAY(SELECT place FROM present))
        RETURNING scope_id, task
    )
    SELECT scope_id, task FROM wanted EXCEPT ALL SELECT scope_id, task FROM removed
""")
SET_ACTION_WEIGHTS = text(f"""
    WITH
    -- The hub, or nothing if it does not exist.
    hub AS MATERIALIZED ({_HUB}),
    -- The given tasks with their new weights. Read once, because two steps use them.
    wanted AS MATERIALIZED (
        SELECT scope_id, task, weight
        FROM unnest(
            CAST(:scope_ids AS bigint[]),
            CAST(:tokens AS uuid[]),
            CAST(:weights AS double precision[])
        ) AS x (scope_id, task, weight)
    ),
    {_PRESENT},
    -- Sets the weights of the tasks on the hub.
    changed AS (
        UPDATE actions AS a SET weight = present.weight FROM present WHERE a.ctid = present.place
        RETURNING a.scope_id, a.task
    )
    SELECT scope_id, task FROM wanted EXCEPT ALL SELECT scope_id, task FROM changed
""")
GET_ACTION_WEIGHTS = text(f"""
    SELECT a.scope_id, a.task, a.weight
    FROM ({_HUB}) AS hub JOIN ({TASKS}) AS wanted ON wanted.scope_id = hub.scope_id
    -- Looks up the action of each task by key.
    CROSS JOIN LATERAL (
        SELECT a.scope_id, a.task, a.weight FROM actions AS a
        WHERE a.scope_id = hub.scope_id AND a.taskhub = hub.token AND a.task = wanted.task {FENCE}
    ) AS a
""")
LIST_ACTIONS_OF_HUBS = text(f"""
    SELECT x.position, {all_tokens("a.task")} AS tasks,
        array_agg(a.weight ORDER BY a.task) AS weights
    FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[]))
        WITH ORDINALITY AS x (scope_id, taskhub, position)
    JOIN actions AS a ON a.scope_id = x.scope_id AND a.taskhub = x.taskhub
    GROUP BY x.position
""")
TASKS_OF_TRANSFORMATION_ON_HUB = text(f"""
    SELECT {all_tokens("t.token")} FROM tasks AS t
    -- Looks up the action of each task by key.
    CROSS JOIN LATERAL (
        SELECT FROM actions AS a
        WHERE a.scope_id = t.scope_id AND a.taskhub = :taskhub AND a.task = t.token {FENCE}
    ) AS a
    WHERE t.scope_id = {SCOPE_ID} AND t.transformation = :token
""")
LIST_NETWORKS_OF_ACTIONED_TASK = text(f"""
    SELECT n.kind, n.token, a.weight
    FROM actions AS a
    JOIN taskhubs AS h ON h.scope_id = a.scope_id AND h.token = a.taskhub
    JOIN networks AS n ON n.scope_id = h.scope_id AND n.token = h.network
    WHERE a.scope_id = {SCOPE_ID} AND a.task = :token
    ORDER BY n.token
""")


def action_tasks(
    tx: Connection,
    tasks: Iterable[ScopedKey | str | None],
    taskhub: ScopedKey | str | None,
    *,
    refusals: Refusals | None = None,
) -> list[ScopedKey | None]:
    """Put tasks on a hub with weight 0.5, so that they can be claimed from it.

    A task can be actioned if its transformation is in the network of the hub, if it is waiting,
    running or in error, if it is not yet on this hub, and if a quota allows one more task on this
    hub. A task that extends an incomplete task can be actioned, but not claimed.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.
    taskhub : ScopedKey or str or None
        The hub. A missing hub and ``None`` have no tasks.
    refusals : dict, optional
        A dictionary to fill with the reason for each refused task, by the text of its key. It is
        cleared first.

    Returns
    -------
    list of ScopedKey or None
        The key of each task that this call actioned, else ``None``, in the order given.

    Raises
    ------
    ValueError
        If `taskhub` is the key of something else.
    """
    keys, hub = parse_keys(tx, tasks, later=refusals is None), parse_hub(taskhub)
    if hub is None:
        return _no_hub(keys, refusals)
    call, last = call_of(tx), refusals is None
    values = {**parameters(hub), **keys.parameters, "now": call.made_at}
    if call.again and keys:
        added = tx.execute(form(FIND_ADDED, values), values).all()
        if added:
            refused = set(keys.pairs()) - {keys.pair(row.scope_id, row.task) for row in added}
            return _answer(tx, keys, hub, refused, refusals, _why_not_actioned)
    rows = _change_together(tx, ADD_ACTIONS, keys, values, last)
    if rows is None:
        return _no_hub(keys, refusals)
    if any(row.task is None for row in rows):
        # There is a quota, so nothing was added: count under a lock.
        tx.execute(LOCK_HUB, parameters(hub))
        # Calls that remove these tasks from the hub come before or after this one as a whole.
        lock(tx, keys.parameters)
        # A separate statement, which sees everything that was committed before that.
        values["room"] = tx.scalar(ROOM_ON_HUB, parameters(hub))
        rows = _change_together(tx, ADD_ACTIONS_WITHIN_QUOTA, keys, values, last)
    refused = {keys.pair(row.scope_id, row.task) for row in rows or ()}
    return _answer(tx, keys, hub, refused, refusals, _why_not_actioned)


def _why_not_actioned(state: Row[Any]) -> RefusalReason:
    if state.status not in ACTIONABLE:
        return RefusalReason.status
    if not state.in_network:
        return RefusalReason.not_in_network
    return RefusalReason.already_actioned if state.on_hub else RefusalReason.quota


def _not_actioned(state: Row[Any]) -> RefusalReason:
    return RefusalReason.not_actioned


def cancel_tasks(
    tx: Connection,
    tasks: Iterable[ScopedKey | str | None],
    taskhub: ScopedKey | str | None,
    *,
    refusals: Refusals | None = None,
) -> list[ScopedKey | None]:
    """Remove tasks from a hub. Running tasks continue, and other hubs keep the tasks.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.
    taskhub : ScopedKey or str or None
        The hub. A missing hub and ``None`` have no tasks.
    refusals : dict, optional
        A dictionary to fill with the reason for each refused task, by the text of its key. It is
        cleared first.

    Returns
    -------
    list of ScopedKey or None
        The key of each task that this call removed, else ``None``, in the order given.

    Raises
    ------
    ValueError
        If `taskhub` is the key of something else.
    """
    keys = parse_keys(tx, tasks, later=refusals is None)
    return _change(tx, REMOVE_ACTIONS, keys, taskhub, refusals, update_queue=leave_hub_with)


def _change(
    tx: Connection,
    statement: TextClause,
    keys: Keys,
    taskhub: ScopedKey | str | None,
    refusals: Refusals | None = None,
    once: bool = True,
    update_queue: _UpdateQueue = refresh_with,
    **more: Any,
) -> list[ScopedKey | None]:
    hub = parse_hub(taskhub)
    if hub is None:
        return _no_hub(keys, refusals)
    values = {**parameters(hub), **keys.parameters, **more}
    last = refusals is None
    rows = _change_together(tx, statement, keys, values, last, update_queue)
    if rows is None:
        return _no_hub(keys, refusals)
    refused = {keys.pair(row.scope_id, row.task) for row in rows}
    return _answer(tx, keys, hub, refused, refusals, _not_actioned, once=once)


def _no_hub(keys: Keys, refusals: Refusals | None) -> list[ScopedKey | None]:
    if refusals is not None:
        explain_missing_hub(refusals, keys)
    return [None] * len(keys.parsed)


def _change_together(
    tx: Connection,
    statement: TextClause,
    keys: Keys,
    values: dict[str, Any],
    last: bool,
    update_queue: _UpdateQueue = refresh_with,
) -> Sequence[Any] | None:
    """Change the actions of tasks on a hub, and return the rows about tasks that were refused.

    The answer is ``None`` if there is no such hub. The statement changes nothing then.
    """
    rows: Sequence[Any] = ()
    with together(tx, last=last) as send:
        hub = send(LOCK_HUB_AGAINST_DELETION, values)
        if keys:
            lock_with(send, keys.parameters)
            answer = send(form(statement, values), values)
            update_queue(send, values)
    if keys:
        rows = answer.rows
    return rows if hub.rows else None


def _answer(
    tx: Connection,
    keys: Keys,
    hub: ScopedKey,
    refused: set[tuple[int, UUID]],
    refusals: Refusals | None,
    reason: Callable[[Row[Any]], RefusalReason],
    once: bool = True,
) -> list[ScopedKey | None]:
    if refusals is not None:
        explain(tx, refusals, keys, refused, reason, hub)
    return keys.align_keys(refused, once=once)


def set_task_weights(
    tx: Connection,
    tasks: Mapping[ScopedKey | str, float] | Iterable[ScopedKey | str | None],
    taskhub: ScopedKey | str | None,
    weight: float | None = None,
) -> list[ScopedKey | None]:
    """Set the weights of tasks on a hub.

    Parameters
    ----------
    tasks : mapping of ScopedKey or str to float, or iterable of ScopedKey or str
        Tasks with a weight for each, or tasks that all get `weight`.
    taskhub : ScopedKey or str or None
        The hub. A missing hub and ``None`` have no tasks.
    weight : float, optional
        The weight of all tasks. Required with an iterable, an error with a mapping.

    Returns
    -------
    list of ScopedKey or None
        The key of each task, or ``None`` if it is not on this hub, in the order given.

    Raises
    ------
    ValueError
        If a weight is neither 0 (never claimed) nor between 1e-6 and 1, if `weight` is given with a
        mapping, or if it is missing with an iterable, or if `taskhub` is the key of something else.
        No weight changes then.
    """
    if isinstance(tasks, Mapping):
        if weight is not None:
            raise ValueError("`tasks` is a mapping to weights; do not give `weight`, too")
        given = {str(task): check_weight(value) for task, value in tasks.items()}
        keys = parse_keys(tx, list(tasks), later=True)
        weights = {key: given[str(key)] for key in keys.parsed if key is not None}
    else:
        if weight is None:
            raise ValueError("`tasks` is not a mapping to weights; give `weight`, too")
        value = check_weight(weight)
        keys = parse_keys(tx, tasks, later=True)
        weights = dict.fromkeys((key for key in keys.parsed if key is not None), value)
    # One weight for each distinct key, in the order in which the keys first appear.
    in_order = list(weights.values())
    return _change(tx, SET_ACTION_WEIGHTS, keys, taskhub, once=False, weights=in_order)


def get_task_weights(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], taskhub: ScopedKey | str | None
) -> list[float | None]:
    """Return the weights of tasks on a hub.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.
    taskhub : ScopedKey or str or None
        The hub. A missing hub and ``None`` have no tasks.

    Returns
    -------
    list of float or None
        The weight of each task, or ``None`` if it is not on this hub, in the order given.

    Raises
    ------
    ValueError
        If `taskhub` is the key of something else.
    """
    hub, keys = parse_hub(taskhub), parse_keys(tx, tasks, later=True)
    if not keys or hub is None:
        return [None] * len(keys.parsed)
    rows = execute(tx, GET_ACTION_WEIGHTS, {**parameters(hub), **keys.parameters})
    return keys.align({keys.pair(row.scope_id, row.task): row.weight for row in rows})


@overload
def get_taskhub_actioned_tasks(  # type: ignore[overload-overlap]  # a str is iterable, too
    tx: Connection, taskhub: ScopedKey | str | None
) -> dict[ScopedKey, float]: ...
@overload
def get_taskhub_actioned_tasks(
    tx: Connection, taskhub: Iterable[ScopedKey | str | None]
) -> list[dict[ScopedKey, float]]: ...
@overload
def get_taskhub_actioned_tasks(
    tx: Connection, *, taskhubs: Iterable[ScopedKey | str | None]
) -> list[dict[ScopedKey, float]]: ...
@also_named(taskhubs="taskhub")
def get_taskhub_actioned_tasks(
    tx: Connection, taskhub: ScopedKey | str | Iterable[ScopedKey | str | None] | None
) -> dict[ScopedKey, float] | list[dict[ScopedKey, float]]:
    """Return the tasks on a hub, regardless of their status, with their weights.

    Parameters
    ----------
    taskhub : ScopedKey or str or None, or iterable of them
        A hub, or several.
    taskhubs : iterable of ScopedKey or str or None, optional
        Second name of `taskhub`.

    Returns
    -------
    dict of ScopedKey to float, or list of them
        In the order of the keys; empty if there is no such hub. A list if `taskhub` is an iterable.

    Raises
    ------
    ValueError
        If a hub is the key of something else.
    """
    single = taskhub is None or isinstance(taskhub, str | ScopedKey)
    given = cast("Iterable[ScopedKey | str | None]", [taskhub] if single else taskhub)
    keys = parse_keys(tx, [parse_hub(hub) for hub in given], "TaskHub", later=True)
    found: list[dict[ScopedKey, float]] = [{} for _ in keys.distinct]
    hubs = list(dict.fromkeys(key for key in keys.parsed if key is not None))
    for row in execute(tx, LIST_ACTIONS_OF_HUBS, keys.parameters):
        tasks = scoped_tokens(hubs[row.position - 1], "Task", row.tasks)
        found[row.position - 1] = dict(zip(tasks, row.weights, strict=True))
    listed = [answer if answer is not None else {} for answer in keys.align_values(found)]
    return listed[0] if single else listed


def get_transformation_actioned_tasks(
    tx: Connection, transformation: ScopedKey | str, taskhub: ScopedKey | str | None
) -> list[ScopedKey]:
    """Return the tasks of a transformation that are on a hub, in the order of their keys.

    Parameters
    ----------
    transformation : ScopedKey or str
        The transformation.
    taskhub : ScopedKey or str or None
        The hub. A missing hub and ``None`` have no tasks.

    Returns
    -------
    list of ScopedKey
        Tasks of any status; empty if there is no such transformation.

    Raises
    ------
    ValueError
        If `taskhub` is the key of something else.
    """
    key, hub = parse_key(transformation), parse_hub(taskhub)
    if hub is None or hub.scope != key.scope or key.qualname in ("AlchemicalNetwork", "Task"):
        return []
    values = {**parameters(key), "taskhub": hub.token}
    return scoped_tokens(key, "Task", tx.scalar(TASKS_OF_TRANSFORMATION_ON_HUB, values))


def get_task_actioned_networks(tx: Connection, task: ScopedKey | str) -> dict[ScopedKey, float]:
    """Return the networks on whose hubs a task is, with its weights there, in the order of keys."""
    key = parse_key(task)
    if key.qualname != "Task":
        return {}
    return {
        scoped(key, row.kind, row.token): row.weight
        for row in tx.execute(LIST_NETWORKS_OF_ACTIONED_TASK, parameters(key))
    }
