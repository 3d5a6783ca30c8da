-- Leave the queue, reach 'descendants'.
-- Rendered by `make statements`; do not edit.
-- $1: scope_ids (bigint[])
-- $2: tokens (uuid[])
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE leave_descendants (
    bigint[],
    uuid[]
) AS
WITH touched AS MATERIALIZED (
    -- The given tasks and everything that extends them, directly or not.
    WITH RECURSIVE tree (scope_id, task) AS (
        SELECT scope_id, task
        FROM unnest(CAST($1 AS bigint[]), CAST($2 AS uuid[])) AS x (scope_id, task)
        UNION SELECT e.scope_id, e.task FROM tree
        CROSS JOIN LATERAL (
            SELECT e.scope_id, e.task FROM extends AS e
            WHERE e.scope_id = tree.scope_id AND e.parent = tree.task OFFSET 0
        ) AS e
    )
    SELECT scope_id, task FROM tree
)
-- Deletes the queue rows of those that are not waiting any more.
DELETE FROM queue WHERE ctid = ANY(ARRAY(
        SELECT x.ctid FROM touched CROSS JOIN LATERAL (
            SELECT x.ctid  FROM queue AS x
            WHERE x.scope_id = touched.scope_id AND x.task = touched.task
            OFFSET 0
        ) AS x
        WHERE coalesce((
                SELECT t.status FROM tasks AS t
                WHERE t.scope_id = touched.scope_id AND t.token = touched.task
            ), '') <> 'waiting'
));
EXECUTE leave_descendants (
    ARRAY[1000, 1000],
    ARRAY[uuid '50000000-0000-7000-8000-000000000001', '50000000-0000-7000-8000-000000000003']
);
DEALLOCATE leave_descendants;
ROLLBACK;
