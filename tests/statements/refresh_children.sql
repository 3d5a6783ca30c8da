-- Refresh the queue, reach 'children'.
-- Rendered by `make statements`; do not edit.
-- $1: scope_ids (bigint[])
-- $2: tokens (uuid[])
-- $3: now (timestamptz)
-- $4: seed (bigint)
-- $5: notify (boolean)
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE refresh_children (
    bigint[],
    uuid[],
    timestamptz,
    bigint,
    boolean
) AS
WITH
-- The tasks whose queue rows may have to change. Read once, because several steps use them.
touched AS MATERIALIZED (
    SELECT scope_id, task
    FROM unnest(CAST($1 AS bigint[]), CAST($2 AS uuid[])) AS x (scope_id, task)
    UNION SELECT e.scope_id, e.task FROM (
        SELECT scope_id, task
        FROM unnest(CAST($1 AS bigint[]), CAST($2 AS uuid[])) AS x (scope_id, task)
    ) AS x
    CROSS JOIN LATERAL (
        SELECT e.scope_id, e.task FROM extends AS e
        WHERE e.scope_id = x.scope_id AND e.parent = x.task OFFSET 0
    ) AS e
),
-- The same tasks, with their priority and transformation if they are waiting and do not
-- extend an incomplete task, else with NULL: decides which queue rows may exist.
eligible AS MATERIALIZED (
    SELECT touched.scope_id, touched.task, t.priority, t.transformation
    -- The fence makes this a lookup of each task by key; a task without a row keeps NULL.
    FROM touched LEFT JOIN LATERAL (
        SELECT t.priority, t.transformation FROM tasks AS t
        WHERE t.scope_id = touched.scope_id AND t.token = touched.task
            AND t.status = 'waiting' AND coalesce((
                SELECT parent.status = 'complete' FROM extends AS e
                JOIN tasks AS parent
                    ON parent.scope_id = e.scope_id AND parent.token = e.parent
                WHERE e.scope_id = t.scope_id AND e.task = t.token
            ), true)
        OFFSET 0
    ) AS t ON true
),
-- Deletes the queue rows of tasks that cannot be claimed from their hub.
removed AS (DELETE FROM queue WHERE ctid = ANY(ARRAY(
            SELECT x.ctid FROM eligible CROSS JOIN LATERAL (
                SELECT x.ctid , x.taskhub FROM queue AS x
                WHERE x.scope_id = eligible.scope_id AND x.task = eligible.task
                OFFSET 0
            ) AS x
            WHERE eligible.priority IS NULL OR coalesce((
                    SELECT a.weight FROM actions AS a
                    WHERE a.scope_id = eligible.scope_id AND a.taskhub = x.taskhub
                        AND a.task = eligible.task
                ), 0) = 0
))),
-- The places on hubs that need a new race: `place` is the location of a queue row with
-- another priority or weight, or NULL if there is none. Unchanged rows keep their race.
fresh AS MATERIALIZED (
    SELECT a.scope_id, a.taskhub, a.task, eligible.priority, eligible.transformation,
    a.weight, q.place
    FROM eligible
    -- Looks up the actions of each task by key.
    CROSS JOIN LATERAL (
        SELECT a.* FROM actions AS a
        WHERE a.scope_id = eligible.scope_id AND a.task = eligible.task
            AND a.weight > 0 OFFSET 0
    ) AS a
    -- Looks up the queue row of each action by scope and task, and only then compares hubs.
    LEFT JOIN LATERAL (
        SELECT q.ctid AS place, q.priority, q.weight FROM queue AS q
        WHERE q.scope_id = a.scope_id AND q.task = a.task
            AND q.taskhub IS NOT DISTINCT FROM a.taskhub OFFSET 0
    ) AS q ON true
    WHERE eligible.priority IS NOT NULL
        AND (q.priority, q.weight) IS DISTINCT FROM (eligible.priority, a.weight)
),
-- One row for each hub, transformation and priority, with its tasks in arrays: protocol and
-- clock are the same for all of them and are looked up once.
grouped AS MATERIALIZED (
    SELECT scope_id, taskhub, transformation, priority,
    array_agg(task) AS tasks, array_agg(weight) AS weights, array_agg(place) AS places
    FROM fresh GROUP BY scope_id, taskhub, transformation, priority
),
-- The groups with their protocol, which names the lane.
wanted AS MATERIALIZED (
    SELECT g.*, (
        SELECT tr.protocol FROM transformations AS tr
        WHERE tr.scope_id = g.scope_id AND tr.token = g.transformation
    ) AS protocol
    FROM grouped AS g
),
-- Creates missing lanes, for the protocol and for any protocol, in the order of their keys
-- so that concurrent calls do not deadlock.
opened AS (
    INSERT INTO lanes (scope_id, taskhub, protocol, priority, visited_at)
    SELECT scope_id, taskhub, protocol, priority, $3 FROM wanted
    UNION
    SELECT scope_id, taskhub, '', priority, $3 FROM wanted
    ORDER BY 1, 2, 3, 4
    ON CONFLICT DO NOTHING
),
-- The groups with the clock that their draws start from, so that they do not overtake: the
-- largest race claimed, and at least the floors, below which no claim looks.
clocks AS MATERIALIZED (
    SELECT wanted.*, greatest(
        (SELECT max(floor) FROM lanes AS l
            WHERE l.scope_id = wanted.scope_id AND l.taskhub = wanted.taskhub
                AND l.priority = wanted.priority AND l.protocol IN ('', wanted.protocol)),
        (
            SELECT race FROM attempts AS a
            WHERE a.scope_id = wanted.scope_id AND a.taskhub = wanted.taskhub
                AND a.lane = '' AND a.priority = wanted.priority
            ORDER BY race DESC LIMIT 1
        ),
        (
            SELECT race FROM attempts AS a
            WHERE a.scope_id = wanted.scope_id AND a.taskhub = wanted.taskhub
                AND a.lane = wanted.protocol AND a.priority = wanted.priority
            ORDER BY race DESC LIMIT 1
        ),
        0
    ) AS clock
    FROM wanted
),
-- The tasks of the groups, each with its new race.
drawn AS MATERIALIZED (
    SELECT scope_id, taskhub, task, priority, protocol, weight, place,
    clock
    + -ln(
        ((uuid_hash_extended(taskhub, uuid_hash_extended(task, $4)) >> 11 & 9007199254740991) + 0.5)
        / 9007199254740992
    )
    / greatest(weight, 1e-06) AS race
    FROM clocks
    CROSS JOIN LATERAL (
        SELECT x.* FROM unnest(tasks, weights, places) AS x (task, weight, place)
        LIMIT cardinality(tasks)
    ) AS x
)
,
-- Updates the queue rows that exist, by their location.
moved AS (
    UPDATE queue AS q SET priority = drawn.priority, protocol = drawn.protocol,
    weight = drawn.weight, race = drawn.race
    FROM drawn WHERE q.ctid = drawn.place
),
-- Inserts the others.
entered AS (
    INSERT INTO queue (scope_id, taskhub, task, priority, protocol, weight, race)
    SELECT scope_id, taskhub, task, priority, protocol, weight, race
    FROM drawn WHERE place IS NULL
    ON CONFLICT DO NOTHING RETURNING scope_id
)
-- Notifies waiting services if there are some, and it was not done in the last second.
SELECT pg_notify('alchemistore_queue', '') FROM (SELECT FROM entered LIMIT 1) AS e
WHERE (SELECT CAST($5 AS boolean));
EXECUTE refresh_children (
    ARRAY[1000, 1000],
    ARRAY[uuid '50000000-0000-7000-8000-000000000001', '50000000-0000-7000-8000-000000000003'],
    '2026-01-02 03:04:05+00',
    42,
    true
);
DEALLOCATE refresh_children;
ROLLBACK;
