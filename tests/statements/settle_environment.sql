-- Settle a task, 4: add the environment.
-- Rendered by `make statements`; do not edit.
-- $1: scope_id (bigint)
-- $2: token (uuid)
-- $3: packages (text)
-- $4: now (timestamptz)
-- $5: task (uuid)
-- $6: attempt (integer)
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE settle_environment (
    bigint,
    uuid,
    text,
    timestamptz,
    uuid,
    integer
) AS
WITH
-- Stores the environment, unless it is known.
known AS (
    INSERT INTO environments (scope_id, token, packages, created_at)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING
)
UPDATE attempts SET environment = $2
WHERE scope_id = $1 AND task = $5 AND attempt = $6 AND environment IS NULL;
EXECUTE settle_environment (
    1000,
    '80000000-0000-0000-0000-000000000001',
    '{"gufe": "1.0"}',
    '2026-01-02 03:04:05+00',
    '50000000-0000-7000-8000-000000000003',
    1
);
DEALLOCATE settle_environment;
ROLLBACK;
