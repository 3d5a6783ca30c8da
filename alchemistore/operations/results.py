"""Results: references to what the object store holds, linked to the tasks that produced it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, TextClause, text

from alchemistore.database.keys import gufe_token, parameters, parse_key, scoped
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import MissingObjectError
from alchemistore.models import ProtocolDAGResultRef, ScopedKey
from alchemistore.models.clock import now

LOCK_TASK = text(
    f"SELECT scope_id, token FROM tasks WHERE scope_id = {SCOPE_ID} AND token = :token FOR NO KEY UPDATE"
)
# An attempt keeps the result that settled it, else the first that came in, be it after its end.
ADD = text("""
    WITH ref AS (
        INSERT INTO results (scope_id, token, obj_key, location, scope, ok, creator, datetime_created, created_at)
        VALUES (:scope_id, :result, :obj_key, :location, :scope, :ok, :creator, :datetime_created, :now)
        ON CONFLICT DO NOTHING
    ),
    noted AS (
        UPDATE attempts SET result = :result WHERE scope_id = :scope_id AND task = :task AND attempt = :attempt
            AND (:settles OR result IS NULL)
    )
    INSERT INTO task_results (scope_id, task, result, attempt, tracebacks, created_at)
    VALUES (:scope_id, :task, :result, :attempt, :tracebacks, :now)
    ON CONFLICT (scope_id, task, result) DO UPDATE
        SET attempt = coalesce(task_results.attempt, excluded.attempt),
            tracebacks = coalesce(task_results.tracebacks, excluded.tracebacks)
        WHERE (task_results.attempt, task_results.tracebacks) IS DISTINCT FROM
            (coalesce(task_results.attempt, excluded.attempt), coalesce(task_results.tracebacks, excluded.tracebacks))
""")
GOING_ON = text("SELECT attempt FROM claims WHERE scope_id = :scope_id AND task = :task")
TRACEBACKS = text(f"""
    SELECT tracebacks FROM task_results
    WHERE scope_id = {SCOPE_ID} AND task = :token AND tracebacks IS NOT NULL ORDER BY created_at, result
""")


def _listing(what: str) -> TextClause:
    return text(f"""
        SELECT DISTINCT r.token FROM tasks AS t
        JOIN task_results AS tr ON tr.scope_id = t.scope_id AND tr.task = t.token
        JOIN results AS r ON r.scope_id = tr.scope_id AND r.token = tr.result
        WHERE t.scope_id = {SCOPE_ID} AND t.{what} = :token AND r.ok = :ok
        ORDER BY r.token
    """)


OF_TASK = _listing("token")
OF_TRANSFORMATION = _listing("transformation")


def set_task_result(
    tx: Connection, task: ScopedKey | str, protocoldagresultref: ProtocolDAGResultRef
) -> ScopedKey:
    """Store a reference to a result of a task. The status of the task stays as it is.

    Parameters
    ----------
    task : ScopedKey or str
        The task.
    protocoldagresultref : ProtocolDAGResultRef
        Where the result is. A task may have many; the same reference is stored once.

    Returns
    -------
    ScopedKey
        Key of the reference, in the scope of the task.

    Raises
    ------
    KeyError
        If there is no such task.
    ValueError
        If it is the key of something else.
    """
    key = parse_key(task, "Task")
    row = tx.execute(LOCK_TASK, parameters(key)).first()
    if row is None:
        raise MissingObjectError(key)
    attempt = tx.scalar(GOING_ON, {"scope_id": row.scope_id, "task": row.token})
    return add_result(tx, key, row.scope_id, protocoldagresultref, attempt)


def add_result(
    tx: Connection,
    task: ScopedKey,
    scope_id: int,
    ref: ProtocolDAGResultRef,
    attempt: int | None,
    tracebacks: Sequence[str] | None = None,
    settles: bool = False,
) -> ScopedKey:
    """Store a reference and link it to a task, which is locked, and to the attempt that produced it."""
    tx.execute(
        ADD,
        {
            **dict(ref),
            "scope": str(ref.scope),
            "scope_id": scope_id,
            "task": task.token,
            "result": gufe_token(ref.key),
            "attempt": attempt,
            "settles": settles,
            "tracebacks": None if tracebacks is None else list(tracebacks),
            "now": now(),
        },
    )
    return ScopedKey(gufe_key=ref.key, org=task.org, campaign=task.campaign, project=task.project)


def _list(
    tx: Connection, statement: TextClause, of: ScopedKey | str, kinds: tuple[str, ...], ok: bool
) -> list[ScopedKey]:
    key = parse_key(of)
    if key.qualname not in kinds:
        return []
    rows = tx.execute(statement, {**parameters(key), "ok": ok})
    return [scoped(key, "ProtocolDAGResultRef", row.token) for row in rows]


_TASK = ("Task",)
_EDGES = ("Transformation", "NonTransformation")


def get_task_results(tx: Connection, task: ScopedKey | str) -> list[ScopedKey]:
    """Give the references to a task's successful results, in the order of their keys."""
    return _list(tx, OF_TASK, task, _TASK, ok=True)


def get_task_failures(tx: Connection, task: ScopedKey | str) -> list[ScopedKey]:
    """Give the references to a task's failed results, in the order of their keys."""
    return _list(tx, OF_TASK, task, _TASK, ok=False)


def get_transformation_results(tx: Connection, transformation: ScopedKey | str) -> list[ScopedKey]:
    """Give the references to the successful results of a transformation's tasks, in the order of their keys."""
    return _list(tx, OF_TRANSFORMATION, transformation, _EDGES, ok=True)


def get_transformation_failures(tx: Connection, transformation: ScopedKey | str) -> list[ScopedKey]:
    """Give the references to the failed results of a transformation's tasks, in the order of their keys."""
    return _list(tx, OF_TRANSFORMATION, transformation, _EDGES, ok=False)


def get_task_tracebacks(tx: Connection, task: ScopedKey | str) -> list[list[str]]:
    """Give the tracebacks kept with a task's results, those of one result together, in the order they came in."""
    key = parse_key(task)
    return (
        []
        if key.qualname != "Task"
        else [list(found) for found in tx.scalars(TRACEBACKS, parameters(key))]
    )
