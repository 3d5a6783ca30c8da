-- Settle a task, 3: add the result.
-- Rendered by `make statements`; do not edit.
-- $1: scope_id (bigint)
-- $2: result (uuid)
-- $3: obj_key (text)
-- $4: location (text)
-- $5: scope (text)
-- $6: ok (boolean)
-- $7: creator (text)
-- $8: datetime_created (timestamptz)
-- $9: now (timestamptz)
-- $10: task (uuid)
-- $11: attempt (integer)
-- $12: settles (boolean)
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE settle_result (
    bigint,
    uuid,
    text,
    text,
    text,
    boolean,
    text,
    timestamptz,
    timestamptz,
    uuid,
    integer,
    boolean
) AS
-- The reference, once.
WITH ref AS (
    INSERT INTO results (
        scope_id, token, obj_key, location, scope, ok, creator, datetime_created, created_at
    )
    VALUES (
        $1, $2, $3, $4, $5, $6, $7, $8, $9
    )
    ON CONFLICT DO NOTHING
),
-- An attempt keeps the result that settled it, otherwise the first that was stored for it.
noted AS (
    UPDATE attempts SET result = $2
    WHERE scope_id = $1 AND task = $10 AND attempt = $11
        AND ($12 OR result IS NULL)
)
INSERT INTO task_results (scope_id, task, result, attempt, created_at)
VALUES ($1, $10, $2, $11, $9)
ON CONFLICT (scope_id, task, result) DO UPDATE SET attempt = excluded.attempt
WHERE task_results.attempt IS NULL AND excluded.attempt IS NOT NULL;
EXECUTE settle_result (
    1000,
    '70000000-0000-0000-0000-000000000001',
    'ProtocolDAGResult-1',
    NULL,
    'org-campaign-project',
    true,
    NULL,
    '2026-01-02 03:04:05+00',
    '2026-01-02 03:04:05+00',
    '50000000-0000-7000-8000-000000000003',
    1,
    true
);
DEALLOCATE settle_result;
ROLLBACK;
