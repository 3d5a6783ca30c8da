-- Set the priority in the queue.
-- Rendered by `make statements`; do not edit.
-- $1: priority (bigint)
-- $2: scope_ids (bigint[])
-- $3: tokens (uuid[])
-- $4: now (timestamptz)
-- $5: seed (bigint)
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE set_priority (
    bigint,
    bigint[],
    uuid[],
    timestamptz,
    bigint
) AS
WITH
-- The queue rows of these tasks with another priority, one group for each hub and protocol.
wanted AS MATERIALIZED (
    SELECT q.scope_id, q.taskhub, q.protocol, CAST($1 AS bigint) AS priority,
    array_agg(q.task) AS tasks, array_agg(q.weight) AS weights, array_agg(q.place) AS places
    FROM (
        SELECT scope_id, task
        FROM unnest(CAST($2 AS bigint[]), CAST($3 AS uuid[])) AS x (scope_id, task)
    ) AS x
    -- Looks up the queue rows of each task by key.
    CROSS JOIN LATERAL (
        SELECT q.*, q.ctid AS place FROM queue AS q
        WHERE q.scope_id = x.scope_id AND q.task = x.task AND q.priority <> $1 OFFSET 0
    ) AS q
    GROUP BY q.scope_id, q.taskhub, q.protocol
),
-- Creates missing lanes, for the protocol and for any protocol, in the order of their keys
-- so that concurrent calls do not deadlock.
opened AS (
    INSERT INTO lanes (scope_id, taskhub, protocol, priority, visited_at)
    SELECT scope_id, taskhub, protocol, priority, $4 FROM wanted
    UNION
    SELECT scope_id, taskhub, '', priority, $4 FROM wanted
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
        ((uuid_hash_extended(taskhub, uuid_hash_extended(task, $5)) >> 11 & 9007199254740991) + 0.5)
        / 9007199254740992
    )
    / greatest(weight, 1e-06) AS race
    FROM clocks
    CROSS JOIN LATERAL (
        SELECT x.* FROM unnest(tasks, weights, places) AS x (task, weight, place)
        LIMIT cardinality(tasks)
    ) AS x
)
UPDATE queue AS q SET priority = drawn.priority, protocol = drawn.protocol,
weight = drawn.weight, race = drawn.race
FROM drawn WHERE q.ctid = drawn.place;
EXECUTE set_priority (
    3,
    ARRAY[1000, 1000],
    ARRAY[uuid '50000000-0000-7000-8000-000000000001', '50000000-0000-7000-8000-000000000003'],
    '2026-01-02 03:04:05+00',
    42
);
DEALLOCATE set_priority;
ROLLBACK;
