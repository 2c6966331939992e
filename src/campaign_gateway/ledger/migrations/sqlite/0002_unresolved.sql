-- Who sends an attempt, what was there before it, what a check could not tell apart.
ALTER TABLE duplication ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE duplication ADD COLUMN seen TEXT;
ALTER TABLE duplication ADD COLUMN candidates TEXT;
ALTER TABLE duplication ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;

CREATE INDEX duplication_unresolved
    ON duplication (scope, account, source_campaign_id, coalesce(trim(requested_name), ''), id)
    WHERE status = 'UNKNOWN';
CREATE INDEX duplication_under_way ON duplication (owner) WHERE status = 'IN_PROGRESS';

DROP INDEX duplication_by_age;
CREATE INDEX duplication_by_age ON duplication (scope, id) WHERE expired = 0;
