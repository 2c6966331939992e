-- A query of one caller takes no time for the records of the others. SQLite chose `duplication_by_expiry` for queries
-- with a scope too, and read the records of all callers.
DROP INDEX duplication_by_expiry;
CREATE INDEX duplication_unexpired ON duplication (requested_at, id) WHERE expired = 0;
CREATE INDEX duplication_expired ON duplication (requested_at) WHERE expired = 1;
DROP INDEX duplication_by_source;
CREATE INDEX duplication_by_source ON duplication (account, source_campaign_id, scope);
-- What lists filter by is in the index, so that filtering a record does not read the whole record.
-- SQLite needs `expired` there too, although the index has only records where it is 0.
DROP INDEX duplication_by_age;
CREATE INDEX duplication_by_age ON duplication (scope, requested_at, id, provider, account, status, expired) WHERE expired = 0;
