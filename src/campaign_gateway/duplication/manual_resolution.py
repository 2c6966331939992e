"""Shows the ledger to an operator, who can settle duplications that the gateway cannot."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime

from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import Cursor
from campaign_gateway.model import (
    Campaign,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Intent,
    Selection,
    UserError,
    is_same_id,
)

# Only these can need an operator.
UNSETTLED = (DuplicationStatus.IN_PROGRESS, DuplicationStatus.UNKNOWN, DuplicationStatus.ACCEPTED)

PAGE_SIZE = 500

ABSENT = UserError(
    ErrorCode.PROVIDER_UNAVAILABLE,
    "An operator has checked at the provider: no copy was made. Use a new key to try again.",
)


class CannotResolve(Exception):
    """The operator cannot settle the duplication like this."""


async def listing(ledger: Ledger, statuses: Sequence[DuplicationStatus] | None) -> Sequence[str]:
    """Return a table of duplications, newest first. `statuses` None: all statuses."""
    selection = Selection(statuses=None if statuses is None else tuple(statuses))
    table: list[tuple[str, ...]] = [
        ("ID", "STATUS", "REQUESTED", "CALLER", "ACCOUNT", "SOURCE", "NAME", "COPY")
    ]
    table += [_cells(duplication) async for duplication in _all(ledger, selection)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


async def show(ledger: Ledger, duplication_id: str, resolve_command: str) -> Sequence[str]:
    """Return the lines that describe one duplication. Raises `CannotResolve`.

    `resolve_command` is the operator's command `duplications resolve`, without an id and a result.
    """
    return list(_lines(await _get(ledger, duplication_id), resolve_command))


async def resolve_as_created(ledger: Ledger, duplication_id: str, campaign_id: str) -> None:
    """Record that the campaign is the copy. Raises `CannotResolve`."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", campaign_id):
        raise CannotResolve("a campaign's id is 1 to 128 letters, digits, '-' or '_'")
    duplication = await _unsettled(ledger, duplication_id)
    candidates = [duplication.campaign] if duplication.campaign else duplication.candidates
    known = [candidate for candidate in candidates if is_same_id(candidate.id, campaign_id)]
    campaign = known[0] if known else Campaign(campaign_id, duplication.intent.requested_name)
    if is_same_id(campaign_id, duplication.intent.source_campaign_id):
        raise CannotResolve(f"{campaign_id} is the source campaign, so it cannot be the copy")
    copy = Created(campaign)
    if not await ledger.settle_from_evidence(
        duplication, copy, Evidence.OPERATOR, ledger.now(), None
    ):
        raise CannotResolve(
            f"{campaign_id} is the copy of another duplication, or {duplication_id} was settled "
            "just now; show it again"
        )


async def resolve_as_not_created(ledger: Ledger, duplication_id: str) -> None:
    """Record that there is no copy. Raises `CannotResolve`."""
    duplication = await _unsettled(ledger, duplication_id)
    if not await ledger.settle_as_not_created(duplication, ABSENT, ledger.now()):
        raise CannotResolve(f"{duplication_id} was settled just now; show it again")


async def _all(ledger: Ledger, selection: Selection) -> AsyncIterator[Duplication]:
    before: Cursor | None = None
    while page := await ledger.list(None, selection, PAGE_SIZE, before):
        for duplication in page:
            yield duplication
        before = (page[-1].requested_at, page[-1].intent.id)


async def _get(ledger: Ledger, duplication_id: str) -> Duplication:
    duplication = await ledger.get(None, duplication_id)
    if duplication is None:
        raise CannotResolve(f"there is no duplication {duplication_id}")
    return duplication


async def _unsettled(ledger: Ledger, duplication_id: str) -> Duplication:
    duplication = await _get(ledger, duplication_id)
    if duplication.status is DuplicationStatus.IN_PROGRESS:
        raise CannotResolve(
            f"{duplication_id} is IN_PROGRESS: wait until its call ends. If its gateway is gone, "
            "wait until another gateway takes over, or start one"
        )
    if duplication.status not in UNSETTLED:
        raise CannotResolve(f"{duplication_id} is {duplication.status} already")
    return duplication


def _cells(duplication: Duplication) -> tuple[str, ...]:
    intent, copy = duplication.intent, duplication.campaign
    return (
        intent.id,
        duplication.status,
        _in_utc(duplication.requested_at),
        intent.caller or "",
        intent.account,
        intent.source_campaign_id,
        _one_line(intent.requested_name),
        copy.id
        if copy
        else f"{len(duplication.candidates)} candidates"
        if duplication.candidates
        else "",
    )


def _lines(duplication: Duplication, resolve_command: str) -> Iterator[str]:
    intent, error, copy = duplication.intent, duplication.error, duplication.campaign
    fields = {
        "id": intent.id,
        "status": duplication.status,
        "evidence": duplication.evidence,
        "provider": intent.provider,
        "account": intent.account,
        "idempotency key": intent.key,
        "source campaign": intent.source_campaign_id,
        "requested name": _one_line(intent.requested_name),
        "copy": copy and f"{copy.id}  {_one_line(copy.name)}".rstrip(),
        "error": error and f"{error.code}: {error.message}",
        "provider's message": error and error.provider_message,
        "provider's trace id": duplication.provider_trace_id,
        "requested at": _in_utc(duplication.requested_at),
        "requested by": _requester(intent),
        "settled at": duplication.settled_at and _in_utc(duplication.settled_at),
        "checks": str(duplication.checks),
    }
    for name, value in fields.items():
        if value:
            yield f"{name:<20} {value}"
    for remark in duplication.warnings:
        message = f" ({_one_line(remark.provider_message)})" if remark.provider_message else ""
        yield f"{'warning':<20} {remark.code}: {remark.message}{message}"
    for candidate in duplication.candidates:
        made = f", created {_in_utc(candidate.created_at)}" if candidate.created_at else ""
        yield f"{'candidate':<20} {candidate.id}  {_one_line(candidate.name)}{made}"
    if duplication.status in {DuplicationStatus.UNKNOWN, DuplicationStatus.ACCEPTED}:
        yield ""
        yield "Check at the provider, then record the result with one of these commands:"
        yield f"  {resolve_command} {intent.id} --created CAMPAIGN_ID"
        yield f"  {resolve_command} {intent.id} --absent"


def _requester(intent: Intent) -> str | None:
    return f"{intent.caller} for {intent.person}" if intent.person else intent.caller


def _one_line(text: str | None) -> str:
    """Replace control characters, which a provider's name may contain and a terminal obeys."""
    return "".join(char if char.isprintable() else "?" for char in text or "")


def _in_utc(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
