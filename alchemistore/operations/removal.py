"""Removal: delete a task with its history, and optionally with everything that extends it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from alchemistore.database.keys import one_or_missing, parse_key, scoped
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import MissingObjectError
from alchemistore.models import ScopedKey
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.requests import once
from alchemistore.operations.task_sets import DESCENDANTS, TASKS, lock, row_locations

# An error message names at most this many tasks, and as many results.
MAX_NAMED = 10

FIND_TASK = text(f"""
    SELECT scope_id, token FROM tasks WHERE scope_id = {SCOPE_ID} AND token = :token
""")
GET_STATUS_OF_TASK = text("SELECT status FROM tasks WHERE scope_id = :scope_id AND token = :token")
LIST_DEPENDENTS = text(f"""
    (
        SELECT 'Task' AS kind, task AS token, count(*) OVER () AS number FROM extends
        WHERE scope_id = :scope_id AND parent = :token ORDER BY task LIMIT {MAX_NAMED}
    )
    UNION ALL
    (
        SELECT 'ProtocolDAGResultRef', result, count(*) OVER () FROM task_results
        WHERE scope_id = :scope_id AND task = :token ORDER BY result LIMIT {MAX_NAMED}
    )
""")

LIST_DESCENDANTS = text(DESCENDANTS)

# Locks the results of tasks, so that they cannot be linked to other tasks before the decision
# whether to delete them.
LOCK_RESULTS_OF_TASKS = text(f"""
    SELECT r.token FROM results AS r
    WHERE (r.scope_id, r.token) IN (
        SELECT l.scope_id, l.result FROM task_results AS l
        JOIN ({TASKS}) AS x ON x.scope_id = l.scope_id AND x.task = l.task
    )
    ORDER BY r.scope_id, r.token
    FOR UPDATE
""")


def _delete(table: str, key: str = "task") -> TextClause:
    return text(f"""
        WITH
        -- The tasks to delete.
        doomed AS MATERIALIZED ({TASKS})
        DELETE FROM {table} WHERE ctid = ANY({row_locations(table, "doomed", key)})
    """)


# Attempts and status changes are deleted with the task, by their foreign keys.
DELETE_TASKS = (
    _delete("claims"),
    _delete("actions"),
    _delete("task_results"),
    text("""
        DELETE FROM results AS r
        WHERE r.scope_id = :scope_id AND r.token = ANY(CAST(:results AS uuid[])) AND NOT EXISTS (
            SELECT FROM task_results AS l WHERE l.scope_id = r.scope_id AND l.result = r.token
        )
    """),
    _delete("extends"),
    _delete("tasks", "token"),
)


@once()
def delete_task(
    tx: Connection, task: ScopedKey | str, force: bool = False, *, request: UUID | None = None
) -> ScopedKey:
    """Delete a task and its history. This cannot be undone.

    This call is for administrators. To abandon a task, set its status to deleted instead.

    Parameters
    ----------
    task : ScopedKey or str
        The task.
    force : bool, default False
        Delete the task even if it is running, has results, or is extended by other tasks. All tasks
        that extend it, directly or not, are deleted too, as are the results of these tasks that no
        other task has. Objects in the object store are kept.
    request : UUID, optional
        Identifier of this request. A repeated call with the same identifier returns the first
        answer and changes nothing; with other arguments, it is a ValueError.

    Returns
    -------
    ScopedKey
        The key of the deleted task.

    Raises
    ------
    KeyError
        If there is no such task.
    ValueError
        If `task` is not the key of a task. Without `force`, also if the task is running, has
        results or is extended; the message names the results and tasks.
    """
    key = parse_key(task, "Task")
    root = one_or_missing(tx, FIND_TASK, key)
    tokens = _lock(tx, root, force)
    if not tokens:
        raise MissingObjectError(key)
    if not force:
        _require_no_dependents(tx, key, root)
    touched = {"scope_ids": [root.scope_id] * len(tokens), "tokens": tokens}
    results = tx.scalars(LOCK_RESULTS_OF_TASKS, touched).all()
    for statement in DELETE_TASKS:
        tx.execute(statement, {**touched, "scope_id": root.scope_id, "results": results})
    refresh(tx, touched)
    return key


def _lock(tx: Connection, root: Row[tuple[int, UUID]], force: bool) -> list[UUID]:
    """Lock the task, with `force` its whole tree, and return the locked tasks."""
    given = {"scope_ids": [root.scope_id], "tokens": [root.token]}
    if not force:
        return [root.token] if lock(tx, given) else []
    locked, found = 0, lock(tx, given, "descendants")
    # A task may have been added to the tree before its parent was locked; a locked task cannot be
    # extended.
    while found > locked:
        locked, found = found, lock(tx, given, "descendants")
    return [row.task for row in tx.execute(LIST_DESCENDANTS, given)] if found else []


def _require_no_dependents(tx: Connection, key: ScopedKey, root: Row[tuple[int, UUID]]) -> None:
    values = {"scope_id": root.scope_id, "token": root.token}
    rows = tx.execute(LIST_DEPENDENTS, values).all()
    reasons = [
        f"{what}: {_names(key, [row for row in rows if row.kind == kind])}"
        for kind, what in (
            ("Task", "other tasks extend it"),
            ("ProtocolDAGResultRef", "it has results"),
        )
        if any(row.kind == kind for row in rows)
    ]
    if tx.scalar(GET_STATUS_OF_TASK, values) == "running":
        reasons.append("it is running")
    if reasons:
        raise ValueError(
            f"Cannot delete {key}: {'; '.join(reasons)}. To delete all of that, use force=True."
        )


def _names(key: ScopedKey, rows: Iterable[Row[Any]]) -> str:
    rows = list(rows)
    more = rows[0].number - len(rows)
    return ", ".join(str(scoped(key, row.kind, row.token)) for row in rows) + (
        f" and {more} more" if more else ""
    )
