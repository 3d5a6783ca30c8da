"""Results: references to stored results, linked to the tasks that produced them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, TextClause, text

from alchemistore.database.keys import gufe_token, one_or_missing, parameters, parse_key, scoped
from alchemistore.database.sql import SCOPE_ID
from alchemistore.database.together import Together, together
from alchemistore.models import ProtocolDAGResultRef, ScopedKey
from alchemistore.models.clock import now
from alchemistore.models.text import escape, unescape
from alchemistore.operations.topology import TRANSFORMATION_KINDS
from alchemistore.operations.tracebacks import add_first_tracebacks

READ_RESULT = text(f"""
    SELECT obj_key, location, scope, ok, creator, datetime_created
    FROM results WHERE scope_id = {SCOPE_ID} AND token = :token
""")
LOCK_TASK_OF_RESULT = text(f"""
    SELECT scope_id, token FROM tasks
    WHERE scope_id = {SCOPE_ID} AND token = :token FOR NO KEY UPDATE
""")
CLAIMED_ATTEMPT = text("SELECT attempt FROM claims WHERE scope_id = :scope_id AND task = :task")
ADD_RESULT = text("""
    -- The reference, once.
    WITH ref AS (
        INSERT INTO results (
            scope_id, token, obj_key, location, scope, ok, creator, datetime_created, created_at
        )
        VALUES (
            :scope_id, :result, :obj_key, :location, :scope, :ok, :creator, :datetime_created, :now
        )
        ON CONFLICT DO NOTHING
    ),
    -- An attempt keeps the result that settled it, otherwise the first that was stored for it.
    noted AS (
        UPDATE attempts SET result = :result
        WHERE scope_id = :scope_id AND task = :task AND attempt = :attempt
            AND (:settles OR result IS NULL)
    )
    INSERT INTO task_results (scope_id, task, result, attempt, created_at)
    VALUES (:scope_id, :task, :result, :attempt, :now)
    ON CONFLICT (scope_id, task, result) DO UPDATE SET attempt = excluded.attempt
        WHERE task_results.attempt IS NULL AND excluded.attempt IS NOT NULL
""")


def _results_where(column: str) -> TextClause:
    return text(f"""
        SELECT DISTINCT r.token FROM tasks AS t
        JOIN task_results AS tr ON tr.scope_id = t.scope_id AND tr.task = t.token
        JOIN results AS r ON r.scope_id = tr.scope_id AND r.token = tr.result
        WHERE t.scope_id = {SCOPE_ID} AND t.{column} = :token AND r.ok = :ok
        ORDER BY r.token
    """)


RESULTS_OF_TASK = _results_where("token")
RESULTS_OF_TRANSFORMATION = _results_where("transformation")


def read_result(tx: Connection, key: ScopedKey) -> ProtocolDAGResultRef:
    """Return a reference to a result.

    Raises
    ------
    KeyError
        If there is no such reference.
    """
    row = one_or_missing(tx, READ_RESULT, key)
    return ProtocolDAGResultRef(
        obj_key=row.obj_key,
        location=row.location,
        scope=row.scope,
        ok=row.ok,
        creator=unescape(row.creator),
        datetime_created=row.datetime_created,
    )


def set_task_result(
    tx: Connection, task: ScopedKey | str, protocoldagresultref: ProtocolDAGResultRef
) -> ScopedKey:
    """Store a reference to a result of a task. The status of the task does not change.

    Parameters
    ----------
    task : ScopedKey or str
        The task.
    protocoldagresultref : ProtocolDAGResultRef
        The reference. A task may have many; the same reference is stored once.

    Returns
    -------
    ScopedKey
        Key of the reference, in the scope of the task.

    Raises
    ------
    KeyError
        If there is no such task.
    ValueError
        If `task` is the key of something else, or the reference has another scope than the task.
    """
    key = parse_key(task, "Task")
    row = one_or_missing(tx, LOCK_TASK_OF_RESULT, key)
    attempt = tx.scalar(CLAIMED_ATTEMPT, {"scope_id": row.scope_id, "task": row.token})
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
    """Store a reference and link it to a locked task and to the attempt that produced it.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    task : ScopedKey
        The task, which is locked.
    scope_id : int
        Id of its scope.
    ref : ProtocolDAGResultRef
        The reference.
    attempt : int or None
        Number of the attempt, if it is known.
    tracebacks : sequence of str, optional
        Tracebacks of the failure, to be stored unless the reference has some.
    settles : bool, default False
        Whether the result ends the attempt; it then replaces an earlier result of the attempt.

    Returns
    -------
    ScopedKey
        Key of the reference, in the scope of the task.

    Raises
    ------
    ValueError
        If the reference has another scope than the task, or the tracebacks are too long.
    """
    with together(tx) as send:
        return add_result_with(send, task, scope_id, ref, attempt, tracebacks, settles)


def add_result_with(
    send: Together,
    task: ScopedKey,
    scope_id: int,
    ref: ProtocolDAGResultRef,
    attempt: int | None,
    tracebacks: Sequence[str] | None = None,
    settles: bool = False,
) -> ScopedKey:
    """Store a reference to a result, with other statements; see `add_result`."""
    if ref.scope != task.scope:
        raise ValueError(
            f"the reference to {ref.obj_key} has the scope {ref.scope}, but its task has the scope"
            f" {task.scope}; push the result under a transformation of the scope of the task"
        )
    send(
        ADD_RESULT,
        {
            **dict(ref),
            "scope": str(ref.scope),
            "creator": escape(ref.creator),
            "scope_id": scope_id,
            "task": task.token,
            "result": gufe_token(ref.key),
            "attempt": attempt,
            "settles": settles,
            "now": now(),
        },
    )
    if tracebacks is not None:
        add_first_tracebacks(send, scope_id, gufe_token(ref.key), tracebacks)
    return ScopedKey(gufe_key=ref.key, org=task.org, campaign=task.campaign, project=task.project)


def _list_results(
    tx: Connection, statement: TextClause, key: ScopedKey, ok: bool
) -> list[ScopedKey]:
    rows = tx.execute(statement, {**parameters(key), "ok": ok})
    return [scoped(key, "ProtocolDAGResultRef", row.token) for row in rows]


def _list_of_task(tx: Connection, task: ScopedKey | str, ok: bool) -> list[ScopedKey]:
    key = parse_key(task)
    return _list_results(tx, RESULTS_OF_TASK, key, ok) if key.qualname == "Task" else []


def _list_of_transformation(
    tx: Connection, transformation: ScopedKey | str, ok: bool
) -> list[ScopedKey]:
    key = parse_key(transformation)
    if key.qualname not in TRANSFORMATION_KINDS:
        return []
    return _list_results(tx, RESULTS_OF_TRANSFORMATION, key, ok)


def get_task_results(tx: Connection, task: ScopedKey | str) -> list[ScopedKey]:
    """Return the references to the successful results of a task, in the order of their keys."""
    return _list_of_task(tx, task, ok=True)


def get_task_failures(tx: Connection, task: ScopedKey | str) -> list[ScopedKey]:
    """Return the references to the failed results of a task, in the order of their keys."""
    return _list_of_task(tx, task, ok=False)


def get_transformation_results(tx: Connection, transformation: ScopedKey | str) -> list[ScopedKey]:
    """Return the references to the successful results of a transformation, ordered by key."""
    return _list_of_transformation(tx, transformation, ok=True)


def get_transformation_failures(tx: Connection, transformation: ScopedKey | str) -> list[ScopedKey]:
    """Return the references to the failed results of a transformation, ordered by key."""
    return _list_of_transformation(tx, transformation, ok=False)
