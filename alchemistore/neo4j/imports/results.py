"""References to results, the results of tasks, and tracebacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, text

from alchemistore.models import Scope
from alchemistore.models.text import escape, text_size
from alchemistore.neo4j.imports.merge import COUNTS, Merge, removed
from alchemistore.neo4j.imports.staging import stage, texts
from alchemistore.neo4j.records import GraphResult, GraphTracebacks
from alchemistore.neo4j.report import PartReport

MERGES = (
    Merge(
        "results",
        None,
        text(f"""
            WITH new AS (
                INSERT INTO results AS t (
                    scope_id, token, obj_key, location, scope, ok, creator, datetime_created,
                    created_at
                )
                SELECT :scope_id, result, obj_key, location, scope, ok, creator, datetime_created,
                    coalesce(datetime_created, :now)
                FROM graph_results ORDER BY result
                ON CONFLICT (scope_id, token) DO UPDATE SET
                    obj_key = excluded.obj_key, location = excluded.location,
                    scope = excluded.scope, ok = excluded.ok, creator = excluded.creator,
                    datetime_created = excluded.datetime_created
                WHERE (t.obj_key, t.location, t.scope, t.ok, t.creator, t.datetime_created)
                    IS DISTINCT FROM (
                        excluded.obj_key, excluded.location, excluded.scope, excluded.ok,
                        excluded.creator, excluded.datetime_created
                    )
                RETURNING xmax = 0 AS added
            ) {COUNTS}
        """),
    ),
    Merge(
        "results of tasks",
        removed(
            "task_results",
            "SELECT FROM graph_links AS g WHERE g.task = t.task AND g.result = t.result",
        ),
        text(f"""
            WITH new AS (
                INSERT INTO task_results AS t (scope_id, task, result, created_at)
                SELECT :scope_id, l.task, l.result, coalesce(r.datetime_created, :now)
                FROM graph_links AS l JOIN graph_results AS r ON r.result = l.result
                ON CONFLICT DO NOTHING
                RETURNING true AS added
            ) {COUNTS}
        """),
    ),
    Merge(
        "tracebacks",
        removed(
            "tracebacks",
            "SELECT FROM graph_tracebacks AS g WHERE g.result = t.result AND g.token = t.token",
        ),
        text(f"""
            WITH new AS (
                INSERT INTO tracebacks AS t (
                    scope_id, result, token, tracebacks, source_keys, failure_keys, size, created_at
                )
                SELECT :scope_id, b.result, b.token, b.tracebacks, b.source_keys, b.failure_keys,
                    b.size, coalesce(r.datetime_created, :now)
                FROM graph_tracebacks AS b JOIN graph_results AS r ON r.result = b.result
                ON CONFLICT DO NOTHING
                RETURNING true AS added
            ) {COUNTS}
        """),
    ),
)
# After the merges, which have removed what refers to them.
REMOVE_RESULTS = removed("results", "SELECT FROM graph_results AS g WHERE g.result = t.token")


def stage_results(
    tx: Connection, report: PartReport, scope: Scope, results: Iterable[GraphResult]
) -> None:
    """Add references to results to their staging table."""

    def rows() -> Iterator[dict[str, Any]]:
        for one in results:
            report.note_key(one.key, scope)
            yield {
                "result": one.key.token,
                "obj_key": one.obj_key,
                "location": one.location,
                "scope": one.scope,
                "ok": one.ok,
                "creator": escape(one.creator),
                "datetime_created": one.created,
            }

    stage(tx, "results", rows())


def stage_tracebacks(tx: Connection, tracebacks: Iterable[GraphTracebacks]) -> None:
    """Add tracebacks of failures to their staging table."""
    stage(
        tx,
        "tracebacks",
        (
            {
                "result": one.result.token,
                "tracebacks": texts(one.tracebacks),
                "source_keys": texts(one.sources),
                "failure_keys": texts(one.failures),
                "size": sum(map(text_size, one.tracebacks)),
            }
            for one in tracebacks
        ),
    )


def remove_results(tx: Connection, report: PartReport, values: dict[str, Any]) -> None:
    """Remove the references that the graph does not have."""
    report.count("results", removed=len(tx.execute(REMOVE_RESULTS, values).all()))
