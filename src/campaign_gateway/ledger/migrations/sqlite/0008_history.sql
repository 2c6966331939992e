-- When the status, the copy or the evidence changed, and the operator who changed it, with the reason.
ALTER TABLE duplication ADD COLUMN changed_at INTEGER;
ALTER TABLE duplication ADD COLUMN operator TEXT;
ALTER TABLE duplication ADD COLUMN reason TEXT;

-- The earlier states of duplications. The state of now is in the table of duplications, and the first one follows
-- from the time of the request. So a call without a later correction writes nothing here.
CREATE TABLE history (
    number         INTEGER PRIMARY KEY,
    duplication_id TEXT NOT NULL,
    at             INTEGER,
    status         TEXT NOT NULL,
    evidence       TEXT,
    campaign_id    TEXT,
    campaign       TEXT,
    error          TEXT,
    operator       TEXT,
    reason         TEXT
);
CREATE INDEX history_of_duplication ON history (duplication_id, number);

-- As triggers, because then no statement can change a state without its history, in the same transaction.
CREATE TRIGGER duplication_changes AFTER UPDATE OF changed_at ON duplication
WHEN OLD.status <> 'IN_PROGRESS'
BEGIN
    INSERT INTO history (duplication_id, at, status, evidence, campaign_id, campaign, error, operator, reason)
    VALUES (
        OLD.id, coalesce(OLD.changed_at, OLD.settled_at), OLD.status, OLD.evidence, OLD.campaign_id, OLD.campaign,
        OLD.error, OLD.operator, OLD.reason
    );
END;
CREATE TRIGGER duplication_expires AFTER UPDATE OF expired ON duplication WHEN NEW.expired = 1
BEGIN
    DELETE FROM history WHERE duplication_id = NEW.id;
END;

-- What a search found after an operator had settled another duplication.
CREATE INDEX duplication_inferred ON duplication (changed_at) WHERE evidence = 'INFERRED';
