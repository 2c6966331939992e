-- The status before a copy was found by reading, in case the provider says that it is another's.
ALTER TABLE duplication ADD COLUMN settled_from TEXT;

-- The provider and its host, in lower case and without the port that https has anyway. What follows is a kind.
UPDATE duplication SET platform = provider || '@' ||
    replace(replace(lower(substr(platform, 1, instr(platform || '/', '/') - 1)) || '|', ':443|', ''), '|', '')
    || replace(substr(platform, instr(platform || '/', '/')), '/', '#');

-- A campaign has one owner, the one with the strongest evidence. The others are searched for again, but not what
-- two accounts have from their providers' answers: those lead to different places behind one host.
UPDATE duplication SET platform = platform || '#' || id WHERE evidence = 'ANSWER' AND EXISTS (
    SELECT 1 FROM duplication AS other WHERE other.platform = duplication.platform AND other.evidence = 'ANSWER'
    AND other.campaign_id = duplication.campaign_id AND other.id < duplication.id
);
UPDATE duplication SET status = 'UNKNOWN', campaign_id = NULL, campaign = NULL, warnings = NULL, evidence = NULL,
    settled_at = NULL, next_check_at = requested_at,
    error = '{"code": "OUTCOME_UNKNOWN", "message": "The campaign that was taken for the copy is another duplication''s, as its provider has confirmed. The gateway searches again. Look at the duplication before asking for another copy."}'
WHERE expired = 0 AND id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (
            PARTITION BY platform, campaign_id
            ORDER BY CASE evidence WHEN 'ANSWER' THEN 0 WHEN 'PERSON' THEN 1 ELSE 2 END, expired DESC, requested_at, id
        ) AS place FROM duplication WHERE campaign_id IS NOT NULL
    ) AS ranked WHERE place > 1
);
UPDATE duplication SET campaign_id = NULL WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY platform, campaign_id ORDER BY expired, requested_at, id) AS place
        FROM duplication WHERE campaign_id IS NOT NULL
    ) AS ranked WHERE place > 1
);
DROP INDEX duplication_by_copy;
CREATE UNIQUE INDEX duplication_owner ON duplication (platform, campaign_id) WHERE campaign_id IS NOT NULL;

-- Nothing is ordered by ids, which gateways with different clocks make.
DROP INDEX duplication_by_age;
CREATE INDEX duplication_by_age ON duplication (scope, requested_at, id) WHERE expired = 0;
CREATE INDEX duplication_by_expiry ON duplication (expired, requested_at);
DROP INDEX duplication_unresolved;
CREATE INDEX duplication_unresolved ON duplication
    (scope, account, source_campaign_id, name_key, requested_at, id) WHERE status = 'UNKNOWN';

-- Each account has its own share of the checks.
DROP INDEX duplication_to_check;
CREATE INDEX duplication_to_check ON duplication (account, next_check_at) WHERE next_check_at IS NOT NULL;
