"""Task statuses: how they change, what a change takes with it, and how they are counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, TextClause, text

from alchemistore.database.keys import (
    Keys,
    parameters,
    parse_key,
    parse_keys,
    parse_one_or_many,
    scope_parameters,
)
from alchemistore.database.sql import IN_SCOPE, SCOPE_ID
from alchemistore.models import Scope, ScopedKey, TaskStatusEnum
from alchemistore.models.clock import now, uuid7
from alchemistore.operations import task_sets
from alchemistore.operations.queue.lanes import raise_floors_throttled
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.task_sets import Reach


@dataclass(frozen=True)
class Transition:
    """What it takes to set a status, and what happens besides.

    Attributes
    ----------
    sources : tuple of str
        The statuses a task may have before; the status itself is among them, then nothing changes.
    outcome : str or None
        A claim on the task ends, and its attempt with this outcome; ``None`` keeps claims.
    off_hubs : bool
        The task leaves all hubs.
    cascades : bool
        Everything that extends the task, directly or not, gets the status too, unless it is invalid or deleted already.
    reaches : "tasks", "children" or "descendants"
        Whose place in the queue may change.
    """

    sources: tuple[str, ...]
    outcome: str | None
    off_hubs: bool = False
    cascades: bool = False
    reaches: Reach = "tasks"


_LIVE = ("waiting", "running", "complete", "error")
TRANSITIONS: Mapping[TaskStatusEnum, Transition] = {
    TaskStatusEnum.waiting: Transition(("waiting", "running", "error"), outcome="released"),
    TaskStatusEnum.running: Transition(("waiting", "running"), outcome=None),
    TaskStatusEnum.complete: Transition(
        ("running", "complete"), outcome="complete", off_hubs=True, reaches="children"
    ),
    TaskStatusEnum.error: Transition(("running", "error"), outcome="error"),
    TaskStatusEnum.invalid: Transition(
        (*_LIVE, "invalid"), outcome="invalid", off_hubs=True, cascades=True, reaches="descendants"
    ),
    TaskStatusEnum.deleted: Transition(
        (*_LIVE, "deleted"), outcome="deleted", off_hubs=True, cascades=True, reaches="descendants"
    ),
}

REFUSED = text(f"""
    SELECT wanted.scope_id, wanted.task, t.status
    FROM ({task_sets.TASKS}) AS wanted
    LEFT JOIN tasks AS t ON t.scope_id = wanted.scope_id AND t.token = wanted.task
    WHERE t.status IS NULL OR t.status <> ALL(CAST(:sources AS text[]))
""")


def _set(transition: Transition) -> TextClause:
    fine = "SELECT scope_id, task FROM fine"
    return text(f"""
        WITH RECURSIVE wanted AS MATERIALIZED ({task_sets.TASKS}),
        fine AS MATERIALIZED (
            SELECT wanted.scope_id, wanted.task FROM wanted CROSS JOIN LATERAL (
                SELECT FROM tasks AS t
                WHERE t.scope_id = wanted.scope_id AND t.token = wanted.task AND t.status = ANY(CAST(:sources AS text[])) OFFSET 0
            ) AS t
        ),
        tree (scope_id, task) AS ({task_sets.tree(fine) if transition.cascades else fine}),
        changed AS (
            UPDATE tasks AS t SET status = :status, status_changed_at = :now, reason = :reason
            WHERE ctid = ANY({task_sets.row_locations("tasks", "tree", "token")}) AND t.status <> :status AND t.status NOT IN ('invalid', 'deleted')
            RETURNING t.scope_id, t.token AS task
        ),
        {_END_CLAIMS if transition.outcome else ""}
        {_DROP_ACTIONS if transition.off_hubs else ""}
        noted AS (
            INSERT INTO status_changes (scope_id, task, change, status, changed_at, reason, actor)
            SELECT changed.scope_id, changed.task, :change, :status, :now, :reason, {_ACTOR if transition.outcome else ":actor"}
            FROM changed
        ),
        refused AS (SELECT scope_id, task FROM wanted EXCEPT ALL SELECT scope_id, task FROM fine)
        SELECT scope_id, task FROM refused
    """)


_END_CLAIMS = f"""
    ended AS (
        DELETE FROM claims WHERE ctid = ANY({task_sets.row_locations("claims", "tree")}) RETURNING scope_id, task, attempt
    ),
    closed AS (
        UPDATE attempts SET ended_at = :now, outcome = :outcome, reason = :reason
        WHERE ctid = ANY({task_sets.row_locations("attempts", "ended")})
    ),
"""
# Who ran a task to its end did it, where nobody is named; the claim is seen as it was before the statement.
_ACTOR = """
    coalesce(:actor, CASE WHEN :outcome IN ('complete', 'error') THEN (
        SELECT c.service FROM claims AS c WHERE c.scope_id = changed.scope_id AND c.task = changed.task
    ) END)
"""
_DROP_ACTIONS = f"""
    dropped AS (DELETE FROM actions WHERE ctid = ANY({task_sets.row_locations("actions", "tree")})),
"""

SET_STATUS = {status: _set(transition) for status, transition in TRANSITIONS.items()}

GET_STATUS = text(f"""
    SELECT t.scope_id, t.token, t.status FROM tasks AS t
    JOIN ({task_sets.TASKS}) AS wanted ON wanted.scope_id = t.scope_id AND wanted.task = t.token
""")
SCOPE_STATUS = text(f"""
    SELECT t.status, count(*) FROM tasks AS t JOIN scopes AS s ON s.id = t.scope_id WHERE {IN_SCOPE} GROUP BY t.status
""")
NETWORK_STATUS = text("""
    SELECT x.position, t.status, count(*)
    FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[])) WITH ORDINALITY AS x (scope_id, network, position)
    JOIN network_transformations AS n ON n.scope_id = x.scope_id AND n.network = x.network
    JOIN tasks AS t ON t.scope_id = n.scope_id AND t.transformation = n.transformation
    GROUP BY x.position, t.status
""")
TRANSFORMATION_STATUS = text(f"""
    SELECT t.status, count(*) FROM tasks AS t
    WHERE t.scope_id = {SCOPE_ID} AND t.transformation = :token GROUP BY t.status
""")


def parse_status(status: TaskStatusEnum | str) -> TaskStatusEnum:
    """Give the status.

    Raises
    ------
    ValueError
        If there is no such status.
    """
    if isinstance(status, TaskStatusEnum):
        return status
    try:
        return TaskStatusEnum(status)
    except ValueError:
        known = ", ".join(one.value for one in TaskStatusEnum)
        raise ValueError(f"{status!r} is not a task status: expected one of {known}") from None


def set_task_status(
    tx: Connection,
    tasks: Iterable[ScopedKey | str | None],
    status: TaskStatusEnum | str,
    raise_error: bool = False,
    *,
    reason: str | None = None,
    actor: str | None = None,
) -> list[ScopedKey | None]:
    """Set the status of tasks.

    ========  =================================  ============  ==========  ===========================
    status    accepted from                      claim         actions     tasks that extend it
    ========  =================================  ============  ==========  ===========================
    waiting   running, error                     ends          stay
    running   waiting                            stays         stay
    complete  running                            ends          go          become claimable
    error     running                            ends          stay
    invalid   waiting, running, complete, error  ends          go          the same, all the way down
    deleted   waiting, running, complete, error  ends          go          the same, all the way down
    ========  =================================  ============  ==========  ===========================

    A task that has the status already is accepted too and keeps it.

    Parameters
    ----------
    tasks : iterable of ScopedKey or str
        The tasks.
    status : TaskStatusEnum or str
        The status they should have.
    raise_error : bool, default False
        Raise for a task that is refused or missing, instead of answering ``None`` for it; then no task changes.
    reason, actor : str, optional
        Why, and who says so, for the history of the tasks.

    Returns
    -------
    list of ScopedKey or None
        For each task in the order given: its key if it has the status now, else ``None``.

    Raises
    ------
    ValueError
        If there is no such status, or, with `raise_error`, if a task is refused or missing.
    """
    wanted = parse_status(status)
    transition = TRANSITIONS[wanted]
    keys = parse_keys(tx, tasks)
    if raise_error:
        _require_found(keys, wanted)
    if not keys:
        return [None] * len(keys.parsed)
    task_sets.lock(tx, keys.parameters, transition.reaches)
    values = {**keys.parameters, "sources": list(transition.sources)}
    if raise_error:
        _require_accepted(
            keys,
            wanted,
            {(row.scope_id, row.task): row.status for row in tx.execute(REFUSED, values)},
        )
    more = {"status": wanted.value, "outcome": transition.outcome, "now": now(), "change": uuid7()}
    more |= {"reason": reason, "actor": actor}
    refused = {
        (row.scope_id, row.task) for row in tx.execute(SET_STATUS[wanted], {**values, **more})
    }
    refresh(tx, keys.parameters, transition.reaches)
    raise_floors_throttled(tx)
    return keys.align_keys(lambda pair: pair not in refused)


def _require_found(keys: Keys, status: TaskStatusEnum) -> None:
    for asked, key in zip(keys.requested, keys.parsed, strict=True):
        if key is None:
            raise ValueError(f"Cannot set task {asked} to {status.value}: there is no such task")


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
    """Set tasks waiting, from running or error; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.waiting, raise_error)


def set_task_running(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False
) -> list[ScopedKey | None]:
    """Set tasks running, from waiting, without a claim; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.running, raise_error)


def set_task_complete(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False
) -> list[ScopedKey | None]:
    """Set tasks complete, from running; what extends them becomes claimable; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.complete, raise_error)


def set_task_error(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False
) -> list[ScopedKey | None]:
    """Set tasks to error, from running; they stay on their hubs; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.error, raise_error)


def set_task_invalid(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False
) -> list[ScopedKey | None]:
    """Set tasks and everything that extends them invalid, for good; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.invalid, raise_error)


def set_task_deleted(
    tx: Connection, tasks: Iterable[ScopedKey | str | None], raise_error: bool = False
) -> list[ScopedKey | None]:
    """Set tasks and everything that extends them deleted, for good; see `set_task_status`."""
    return set_task_status(tx, tasks, TaskStatusEnum.deleted, raise_error)


def get_task_status(
    tx: Connection, tasks: Iterable[ScopedKey | str | None]
) -> list[TaskStatusEnum | None]:
    """Give the status of each task, in the order given; ``None`` for what is missing."""
    keys = parse_keys(tx, tasks)
    rows = tx.execute(GET_STATUS, keys.parameters)
    return keys.align({(row.scope_id, row.token): TaskStatusEnum(row.status) for row in rows})


def get_scope_status(tx: Connection, scope: Scope | str) -> dict[str, int]:
    """Count the tasks in a scope, actioned or not, by status; open components match anything, zero counts are left out."""
    return {status: count for status, count in tx.execute(SCOPE_STATUS, scope_parameters(scope))}  # noqa: C416  (rows are no pairs to mypy)


def get_network_status(
    tx: Connection, network: ScopedKey | str | Iterable[ScopedKey | str | None]
) -> Any:
    """Count the tasks of a network's transformations, by status.

    Parameters
    ----------
    network : ScopedKey or str, or iterable of them
        The network, or several.

    Returns
    -------
    dict of str to int, or list of them
        Zero counts are left out; empty if there is no such network.
    """
    single, keys = parse_one_or_many(tx, network, "AlchemicalNetwork")
    counts: list[dict[str, int]] = [{} for _ in keys.tokens]
    for row in tx.execute(NETWORK_STATUS, keys.parameters):
        counts[row.position - 1][row.status] = row.count
    answers = keys.align_values(counts)
    listed = [dict(answer or {}) for answer in answers]
    return listed[0] if single else listed


def get_transformation_status(tx: Connection, transformation: ScopedKey | str) -> dict[str, int]:
    """Count the tasks of a transformation by status; zero counts are left out, empty if there is no such transformation."""
    rows = tx.execute(TRANSFORMATION_STATUS, parameters(parse_key(transformation)))
    return {status: count for status, count in rows}  # noqa: C416  (rows are no pairs to mypy)
