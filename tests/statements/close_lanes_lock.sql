-- Close empty lanes, 1: lock.
-- Rendered by `make statements`; do not edit.
BEGIN;
SET LOCAL search_path TO alchemistore, pg_temp;
\ir sample.sql
LOCK TABLE lanes IN SHARE ROW EXCLUSIVE MODE;
ROLLBACK;
