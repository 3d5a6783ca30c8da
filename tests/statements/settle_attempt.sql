-- Settle a task, 2: find the attempt.
-- Rendered by `make statements`; do not edit.
-- $1: org (text)
-- $2: campaign (text)
-- $3: project (text)
-- $4: token (uuid)
-- $5: service (text)
-- $6: attempt (integer)
-- $7: result (uuid)
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE settle_attempt (
    text,
    text,
    text,
    uuid,
    text,
    integer,
    uuid
) AS
SELECT a.attempt, a.outcome, c.attempt IS NOT NULL AS holds
FROM attempts AS a
LEFT JOIN claims AS c
    ON c.scope_id = a.scope_id AND c.task = a.task AND c.attempt = a.attempt
WHERE a.scope_id = (SELECT id FROM scopes WHERE org = $1 AND campaign = $2 AND project = $3) AND a.task = $4
    AND (CAST($5 AS text) IS NULL OR a.service = $5)
    AND (CAST($6 AS integer) IS NULL OR a.attempt = $6)
ORDER BY (a.result IS NOT DISTINCT FROM $7 OR a.attempt IS NOT DISTINCT FROM (
        SELECT l.attempt FROM task_results AS l
        WHERE l.scope_id = (SELECT id FROM scopes WHERE org = $1 AND campaign = $2 AND project = $3) AND l.task = $4 AND l.result = $7
)) DESC, a.attempt DESC
LIMIT 1;
EXECUTE settle_attempt (
    'org',
    'campaign',
    'project',
    '50000000-0000-7000-8000-000000000003',
    'service',
    1,
    '70000000-0000-0000-0000-000000000001'
);
DEALLOCATE settle_attempt;
ROLLBACK;
