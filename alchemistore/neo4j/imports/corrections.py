"""Corrections: what the original lets in and the store does not allow, in the staging tables."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, TextClause, text

from alchemistore.models import Scope
from alchemistore.neo4j.keys import key_in
from alchemistore.neo4j.report import PartReport


class Correction(NamedTuple):
    """A rule of the store that a graph may break: the sentence about it, and the correction.

    The statement returns the kind and token of each object that it corrects.
    """

    sentence: str
    statement: TextClause


# In this order, because each correction may call for the next ones.
CORRECTIONS = (
    Correction(
        "its transformation is in no network of the scope; the task was left out",
        text("""
            DELETE FROM graph_tasks AS g WHERE NOT EXISTS (
                SELECT FROM transformations AS t
                WHERE t.scope_id = :scope_id AND t.token = g.transformation
            )
            RETURNING 'Task', g.task
        """),
    ),
    Correction(
        "the task that it extends is missing or of another transformation; it extends none now",
        text("""
            UPDATE graph_tasks AS g SET parent = NULL
            WHERE g.parent IS NOT NULL AND (g.parent = g.task OR NOT EXISTS (
                SELECT FROM graph_tasks AS p
                WHERE p.task = g.parent AND p.transformation = g.transformation
            ))
            RETURNING 'Task', g.task
        """),
    ),
    Correction(
        "it extends an invalid or deleted task; it has the status of that task now",
        text("""
            WITH RECURSIVE ended (task, status) AS (
                SELECT task, status FROM graph_tasks WHERE status IN ('invalid', 'deleted')
                UNION
                SELECT g.task, ended.status FROM ended
                JOIN graph_tasks AS g ON g.parent = ended.task
                WHERE g.status NOT IN ('invalid', 'deleted')
            )
            UPDATE graph_tasks AS g SET status = ended.status
            FROM ended WHERE ended.task = g.task AND g.status NOT IN ('invalid', 'deleted')
            RETURNING 'Task', g.task
        """),
    ),
    Correction(
        "it is claimed and not running; the claim was left out",
        text("""
            UPDATE graph_tasks SET service = NULL, claimed_at = NULL
            WHERE service IS NOT NULL AND status <> 'running'
            RETURNING 'Task', task
        """),
    ),
    Correction(
        "it is complete, invalid or deleted and on a hub; it is on no hub now",
        text("""
            DELETE FROM graph_actions AS a USING graph_tasks AS g
            WHERE g.task = a.task AND g.status IN ('complete', 'invalid', 'deleted')
            RETURNING 'Task', a.task
        """),
    ),
    Correction(
        "it is on a hub without its transformation; it is not on that hub now",
        text("""
            DELETE FROM graph_actions AS a WHERE NOT EXISTS (
                SELECT FROM graph_tasks AS g
                JOIN graph_hubs AS h ON h.taskhub = a.taskhub
                JOIN network_transformations AS n
                    ON n.scope_id = :scope_id AND n.network = h.network
                    AND n.transformation = g.transformation
                WHERE g.task = a.task
            )
            RETURNING 'Task', a.task
        """),
    ),
    Correction(
        "its network was left out, and so were its restart patterns",
        text("""
            DELETE FROM graph_patterns AS p WHERE NOT EXISTS (
                SELECT FROM graph_hubs AS h WHERE h.taskhub = p.taskhub
            )
            RETURNING 'TaskHub', p.taskhub
        """),
    ),
    Correction(
        "a restart pattern has counted it that is not of a hub it is on; the counter was left out",
        text("""
            DELETE FROM graph_counters AS c WHERE NOT EXISTS (
                SELECT FROM graph_actions AS a
                JOIN graph_patterns AS p ON p.taskhub = a.taskhub AND p.token = c.pattern
                WHERE a.taskhub = c.taskhub AND a.task = c.task
            )
            RETURNING 'Task', c.task
        """),
    ),
    Correction(
        "its task was left out, and so was the result",
        text("""
            DELETE FROM graph_results AS r WHERE NOT EXISTS (
                SELECT FROM graph_links AS l JOIN graph_tasks AS g ON g.task = l.task
                WHERE l.result = r.result
            )
            RETURNING 'ProtocolDAGResultRef', r.result
        """),
    ),
)
# What follows from the corrections.
DROP_DEPENDENTS = (
    text("""
        DELETE FROM graph_links AS l WHERE NOT EXISTS (
            SELECT FROM graph_tasks AS g WHERE g.task = l.task
        ) OR NOT EXISTS (SELECT FROM graph_results AS r WHERE r.result = l.result)
    """),
    text("""
        DELETE FROM graph_tracebacks AS b WHERE NOT EXISTS (
            SELECT FROM graph_results AS r WHERE r.result = b.result
        )
    """),
)


def correct(tx: Connection, report: PartReport, scope: Scope, values: dict[str, Any]) -> None:
    """Change staged rows that the store does not allow, and report them."""
    for sentence, statement in CORRECTIONS:
        for kind, token in tx.execute(statement, values).all():
            report.find(key_in(scope, kind, token), sentence)
    for statement in DROP_DEPENDENTS:
        tx.execute(statement)
