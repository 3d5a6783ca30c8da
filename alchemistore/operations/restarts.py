"""Restart patterns: failures whose tracebacks match them are tried again, some times.

Patterns belong to a hub and apply to the tasks on it. Each counts the restarts of each task. A task
in error is decided on by each of its hubs that has patterns, with the tracebacks of its latest
result that has any:

==============================================  ====================================================
patterns of the hub                             decision
==============================================  ====================================================
none matches, or there are no tracebacks        the task is removed from the hub
some match, one of them at its maximum          the task is removed from the hub
some match, none of them at its maximum         the retries of these are counted, the task restarts
==============================================  ====================================================

A task that one of its hubs restarts becomes waiting, and so can be claimed from all hubs that it is
still on.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from alchemistore.database.arguments import integer
from alchemistore.database.keys import parameters, parse_hub, parse_keys
from alchemistore.database.planner import FENCE
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import MissingObjectError
from alchemistore.models import AttemptOutcome, ScopedKey, TaskRestartPattern, TaskStatusEnum
from alchemistore.models.clock import now, uuid7
from alchemistore.models.text import escape, unescape
from alchemistore.operations.actions import LOCK_HUB_AGAINST_DELETION
from alchemistore.operations.matching import check_pattern, matches
from alchemistore.operations.queue.lanes import raise_floors_throttled
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.statuses import SET_STATUS
from alchemistore.operations.task_sets import TASKS, lock

log = logging.getLogger(__name__)

# Bytes of tracebacks that are read at once.
PORTION = 2**27
REASON = "a restart pattern matches the traceback"

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
    SELECT DISTINCT task FROM restart_counters
    WHERE scope_id = :scope_id AND taskhub = :taskhub AND pattern = ANY(CAST(:patterns AS uuid[]))
""")
# The counters go with the patterns.
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
TASKS_OF_HUB = text("SELECT task FROM actions WHERE scope_id = :scope_id AND taskhub = :taskhub")

# The patterns of all hubs that tasks are on, locked against removal in the order of their keys.
LOCK_PATTERNS_OF_TASKS = text(f"""
    SELECT p.scope_id, p.taskhub, p.token, p.pattern, p.max_retries
    FROM (
        SELECT DISTINCT a.scope_id, a.taskhub FROM ({TASKS}) AS x
        -- Looks up the actions of each task by key.
        CROSS JOIN LATERAL (
            SELECT a.scope_id, a.taskhub FROM actions AS a
            WHERE a.scope_id = x.scope_id AND a.task = x.task {FENCE}
        ) AS a
    ) AS hub
    JOIN restart_patterns AS p ON p.scope_id = hub.scope_id AND p.taskhub = hub.taskhub
    ORDER BY p.scope_id, p.taskhub, p.token
    FOR KEY SHARE OF p
""")
# The tasks in error with each of their hubs that has patterns, with what these have counted, and
# with the tracebacks of their latest result that has any. A result without a time of creation
# counts as the latest.
FAILED_TASKS = text(f"""
    SELECT a.scope_id, a.task, a.taskhub, c.patterns, c.retries,
        latest.result, latest.tokens, latest.sizes
    FROM ({TASKS}) AS x
    -- Looks up each task by key.
    CROSS JOIN LATERAL (
        SELECT FROM tasks AS t
        WHERE t.scope_id = x.scope_id AND t.token = x.task AND t.status = 'error' {FENCE}
    ) AS t
    -- Looks up its actions by key, and whether their hubs have patterns.
    CROSS JOIN LATERAL (
        SELECT a.scope_id, a.task, a.taskhub FROM actions AS a
        WHERE a.scope_id = x.scope_id AND a.task = x.task AND EXISTS (
            SELECT FROM restart_patterns AS p
            WHERE p.scope_id = a.scope_id AND p.taskhub = a.taskhub
        ) {FENCE}
    ) AS a
    -- Looks up the counters of each action by key.
    CROSS JOIN LATERAL (
        SELECT array_agg(c.pattern) AS patterns, array_agg(c.retries) AS retries
        FROM restart_counters AS c
        WHERE c.scope_id = a.scope_id AND c.taskhub = a.taskhub AND c.task = a.task
    ) AS c
    -- Looks up its results by key, each with its tracebacks.
    LEFT JOIN LATERAL (
        SELECT l.result, b.tokens, b.sizes FROM task_results AS l
        CROSS JOIN LATERAL (
            SELECT r.datetime_created FROM results AS r
            WHERE r.scope_id = l.scope_id AND r.token = l.result {FENCE}
        ) AS r
        CROSS JOIN LATERAL (
            SELECT array_agg(b.token) AS tokens, array_agg(b.size) AS sizes FROM tracebacks AS b
            WHERE b.scope_id = l.scope_id AND b.result = l.result
        ) AS b
        WHERE l.scope_id = x.scope_id AND l.task = x.task AND b.tokens IS NOT NULL
        ORDER BY r.datetime_created DESC NULLS FIRST, l.created_at DESC, l.result DESC
        LIMIT 1
    ) AS latest ON true
""")
READ_TRACEBACKS = text(f"""
    SELECT b.token, b.tracebacks
    FROM unnest(
        CAST(:scope_ids AS bigint[]), CAST(:results AS uuid[]), CAST(:tokens AS uuid[])
    ) AS x (scope_id, result, token)
    -- Looks up each by key.
    CROSS JOIN LATERAL (
        SELECT b.token, b.tracebacks FROM tracebacks AS b
        WHERE b.scope_id = x.scope_id AND b.result = x.result AND b.token = x.token {FENCE}
    ) AS b
""")
_PLACES = """
    unnest(
        CAST(:scope_ids AS bigint[]), CAST(:taskhubs AS uuid[]), CAST(:tasks AS uuid[])
    ) AS x (scope_id, taskhub, task)
"""
COUNT_RETRIES = text("""
    INSERT INTO restart_counters (scope_id, taskhub, task, pattern, retries)
    SELECT x.scope_id, x.taskhub, x.task, x.pattern, 1
    FROM unnest(
        CAST(:scope_ids AS bigint[]), CAST(:taskhubs AS uuid[]), CAST(:tasks AS uuid[]),
        CAST(:patterns AS uuid[])
    ) AS x (scope_id, taskhub, task, pattern)
    ON CONFLICT (scope_id, taskhub, task, pattern)
        DO UPDATE SET retries = restart_counters.retries + 1
""")
# The counters go with the actions.
REMOVE_FROM_HUBS = text(f"""
    DELETE FROM actions WHERE ctid = ANY(ARRAY(
        SELECT a.ctid FROM {_PLACES}
        -- Looks up each action by key.
        CROSS JOIN LATERAL (
            SELECT a.ctid FROM actions AS a
            WHERE a.scope_id = x.scope_id AND a.taskhub = x.taskhub AND a.task = x.task {FENCE}
        ) AS a
    ))
""")


class _Pattern(NamedTuple):
    token: UUID
    text: str
    max_retries: int


class _Place(NamedTuple):
    scope_id: int
    taskhub: UUID
    task: UUID


class _Tracebacks(NamedTuple):
    scope_id: int
    result: UUID
    token: UUID
    size: int


# Patterns by scope and hub.
Patterns: TypeAlias = Mapping[tuple[int, UUID], Sequence[_Pattern]]
# Whether patterns are found, by the token of the tracebacks and by pattern. Equal tracebacks have
# the same token, and many tasks fail for the same reason.
Found: TypeAlias = dict[UUID, dict[str, bool]]


def _token(pattern: str) -> UUID:
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
    row = tx.execute(LOCK_HUB_AGAINST_DELETION, parameters(hub)).first()
    if row is None:
        raise MissingObjectError(hub)
    values = {"scope_id": row.scope_id, "taskhub": row.token}
    if listed:
        tx.execute(
            ADD_PATTERNS,
            {
                **values,
                "patterns": [_token(pattern) for pattern in listed],
                "texts": [escape(pattern) for pattern in listed],
                "max_retries": maximum,
                "now": now(),
            },
        )
    tokens = list(tx.scalars(TASKS_OF_HUB, values))
    if tokens:
        _resolve(tx, {"scope_ids": [row.scope_id] * len(tokens), "tokens": tokens})


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
    tokens = [_token(pattern) for pattern in _listed(patterns)]
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
    if hub is None:
        return
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
    TaskRestartPattern(pattern="any", max_retries=maximum, taskhub_scoped_key=hub)
    tokens = [_token(pattern) for pattern in listed]
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


def resolve_task_restarts(
    tx: Connection, task_scoped_keys: Iterable[ScopedKey | str | None]
) -> None:
    """Restart tasks in error, or remove them from hubs, as the restart patterns of the hubs say.

    Each hub that a task is on and that has restart patterns decides on its own. The patterns are
    searched for, as by :func:`re.search`, in the tracebacks of the latest result of the task that
    has tracebacks. If none matches, or if one that matches has restarted the task as often as it
    may, the task is removed from the hub. Otherwise, each pattern that matches counts one retry,
    and the task becomes waiting. Hubs without patterns keep the task.

    `settle_task` does the same for the task that it settles, in its own transaction. The setters of
    a status do not.

    Parameters
    ----------
    task_scoped_keys : iterable of ScopedKey or str or None
        The tasks. Those that are missing or not in error are ignored.

    Raises
    ------
    TypeError
        If a single task is passed instead of a list.

    Notes
    -----
    A search that takes longer than a second finds nothing, which is logged.
    """
    keys = parse_keys(tx, task_scoped_keys)
    if keys:
        _resolve(tx, keys.parameters)


def _resolve(tx: Connection, tasks: dict[str, Any]) -> None:
    patterns = lock_patterns(tx, tasks)
    if not patterns:
        return
    # Searching may take long, so most of it is done before the tasks are locked.
    found: Found = {}
    search(tx, found, patterns, tx.execute(FAILED_TASKS, tasks).all())
    lock(tx, tasks)
    if restart_failed(tx, tasks, patterns, found):
        # Tasks in error, which may have been removed from hubs, are not in the queue.
        refresh(tx, tasks)
        raise_floors_throttled(tx)


def lock_patterns(tx: Connection, tasks: dict[str, Any]) -> Patterns:
    """Lock the restart patterns of the hubs that tasks are on against removal, and return them.

    This comes before the lock on the tasks, because the removal of patterns locks tasks, too.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    tasks : dict
        Their ``scope_ids`` and ``tokens``.
    """
    patterns: dict[tuple[int, UUID], list[_Pattern]] = defaultdict(list)
    for row in tx.execute(LOCK_PATTERNS_OF_TASKS, tasks):
        patterns[row.scope_id, row.taskhub].append(
            _Pattern(row.token, unescape(row.pattern), row.max_retries)
        )
    return patterns


def search(tx: Connection, found: Found, patterns: Patterns, failed: Sequence[Row[Any]]) -> None:
    """Find the patterns of hubs in the tracebacks of failed tasks, unless that has been done.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    found : Found
        What has been searched for, to be completed.
    patterns : mapping
        The patterns by scope and hub.
    failed : sequence of Row
        Rows of ``FAILED_TASKS``.
    """
    texts = {hub: {one.text for one in known} for hub, known in patterns.items()}
    wanted: dict[UUID, set[str]] = defaultdict(set)
    places: dict[UUID, _Tracebacks] = {}
    for row in failed:
        for token, size in zip(row.tokens or (), row.sizes or (), strict=True):
            missing = texts.get((row.scope_id, row.taskhub), set()) - found.get(token, {}).keys()
            if missing:
                wanted[token] |= missing
                places[token] = _Tracebacks(row.scope_id, row.result, token, size)
    for portion in _portions(places.values()):
        scopes, results, tokens, _ = (list(part) for part in zip(*portion, strict=True))
        values = {"scope_ids": scopes, "results": results, "tokens": tokens}
        for row in tx.execute(READ_TRACEBACKS, values):
            tracebacks = [unescape(one) for one in row.tracebacks]
            here = found.setdefault(row.token, {})
            for pattern in wanted[row.token]:
                here[pattern] = any(matches(pattern, one) for one in tracebacks)


def _portions(places: Iterable[_Tracebacks]) -> Iterator[list[_Tracebacks]]:
    """Split tracebacks into portions that fit into memory."""
    portion: list[_Tracebacks] = []
    total = 0
    for one in places:
        if portion and total + one.size > PORTION:
            yield portion
            portion, total = [], 0
        portion.append(one)
        total += one.size
    if portion:
        yield portion


def restart_failed(
    tx: Connection, tasks: dict[str, Any], patterns: Patterns, found: Found
) -> Sequence[tuple[int, UUID]]:
    """Restart locked tasks in error, or remove them from hubs; the queue is not refreshed.

    Parameters
    ----------
    tx : Connection
        The open transaction, in which the tasks are locked.
    tasks : dict
        Their ``scope_ids`` and ``tokens``; those that are not in error are ignored.
    patterns : mapping
        The patterns that were locked before the tasks.
    found : Found
        What has been searched for.

    Returns
    -------
    sequence of (int, UUID)
        Scope id and token of the tasks that are waiting now.
    """
    failed = tx.execute(FAILED_TASKS, tasks).all()
    if not failed:
        return ()
    if not {(row.scope_id, row.taskhub) for row in failed} <= patterns.keys():
        # A task has come to another hub meanwhile.
        patterns = lock_patterns(tx, tasks)
    search(tx, found, patterns, failed)
    cancelled: list[_Place] = []
    counted: list[tuple[_Place, UUID]] = []
    for row in failed:
        place = _Place(row.scope_id, row.taskhub, row.task)
        known = patterns.get((row.scope_id, row.taskhub))
        if known is None:
            # The last pattern of the hub has been removed meanwhile.
            continue
        searched = [found[token] for token in row.tokens or ()]
        hits = [one for one in known if any(where[one.text] for where in searched)]
        used = dict(zip(row.patterns or (), row.retries or (), strict=True))
        if hits and all(used.get(one.token, 0) < one.max_retries for one in hits):
            counted += [(place, one.token) for one in hits]
        else:
            cancelled.append(place)
    restarted = list(dict.fromkeys((place.scope_id, place.task) for place, _ in counted))
    _carry_out(tx, cancelled, counted, restarted)
    return restarted


def _carry_out(
    tx: Connection,
    cancelled: Sequence[_Place],
    counted: Sequence[tuple[_Place, UUID]],
    restarted: Sequence[tuple[int, UUID]],
) -> None:
    if cancelled:
        tx.execute(REMOVE_FROM_HUBS, _columns(cancelled))
    if counted:
        places = [place for place, _ in counted]
        values = {**_columns(places), "patterns": [pattern for _, pattern in counted]}
        tx.execute(COUNT_RETRIES, values)
        tx.execute(
            SET_STATUS[TaskStatusEnum.waiting],
            {
                "scope_ids": [scope_id for scope_id, _ in restarted],
                "tokens": [task for _, task in restarted],
                "status": TaskStatusEnum.waiting.value,
                "sources": [TaskStatusEnum.error.value],
                "outcome": AttemptOutcome.released,
                "reason": REASON,
                "actor": None,
                "change": uuid7(),
                "now": now(),
            },
        )
    log.info("%d tasks restarted, %d removals of failed from hubs", len(restarted), len(cancelled))


def _columns(places: Sequence[_Place]) -> dict[str, Any]:
    return {
        "scope_ids": [place.scope_id for place in places],
        "taskhubs": [place.taskhub for place in places],
        "tasks": [place.task for place in places],
    }
