"""Converts duplications to the parameters of statements, and rows to duplications."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from pydantic import TypeAdapter

from campaign_gateway.ledger.engine import Cursor, Row
from campaign_gateway.model import (
    Accepted,
    Campaign,
    Change,
    CopyWarning,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Intent,
    OperatorNote,
    Outcome,
    Selection,
    UserError,
    status_of,
)

Values = dict[str, object]

# How many characters of a copy's description are stored.
MAX_DESCRIPTION_LENGTH = 2000

# More than an operator would compare.
MAX_CANDIDATES = 20

# A gateway takes the time of a request before it records the request. So an attempt that an
# operator's result allowed may be this much older than the result.
BEGIN_DELAY = timedelta(seconds=5)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

CAMPAIGN: TypeAdapter[Campaign] = TypeAdapter(Campaign)
CAMPAIGNS: TypeAdapter[tuple[Campaign, ...]] = TypeAdapter(tuple[Campaign, ...])
WARNINGS: TypeAdapter[tuple[CopyWarning, ...]] = TypeAdapter(tuple[CopyWarning, ...])
USER_ERROR: TypeAdapter[UserError] = TypeAdapter(UserError)

ABANDONED = UserError(
    ErrorCode.OUTCOME_UNKNOWN,
    "The gateway stopped before the provider responded, so the copy may or may not exist. Wait for "
    "the result, or check at the provider, before you request another copy.",
)
RELEASED = UserError(
    ErrorCode.OUTCOME_UNKNOWN,
    "The gateway found a campaign and recorded it as this copy. The provider has now confirmed "
    "that it is the copy of another request. The gateway searches again. Wait for the result, or "
    "check at the provider, before you request another copy.",
)
SAME_CAMPAIGN = UserError(
    ErrorCode.OUTCOME_UNKNOWN,
    "The provider returned a campaign that is already the copy of another request. So this copy "
    "may or may not exist. Wait for the result, or check at the provider, before you request "
    "another copy.",
)


def intent_params(
    intent: Intent, owner: str, now: datetime, preexisting_ids: tuple[str, ...] | None
) -> Values:
    return {
        "now": to_micros(now),
        "override_of": intent.override_of,
        "id": intent.id,
        "attempt_id": intent.attempt_id,
        "owner": owner,
        "scope": intent.scope,
        "key": intent.key,
        "fingerprint": intent.fingerprint,
        "provider": intent.provider,
        "account": intent.account,
        "source_campaign_id": intent.source_campaign_id,
        "requested_name": intent.requested_name,
        "name_key": name_key(intent.requested_name),
        "id_namespace": intent.id_namespace,
        "input": intent.input,
        "caller": intent.caller,
        "person": intent.person,
        "preexisting_ids": None if preexisting_ids is None else json.dumps(preexisting_ids),
    }


def competing_params(duplication: Duplication) -> Values:
    intent = duplication.intent
    return {
        "id_namespace": intent.id_namespace,
        "name_key": name_key(intent.requested_name),
        "source_campaign_id": intent.source_campaign_id,
    }


def competing_of_a_time_params(duplication: Duplication, within: timedelta) -> Values:
    return {
        "id_namespace": duplication.intent.id_namespace,
        "since": to_micros(duplication.requested_at - within),
        "until": to_micros(duplication.requested_at + within),
    }


def outcome_params(
    intent: Intent, outcome: Outcome, now: datetime, next_check_at: datetime | None
) -> Values:
    campaign = outcome.campaign if isinstance(outcome, Created | Accepted) else None
    error = None if isinstance(outcome, Created | Accepted) else outcome.error
    status = status_of(outcome)
    is_final = status in {DuplicationStatus.CREATED, DuplicationStatus.REJECTED}
    return {
        "id": intent.id,
        "attempt_id": intent.attempt_id,
        "status": status.value,
        "campaign_id": campaign and campaign.id,
        "campaign": campaign and _campaign_json(campaign),
        "warnings": _warnings_json(outcome),
        "error": error and _error_json(error),
        "evidence": None if status is DuplicationStatus.UNKNOWN else Evidence.RESPONSE.value,
        "trace_id": outcome.trace_id,
        "settled_at": to_micros(now) if is_final else None,
        "next_check_at": None if next_check_at is None else to_micros(next_check_at),
        "now": to_micros(now),
    }


def copy_params(duplication: Duplication, copy: Created, next_check_at: datetime | None) -> Values:
    return {
        "id": duplication.intent.id,
        "campaign_id": copy.campaign.id,
        "campaign": _campaign_json(copy.campaign),
        "warnings": _warnings_json(copy),
        "next_check_at": None if next_check_at is None else to_micros(next_check_at),
    }


def _campaign_json(campaign: Campaign) -> str:
    return CAMPAIGN.dump_json(_shortened(campaign)).decode()


def _shortened(campaign: Campaign) -> Campaign:
    # A response may have a megabyte of text, for which the disk reserve has no space.
    description = campaign.description
    if description is None or len(description) <= MAX_DESCRIPTION_LENGTH:
        return campaign
    return replace(campaign, description=description[:MAX_DESCRIPTION_LENGTH])


def _warnings_json(outcome: Outcome) -> str | None:
    if not isinstance(outcome, Created) or not outcome.warnings:
        return None
    return WARNINGS.dump_json(outcome.warnings).decode()


def postponement_params(
    duplication: Duplication, next_check_at: datetime, candidates: Iterable[Campaign]
) -> Values:
    stored = tuple(_shortened(campaign) for campaign in islice(candidates, MAX_CANDIDATES))
    return {
        "id": duplication.intent.id,
        "status": duplication.status.value,
        "next_check_at": to_micros(next_check_at),
        "candidates": CAMPAIGNS.dump_json(stored).decode() if stored else None,
    }


def selection_params(
    scope: str | None, selection: Selection, limit: int, before: Cursor | None
) -> Values:
    """Return the limit, and a parameter for each filter that is set."""
    since, until = selection.since, selection.until
    values = {
        "scope": scope,
        "before": None if before is None else to_micros(before[0]),
        "before_id": None if before is None else before[1],
        "provider": selection.provider,
        "account": selection.account,
        "caller": selection.caller,
        "since": None if since is None else to_micros(since),
        "until": None if until is None else to_micros(until),
        "limit": limit,
        **_numbered_params("status", selection.statuses or ()),
    }
    return {name: value for name, value in values.items() if value is not None}


def duplications_params(scope: str, duplication_ids: Iterable[str]) -> Values:
    return {"scope": scope, **_numbered_params("id", duplication_ids)}


def related_params(scope: str, account: str, campaign_ids: Iterable[str]) -> Values:
    return {"scope": scope, "account": account, **_numbered_params("campaign", campaign_ids)}


def owner_params(id_namespace: str, campaign_id: str) -> Values:
    # Providers ignore upper and lower case in ids, and an operator may type either.
    return {
        "id_namespace": id_namespace,
        "campaign_id": campaign_id,
        "lower_case": campaign_id.lower(),
        "upper_case": campaign_id.upper(),
    }


def campaigns_params(id_namespace: str, campaign_ids: Iterable[str]) -> Values:
    return {"id_namespace": id_namespace, **_numbered_params("campaign", campaign_ids)}


def _numbered_params(name: str, values: Iterable[str]) -> Values:
    """Return the values under the names that `sql` makes placeholders for, such as `id0`, `id1`."""
    return {f"{name}{number}": value for number, value in enumerate(values)}


def never_sent_params(intent: Intent, error: UserError, now: datetime) -> Values:
    return {
        "id": intent.id,
        "attempt_id": intent.attempt_id,
        "error": _error_json(error),
        "now": to_micros(now),
    }


def note_params(note: OperatorNote | None) -> Values:
    return {"operator": note and note.operator, "reason": note and note.reason}


def reopening_params(duplication: Duplication) -> Values:
    """Return the values that identify an operator's result and what was recorded after it."""
    assert duplication.settled_at is not None, "a result has a time"
    return {
        "id": duplication.intent.id,
        "settled_at": to_micros(duplication.settled_at),
        "since": to_micros(duplication.settled_at - BEGIN_DELAY),
    }


def abandoned_params(owner: str, now: datetime) -> Values:
    return {"owner": owner, "error": _error_json(ABANDONED), "now": to_micros(now)}


def age_params(before: datetime, limit: int) -> Values:
    return {"before": to_micros(before), "limit": limit}


def release_params(values: Mapping[str, object], now: datetime) -> Values:
    return {**values, "released": _error_json(RELEASED), "now": to_micros(now)}


def error_params(error: UserError, now: datetime) -> Values:
    return {"error": _error_json(error), "now": to_micros(now)}


def _error_json(error: UserError) -> str:
    return USER_ERROR.dump_json(error).decode()


def name_key(name: str | None) -> str:
    """Return a key that is equal for names that a provider may treat as the same name.

    A hash, because a name may be too long for an index.
    """
    return "" if name is None else hashlib.sha256(name.strip().encode()).hexdigest()


def to_micros(time: datetime) -> int:
    """Return the microseconds since 1970 in UTC."""
    return (time - EPOCH) // MICROSECOND


def parse_cursor(row: Row) -> Cursor:
    return from_micros(row["requested_at"]), row["id"]


def parse_row(row: Row) -> Duplication:
    return Duplication(
        intent=Intent(
            id=row["id"],
            attempt_id=row["attempt_id"],
            scope=row["scope"],
            key=row["key"],
            fingerprint=row["fingerprint"],
            provider=row["provider"],
            account=row["account"],
            source_campaign_id=row["source_campaign_id"],
            requested_name=row["requested_name"],
            input=row["input"],
            id_namespace=row["id_namespace"],
            override_of=row["override_of"],
            caller=row["caller"],
            person=row["person"],
        ),
        status=DuplicationStatus(row["status"]),
        requested_at=from_micros(row["requested_at"]),
        campaign=row["campaign"] and CAMPAIGN.validate_json(row["campaign"]),
        error=row["error"] and USER_ERROR.validate_json(row["error"]),
        evidence=row["evidence"] and Evidence(row["evidence"]),
        provider_trace_id=row["provider_trace_id"],
        settled_at=None if row["settled_at"] is None else from_micros(row["settled_at"]),
        checks=row["checks"],
        warnings=WARNINGS.validate_json(row["warnings"]) if row["warnings"] else (),
        candidates=CAMPAIGNS.validate_json(row["candidates"]) if row["candidates"] else (),
        expired=bool(row["expired"]),
        preexisting_ids=None
        if row["preexisting_ids"] is None
        else tuple(json.loads(row["preexisting_ids"])),
        next_check_at=None if row["next_check_at"] is None else from_micros(row["next_check_at"]),
    )


def parse_change(row: Row) -> Change:
    return Change(
        at=None if row["at"] is None else from_micros(row["at"]),
        status=DuplicationStatus(row["status"]),
        evidence=row["evidence"] and Evidence(row["evidence"]),
        campaign_id=row["campaign_id"],
        error=row["error"] and USER_ERROR.validate_json(row["error"]),
        note=row["operator"] and OperatorNote(row["operator"], row["reason"]),
    )


def from_micros(value: int) -> datetime:
    return EPOCH + value * MICROSECOND
