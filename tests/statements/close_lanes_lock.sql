-- Close empty lanes, 1: lock.
-- Rendered by `make statements`; do not edit.
BEGIN;
\ir sample.sql
LOCK TABLE lanes IN SHARE ROW EXCLUSIVE MODE;
ROLLBACK;
