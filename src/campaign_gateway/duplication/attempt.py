"""The one attempt at a copy: recorded, sent, read, settled and finished."""

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, repeat
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connectors.contract import ListsCampaigns, ProviderRequest, UnexpectedResponse
from campaign_gateway.duplication.completion import (
    COMPLETION_DUE_AFTER,
    COMPLETION_SECONDS,
    complete_copy,
    has_pending_steps,
    with_pending_warnings,
)
from campaign_gateway.duplication.copy_search import search_copies
from campaign_gateway.duplication.errors import NEVER_SENT
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import KeyConflict, LedgerClosed, LedgerUnavailable, Unresolved
from campaign_gateway.model import (
    Accepted,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Intent,
    Outcome,
    Refused,
    Rejected,
    Unknown,
    UserError,
    status_of,
)
from campaign_gateway.transport.errors import NoResponse, NotSent

log = logging.getLogger(__name__)

# How long after an answer that left the copy unnamed the provider is first read.
FIRST_CHECK = timedelta(seconds=1)

# How long a list may take that is read before a send, in seconds.
LIST_SECONDS = 5


@dataclass
class _Recording:
    """The writing of the record, which happens when a connection is up and nothing is sent."""

    ledger: Ledger
    intent: Intent
    override_of: str | None
    task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Raises `KeyConflict`, `Unresolved` and `LedgerUnavailable`."""
        now = self.ledger.now()
        self.task = asyncio.create_task(self.ledger.begin(self.intent, now, self.override_of))
        # Shielded: a deadline that strikes here must not leave a record of unknown fate.
        await asyncio.shield(self.task)


async def attempt(
    ledger: Ledger,
    account: Account,
    intent: Intent,
    campaign: Any,
    request: ProviderRequest,
    *,
    override_of: str | None,
) -> Duplication:
    """Send the request at most once, and record what became of it.

    Raises `Refused`, `KeyConflict`, `Unresolved` and `LedgerUnavailable`, all before the first byte.
    After `CommitUncertain`, which is one of the latter, the intent has to be renounced.
    """
    id_namespace = "#".join(filter(None, [account.place, request.kind]))
    intent = replace(intent, id_namespace=id_namespace)
    recording = _Recording(
        ledger, await _list_existing(ledger, account, intent, campaign), override_of
    )
    outcome = await _send(recording, account, campaign, request)
    if recording.task is None:
        assert isinstance(outcome, Rejected), "nothing is sent without a record"
        raise Refused(outcome.error)
    await recording.task
    log.info("duplication %s at %s: %s", intent.id, account.name, _in_words(outcome))
    if isinstance(outcome, Created):
        outcome = with_pending_warnings(account, intent, outcome)
    settled = await _settle(ledger, recording.intent, outcome)
    if settled.status is not DuplicationStatus.CREATED or not has_pending_steps(settled.warnings):
        return settled
    try:
        return await complete_copy(ledger, account, campaign, settled, COMPLETION_SECONDS)
    except LedgerUnavailable as failure:
        # What is on record is true, and is gone on with from there.
        log.error("duplication %s is not finished: %s", intent.id, failure)
        return settled


async def mark_never_sent(ledger: Ledger, intent: Intent) -> None:
    """See to it that an intent that was never sent does not look under way for good."""
    for pause in _pauses():
        try:
            await ledger.mark_never_sent(intent, NEVER_SENT, ledger.now())
        except LedgerClosed:
            return
        except LedgerUnavailable:
            await asyncio.sleep(pause)
        else:
            return


async def _list_existing(ledger: Ledger, account: Account, intent: Intent, campaign: Any) -> Intent:
    """The intent with the campaigns that are like the copy already, where that will matter."""
    connector = account.connector
    if not isinstance(connector, ListsCampaigns) or connector.reports_creation_time:
        return intent
    if intent.requested_name is None and not connector.reports_source:
        return intent
    try:
        async with asyncio.timeout(LIST_SECONDS):
            listed = await search_copies(account, campaign, intent, ledger.now)
    except (NoResponse, UnexpectedResponse, TimeoutError) as failure:
        log.warning("%s could not be read before a copy: %s", account.name, failure)
        return intent
    if not listed.is_complete:
        return intent
    return replace(intent, preexisting_ids=tuple(each.id for each in listed.campaigns))


async def _send(
    recording: _Recording, account: Account, campaign: Any, request: ProviderRequest
) -> Outcome:
    """Say what is certain after the send. Raises `Refused` and what `_Recording.begin` raises."""
    title = account.connector.title
    try:
        response = await account.transport.send_once(request, recording.begin)
        return account.connector.parse_response(campaign, response)
    except NotSent as failure:
        message = f"{title} could not be reached ({failure}). Nothing was sent; try again."
        return Rejected(UserError(ErrorCode.PROVIDER_UNAVAILABLE, message))
    except NoResponse as failure:
        return _unknown(f"{title} gave no answer ({failure})")
    except (KeyConflict, Unresolved, LedgerUnavailable):
        raise
    except Exception:
        # With nothing on record nothing was sent; a `Refused` is then the signing in's.
        if recording.task is None:
            raise
        log.exception("a fault of the gateway's own, duplication %s", recording.intent.id)
        return _unknown("The gateway could not read the answer")


async def _settle(ledger: Ledger, intent: Intent, outcome: Outcome) -> Duplication:
    """Record the outcome, however long the ledger takes to be usable again."""
    for pause in _pauses():
        now = ledger.now()
        try:
            return await ledger.settle(intent, outcome, now, _check_at(outcome, now))
        except LedgerClosed:
            # To the next gateway it is UNKNOWN; here nobody is left to be told anything.
            raise asyncio.CancelledError from None
        except LedgerUnavailable as failure:
            # In full, for a person to settle it by if the gateway should end before the ledger is
            # back.
            log.error(
                "duplication %s (%s) is not recorded yet: %s",
                intent.id,
                _in_words(outcome),
                failure,
            )
            await asyncio.sleep(pause)
    raise AssertionError("the pauses never end")


def _check_at(outcome: Outcome, now: datetime) -> datetime | None:
    if isinstance(outcome, Accepted | Unknown):
        return now + FIRST_CHECK
    unfinished = isinstance(outcome, Created) and has_pending_steps(outcome.warnings)
    return now + COMPLETION_DUE_AFTER if unfinished else None


def _pauses() -> "chain[float]":
    return chain([0.1, 0.5, 1], repeat(5))


def _in_words(outcome: Outcome) -> str:
    copy = f" as {outcome.campaign.id}" if isinstance(outcome, Created) else ""
    return f"{status_of(outcome)}{copy}"


def _unknown(what_happened: str) -> Unknown:
    return Unknown(
        UserError(
            ErrorCode.OUTCOME_UNKNOWN,
            f"{what_happened}, so the copy may or may not exist. Look at the duplication before "
            "asking for another copy.",
        )
    )
