"""Rows of a store, page by page, in the order of their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

# Rows that one statement reads, and one writes into the graph.
PAGE = 1000
NIL = UUID(int=0)

SCOPES = text("SELECT id, org, campaign, project FROM scopes ORDER BY org, campaign, project")
DOCUMENTS = text("""
    SELECT token, kind, document, children FROM gufe_objects
    WHERE scope_id = :scope_id AND token > :after ORDER BY token LIMIT :limit
""")
NETWORKS = text("""
    SELECT n.token, n.kind, h.token AS taskhub, h.weight, m.token AS mark, m.state,
        n.strategy, g.kind AS strategy_kind, s.mode, s.status, s.iterations, s.sleep_interval,
        s.last_iteration_at AS last_iteration, s.last_iteration_result_count,
        s.max_tasks_per_transformation, s.task_scaling, s.exception, s.traceback
    FROM networks AS n
    LEFT JOIN taskhubs AS h ON h.scope_id = n.scope_id AND h.network = n.token
    LEFT JOIN network_marks AS m ON m.scope_id = n.scope_id AND m.network = n.token
    LEFT JOIN gufe_objects AS g ON g.scope_id = n.scope_id AND g.token = n.strategy
    LEFT JOIN network_strategies AS s ON s.scope_id = n.scope_id AND s.network = n.token
    WHERE n.scope_id = :scope_id AND n.token > :after ORDER BY n.token LIMIT :limit
""")
TASKS = text("""
    SELECT t.token, t.status, t.priority, t.creator, t.created_at, x.kind, t.transformation,
        (
            SELECT e.parent FROM extends AS e WHERE e.scope_id = t.scope_id AND e.task = t.token
        ) AS parent, c.service, c.claimed_at
    FROM tasks AS t
    JOIN transformations AS x ON x.scope_id = t.scope_id AND x.token = t.transformation
    LEFT JOIN claims AS c ON c.scope_id = t.scope_id AND c.task = t.token
    WHERE t.scope_id = :scope_id AND t.token > :after ORDER BY t.token LIMIT :limit
""")
PARENTS = text("""
    SELECT task AS token, parent FROM extends
    WHERE scope_id = :scope_id AND task > :after ORDER BY task LIMIT :limit
""")
PATTERNS = text("""
    SELECT taskhub, pattern, max_retries FROM restart_patterns
    WHERE scope_id = :scope_id ORDER BY taskhub, token
""")
# A page of tasks, because a task may be on several hubs and have several patterns and results.
PAGE_OF_TASKS = """
    SELECT token FROM tasks
    WHERE scope_id = :scope_id AND token > :after ORDER BY token LIMIT :limit
"""
ACTIONS = text(f"""
    SELECT t.token, a.taskhub, a.weight FROM ({PAGE_OF_TASKS}) AS t
    LEFT JOIN actions AS a ON a.scope_id = :scope_id AND a.task = t.token
    ORDER BY t.token, a.taskhub
""")
COUNTERS = text(f"""
    SELECT t.token, p.taskhub, p.pattern,
        coalesce(a.retries[array_position(a.patterns, p.token)], 0) AS retries
    FROM ({PAGE_OF_TASKS}) AS t
    LEFT JOIN actions AS a ON a.scope_id = :scope_id AND a.task = t.token
    LEFT JOIN restart_patterns AS p ON p.scope_id = :scope_id AND p.taskhub = a.taskhub
    ORDER BY t.token, p.taskhub, p.token
""")
RESULTS = text("""
    SELECT token, obj_key, location, scope, ok, creator, datetime_created FROM results
    WHERE scope_id = :scope_id AND token > :after ORDER BY token LIMIT :limit
""")
RESULTS_OF_TASKS = text(f"""
    SELECT t.token, l.result FROM ({PAGE_OF_TASKS}) AS t
    LEFT JOIN task_results AS l ON l.scope_id = :scope_id AND l.task = t.token
    ORDER BY t.token, l.result
""")
TRACEBACKS = text("""
    SELECT r.token, b.token AS key, b.tracebacks, b.source_keys, b.failure_keys
    FROM (
        SELECT token FROM results
        WHERE scope_id = :scope_id AND token > :after ORDER BY token LIMIT :limit
    ) AS r
    LEFT JOIN tracebacks AS b ON b.scope_id = :scope_id AND b.result = r.token
    ORDER BY r.token, b.token
""")
SERVICES = text("""
    SELECT s.identifier, s.registered_at, s.heartbeat_at, s.manager_name,
        ARRAY(
            SELECT f.failed_at FROM service_failures AS f WHERE f.service = s.identifier
            ORDER BY f.failed_at DESC
        ) AS failures
    FROM compute_services AS s ORDER BY s.identifier
""")
MANAGERS = text("""
    SELECT name, uuid, registered_at, status, detail, saturation, status_updated_at
    FROM compute_managers ORDER BY name
""")
IDENTITIES = text("""
    SELECT i.type, i.identifier, i.hashed_key, i.expires_at, i.disabled, i.email, i.full_name,
        ARRAY(
            SELECT s.scope FROM identity_scopes AS s WHERE s.identity_id = i.id ORDER BY s.position
        ) AS scopes
    FROM identities AS i ORDER BY i.id
""")
SIZES = text("""
    SELECT
        (SELECT count(*) FROM gufe_objects WHERE scope_id = :scope_id) AS objects,
        (SELECT count(*) FROM tasks WHERE scope_id = :scope_id) AS tasks,
        (SELECT count(*) FROM results WHERE scope_id = :scope_id) AS results
""")
# What has no place in a graph.
LEFT_BEHIND = {
    "attempts that have ended": text("SELECT count(*) FROM attempts WHERE ended_at IS NOT NULL"),
    "logs of attempts": text("SELECT count(*) FROM attempt_logs"),
    "packages of workers": text("SELECT count(*) FROM environments"),
    "hosts of services": text("SELECT count(*) FROM compute_services WHERE hostname IS NOT NULL"),
    "changes of status": text("SELECT count(*) FROM status_changes"),
    "quotas": text("SELECT count(*) FROM quotas"),
}


def pages_of(tx: Connection, statement: TextClause, scope_id: int) -> Iterator[list[Row[Any]]]:
    """Yield pages of rows of a scope.

    Parameters
    ----------
    tx : Connection
        The open transaction.
    statement : TextClause
        The statement. It takes the token after which a page begins, and returns rows with a token.
    scope_id : int
        Id of the scope.
    """
    after = NIL
    while True:
        values = {"scope_id": scope_id, "after": after, "limit": PAGE}
        page = list(tx.execute(statement, values))
        if not page:
            return
        yield page
        after = page[-1].token
