"""Imports: results that were computed elsewhere become complete tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from alchemistore.database.keys import gufe_token, scope_parameters, token_of
from alchemistore.database.sql import SCOPE_ID
from alchemistore.errors import MissingObjectError
from alchemistore.models import GufeKey, ProtocolDAGResultRef, Scope, ScopedKey
from alchemistore.models.clock import now, uuid7
from alchemistore.models.task import DEFAULT_PRIORITY
from alchemistore.models.text import escape
from alchemistore.operations.tasks import require_extendable

# Among the tasks of the transformations, because results are not indexed by key.
FIND_TASKS_OF_RESULTS = text(f"""
    SELECT DISTINCT ON (t.transformation, r.obj_key) t.transformation, r.obj_key, t.token
    FROM tasks AS t
    JOIN task_results AS l ON l.scope_id = t.scope_id AND l.task = t.token
    JOIN results AS r ON r.scope_id = l.scope_id AND r.token = l.result
    WHERE t.scope_id = {SCOPE_ID}
        AND t.transformation = ANY(CAST(:transformations AS uuid[]))
        AND r.obj_key = ANY(CAST(:results AS text[]))
    ORDER BY t.transformation, r.obj_key, t.token
""")
LOCK_TRANSFORMATIONS = text(f"""
    SELECT scope_id, kind, token FROM transformations
    WHERE scope_id = {SCOPE_ID} AND token = ANY(CAST(:transformations AS uuid[]))
    ORDER BY token
    FOR NO KEY UPDATE
""")
IMPORT_RESULTS = text(f"""
    -- The results, each with its new task.
    WITH new AS MATERIALIZED (
        SELECT *, CASE WHEN ok THEN 'complete' ELSE 'error' END AS status,
            CASE WHEN NOT ok THEN :reason END AS reason
        FROM unnest(
            CAST(:tasks AS uuid[]), CAST(:transformations AS uuid[]), CAST(:parents AS uuid[]),
            CAST(:results AS uuid[]), CAST(:obj_keys AS text[]), CAST(:locations AS text[]),
            CAST(:oks AS boolean[]), CAST(:times AS timestamptz[])
        ) AS x (task, transformation, parent, result, obj_key, location, ok, datetime_created)
    ),
    tasks AS (
        INSERT INTO tasks (
            scope_id, token, transformation, status, status_changed_at, reason, priority, attempts,
            creator, created_at
        )
        SELECT :scope_id, task, transformation, status, :now, reason, {DEFAULT_PRIORITY}, 0,
            :creator, :now
        FROM new
    ),
    parents AS (
        INSERT INTO extends (scope_id, task, parent, transformation)
        SELECT :scope_id, task, parent, transformation FROM new WHERE parent IS NOT NULL
    ),
    changes AS (
        INSERT INTO status_changes (scope_id, task, change, status, changed_at, reason)
        SELECT :scope_id, task, :change, status, :now, reason FROM new
    ),
    refs AS (
        INSERT INTO results (
            scope_id, token, obj_key, location, scope, ok, creator, datetime_created, created_at
        )
        SELECT :scope_id, result, obj_key, location, :scope, ok, :creator, datetime_created, :now
        FROM new
    )
    INSERT INTO task_results (scope_id, task, result, created_at)
    SELECT :scope_id, task, result, :now FROM new
""")
FAILED = "the result that was added had failed"


class ComputedResult(NamedTuple):
    """A result that was computed elsewhere.

    Attributes
    ----------
    transformation : ScopedKey
        The transformation that produced it.
    key : GufeKey
        Its key.
    extends : GufeKey or None
        The key of the result that it continues.
    ref : ProtocolDAGResultRef or None
        The reference to it in the object store; ``None`` if a task has this result already.
    """

    transformation: ScopedKey
    key: GufeKey
    extends: GufeKey | None = None
    ref: ProtocolDAGResultRef | None = None


def find_tasks_of_results(
    tx: Connection, scope: Scope, results: Iterable[ComputedResult]
) -> list[ScopedKey | None]:
    """Return the tasks that have results, in the order of the results; ``None`` for no task.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    scope : Scope
        The scope of all results.
    results : iterable of ComputedResult
        The results.
    """
    wanted = [(one.transformation.token, str(one.key)) for one in results]
    rows = tx.execute(
        FIND_TASKS_OF_RESULTS,
        {
            **scope_parameters(scope),
            "transformations": list({edge for edge, _ in wanted}),
            "results": list({key for _, key in wanted}),
        },
    )
    found = {(row.transformation, row.obj_key): _task(scope, row.token) for row in rows}
    return [found.get(one) for one in wanted]


def import_results(
    tx: Connection, scope: Scope, results: Sequence[ComputedResult], creator: str | None = None
) -> list[ScopedKey]:
    """Create a task that has ended for each result; a result that is stored stays as it is.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    scope : Scope
        The scope of all results.
    results : sequence of ComputedResult
        The results, each after the one that it continues. They must already be in the object store.
    creator : str, optional
        The creator of the tasks.

    Returns
    -------
    list of ScopedKey
        The tasks in the order of the results: complete, or error if the result is a failure.

    Raises
    ------
    KeyError
        If a transformation is missing.
    ValueError
        If a result continues one that cannot be extended.
    """
    if not results:
        return []
    # Concurrent imports of one result wait for each other here.
    scope_id = _lock_transformations(tx, scope, results)
    known = find_tasks_of_results(tx, scope, results)
    tokens = iter(sorted(uuid7() for _ in results))
    tasks: dict[GufeKey, ScopedKey] = {
        one.key: task or _task(scope, next(tokens))
        for one, task in zip(results, known, strict=True)
    }
    new = [one for one, task in zip(results, known, strict=True) if task is None]
    parents = [None if one.extends is None else tasks.get(one.extends) for one in new]
    stored = set(known)
    require_extendable(
        tx,
        [one.transformation for one in new],
        [parent if parent in stored else None for parent in parents],
    )
    if new:
        tx.execute(
            IMPORT_RESULTS,
            {
                **_references(new),
                "scope_id": scope_id,
                "scope": str(scope),
                "tasks": [tasks[one.key].token for one in new],
                "transformations": [one.transformation.token for one in new],
                "parents": [token_of(parent) for parent in parents],
                "creator": escape(creator),
                "reason": FAILED,
                "change": uuid7(),
                "now": now(),
            },
        )
    return [tasks[one.key] for one in results]


def _lock_transformations(
    tx: Connection, scope: Scope, results: Sequence[ComputedResult]
) -> int | None:
    """Lock the transformations of results and return the id of their scope."""
    edges = {one.transformation.token: one.transformation for one in results}
    rows = tx.execute(
        LOCK_TRANSFORMATIONS, {**scope_parameters(scope), "transformations": list(edges)}
    ).all()
    kinds = {row.token: row.kind for row in rows}
    for token, edge in edges.items():
        if token is None or kinds.get(token) != edge.qualname:
            raise MissingObjectError(edge)
    return next((row.scope_id for row in rows), None)


def _references(results: Sequence[ComputedResult]) -> Mapping[str, Any]:
    refs = [one.ref for one in results if one.ref is not None]
    if len(refs) < len(results):
        raise AssertionError("a result without a task is not in the object store")
    return {
        "results": [gufe_token(ref.key) for ref in refs],
        "obj_keys": [str(ref.obj_key) for ref in refs],
        "locations": [ref.location for ref in refs],
        "oks": [ref.ok for ref in refs],
        "times": [ref.datetime_created for ref in refs],
    }


def _task(scope: Scope, token: UUID) -> ScopedKey:
    return ScopedKey.from_parts("Task", token, *map(str, scope.to_tuple()))
