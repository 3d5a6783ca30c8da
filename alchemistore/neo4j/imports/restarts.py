"""Restart patterns and their counters."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, text

from alchemistore.models.text import escape
from alchemistore.neo4j.imports.merge import COUNTS, Merge, removed
from alchemistore.neo4j.imports.staging import stage
from alchemistore.neo4j.records import GraphPattern
from alchemistore.neo4j.report import PartReport, first_line
from alchemistore.operations.matching import check_pattern
from alchemistore.operations.restart_patterns import token_of_pattern

MAX_RETRIES = 2**31 - 1
MERGES = (
    Merge(
        "restart patterns",
        removed(
            "restart_patterns",
            "SELECT FROM graph_patterns AS g WHERE g.taskhub = t.taskhub AND g.token = t.token",
        ),
        text(f"""
            WITH new AS (
                INSERT INTO restart_patterns AS t (
                    scope_id, taskhub, token, pattern, max_retries, created_at
                )
                SELECT :scope_id, taskhub, token, pattern, max_retries, :now FROM graph_patterns
                ORDER BY taskhub, token
                ON CONFLICT (scope_id, taskhub, token)
                    DO UPDATE SET max_retries = excluded.max_retries
                WHERE t.max_retries <> excluded.max_retries
                RETURNING xmax = 0 AS added
            ) {COUNTS}
        """),
    ),
    Merge(
        "restart counters",
        text("""
            WITH gone AS MATERIALIZED (
                SELECT a.taskhub, a.task, c.pattern FROM actions AS a
                CROSS JOIN LATERAL unnest(a.patterns) AS c (pattern)
                WHERE a.scope_id = :scope_id AND NOT EXISTS (
                    SELECT FROM graph_counters AS g
                    WHERE g.taskhub = a.taskhub AND g.task = a.task
                        AND g.pattern = c.pattern
                )
            ), kept AS (
                UPDATE actions AS a SET (patterns, retries) = (
                    SELECT array_agg(x.pattern), array_agg(x.retries)
                    FROM unnest(a.patterns, a.retries) AS x (pattern, retries)
                    WHERE x.pattern <> ALL(c.patterns)
                )
                FROM (
                    SELECT taskhub, task, array_agg(pattern) AS patterns FROM gone
                    GROUP BY taskhub, task
                ) AS c
                WHERE a.scope_id = :scope_id AND a.taskhub = c.taskhub AND a.task = c.task
            )
            SELECT 1 FROM gone
        """),
        text(f"""
            WITH new AS MATERIALIZED (
                SELECT g.taskhub, g.task, array_position(a.patterns, g.pattern) IS NULL AS added
                FROM graph_counters AS g
                JOIN actions AS a
                    ON a.scope_id = :scope_id AND a.taskhub = g.taskhub AND a.task = g.task
                WHERE a.retries[array_position(a.patterns, g.pattern)] IS DISTINCT FROM g.retries
            ), counted AS (
                UPDATE actions AS a SET patterns = c.patterns, retries = c.retries
                FROM (
                    SELECT taskhub, task, array_agg(pattern) AS patterns,
                        array_agg(retries) AS retries
                    FROM graph_counters
                    WHERE (taskhub, task) IN (SELECT taskhub, task FROM new)
                    GROUP BY taskhub, task
                ) AS c
                WHERE a.scope_id = :scope_id AND a.taskhub = c.taskhub AND a.task = c.task
            ) {COUNTS}
        """),
    ),
)


def stage_patterns(tx: Connection, report: PartReport, patterns: Iterable[GraphPattern]) -> None:
    """Add restart patterns to their staging table."""
    rows = []
    for one in patterns:
        try:
            check_pattern(one.pattern)
        except ValueError as error:
            report.find(
                one.hub,
                f"its restart pattern {one.pattern!r} was left out: {first_line(error)}",
            )
            continue
        maximum = min(max(one.max_retries, 1), MAX_RETRIES)
        if maximum != one.max_retries:
            report.find(
                one.hub,
                f"its restart pattern {one.pattern!r} has the maximum {one.max_retries};"
                f" {maximum} was taken",
            )
        rows.append(
            {
                "taskhub": one.hub.token,
                "token": token_of_pattern(one.pattern),
                "pattern": escape(one.pattern),
                "max_retries": maximum,
            }
        )
    stage(tx, "patterns", rows)
