-- Settle a task, 1: lock.
-- Rendered by `make statements`; do not edit.
-- $1: org (text)
-- $2: campaign (text)
-- $3: project (text)
-- $4: token (uuid)
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE settle_lock (
    text,
    text,
    text,
    uuid
) AS
SELECT t.scope_id, t.token, t.status
FROM (
    SELECT
    (SELECT id FROM scopes WHERE org = $1 AND campaign = $2 AND project = $3) AS scope_id,
    CAST($4 AS uuid) AS task
    UNION ALL
    SELECT e.scope_id, e.task FROM extends AS e
    WHERE e.scope_id = (SELECT id FROM scopes WHERE org = $1 AND campaign = $2 AND project = $3)
        AND e.parent = $4
    ORDER BY task
) AS x
-- Looks up and locks each task by key, one by one and in order.
CROSS JOIN LATERAL (
    SELECT t.scope_id, t.token, t.status FROM tasks AS t
    WHERE t.scope_id = x.scope_id AND t.token = x.task FOR NO KEY UPDATE
) AS t;
EXECUTE settle_lock (
    'org',
    'campaign',
    'project',
    '50000000-0000-7000-8000-000000000003'
);
DEALLOCATE settle_lock;
ROLLBACK;
