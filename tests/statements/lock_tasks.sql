-- Lock tasks, reach 'tasks'.
-- Rendered by `make statements`; do not edit.
-- $1: scope_ids (bigint[])
-- $2: tokens (uuid[])
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE lock_tasks (
    bigint[],
    uuid[]
) AS
SELECT count(*) FROM (
    SELECT FROM (SELECT scope_id, task FROM (
            SELECT scope_id, task
            FROM unnest(CAST($1 AS bigint[]), CAST($2 AS uuid[])) AS x (scope_id, task)
        ) AS x ORDER BY scope_id, task) AS x
    -- Rows are locked one at a time, in the order of their keys, as looked up.
    CROSS JOIN LATERAL (
        SELECT FROM tasks AS t
        WHERE t.scope_id = x.scope_id AND t.token = x.task FOR NO KEY UPDATE
    ) AS t
) AS locked;
EXECUTE lock_tasks (
    ARRAY[1000, 1000],
    ARRAY[uuid '50000000-0000-7000-8000-000000000001', '50000000-0000-7000-8000-000000000003']
);
DEALLOCATE lock_tasks;
ROLLBACK;
