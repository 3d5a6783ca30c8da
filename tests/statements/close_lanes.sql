-- Close empty lanes, 2: delete.
-- Rendered by `make statements`; do not edit.
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
PREPARE close_lanes AS
DELETE FROM lanes AS l WHERE NOT EXISTS (
    SELECT FROM queue AS q
    WHERE q.scope_id = l.scope_id AND q.taskhub = l.taskhub AND q.priority = l.priority
        AND (l.protocol = '' OR q.protocol = l.protocol)
);
EXECUTE close_lanes;
DEALLOCATE close_lanes;
ROLLBACK;
