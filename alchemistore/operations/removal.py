"""Removal: a task goes for good, with everything that hangs on it."""

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
from alchemistore.operations.task_sets import DESCENDANTS, TASKS, lock, row_locations

# So many of what is in the way are named.
NAMED = 10

FIND = text(f"SELECT scope_id, token FROM tasks WHERE scope_id = {SCOPE_ID} AND token = :token")
STATUS = text("SELECT status FROM tasks WHERE scope_id = :scope_id AND token = :token")
IN_THE_WAY = text(f"""
    (SELECT 'Task' AS kind, task AS token, count(*) OVER () AS number FROM extends
        WHERE scope_id = :scope_id AND parent = :token ORDER BY task LIMIT {NAMED})
    UNION ALL
    (SELECT 'ProtocolDAGResultRef', result, count(*) OVER () FROM task_results
        WHERE scope_id = :scope_id AND task = :token ORDER BY result LIMIT {NAMED})
""")

TREE = text(DESCENDANTS)

# Nobody can link such a result to another task while it is decided whether it stays.
LOCK_RESULTS = text(f"""
    SELECT r.token FROM results AS r
    WHERE (r.scope_id, r.token) IN (
        SELECT l.scope_id, l.result FROM task_results AS l JOIN ({TASKS}) AS x ON x.scope_id = l.scope_id AND x.task = l.task
    )
    ORDER BY r.scope_id, r.token
    FOR UPDATE
""")


def _delete(table: str, key: str = "task") -> TextClause:
    return text(
        f"WITH doomed AS MATERIALIZED ({TASKS}) DELETE FROM {table} WHERE ctid = ANY({row_locations(table, 'doomed', key)})"
    )


# Attempts and changes of status go with the task.
DELETE = (
    _delete("claims"),
    _delete("actions"),
    _delete("task_results"),
    text("""
        DELETE FROM results AS r WHERE r.scope_id = :scope_id AND r.token = ANY(CAST(:results AS uuid[]))
            AND NOT EXISTS (SELECT FROM task_results AS l WHERE l.scope_id = r.scope_id AND l.result = r.token)
    """),
    _delete("extends"),
    _delete("tasks", "token"),
)


def delete_task(tx: Connection, task: ScopedKey | str, force: bool = False) -> ScopedKey:
    """Remove a task for good, with its history; for administrators. To give up a task, set its status to deleted instead.

    Parameters
    ----------
    task : ScopedKey or str
        The task.
    force : bool, default False
        Remove it even if it is running, has results, or others extend it: with these others, directly or not, and all their results
        that no other task has. What the object store holds stays.

    Returns
    -------
    ScopedKey
        Its key.

    Raises
    ------
    KeyError
        If there is no such task.
    ValueError
        If it is the key of something else, or, without `force`, if something is in the way; the text names it.
    """
    key = parse_key(task, "Task")
    root = one_or_missing(tx, FIND, key)
    tokens = _lock(tx, root, force)
    if not tokens:
        raise MissingObjectError(key)
    if not force:
        _require_nothing_in_the_way(tx, key, root)
    touched = {"scope_ids": [root.scope_id] * len(tokens), "tokens": tokens}
    results = tx.scalars(LOCK_RESULTS, touched).all()
    for statement in DELETE:
        tx.execute(statement, {**touched, "scope_id": root.scope_id, "results": results})
    refresh(tx, touched)
    return key


def _lock(tx: Connection, root: Row[tuple[int, UUID]], force: bool) -> list[UUID]:
    """Lock the task, or all of its tree, and give what was locked."""
    one = {"scope_ids": [root.scope_id], "tokens": [root.token]}
    if not force:
        return [root.token] if lock(tx, one) else []
    locked, found = 0, lock(tx, one, "descendants")
    # Another task may have come while this waited for the locks; what is locked cannot be extended.
    while found > locked:
        locked, found = found, lock(tx, one, "descendants")
    return [row.task for row in tx.execute(TREE, one)] if found else []


def _require_nothing_in_the_way(
    tx: Connection, key: ScopedKey, root: Row[tuple[int, UUID]]
) -> None:
    values = {"scope_id": root.scope_id, "token": root.token}
    rows = tx.execute(IN_THE_WAY, values).all()
    reasons = [
        f"{what}: {_names(key, [row for row in rows if row.kind == kind])}"
        for kind, what in (
            ("Task", "other tasks extend it"),
            ("ProtocolDAGResultRef", "it has results"),
        )
        if any(row.kind == kind for row in rows)
    ]
    if tx.scalar(STATUS, values) == "running":
        reasons.append("it is running")
    if reasons:
        raise ValueError(
            f"Cannot delete {key}: {'; '.join(reasons)}. With force=True all of that goes, too."
        )


def _names(key: ScopedKey, rows: Iterable[Row[Any]]) -> str:
    rows = list(rows)
    more = rows[0].number - len(rows)
    return ", ".join(str(scoped(key, row.kind, row.token)) for row in rows) + (
        f" and {more} more" if more else ""
    )
