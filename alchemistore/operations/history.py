"""History of tasks: their attempts, changes of status and restarts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from alchemistore.database.cutoffs import cutoff, cutoff_parameters
from alchemistore.database.keys import Keys, parse_keys, scope_parameters, scoped
from alchemistore.database.planner import FENCE
from alchemistore.database.sql import IN_SCOPE
from alchemistore.models import (
    Activity,
    Attempt,
    Records,
    RestartCount,
    Scope,
    ScopedKey,
    StatusChange,
    TaskDetails,
    TaskHistory,
    TaskStatusEnum,
)
from alchemistore.models.text import unescape
from alchemistore.operations.task_sets import TASKS

TASK_CREATION = text(f"""
    SELECT t.scope_id, t.token, t.created_at, t.creator
    FROM tasks AS t JOIN ({TASKS}) AS x ON x.scope_id = t.scope_id AND x.task = t.token
""")
ATTEMPTS_AT_TASKS = text(f"""
    SELECT a.scope_id, a.task, a.attempt, a.service, a.hostname, a.claimed_at, a.ended_at,
        a.outcome, a.reason, a.result, e.packages
    FROM ({TASKS}) AS x
    JOIN attempts AS a ON a.scope_id = x.scope_id AND a.task = x.task
    LEFT JOIN environments AS e ON e.scope_id = a.scope_id AND e.token = a.environment
    ORDER BY a.scope_id, a.task, a.attempt
""")
CHANGES_OF_TASKS = text(f"""
    SELECT c.scope_id, c.task, c.status, c.changed_at, c.reason, c.actor
    FROM ({TASKS}) AS x JOIN status_changes AS c ON c.scope_id = x.scope_id AND c.task = x.task
    ORDER BY c.scope_id, c.task, c.changed_at, c.change
""")
DETAILS_OF_TASKS = text(f"""
    SELECT t.scope_id, t.token, t.status, t.status_changed_at, t.reason, t.attempts, c.service,
        last.service AS last_service, count(r.token) FILTER (WHERE r.ok) AS results,
        count(r.token) FILTER (WHERE NOT r.ok) AS failures
    FROM ({TASKS}) AS x
    JOIN tasks AS t ON t.scope_id = x.scope_id AND t.token = x.task
    LEFT JOIN claims AS c ON c.scope_id = t.scope_id AND c.task = t.token
    LEFT JOIN attempts AS last
        ON last.scope_id = t.scope_id AND last.task = t.token AND last.attempt = t.attempts
    LEFT JOIN task_results AS l ON l.scope_id = t.scope_id AND l.task = t.token
    LEFT JOIN results AS r ON r.scope_id = l.scope_id AND r.token = l.result
    GROUP BY t.scope_id, t.token, c.service, last.service
""")
RESTARTS_OF_TASKS = text(f"""
    SELECT a.scope_id, a.task, a.taskhub, p.pattern,
        coalesce(a.retries[array_position(a.patterns, p.token)], 0) AS retries,
        p.max_retries
    FROM ({TASKS}) AS x
    -- Looks up the actions of each task and the patterns of their hubs by key.
    CROSS JOIN LATERAL (
        SELECT a.scope_id, a.task, a.taskhub, a.patterns, a.retries FROM actions AS a
        WHERE a.scope_id = x.scope_id AND a.task = x.task {FENCE}
    ) AS a
    CROSS JOIN LATERAL (
        SELECT p.token, p.pattern, p.max_retries, p.created_at FROM restart_patterns AS p
        WHERE p.scope_id = a.scope_id AND p.taskhub = a.taskhub {FENCE}
    ) AS p
    ORDER BY a.scope_id, a.task, a.taskhub, p.created_at, p.token
""")
TASKS_OF_SERVICE = text("""
    SELECT s.org, s.campaign, s.project, c.task
    FROM claims AS c JOIN scopes AS s ON s.id = c.scope_id
    WHERE c.service = :service
    ORDER BY s.org, s.campaign, s.project, c.task
""")
# A service of alchemiscale claims again when it has finished everything that it knows of.
LOST_CLAIMS = text("""
    WITH
    -- The last claim of each service that holds a task. Reads all attempts.
    last AS MATERIALIZED (
        SELECT service, max(claimed_at) AS claimed_at FROM attempts
        WHERE service IN (SELECT service FROM claims) GROUP BY service
    )
    SELECT s.org, s.campaign, s.project, a.task, a.attempt, a.service, a.hostname, a.claimed_at,
        a.ended_at, a.outcome, a.reason, a.result, NULL AS packages
    FROM claims AS c
    JOIN last ON last.service = c.service
    JOIN attempts AS a ON (a.scope_id, a.task, a.attempt) = (c.scope_id, c.task, c.attempt)
    JOIN scopes AS s ON s.id = c.scope_id
    WHERE c.claimed_at < last.claimed_at - CAST(:before AS interval)
    ORDER BY a.claimed_at, a.service, s.org, s.campaign, s.project, a.task
""")
# Reads all attempts of the scope.
COUNT_ATTEMPTS = text(f"""
    SELECT statement_timestamp() AS time, {cutoff("since")} AS since,
        count(*) FILTER (WHERE a.claimed_at > {cutoff("since")}) AS claimed,
        count(*) FILTER (WHERE a.outcome = 'complete' AND a.ended_at > {cutoff("since")})
            AS complete,
        count(*) FILTER (WHERE a.outcome = 'error' AND a.ended_at > {cutoff("since")}) AS error,
        count(*) FILTER (
            WHERE a.outcome IN ('expired', 'deregistered') AND a.ended_at > {cutoff("since")}
        ) AS lost
    FROM attempts AS a JOIN scopes AS s ON s.id = a.scope_id
    WHERE {IN_SCOPE} AND (a.claimed_at > {cutoff("since")} OR a.ended_at > {cutoff("since")})
""")
# Reads the whole queue of the scope.
OLDEST_CLAIMABLE = text(f"""
    WITH
    -- The tasks in the queue of a hub that claims choose; one that is on several hubs counts once.
    claimable AS MATERIALIZED (
        SELECT t.scope_id, t.token, t.status_changed_at
        FROM tasks AS t JOIN scopes AS s ON s.id = t.scope_id
        WHERE {IN_SCOPE} AND t.status = 'waiting' AND EXISTS (
            SELECT FROM queue AS q
            JOIN taskhubs AS h ON h.scope_id = q.scope_id AND h.token = q.taskhub
            WHERE q.scope_id = t.scope_id AND q.task = t.token AND h.weight > 0
        )
    )
    SELECT (SELECT count(*) FROM claimable) AS tasks, s.org, s.campaign, s.project, c.token,
        c.status_changed_at
    FROM (SELECT * FROM claimable ORDER BY status_changed_at, scope_id, token LIMIT 1) AS c
    JOIN scopes AS s ON s.id = c.scope_id
""")
OLDEST_RUNNING = text(f"""
    SELECT s.org, s.campaign, s.project, a.task, a.attempt, a.service, a.hostname, a.claimed_at,
        a.ended_at, a.outcome, a.reason, a.result, NULL AS packages
    FROM claims AS c
    JOIN attempts AS a ON (a.scope_id, a.task, a.attempt) = (c.scope_id, c.task, c.attempt)
    JOIN scopes AS s ON s.id = c.scope_id
    WHERE {IN_SCOPE}
    ORDER BY c.claimed_at, s.org, s.campaign, s.project, c.task LIMIT 1
""")


def get_task_history(
    tx: Connection, tasks: Iterable[ScopedKey | str | None]
) -> Records[TaskHistory | None]:
    """Return the changes of status, the attempts and the restarts of each task.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.

    Returns
    -------
    Records of TaskHistory or None
        One entry per task, in order; ``None`` for a missing task.
    """
    keys = parse_keys(tx, tasks)
    attempts: dict[tuple[int, UUID], list[Row[Any]]] = defaultdict(list)
    for row in tx.execute(ATTEMPTS_AT_TASKS, keys.parameters):
        attempts[row.scope_id, row.task].append(row)
    changes: dict[tuple[int, UUID], list[Row[Any]]] = defaultdict(list)
    for row in tx.execute(CHANGES_OF_TASKS, keys.parameters):
        changes[row.scope_id, row.task].append(row)
    restarts = _restarts(tx, keys)
    created = {(row.scope_id, row.token): row for row in tx.execute(TASK_CREATION, keys.parameters)}
    found = keys.align(
        {
            pair: _history(key, created[pair], attempts[pair], changes[pair], restarts[pair])
            for key, pair in keys.items()
            if pair in created
        }
    )
    return Records(found)


def _restarts(tx: Connection, keys: Keys) -> dict[tuple[int, UUID], list[RestartCount]]:
    restarts: dict[tuple[int, UUID], list[RestartCount]] = defaultdict(list)
    by_pair = {pair: key for key, pair in keys.items()}
    for row in tx.execute(RESTARTS_OF_TASKS, keys.parameters):
        pair = (row.scope_id, row.task)
        restarts[pair].append(
            RestartCount(
                taskhub=scoped(by_pair[pair], "TaskHub", row.taskhub),
                pattern=unescape(row.pattern),
                retries=row.retries,
                max_retries=row.max_retries,
            )
        )
    return restarts


def _history(
    task: ScopedKey,
    created: Row[Any],
    attempts: Iterable[Row[Any]],
    changes: Iterable[Row[Any]],
    restarts: Iterable[RestartCount],
) -> TaskHistory:
    tried = tuple(_attempt(task, row) for row in attempts)
    # The creation and the claims of a task are changes of status that have no row of their own.
    creation = StatusChange(
        status=TaskStatusEnum.waiting,
        changed_at=created.created_at,
        actor=unescape(created.creator),
    )
    claims = [
        StatusChange(status=TaskStatusEnum.running, changed_at=one.claimed_at, actor=one.service)
        for one in tried
    ]
    others = [
        StatusChange(
            status=row.status,
            changed_at=row.changed_at,
            reason=unescape(row.reason),
            actor=unescape(row.actor),
        )
        for row in changes
    ]
    later = sorted([*claims, *others], key=lambda change: change.changed_at)
    return TaskHistory(
        task=task, changes=(creation, *later), attempts=tried, restarts=tuple(restarts)
    )


def _attempt(task: ScopedKey, row: Row[Any]) -> Attempt:
    return Attempt(
        task=task,
        attempt=row.attempt,
        service=row.service,
        hostname=unescape(row.hostname),
        claimed_at=row.claimed_at,
        ended_at=row.ended_at,
        outcome=row.outcome,
        reason=unescape(row.reason),
        result=None if row.result is None else scoped(task, "ProtocolDAGResultRef", row.result),
        environment=None if row.packages is None else _packages(row.packages),
    )


def _packages(stored: str) -> dict[str, str]:
    packages = json.loads(stored)
    return {unescape(name): unescape(version) for name, version in packages.items()}


def get_task_details(
    tx: Connection, tasks: Iterable[ScopedKey | str | None]
) -> Records[TaskDetails | None]:
    """Return the status, numbers of attempts and results, service and restarts of each task.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.

    Returns
    -------
    Records of TaskDetails or None
        One entry per task, in order; ``None`` for a missing task.
    """
    keys = parse_keys(tx, tasks)
    rows = {(row.scope_id, row.token): row for row in tx.execute(DETAILS_OF_TASKS, keys.parameters)}
    restarts = _restarts(tx, keys)
    found = keys.align(
        {
            pair: _details(key, rows[pair], restarts[pair])
            for key, pair in keys.items()
            if pair in rows
        }
    )
    return Records(found)


def _details(key: ScopedKey, row: Row[Any], restarts: Iterable[RestartCount]) -> TaskDetails:
    return TaskDetails(
        task=key,
        status=row.status,
        status_changed_at=row.status_changed_at,
        reason=unescape(row.reason),
        num_attempts=row.attempts,
        service=row.service,
        last_service=row.last_service,
        num_results=row.results,
        num_failures=row.failures,
        restarts=tuple(restarts),
    )


def get_service_tasks(tx: Connection, compute_service_id: str) -> list[ScopedKey]:
    """Return the tasks that a compute service has claimed, in the order of scope and key.

    Parameters
    ----------
    compute_service_id : ComputeServiceID or str
        Identifier of the service.

    Returns
    -------
    list of ScopedKey
        Empty if the service is not registered.
    """
    rows = tx.execute(TASKS_OF_SERVICE, {"service": str(compute_service_id)})
    return [
        ScopedKey.from_parts("Task", row.task, row.org, row.campaign, row.project) for row in rows
    ]


def get_lost_claims(tx: Connection, before: timedelta = timedelta(minutes=1)) -> Records[Attempt]:
    """Return the open attempts of services that have claimed other tasks since.

    If the answer to a claim is lost on its way to the service, the service does not know of its
    tasks, and they stay running until it ends. A service of alchemiscale claims again only when it
    has finished all tasks that it knows of, so such attempts are lost. A service that claims while
    it still runs tasks has open attempts of this kind that are not lost.

    Parameters
    ----------
    before : timedelta, default one minute
        How much earlier than the last claim of the service a claim must be. A server may claim from
        several hubs, one after the other, for one request.

    Returns
    -------
    Records of Attempt
        The oldest claim first, without environments.

    Raises
    ------
    ValueError
        If `before` is negative.
    """
    if before < timedelta(0):
        raise ValueError(f"before must not be negative, not {before}")
    return Records(
        _attempt(ScopedKey.from_parts("Task", row.task, row.org, row.campaign, row.project), row)
        for row in tx.execute(LOST_CLAIMS, {"before": before})
    )


def get_activity(
    tx: Connection,
    scope: Scope | str | None = None,
    since: datetime | timedelta = timedelta(minutes=10),
) -> Activity:
    """Return what happens in a scope: recent claims and results, and what has taken longest.

    Parameters
    ----------
    scope : Scope or str, default all
        The scope; open components match anything.
    since : datetime or timedelta, default ten minutes
        Count claims and ends of attempts after this time; naive means UTC. With a timedelta, those
        that are less long ago, by the clock of the database.

    Returns
    -------
    Activity

    Raises
    ------
    ValueError
        If the scope is malformed, or a timedelta is negative.

    Notes
    -----
    This reads all attempts and the queue of the scope, like calls that count tasks.
    """
    place = scope_parameters(scope)
    counts = tx.execute(COUNT_ATTEMPTS, {**place, **cutoff_parameters("since", since)}).one()
    waiting = tx.execute(OLDEST_CLAIMABLE, place).first()
    running = tx.execute(OLDEST_RUNNING, place).first()
    return Activity(
        time=counts.time,
        since=counts.since,
        num_claimed=counts.claimed,
        num_complete=counts.complete,
        num_error=counts.error,
        num_lost=counts.lost,
        num_claimable=0 if waiting is None else waiting.tasks,
        oldest_claimable=None if waiting is None else _task(waiting, waiting.token),
        claimable_since=None if waiting is None else waiting.status_changed_at,
        oldest_running=None if running is None else _attempt(_task(running, running.task), running),
    )


def _task(row: Row[Any], token: UUID) -> ScopedKey:
    return ScopedKey.from_parts("Task", token, row.org, row.campaign, row.project)
