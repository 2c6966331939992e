"""The ledger's statements, in the order of a row's life. SQLite and PostgreSQL run the same text.

Values are bound by name, as in `:key`. Each engine replaces two placeholders with `str.replace`:
`{lock}` keeps several gateways from choosing the same rows, and `{owner_is_dead}` is the condition
that the gateway of an attempt no longer runs.

Every statement that changes a state sets `changed_at`, and who did it in `operator` and `reason`.
Then a trigger of the database copies the earlier state to `history`, in the same transaction.
"""

from collections.abc import Mapping

# By the ledger's clock. The gateways make the ids by their own clocks, which may differ.
_NEWEST = "ORDER BY requested_at DESC, id DESC"

# --- An intent is recorded ------------------------------------------------------------------------

FIND = "SELECT * FROM duplication WHERE scope = :scope AND key = :key"
FIND_BY_ID = "SELECT * FROM duplication WHERE id = :id"

_SAME_COPY = """
    account = :account
    AND source_campaign_id = :source_campaign_id
    AND name_key = :name_key
    AND status = 'UNKNOWN'
"""

# One statement, so that a concurrent request cannot miss an UNKNOWN duplication that a caller has
# already seen. Those of all scopes block, and an intent can override only one of its own scope. A
# unique index on override_of lets each UNKNOWN duplication be overridden once.
BEGIN = f"""
INSERT INTO duplication (
    id, attempt_id, owner, scope, key, fingerprint, provider, account, source_campaign_id,
    requested_name, name_key, id_namespace, input, preexisting_ids, override_of, status,
    requested_at, caller, person
)
SELECT
    :id, :attempt_id, :owner, :scope, :key, :fingerprint, :provider, :account, :source_campaign_id,
    :requested_name, :name_key, :id_namespace, :input, :preexisting_ids, :override_of,
    'IN_PROGRESS', :now, :caller, :person
WHERE coalesce(
    (
        SELECT CASE WHEN scope = :scope THEN id ELSE 'of another scope' END
        FROM duplication WHERE {_SAME_COPY} {_NEWEST} LIMIT 1
    ), ''
) = coalesce(:override_of, '')
ON CONFLICT DO NOTHING
RETURNING id
"""

UNRESOLVED = f"SELECT * FROM duplication WHERE {_SAME_COPY} {_NEWEST} LIMIT 1"

# For a record that was lost, as after a failover to a replica of the database that lags behind.
RESTORE = """
INSERT INTO duplication (
    id, attempt_id, owner, scope, key, fingerprint, provider, account, source_campaign_id,
    requested_name, name_key, id_namespace, input, preexisting_ids, status, requested_at, caller,
    person
)
VALUES (
    :id, :attempt_id, :owner, :scope, :key, :fingerprint, :provider, :account, :source_campaign_id,
    :requested_name, :name_key, :id_namespace, :input, :preexisting_ids, 'IN_PROGRESS', :now,
    :caller, :person
)
ON CONFLICT (scope, key) DO NOTHING
"""

# --- The provider responds ------------------------------------------------------------------------


def _may_settle(row: str) -> str:
    """Return the condition that a response with the values bound here may change the row.

    A definite response overwrites results from search or from an operator. A definite response may
    follow ACCEPTED.
    """
    return f"""
    {row}.id = :id
    AND {row}.attempt_id = :attempt_id
    AND ({row}.status IN ('IN_PROGRESS', 'UNKNOWN')
        OR (({row}.status = 'ACCEPTED' OR {row}.evidence IN ('INFERRED', 'OPERATOR'))
            AND :status IN ('CREATED', 'REJECTED'))
        OR ({row}.evidence = 'OPERATOR' AND {row}.status = 'REJECTED' AND :status = 'ACCEPTED')
        OR ({row}.evidence IN ('INFERRED', 'OPERATOR') AND :status = 'ACCEPTED'
            AND CAST(:campaign_id AS text) IS NOT NULL))
"""


# A campaign has one owner. A unique index guards this too, against two gateways at the same moment.
_HAS_NO_OTHER_OWNER = """
    NOT EXISTS (
        SELECT 1 FROM duplication AS owner
        WHERE owner.id_namespace = duplication.id_namespace
        AND owner.campaign_id = :campaign_id
        AND owner.id <> :id
    )
"""

# A rejected attempt has overridden nothing, so another attempt may override the same duplication.
SETTLE = f"""
UPDATE duplication SET
    status = :status,
    campaign_id = :campaign_id,
    campaign = :campaign,
    warnings = :warnings,
    error = :error,
    evidence = :evidence,
    provider_trace_id = coalesce(:trace_id, provider_trace_id),
    settled_at = :settled_at,
    next_check_at = :next_check_at,
    candidates = NULL,
    changed_at = :now,
    operator = NULL,
    reason = NULL,
    override_of = CASE WHEN :status = 'REJECTED' THEN NULL ELSE override_of END
WHERE {_may_settle("duplication")}
AND {_HAS_NO_OTHER_OWNER}
RETURNING *
"""

IS_OPEN = f"SELECT * FROM duplication WHERE {_may_settle('duplication')}"

OWNER = """
SELECT owner.* FROM duplication AS mine
JOIN duplication AS owner ON owner.id_namespace = mine.id_namespace AND owner.id <> mine.id
WHERE mine.id = :id AND owner.campaign_id = :campaign_id
"""

# Weaker evidence gives way to a response of the provider. The duplication that loses its campaign
# is due immediately, because its own copy has to be searched for again.
_RELEASE = """
UPDATE duplication SET
    status = coalesce(settled_from, 'UNKNOWN'),
    campaign_id = NULL,
    campaign = NULL,
    warnings = NULL,
    evidence = NULL,
    settled_at = NULL,
    checks = 0,
    error = CASE WHEN settled_from = 'ACCEPTED' THEN NULL ELSE :released END,
    next_check_at = :now,
    changed_at = :now,
    operator = NULL,
    reason = NULL
WHERE expired = 0 AND evidence IN ('INFERRED', 'OPERATOR')
"""

RELEASE = f"""
{_RELEASE}
AND campaign_id = :campaign_id
AND id <> :id
AND id_namespace = (SELECT id_namespace FROM duplication AS mine WHERE mine.id = :id)
AND EXISTS (SELECT 1 FROM duplication AS taker WHERE {_may_settle("taker")})
"""

MARK_NEVER_SENT = """
UPDATE duplication SET
    status = 'REJECTED',
    error = :error,
    settled_at = :now,
    next_check_at = NULL,
    candidates = NULL,
    override_of = NULL,
    evidence = NULL,
    campaign_id = NULL,
    campaign = NULL,
    warnings = NULL,
    changed_at = :now,
    operator = NULL,
    reason = NULL
WHERE id = :id AND attempt_id = :attempt_id
AND (status IN ('IN_PROGRESS', 'UNKNOWN') OR evidence IN ('INFERRED', 'OPERATOR'))
"""

# --- A gateway stops ------------------------------------------------------------------------------

# Only the gateway that began an attempt sends it, so an attempt without its gateway is not sent any
# more. It may have been sent before.
TAKE_OVER_ABANDONED = """
WITH orphan AS (
    SELECT id FROM duplication WHERE status = 'IN_PROGRESS' AND {owner_is_dead} {lock}
)
UPDATE duplication SET status = 'UNKNOWN', error = :error, next_check_at = :now, changed_at = :now
WHERE id IN (SELECT id FROM orphan)
RETURNING *
"""

# --- The reconciliation searches for the copy -----------------------------------------------------

DUE_ACCOUNTS = "SELECT DISTINCT account FROM duplication WHERE next_check_at <= :now"

CLAIM_DUE = """
WITH due AS (
    SELECT id FROM duplication
    WHERE account = :account AND next_check_at <= :now
    ORDER BY next_check_at LIMIT :limit {lock}
)
UPDATE duplication SET next_check_at = :until
WHERE id IN (SELECT id FROM due)
RETURNING *
"""

POSTPONE = """
UPDATE duplication SET
    checks = checks + 1,
    next_check_at = :next_check_at,
    candidates = :candidates
WHERE id = :id AND status = :status AND (settled_at IS NULL OR next_check_at IS NOT NULL)
"""

COMPETING = """
SELECT * FROM duplication
WHERE id_namespace = :id_namespace
AND (name_key = :name_key OR source_campaign_id = :source_campaign_id)
AND status IN ('IN_PROGRESS', 'UNKNOWN', 'ACCEPTED')
AND campaign_id IS NULL
ORDER BY requested_at, id
"""

# Where names do not distinguish copies, each one of that time competes.
COMPETING_OF_A_TIME = """
SELECT * FROM duplication
WHERE id_namespace = :id_namespace
AND requested_at BETWEEN :since AND :until
AND status IN ('IN_PROGRESS', 'UNKNOWN', 'ACCEPTED')
AND campaign_id IS NULL
ORDER BY requested_at, id
"""

# Only the campaign that the record names already, because the provider may have named the copy
# since the check began.
SETTLE_FROM_EVIDENCE = f"""
UPDATE duplication SET
    status = 'CREATED',
    campaign_id = :campaign_id,
    campaign = :campaign,
    warnings = :warnings,
    error = NULL,
    evidence = :evidence,
    settled_at = :now,
    next_check_at = :next_check_at,
    candidates = NULL,
    settled_from = status,
    changed_at = :now,
    operator = :operator,
    reason = :reason
WHERE id = :id
AND status IN ('ACCEPTED', 'UNKNOWN')
AND {_HAS_NO_OTHER_OWNER}
AND (campaign_id IS NULL OR campaign_id = :campaign_id)
RETURNING *
"""

SETTLE_AS_NOT_CREATED = """
UPDATE duplication SET
    status = 'REJECTED',
    error = :error,
    evidence = 'OPERATOR',
    settled_at = :now,
    next_check_at = NULL,
    candidates = NULL,
    campaign_id = NULL,
    campaign = NULL,
    changed_at = :now,
    operator = :operator,
    reason = :reason
WHERE id = :id AND status IN ('ACCEPTED', 'UNKNOWN')
RETURNING id
"""

# --- An operator withdraws a result ---------------------------------------------------------------

# For each reason why the result cannot be withdrawn, the duplications that build on it.

# Attempts at the same copy that began since the result was recorded, unless they made nothing for
# certain. An attempt that overrides the duplication began before.
_LATER_ATTEMPT = """
    SELECT later.id FROM duplication AS later
    WHERE later.account = duplication.account
    AND later.source_campaign_id = duplication.source_campaign_id
    AND later.name_key = duplication.name_key
    AND later.id <> duplication.id
    AND later.requested_at >= duplication.requested_at
    AND later.requested_at >= :since
    AND coalesce(later.override_of, '') <> duplication.id
    AND (later.status <> 'REJECTED' OR later.evidence = 'OPERATOR')
"""

# A search could choose between the candidates of others, because this one had its result.
_LATER_FINDING = """
    SELECT later.id FROM duplication AS later
    WHERE later.evidence = 'INFERRED'
    AND later.changed_at >= duplication.settled_at
    AND later.requested_at <= duplication.settled_at
    AND later.id <> duplication.id
    AND later.id_namespace = duplication.id_namespace
    AND (later.source_campaign_id = duplication.source_campaign_id
        OR (later.name_key = duplication.name_key AND duplication.name_key <> ''))
"""


def _before_result(column: str) -> str:
    """Return a column of the state that the result has replaced."""
    return f"""(
        SELECT earlier.{column} FROM history AS earlier
        WHERE earlier.duplication_id = duplication.id ORDER BY earlier.number DESC LIMIT 1
    )"""


# The copy that the provider had named before the result is the copy of another one by now.
_NEW_OWNER = f"""
    SELECT later.id FROM duplication AS later
    WHERE later.id_namespace = duplication.id_namespace
    AND later.campaign_id = {_before_result("campaign_id")}
    AND later.id <> duplication.id
"""

# UNKNOWN, also if it was ACCEPTED before: a caller may have read that it may use a new key, and
# only UNKNOWN blocks that attempt.
REOPEN = f"""
UPDATE duplication SET
    status = 'UNKNOWN',
    campaign_id = {_before_result("campaign_id")},
    campaign = {_before_result("campaign")},
    warnings = NULL,
    error = :error,
    evidence = NULL,
    settled_at = NULL,
    settled_from = NULL,
    checks = 0,
    next_check_at = :now,
    changed_at = :now,
    operator = :operator,
    reason = :reason
WHERE id = :id AND expired = 0 AND evidence = 'OPERATOR' AND settled_at = :settled_at
AND NOT EXISTS ({_LATER_ATTEMPT})
AND NOT EXISTS ({_LATER_FINDING})
AND NOT EXISTS ({_NEW_OWNER})
RETURNING *
"""

BUILT_ON = f"""
SELECT
    coalesce(({_LATER_ATTEMPT} LIMIT 1), ({_LATER_FINDING} LIMIT 1), ({_NEW_OWNER} LIMIT 1)) AS id
FROM duplication WHERE id = :id AND settled_at = :settled_at
"""

HISTORY = """
SELECT number, at, status, evidence, campaign_id, error, operator, reason
FROM history WHERE duplication_id = :id
UNION ALL
SELECT 0, requested_at, 'IN_PROGRESS', NULL, NULL, NULL, NULL, NULL
FROM duplication WHERE id = :id
UNION ALL
SELECT
    9223372036854775807, coalesce(changed_at, settled_at), status, evidence, campaign_id, error,
    operator, reason
FROM duplication WHERE id = :id AND status <> 'IN_PROGRESS'
ORDER BY number
"""

# --- The copy is completed ------------------------------------------------------------------------

# While a copy is read and renamed, a response may give the record another campaign.
UPDATE_COPY = """
UPDATE duplication SET
    campaign = :campaign,
    warnings = :warnings,
    next_check_at = :next_check_at,
    checks = checks + 1
WHERE id = :id AND status = 'CREATED' AND campaign_id = :campaign_id AND expired = 0
RETURNING *
"""

# --- Callers read records -------------------------------------------------------------------------

# `IS TRUE` keeps SQLite from searching by these conditions, which match nearly every row. It would
# do so for a list of ids.
_IS_VISIBLE = "(scope = :scope AND expired = 0) IS TRUE"

# The input may be long, and serves only requests to the provider.
_LIST_COLUMNS = """
    id, attempt_id, scope, key, fingerprint, provider, account, source_campaign_id, requested_name,
    id_namespace, override_of, '' AS input, NULL AS preexisting_ids, status, requested_at, campaign,
    error, evidence, provider_trace_id, settled_at, checks, next_check_at, candidates, warnings,
    expired, caller, person
"""


def get(scope: str | None) -> str:
    in_scope = "" if scope is None else " AND scope = :scope"
    return f"SELECT * FROM duplication WHERE id = :id AND expired = 0{in_scope}"


def get_all(values: Mapping[str, object]) -> str:
    return f"""
SELECT {_LIST_COLUMNS} FROM duplication
WHERE id IN ({_placeholders(values, "id")}) AND {_IS_VISIBLE}
"""


# For the values of these names, records are filtered one by one.
FILTERS = frozenset({"provider", "account", "status0"})

# An index finds the records of these conditions.
_INDEXED = {
    "scope": "scope = :scope",
    "before_id": "(requested_at, id) < (:before, :before_id)",
    "since": "requested_at >= :since",
    "until": "requested_at < :until",
}


def listing(values: Mapping[str, object]) -> str:
    """Return the statement for a page, with one condition for each of the values.

    If `scanned` is among them, only so many of the newest records that an index finds are filtered.
    """
    filters = {
        "provider": "provider = :provider",
        "account": "account = :account",
        "caller": "caller = :caller",
        "status0": f"status IN ({_placeholders(values, 'status')})",
    }
    chosen = " AND ".join(["true", *(filters[name] for name in filters if name in values)])
    if "scanned" in values:
        newest = f"SELECT id, provider, account, status {_newest_indexed(values)} LIMIT :scanned"
        where = f"id IN (SELECT id FROM ({newest}) AS newest WHERE {chosen})"
    else:
        where = f"{_indexed(values)} AND {chosen}"
    return f"SELECT {_LIST_COLUMNS} FROM duplication WHERE {where} {_NEWEST} LIMIT :limit"


def scan_end(values: Mapping[str, object]) -> str:
    """Return the statement for the place of the last record that `listing` filters."""
    return f"SELECT requested_at, id {_newest_indexed(values)} LIMIT 1 OFFSET :scanned - 1"


def _newest_indexed(values: Mapping[str, object]) -> str:
    return f"FROM duplication WHERE {_indexed(values)} {_NEWEST}"


def _indexed(values: Mapping[str, object]) -> str:
    conditions = [_INDEXED[name] for name in _INDEXED if name in values]
    return " AND ".join(["expired = 0", *conditions])


def related_by_copy(values: Mapping[str, object]) -> str:
    return f"""
SELECT * FROM duplication
WHERE account = :account AND campaign_id IN ({_placeholders(values, "campaign")})
AND {_IS_VISIBLE}
"""


RELATED_BY_SOURCE = """
SELECT * FROM duplication
WHERE scope = :scope AND account = :account AND source_campaign_id = :campaign_id AND expired = 0
LIMIT 1
"""


COPY_OWNER = """
SELECT * FROM duplication
WHERE id_namespace = :id_namespace AND campaign_id IN (:campaign_id, :lower_case, :upper_case)
LIMIT 1
"""


def known_copies(values: Mapping[str, object]) -> str:
    return f"""
SELECT campaign_id FROM duplication
WHERE id_namespace = :id_namespace AND campaign_id IN ({_placeholders(values, "campaign")})
"""


# --- A caller has quotas --------------------------------------------------------------------------

COUNT_UNKNOWN = """
SELECT count(*) AS number FROM (
    SELECT 1 FROM duplication WHERE scope = :scope AND status = 'UNKNOWN' LIMIT :limit
) AS unknown
"""

_STORED_TEXTS = ("input", "preexisting_ids", "campaign", "warnings", "error", "candidates")

MEASURE = f"""
SELECT count(*) AS number, coalesce(sum(size), 0) AS size, max(key) AS last_key FROM (
    SELECT key, {" + ".join(f"coalesce(length({name}), 0)" for name in _STORED_TEXTS)} AS size
    FROM duplication WHERE scope = :scope AND key > :after ORDER BY key LIMIT :limit
) AS measured
"""

# --- The metrics show what is open ---------------------------------------------------------------

# SQLite uses the index only if the condition is the same as that of the index.
UNSETTLED = """
SELECT account, status, count(*) AS number, min(requested_at) AS oldest FROM duplication
WHERE status IN ('IN_PROGRESS', 'UNKNOWN', 'ACCEPTED')
GROUP BY account, status
"""

ACCOUNTS = "SELECT DISTINCT account FROM duplication"

# --- The settings change --------------------------------------------------------------------------

ID_NAMESPACES = "SELECT DISTINCT id_namespace FROM duplication WHERE account = :account"

# If two accounts have one campaign each as a copy, the one with the weaker evidence gives way.
RELEASE_MOVED = f"""
{_RELEASE}
AND (
    (account = :account AND id_namespace = :id_namespace
        AND EXISTS (
            SELECT 1 FROM duplication AS owner
            WHERE owner.id_namespace = :moved
            AND owner.campaign_id = duplication.campaign_id
            AND NOT (duplication.evidence = 'OPERATOR' AND owner.evidence = 'INFERRED')
        ))
    OR (id_namespace = :moved
        AND EXISTS (
            SELECT 1 FROM duplication AS mine
            WHERE mine.account = :account
            AND mine.id_namespace = :id_namespace
            AND mine.campaign_id = duplication.campaign_id
            AND (mine.evidence = 'RESPONSE'
                OR (mine.evidence = 'OPERATOR' AND duplication.evidence = 'INFERRED'))
        ))
)
"""

# If the provider has named the same campaign to both accounts, neither record gives way, so the row
# keeps its namespace.
MOVE = """
UPDATE duplication SET id_namespace = :moved
WHERE account = :account AND id_namespace = :id_namespace
AND NOT EXISTS (
    SELECT 1 FROM duplication AS owner
    WHERE owner.id_namespace = :moved
    AND owner.campaign_id = duplication.campaign_id
)
"""

# --- The ledger is restored from a copy -----------------------------------------------------------

# In a copy that is not declared yet, the end is missing.
LOST_TIMES = "SELECT began_at, ended_at, refused_until FROM lost_time ORDER BY began_at"

MARK_COPY = "INSERT INTO lost_time (began_at) VALUES (:now)"

DECLARE_COPY = """
UPDATE lost_time SET ended_at = :now, refused_until = :refused_until
WHERE ended_at IS NULL RETURNING began_at
"""

# For a copy that other tools have made. Everything up to its last record is in it. UNKNOWN may have
# been recorded just now, when the copy was opened.
DECLARE_UNMARKED = """
INSERT INTO lost_time (began_at, ended_at, refused_until)
SELECT coalesce(max(at), 0), :now, :refused_until
FROM (
    SELECT max(requested_at) AS at FROM duplication
    UNION ALL SELECT max(settled_at) FROM duplication
    UNION ALL SELECT max(changed_at) FROM duplication WHERE status <> 'UNKNOWN'
) AS recorded
RETURNING began_at
"""

ACCEPT_KEYS = "UPDATE lost_time SET refused_until = :now WHERE refused_until > :now RETURNING 1"

# --- A record gets old ----------------------------------------------------------------------------

EXPIRE = """
WITH settled AS (
    SELECT id FROM duplication
    WHERE expired = 0 AND requested_at < :before AND settled_at < :before
    LIMIT :limit {lock}
)
UPDATE duplication SET
    expired = 1,
    attempt_id = '',
    owner = '',
    fingerprint = '',
    input = '',
    requested_name = NULL,
    preexisting_ids = NULL,
    campaign = NULL,
    warnings = NULL,
    error = NULL,
    provider_trace_id = NULL,
    next_check_at = NULL,
    caller = NULL,
    person = NULL,
    operator = NULL,
    reason = NULL
WHERE id IN (SELECT id FROM settled)
RETURNING id
"""

FORGET = """
WITH expired AS (
    SELECT id FROM duplication
    WHERE expired = 1 AND requested_at < :before
    ORDER BY requested_at LIMIT :limit {lock}
)
DELETE FROM duplication
WHERE id IN (SELECT id FROM expired)
RETURNING id
"""


def _placeholders(values: Mapping[str, object], name: str) -> str:
    """Return the placeholders of the numbered values of this name, or NULL, which matches nothing.

    SQL has no empty list: `IN ()` is an error in PostgreSQL.
    """
    numbered = (value for value in values if value.rstrip("0123456789") == name)
    return ", ".join(f":{value}" for value in numbered) or "NULL"
