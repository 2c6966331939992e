-- Who requested the copy. Older records do not have it.
ALTER TABLE duplication ADD COLUMN caller TEXT;
ALTER TABLE duplication ADD COLUMN person TEXT;

-- An UNKNOWN duplication blocks the same copy for every caller.
DROP INDEX duplication_unresolved;
CREATE INDEX duplication_unresolved ON duplication
    (account, source_campaign_id, name_key, requested_at, id) WHERE status = 'UNKNOWN';

-- The number of UNKNOWN duplications of a caller has a limit.
CREATE INDEX duplication_unknown_of_scope ON duplication (scope) WHERE status = 'UNKNOWN';
