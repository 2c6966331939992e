-- SQLite preferred this index for every query that leaves out expired rows, and then read the rows
-- of all callers. These two serve only the queries by time, and lists of all callers.
DROP INDEX duplication_by_expiry;
CREATE INDEX duplication_by_time ON duplication (requested_at) WHERE expired = 0;
CREATE INDEX duplication_to_forget ON duplication (requested_at) WHERE expired = 1;
