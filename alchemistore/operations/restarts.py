"""Restarts: failed tasks whose tracebacks match a restart pattern run again, up to a maximum.

Patterns belong to a hub and apply to the tasks on it. Each counts the restarts of each task. Each
hub with patterns decides about a task in error, by the tracebacks of its latest result that has
any:

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

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Row, text

from alchemistore.database.keys import parse_keys
from alchemistore.database.planner import FENCE
from alchemistore.database.transaction import savepoint
from alchemistore.models import AttemptOutcome, ScopedKey, TaskStatusEnum
from alchemistore.models.clock import now, uuid7
from alchemistore.models.text import unescape
from alchemistore.operations.matching import matches
from alchemistore.operations.queue.lanes import raise_floors_throttled
from alchemistore.operations.queue.refresh import refresh
from alchemistore.operations.statuses import SET_STATUS
from alchemistore.operations.task_sets import TASKS, execute, lock

T = TypeVar("T")
log = logging.getLogger(__name__)

# Bytes of tracebacks that are read at once.
PORTION = 2**27
REASON = "a restart pattern matches the traceback"


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
TASKS_OF_HUB = text("SELECT task FROM actions WHERE scope_id = :scope_id AND taskhub = :taskhub")
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
        resolve(tx, keys.parameters)


def resolve(tx: Connection, tasks: dict[str, Any]) -> None:
    """Restart those of some tasks that are in error, or remove them from hubs.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    tasks : dict
        Their ``scope_ids`` and ``tokens``.
    """
    with_patterns(tx, tasks, partial(_resolve, tx, tasks, None))


def resolve_hub(tx: Connection, hub: dict[str, Any]) -> None:
    """Restart those tasks on a hub that are in error, or remove them from hubs.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    hub : dict
        The ``scope_id`` of the hub and its token as ``taskhub``.
    """
    tokens = list(tx.scalars(TASKS_OF_HUB, hub))
    if tokens:
        tasks = {"scope_ids": [hub["scope_id"]] * len(tokens), "tokens": tokens}
        with_patterns(tx, tasks, partial(_resolve, tx, tasks, hub))


def _resolve(
    tx: Connection,
    tasks: dict[str, Any],
    hub: dict[str, Any] | None,
    patterns: Patterns,
    found: Found,
) -> None:
    if not patterns:
        return
    # Searching may take long, so most of it is done before the tasks are locked.
    search(tx, found, patterns, execute(tx, FAILED_TASKS, tasks).all())
    lock(tx, tasks)
    if hub is not None:
        # Some may have been removed from the hub before they were locked.
        tokens = list(set(tasks["tokens"]).intersection(tx.scalars(TASKS_OF_HUB, hub)))
        tasks = {"scope_ids": [hub["scope_id"]] * len(tokens), "tokens": tokens}
    if restart_failed(tx, tasks, patterns, found):
        # Tasks in error, which may have been removed from hubs, are not in the queue.
        refresh(tx, tasks)
        raise_floors_throttled(tx)


def with_patterns(tx: Connection, tasks: dict[str, Any], act: Callable[[Patterns, Found], T]) -> T:
    """Lock the restart patterns of the hubs that tasks are on, and do something with the tasks.

    The patterns are locked before the tasks, because the removal of patterns does the same. If a
    task has come to another hub meanwhile, everything is undone, which also releases the locks, and
    done again.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    tasks : dict
        Their ``scope_ids`` and ``tokens``.
    act : callable
        Takes the patterns and what has been searched for, locks the tasks and calls
        `restart_failed`.

    Returns
    -------
    object
        What `act` returns.
    """
    found: Found = {}
    while True:
        with suppress(_OtherHubsError), savepoint(tx):
            return act(_lock_patterns(tx, tasks), found)


class _OtherHubsError(Exception):
    """A locked task is on a hub whose patterns are not locked."""


def _lock_patterns(tx: Connection, tasks: dict[str, Any]) -> Patterns:
    patterns: dict[tuple[int, UUID], list[_Pattern]] = defaultdict(list)
    for row in execute(tx, LOCK_PATTERNS_OF_TASKS, tasks):
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
    patterns, found
        What `with_patterns` passes on, which must be the caller.

    Returns
    -------
    sequence of (int, UUID)
        Scope id and token of the tasks that are waiting now.
    """
    failed = execute(tx, FAILED_TASKS, tasks).all()
    if not failed:
        return ()
    if not {(row.scope_id, row.taskhub) for row in failed} <= patterns.keys():
        raise _OtherHubsError
    search(tx, found, patterns, failed)
    cancelled: list[_Place] = []
    counted: list[tuple[_Place, UUID]] = []
    for row in failed:
        place = _Place(row.scope_id, row.taskhub, row.task)
        known = patterns[row.scope_id, row.taskhub]
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
        execute(
            tx,
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
    log.info(
        "%d failed tasks restarted, %d times a failed task was removed from a hub",
        len(restarted),
        len(cancelled),
    )


def _columns(places: Sequence[_Place]) -> dict[str, Any]:
    return {
        "scope_ids": [place.scope_id for place in places],
        "taskhubs": [place.taskhub for place in places],
        "tasks": [place.task for place in places],
    }
