"""Blockers: the reasons why a task is not being run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from alchemistore.database.keys import parse_keys, scoped
from alchemistore.database.planner import FENCE
from alchemistore.models import Blocker, BlockerKind, ScopedKey
from alchemistore.operations.task_sets import TASKS

# More urgent tasks are counted up to this number; a larger one would say no more.
MAX_AHEAD = 10_000

GET_STATUS_AND_PARENT = text(f"""
    SELECT t.scope_id, t.token, t.status, p.token AS parent, p.status AS parent_status
    FROM ({TASKS}) AS x
    JOIN tasks AS t ON t.scope_id = x.scope_id AND t.token = x.task
    LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    LEFT JOIN tasks AS p ON p.scope_id = e.scope_id AND p.token = e.parent
""")
LIST_HUBS_OF_TASKS = text(f"""
    WITH
    -- The hubs of the tasks, with the weight and priority of the task there.
    at AS MATERIALIZED (
        SELECT a.scope_id, a.task, a.taskhub, a.weight, t.priority
        FROM ({TASKS}) AS x
        -- Looks up each task by key.
        CROSS JOIN LATERAL (
            SELECT t.priority FROM tasks AS t
            WHERE t.scope_id = x.scope_id AND t.token = x.task {FENCE}
        ) AS t
        -- Looks up its actions by scope and task.
        CROSS JOIN LATERAL (
            SELECT a.* FROM actions AS a
            WHERE a.scope_id = x.scope_id AND a.task = x.task {FENCE}
        ) AS a
    ),
    -- One row for each hub and priority, because the tasks ahead are the same for all its tasks.
    grouped AS MATERIALIZED (
        SELECT scope_id, taskhub, priority, array_agg(task) AS tasks, array_agg(weight) AS weights
        FROM at GROUP BY scope_id, taskhub, priority
    ),
    -- The same rows with the weight of the hub and the number of more urgent tasks in its queue.
    ahead AS MATERIALIZED (
        SELECT g.*, h.weight AS hub_weight, (
            SELECT count(*) FROM (
                SELECT FROM queue AS q
                WHERE q.scope_id = g.scope_id AND q.taskhub = g.taskhub
                    AND q.priority < g.priority
                ORDER BY q.priority LIMIT {MAX_AHEAD}
            ) AS front
        ) AS ahead
        FROM grouped AS g JOIN taskhubs AS h ON h.scope_id = g.scope_id AND h.token = g.taskhub
    )
    SELECT scope_id, task, taskhub, weight, hub_weight, ahead
    FROM ahead CROSS JOIN LATERAL unnest(tasks, weights) AS x (task, weight)
    ORDER BY scope_id, task, taskhub
""")
HAS_SERVICE = text("SELECT EXISTS (SELECT FROM compute_services)")


def get_task_blockers(
    tx: Connection, tasks: Iterable[ScopedKey | str | None]
) -> list[tuple[Blocker, ...] | None]:
    """Return the reasons why tasks are not being run.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.

    Returns
    -------
    list of tuple of Blocker, or None
        In the order given. Empty if the next claim may take the task, ``None`` if there is no such
        task.
    """
    keys = parse_keys(tx, tasks)
    hubs: dict[tuple[int, UUID], list[Row[Any]]] = defaultdict(list)
    for row in tx.execute(LIST_HUBS_OF_TASKS, keys.parameters):
        hubs[row.scope_id, row.task].append(row)
    has_service = bool(tx.scalar(HAS_SERVICE))
    rows = tx.execute(GET_STATUS_AND_PARENT, keys.parameters)
    tasks_found = {(row.scope_id, row.token): row for row in rows}
    return keys.align(
        {
            pair: _blockers(key, tasks_found[pair], hubs[pair], has_service)
            for key, pair in keys.items()
            if pair in tasks_found
        }
    )


def _blockers(
    key: ScopedKey, task: Row[Any], hubs: Sequence[Row[Any]], has_service: bool
) -> tuple[Blocker, ...]:
    if task.status != "waiting":
        return (Blocker(kind=BlockerKind.status, text=f"its status is {task.status}, not waiting"),)
    found = []
    if task.parent is not None and task.parent_status != "complete":
        parent = scoped(key, "Task", task.parent)
        found.append(
            Blocker(
                kind=BlockerKind.parent,
                task=parent,
                text=f"it extends {parent}, which is {task.parent_status}, not complete",
            )
        )
    if not hubs:
        found.append(Blocker(kind=BlockerKind.not_actioned, text="it is actioned on no hub"))
    at_hubs = [_at_hub(scoped(key, "TaskHub", row.taskhub), row) for row in hubs]
    # A task is blocked at its hubs only if every one of them blocks it.
    if all(at_hubs):
        found += [blocker for at_hub in at_hubs for blocker in at_hub]
    if not has_service:
        found.append(Blocker(kind=BlockerKind.no_service, text="no compute service is registered"))
    return tuple(found)


def _at_hub(hub: ScopedKey, row: Row[Any]) -> list[Blocker]:
    found = []
    if row.weight == 0:
        found.append(
            Blocker(kind=BlockerKind.weight, taskhub=hub, text=f"its weight on {hub} is 0")
        )
    if row.hub_weight == 0:
        found.append(
            Blocker(kind=BlockerKind.hub_weight, taskhub=hub, text=f"the weight of {hub} is 0")
        )
    if row.ahead:
        count = f"{row.ahead} or more" if row.ahead == MAX_AHEAD else str(row.ahead)
        words = f"{count} more urgent tasks wait on {hub}"
        found.append(Blocker(kind=BlockerKind.priority, taskhub=hub, count=row.ahead, text=words))
    return found
