-- Settle a task, 2: find the attempt.
-- Rendered by `make statements`; do not edit.
-- $1: scope_id (bigint)
-- $2: task (uuid)
-- $3: service (text)
-- $4: attempt (integer)
-- $5: result (uuid)
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE settle_attempt (
    bigint,
    uuid,
    text,
    integer,
    uuid
) AS
SELECT a.attempt, a.outcome, c.attempt IS NOT NULL AS holds
FROM attempts AS a
LEFT JOIN claims AS c
    ON c.scope_id = a.scope_id AND c.task = a.task AND c.attempt = a.attempt
WHERE a.scope_id = $1 AND a.task = $2
    AND (CAST($3 AS text) IS NULL OR a.service = $3)
    AND (CAST($4 AS integer) IS NULL OR a.attempt = $4)
ORDER BY (a.result IS NOT DISTINCT FROM $5 OR a.attempt IS NOT DISTINCT FROM (
        SELECT l.attempt FROM task_results AS l
        WHERE l.scope_id = $1 AND l.task = $2 AND l.result = $5
)) DESC, a.attempt DESC
LIMIT 1;
EXECUTE settle_attempt (
    1000,
    '50000000-0000-7000-8000-000000000003',
    'service',
    1,
    '70000000-0000-0000-0000-000000000001'
);
DEALLOCATE settle_attempt;
ROLLBACK;
