"""Duplications as text for a terminal, and as JSON for scripts."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from campaign_gateway.model import (
    Campaign,
    Change,
    Duplication,
    DuplicationStatus,
    Evidence,
    Intent,
    UserError,
)

UNKNOWN, ACCEPTED = DuplicationStatus.UNKNOWN, DuplicationStatus.ACCEPTED

# Who or what changed a state, if no operator did.
SOURCES = {
    Evidence.RESPONSE: "the provider's response",
    Evidence.OPERATOR: "an operator",
    Evidence.INFERRED: "the search at the provider",
}

FOR_SCRIPTS = "Without a terminal, add --yes and the reason for the history: --yes --why 'TEXT'"


def listing(duplications: Sequence[Duplication]) -> str:
    titles = ("ID", "STATUS", "REQUESTED", "CALLER", "ACCOUNT", "SOURCE", "NAME", "COPY")
    return table([titles, *map(_cells, duplications)])


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines)


def _cells(duplication: Duplication) -> tuple[str, ...]:
    intent, copy, candidates = duplication.intent, duplication.campaign, duplication.candidates
    known = copy.id if copy else f"{len(candidates)} candidates" if candidates else ""
    return (
        intent.id,
        duplication.status,
        in_utc(duplication.requested_at),
        intent.caller or "",
        intent.account,
        intent.source_campaign_id,
        one_line(intent.requested_name),
        known,
    )


def description(
    duplication: Duplication,
    history: Sequence[Change],
    command: Callable[[str], str],
    not_searched: str | None = None,
) -> str:
    """Describe a duplication. `command` returns the operator's command line up to its id.

    `not_searched` is the title of the provider if no search finds the copy.
    """
    lines = [
        *_fields(duplication, history, not_searched),
        "",
        "history",
        *map(change_line, history),
    ]
    if next_steps := list(_next_steps(duplication, command)):
        lines += ["", *next_steps]
    return "".join(f"{line}\n" for line in lines)


def _fields(
    duplication: Duplication, history: Sequence[Change], not_searched: str | None
) -> Iterator[str]:
    intent, copy = duplication.intent, duplication.campaign
    # The message for callers would look like the provider's word.
    is_manual = duplication.evidence is Evidence.OPERATOR
    error = None if is_manual else duplication.error
    fields = {
        "id": intent.id,
        "status": duplication.status,
        "evidence": duplication.evidence,
        "provider": intent.provider,
        "account": intent.account,
        "idempotency key": intent.key,
        "source campaign": intent.source_campaign_id,
        "requested name": one_line(intent.requested_name),
        "copy": copy and f"{copy.id}  {one_line(copy.name)}".rstrip(),
        "copy's address": copy and copy.url,
        "operator's result": _manual_result(duplication, history) if is_manual else None,
        "error": error and f"{error.code}: {error.message}",
        "provider's message": error and one_line(error.provider_message),
        "provider's trace id": one_line(duplication.provider_trace_id),
        "requested at": in_utc(duplication.requested_at),
        "requested by": _requester(intent),
        "settled at": duplication.settled_at and in_utc(duplication.settled_at),
        "checks": _checks(duplication, not_searched),
    }
    for name, value in fields.items():
        if value:
            yield f"{name:<20} {value}"
    for remark in duplication.warnings:
        message = f" ({one_line(remark.provider_message)})" if remark.provider_message else ""
        yield f"{'warning':<20} {remark.code}: {remark.message}{message}"
    for candidate in duplication.candidates:
        yield f"{'candidate':<20} {candidate_line(candidate)}"


def _manual_result(duplication: Duplication, history: Sequence[Change]) -> str:
    result = "this is the copy" if duplication.campaign else "there is no copy"
    note = history[-1].note if history else None
    if note is None:
        return result
    return f"{result}, by {one_line(note.operator)} (reason: {one_line(note.reason)})"


def _checks(duplication: Duplication, not_searched: str | None) -> str:
    """Return how often the gateway has looked at the provider, and when it looks again."""
    if not_searched and duplication.status in {UNKNOWN, ACCEPTED}:
        return f"no search finds this copy, because no list of {not_searched} identifies it"
    is_open = duplication.settled_at is None and duplication.checks
    result = ", and none has settled it" if is_open else ""
    next_at = duplication.next_check_at
    return f"{duplication.checks}{result}" + (f"; the next at {in_utc(next_at)}" if next_at else "")


def _requester(intent: Intent) -> str | None:
    return f"{intent.caller} for {intent.person}" if intent.person else intent.caller


def candidate_line(candidate: Campaign) -> str:
    created = f", created {in_utc(candidate.created_at)}" if candidate.created_at else ""
    return f"{candidate.id}  {one_line(candidate.name)}{created}"


def change_line(change: Change) -> str:
    at = in_utc(change.at) if change.at else "at an unknown time"
    source = SOURCES.get(change.evidence) if change.evidence else None
    if change.note:
        source = f"{one_line(change.note.operator)} (reason: {one_line(change.note.reason)})"
    # After an operator's reason, the message for callers has nothing new.
    error = None if change.note else change.error
    parts = [
        f"by {source}" if source else "",
        f"campaign {change.campaign_id}" if change.campaign_id else "",
        f"{error.code}: {error.message}" if error else "",
    ]
    details = "; ".join(part for part in parts if part)
    return f"  {at:<20}  {change.status:<11}  {details}".rstrip()


def _next_steps(duplication: Duplication, command: Callable[[str], str]) -> Iterator[str]:
    duplication_id = duplication.intent.id
    if duplication.status in {UNKNOWN, ACCEPTED}:
        yield "Check at the provider, then record the result with one of these commands:"
        yield f"  {command('resolve')} {duplication_id} --created CAMPAIGN_ID"
        yield f"  {command('resolve')} {duplication_id} --absent"
        yield FOR_SCRIPTS
    elif duplication.evidence is Evidence.OPERATOR:
        yield "An operator recorded this result. If it is wrong, this command withdraws it:"
        yield f"  {command('reopen')} {duplication_id}"
        yield FOR_SCRIPTS


def comparison(duplication: Duplication, campaign: Campaign) -> str:
    """Return the campaign next to what was requested."""
    intent, created_at = duplication.intent, campaign.created_at
    status = " ".join(filter(None, (campaign.status, one_line(campaign.provider_status))))
    return table(
        [
            ("", "REQUESTED", f"CAMPAIGN {campaign.id}"),
            ("source", intent.source_campaign_id, campaign.copied_from or "not reported"),
            ("name", one_line(intent.requested_name), one_line(campaign.name) or "not reported"),
            (
                "time",
                in_utc(duplication.requested_at),
                in_utc(created_at) if created_at else "not reported",
            ),
            ("status", duplication.status, status),
        ]
    )


def to_json(content: object) -> str:
    # Escapes, because a provider's name may contain characters that a terminal obeys.
    return json.dumps(content, indent=2) + "\n"


def as_json(duplication: Duplication) -> dict[str, object]:
    """Return the fields under the names that they have in the GraphQL schema."""
    intent = duplication.intent
    return {
        "id": intent.id,
        "status": duplication.status,
        "evidence": duplication.evidence,
        "provider": intent.provider,
        "account": intent.account,
        "idempotencyKey": intent.key,
        "sourceCampaignId": intent.source_campaign_id,
        "requestedName": intent.requested_name,
        "requestedAt": _iso(duplication.requested_at),
        "requestedBy": {"caller": intent.caller, "person": intent.person},
        "settledAt": _iso(duplication.settled_at),
        "campaign": duplication.campaign and _campaign_json(duplication.campaign),
        "error": _error_json(duplication.error),
        "warnings": [
            {
                "code": remark.code,
                "message": remark.message,
                "providerMessage": remark.provider_message,
            }
            for remark in duplication.warnings
        ],
        "candidates": [_campaign_json(candidate) for candidate in duplication.candidates],
        "checks": duplication.checks,
        "overrideDuplicationId": intent.override_of,
        "providerTraceId": duplication.provider_trace_id,
    }


def history_json(history: Sequence[Change]) -> list[dict[str, object]]:
    return [
        {
            "at": _iso(change.at),
            "status": change.status,
            "evidence": change.evidence,
            "campaignId": change.campaign_id,
            "error": _error_json(change.error),
            "operator": change.note and change.note.operator,
            "reason": change.note and change.note.reason,
        }
        for change in history
    ]


def _campaign_json(campaign: Campaign) -> dict[str, object]:
    return {
        "id": campaign.id,
        "name": campaign.name,
        "status": campaign.status,
        "providerStatus": campaign.provider_status,
        "createdAt": _iso(campaign.created_at),
        "url": campaign.url,
    }


def _error_json(error: UserError | None) -> dict[str, object] | None:
    if error is None:
        return None
    return {
        "code": error.code,
        "message": error.message,
        "providerCode": error.provider_code,
        "providerMessage": error.provider_message,
    }


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).isoformat()


def one_line(text: str | None) -> str:
    """Replace control characters, which a provider's name may contain and a terminal obeys."""
    return "".join(char if char.isprintable() else "?" for char in text or "")


def in_utc(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
