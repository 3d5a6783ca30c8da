"""Delivery: what the server of alchemiscale does with a result, in as few calls as it can.

That server stores a reference first. Tracebacks, the failure of the service and restarts follow in
calls of their own, any of which may never come.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from alchemistore.database.keys import gufe_token, parse_key
from alchemistore.database.planner import FENCE
from alchemistore.models import Delivery, ProtocolDAGResultRef, ScopedKey
from alchemistore.models.clock import now, uuid7
from alchemistore.models.text import unescape
from alchemistore.operations.results import CLAIMED_ATTEMPT, add_result
from alchemistore.operations.services import ADD_FAILURE
from alchemistore.operations.settlement import LockedTask, find_sender, lock_task, settle

LOCK_SERVICE_OF_DELIVERY = text("""
    SELECT identifier FROM compute_services WHERE identifier = :identifier FOR KEY SHARE
""")
# The reference under which a result of the task is stored already. A server sends it again, with
# another time, if it is sent again.
FIND_DELIVERED = text(f"""
    SELECT r.location, r.scope, r.creator, r.datetime_created
    FROM task_results AS l
    -- Looks up each result of the task by key.
    CROSS JOIN LATERAL (
        SELECT r.token, r.location, r.scope, r.creator, r.datetime_created FROM results AS r
        WHERE r.scope_id = l.scope_id AND r.token = l.result
            AND r.obj_key = :obj_key AND r.ok = :ok {FENCE}
    ) AS r
    WHERE l.scope_id = :scope_id AND l.task = :task
    -- The same reference, else the first one.
    ORDER BY r.token = :result DESC, l.created_at, r.token
    LIMIT 1
""")


def deliver_result(
    tx: Connection,
    task: ScopedKey | str,
    protocoldagresultref: ProtocolDAGResultRef,
    compute_service_id: str | None = None,
) -> Delivery:
    """Store a reference to a result, and settle the task if the sender has claimed it.

    In one transaction, the reference is stored, the task becomes complete or error, the claim and
    the attempt end, and a failure is recorded for the service. The rules are those of
    `settle_task`, except that

    - a sender that never claimed the task changes no status, as in `set_task_result`;
    - a result that is delivered again, though with another time, keeps its first reference, and its
      failure is recorded once;
    - restart patterns are not applied. Add the tracebacks with
      `add_protocol_dag_result_ref_tracebacks`, then call `resolve_task_restarts`. If these calls
      never come, the task stays in error until the result is delivered again, or until
      ``alchemistore database check --repair``.

    Parameters
    ----------
    task : ScopedKey or str
        The task.
    protocoldagresultref : ProtocolDAGResultRef
        The reference. The result itself must already be in the object store.
    compute_service_id : ComputeServiceID or str, optional
        The service that ran the task.

    Returns
    -------
    Delivery
        The key of the reference, the status of the task, and what this delivery changed.

    Raises
    ------
    KeyError
        If there is no such task.
    ValueError
        If `task` is not the key of a task, or the reference has another scope than the task.
    """
    key = parse_key(task, "Task")
    service = None if compute_service_id is None else str(compute_service_id)
    failed = not protocoldagresultref.ok
    if failed and service is not None:
        # Registrations are locked before tasks.
        tx.execute(LOCK_SERVICE_OF_DELIVERY, {"identifier": service})
    locked = lock_task(tx, key)
    earlier = _find_delivered(tx, locked, protocoldagresultref)
    ref = protocoldagresultref if earlier is None else earlier
    repeated = earlier is not None
    sender = find_sender(tx, locked, ref, service)
    if sender is None:
        place = {"scope_id": locked.scope_id, "task": key.token}
        attempt = tx.scalar(CLAIMED_ATTEMPT, place)
        result = add_result(tx, key, locked.scope_id, ref, attempt)
        return Delivery(result=result, status=locked.status, repeated=repeated)
    settlement = settle(tx, locked, ref, service, sender, last=not failed)
    settled = settlement.status is not locked.status
    if failed and (settled or not repeated):
        failure = {"identifier": service, "failed": now(), "token": uuid7()}
        tx.execute(ADD_FAILURE, failure)
    return Delivery(
        result=settlement.result,
        status=settlement.status,
        attempt=settlement.attempt,
        settled=settled,
        repeated=repeated,
    )


def _find_delivered(
    tx: Connection, task: LockedTask, ref: ProtocolDAGResultRef
) -> ProtocolDAGResultRef | None:
    values = {"obj_key": ref.obj_key, "ok": ref.ok, "result": gufe_token(ref.key)}
    row = tx.execute(
        FIND_DELIVERED, {**values, "scope_id": task.scope_id, "task": task.key.token}
    ).first()
    if row is None:
        return None
    return ProtocolDAGResultRef(
        obj_key=ref.obj_key,
        ok=ref.ok,
        location=row.location,
        scope=row.scope,
        creator=unescape(row.creator),
        datetime_created=row.datetime_created,
    )
