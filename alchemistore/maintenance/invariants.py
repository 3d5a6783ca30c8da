"""Invariants: rules about the data that constraints cannot express.

Each rule has a query that returns the objects that break it.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from alchemistore.database.planner import FENCE
from alchemistore.maintenance.findings import Finding, FindingKind

# Number of objects that are named for each rule.
MAX_EXAMPLES = 20

# The rules compare whole tables. With hash joins only, each table is read about once, whatever the
# statistics say; other joins may use some columns of a key only.
OTHER_JOINS = ("enable_nestloop", "enable_mergejoin")

# The tasks that are claimable, by hub. It shares no code with the queue, which it is compared with.
CLAIMABLE = """
    SELECT a.scope_id, a.taskhub, a.task, t.priority, a.weight, tr.protocol
    FROM actions AS a
    JOIN tasks AS t ON (t.scope_id, t.token) = (a.scope_id, a.task)
    JOIN transformations AS tr ON (tr.scope_id, tr.token) = (t.scope_id, t.transformation)
    WHERE a.weight > 0 AND t.status = 'waiting' AND NOT EXISTS (
        SELECT FROM extends AS e JOIN tasks AS p ON (p.scope_id, p.token) = (e.scope_id, e.parent)
        WHERE (e.scope_id, e.task) = (a.scope_id, a.task) AND p.status <> 'complete'
    )
"""

# Failed tasks with a result that have been on a hub with restart patterns ever since, because
# `resolve_task_restarts` was not called after `deliver_result` or `set_task_error`. A task that
# failed just now, or was actioned again later, is none of them.
UNDECIDED = """
    SELECT DISTINCT t.scope_id, t.token
    FROM tasks AS t
    JOIN attempts AS x ON (x.scope_id, x.task, x.attempt) = (t.scope_id, t.token, t.attempts)
    JOIN actions AS a ON (a.scope_id, a.task) = (t.scope_id, t.token)
    JOIN restart_patterns AS p ON (p.scope_id, p.taskhub) = (a.scope_id, a.taskhub)
    WHERE t.status = 'error' AND x.outcome = 'error' AND x.result IS NOT NULL
        AND a.created_at <= t.status_changed_at
        AND t.status_changed_at < statement_timestamp() - interval '10 minutes'
"""

# What the documents of networks refer to.
PARTS_OF_NETWORKS = """
    SELECT n.scope_id, n.token AS network, unnest(o.children) AS part
    FROM networks AS n JOIN gufe_objects AS o ON (o.scope_id, o.token) = (n.scope_id, n.token)
"""

# The rules, each with a query for scope_id, kind and token of the objects that break it.
RULES = {
    "a claimed task is running": """
        SELECT c.scope_id, 'Task' AS kind, c.task AS token FROM claims AS c
        JOIN tasks AS t ON (t.scope_id, t.token) = (c.scope_id, c.task) WHERE t.status <> 'running'
    """,
    "a claim belongs to an open attempt of the same service": """
        SELECT c.scope_id, 'Task', c.task FROM claims AS c
        LEFT JOIN attempts AS a
            ON (a.scope_id, a.task, a.attempt) = (c.scope_id, c.task, c.attempt)
        WHERE a.attempt IS NULL OR a.outcome IS NOT NULL OR a.service <> c.service
    """,
    "an open attempt has a claim": """
        SELECT a.scope_id, 'Task', a.task FROM attempts AS a
        WHERE a.outcome IS NULL AND NOT EXISTS (
            SELECT FROM claims AS c
            WHERE (c.scope_id, c.task, c.attempt) = (a.scope_id, a.task, a.attempt)
        )
    """,
    "the attempt counter of a task is the number of its attempts": """
        SELECT t.scope_id, 'Task', t.token FROM tasks AS t
        LEFT JOIN (
            SELECT scope_id, task, count(*) AS made, max(attempt) AS last
            FROM attempts GROUP BY scope_id, task
        ) AS a ON (a.scope_id, a.task) = (t.scope_id, t.token)
        WHERE t.attempts <> coalesce(a.made, 0) OR t.attempts <> coalesce(a.last, 0)
    """,
    "a complete, invalid or deleted task is on no hub": """
        SELECT a.scope_id, 'Task', a.task FROM actions AS a
        JOIN tasks AS t ON (t.scope_id, t.token) = (a.scope_id, a.task)
        WHERE t.status IN ('complete', 'invalid', 'deleted')
    """,
    "an actioned task belongs to a transformation of the network of the hub": """
        SELECT a.scope_id, 'Task', a.task FROM actions AS a
        JOIN tasks AS t ON (t.scope_id, t.token) = (a.scope_id, a.task)
        JOIN taskhubs AS h ON (h.scope_id, h.token) = (a.scope_id, a.taskhub)
        WHERE NOT EXISTS (
            SELECT FROM network_transformations AS n
            WHERE (n.scope_id, n.network, n.transformation)
                = (h.scope_id, h.network, t.transformation)
        )
    """,
    "a task that extends an invalid or deleted task is invalid or deleted": """
        SELECT e.scope_id, 'Task', e.task FROM extends AS e
        JOIN tasks AS p ON (p.scope_id, p.token) = (e.scope_id, e.parent)
        JOIN tasks AS t ON (t.scope_id, t.token) = (e.scope_id, e.task)
        WHERE p.status IN ('invalid', 'deleted') AND t.status NOT IN ('invalid', 'deleted')
    """,
    "no task extends itself, directly or indirectly": f"""
        WITH RECURSIVE below (scope_id, task) AS (
            SELECT scope_id, task FROM extends AS e
            WHERE NOT EXISTS (
                SELECT FROM extends AS up WHERE (up.scope_id, up.task) = (e.scope_id, e.parent)
            )
            UNION
            -- Each task is looked up by key: a long chain must not read the table for each task.
            SELECT e.scope_id, e.task FROM below CROSS JOIN LATERAL (
                SELECT e.scope_id, e.task FROM extends AS e
                WHERE e.scope_id = below.scope_id AND e.parent = below.task {FENCE}
            ) AS e
        )
        SELECT scope_id, 'Task', task FROM extends EXCEPT SELECT scope_id, 'Task', task FROM below
    """,
    "all children of a gufe object are stored": """
        SELECT o.scope_id, o.kind, o.token
        FROM (SELECT scope_id, kind, token, unnest(children) AS child FROM gufe_objects) AS o
        WHERE NOT EXISTS (
            SELECT FROM gufe_objects AS c WHERE (c.scope_id, c.token) = (o.scope_id, o.child)
        )
    """,
    "the document of a network, transformation or chemical system is of its kind": """
        SELECT m.scope_id, m.kind, m.token FROM (
            SELECT scope_id, kind, token FROM networks
            UNION ALL SELECT scope_id, kind, token FROM transformations
            UNION ALL SELECT scope_id, kind, token FROM chemical_systems
        ) AS m
        JOIN gufe_objects AS o ON (o.scope_id, o.token) = (m.scope_id, m.token)
        WHERE o.kind <> m.kind
    """,
    "the token of a mark is the digest of the key of its network": """
        SELECT m.scope_id, 'NetworkMark', m.token FROM network_marks AS m
        JOIN networks AS n ON (n.scope_id, n.token) = (m.scope_id, m.network)
        JOIN scopes AS s ON s.id = m.scope_id
        WHERE m.token <> CAST(md5(concat_ws(
            '-', n.kind, replace(CAST(n.token AS text), '-', ''), s.org, s.campaign, s.project
        )) AS uuid)
    """,
    "the transformations of a network are those of its document": f"""
        SELECT n.scope_id, n.kind, n.token FROM networks AS n
        JOIN (
            (
                SELECT scope_id, network, transformation FROM network_transformations
                EXCEPT {PARTS_OF_NETWORKS}
            )
            UNION ALL (
                SELECT p.* FROM ({PARTS_OF_NETWORKS}) AS p
                JOIN transformations AS t ON (t.scope_id, t.token) = (p.scope_id, p.part)
                EXCEPT SELECT scope_id, network, transformation FROM network_transformations
            )
        ) AS m ON (m.scope_id, m.network) = (n.scope_id, n.token)
    """,
    "a network contains the end states of its transformations": """
        SELECT n.scope_id, n.kind, n.token FROM networks AS n
        JOIN (
            SELECT m.scope_id, m.network, s.chemical_system FROM network_transformations AS m
            JOIN transformation_chemical_systems AS s
                ON (s.scope_id, s.transformation) = (m.scope_id, m.transformation)
            EXCEPT SELECT scope_id, network, chemical_system FROM network_chemical_systems
        ) AS m ON (m.scope_id, m.network) = (n.scope_id, n.token)
    """,
    "a strategy is no network, transformation or chemical system": """
        SELECT n.scope_id, n.kind, n.token FROM networks AS n
        JOIN (
            SELECT scope_id, token FROM networks
            UNION ALL SELECT scope_id, token FROM transformations
            UNION ALL SELECT scope_id, token FROM chemical_systems
        ) AS m ON (m.scope_id, m.token) = (n.scope_id, n.strategy)
    """,
    "a transformation has the two systems A and B, or the one of a NonTransformation": """
        SELECT tr.scope_id, tr.kind, tr.token FROM transformations AS tr
        LEFT JOIN transformation_chemical_systems AS s
            ON (s.scope_id, s.transformation) = (tr.scope_id, tr.token)
        GROUP BY tr.scope_id, tr.kind, tr.token
        HAVING array_agg(s.role ORDER BY s.role) NOT IN (ARRAY['A', 'B'], ARRAY['system'])
    """,
    "the token of a restart pattern is the MD5 of its text": """
        SELECT p.scope_id, 'TaskHub', p.taskhub FROM restart_patterns AS p
        WHERE p.token <> CAST(md5(convert_to(p.pattern, 'UTF8')) AS uuid)
    """,
    "the retries of an action are those of restart patterns of its hub": """
        SELECT a.scope_id, 'Task', a.task FROM actions AS a
        CROSS JOIN LATERAL unnest(a.patterns) AS c (pattern)
        WHERE NOT EXISTS (
            SELECT FROM restart_patterns AS p
            WHERE (p.scope_id, p.taskhub, p.token)
                = (a.scope_id, a.taskhub, c.pattern)
        )
    """,
    "restart patterns have decided about each failed task on their hub": f"""
        SELECT u.scope_id, 'Task', u.token FROM ({UNDECIDED}) AS u
    """,
    # It would never expire. The clock of another server, after a failover, may differ a little.
    "the last heartbeat of a compute service is not in the future": """
        SELECT CAST(NULL AS bigint), identifier, CAST(NULL AS uuid) FROM compute_services
        WHERE heartbeat_at > statement_timestamp() + interval '1 hour'
    """,
    "the last status update of a compute manager is not in the future": """
        SELECT CAST(NULL AS bigint), name, uuid FROM compute_managers
        WHERE status_updated_at > statement_timestamp() + interval '1 hour'
    """,
    "a claimable task is in the queue": f"""
        SELECT c.scope_id, 'Task', c.task FROM ({CLAIMABLE}) AS c
        WHERE NOT EXISTS (
            SELECT FROM queue AS q
            WHERE (q.scope_id, q.taskhub, q.task, q.priority, q.weight, q.protocol)
                = (c.scope_id, c.taskhub, c.task, c.priority, c.weight, c.protocol)
        )
    """,
    "a task in the queue is claimable": f"""
        SELECT q.scope_id, 'Task', q.task FROM queue AS q
        LEFT JOIN tasks AS t ON (t.scope_id, t.token) = (q.scope_id, q.task)
        WHERE NOT EXISTS (
            SELECT FROM ({CLAIMABLE}) AS c
            WHERE (q.scope_id, q.taskhub, q.task) = (c.scope_id, c.taskhub, c.task)
        )
        -- Claims skip rows that another claim has locked. Such a row stays until the task ends.
        AND t.status IS DISTINCT FROM 'running'
    """,
    "a task in the queue is in open lanes and not below their floors": """
        SELECT q.scope_id, 'Task', q.task FROM queue AS q
        JOIN tasks AS t ON (t.scope_id, t.token) = (q.scope_id, q.task)
        LEFT JOIN lanes AS common
            ON (common.scope_id, common.taskhub, common.protocol, common.priority)
                = (q.scope_id, q.taskhub, '', q.priority)
        LEFT JOIN lanes AS own
            ON (own.scope_id, own.taskhub, own.protocol, own.priority)
                = (q.scope_id, q.taskhub, q.protocol, q.priority)
        WHERE t.status = 'waiting' AND (
            common.floor IS NULL OR q.race < common.floor OR own.floor IS NULL OR q.race < own.floor
        )
    """,
}


def violations(tx: Connection) -> list[Finding]:
    """Return the objects that break a rule.

    Parameters
    ----------
    tx : Connection
        The open transaction. In REPEATABLE READ all rules see the same snapshot.
    """
    found = []
    for name in OTHER_JOINS:
        tx.execute(text(f"SET LOCAL {name} TO off"))
    for rule, query in RULES.items():
        keys = tx.scalars(
            text(f"""
                SELECT DISTINCT o.kind
                    || coalesce('-' || replace(CAST(o.token AS text), '-', ''), '')
                    || coalesce('-' || s.org || '-' || s.campaign || '-' || s.project, '') AS key
                FROM ({query}) AS o (scope_id, kind, token)
                LEFT JOIN scopes AS s ON s.id = o.scope_id
                ORDER BY key
            """)
        ).all()
        found += [
            Finding(FindingKind.invariant, f"broken rule: {rule}: {key}", key=key)
            for key in keys[:MAX_EXAMPLES]
        ]
        if len(keys) > MAX_EXAMPLES:
            more = len(keys) - MAX_EXAMPLES
            found.append(Finding(FindingKind.invariant, f"broken rule: {rule}: {more} more"))
    for name in OTHER_JOINS:
        tx.execute(text(f"SET LOCAL {name} TO DEFAULT"))
    return found
