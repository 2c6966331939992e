"""The ledger's statements, which SQLite and PostgreSQL understand alike.

Values are named as in `:key`. Where rows are chosen to be changed, `{lock}` stands for what keeps
several gateways from choosing the same ones.
"""

from collections.abc import Mapping

INTENT = (
    "id, attempt_id, owner, scope, key, fingerprint, provider, account, source_campaign_id,"
    " requested_name, name_key, id_namespace, input, preexisting_ids"
)
_VALUES = ", ".join(f":{name}" for name in INTENT.split(", "))

_SAME_COPY = (
    "scope = :scope AND account = :account AND source_campaign_id = :source_campaign_id"
    " AND name_key = :name_key AND status = 'UNKNOWN'"
)

# By the ledger's clock. Ids are made by the gateways' clocks, which may differ.
_NEWEST = "ORDER BY requested_at DESC, id DESC"

# For many at once. What was asked for may be long, and serves only to read at the provider.
_SHOWN = (
    "id, attempt_id, scope, key, fingerprint, provider, account, source_campaign_id, requested_name,"
    " id_namespace, override_of, '' AS input, NULL AS preexisting_ids, status, requested_at,"
    " campaign, error, evidence, provider_trace_id, settled_at, checks, candidates, warnings, expired"
)

FIND = "SELECT * FROM duplication WHERE scope = :scope AND key = :key"
ANY = "SELECT * FROM duplication WHERE id = :id"

# One statement, so that whoever has been told UNKNOWN is always seen to have been. A unique index
# lets each UNKNOWN be overridden once.
BEGIN = (
    f"INSERT INTO duplication ({INTENT}, override_of, status, requested_at)"
    f" SELECT {_VALUES}, :override_of, 'IN_PROGRESS', :now"
    f" WHERE coalesce((SELECT id FROM duplication WHERE {_SAME_COPY} {_NEWEST} LIMIT 1), '')"
    " = coalesce(:override_of, '')"
    " ON CONFLICT DO NOTHING RETURNING id"
)
UNRESOLVED = f"SELECT * FROM duplication WHERE {_SAME_COPY} {_NEWEST} LIMIT 1"

# The provider's certain answer outweighs what reading or a person has said before it came. A yes
# may be followed by what became of it.
_SETTLES = (
    "{row}.id = :id AND {row}.attempt_id = :attempt_id AND ({row}.status IN ('IN_PROGRESS', 'UNKNOWN')"
    " OR (({row}.status = 'ACCEPTED' OR {row}.evidence IN ('INFERRED', 'OPERATOR'))"
    " AND :status IN ('CREATED', 'REJECTED'))"
    " OR ({row}.evidence = 'OPERATOR' AND {row}.status = 'REJECTED' AND :status = 'ACCEPTED')"
    " OR ({row}.evidence IN ('INFERRED', 'OPERATOR') AND :status = 'ACCEPTED'"
    " AND CAST(:campaign_id AS text) IS NOT NULL))"
)
IS_OPEN = f"SELECT * FROM duplication WHERE {_SETTLES.format(row='duplication')}"
# A campaign has one owner. A unique index says so too, for two gateways at the same moment.
_FREE = (
    "NOT EXISTS (SELECT 1 FROM duplication AS owner WHERE owner.id_namespace = duplication.id_namespace"
    " AND owner.campaign_id = :campaign_id AND owner.id <> :id)"
)
SETTLE = (
    "UPDATE duplication SET status = :status, campaign_id = :campaign_id, campaign = :campaign,"
    " warnings = :warnings, error = :error, evidence = :evidence,"
    " provider_trace_id = coalesce(:trace_id, provider_trace_id),"
    " settled_at = :settled_at, next_check_at = :next_check_at, candidates = NULL,"
    " override_of = CASE WHEN :status = 'REJECTED' THEN NULL ELSE override_of END"
    f" WHERE {_SETTLES.format(row='duplication')} AND {_FREE} RETURNING *"
)
OWNER = (
    "SELECT owner.* FROM duplication AS mine JOIN duplication AS owner"
    " ON owner.id_namespace = mine.id_namespace AND owner.id <> mine.id"
    " WHERE mine.id = :id AND owner.campaign_id = :campaign_id"
)
# Weaker evidence gives way to the provider's own answer: what was only found by reading, or named
# by a person, is looked for again at once.
_RELEASE = (
    "UPDATE duplication SET status = coalesce(settled_from, 'UNKNOWN'), campaign_id = NULL,"
    " campaign = NULL, warnings = NULL, evidence = NULL, settled_at = NULL, checks = 0,"
    " error = CASE WHEN settled_from = 'ACCEPTED' THEN NULL ELSE :released END,"
    " next_check_at = :now WHERE expired = 0 AND evidence IN ('INFERRED', 'OPERATOR')"
)
RELEASE = (
    f"{_RELEASE} AND campaign_id = :campaign_id AND id <> :id"
    " AND id_namespace = (SELECT id_namespace FROM duplication AS mine WHERE mine.id = :id)"
    f" AND EXISTS (SELECT 1 FROM duplication AS taker WHERE {_SETTLES.format(row='taker')})"
)
RESTORE = (
    f"INSERT INTO duplication ({INTENT}, status, requested_at)"
    f" VALUES ({_VALUES}, 'IN_PROGRESS', :now) ON CONFLICT (scope, key) DO NOTHING"
)
MARK_NEVER_SENT = (
    "UPDATE duplication SET status = 'REJECTED', error = :error, settled_at = :now,"
    " next_check_at = NULL, candidates = NULL, override_of = NULL, evidence = NULL,"
    " campaign_id = NULL, campaign = NULL, warnings = NULL"
    " WHERE id = :id AND attempt_id = :attempt_id"
    " AND (status IN ('IN_PROGRESS', 'UNKNOWN') OR evidence IN ('INFERRED', 'OPERATOR'))"
)
SETTLE_FROM_EVIDENCE = (
    "UPDATE duplication SET status = 'CREATED', campaign_id = :campaign_id, campaign = :campaign,"
    " warnings = :warnings, error = NULL, evidence = :evidence, settled_at = :now,"
    " next_check_at = :next_check_at, candidates = NULL, settled_from = status"
    # The provider may have named the copy since the check began.
    f" WHERE id = :id AND status IN ('ACCEPTED', 'UNKNOWN') AND {_FREE}"
    " AND (campaign_id IS NULL OR campaign_id = :campaign_id) RETURNING *"
)
# Only what is known of the copy changes, and only while it is the same copy.
UPDATE_COPY = (
    "UPDATE duplication SET campaign = :campaign, warnings = :warnings,"
    " next_check_at = :next_check_at, checks = checks + 1"
    " WHERE id = :id AND status = 'CREATED' AND campaign_id = :campaign_id AND expired = 0"
    " RETURNING *"
)
SETTLE_AS_NOT_CREATED = (
    "UPDATE duplication SET status = 'REJECTED', error = :error, evidence = 'OPERATOR',"
    " settled_at = :now, next_check_at = NULL, candidates = NULL, campaign_id = NULL,"
    " campaign = NULL"
    " WHERE id = :id AND status IN ('ACCEPTED', 'UNKNOWN') RETURNING id"
)

DUE_ACCOUNTS = "SELECT DISTINCT account FROM duplication WHERE next_check_at <= :now"
CLAIM_DUE = (
    "WITH due AS (SELECT id FROM duplication WHERE account = :account AND next_check_at <= :now"
    " ORDER BY next_check_at LIMIT :limit {lock})"
    " UPDATE duplication SET next_check_at = :until WHERE id IN (SELECT id FROM due) RETURNING *"
)
POSTPONE = (
    "UPDATE duplication SET checks = checks + 1, next_check_at = :next_check_at,"
    " candidates = :candidates"
    " WHERE id = :id AND status = :status AND (settled_at IS NULL OR next_check_at IS NOT NULL)"
)
COMPETING = (
    "SELECT * FROM duplication WHERE id_namespace = :id_namespace"
    " AND (name_key = :name_key OR source_campaign_id = :source_campaign_id)"
    " AND status IN ('IN_PROGRESS', 'UNKNOWN', 'ACCEPTED') AND campaign_id IS NULL"
    " ORDER BY requested_at, id"
)
RELATED_BY_SOURCE = (
    "SELECT * FROM duplication WHERE scope = :scope AND account = :account"
    " AND source_campaign_id = :campaign_id AND expired = 0 LIMIT 1"
)

PLATFORMS = "SELECT DISTINCT id_namespace FROM duplication WHERE account = :account"
# Of two accounts that have claimed one campaign each, the one with weaker evidence gives way.
RELEASE_MOVED = (
    f"{_RELEASE} AND ((account = :account AND id_namespace = :id_namespace AND EXISTS (SELECT 1"
    " FROM duplication AS owner WHERE owner.id_namespace = :moved"
    " AND owner.campaign_id = duplication.campaign_id"
    " AND NOT (duplication.evidence = 'OPERATOR' AND owner.evidence = 'INFERRED')))"
    " OR (id_namespace = :moved AND EXISTS (SELECT 1 FROM duplication AS mine"
    " WHERE mine.account = :account AND mine.id_namespace = :id_namespace"
    " AND mine.campaign_id = duplication.campaign_id AND (mine.evidence = 'RESPONSE'"
    " OR (mine.evidence = 'OPERATOR' AND duplication.evidence = 'INFERRED')))))"
)
# What both have from their provider's answers stays where it is.
MOVE = (
    "UPDATE duplication SET id_namespace = :moved WHERE account = :account AND id_namespace = :id_namespace"
    " AND NOT EXISTS (SELECT 1 FROM duplication AS owner WHERE owner.id_namespace = :moved"
    " AND owner.campaign_id = duplication.campaign_id)"
)

# Nobody but the gateway that began an attempt sends it.
TAKE_OVER_ABANDONED = (
    "WITH orphan AS (SELECT id FROM duplication WHERE status = 'IN_PROGRESS' AND {owner_is_dead}"
    " {lock})"
    " UPDATE duplication SET status = 'UNKNOWN', error = :error, next_check_at = :now"
    " WHERE id IN (SELECT id FROM orphan) RETURNING id"
)

EXPIRE = (
    "WITH settled AS (SELECT id FROM duplication WHERE expired = 0 AND requested_at < :before"
    " AND settled_at < :before LIMIT :limit {lock})"
    " UPDATE duplication SET expired = 1, attempt_id = '', owner = '', fingerprint = '', input = '',"
    " requested_name = NULL, preexisting_ids = NULL, campaign = NULL, warnings = NULL, error = NULL,"
    " provider_trace_id = NULL, next_check_at = NULL"
    " WHERE id IN (SELECT id FROM settled) RETURNING id"
)
FORGET = (
    "WITH expired AS (SELECT id FROM duplication WHERE expired = 1 AND requested_at < :before"
    " ORDER BY requested_at LIMIT :limit {lock})"
    " DELETE FROM duplication WHERE id IN (SELECT id FROM expired) RETURNING id"
)


def get(scope: str | None) -> str:
    narrowed = "" if scope is None else " AND scope = :scope"
    return f"SELECT * FROM duplication WHERE id = :id AND expired = 0{narrowed}"


def get_all(wanted: Mapping[str, object]) -> str:
    return (
        f"SELECT {_SHOWN} FROM duplication WHERE scope = :scope AND expired = 0"
        f" AND id IN ({_those(wanted, 'id')})"
    )


def copies(wanted: Mapping[str, object]) -> str:
    return (
        "SELECT * FROM duplication WHERE scope = :scope AND account = :account AND expired = 0"
        f" AND campaign_id IN ({_those(wanted, 'campaign')})"
    )


def known_copies(wanted: Mapping[str, object]) -> str:
    return (
        "SELECT campaign_id FROM duplication WHERE id_namespace = :id_namespace"
        f" AND campaign_id IN ({_those(wanted, 'campaign')})"
    )


def listing(wanted: Mapping[str, object]) -> str:
    """Narrowed by each of the values that are given."""
    clauses = {
        "scope": "scope = :scope",
        "before_id": "(requested_at, id) < (:before, :before_id)",
        "provider": "provider = :provider",
        "account": "account = :account",
        "since": "requested_at >= :since",
        "until": "requested_at < :until",
        "status0": f"status IN ({_those(wanted, 'status')})",
    }
    narrowed = ["expired = 0", *(clauses[name] for name in clauses if name in wanted)]
    where = " AND ".join(narrowed)
    return f"SELECT {_SHOWN} FROM duplication WHERE {where} {_NEWEST} LIMIT :limit"


def _those(wanted: Mapping[str, object], name: str) -> str:
    return ", ".join(f":{each}" for each in wanted if each.rstrip("0123456789") == name) or "NULL"
