"""Task statuses: their changes, and the consequences of a change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from alchemistore.database.keys import (
    Keys,
    parse_keys,
)
from alchemistore.database.planner import FENCE
from alchemistore.database.together import together
from alchemistore.database.transaction import Call, call_of
from alchemistore.models import (
    RefusalReason,
    ScopedKey,
    TaskStatusEnum,
)
from alchemistore.models.clock import now
from alchemistore.models.text import escape
from alchemistore.operations import task_sets
from alchemistore.operations.queue.lanes import raise_floors_with
from alchemistore.operations.queue.refresh import leave_queue_with, refresh_with
from alchemistore.operations.refusals import Refusals, explain
from alchemistore.operations.task_sets import Reach
from alchemistore.operations.tasks import parse_status


@dataclass(frozen=True)
class Transition:
    """The conditions and consequences of setting a status.

    Attributes
    ----------
    sources : tuple of str
        The statuses that a task may have before. The status itself is one of them and changes
        nothing.
    outcome : str or None
        The outcome of the attempt whose claim ends; ``None`` keeps claims.
    off_hubs : bool
        Whether the task is removed from all hubs.
    cascades : bool
        Whether everything that extends the task, directly or not, gets the status too, unless it is
        invalid or deleted already.
    enters : bool
        Whether tasks may become claimable, these or those that extend them.
    reaches : "tasks", "children" or "descendants"
        The tasks whose queue rows may change.
    """

    sources: tuple[str, ...]
    outcome: str | None
    off_hubs: bool = False
    cascades: bool = False
    enters: bool = False
    reaches: Reach = "tasks"


_LIVE = ("waiting", "running", "complete", "error")
TRANSITIONS: Mapping[TaskStatusEnum, Transition] = {
    TaskStatusEnum.waiting: Transition(
        ("waiting", "running", "error"), outcome="released", enters=True
    ),
    TaskStatusEnum.running: Transition(("waiting", "running"), outcome=None),
    TaskStatusEnum.complete: Transition(
        ("running", "complete"), outcome="complete", off_hubs=True, enters=True, reaches="children"
    ),
    TaskStatusEnum.error: Transition(("running", "error"), outcome="error"),
    TaskStatusEnum.invalid: Transition(
        (*_LIVE, "invalid"), outcome="invalid", off_hubs=True, cascades=True, reaches="descendants"
    ),
    TaskStatusEnum.deleted: Transition(
        (*_LIVE, "deleted"), outcome="deleted", off_hubs=True, cascades=True, reaches="descendants"
    ),
}

FIND_REFUSED_TASKS = text(f"""
    SELECT wanted.scope_id, wanted.task, t.status
    FROM ({task_sets.TASKS}) AS wanted
    LEFT JOIN tasks AS t ON t.scope_id = wanted.scope_id AND t.token = wanted.task
    WHERE t.status IS NULL OR t.status <> ALL(CAST(:sources AS text[]))
""")


_END_CLAIMS = f"""
    -- Ends the claims on these tasks.
    ended AS (
        DELETE FROM claims WHERE ctid = ANY({task_sets.row_locations("claims", "tree")})
        RETURNING scope_id, task, attempt
    ),
    -- Records how the attempts with these claims ended.
    closed AS (
        UPDATE attempts SET ended_at = greatest(:now, claimed_at), outcome = :outcome,
            reason = :reason
        WHERE ctid = ANY({task_sets.row_locations("attempts", "ended")})
    ),
"""
# If no actor is given, the service that held the claim completed or failed the task. The claim is
# still visible, because a statement does not see its own changes. The actor is in a subquery, so
# that a plan for a given actor is not cheaper than the general one.
_ACTOR = """
    coalesce((SELECT CAST(:actor AS text)), CASE WHEN :outcome IN ('complete', 'error') THEN (
        SELECT c.service FROM claims AS c
        WHERE c.scope_id = changed.scope_id AND c.task = changed.task
    ) END)
"""
_DROP_ACTIONS = f"""
    -- Removes these tasks from all hubs.
    dropped AS (
        DELETE FROM actions WHERE ctid = ANY({task_sets.row_locations("actions", "tree")})
    ),
"""


def _set(transition: Transition) -> TextClause:
    accepted = "SELECT scope_id, task FROM accepted"
    return text(f"""
        WITH RECURSIVE
        -- The given tasks. Read once, because two steps use them.
        wanted AS MATERIALIZED ({task_sets.TASKS}),
        -- The given tasks that exist and may get the status.
        accepted AS MATERIALIZED (
            SELECT wanted.scope_id, wanted.task FROM wanted
            -- Looks up each task by key.
            CROSS JOIN LATERAL (
                SELECT FROM tasks AS t
                WHERE t.scope_id = wanted.scope_id AND t.token = wanted.task
                    AND t.status = ANY(CAST(:sources AS text[])) {FENCE}
            ) AS t
        ),
        -- The tasks to change: these, and everything that extends them if the status cascades.
        tree (scope_id, task) AS (
            {task_sets.tree(accepted) if transition.cascades else accepted}
        ),
        -- Sets the status of those that do not have it and are not invalid or deleted. The time is
        -- that before the tasks were locked, but never before the last change.
        changed AS (
            UPDATE tasks AS t SET status = :status, reason = :reason,
                status_changed_at = greatest(
                    :now, t.status_changed_at + interval '1 microsecond'
                )
            WHERE ctid = ANY({task_sets.row_locations("tasks", "tree", "token")})
                AND t.status <> :status AND t.status NOT IN ('invalid', 'deleted')
            RETURNING t.scope_id, t.token AS task, t.status_changed_at
        ),
        {_END_CLAIMS if transition.outcome else ""}
        {_DROP_ACTIONS if transition.off_hubs else ""}
        -- Adds the changes to the history of the tasks.
        noted AS (
            INSERT INTO status_changes (scope_id, task, change, status, changed_at, reason, actor)
            SELECT changed.scope_id, changed.task, :change, :status, changed.status_changed_at,
                :reason,
                {_ACTOR if transition.outcome in ("complete", "error") else ":actor"}
            FROM changed
        ),
        -- The given tasks that were not accepted, which is what the call has to report.
        refused AS (
            SELECT scope_id, task FROM wanted EXCEPT ALL SELECT scope_id, task FROM accepted
        )
        SELECT scope_id, task FROM refused
    """)


SET_STATUS = {status: _set(transition) for status, transition in TRANSITIONS.items()}
# Whether a call has changed tasks before it lost the connection, and what they are now.
FIND_CHANGED = text(f"""
    SELECT wanted.scope_id, wanted.task, t.status, EXISTS (
        SELECT FROM status_changes AS c
        WHERE c.scope_id = wanted.scope_id AND c.task = wanted.task AND c.change = :change
    ) AS changed
    FROM ({task_sets.TASKS}) AS wanted
    LEFT JOIN tasks AS t ON t.scope_id = wanted.scope_id AND t.token = wanted.task
""")

GET_TASK_STATUS = text(f"""
    SELECT t.scope_id, t.token, t.status FROM tasks AS t
    JOIN ({task_sets.TASKS}) AS wanted ON wanted.scope_id = t.scope_id AND wanted.task = t.token
""")


def set_task_status(
    tx: Connection,
    tasks: Iterable[ScopedKey | str | None],
    status: TaskStatusEnum | str,
    raise_error: bool = False,
    *,
    reason: str | None = None,
    actor: str | None = None,
    refusals: Refusals | None = None,
    only_from: TaskStatusEnum | str | Iterable[TaskStatusEnum | str] | None = None,
) -> list[ScopedKey | None]:
    """Set the status of tasks.

    ========  =================================  ============  ==========  =========================
    status    accepted from                      claim         actions     tasks that extend it
    ========  =================================  ============  ==========  =========================
    waiting   running, error                     ends          kept
    running   waiting                            kept          kept
    complete  running                            ends          removed     can be claimed
    error     running                            ends          kept
    invalid   waiting, running, complete, error  ends          removed     same status, any depth
    deleted   waiting, running, complete, error  ends          removed     same status, any depth
    ========  =================================  ============  ==========  =========================

    A task that already has the status is accepted and keeps it.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.
    status : TaskStatusEnum or str
        The new status.
    raise_error : bool, default False
        Raise an error for a task that is refused or missing, instead of returning ``None`` for it.
        No task changes then.
    reason, actor : str, optional
        The reason for the change and its author, for the history of the tasks.
    refusals : dict, optional
        A dictionary to fill with the reason for each refused task, by the text of its key. It is
        cleared first.
    only_from : TaskStatusEnum or str, or iterable of them, optional
        Refuse tasks that do not have one of these statuses, also those that already have the new
        one. The tasks are compared when they are changed, so a change by another session is seen.

    Returns
    -------
    list of ScopedKey or None
        The key of each task that now has the status, else ``None``, in the order given.

    Raises
    ------
    ValueError
        If there is no such status, or, with `raise_error`, if a task is refused or missing.
    """
    wanted = parse_status(status)
    transition = TRANSITIONS[wanted]
    sources = _sources(transition, only_from)
    keys = parse_keys(tx, tasks, later=not raise_error and refusals is None)
    if raise_error:
        _require_found(keys, wanted)
    if not keys:
        if refusals is not None:
            explain(tx, refusals, keys, (), _refused_by_status)
        return [None] * len(keys.parsed)
    call = call_of(tx)
    if call.again and (done := _changed_before(tx, keys, wanted, sources, call)) is not None:
        if refusals is not None:
            explain(tx, refusals, keys, done, _refused_by_status)
        return keys.align_keys(done)
    values = {
        **keys.parameters,
        "sources": sources,
        "status": wanted.value,
        "outcome": transition.outcome,
        "now": now(),
        "change": call.identifier,
        "reason": escape(reason),
        "actor": escape(actor),
    }
    if raise_error:
        task_sets.lock(tx, keys.parameters, transition.reaches)
        rows = task_sets.execute(tx, FIND_REFUSED_TASKS, values)
        _require_accepted(keys, wanted, {(row.scope_id, row.task): row.status for row in rows})
    with together(tx, last=refusals is None) as send:
        if not raise_error:
            task_sets.lock_with(send, keys.parameters, transition.reaches)
        answer = send(task_sets.form(SET_STATUS[wanted], values), values)
        update_queue = refresh_with if transition.enters else leave_queue_with
        update_queue(send, keys.parameters, transition.reaches)
        raise_floors_with(send)
    refused = {keys.pair(row.scope_id, row.task) for row in answer.rows}
    if refusals is not None:
        explain(tx, refusals, keys, refused, _refused_by_status)
    return keys.align_keys(refused)


def _sources(
    transition: Transition,
    only_from: TaskStatusEnum | str | Iterable[TaskStatusEnum | str] | None,
) -> list[str]:
    """Return the statuses that a task may have before."""
    if only_from is None:
        return list(transition.sources)
    given = [only_from] if isinstance(only_from, str) else only_from
    wanted = {parse_status(status).value for status in given}
    return [status for status in transition.sources if status in wanted]


def _changed_before(
    tx: Connection, keys: Keys, status: TaskStatusEnum, sources: list[str], call: Call
) -> set[tuple[int, UUID]] | None:
    """Return the tasks that a call refused when it was carried out; ``None`` if it was not."""
    rows = task_sets.execute(tx, FIND_CHANGED, {**keys.parameters, "change": call.identifier}).all()
    if not any(row.changed for row in rows):
        return None
    return {
        keys.pair(row.scope_id, row.task)
        for row in rows
        if not row.changed and (row.status != status.value or row.status not in sources)
    }


def _refused_by_status(state: Row[Any]) -> RefusalReason:
    return RefusalReason.status


def _require_found(keys: Keys, status: TaskStatusEnum) -> None:
    for requested, key in zip(keys.requested, keys.parsed, strict=True):
        if key is None:
            raise ValueError(
                f"Cannot set task {requested} to {status.value}: there is no such task"
            )


def _require_accepted(
    keys: Keys, status: TaskStatusEnum, refused: Mapping[Any, str | None]
) -> None:
    if not refused:
        return
    for key, present in zip(
        keys.parsed, keys.align({pair: (held,) for pair, held in refused.items()}), strict=True
    ):
        if present is not None:
            state = "there is no such task" if present[0] is None else f"it is {present[0]}"
            raise ValueError(f"Cannot set task {key} to {status.value}: {state}")


def set_task_waiting(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False
) -> list[ScopedKey | None]:
    """Set running or failed tasks to waiting; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.waiting, raise_error)


def set_task_running(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False
) -> list[ScopedKey | None]:
    """Set waiting tasks to running, without a claim; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.running, raise_error)


def set_task_complete(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False
) -> list[ScopedKey | None]:
    """Set running tasks to complete, so that others can extend them; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.complete, raise_error)


def set_task_error(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False
) -> list[ScopedKey | None]:
    """Set running tasks to error; they stay on their hubs; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.error, raise_error)


def set_task_invalid(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False
) -> list[ScopedKey | None]:
    """Set tasks and everything that extends them to invalid, for good; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.invalid, raise_error)


def set_task_deleted(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False
) -> list[ScopedKey | None]:
    """Set tasks and everything that extends them to deleted, for good; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.deleted, raise_error)


def get_task_status(
    tx: Connection, tasks: Iterable[ScopedKey | str | None]
) -> list[TaskStatusEnum | None]:
    """Return the status of each task in the order given; ``None`` if there is no such task."""
    keys = parse_keys(tx, tasks, later=True)
    rows = task_sets.execute(tx, GET_TASK_STATUS, keys.parameters)
    return keys.align(
        {keys.pair(row.scope_id, row.token): TaskStatusEnum(row.status) for row in rows}
    )
