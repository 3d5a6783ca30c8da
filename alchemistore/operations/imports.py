"""Imports: results that were computed elsewhere become complete tasks."""

from __future__ import annotations

from sqlalchemy import Connection, text

from alchemistore.database.keys import one_or_missing, parameters, parse_key, scoped
from alchemistore.database.sql import SCOPE_ID
from alchemistore.models import ProtocolDAGResultRef, ScopedKey, TaskStatusEnum
from alchemistore.operations.results import set_task_result
from alchemistore.operations.settlement import settle_task
from alchemistore.operations.statuses import set_task_status
from alchemistore.operations.tasks import LOCK_TRANSFORMATION, create_task
from alchemistore.operations.topology import TRANSFORMATION_KINDS

# Among the tasks of the transformation, because results are not indexed by key.
FIND_TASK_OF_RESULT = text(f"""
    SELECT t.token FROM tasks AS t
    JOIN task_results AS l ON l.scope_id = t.scope_id AND l.task = t.token
    JOIN results AS r ON r.scope_id = l.scope_id AND r.token = l.result
    WHERE t.scope_id = {SCOPE_ID} AND t.transformation = :token AND r.obj_key = :result
    ORDER BY t.token LIMIT 1
""")
FAILED = "the result that was added had failed"


def find_task_of_result(tx: Connection, transformation: ScopedKey, result: str) -> ScopedKey | None:
    """Return the task of a transformation that has a result; ``None`` if none has.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    transformation : ScopedKey
        The transformation.
    result : str
        The gufe key of the result.
    """
    values = {**parameters(transformation), "result": str(result)}
    token = tx.scalar(FIND_TASK_OF_RESULT, values)
    return None if token is None else scoped(transformation, "Task", token)


def import_result(
    tx: Connection,
    transformation: ScopedKey | str,
    protocoldagresultref: ProtocolDAGResultRef,
    extends: ScopedKey | str | None = None,
    creator: str | None = None,
) -> ScopedKey:
    """Create a task that has ended with a result; a result that is stored already stays as it is.

    Parameters
    ----------
    transformation : ScopedKey or str
        The transformation that produced the result.
    protocoldagresultref : ProtocolDAGResultRef
        The reference. The result itself must already be in the object store.
    extends : ScopedKey or str, optional
        The task whose result this one continues.
    creator : str, optional
        The creator of the task.

    Returns
    -------
    ScopedKey
        The task: complete, or error if the result is a failure.

    Raises
    ------
    KeyError
        If the transformation or the extended task is missing.
    ValueError
        If a key is of another kind.
    """
    edge = parse_key(transformation, TRANSFORMATION_KINDS)
    # Concurrent imports of one result wait for each other here.
    one_or_missing(tx, LOCK_TRANSFORMATION, edge, kind=edge.qualname)
    known = find_task_of_result(tx, edge, protocoldagresultref.obj_key)
    if known is not None:
        return known
    task = create_task(tx, edge, extends, creator)
    if protocoldagresultref.ok:
        settle_task(tx, task, protocoldagresultref)
    else:
        set_task_result(tx, task, protocoldagresultref)
        set_task_status(tx, [task], TaskStatusEnum.running)
        set_task_status(tx, [task], TaskStatusEnum.error, reason=FAILED)
    return task
