-- A query of one caller takes no time for the records of the others.
DROP INDEX duplication_by_expiry;
CREATE INDEX duplication_unexpired ON duplication (requested_at, id) WHERE expired = 0;
CREATE INDEX duplication_expired ON duplication (requested_at) WHERE expired = 1;
DROP INDEX duplication_by_source;
CREATE INDEX duplication_by_source ON duplication (account, source_campaign_id, scope);
-- What lists filter by is in the index, so that filtering a record does not read the whole record.
DROP INDEX duplication_by_age;
CREATE INDEX duplication_by_age ON duplication (scope, requested_at, id, provider, account, status) WHERE expired = 0;
