"""Logs of attempts: what was written while a task ran, and why it has no result."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from alchemistore.database.arguments import integer
from alchemistore.database.keys import parameters, parse_key
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import MissingObjectError
from alchemistore.models import AttemptLog, ScopedKey
from alchemistore.models.clock import now
from alchemistore.models.result import check_tracebacks
from alchemistore.models.text import escape, unescape

# Bytes of the output that are kept.
LOG_MAX = 2**16
# The largest numbers that the columns hold.
ATTEMPT_MAX, SIZE_MAX = 2**31 - 1, 2**63 - 1

# The task is locked as by the setters of a status, so that the answer is true until the end of the
# transaction.
LOCK_TASK_OF_ATTEMPT = text(f"""
    SELECT t.scope_id, t.token, EXISTS (
        SELECT FROM attempts AS a
        WHERE a.scope_id = t.scope_id AND a.task = t.token AND a.attempt = :attempt
    ) AS tried
    FROM tasks AS t
    WHERE t.scope_id = {SCOPE_ID} AND t.token = :token FOR NO KEY UPDATE
""")
IS_OPEN = text("""
    SELECT ended_at IS NULL FROM attempts
    WHERE scope_id = :scope_id AND task = :task AND attempt = :attempt
""")
PUT_LOG = text("""
    INSERT INTO attempt_logs (scope_id, task, attempt, log, size, tracebacks, created_at)
    VALUES (:scope_id, :task, :attempt, :log, :size, CAST(:tracebacks AS text[]), :now)
    ON CONFLICT (scope_id, task, attempt) DO UPDATE
        SET log = excluded.log, size = excluded.size, tracebacks = excluded.tracebacks
""")
LOGS_OF_TASK = text(f"""
    SELECT attempt, log, size, tracebacks, created_at FROM attempt_logs
    WHERE scope_id = {SCOPE_ID} AND task = :token ORDER BY attempt
""")


def set_attempt_log(
    tx: Connection,
    task: ScopedKey | str,
    attempt: int,
    log: str,
    tracebacks: Sequence[str] = (),
    size: int | None = None,
) -> bool:
    """Set the log of an attempt, which may have ended. Nothing else changes.

    Parameters
    ----------
    task : ScopedKey or str
        The task.
    attempt : int
        Number of the attempt.
    log : str
        What was written to standard output and standard error. The last 64 KiB are stored.
    tracebacks : sequence of str, optional
        Why the attempt failed, if it has no result.
    size : int, optional
        Number of bytes of the whole output, if `log` is only its end. Default: that of `log`.

    Returns
    -------
    bool
        Whether the attempt is open, so that its service holds the claim. In a transaction, this
        stays true until its end.

    Raises
    ------
    KeyError
        If there is no such task or attempt.
    ValueError
        If `task` is the key of something else, `size` is negative, or the tracebacks have more than
        64 MiB together.
    TypeError
        If `attempt` or `size` is not an integer, or `log` or a traceback is not a text.
    """
    key = parse_key(task, "Task")
    number = integer(attempt, "attempt")
    listed = [tracebacks] if isinstance(tracebacks, str) else list(tracebacks)
    for one in (log, *listed):
        if not isinstance(one, str):
            raise TypeError(f"the log and the tracebacks must be texts, not {type(one).__name__}")
    check_tracebacks(listed)
    data = log.encode(errors="surrogatepass")
    whole = len(data) if size is None else integer(size, "size")
    if whole < 0:
        raise ValueError(f"size must not be negative, not {whole}")
    row = None
    if 1 <= number <= ATTEMPT_MAX:
        row = tx.execute(LOCK_TASK_OF_ATTEMPT, {**parameters(key), "attempt": number}).first()
    if row is None or not row.tried:
        raise MissingObjectError(f"attempt {number} at {key}")
    values = {"scope_id": row.scope_id, "task": row.token, "attempt": number}
    tx.execute(
        PUT_LOG,
        {
            **values,
            "log": escape(_end(data)),
            "size": min(whole, SIZE_MAX),
            "tracebacks": [escape(one) for one in listed],
            "now": now(),
        },
    )
    # Another session may have ended the attempt before the task was locked.
    return bool(tx.scalar(IS_OPEN, values))


def _end(data: bytes) -> str:
    """Return the end of a text, without the rest of a character that was cut."""
    end = data[-LOG_MAX:]
    if len(end) < len(data):
        end = end.lstrip(bytes(range(0x80, 0xC0)))
    return end.decode(errors="surrogatepass")


def get_task_logs(tx: Connection, task: ScopedKey | str) -> list[AttemptLog]:
    """Return the logs of the attempts at a task, in the order of the attempts.

    Parameters
    ----------
    task : ScopedKey or str
        The task.

    Returns
    -------
    list of AttemptLog
        Without the attempts that have none; empty if there is no such task.
    """
    key = parse_key(task)
    if key.qualname != "Task":
        return []
    return [
        AttemptLog(
            attempt=row.attempt,
            log=unescape(row.log),
            size=row.size,
            tracebacks=tuple(map(unescape, row.tracebacks)),
            created_at=row.created_at,
        )
        for row in tx.execute(LOGS_OF_TASK, parameters(key))
    ]
