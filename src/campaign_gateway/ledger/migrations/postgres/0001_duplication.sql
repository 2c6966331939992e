-- Times are whole microseconds since 1970 in UTC. Texts compare by their bytes.
CREATE TABLE duplication (
    id                 text COLLATE "C" PRIMARY KEY,
    scope              text COLLATE "C" NOT NULL,
    key                text COLLATE "C" NOT NULL,
    fingerprint        text NOT NULL,
    nonce              text NOT NULL,
    owner              text NOT NULL,
    provider           text NOT NULL,
    account            text COLLATE "C" NOT NULL,
    source_campaign_id text COLLATE "C" NOT NULL,
    requested_name     text,
    name_key           text COLLATE "C" NOT NULL,
    platform           text COLLATE "C" NOT NULL,
    input              text NOT NULL,
    seen               text,
    status             text NOT NULL,
    campaign_id        text COLLATE "C",
    campaign           text,
    error              text,
    evidence           text,
    provider_trace_id  text,
    requested_at       bigint NOT NULL,
    settled_at         bigint,
    checks             integer NOT NULL DEFAULT 0,
    next_check_at      bigint,
    candidates         text,
    expired            smallint NOT NULL DEFAULT 0,
    despite            text COLLATE "C",
    UNIQUE (scope, key)
);

CREATE INDEX duplication_by_age ON duplication (scope, id) WHERE expired = 0;
CREATE INDEX duplication_by_copy ON duplication (platform, campaign_id)
    WHERE campaign_id IS NOT NULL;
CREATE INDEX duplication_by_copy_of_account ON duplication (account, campaign_id)
    WHERE campaign_id IS NOT NULL;
CREATE INDEX duplication_by_name ON duplication (platform, name_key)
    WHERE status IN ('IN_PROGRESS', 'UNKNOWN', 'ACCEPTED');
CREATE INDEX duplication_by_source ON duplication (account, source_campaign_id);
CREATE INDEX duplication_to_check ON duplication (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE INDEX duplication_unresolved ON duplication (scope, account, source_campaign_id, name_key, id)
    WHERE status = 'UNKNOWN';
CREATE UNIQUE INDEX duplication_despite ON duplication (scope, despite) WHERE despite IS NOT NULL;
CREATE INDEX duplication_under_way ON duplication (owner) WHERE status = 'IN_PROGRESS';

-- The gateways at this ledger, by the database's clock.
CREATE TABLE replica (
    id        text PRIMARY KEY,
    last_seen timestamptz NOT NULL
);
