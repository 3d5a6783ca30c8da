"""Why a task is not being run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from alchemistore.database.keys import parse_keys, scoped
from alchemistore.models import Blocker, BlockerKind, ScopedKey
from alchemistore.operations.task_sets import TASKS

# Tasks ahead are counted up to here: beyond it, how many there are makes no difference to who waits.
MOST_AHEAD = 10_000

WHERE_TASKS_STAND = text(f"""
    SELECT t.scope_id, t.token, t.status, p.token AS parent, p.status AS parent_status
    FROM ({TASKS}) AS x
    JOIN tasks AS t ON t.scope_id = x.scope_id AND t.token = x.task
    LEFT JOIN extends AS e ON e.scope_id = t.scope_id AND e.task = t.token
    LEFT JOIN tasks AS p ON p.scope_id = e.scope_id AND p.token = e.parent
""")
HUBS = text(f"""
    WITH at AS MATERIALIZED (
        SELECT a.scope_id, a.task, a.taskhub, a.weight, t.priority
        FROM ({TASKS}) AS x
        CROSS JOIN LATERAL (
            SELECT t.priority FROM tasks AS t WHERE t.scope_id = x.scope_id AND t.token = x.task OFFSET 0
        ) AS t
        CROSS JOIN LATERAL (
            SELECT a.* FROM actions AS a WHERE a.scope_id = x.scope_id AND a.task = x.task OFFSET 0
        ) AS a
    ),
    -- Counted once for all tasks of a priority.
    grouped AS MATERIALIZED (
        SELECT scope_id, taskhub, priority, array_agg(task) AS tasks, array_agg(weight) AS weights
        FROM at GROUP BY scope_id, taskhub, priority
    ),
    ahead AS MATERIALIZED (
        SELECT g.*, h.weight AS hub_weight, (
            SELECT count(*) FROM (
                SELECT FROM queue AS q
                WHERE q.scope_id = g.scope_id AND q.taskhub = g.taskhub AND q.priority < g.priority
                ORDER BY q.priority LIMIT {MOST_AHEAD}
            ) AS front
        ) AS ahead
        FROM grouped AS g JOIN taskhubs AS h ON h.scope_id = g.scope_id AND h.token = g.taskhub
    )
    SELECT scope_id, task, taskhub, weight, hub_weight, ahead
    FROM ahead CROSS JOIN LATERAL unnest(tasks, weights) AS x (task, weight)
    ORDER BY scope_id, task, taskhub
""")
ANY_SERVICE = text("SELECT EXISTS (SELECT FROM compute_services)")


def get_task_blockers(
    tx: Connection, tasks: Iterable[ScopedKey | str | None]
) -> list[tuple[Blocker, ...] | None]:
    """Give what keeps each task from being run.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.

    Returns
    -------
    list of tuple of Blocker, or None
        In the order given; empty for a task that the next claim may take, ``None`` for what is missing.
    """
    keys = parse_keys(tx, tasks)
    hubs: dict[tuple[int, UUID], list[Row[Any]]] = defaultdict(list)
    for row in tx.execute(HUBS, keys.parameters):
        hubs[row.scope_id, row.task].append(row)
    served = bool(tx.scalar(ANY_SERVICE))
    stand = {
        (row.scope_id, row.token): row for row in tx.execute(WHERE_TASKS_STAND, keys.parameters)
    }
    return keys.align(
        {
            pair: _blockers(key, stand[pair], hubs[pair], served)
            for key, pair in keys.items()
            if pair in stand
        }
    )


def _blockers(
    key: ScopedKey, task: Row[Any], hubs: Sequence[Row[Any]], served: bool
) -> tuple[Blocker, ...]:
    if task.status != "waiting":
        return (Blocker(kind=BlockerKind.status, text=f"it is {task.status}, not waiting"),)
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
    # One hub that would give it out is enough.
    if all(at_hubs):
        found += [blocker for at_hub in at_hubs for blocker in at_hub]
    if not served:
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
        count = f"{row.ahead} or more" if row.ahead == MOST_AHEAD else str(row.ahead)
        words = f"{count} more urgent tasks wait on {hub}"
        found.append(Blocker(kind=BlockerKind.priority, taskhub=hub, count=row.ahead, text=words))
    return found
