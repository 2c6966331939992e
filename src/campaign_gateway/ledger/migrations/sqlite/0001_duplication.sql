-- Times are whole microseconds since 1970 in UTC.
CREATE TABLE duplication (
    id                 TEXT PRIMARY KEY,
    scope              TEXT NOT NULL,
    key                TEXT NOT NULL,
    fingerprint        TEXT NOT NULL,
    nonce              TEXT NOT NULL,
    provider           TEXT NOT NULL,
    account            TEXT NOT NULL,
    source_campaign_id TEXT NOT NULL,
    requested_name     TEXT,
    input              TEXT NOT NULL,
    status             TEXT NOT NULL,
    campaign_id        TEXT,
    campaign           TEXT,
    error              TEXT,
    evidence           TEXT,
    provider_trace_id  TEXT,
    requested_at       INTEGER NOT NULL,
    settled_at         INTEGER,
    checks             INTEGER NOT NULL DEFAULT 0,
    next_check_at      INTEGER,
    UNIQUE (scope, key)
) WITHOUT ROWID;

CREATE INDEX duplication_by_age ON duplication (scope, id);
CREATE INDEX duplication_by_copy ON duplication (account, campaign_id) WHERE campaign_id IS NOT NULL;
CREATE INDEX duplication_by_name ON duplication (account, requested_name)
    WHERE status IN ('IN_PROGRESS', 'UNKNOWN', 'ACCEPTED');
CREATE INDEX duplication_by_source ON duplication (account, source_campaign_id);
CREATE INDEX duplication_to_check ON duplication (next_check_at) WHERE next_check_at IS NOT NULL;
