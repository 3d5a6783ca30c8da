"""Tracebacks of failures, stored with the references to their results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from alchemistore.database.keys import parameters, parse_key
from alchemistore.database.sql import SCOPE_ID
from alchemistore.database.together import Together, together
from alchemistore.errors import MissingObjectError
from alchemistore.models import ScopedKey, Tracebacks
from alchemistore.models.clock import now
from alchemistore.models.result import check_tracebacks
from alchemistore.models.text import escape, unescape

# Locks the reference, so that it is not deleted meanwhile.
LOCK_RESULT = text(f"""
    SELECT scope_id, token FROM results
    WHERE scope_id = {SCOPE_ID} AND token = :token FOR KEY SHARE
""")
# The token is the same for the same lists, so that nothing is stored twice.
ADD_TRACEBACKS = text("""
    INSERT INTO tracebacks (
        scope_id, result, token, tracebacks, source_keys, failure_keys, size, created_at
    )
    SELECT :scope_id, :result,
        CAST(md5(CAST(ROW(x.tracebacks, x.source_keys, x.failure_keys) AS text)) AS uuid),
        x.tracebacks, x.source_keys, x.failure_keys, :size, :now
    FROM (
        SELECT CAST(:tracebacks AS text[]) AS tracebacks,
            CAST(:source_keys AS text[]) AS source_keys,
            CAST(:failure_keys AS text[]) AS failure_keys
    ) AS x
    WHERE NOT :first OR NOT EXISTS (
        SELECT FROM tracebacks AS b WHERE b.scope_id = :scope_id AND b.result = :result
    )
    ON CONFLICT DO NOTHING
""")
TRACEBACKS_OF_TASK = text(f"""
    SELECT b.tracebacks FROM task_results AS l
    JOIN tracebacks AS b ON b.scope_id = l.scope_id AND b.result = l.result
    WHERE l.scope_id = {SCOPE_ID} AND l.task = :token
    ORDER BY l.created_at, l.result, b.created_at, b.token
""")


def add_first_tracebacks(
    send: Together, scope_id: int, result: UUID | None, tracebacks: Sequence[str]
) -> None:
    """Store the tracebacks of a failure, unless its reference has some already.

    Parameters
    ----------
    send : Together
        The statements to send together.
    scope_id : int
        Id of the scope of the reference.
    result : UUID
        Token of the reference.
    tracebacks : sequence of str
        The tracebacks; nothing is stored if there are none.

    Raises
    ------
    ValueError
        If they are too long.
    """
    if tracebacks:
        _add(send, scope_id, result, [str(one) for one in tracebacks], (), (), first=True)


def _add(
    send: Together,
    scope_id: int,
    result: UUID | None,
    tracebacks: Sequence[str],
    source_keys: Sequence[str],
    failure_keys: Sequence[str],
    first: bool,
) -> None:
    send(
        ADD_TRACEBACKS,
        {
            "scope_id": scope_id,
            "result": result,
            "tracebacks": [escape(one) for one in tracebacks],
            "source_keys": [escape(one) for one in source_keys],
            "failure_keys": [escape(one) for one in failure_keys],
            "size": check_tracebacks(tracebacks),
            "first": first,
            "now": now(),
        },
    )


def add_protocol_dag_result_ref_tracebacks(
    tx: Connection,
    protocol_unit_failures: Iterable[Any],
    protocol_dag_result_ref_scoped_key: ScopedKey | str,
) -> None:
    """Store the tracebacks of the failed units of a result with its reference.

    Restart patterns are compared with them; see `resolve_task_restarts`.

    Parameters
    ----------
    protocol_unit_failures : iterable of gufe.ProtocolUnitFailure
        The failures, in the order in which to store them. Storing the same failures again changes
        nothing; others are added.
    protocol_dag_result_ref_scoped_key : ScopedKey or str
        Key of the reference, as `set_task_result` returns it.

    Raises
    ------
    KeyError
        If there is no such reference.
    ValueError
        If it is the key of something else, if there are no failures, if a traceback is empty, or if
        they have more than 64 MiB together.
    TypeError
        If something else than failures is given.
    """
    key = parse_key(protocol_dag_result_ref_scoped_key, "ProtocolDAGResultRef")
    given = _tracebacks(protocol_unit_failures)
    row = tx.execute(LOCK_RESULT, parameters(key)).first()
    if row is None:
        raise MissingObjectError(key)
    with together(tx) as send:
        _add(
            send,
            row.scope_id,
            row.token,
            given.tracebacks,
            given.source_keys,
            given.failure_keys,
            first=False,
        )


def _tracebacks(failures: Iterable[Any]) -> Tracebacks:
    listed = list(failures)
    for one in listed:
        if not all(hasattr(one, name) for name in ("traceback", "source_key", "key")):
            raise TypeError(f"expected failures of protocol units, not {type(one).__name__}")
    if not listed:
        raise ValueError("protocol_unit_failures is empty; pass at least one failure")
    return Tracebacks(
        tracebacks=tuple(one.traceback for one in listed),
        source_keys=tuple(str(one.source_key) for one in listed),
        failure_keys=tuple(str(one.key) for one in listed),
    )


def get_task_tracebacks(tx: Connection, task: ScopedKey | str) -> list[list[str]]:
    """Return the tracebacks stored with the results of a task, oldest result first.

    Parameters
    ----------
    task : ScopedKey or str
        The task.

    Returns
    -------
    list of list of str
        One list for each time that tracebacks were stored with a result; empty if there is no such
        task.
    """
    key = parse_key(task)
    if key.qualname != "Task":
        return []
    stored = tx.scalars(TRACEBACKS_OF_TASK, parameters(key))
    return [[unescape(one) for one in tracebacks] for tracebacks in stored]
