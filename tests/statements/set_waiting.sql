-- Set tasks to waiting.
-- Rendered by `make statements`; do not edit.
-- $1: scope_ids (bigint[])
-- $2: tokens (uuid[])
-- $3: sources (text[])
-- $4: status (text)
-- $5: reason (text)
-- $6: now (timestamptz)
-- $7: outcome (text)
-- $8: change (uuid)
-- $9: actor (text)
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE set_waiting (
    bigint[],
    uuid[],
    text[],
    text,
    text,
    timestamptz,
    text,
    uuid,
    text
) AS
WITH RECURSIVE
-- The given tasks. Read once, because two steps use them.
wanted AS MATERIALIZED (
    SELECT scope_id, task
    FROM unnest(CAST($1 AS bigint[]), CAST($2 AS uuid[])) AS x (scope_id, task)
),
-- The given tasks that exist and may get the status.
accepted AS MATERIALIZED (
    SELECT wanted.scope_id, wanted.task FROM wanted
    -- Looks up each task by key.
    CROSS JOIN LATERAL (
        SELECT FROM tasks AS t
        WHERE t.scope_id = wanted.scope_id AND t.token = wanted.task
            AND t.status = ANY(CAST($3 AS text[])) OFFSET 0
    ) AS t
),
-- The tasks to change: these, and everything that extends them if the status cascades.
tree (scope_id, task) AS (
    SELECT scope_id, task FROM accepted
),
-- Sets the status of those that do not have it and are not invalid or deleted. The time is
-- that before the tasks were locked, but never before the last change.
changed AS (
    UPDATE tasks AS t SET status = $4, reason = $5,
    status_changed_at = greatest(
        $6, t.status_changed_at + interval '1 microsecond'
    )
    WHERE ctid = ANY(ARRAY(
            SELECT x.ctid FROM tree CROSS JOIN LATERAL (
                SELECT x.ctid  FROM tasks AS x
                WHERE x.scope_id = tree.scope_id AND x.token = tree.task
                OFFSET 0
            ) AS x
    ))
        AND t.status <> $4 AND t.status NOT IN ('invalid', 'deleted')
    RETURNING t.scope_id, t.token AS task, t.status_changed_at
),
-- Ends the claims on these tasks.
ended AS (
    DELETE FROM claims WHERE ctid = ANY(ARRAY(
            SELECT x.ctid FROM tree CROSS JOIN LATERAL (
                SELECT x.ctid  FROM claims AS x
                WHERE x.scope_id = tree.scope_id AND x.task = tree.task
                OFFSET 0
            ) AS x
    ))
    RETURNING scope_id, task, attempt
),
-- Records how the attempts with these claims ended.
closed AS (
    UPDATE attempts SET ended_at = greatest($6, claimed_at), outcome = $7,
    reason = $5
    WHERE ctid = ANY(ARRAY(
            SELECT x.ctid FROM ended CROSS JOIN LATERAL (
                SELECT x.ctid  FROM attempts AS x
                WHERE x.scope_id = ended.scope_id AND x.task = ended.task
                    AND x.attempt = ended.attempt OFFSET 0
            ) AS x
    ))
),
-- Adds the changes to the history of the tasks.
noted AS (
    INSERT INTO status_changes (scope_id, task, change, status, changed_at, reason, actor)
    SELECT changed.scope_id, changed.task, $8, $4, changed.status_changed_at,
    $5,
    $9
    FROM changed
),
-- The given tasks that were not accepted, which is what the call has to report.
refused AS (
    SELECT scope_id, task FROM wanted EXCEPT ALL SELECT scope_id, task FROM accepted
)
SELECT scope_id, task FROM refused;
EXECUTE set_waiting (
    ARRAY[1000, 1000],
    ARRAY[uuid '50000000-0000-7000-8000-000000000001', '50000000-0000-7000-8000-000000000003'],
    ARRAY['waiting', 'running', 'error'],
    'waiting',
    NULL,
    '2026-01-02 03:04:05+00',
    'released',
    '60000000-0000-7000-8000-000000000001',
    NULL
);
DEALLOCATE set_waiting;
ROLLBACK;
