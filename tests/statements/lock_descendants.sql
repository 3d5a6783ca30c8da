-- Lock tasks, reach 'descendants'.
-- Rendered by `make statements`; do not edit.
-- $1: scope_ids (bigint[])
-- $2: tokens (uuid[])
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE lock_descendants (
    bigint[],
    uuid[]
) AS
SELECT count(*) FROM (
    SELECT FROM (SELECT scope_id, task FROM (
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
        ) AS x ORDER BY scope_id, task) AS x
    -- Rows are locked one at a time, in the order of their keys, as looked up.
    CROSS JOIN LATERAL (
        SELECT FROM tasks AS t
        WHERE t.scope_id = x.scope_id AND t.token = x.task FOR NO KEY UPDATE
    ) AS t
) AS locked;
EXECUTE lock_descendants (
    ARRAY[1000, 1000],
    ARRAY[uuid '50000000-0000-7000-8000-000000000001', '50000000-0000-7000-8000-000000000003']
);
DEALLOCATE lock_descendants;
ROLLBACK;
