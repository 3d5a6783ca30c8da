"""Actions: a task is on a hub, with a weight, to be claimed from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, text

from alchemistore.database.keys import (
    Keys,
    parameters,
    parse_key,
    parse_keys,
    parse_one_or_many,
    scoped,
)
from alchemistore.database.sql import SCOPE_ID
from alchemistore.models import ScopedKey
from alchemistore.models.clock import now
from alchemistore.models.task import DEFAULT_WEIGHT
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.task_sets import TASKS, lock
from alchemistore.operations.taskhubs import check_weight

HUB = (
    f"SELECT scope_id, token, network FROM taskhubs WHERE scope_id = {SCOPE_ID} AND token = :token"
)
# Keeps the hub from being deleted meanwhile.
LOCK_HUB = text(f"{HUB} FOR KEY SHARE")

# The rows of the wanted tasks on the hub, by their place: see `task_sets.row_locations`.
_PRESENT = """
    present AS MATERIALIZED (
        SELECT wanted.*, a.place FROM hub JOIN wanted ON wanted.scope_id = hub.scope_id
        CROSS JOIN LATERAL (
            SELECT a.ctid AS place FROM actions AS a
            WHERE a.scope_id = hub.scope_id AND a.taskhub = hub.token AND a.task = wanted.task OFFSET 0
        ) AS a
    )
"""

# Each statement gives back what it did not do: usually little.
ACTION = text(f"""
    WITH hub AS MATERIALIZED ({HUB}),
    wanted AS MATERIALIZED ({TASKS}),
    added AS (
        INSERT INTO actions (scope_id, taskhub, task, weight, created_at)
        SELECT hub.scope_id, hub.token, t.token, :weight, :now
        FROM hub
        JOIN wanted ON wanted.scope_id = hub.scope_id
        CROSS JOIN LATERAL (
            SELECT t.token, t.transformation FROM tasks AS t
            WHERE t.scope_id = wanted.scope_id AND t.token = wanted.task AND t.status IN ('waiting', 'running', 'error') OFFSET 0
        ) AS t
        CROSS JOIN LATERAL (
            SELECT FROM network_transformations AS n
            WHERE n.scope_id = hub.scope_id AND n.network = hub.network AND n.transformation = t.transformation OFFSET 0
        ) AS n
        ON CONFLICT DO NOTHING
        RETURNING scope_id, task
    )
    SELECT scope_id, task FROM wanted EXCEPT ALL SELECT scope_id, task FROM added
""").bindparams(weight=DEFAULT_WEIGHT)
CANCEL = text(f"""
    WITH hub AS MATERIALIZED ({HUB}),
    wanted AS MATERIALIZED ({TASKS}),
    {_PRESENT},
    removed AS (
        DELETE FROM actions WHERE ctid = ANY(ARRAY(SELECT place FROM present)) RETURNING scope_id, task
    )
    SELECT scope_id, task FROM wanted EXCEPT ALL SELECT scope_id, task FROM removed
""")
SET_WEIGHTS = text(f"""
    WITH hub AS MATERIALIZED ({HUB}),
    wanted AS MATERIALIZED (
        SELECT scope_id, task, weight
        FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[]), CAST(:weights AS double precision[]))
            AS x (scope_id, task, weight)
    ),
    {_PRESENT},
    changed AS (
        UPDATE actions AS a SET weight = present.weight FROM present WHERE a.ctid = present.place
        RETURNING a.scope_id, a.task
    )
    SELECT scope_id, task FROM wanted EXCEPT ALL SELECT scope_id, task FROM changed
""")
GET_WEIGHTS = text(f"""
    SELECT a.scope_id, a.task, a.weight
    FROM ({HUB}) AS hub JOIN ({TASKS}) AS wanted ON wanted.scope_id = hub.scope_id
    CROSS JOIN LATERAL (
        SELECT a.scope_id, a.task, a.weight FROM actions AS a
        WHERE a.scope_id = hub.scope_id AND a.taskhub = hub.token AND a.task = wanted.task OFFSET 0
    ) AS a
""")
ACTIONED_TASKS = text("""
    SELECT x.position, a.task, a.weight
    FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) WITH ORDINALITY AS x (scope_id, taskhub, position)
    JOIN actions AS a ON a.scope_id = x.scope_id AND a.taskhub = x.taskhub
    ORDER BY x.position, a.task
""")
ACTIONED_NETWORKS = text(f"""
    SELECT n.kind, n.token, a.weight
    FROM actions AS a
    JOIN taskhubs AS h ON h.scope_id = a.scope_id AND h.token = a.taskhub
    JOIN networks AS n ON n.scope_id = h.scope_id AND n.token = h.network
    WHERE a.scope_id = {SCOPE_ID} AND a.task = :token
    ORDER BY n.token
""")


def action_tasks(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], taskhub: ScopedKey | str
) -> list[ScopedKey | None]:
    """Put tasks on a hub, with weight 0.5, so that they can be claimed from there.

    A task can be actioned if its transformation is in the hub's network, it is waiting, running or in error, and it is not on
    this hub yet. Whether the task it extends is complete matters only when it is claimed.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.
    taskhub : ScopedKey or str
        The hub.

    Returns
    -------
    list of ScopedKey or None
        For each task in the order given: its key if it was actioned by this call, else ``None``.
    """
    return _change(tx, ACTION, parse_keys(tx, tasks), taskhub, now=now())


def cancel_tasks(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], taskhub: ScopedKey | str
) -> list[ScopedKey | None]:
    """Take tasks off a hub; what is running goes on, and other hubs keep them.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.
    taskhub : ScopedKey or str
        The hub.

    Returns
    -------
    list of ScopedKey or None
        For each task in the order given: its key if it was taken off by this call, else ``None``.
    """
    return _change(tx, CANCEL, parse_keys(tx, tasks), taskhub)


def _change(
    tx: Connection,
    statement: Any,
    keys: Keys,
    taskhub: ScopedKey | str,
    once: bool = True,
    **more: Any,
) -> list[ScopedKey | None]:
    hub = parse_key(taskhub)
    if (
        not keys
        or hub.qualname != "TaskHub"
        or tx.execute(LOCK_HUB, parameters(hub)).first() is None
    ):
        return [None] * len(keys.parsed)
    lock(tx, keys.parameters)
    refused = {
        (row.scope_id, row.task)
        for row in tx.execute(statement, {**parameters(hub), **keys.parameters, **more})
    }
    refresh(tx, keys.parameters)
    return keys.align_keys(lambda pair: pair not in refused, once=once)


def set_task_weights(
    tx: Connection,
    tasks: Mapping[ScopedKey | str, float] | Iterable[ScopedKey | str | None],
    taskhub: ScopedKey | str,
    weight: float | None = None,
) -> list[ScopedKey | None]:
    """Set with which weight tasks are drawn from a hub.

    Parameters
    ----------
    tasks : mapping of ScopedKey or str to float, or iterable of ScopedKey or str
        The tasks with a weight for each, or the tasks that all get `weight`.
    taskhub : ScopedKey or str
        The hub.
    weight : float, optional
        The weight of all `tasks`; required with an iterable, refused with a mapping.

    Returns
    -------
    list of ScopedKey or None
        For each task in the order given: its key, or ``None`` if it is not on this hub.

    Raises
    ------
    ValueError
        If a weight is not between 0 (never drawn) and 1, or `weight` is given or missing where it should not be. Nothing is
        written then.
    """
    if isinstance(tasks, Mapping):
        if weight is not None:
            raise ValueError("with a mapping of tasks to weights, `weight` must not be given")
        asked = {str(task): check_weight(value) for task, value in tasks.items()}
        keys = parse_keys(tx, list(tasks))
        weights = {key: asked[str(key)] for key in keys.parsed if key is not None}
    else:
        if weight is None:
            raise ValueError("with a list of tasks, `weight` must be given")
        value = check_weight(weight)
        keys = parse_keys(tx, tasks)
        weights = dict.fromkeys((key for key in keys.parsed if key is not None), value)
    # One weight for each distinct key, in the order in which the keys first appear.
    return _change(tx, SET_WEIGHTS, keys, taskhub, once=False, weights=list(weights.values()))


def get_task_weights(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], taskhub: ScopedKey | str
) -> list[float | None]:
    """Give with which weight tasks are drawn from a hub.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.
    taskhub : ScopedKey or str
        The hub.

    Returns
    -------
    list of float or None
        For each task in the order given: its weight, ``None`` if it is not on this hub.
    """
    hub, keys = parse_key(taskhub), parse_keys(tx, tasks)
    if not keys or hub.qualname != "TaskHub":
        return [None] * len(keys.parsed)
    rows = tx.execute(GET_WEIGHTS, {**parameters(hub), **keys.parameters})
    return keys.align({(row.scope_id, row.task): row.weight for row in rows})


def get_taskhub_actioned_tasks(
    tx: Connection, taskhub: ScopedKey | str | Iterable[ScopedKey | str | None]
) -> Any:
    """Give the tasks on a hub, whatever their status, with their weights.

    Parameters
    ----------
    taskhub : ScopedKey or str, or iterable of them
        The hub, or several.

    Returns
    -------
    dict of ScopedKey to float, or list of them
        In the order of the keys; empty if there is no such hub.
    """
    single, keys = parse_one_or_many(tx, taskhub, "TaskHub")
    found: list[dict[ScopedKey, float]] = [{} for _ in keys.tokens]
    hubs = list(dict.fromkeys(key for key in keys.parsed if key is not None))
    for row in tx.execute(ACTIONED_TASKS, keys.parameters):
        found[row.position - 1][scoped(hubs[row.position - 1], "Task", row.task)] = row.weight
    answers = keys.align(
        dict(zip(zip(keys.scope_ids, keys.tokens, strict=True), found, strict=True))
    )
    listed = [answer if answer is not None else {} for answer in answers]
    return listed[0] if single else listed


def get_task_actioned_networks(tx: Connection, task: ScopedKey | str) -> dict[ScopedKey, float]:
    """Give the networks on whose hubs a task is, with its weights there, in the order of their keys; empty if on none."""
    key = parse_key(task)
    if key.qualname != "Task":
        return {}
    return {
        scoped(key, row.kind, row.token): row.weight
        for row in tx.execute(ACTIONED_NETWORKS, parameters(key))
    }
