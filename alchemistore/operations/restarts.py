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
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from sqlalchemy import Connection, Row, text

from alchemistore.database.keys import array, parse_keys
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
# Here and below, UUIDs are texts, which Python hashes and psycopg writes much faster.
LOCK_PATTERNS_OF_TASKS = text(f"""
    SELECT p.scope_id, CAST(p.taskhub AS text) AS taskhub, CAST(p.token AS text) AS token,
        p.pattern, p.max_retries
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
TASKS_OF_HUB = text("""
    SELECT CAST(task AS text) FROM actions WHERE scope_id = :scope_id AND taskhub = :taskhub
""")
# The tasks in error with each of their hubs that has patterns, and with the tracebacks of their
# latest result that has any. A result without a time of creation counts as the latest.
_FAILED = f"""
    ({TASKS}) AS x
    -- Looks up each task by key.
    CROSS JOIN LATERAL (
        SELECT FROM tasks AS t
        WHERE t.scope_id = x.scope_id AND t.token = x.task AND t.status = 'error' {FENCE}
    ) AS t
    -- Looks up its actions by key, and whether their hubs have patterns.
    CROSS JOIN LATERAL (
        SELECT a.* FROM actions AS a
        WHERE a.scope_id = x.scope_id AND a.task = x.task AND EXISTS (
            SELECT FROM restart_patterns AS p
            WHERE p.scope_id = a.scope_id AND p.taskhub = a.taskhub
        ) {FENCE}
    ) AS a
    -- Looks up its results by key, each with its tracebacks.
    LEFT JOIN LATERAL (
        SELECT l.result, b.tokens FROM task_results AS l
        CROSS JOIN LATERAL (
            SELECT r.datetime_created FROM results AS r
            WHERE r.scope_id = l.scope_id AND r.token = l.result {FENCE}
        ) AS r
        CROSS JOIN LATERAL (
            SELECT array_agg(b.token) AS tokens FROM tracebacks AS b
            WHERE b.scope_id = l.scope_id AND b.result = l.result
        ) AS b
        WHERE l.scope_id = x.scope_id AND l.task = x.task AND b.tokens IS NOT NULL
        ORDER BY r.datetime_created DESC NULLS FIRST, l.created_at DESC, l.result DESC
        LIMIT 1
    ) AS latest ON true
"""
FAILED_TASKS = text(f"""
    SELECT a.scope_id, CAST(a.task AS text) AS task, CAST(a.taskhub AS text) AS taskhub,
        CAST(a.patterns AS text) AS patterns, CAST(a.retries AS text) AS retries,
        CAST(latest.tokens AS text[]) AS tokens
    FROM {_FAILED}
""")
FIND_TRACEBACKS = text(f"""
    SELECT a.scope_id, CAST(a.taskhub AS text) AS taskhub, CAST(b.result AS text) AS result,
        CAST(b.token AS text) AS token, b.size
    FROM {_FAILED}
    -- Looks up these tracebacks by key.
    CROSS JOIN LATERAL (
        SELECT b.result, b.token, b.size FROM tracebacks AS b
        WHERE b.scope_id = x.scope_id AND b.result = latest.result {FENCE}
    ) AS b
""")
# The answer is binary, because tracebacks are full of quotes, which a text array escapes.
READ_TRACEBACKS = text(f"""
    SELECT CAST(b.token AS text) AS token, b.tracebacks
    FROM unnest(
        CAST(:scope_ids AS bigint[]), CAST(:results AS uuid[]), CAST(:tokens AS uuid[])
    ) AS x (scope_id, result, token)
    -- Looks up each by key.
    CROSS JOIN LATERAL (
        SELECT b.token, b.tracebacks FROM tracebacks AS b
        WHERE b.scope_id = x.scope_id AND b.result = x.result AND b.token = x.token {FENCE}
    ) AS b
""").execution_options(binary=True)
# Sets the counters of actions.
COUNT_RETRIES = text(f"""
    WITH
    -- The location of each action, looked up by key.
    found AS MATERIALIZED (
        SELECT a.ctid AS place, x.patterns, x.retries FROM unnest(
            CAST(:scope_ids AS bigint[]), CAST(:taskhubs AS uuid[]), CAST(:tasks AS uuid[]),
            CAST(:patterns AS text[]), CAST(:retries AS text[])
        ) AS x (scope_id, taskhub, task, patterns, retries)
        CROSS JOIN LATERAL (
            SELECT a.ctid FROM actions AS a
            WHERE a.scope_id = x.scope_id AND a.taskhub = x.taskhub AND a.task = x.task {FENCE}
        ) AS a
    )
    UPDATE actions AS a
    SET patterns = CAST(found.patterns AS uuid[]), retries = CAST(found.retries AS integer[])
    FROM found WHERE a.ctid = found.place
""")
REMOVE_FROM_HUBS = text(f"""
    DELETE FROM actions WHERE ctid = ANY(ARRAY(
        SELECT a.ctid FROM unnest(
            CAST(:scope_ids AS bigint[]), CAST(:taskhubs AS uuid[]), CAST(:tasks AS uuid[])
        ) AS x (scope_id, taskhub, task)
        -- Looks up each action by key.
        CROSS JOIN LATERAL (
            SELECT a.ctid FROM actions AS a
            WHERE a.scope_id = x.scope_id AND a.taskhub = x.taskhub AND a.task = x.task {FENCE}
        ) AS a
    ))
""")


class _Pattern(NamedTuple):
    token: str
    text: str
    max_retries: int


class _Counters(NamedTuple):
    """The patterns that have restarted a task on a hub, and how often, as arrays of PostgreSQL."""

    patterns: str | None
    retries: str | None


# A hub, by scope id and token.
Hub: TypeAlias = tuple[int, str]
Patterns: TypeAlias = Mapping[Hub, Sequence[_Pattern]]
# The patterns of each hub that match, by the token of the tracebacks. Equal tracebacks have the
# same token, and many tasks fail for the same reason.
Found: TypeAlias = defaultdict[Hub, dict[str, frozenset[_Pattern]]]


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
    tasks = _parameters((hub["scope_id"], task) for task in tx.scalars(TASKS_OF_HUB, hub))
    if tasks["tokens"] != "{}":
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
    search(tx, tasks, patterns, found)
    lock(tx, tasks)
    if hub is not None:
        # Some may have been removed from the hub before they were locked, and others added.
        locked = set(_elements(tasks["tokens"]))
        tasks = _parameters(
            (hub["scope_id"], task) for task in tx.scalars(TASKS_OF_HUB, hub) if task in locked
        )
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
    found: Found = defaultdict(dict)
    while True:
        with suppress(_OtherHubsError), savepoint(tx):
            return act(_lock_patterns(tx, tasks), found)


class _OtherHubsError(Exception):
    """A locked task is on a hub whose patterns are not locked."""


def _lock_patterns(tx: Connection, tasks: dict[str, Any]) -> Patterns:
    patterns: dict[Hub, list[_Pattern]] = defaultdict(list)
    for row in execute(tx, LOCK_PATTERNS_OF_TASKS, tasks):
        patterns[row.scope_id, row.taskhub].append(
            _Pattern(row.token, unescape(row.pattern), row.max_retries)
        )
    return patterns


def search(tx: Connection, tasks: dict[str, Any], patterns: Patterns, found: Found) -> None:
    """Find the patterns of hubs in the tracebacks of failed tasks, unless that has been done.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    tasks : dict
        Their ``scope_ids`` and ``tokens``; those that are not in error are ignored.
    patterns : mapping
        The patterns of each hub.
    found : Found
        What has been found, to be completed.
    """
    missing: dict[Hub, dict[str, Row[Any]]] = defaultdict(dict)
    for row in execute(tx, FIND_TRACEBACKS, tasks):
        hub = (row.scope_id, row.taskhub)
        if hub in patterns and row.token not in found[hub]:
            missing[hub][row.token] = row
    for hub, places in missing.items():
        for portion in _portions(places.values()):
            values = {
                "scope_ids": array(row.scope_id for row in portion),
                "results": array(row.result for row in portion),
                "tokens": array(row.token for row in portion),
            }
            for row in tx.execute(READ_TRACEBACKS, values):
                found[hub][row.token] = _matching(patterns[hub], row.tracebacks)


def _matching(patterns: Sequence[_Pattern], tracebacks: Sequence[str]) -> frozenset[_Pattern]:
    texts = [unescape(one) for one in tracebacks]
    return frozenset(one for one in patterns if any(matches(one.text, text) for text in texts))


def _portions(places: Iterable[Row[Any]]) -> Iterator[list[Row[Any]]]:
    """Split tracebacks into portions that fit into memory."""
    portion: list[Row[Any]] = []
    total = 0
    for row in places:
        if portion and total + row.size > PORTION:
            yield portion
            portion, total = [], 0
        portion.append(row)
        total += row.size
    if portion:
        yield portion


def restart_failed(tx: Connection, tasks: dict[str, Any], patterns: Patterns, found: Found) -> bool:
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
    bool
        Whether any of the tasks is waiting now.
    """
    failed = execute(tx, FAILED_TASKS, tasks).all()
    if not {(row.scope_id, row.taskhub) for row in failed} <= patterns.keys():
        raise _OtherHubsError
    # Tracebacks may have been added before the tasks were locked.
    if any(
        token not in found[row.scope_id, row.taskhub]
        for row in failed
        for token in row.tokens or ()
    ):
        search(tx, tasks, patterns, found)
    # The actions with each new value of their counters; with ``None``, those that are removed.
    decisions: dict[_Counters | None, list[Row[Any]]] = defaultdict(list)
    nothing = frozenset[_Pattern]()
    for row in failed:
        matching = found[row.scope_id, row.taskhub]
        hits = nothing.union(*[matching[token] for token in row.tokens or ()])
        decisions[_counted(_Counters(row.patterns, row.retries), hits)].append(row)
    return _carry_out(tx, decisions.pop(None, []), decisions)


@lru_cache(maxsize=1024)
def _counted(counters: _Counters, hits: frozenset[_Pattern]) -> _Counters | None:
    """Return the counters of an action after a retry because of some patterns.

    Returns
    -------
    _Counters or None
        ``None`` if no pattern matches or one has reached its maximum.
    """
    used = dict(zip(_elements(counters.patterns), _elements(counters.retries), strict=True))
    if not hits or any(int(used.get(one.token, 0)) >= one.max_retries for one in hits):
        return None
    new = used | {one.token: str(int(used.get(one.token, 0)) + 1) for one in hits}
    return _Counters(array(new), array(new.values()))


def _elements(text: str | None) -> list[str]:
    """Return the elements of an array of PostgreSQL without special characters."""
    return text[1:-1].split(",") if text else []


def _carry_out(
    tx: Connection,
    cancelled: Sequence[Row[Any]],
    counted: Mapping[_Counters | None, Sequence[Row[Any]]],
) -> bool:
    if cancelled:
        tx.execute(REMOVE_FROM_HUBS, _places(cancelled))
    restarted = [row for rows in counted.values() for row in rows]
    if restarted:
        counters = [one for one, rows in counted.items() if one is not None for _ in rows]
        values = {
            **_places(restarted),
            "patterns": array(f'"{one.patterns}"' for one in counters),
            "retries": array(f'"{one.retries}"' for one in counters),
        }
        tx.execute(COUNT_RETRIES, values)
        execute(
            tx,
            SET_STATUS[TaskStatusEnum.waiting],
            {
                **_parameters({(row.scope_id, row.task): None for row in restarted}),
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
        "patterns of hubs restarted a failed task %d times, and removed one from a hub %d times",
        len(restarted),
        len(cancelled),
    )
    return bool(restarted)


def _places(actions: Iterable[Row[Any]]) -> dict[str, Any]:
    return {
        "scope_ids": array(row.scope_id for row in actions),
        "taskhubs": array(row.taskhub for row in actions),
        "tasks": array(row.task for row in actions),
    }


def _parameters(tasks: Iterable[tuple[int, str]]) -> dict[str, Any]:
    """Return the parameters of a statement about tasks."""
    scope_ids, tokens = [], []
    for scope_id, token in tasks:
        scope_ids.append(scope_id)
        tokens.append(token)
    return {"scope_ids": array(scope_ids), "tokens": array(tokens)}
