-- The times whose records this ledger does not have, because it was restored from a copy. Times are whole
-- microseconds since 1970 in UTC. A copy that `ledger backup` has made has a row without an end, until an operator
-- declares with `ledger restored` that gateways may serve from it.
CREATE TABLE lost_time (
    began_at      INTEGER NOT NULL,
    ended_at      INTEGER,
    refused_until INTEGER
);
