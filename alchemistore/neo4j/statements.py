"""The statements of an import. The rows of a graph are staged, and then merged as a whole.

The staging tables are temporary and end with the transaction. Each page of a graph takes one
statement; each merge compares a staging table with the table of the store, adds what is new,
changes what differs and removes what the graph does not have.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import TextClause, text

from alchemistore.tables import metadata

NIL = "00000000-0000-0000-0000-000000000000"
IMPORTED = "imported from Neo4j"

STAGING_TABLES = """
    graph_networks (network uuid PRIMARY KEY)
    graph_hubs (network uuid PRIMARY KEY, taskhub uuid NOT NULL, weight float8 NOT NULL)
    graph_marks (network uuid PRIMARY KEY, mark uuid NOT NULL, state text NOT NULL)
    graph_strategies (
        network uuid PRIMARY KEY, strategy uuid NOT NULL, mode text NOT NULL, status text NOT NULL,
        iterations bigint NOT NULL, sleep_interval bigint NOT NULL, last_iteration_at timestamptz,
        last_iteration_result_count bigint NOT NULL, max_tasks_per_transformation bigint NOT NULL,
        task_scaling text NOT NULL, exception text[], traceback text
    )
    graph_tasks (
        task uuid PRIMARY KEY, transformation uuid NOT NULL, status text COLLATE "C" NOT NULL,
        priority bigint NOT NULL, creator text, created_at timestamptz NOT NULL, parent uuid,
        service text COLLATE "C", claimed_at timestamptz
    )
    graph_actions (
        taskhub uuid, task uuid, weight float8 NOT NULL, PRIMARY KEY (taskhub, task)
    )
    graph_patterns (
        taskhub uuid, token uuid, pattern text NOT NULL, max_retries integer NOT NULL,
        PRIMARY KEY (taskhub, token)
    )
    graph_counters (
        taskhub uuid, task uuid, pattern uuid, retries integer NOT NULL,
        PRIMARY KEY (taskhub, task, pattern)
    )
    graph_results (
        result uuid PRIMARY KEY, obj_key text COLLATE "C" NOT NULL, location text COLLATE "C",
        scope text COLLATE "C" NOT NULL, ok boolean NOT NULL, creator text,
        datetime_created timestamptz
    )
    graph_links (task uuid, result uuid, PRIMARY KEY (task, result))
    graph_tracebacks (
        result uuid, token uuid, tracebacks text[] NOT NULL, source_keys text[] NOT NULL,
        failure_keys text[] NOT NULL, size bigint NOT NULL, PRIMARY KEY (result, token)
    )
    graph_services (
        identifier text COLLATE "C" PRIMARY KEY, registered_at timestamptz NOT NULL,
        heartbeat_at timestamptz NOT NULL, manager_name text COLLATE "C"
    )
    graph_failures (
        service text COLLATE "C", failed_at timestamptz, token uuid,
        PRIMARY KEY (service, failed_at, token)
    )
    graph_managers (
        name text COLLATE "C" PRIMARY KEY, uuid uuid NOT NULL, registered_at timestamptz NOT NULL,
        status text NOT NULL, detail text, saturation float8, status_updated_at timestamptz NOT NULL
    )
    graph_identities (
        type text COLLATE "C", identifier text COLLATE "C", hashed_key text NOT NULL,
        expires_at timestamptz, disabled boolean NOT NULL, email text, full_name text,
        scopes text[] NOT NULL, PRIMARY KEY (type, identifier)
    )
    graph_touched (task uuid PRIMARY KEY)
"""
_NAMES = [line.split()[0] for line in STAGING_TABLES.splitlines() if line[4:9] == "graph"]
_BODIES = [
    part.strip() for part in STAGING_TABLES.strip().replace("\n    graph_", "\0graph_").split("\0")
]
CREATE_STAGING = [
    text(f"CREATE TEMPORARY TABLE IF NOT EXISTS {body} ON COMMIT DROP") for body in _BODIES
]
MAY_STAGE = text("""
    SELECT has_database_privilege(current_database(), 'TEMPORARY') AS allowed,
        quote_ident(current_database()) AS database, quote_ident(current_user) AS role
""")
EMPTY_STAGING = text(f"TRUNCATE {', '.join(_NAMES)}")


def _stage(table: str, columns: dict[str, str]) -> TextClause:
    """Return the statement that adds a page of rows, given as one array for each column."""
    arrays = ", ".join(
        # An array of arrays would need rows of one length, so that these are JSON.
        f"CAST(:{name} AS {'text' if kind == 'text[]' else kind}[])"
        for name, kind in columns.items()
    )
    values = ", ".join(
        f"CASE WHEN x.{name} IS NOT NULL"
        f" THEN ARRAY(SELECT jsonb_array_elements_text(CAST(x.{name} AS jsonb))) END"
        if kind == "text[]"
        else f"x.{name}"
        for name, kind in columns.items()
    )
    return text(f"""
        INSERT INTO {table} ({", ".join(columns)})
        SELECT {values} FROM unnest({arrays}) AS x ({", ".join(columns)})
        ON CONFLICT DO NOTHING
    """)


STAGE = {
    "networks": _stage("graph_networks", {"network": "uuid"}),
    "hubs": _stage("graph_hubs", {"network": "uuid", "taskhub": "uuid", "weight": "float8"}),
    "marks": _stage("graph_marks", {"network": "uuid", "mark": "uuid", "state": "text"}),
    "strategies": _stage(
        "graph_strategies",
        {
            "network": "uuid",
            "strategy": "uuid",
            "mode": "text",
            "status": "text",
            "iterations": "bigint",
            "sleep_interval": "bigint",
            "last_iteration_at": "timestamptz",
            "last_iteration_result_count": "bigint",
            "max_tasks_per_transformation": "bigint",
            "task_scaling": "text",
            "exception": "text[]",
            "traceback": "text",
        },
    ),
    "tasks": _stage(
        "graph_tasks",
        {
            "task": "uuid",
            "transformation": "uuid",
            "status": "text",
            "priority": "bigint",
            "creator": "text",
            "created_at": "timestamptz",
            "parent": "uuid",
            "service": "text",
            "claimed_at": "timestamptz",
        },
    ),
    "actions": _stage("graph_actions", {"taskhub": "uuid", "task": "uuid", "weight": "float8"}),
    "patterns": _stage(
        "graph_patterns",
        {"taskhub": "uuid", "token": "uuid", "pattern": "text", "max_retries": "integer"},
    ),
    "counters": _stage(
        "graph_counters",
        {"taskhub": "uuid", "task": "uuid", "pattern": "uuid", "retries": "integer"},
    ),
    "results": _stage(
        "graph_results",
        {
            "result": "uuid",
            "obj_key": "text",
            "location": "text",
            "scope": "text",
            "ok": "boolean",
            "creator": "text",
            "datetime_created": "timestamptz",
        },
    ),
    "links": _stage("graph_links", {"task": "uuid", "result": "uuid"}),
    "services": _stage(
        "graph_services",
        {
            "identifier": "text",
            "registered_at": "timestamptz",
            "heartbeat_at": "timestamptz",
            "manager_name": "text",
        },
    ),
    "failures": _stage(
        "graph_failures", {"service": "text", "failed_at": "timestamptz", "token": "uuid"}
    ),
    "managers": _stage(
        "graph_managers",
        {
            "name": "text",
            "uuid": "uuid",
            "registered_at": "timestamptz",
            "status": "text",
            "detail": "text",
            "saturation": "float8",
            "status_updated_at": "timestamptz",
        },
    ),
    "identities": _stage(
        "graph_identities",
        {
            "type": "text",
            "identifier": "text",
            "hashed_key": "text",
            "expires_at": "timestamptz",
            "disabled": "boolean",
            "email": "text",
            "full_name": "text",
            "scopes": "text[]",
        },
    ),
}
# The token is that of `add_protocol_dag_result_ref_tracebacks`.
STAGE_TRACEBACKS = text("""
    INSERT INTO graph_tracebacks (result, token, tracebacks, source_keys, failure_keys, size)
    SELECT result,
        CAST(md5(CAST(ROW(tracebacks, source_keys, failure_keys) AS text)) AS uuid),
        tracebacks, source_keys, failure_keys, size
    FROM (
        SELECT result, size,
            ARRAY(SELECT jsonb_array_elements_text(CAST(x.tracebacks AS jsonb))) AS tracebacks,
            ARRAY(SELECT jsonb_array_elements_text(CAST(x.source_keys AS jsonb))) AS source_keys,
            ARRAY(SELECT jsonb_array_elements_text(CAST(x.failure_keys AS jsonb))) AS failure_keys
        FROM unnest(
            CAST(:result AS uuid[]), CAST(:tracebacks AS text[]), CAST(:source_keys AS text[]),
            CAST(:failure_keys AS text[]), CAST(:size AS bigint[])
        ) AS x (result, tracebacks, source_keys, failure_keys, size)
    ) AS x
    ON CONFLICT DO NOTHING
""")


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
ANALYZE_STAGING = text(f"ANALYZE {', '.join(_NAMES)}")

FIND_GONE_NETWORKS = text("""
    SELECT kind, token FROM networks AS n
    WHERE n.scope_id = :scope_id AND NOT EXISTS (
        SELECT FROM graph_networks AS g WHERE g.network = n.token
    )
    ORDER BY token
""")
FIND_GONE_HUBS = text("""
    SELECT network FROM taskhubs AS h
    WHERE h.scope_id = :scope_id AND NOT EXISTS (
        SELECT FROM graph_hubs AS g WHERE g.taskhub = h.token AND g.network = h.network
    )
    ORDER BY network
""")


class Merge(NamedTuple):
    """The statements that make a table equal to a staging table.

    `removed` returns a row for each row that it removes, `merged` the numbers of new and changed
    rows.
    """

    kind: str
    removed: TextClause | None
    merged: TextClause


def _touch(task: str) -> str:
    """Return a step that notes the tasks whose places in the queue may have to change."""
    return f"""touched AS (
        INSERT INTO graph_touched SELECT DISTINCT {task} FROM new ON CONFLICT DO NOTHING
    )"""


_COUNTS = "SELECT count(*) FILTER (WHERE added), count(*) FILTER (WHERE NOT added) FROM new"


def _removed(table: str, condition: str, task: str = "") -> TextClause:
    """Return the statement that deletes rows of the scope that are not staged."""
    gone = f"""
        DELETE FROM {table} AS t
        WHERE t.scope_id = :scope_id AND NOT EXISTS ({condition})
    """
    if not task:
        return text(f"{gone} RETURNING 1")
    return text(f"WITH new AS ({gone} RETURNING {task}), {_touch(task)} SELECT 1 FROM new")


# The statuses of tasks that exist, before they change.
NOTE_STATUS_CHANGES = text(f"""
    INSERT INTO status_changes (scope_id, task, change, status, changed_at, reason)
    SELECT t.scope_id, t.token, :change, g.status, :now, '{IMPORTED}'
    FROM graph_tasks AS g JOIN tasks AS t ON t.scope_id = :scope_id AND t.token = g.task
    WHERE g.status <> t.status AND g.service IS NULL
""")
LOCK_TASKS_OF_SCOPE = text("""
    SELECT count(*) FROM (
        SELECT FROM tasks WHERE scope_id = :scope_id ORDER BY token FOR NO KEY UPDATE
    ) AS locked
""")
# The claims that the graph does not have, and then the attempts without a claim.
REMOVE_CLAIMS = (
    text("""
        DELETE FROM claims AS c WHERE c.scope_id = :scope_id AND NOT EXISTS (
            SELECT FROM graph_tasks AS g
            WHERE g.task = c.task AND g.service = c.service AND g.claimed_at = c.claimed_at
                AND c.attempt = 1
        )
        RETURNING 1
    """),
    text("""
        DELETE FROM attempts AS a WHERE a.scope_id = :scope_id AND NOT EXISTS (
            SELECT FROM claims AS c
            WHERE c.scope_id = a.scope_id AND c.task = a.task AND c.attempt = a.attempt
        )
    """),
)
MERGES = (
    Merge(
        "hubs",
        None,
        text(f"""
            WITH new AS (
                INSERT INTO taskhubs AS t (scope_id, token, network, weight, created_at)
                SELECT :scope_id, taskhub, network, weight, :now FROM graph_hubs ORDER BY taskhub
                ON CONFLICT (scope_id, token) DO UPDATE SET weight = excluded.weight
                WHERE t.weight <> excluded.weight
                RETURNING xmax = 0 AS added
            ) {_COUNTS}
        """),
    ),
    Merge(
        "marks",
        _removed("network_marks", "SELECT FROM graph_networks AS g WHERE g.network = t.network"),
        text(f"""
            WITH new AS (
                INSERT INTO network_marks AS t (scope_id, token, network, state, created_at)
                SELECT :scope_id, mark, network, state, :now FROM graph_marks ORDER BY network
                ON CONFLICT (scope_id, network) DO UPDATE SET state = excluded.state
                WHERE t.state <> excluded.state
                RETURNING xmax = 0 AS added
            ) {_COUNTS}
        """),
    ),
    Merge(
        "strategies",
        text("""
            WITH gone AS (
                UPDATE networks AS n SET strategy = NULL
                WHERE n.scope_id = :scope_id AND n.strategy IS NOT NULL AND NOT EXISTS (
                    SELECT FROM graph_strategies AS g WHERE g.network = n.token
                )
                RETURNING n.token
            ), states AS (
                DELETE FROM network_strategies AS t
                WHERE t.scope_id = :scope_id AND NOT EXISTS (
                    SELECT FROM graph_strategies AS g WHERE g.network = t.network
                )
            )
            SELECT token FROM gone
        """),
        text("""
            WITH links AS (
                UPDATE networks AS n SET strategy = g.strategy FROM graph_strategies AS g
                WHERE n.scope_id = :scope_id AND n.token = g.network
                    AND n.strategy IS DISTINCT FROM g.strategy
                RETURNING n.token
            ), new AS (
                INSERT INTO network_strategies AS t (
                    scope_id, network, set_at, set_since_lease, mode, status, iterations,
                    sleep_interval, last_iteration_at, last_iteration_result_count,
                    max_tasks_per_transformation, task_scaling, exception, traceback
                )
                SELECT :scope_id, network, :now, true, mode, status, iterations, sleep_interval,
                    last_iteration_at, last_iteration_result_count, max_tasks_per_transformation,
                    task_scaling, exception, traceback
                FROM graph_strategies
                ON CONFLICT (scope_id, network) DO UPDATE SET
                    mode = excluded.mode, status = excluded.status,
                    iterations = excluded.iterations, sleep_interval = excluded.sleep_interval,
                    last_iteration_at = excluded.last_iteration_at,
                    last_iteration_result_count = excluded.last_iteration_result_count,
                    max_tasks_per_transformation = excluded.max_tasks_per_transformation,
                    task_scaling = excluded.task_scaling, exception = excluded.exception,
                    traceback = excluded.traceback, set_since_lease = true
                WHERE (
                    t.mode, t.status, t.iterations, t.sleep_interval, t.last_iteration_at,
                    t.last_iteration_result_count, t.max_tasks_per_transformation, t.task_scaling,
                    t.exception, t.traceback
                ) IS DISTINCT FROM (
                    excluded.mode, excluded.status, excluded.iterations, excluded.sleep_interval,
                    excluded.last_iteration_at, excluded.last_iteration_result_count,
                    excluded.max_tasks_per_transformation, excluded.task_scaling,
                    excluded.exception, excluded.traceback
                )
                RETURNING xmax = 0 AS added, network
            )
            SELECT count(*) FILTER (WHERE added),
                (
                    SELECT count(*) FROM (
                        SELECT token FROM links UNION SELECT network FROM new
                    ) AS either
                ) - count(*) FILTER (WHERE added)
            FROM new
        """),
    ),
    Merge(
        "tasks",
        None,
        text(f"""
            WITH new AS (
                INSERT INTO tasks AS t (
                    scope_id, token, transformation, status, status_changed_at, priority, attempts,
                    creator, created_at
                )
                SELECT :scope_id, task, transformation, status,
                    coalesce(claimed_at, CASE status WHEN 'waiting' THEN created_at ELSE :now END),
                    priority, CASE WHEN service IS NULL THEN 0 ELSE 1 END, creator, created_at
                FROM graph_tasks ORDER BY task
                ON CONFLICT (scope_id, token) DO UPDATE SET
                    transformation = excluded.transformation, status = excluded.status,
                    status_changed_at = CASE
                        WHEN t.status = excluded.status AND t.attempts = excluded.attempts
                        THEN t.status_changed_at
                        WHEN excluded.status = 'waiting' THEN :now
                        ELSE excluded.status_changed_at
                    END,
                    reason = CASE WHEN t.status = excluded.status THEN t.reason END,
                    priority = excluded.priority, attempts = excluded.attempts,
                    creator = excluded.creator, created_at = excluded.created_at
                WHERE (
                    t.transformation, t.status, t.priority, t.attempts, t.creator, t.created_at
                ) IS DISTINCT FROM (
                    excluded.transformation, excluded.status, excluded.priority, excluded.attempts,
                    excluded.creator, excluded.created_at
                )
                RETURNING xmax = 0 AS added, token, status, attempts
            ), {_touch("token")}, changes AS (
                INSERT INTO status_changes (scope_id, task, change, status, changed_at, reason)
                SELECT :scope_id, token, :change, status, :now, '{IMPORTED}' FROM new
                WHERE added AND status <> 'waiting' AND attempts = 0
            ) {_COUNTS}
        """),
    ),
    Merge(
        "extends",
        _removed(
            "extends",
            "SELECT FROM graph_tasks AS g WHERE g.task = t.task AND g.parent = t.parent",
            "task",
        ),
        text(f"""
            WITH new AS (
                INSERT INTO extends AS t (scope_id, task, parent, transformation)
                SELECT :scope_id, task, parent, transformation FROM graph_tasks
                WHERE parent IS NOT NULL ORDER BY task
                ON CONFLICT DO NOTHING
                RETURNING true AS added, task
            ), {_touch("task")} {_COUNTS}
        """),
    ),
    Merge(
        "claims",
        None,
        text(f"""
            WITH missing AS MATERIALIZED (
                SELECT g.* FROM graph_tasks AS g
                WHERE g.service IS NOT NULL AND NOT EXISTS (
                    SELECT FROM claims AS c WHERE c.scope_id = :scope_id AND c.task = g.task
                )
            ), attempts AS (
                INSERT INTO attempts (
                    scope_id, task, attempt, service, claimed_at, taskhub, lane, priority, race
                )
                SELECT :scope_id, task, 1, service, claimed_at, coalesce(
                        (
                            SELECT a.taskhub FROM graph_actions AS a WHERE a.task = m.task
                            ORDER BY a.taskhub LIMIT 1
                        ),
                        '{NIL}'
                    ), '', priority, 0
                FROM missing AS m
            ), new AS (
                INSERT INTO claims (scope_id, task, attempt, service, claimed_at)
                SELECT :scope_id, task, 1, service, claimed_at FROM missing
                RETURNING true AS added
            ) {_COUNTS}
        """),
    ),
    Merge(
        "actions",
        _removed(
            "actions",
            "SELECT FROM graph_actions AS g WHERE g.taskhub = t.taskhub AND g.task = t.task",
            "task",
        ),
        text(f"""
            WITH new AS (
                INSERT INTO actions AS t (scope_id, taskhub, task, weight, created_at)
                SELECT :scope_id, taskhub, task, weight, :now FROM graph_actions
                ORDER BY task, taskhub
                ON CONFLICT (scope_id, taskhub, task) DO UPDATE SET weight = excluded.weight
                WHERE t.weight <> excluded.weight
                RETURNING xmax = 0 AS added, task
            ), {_touch("task")} {_COUNTS}
        """),
    ),
    Merge(
        "restart patterns",
        _removed(
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
            ) {_COUNTS}
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
            ) {_COUNTS}
        """),
    ),
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
            ) {_COUNTS}
        """),
    ),
    Merge(
        "results of tasks",
        _removed(
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
            ) {_COUNTS}
        """),
    ),
    Merge(
        "tracebacks",
        _removed(
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
            ) {_COUNTS}
        """),
    ),
)
# Last, because the merges above have removed what refers to them.
REMOVE_TASKS = _removed("tasks", "SELECT FROM graph_tasks AS g WHERE g.task = t.token", "token")
REMOVE_RESULTS = _removed("results", "SELECT FROM graph_results AS g WHERE g.result = t.token")
TAKE_TOUCHED = text("""
    DELETE FROM graph_touched WHERE task IN (SELECT task FROM graph_touched LIMIT :limit)
    RETURNING task
""")

MERGE_REGISTRATIONS = (
    Merge(
        "managers",
        text("""
            DELETE FROM compute_managers AS t WHERE NOT EXISTS (
                SELECT FROM graph_managers AS g WHERE g.name = t.name
            )
            RETURNING 1
        """),
        text(f"""
            WITH new AS (
                INSERT INTO compute_managers AS t (
                    name, uuid, registered_at, status, detail, saturation, status_updated_at
                )
                SELECT name, uuid, registered_at, status, detail, saturation, status_updated_at
                FROM graph_managers ORDER BY name
                ON CONFLICT (name) DO UPDATE SET
                    uuid = excluded.uuid, registered_at = excluded.registered_at,
                    status = excluded.status, detail = excluded.detail,
                    saturation = excluded.saturation,
                    status_updated_at = excluded.status_updated_at
                WHERE (
                    t.uuid, t.registered_at, t.status, t.detail, t.saturation, t.status_updated_at
                ) IS DISTINCT FROM (
                    excluded.uuid, excluded.registered_at, excluded.status, excluded.detail,
                    excluded.saturation, excluded.status_updated_at
                )
                RETURNING xmax = 0 AS added
            ) {_COUNTS}
        """),
    ),
    Merge(
        "services",
        None,
        text(f"""
            WITH new AS (
                INSERT INTO compute_services AS t (
                    identifier, registered_at, heartbeat_at, manager_name
                )
                SELECT identifier, registered_at, heartbeat_at, manager_name
                FROM graph_services ORDER BY identifier
                ON CONFLICT (identifier) DO UPDATE SET
                    registered_at = excluded.registered_at, heartbeat_at = excluded.heartbeat_at,
                    manager_name = excluded.manager_name
                WHERE (t.registered_at, t.heartbeat_at, t.manager_name) IS DISTINCT FROM (
                    excluded.registered_at, excluded.heartbeat_at, excluded.manager_name
                )
                RETURNING xmax = 0 AS added
            ) {_COUNTS}
        """),
    ),
    Merge(
        "failures of services",
        text("""
            DELETE FROM service_failures AS t WHERE NOT EXISTS (
                SELECT FROM graph_failures AS g
                WHERE (g.service, g.failed_at, g.token) = (t.service, t.failed_at, t.token)
            )
            RETURNING 1
        """),
        text(f"""
            WITH new AS (
                INSERT INTO service_failures (service, failed_at, token)
                SELECT service, failed_at, token FROM graph_failures
                ON CONFLICT DO NOTHING
                RETURNING true AS added
            ) {_COUNTS}
        """),
    ),
)
# A service with claims in a scope that was not imported stays.
REMOVE_SERVICES = text("""
    DELETE FROM compute_services AS t
    WHERE NOT EXISTS (SELECT FROM graph_services AS g WHERE g.identifier = t.identifier)
        AND NOT EXISTS (SELECT FROM claims AS c WHERE c.service = t.identifier)
    RETURNING 1
""")
MERGE_IDENTITIES = (
    Merge(
        "identities",
        text("""
            DELETE FROM identities AS t WHERE NOT EXISTS (
                SELECT FROM graph_identities AS g
                WHERE g.type = t.type AND g.identifier = t.identifier
            )
            RETURNING 1
        """),
        text(f"""
            WITH new AS (
                INSERT INTO identities AS t (
                    type, identifier, hashed_key, expires_at, disabled, email, full_name, created_at
                )
                SELECT type, identifier, hashed_key, expires_at, disabled, email, full_name, :now
                FROM graph_identities ORDER BY type, identifier
                ON CONFLICT (type, identifier) DO UPDATE SET
                    hashed_key = excluded.hashed_key, expires_at = excluded.expires_at,
                    disabled = excluded.disabled, email = excluded.email,
                    full_name = excluded.full_name
                WHERE (t.hashed_key, t.expires_at, t.disabled, t.email, t.full_name)
                    IS DISTINCT FROM (
                        excluded.hashed_key, excluded.expires_at, excluded.disabled,
                        excluded.email, excluded.full_name
                    )
                RETURNING xmax = 0 AS added
            ) {_COUNTS}
        """),
    ),
    Merge(
        "scopes of identities",
        text("""
            DELETE FROM identity_scopes AS s USING identities AS i, graph_identities AS g
            WHERE i.id = s.identity_id AND g.type = i.type AND g.identifier = i.identifier
                AND s.scope <> ALL(g.scopes)
            RETURNING 1
        """),
        text(f"""
            WITH new AS (
                INSERT INTO identity_scopes (identity_id, scope)
                SELECT i.id, x.scope
                FROM graph_identities AS g
                JOIN identities AS i ON i.type = g.type AND i.identifier = g.identifier
                CROSS JOIN LATERAL unnest(g.scopes) WITH ORDINALITY AS x (scope, place)
                ORDER BY i.id, x.place
                ON CONFLICT DO NOTHING
                RETURNING true AS added
            ) {_COUNTS}
        """),
    ),
)

# One transaction at a time imports a part.
LOCK_PART = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('import of ' || CAST(:part AS text), 0))"
)
READ_PART = text("SELECT source, digest FROM graph_imports WHERE part = :part")
NOTE_PART = text("""
    INSERT INTO graph_imports AS t (part, source, digest, imported_at)
    VALUES (:part, :source, :digest, :now)
    ON CONFLICT (part) DO UPDATE
    SET source = excluded.source, digest = excluded.digest, imported_at = excluded.imported_at
""")
_OF_A_SCOPE = sorted(
    name
    for name, table in metadata.tables.items()
    # The queue and its lanes follow from the others; the rest never changes what was imported.
    if "scope_id" in table.columns
    and name not in ("queue", "lanes", "environments", "document_conflicts", "gufe_objects")
)


def _digest(tables: list[str], condition: str) -> TextClause:
    """Return a statement for the number of rows of tables, and a digest of their contents."""
    rows = " UNION ALL ".join(
        f"SELECT hash_record_extended(t, {place}) AS hash FROM {table} AS t {condition}"
        for place, table in enumerate(tables)
    )
    return text(f"""
        SELECT count(*) AS rows, CAST(coalesce(sum(hash), 0) AS text) AS digest FROM ({rows}) AS x
    """)


DIGEST_OF_SCOPE = _digest(_OF_A_SCOPE, "WHERE t.scope_id = :scope_id")
DIGEST_OF_SERVICES = _digest(["compute_managers", "compute_services", "service_failures"], "")
DIGEST_OF_IDENTITIES = _digest(["identities", "identity_scopes"], "")
