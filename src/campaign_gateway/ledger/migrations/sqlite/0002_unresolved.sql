-- Who sends an attempt, what was there before it, what a check could not tell apart.
ALTER TABLE duplication ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE duplication ADD COLUMN seen TEXT;
ALTER TABLE duplication ADD COLUMN candidates TEXT;
ALTER TABLE duplication ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
-- What names and accounts have in common that a provider does not tell apart.
ALTER TABLE duplication ADD COLUMN name_key TEXT NOT NULL DEFAULT '';
ALTER TABLE duplication ADD COLUMN platform TEXT NOT NULL DEFAULT '';
-- The UNKNOWN duplication that this one was asked for in spite of.
ALTER TABLE duplication ADD COLUMN despite TEXT;
UPDATE duplication SET name_key = name_key(requested_name), platform = account;

CREATE INDEX duplication_unresolved ON duplication (scope, account, source_campaign_id, name_key, id)
    WHERE status = 'UNKNOWN';
CREATE UNIQUE INDEX duplication_despite ON duplication (scope, despite) WHERE despite IS NOT NULL;
CREATE INDEX duplication_under_way ON duplication (owner) WHERE status = 'IN_PROGRESS';

DROP INDEX duplication_by_copy;
DROP INDEX duplication_by_name;
CREATE INDEX duplication_by_copy ON duplication (platform, campaign_id)
    WHERE campaign_id IS NOT NULL;
CREATE INDEX duplication_by_copy_of_account ON duplication (account, campaign_id)
    WHERE campaign_id IS NOT NULL;
CREATE INDEX duplication_by_name ON duplication (platform, name_key)
    WHERE status IN ('IN_PROGRESS', 'UNKNOWN', 'ACCEPTED');
DROP INDEX duplication_by_age;
CREATE INDEX duplication_by_age ON duplication (scope, id) WHERE expired = 0;
