"""Tasks with the ones they extend, claims and actions, and their places in the queue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from alchemistore.database.keys import gufe_token
from alchemistore.models import Scope, ScopedKey, TaskStatusEnum
from alchemistore.models.text import escape
from alchemistore.neo4j.imports.merge import COUNTS, Merge, removed, touch
from alchemistore.neo4j.imports.networks import checked_weight
from alchemistore.neo4j.imports.restarts import MAX_RETRIES
from alchemistore.neo4j.imports.staging import stage
from alchemistore.neo4j.records import GraphTask
from alchemistore.neo4j.report import PartReport
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.restart_patterns import token_of_pattern

NIL = "00000000-0000-0000-0000-000000000000"
IMPORTED = "imported from Neo4j"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Tasks whose places in the queue one statement refreshes.
BATCH = 10_000

# The statuses of tasks that exist, before they change.
NOTE_STATUS_CHANGES = text(f"""
    INSERT INTO status_changes (scope_id, task, change, status, changed_at, reason)
    SELECT t.scope_id, t.token, :change, g.status, :now, '{IMPORTED}'
    FROM graph_tasks AS g JOIN tasks AS t ON t.scope_id = :scope_id AND t.token = g.task
    WHERE g.status <> t.status AND g.service IS NULL
""")
LOCK_TASKS_OF_SCOPE = text("""
    SELECT count(*) FROM (
        SELECT FROM tasks WHERE scope_id = :scope_id ORDER BY token FOR NO KEY UPDATE
    ) AS locked
""")
# The claims that the graph does not have, and then the attempts without a claim.
REMOVE_CLAIMS = (
    text("""
        DELETE FROM claims AS c WHERE c.scope_id = :scope_id AND NOT EXISTS (
            SELECT FROM graph_tasks AS g
            WHERE g.task = c.task AND g.service = c.service AND g.claimed_at = c.claimed_at
                AND c.attempt = 1
        )
        RETURNING 1
    """),
    text("""
        DELETE FROM attempts AS a WHERE a.scope_id = :scope_id AND NOT EXISTS (
            SELECT FROM claims AS c
            WHERE c.scope_id = a.scope_id AND c.task = a.task AND c.attempt = a.attempt
        )
    """),
)
MERGES = (
    Merge(
        "tasks",
        None,
        text(f"""
            WITH new AS (
                INSERT INTO tasks AS t (
                    scope_id, token, transformation, status, status_changed_at, priority, attempts,
                    creator, created_at
                )
                SELECT :scope_id, task, transformation, status,
                    coalesce(claimed_at, CASE status WHEN 'waiting' THEN created_at ELSE :now END),
                    priority, CASE WHEN service IS NULL THEN 0 ELSE 1 END, creator, created_at
                FROM graph_tasks ORDER BY task
                ON CONFLICT (scope_id, token) DO UPDATE SET
                    transformation = excluded.transformation, status = excluded.status,
                    status_changed_at = CASE
                        WHEN t.status = excluded.status AND t.attempts = excluded.attempts
                        THEN t.status_changed_at
                        WHEN excluded.status = 'waiting' THEN :now
                        ELSE excluded.status_changed_at
                    END,
                    reason = CASE WHEN t.status = excluded.status THEN t.reason END,
                    priority = excluded.priority, attempts = excluded.attempts,
                    creator = excluded.creator, created_at = excluded.created_at
                WHERE (
                    t.transformation, t.status, t.priority, t.attempts, t.creator, t.created_at
                ) IS DISTINCT FROM (
                    excluded.transformation, excluded.status, excluded.priority, excluded.attempts,
                    excluded.creator, excluded.created_at
                )
                RETURNING xmax = 0 AS added, token, status, attempts
            ), {touch("token")}, changes AS (
                INSERT INTO status_changes (scope_id, task, change, status, changed_at, reason)
                SELECT :scope_id, token, :change, status, :now, '{IMPORTED}' FROM new
                WHERE added AND status <> 'waiting' AND attempts = 0
            ) {COUNTS}
        """),
    ),
    Merge(
        "extends",
        removed(
            "extends",
            "SELECT FROM graph_tasks AS g WHERE g.task = t.task AND g.parent = t.parent",
            "task",
        ),
        text(f"""
            WITH new AS (
                INSERT INTO extends AS t (scope_id, task, parent, transformation)
                SELECT :scope_id, task, parent, transformation FROM graph_tasks
                WHERE parent IS NOT NULL ORDER BY task
                ON CONFLICT DO NOTHING
                RETURNING true AS added, task
            ), {touch("task")} {COUNTS}
        """),
    ),
    Merge(
        "claims",
        None,
        text(f"""
            WITH missing AS MATERIALIZED (
                SELECT g.* FROM graph_tasks AS g
                WHERE g.service IS NOT NULL AND NOT EXISTS (
                    SELECT FROM claims AS c WHERE c.scope_id = :scope_id AND c.task = g.task
                )
            ), attempts AS (
                INSERT INTO attempts (
                    scope_id, task, attempt, service, claimed_at, taskhub, lane, priority, race
                )
                SELECT :scope_id, task, 1, service, claimed_at, coalesce(
                        (
                            SELECT a.taskhub FROM graph_actions AS a WHERE a.task = m.task
                            ORDER BY a.taskhub LIMIT 1
                        ),
                        '{NIL}'
                    ), '', priority, 0
                FROM missing AS m
            ), new AS (
                INSERT INTO claims (scope_id, task, attempt, service, claimed_at)
                SELECT :scope_id, task, 1, service, claimed_at FROM missing
                RETURNING true AS added
            ) {COUNTS}
        """),
    ),
    Merge(
        "actions",
        removed(
            "actions",
            "SELECT FROM graph_actions AS g WHERE g.taskhub = t.taskhub AND g.task = t.task",
            "task",
        ),
        text(f"""
            WITH new AS (
                INSERT INTO actions AS t (scope_id, taskhub, task, weight, created_at)
                SELECT :scope_id, taskhub, task, weight, :now FROM graph_actions
                ORDER BY task, taskhub
                ON CONFLICT (scope_id, taskhub, task) DO UPDATE SET weight = excluded.weight
                WHERE t.weight <> excluded.weight
                RETURNING xmax = 0 AS added, task
            ), {touch("task")} {COUNTS}
        """),
    ),
)
# After the merges, which have removed what refers to them.
REMOVE_TASKS = removed("tasks", "SELECT FROM graph_tasks AS g WHERE g.task = t.token", "token")
TAKE_TOUCHED = text("""
    DELETE FROM graph_touched WHERE task IN (SELECT task FROM graph_touched LIMIT :limit)
    RETURNING task
""")


def stage_tasks(
    tx: Connection, report: PartReport, scope: Scope, page: Sequence[GraphTask]
) -> None:
    """Add a page of tasks to the staging tables, with actions, counters and results."""
    tasks, counters, links = [], [], []
    actions: dict[tuple[Any, Any], float] = {}
    for task in page:
        key, token = task.key, task.key.token
        if task.status not in TaskStatusEnum.__members__:
            report.find(key, f"{task.status!r} is no status of a task; the task was left out")
            continue
        report.note_key(key, scope)
        claims = sorted(task.claims, key=lambda one: (one.claimed or EPOCH, one.service))
        if len(claims) > 1:
            others = ", ".join(one.service for one in claims[:-1])
            report.find(
                key,
                f"it is claimed more than once; the last claim, of"
                f" {claims[-1].service}, was taken, and that of {others} left out",
            )
        if len(task.parents) > 1:
            report.find(key, "it extends several tasks; one of them was taken")
        if task.created is None:
            report.find(key, "it has no time of creation; the year 1970 was taken")
        if task.priority < 1:
            report.find(key, f"it has the priority {task.priority}; 1 was taken")
        tasks.append(
            {
                "task": token,
                "transformation": gufe_token(task.transformation),
                "status": task.status,
                "priority": max(task.priority, 1),
                "creator": escape(task.creator),
                "created_at": task.created or EPOCH,
                "parent": task.parents[0].token if task.parents else None,
                "service": claims[-1].service if claims else None,
                "claimed_at": (claims[-1].claimed or EPOCH) if claims else None,
            }
        )
        for action in task.actions:
            if action.hub.scope != scope:
                report.find(
                    key, f"it is on {action.hub}, a hub of another scope; it is not on it now"
                )
                continue
            place = action.hub.token, token
            if place in actions:
                report.find(key, f"it is on {action.hub} twice; the larger weight was taken")
            weight = checked_weight(report, key, action.weight)
            actions[place] = max(weight, actions.get(place, 0.0))
        counters += [
            {
                "taskhub": ScopedKey.from_str(one.hub).token,
                "task": token,
                "pattern": token_of_pattern(one.pattern),
                "retries": min(one.retries, MAX_RETRIES),
            }
            for one in task.counters
            if one.retries > 0
        ]
        links += [{"task": token, "result": one.token} for one in task.results]
    stage(tx, "tasks", tasks)
    stage(
        tx,
        "actions",
        (
            {"taskhub": hub, "task": task, "weight": weight}
            for (hub, task), weight in actions.items()
        ),
    )
    stage(tx, "counters", counters)
    stage(tx, "links", links)


def lock_tasks(tx: Connection, values: dict[str, Any]) -> None:
    """Lock the tasks of the scope."""
    tx.execute(LOCK_TASKS_OF_SCOPE, values)


def remove_claims(tx: Connection, report: PartReport, values: dict[str, Any]) -> None:
    """Remove the claims that the graph does not have, and the attempts without a claim."""
    claims, attempts = REMOVE_CLAIMS
    report.count("claims", removed=tx.execute(claims, values).rowcount)
    tx.execute(attempts, values)


def note_status_changes(tx: Connection, values: dict[str, Any]) -> None:
    """Record the statuses of tasks that will change, in their history."""
    tx.execute(NOTE_STATUS_CHANGES, values)


def remove_tasks(tx: Connection, report: PartReport, values: dict[str, Any]) -> None:
    """Remove the tasks that the graph does not have."""
    report.count("tasks", removed=len(tx.execute(REMOVE_TASKS, values).all()))


def refresh_queue(tx: Connection, values: dict[str, Any]) -> None:
    """Update the queue for all tasks that were changed, and for those that extend them."""
    scope_id = values["scope_id"]
    while tokens := tx.scalars(TAKE_TOUCHED, {"limit": BATCH}).all():
        refresh(tx, {"scope_ids": [scope_id] * len(tokens), "tokens": list(tokens)}, "children")
