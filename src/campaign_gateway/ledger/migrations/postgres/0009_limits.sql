-- What the gateways share of the limits of an account. It is updated often, and has no index on what changes, so
-- that an update needs no new entry of an index.
CREATE TABLE call_limit (
    account      text COLLATE "C" PRIMARY KEY,
    state        text NOT NULL DEFAULT '{}',
    version      bigint NOT NULL DEFAULT 0,
    paused_until timestamptz
) WITH (fillfactor = 50);
