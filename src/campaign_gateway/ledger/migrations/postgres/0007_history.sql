-- When the status, the copy or the evidence changed, and the operator who changed it, with the reason.
ALTER TABLE duplication ADD COLUMN changed_at bigint;
ALTER TABLE duplication ADD COLUMN operator text;
ALTER TABLE duplication ADD COLUMN reason text;

-- The earlier states of duplications. The state of now is in the table of duplications, and the first one follows
-- from the time of the request. So a call without a later correction writes nothing here.
CREATE TABLE history (
    number         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    duplication_id text COLLATE "C" NOT NULL,
    at             bigint,
    status         text NOT NULL,
    evidence       text,
    campaign_id    text COLLATE "C",
    campaign       text,
    error          text,
    operator       text,
    reason         text
);
CREATE INDEX history_of_duplication ON history (duplication_id, number);

-- As triggers, because then no statement can change a state without its history, in the same transaction.
CREATE FUNCTION keep_earlier_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO history (duplication_id, at, status, evidence, campaign_id, campaign, error, operator, reason)
    VALUES (
        OLD.id, coalesce(OLD.changed_at, OLD.settled_at), OLD.status, OLD.evidence, OLD.campaign_id, OLD.campaign,
        OLD.error, OLD.operator, OLD.reason
    );
    RETURN NULL;
END
$$;
CREATE TRIGGER duplication_changes AFTER UPDATE OF changed_at ON duplication FOR EACH ROW
WHEN (OLD.status <> 'IN_PROGRESS')
EXECUTE FUNCTION keep_earlier_state();

CREATE FUNCTION delete_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM history WHERE duplication_id = NEW.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER duplication_expires AFTER UPDATE OF expired ON duplication FOR EACH ROW
WHEN (NEW.expired = 1)
EXECUTE FUNCTION delete_history();

-- What a search found after an operator had settled another duplication.
CREATE INDEX duplication_inferred ON duplication (changed_at) WHERE evidence = 'INFERRED';
