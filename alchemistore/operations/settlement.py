"""Settlement: store a result and apply its consequences in one transaction."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import Connection, text

from alchemistore.database.keys import gufe_token, parameters, parse_key, parse_keys
from alchemistore.database.sql import SCOPE_ID
from alchemistore.database.together import Answer, Together, together
from alchemistore.errors import MissingObjectError
from alchemistore.models import (
    AttemptOutcome,
    ProtocolDAGResultRef,
    ScopedKey,
    Settlement,
    TaskStatusEnum,
)
from alchemistore.models.clock import now, uuid7
from alchemistore.models.text import escape
from alchemistore.operations.queue.lanes import raise_floors_with
from alchemistore.operations.queue.refresh import refresh_with
from alchemistore.operations.restarts import Found, Patterns, restart_failed, with_patterns
from alchemistore.operations.results import add_result_with
from alchemistore.operations.statuses import SET_STATUS
from alchemistore.operations.task_sets import form

log = logging.getLogger(__name__)

Restart: TypeAlias = Callable[[Connection, dict[str, Any]], bool]

# Locks a task and the tasks that extend it, because completing it makes them claimable. Locking in
# the order of keys prevents deadlocks.
LOCK_TASK_AND_CHILDREN = text(f"""
    SELECT t.scope_id, t.token, t.status
    FROM (
        SELECT
            {SCOPE_ID} AS scope_id,
            CAST(:token AS uuid) AS task
        UNION ALL
        SELECT e.scope_id, e.task FROM extends AS e
        WHERE e.scope_id = {SCOPE_ID}
            AND e.parent = :token
        ORDER BY task
    ) AS x
    -- Looks up and locks each task by key, one by one and in order.
    CROSS JOIN LATERAL (
        SELECT t.scope_id, t.token, t.status FROM tasks AS t
        WHERE t.scope_id = x.scope_id AND t.token = x.task FOR NO KEY UPDATE
    ) AS t
""")
# Finds the attempt of the sender: the one that it names, else the last one with this result, else
# the last one.
FIND_ATTEMPT_OF_SENDER = text(f"""
    SELECT a.attempt, a.outcome, c.attempt IS NOT NULL AS holds
    FROM attempts AS a
    LEFT JOIN claims AS c
        ON c.scope_id = a.scope_id AND c.task = a.task AND c.attempt = a.attempt
    WHERE a.scope_id = {SCOPE_ID} AND a.task = :token
        AND (CAST(:service AS text) IS NULL OR a.service = :service)
        AND (CAST(:attempt AS integer) IS NULL OR a.attempt = :attempt)
    ORDER BY (a.result IS NOT DISTINCT FROM :result OR a.attempt IS NOT DISTINCT FROM (
        SELECT l.attempt FROM task_results AS l
        WHERE l.scope_id = {SCOPE_ID} AND l.task = :token AND l.result = :result
    )) DESC, a.attempt DESC
    LIMIT 1
""")
ADD_ENVIRONMENT = text("""
    WITH
    -- Stores the environment, unless it is known.
    known AS (
        INSERT INTO environments (scope_id, token, packages, created_at)
        VALUES (:scope_id, :token, :packages, :now)
        ON CONFLICT DO NOTHING
    )
    UPDATE attempts SET environment = :token
    WHERE scope_id = :scope_id AND task = :task AND attempt = :attempt AND environment IS NULL
""")


def settle_task(
    tx: Connection,
    task: ScopedKey | str,
    protocoldagresultref: ProtocolDAGResultRef,
    compute_service_id: str | None = None,
    attempt: int | None = None,
    tracebacks: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settlement:
    """Store a reference to a result and apply all consequences, in one transaction.

    ===============  ======  =======================  ============================================
    sender           result  status of the task       consequences
    ===============  ======  =======================  ============================================
    holds the claim  ok      running                  task complete, claim ends, attempt complete
    holds the claim  failed  running                  task error, claim ends, attempt error
    has no claim     ok      waiting, running, error  task complete, another claim ends superseded
    has no claim     failed  any                      status unchanged
    any              any     complete, invalid,       status unchanged
                             deleted
    ===============  ======  =======================  ============================================

    If the task fails, the restart patterns of its hubs apply, as in `resolve_task_restarts`: it may
    be waiting again at once, or be removed from hubs.

    The reference is always stored and linked to the attempt of the sender, so no finished result is
    lost. The call is idempotent: a client that missed the response can repeat it. If the sender has
    claimed the task for the first time since the first call, the repeat is attributed to that
    attempt.

    Parameters
    ----------
    task : ScopedKey or str
        The task.
    protocoldagresultref : ProtocolDAGResultRef
        The reference. The result itself must already be in the object store.
    compute_service_id : ComputeServiceID or str, optional
        The service that ran the task.
    attempt : int, optional
        The number of the attempt. Default: the last attempt of this service at the task.
    tracebacks : sequence of str, optional
        The tracebacks of a failure, stored with the reference.
    environment : mapping of str to str, optional
        Package names and versions of the environment that the task ran in, stored with the attempt.
        Equal environments are stored once.

    Returns
    -------
    Settlement
        The key of the reference, the new status of the task, the attempt and its outcome.

    Raises
    ------
    KeyError
        If there is no such task.
    ValueError
        If `task` is not the key of a task, the reference has another scope than the task, or the
        tracebacks have more than 64 MiB together.
    """
    key, ref = parse_key(task, "Task"), protocoldagresultref

    def act(patterns: Patterns, found: Found) -> Settlement:
        with together(tx) as send:
            rows = send(LOCK_TASK_AND_CHILDREN, parameters(key))
            attempts = _find_sender(send, key, ref, compute_service_id, attempt)
        return settle(
            tx,
            _locked(key, rows.rows),
            ref,
            compute_service_id,
            _sender(attempts),
            tracebacks=tracebacks,
            environment=environment,
            restart=partial(restart_failed, patterns=patterns, found=found),
            last=ref.ok,
        )

    if ref.ok:
        return act({}, defaultdict(dict))
    return with_patterns(tx, parse_keys(tx, [key], later=True).parameters, act)


class Sender(NamedTuple):
    """The attempt of the sender of a result, and whether it still holds the claim."""

    attempt: int
    outcome: AttemptOutcome | None
    holds: bool


class LockedTask(NamedTuple):
    """A task that is locked, with the tasks that extend it."""

    key: ScopedKey
    scope_id: int
    status: TaskStatusEnum


def lock_task(tx: Connection, key: ScopedKey) -> LockedTask:
    """Lock a task and the tasks that extend it.

    Raises
    ------
    KeyError
        If there is no such task.
    """
    return _locked(key, tx.execute(LOCK_TASK_AND_CHILDREN, parameters(key)).all())


def _locked(key: ScopedKey, rows: Sequence[Any]) -> LockedTask:
    row = next((row for row in rows if row.token == key.token), None)
    if row is None:
        raise MissingObjectError(key)
    return LockedTask(key, row.scope_id, TaskStatusEnum(row.status))


def settle(
    tx: Connection,
    task: LockedTask,
    ref: ProtocolDAGResultRef,
    service: str | None,
    sender: Sender | None,
    *,
    tracebacks: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    restart: Restart | None = None,
    last: bool = False,
) -> Settlement:
    """Settle a locked task, as `settle_task` describes.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    task : LockedTask
        The task.
    ref : ProtocolDAGResultRef
        The reference.
    service : str or None
        The service that ran the task.
    sender : Sender or None
        Its attempt, as `find_sender` returns it.
    tracebacks, environment
        As in `settle_task`.
    restart : callable, optional
        `restart_failed` with the patterns of its hubs, which are locked before the task. Without
        it, a failed task stays in error, and a later call has to apply the patterns.
    last : bool, default False
        Whether nothing follows in the call; see `together`.
    """
    number = None if sender is None else sender.attempt
    holds = sender is not None and sender.holds
    status, outcome = _consequence(ref.ok, holds, task.status)
    settled = {"scope_ids": [task.scope_id], "tokens": [task.key.token]}
    may_restart = status is TaskStatusEnum.error and restart is not None
    with together(tx, last=last and not may_restart) as send:
        result = add_result_with(
            send, task.key, task.scope_id, ref, number, tracebacks, settles=holds
        )
        if environment is not None and number is not None:
            _add_environment(send, task, number, environment)
        if status is not None:
            _finish(send, task, status, outcome, None if holds else number, service)
        if status is not None and not may_restart:
            _requeue(send, settled, status)
    if may_restart and restart is not None:
        if restart(tx, settled):
            status = TaskStatusEnum.waiting
        with together(tx) as send:
            _requeue(send, settled, TaskStatusEnum.waiting)
    if not holds:
        _log_late(task.key, number, ref.ok, task.status, status)
    return Settlement(
        result=result,
        status=status or task.status,
        attempt=number,
        outcome=_outcome(outcome, holds, sender),
    )


def _requeue(send: Together, settled: dict[str, Any], status: TaskStatusEnum) -> None:
    refresh_with(send, settled, "children" if status is TaskStatusEnum.complete else "tasks")
    raise_floors_with(send)


def _log_late(
    task: ScopedKey,
    attempt: int | None,
    ok: bool,
    before: TaskStatusEnum,
    after: TaskStatusEnum | None,
) -> None:
    """Log a result whose sender does not hold the claim."""
    result = "success" if ok else "failure"
    if after is not None:
        log.info("%s: late %s of attempt %s; %s became %s", task, result, attempt, before, after)
    elif before in (TaskStatusEnum.invalid, TaskStatusEnum.deleted):
        log.warning("%s: late %s of attempt %s; the task is %s", task, result, attempt, before)
    else:
        log.info("%s: late %s of attempt %s; still %s", task, result, attempt, before)


def _outcome(
    outcome: AttemptOutcome | None, holds: bool, sender: Sender | None
) -> AttemptOutcome | None:
    """Return the outcome of the attempt of the sender."""
    if holds:
        return outcome
    return None if sender is None else sender.outcome


def _consequence(
    ok: bool, holds: bool, status: TaskStatusEnum
) -> tuple[TaskStatusEnum | None, AttemptOutcome | None]:
    """Return the new status of the task, if any, and the outcome of the attempt that ends."""
    if holds:
        if ok:
            return TaskStatusEnum.complete, AttemptOutcome.complete
        return TaskStatusEnum.error, AttemptOutcome.error
    if ok and status in (TaskStatusEnum.waiting, TaskStatusEnum.running, TaskStatusEnum.error):
        return TaskStatusEnum.complete, AttemptOutcome.superseded
    return None, None


def find_sender(
    tx: Connection,
    task: LockedTask,
    ref: ProtocolDAGResultRef,
    service: str | None,
    attempt: int | None = None,
) -> Sender | None:
    """Return the attempt of the sender of a result; ``None`` if it never claimed the task.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    task : LockedTask
        The task.
    ref : ProtocolDAGResultRef
        The reference.
    service : str or None
        The service that ran the task.
    attempt : int, optional
        The number of the attempt. Default: that with this result, else the last one.
    """
    with together(tx) as send:
        found = _find_sender(send, task.key, ref, service, attempt)
    return _sender(found)


def _find_sender(
    send: Together,
    task: ScopedKey,
    ref: ProtocolDAGResultRef,
    service: str | None,
    attempt: int | None,
) -> Answer:
    if service is None and attempt is None:
        return Answer()
    values = {
        **parameters(task),
        "service": None if service is None else str(service),
        "attempt": attempt,
        "result": gufe_token(ref.key),
    }
    return send(FIND_ATTEMPT_OF_SENDER, values)


def _sender(found: Answer) -> Sender | None:
    for row in found.rows:
        return Sender(row.attempt, row.outcome and AttemptOutcome(row.outcome), row.holds)
    return None


def _finish(
    send: Together,
    task: LockedTask,
    status: TaskStatusEnum,
    outcome: AttemptOutcome | None,
    late: int | None,
    service: str | None,
) -> None:
    reason = None
    if outcome is AttemptOutcome.superseded:
        reason = (
            "a result without an attempt arrived"
            if late is None
            else f"attempt {late} delivered its result late"
        )
    values = {
        "scope_ids": [task.scope_id],
        "tokens": [task.key.token],
        "status": status.value,
        "sources": ["waiting", "running", "error"],
        "outcome": outcome,
        "reason": reason,
        "actor": None if service is None else str(service),
        "change": uuid7(),
        "now": now(),
    }
    send(form(SET_STATUS[status], values), values)


def _add_environment(
    send: Together, task: LockedTask, attempt: int, environment: Mapping[str, str]
) -> None:
    packages = json.dumps(
        {escape(str(name)): escape(str(version)) for name, version in environment.items()},
        sort_keys=True,
    )
    token = UUID(hex=hashlib.md5(packages.encode(), usedforsecurity=False).hexdigest())
    send(
        ADD_ENVIRONMENT,
        {
            "scope_id": task.scope_id,
            "task": task.key.token,
            "attempt": attempt,
            "token": token,
            "packages": packages,
            "now": now(),
        },
    )
