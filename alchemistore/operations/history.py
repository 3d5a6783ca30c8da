"""History: the attempts at a task, and how its status changed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from alchemistore.database.keys import parse_keys, scoped
from alchemistore.models import (
    Attempt,
    ScopedKey,
    StatusChange,
    TaskDetails,
    TaskHistory,
    TaskStatusEnum,
)
from alchemistore.operations.task_sets import TASKS

CREATED = text(f"""
    SELECT t.scope_id, t.token, t.created_at, t.creator
    FROM tasks AS t JOIN ({TASKS}) AS x ON x.scope_id = t.scope_id AND x.task = t.token
""")
ATTEMPTS = text(f"""
    SELECT a.scope_id, a.task, a.attempt, a.service, a.hostname, a.claimed_at, a.ended_at, a.outcome, a.reason, a.result,
        e.packages
    FROM ({TASKS}) AS x
    JOIN attempts AS a ON a.scope_id = x.scope_id AND a.task = x.task
    LEFT JOIN environments AS e ON e.scope_id = a.scope_id AND e.token = a.environment
    ORDER BY a.scope_id, a.task, a.attempt
""")
CHANGES = text(f"""
    SELECT c.scope_id, c.task, c.status, c.changed_at, c.reason, c.actor
    FROM ({TASKS}) AS x JOIN status_changes AS c ON c.scope_id = x.scope_id AND c.task = x.task
    ORDER BY c.scope_id, c.task, c.changed_at, c.change
""")
DETAILS = text(f"""
    SELECT t.scope_id, t.token, t.status, t.status_changed_at, t.reason, t.attempts, c.service, last.service AS last_service,
        count(r.token) FILTER (WHERE r.ok) AS results, count(r.token) FILTER (WHERE NOT r.ok) AS failures
    FROM ({TASKS}) AS x
    JOIN tasks AS t ON t.scope_id = x.scope_id AND t.token = x.task
    LEFT JOIN claims AS c ON c.scope_id = t.scope_id AND c.task = t.token
    LEFT JOIN attempts AS last ON last.scope_id = t.scope_id AND last.task = t.token AND last.attempt = t.attempts
    LEFT JOIN task_results AS l ON l.scope_id = t.scope_id AND l.task = t.token
    LEFT JOIN results AS r ON r.scope_id = l.scope_id AND r.token = l.result
    GROUP BY t.scope_id, t.token, c.service, last.service
""")
OF_SERVICE = text("""
    SELECT s.org, s.campaign, s.project, c.task
    FROM claims AS c JOIN scopes AS s ON s.id = c.scope_id
    WHERE c.service = :service
    ORDER BY s.org, s.campaign, s.project, c.task
""")


WAITING, RUNNING = TaskStatusEnum.waiting, TaskStatusEnum.running


def get_task_history(
    tx: Connection, tasks: Iterable[ScopedKey | str | None]
) -> list[TaskHistory | None]:
    """Give what happened to each task: its changes of status and its attempts.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.

    Returns
    -------
    list of TaskHistory or None
        In the order given; ``None`` for what is missing.
    """
    keys = parse_keys(tx, tasks)
    attempts: dict[tuple[int, UUID], list[Row[Any]]] = defaultdict(list)
    for row in tx.execute(ATTEMPTS, keys.parameters):
        attempts[row.scope_id, row.task].append(row)
    changes: dict[tuple[int, UUID], list[StatusChange]] = defaultdict(list)
    for row in tx.execute(CHANGES, keys.parameters):
        change = StatusChange(
            status=row.status, changed_at=row.changed_at, reason=row.reason, actor=row.actor
        )
        changes[row.scope_id, row.task].append(change)
    created = {(row.scope_id, row.token): row for row in tx.execute(CREATED, keys.parameters)}
    histories = {}
    for key, pair in keys.items():
        if pair in created:
            tried = tuple(_attempt(key, row) for row in attempts[pair])
            first = StatusChange(
                status=WAITING, changed_at=created[pair].created_at, actor=created[pair].creator
            )
            running = (
                StatusChange(status=RUNNING, changed_at=one.claimed_at, actor=one.service)
                for one in tried
            )
            told = [*running, *changes[pair]]
            told.sort(key=lambda change: change.changed_at)
            histories[pair] = TaskHistory(task=key, changes=(first, *told), attempts=tried)
    return keys.align(histories)


def _attempt(task: ScopedKey, row: Row[Any]) -> Attempt:
    return Attempt(
        task=task,
        attempt=row.attempt,
        service=row.service,
        hostname=row.hostname,
        claimed_at=row.claimed_at,
        ended_at=row.ended_at,
        outcome=row.outcome,
        reason=row.reason,
        result=None if row.result is None else scoped(task, "ProtocolDAGResultRef", row.result),
        environment=None if row.packages is None else json.loads(row.packages),
    )


def get_task_details(
    tx: Connection, tasks: Iterable[ScopedKey | str | None]
) -> list[TaskDetails | None]:
    """Give where each task stands: its status, since when and why, how often it was claimed, by whom, with what results.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.

    Returns
    -------
    list of TaskDetails or None
        In the order given; ``None`` for what is missing.
    """
    keys = parse_keys(tx, tasks)
    rows = {(row.scope_id, row.token): row for row in tx.execute(DETAILS, keys.parameters)}
    return keys.align(
        {pair: _details(key, rows[pair]) for key, pair in keys.items() if pair in rows}
    )


def _details(key: ScopedKey, row: Row[Any]) -> TaskDetails:
    return TaskDetails(
        task=key,
        status=row.status,
        status_changed_at=row.status_changed_at,
        reason=row.reason,
        num_attempts=row.attempts,
        service=row.service,
        last_service=row.last_service,
        num_results=row.results,
        num_failures=row.failures,
    )


def get_service_tasks(tx: Connection, compute_service_id: str) -> list[ScopedKey]:
    """Give the tasks that a compute service holds, in the order of scope and key; empty if it is not registered.

    Parameters
    ----------
    compute_service_id : ComputeServiceID or str
        Its identifier.
    """
    rows = tx.execute(OF_SERVICE, {"service": str(compute_service_id)})
    return [
        ScopedKey.from_parts("Task", row.task, row.org, row.campaign, row.project) for row in rows
    ]
