-- Claim from one hub, any protocol.
-- Rendered by `make statements`; do not edit.
-- $1: service (text)
-- $2: org (text)
-- $3: campaign (text)
-- $4: project (text)
-- $5: token (uuid)
-- $6: now (timestamptz)
-- $7: request (uuid)
-- $8: call (text)
-- $9: arguments (uuid)
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE claim_hub_any (
    text,
    text,
    text,
    text,
    uuid,
    timestamptz,
    uuid,
    text,
    uuid
) AS
WITH
-- The registration of the service, locked so that it cannot be removed during the claim. If
-- it does not exist, all following steps are empty.
service AS MATERIALIZED (
    SELECT identifier, hostname FROM compute_services
    WHERE identifier = $1 FOR KEY SHARE
),
-- The hubs to claim from, in the order drawn.
hub AS MATERIALIZED (
    SELECT hub.* FROM service CROSS JOIN (
        SELECT 1 AS draw, h.scope_id, h.token FROM taskhubs AS h
        WHERE h.scope_id = (SELECT id FROM scopes WHERE org = $2 AND campaign = $3 AND project = $4)
            AND h.token = $5
    ) AS hub ORDER BY draw
),
-- The tasks to claim, locked, with the queue row through which each is claimed. The LIMIT
-- stops the index scans as soon as there are enough.
picked AS MATERIALIZED (
    SELECT head.* FROM (
        SELECT hub.draw, q.* FROM hub
        -- The lanes of each hub in order of priority, read one after the other and only until the
        -- claim has enough tasks.
        CROSS JOIN LATERAL (
            SELECT l.priority, l.floor FROM lanes AS l
            WHERE l.scope_id = hub.scope_id AND l.taskhub = hub.token AND l.protocol = ''
            ORDER BY l.priority
        ) AS lane
        -- The first rows of each lane in order of race, read from the index and locked one by one.
        CROSS JOIN LATERAL (
            SELECT q.scope_id, q.taskhub, q.task, q.priority, q.race, '' AS lane FROM queue AS q
            WHERE q.scope_id = hub.scope_id AND q.taskhub = hub.token
                AND q.priority = lane.priority AND q.race >= lane.floor
            ORDER BY q.race LIMIT 201
            FOR UPDATE SKIP LOCKED
        ) AS q
    ) AS head
    -- Looks up and locks each task by key. Skips tasks that are locked or not waiting.
    CROSS JOIN LATERAL (
        SELECT t.token FROM tasks AS t
        WHERE t.scope_id = head.scope_id AND t.token = head.task AND t.status = 'waiting'
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS t
    -- A task on several hubs is claimed through the first of them. That claim is not yet
    -- visible to this statement, so the task must be skipped on the other hubs.
    WHERE head.draw = 1 OR NOT EXISTS (
        SELECT FROM (
            SELECT q.taskhub FROM queue AS q
            WHERE q.scope_id = head.scope_id AND q.task = head.task OFFSET 0
        ) AS q
        JOIN hub AS earlier
            ON earlier.scope_id = head.scope_id AND earlier.token = q.taskhub
        WHERE earlier.draw < head.draw
    )
    LIMIT 1
),
-- The queue rows of the picked tasks on all hubs, locked. A row that another transaction has
-- locked is left behind; claims skip it, because its task is not waiting.
siblings AS MATERIALIZED (
    SELECT q.* FROM picked
    -- Looks up the rows of each task by scope and task.
    CROSS JOIN LATERAL (
        SELECT q.scope_id, q.task, q.taskhub FROM queue AS q
        WHERE q.scope_id = picked.scope_id AND q.task = picked.task
        FOR UPDATE SKIP LOCKED
    ) AS q
),
-- Removes these rows from the queue.
taken AS (
    DELETE FROM queue AS q USING siblings AS s
    WHERE q.scope_id = s.scope_id AND q.task = s.task
        AND q.taskhub IS NOT DISTINCT FROM s.taskhub
),
-- Sets the picked tasks running and numbers the attempt.
started AS (
    UPDATE tasks AS t
    SET status = 'running', status_changed_at = $6, reason = NULL, attempts = t.attempts + 1
    FROM picked AS p WHERE t.scope_id = p.scope_id AND t.token = p.task
    RETURNING p.draw, p.scope_id, p.taskhub, p.task, p.lane, p.priority, p.race, t.attempts
),
-- Records the attempts, with lane and race, because clocks are read from them.
opened AS (
    INSERT INTO attempts (
        scope_id, task, attempt, service, hostname, claimed_at, taskhub, lane, priority, race
    )
    SELECT
    scope_id, task, attempts, identifier, hostname, $6, taskhub, lane, priority, race
    FROM started CROSS JOIN service
),
-- Records who holds the tasks.
held AS (
    INSERT INTO claims (scope_id, task, attempt, service, claimed_at)
    SELECT scope_id, task, attempts, identifier, $6 FROM started CROSS JOIN service
),
-- The started tasks with the parts of their keys. Read once, because two steps use them.
claimed AS MATERIALIZED (
    SELECT started.draw, started.priority, started.race, started.task,
    s.org, s.campaign, s.project
    FROM started JOIN scopes AS s ON s.id = started.scope_id
),
-- Remembers the answer under the identifier of the request, if there are both. In the format
-- of `requests`.
remembered AS (
    INSERT INTO requests (request, call, arguments, answer, made_at)
    SELECT CAST($7 AS uuid), $8, CAST($9 AS uuid), CAST(json_agg(
            'kTask-' || replace(CAST(task AS text), '-', '')
            || '-' || org || '-' || campaign || '-' || project
            ORDER BY draw, priority, race
        ) AS text), $6
    FROM claimed WHERE CAST($7 AS uuid) IS NOT NULL
    HAVING count(*) > 0
    ON CONFLICT (request) DO UPDATE SET answer = excluded.answer
)
-- Returns at least one row: without a task if there was none, and without a service if it is
-- not registered.
SELECT service.identifier AS service, c.org, c.campaign, c.project, c.task
FROM (SELECT) AS always
LEFT JOIN service ON true
LEFT JOIN claimed AS c ON true
ORDER BY c.draw, c.priority, c.race;
EXECUTE claim_hub_any (
    'service',
    'org',
    'campaign',
    'project',
    '40000000-0000-0000-0000-000000000001',
    '2026-01-02 03:04:05+00',
    '90000000-0000-7000-8000-000000000001',
    'claim_tasks',
    '90000000-0000-0000-0000-000000000001'
);
DEALLOCATE claim_hub_any;
ROLLBACK;
