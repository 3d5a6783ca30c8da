-- Leave the queue of a hub.
-- Rendered by `make statements`; do not edit.
-- $1: scope_ids (bigint[])
-- $2: tokens (uuid[])
-- $3: org (text)
-- $4: campaign (text)
-- $5: project (text)
-- $6: token (uuid)
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE leave_hub (
    bigint[],
    uuid[],
    text,
    text,
    text,
    uuid
) AS
DELETE FROM queue WHERE ctid = ANY(ARRAY(
        SELECT q.place FROM (
            SELECT scope_id, task
            FROM unnest(CAST($1 AS bigint[]), CAST($2 AS uuid[])) AS x (scope_id, task)
        ) AS x
        -- Looks up the queue rows of each task by key, and only then compares hubs.
        CROSS JOIN LATERAL (
            SELECT q.ctid AS place, q.taskhub FROM queue AS q
            WHERE q.scope_id = x.scope_id AND q.task = x.task OFFSET 0
        ) AS q
        WHERE x.scope_id = (SELECT id FROM scopes WHERE org = $3 AND campaign = $4 AND project = $5) AND q.taskhub = $6
));
EXECUTE leave_hub (
    ARRAY[1000, 1000],
    ARRAY[uuid '50000000-0000-7000-8000-000000000001', '50000000-0000-7000-8000-000000000003'],
    'org',
    'campaign',
    'project',
    '40000000-0000-0000-0000-000000000001'
);
DEALLOCATE leave_hub;
ROLLBACK;
