"""Restart patterns of hubs: adding, changing, removing and listing them; see `restarts`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from alchemistore.database.arguments import integer
from alchemistore.database.keys import parameters, parse_hub, parse_keys
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import MissingObjectError
from alchemistore.models import ScopedKey, TaskRestartPattern
from alchemistore.models.clock import now
from alchemistore.models.text import escape, unescape
from alchemistore.operations.actions import LOCK_HUB
from alchemistore.operations.matching import check_pattern
from alchemistore.operations.restarts import resolve_hub
from alchemistore.operations.task_sets import lock

_GIVEN = "token = ANY(CAST(:patterns AS uuid[]))"
ADD_PATTERNS = text("""
    INSERT INTO restart_patterns (scope_id, taskhub, token, pattern, max_retries, created_at)
    SELECT :scope_id, :taskhub, x.token, x.pattern, :max_retries, :now
    FROM unnest(CAST(:patterns AS uuid[]), CAST(:texts AS text[])) AS x (token, pattern)
    ORDER BY x.token
    ON CONFLICT (scope_id, taskhub, token) DO UPDATE SET max_retries = excluded.max_retries
""")


def _locking(lock: str, condition: str) -> TextClause:
    return text(f"""
        SELECT scope_id, taskhub, token FROM restart_patterns
        WHERE scope_id = {SCOPE_ID} AND taskhub = :token AND {condition}
        ORDER BY token {lock}
    """)


# Waits for calls that count retries of these patterns, and makes later ones wait.
LOCK_PATTERNS = _locking("FOR UPDATE", _GIVEN)
LOCK_ALL_PATTERNS = _locking("FOR UPDATE", "true")
LOCK_PATTERNS_TO_CHANGE = _locking("FOR NO KEY UPDATE", _GIVEN)
COUNTED_TASKS = text("""
    SELECT task FROM actions
    WHERE scope_id = :scope_id AND taskhub = :taskhub AND patterns && CAST(:patterns AS uuid[])
""")
REMOVE_COUNTERS = text("""
    UPDATE actions SET (patterns, retries) = (
        SELECT array_agg(c.pattern), array_agg(c.retries)
        FROM unnest(patterns, retries) AS c (pattern, retries)
        WHERE c.pattern <> ALL(CAST(:patterns AS uuid[]))
    )
    WHERE scope_id = :scope_id AND taskhub = :taskhub AND patterns && CAST(:patterns AS uuid[])
""")
REMOVE_PATTERNS = text(f"""
    DELETE FROM restart_patterns WHERE scope_id = :scope_id AND taskhub = :taskhub AND {_GIVEN}
""")
SET_MAXIMUM = text(f"""
    UPDATE restart_patterns SET max_retries = :max_retries
    WHERE scope_id = :scope_id AND taskhub = :taskhub AND {_GIVEN}
""")
PATTERNS_OF_HUBS = text("""
    SELECT x.position, p.pattern, p.max_retries
    FROM unnest(CAST(:scope_ids AS bigint[]), CAST(:tokens AS uuid[]))
        WITH ORDINALITY AS x (scope_id, taskhub, position)
    JOIN restart_patterns AS p ON p.scope_id = x.scope_id AND p.taskhub = x.taskhub
""")


def token_of_pattern(pattern: str) -> UUID:
    """Return the token of a restart pattern, the MD5 of its stored text."""
    stored = escape(pattern).encode()
    return UUID(hex=hashlib.md5(stored, usedforsecurity=False).hexdigest())


def _listed(patterns: Iterable[str] | str) -> list[str]:
    """Return the distinct patterns; a single text is one pattern."""
    given = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in given:
        if not isinstance(pattern, str):
            raise ValueError(f"a restart pattern must be text, not {type(pattern).__name__}")
    return list(dict.fromkeys(given))


def add_task_restart_patterns(
    tx: Connection,
    taskhub: ScopedKey | str | None,
    patterns: Iterable[str] | str,
    number_of_retries: int,
) -> None:
    """Add restart patterns to a hub, and resolve all tasks on it.

    Tasks on the hub that are in error are restarted, or removed from the hub, at once; see
    `resolve_task_restarts`.

    Parameters
    ----------
    taskhub : ScopedKey or str or None
        The hub.
    patterns : iterable of str, or str
        Regular expressions, as :func:`re.search` takes them, or one of them. A pattern that the hub
        has already gets the new maximum and keeps what it has counted.
    number_of_retries : int
        How often each pattern may restart a task, at least 1.

    Raises
    ------
    KeyError
        If there is no such hub.
    ValueError
        If `taskhub` is the key of something else, a pattern is empty, too long or not a regular
        expression, or the number is not positive. Nothing is added then.
    TypeError
        If the number is not an integer.
    """
    hub, listed = parse_hub(taskhub), _listed(patterns)
    maximum = integer(number_of_retries, "number_of_retries")
    if hub is None:
        raise MissingObjectError("the task hub")
    for pattern in listed:
        TaskRestartPattern(pattern=pattern, max_retries=maximum, taskhub_scoped_key=hub)
        check_pattern(pattern)
    row = tx.execute(LOCK_HUB, parameters(hub)).first()
    if row is None:
        raise MissingObjectError(hub)
    values = {"scope_id": row.scope_id, "taskhub": row.token}
    if listed:
        tx.execute(
            ADD_PATTERNS,
            {
                **values,
                "patterns": [token_of_pattern(pattern) for pattern in listed],
                "texts": [escape(pattern) for pattern in listed],
                "max_retries": maximum,
                "now": now(),
            },
        )
    resolve_hub(tx, values)


def remove_task_restart_patterns(
    tx: Connection, taskhub: ScopedKey | str | None, patterns: Iterable[str] | str
) -> None:
    """Remove restart patterns from a hub, with what they have counted. No task changes.

    Parameters
    ----------
    taskhub : ScopedKey or str or None
        The hub. A missing hub and ``None`` have no patterns.
    patterns : iterable of str, or str
        The exact patterns, or one of them. Unknown ones are ignored.

    Raises
    ------
    ValueError
        If `taskhub` is the key of something else, or a pattern is not text.
    """
    tokens = [token_of_pattern(pattern) for pattern in _listed(patterns)]
    _remove(tx, LOCK_PATTERNS, taskhub, tokens)


def clear_task_restart_patterns(tx: Connection, taskhub: ScopedKey | str | None) -> None:
    """Remove all restart patterns from a hub, with what they have counted. No task changes.

    Parameters
    ----------
    taskhub : ScopedKey or str or None
        The hub. A missing hub and ``None`` have no patterns.

    Raises
    ------
    ValueError
        If `taskhub` is the key of something else.
    """
    _remove(tx, LOCK_ALL_PATTERNS, taskhub, [])


def _remove(
    tx: Connection, statement: TextClause, taskhub: ScopedKey | str | None, tokens: list[UUID]
) -> None:
    hub = parse_hub(taskhub)
    if hub is None or tx.execute(LOCK_HUB, parameters(hub)).first() is None:
        return
    # A separate statement, which sees the patterns that were added before the lock was granted.
    rows = tx.execute(statement, {**parameters(hub), "patterns": tokens}).all()
    if not rows:
        return
    scope_id = rows[0].scope_id
    found = {
        "scope_id": scope_id,
        "taskhub": rows[0].taskhub,
        "patterns": [row.token for row in rows],
    }
    # A lock on a task covers its counters.
    tasks = list(tx.scalars(COUNTED_TASKS, found))
    lock(tx, {"scope_ids": [scope_id] * len(tasks), "tokens": tasks})
    tx.execute(REMOVE_COUNTERS, found)
    tx.execute(REMOVE_PATTERNS, found)


def set_task_restart_patterns_max_retries(
    tx: Connection,
    taskhub_scoped_key: ScopedKey | str | None,
    patterns: Iterable[str] | str,
    max_retries: int,
) -> None:
    """Set how often restart patterns of a hub may restart a task. No task changes.

    Parameters
    ----------
    taskhub_scoped_key : ScopedKey or str or None
        The hub. A missing hub and ``None`` have no patterns.
    patterns : iterable of str, or str
        The exact patterns, or one of them. Unknown ones are ignored.
    max_retries : int
        The new maximum, at least 1.

    Raises
    ------
    ValueError
        If `taskhub_scoped_key` is the key of something else, a pattern is not text, or the number
        is not positive.
    TypeError
        If the number is not an integer.
    """
    hub, listed = parse_hub(taskhub_scoped_key), _listed(patterns)
    maximum = integer(max_retries, "max_retries")
    if hub is None:
        return
    # Raises the same error as for a new pattern.
    TaskRestartPattern(pattern="any", max_retries=maximum, taskhub_scoped_key=hub)
    if tx.execute(LOCK_HUB, parameters(hub)).first() is None:
        return
    tokens = [token_of_pattern(pattern) for pattern in listed]
    rows = tx.execute(LOCK_PATTERNS_TO_CHANGE, {**parameters(hub), "patterns": tokens}).all()
    if rows:
        found = {"scope_id": rows[0].scope_id, "taskhub": rows[0].taskhub, "patterns": tokens}
        tx.execute(SET_MAXIMUM, {**found, "max_retries": maximum})


def get_task_restart_patterns(
    tx: Connection, taskhubs: Iterable[ScopedKey | str | None]
) -> dict[ScopedKey | None, set[tuple[str, int]]]:
    """Return the restart patterns of hubs, each with its largest number of retries.

    Parameters
    ----------
    taskhubs : iterable of ScopedKey or str or None
        The hubs.

    Returns
    -------
    dict of ScopedKey to set of (str, int)
        One entry per hub; the set is empty for a missing hub and for ``None``.

    Raises
    ------
    TypeError
        If a single hub is passed instead of a list.
    ValueError
        If a hub is the key of something else.
    """
    if isinstance(taskhubs, str | ScopedKey):
        raise TypeError(f"expected a list of hubs, not the single key {taskhubs}")
    hubs = [parse_hub(hub) for hub in taskhubs]
    keys = parse_keys(tx, hubs, "TaskHub")
    found: dict[ScopedKey | None, set[tuple[str, int]]] = {hub: set() for hub in hubs}
    for row in tx.execute(PATTERNS_OF_HUBS, keys.parameters):
        found[keys.distinct[row.position - 1]].add((unescape(row.pattern), row.max_retries))
    return found
