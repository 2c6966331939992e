-- The metrics show the number and the age of what is not settled, every few seconds.
CREATE INDEX duplication_unsettled ON duplication (account, status, requested_at)
    WHERE status IN ('IN_PROGRESS', 'UNKNOWN', 'ACCEPTED');
