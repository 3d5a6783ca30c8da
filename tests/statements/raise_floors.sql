-- Raise the floors of lanes.
-- Rendered by `make statements`; do not edit.
-- $1: now (timestamptz)
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE raise_floors (
    timestamptz
) AS
WITH
-- The lanes not visited for a second, at most a hundred. Locked lanes are skipped, because
-- another transaction is just visiting them. `place` is the location of the row.
due AS MATERIALIZED (
    SELECT ctid AS place, scope_id, taskhub, protocol, priority, floor, candidate_xid
    FROM lanes
    WHERE visited_at < CAST($1 AS timestamptz) - interval '1 second'
    ORDER BY visited_at LIMIT 100
    FOR NO KEY UPDATE SKIP LOCKED
),
-- The same lanes with their clock, the smallest race in them, and whether their candidate is
-- ripe, that is, whether all transactions that it has to wait for have ended.
seen AS MATERIALIZED (
    SELECT l.place,
    coalesce(
        l.candidate_xid
        < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint),
        true
    ) AS ripe,
    greatest(
        (
            SELECT race FROM attempts AS a
            WHERE a.scope_id = l.scope_id AND a.taskhub = l.taskhub
                AND a.lane = '' AND a.priority = l.priority
            ORDER BY race DESC LIMIT 1
        ), (
            SELECT race FROM attempts AS a
            WHERE a.scope_id = l.scope_id AND a.taskhub = l.taskhub
                AND a.lane = l.protocol AND a.priority = l.priority
            ORDER BY race DESC LIMIT 1
        ), l.floor
    ) AS clock,
    -- Each kind of lane has an index of its own.
    CASE WHEN l.protocol = ''
    THEN (
        SELECT race FROM queue AS q
        WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub
            AND q.priority = l.priority AND q.race >= l.floor
        ORDER BY race LIMIT 1
    )
    ELSE (
        SELECT race FROM queue AS q
        WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub
            AND q.protocol = l.protocol AND q.priority = l.priority
            AND q.race >= l.floor
        ORDER BY race LIMIT 1
    )
    END AS head
    FROM due AS l
)
-- Raises the floor to a ripe candidate and notes the next one.
UPDATE lanes AS l SET
floor = CASE WHEN ripe
THEN greatest(l.floor, least(coalesce(l.candidate, 0), head)) ELSE l.floor END,
candidate = CASE WHEN ripe THEN clock ELSE l.candidate END,
candidate_xid = CASE WHEN ripe
THEN
CAST(CAST(pg_current_xact_id() AS text) AS bigint) - least(0, (
        SELECT min(age(transactionid)) FROM pg_locks WHERE locktype = 'transactionid'
))
ELSE l.candidate_xid END,
visited_at = $1
FROM seen WHERE l.ctid = seen.place;
EXECUTE raise_floors (
    '2026-01-02 03:04:05+00'
);
DEALLOCATE raise_floors;
ROLLBACK;
