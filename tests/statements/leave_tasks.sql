-- Leave the queue, reach 'tasks'.
-- Rendered by `make statements`; do not edit.
-- $1: scope_ids (bigint[])
-- $2: tokens (uuid[])
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE leave_tasks (
    bigint[],
    uuid[]
) AS
WITH touched AS MATERIALIZED (
    SELECT scope_id, task
    FROM unnest(CAST($1 AS bigint[]), CAST($2 AS uuid[])) AS x (scope_id, task)
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
EXECUTE leave_tasks (
    ARRAY[1000, 1000],
    ARRAY[uuid '50000000-0000-7000-8000-000000000001', '50000000-0000-7000-8000-000000000003']
);
DEALLOCATE leave_tasks;
ROLLBACK;
