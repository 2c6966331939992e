"""The one attempt at a copy: recorded, sent, read, settled and finished."""

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, repeat
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connectors.contract import FindsCopies, ProviderRequest, UnreadableAnswer
from campaign_gateway.duplication.completion import (
    FINISH_SECONDS,
    UNFINISHED_AFTER,
    finish,
    is_unfinished,
    with_what_is_left,
)
from campaign_gateway.duplication.copy_search import like_copy
from campaign_gateway.duplication.errors import RENOUNCED
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import KeyTaken, LedgerClosed, LedgerUnavailable, Unresolved
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
from campaign_gateway.transport.errors import NoAnswer, NotSent

log = logging.getLogger(__name__)

# How long after an answer that left the copy unnamed the provider is first read.
FIRST_CHECK = timedelta(seconds=1)

# How long a list may take that is read before a send, in seconds.
LOOK_SECONDS = 5


@dataclass
class _Recording:
    """The writing of the record, which happens when a connection is up and nothing is sent."""

    ledger: Ledger
    intent: Intent
    despite: str | None
    task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Raises `KeyTaken`, `Unresolved` and `LedgerUnavailable`."""
        now = self.ledger.now()
        self.task = asyncio.create_task(self.ledger.begin(self.intent, now, self.despite))
        # Shielded: a deadline that strikes here must not leave a record of unknown fate.
        await asyncio.shield(self.task)


async def attempt(
    ledger: Ledger,
    account: Account,
    intent: Intent,
    campaign: Any,
    request: ProviderRequest,
    *,
    despite: str | None,
) -> Duplication:
    """Send the request at most once, and record what became of it.

    Raises `Refused`, `KeyTaken`, `Unresolved` and `LedgerUnavailable`, all before the first byte.
    After `InDoubt`, which is one of the latter, the intent has to be renounced.
    """
    platform = "#".join(filter(None, [account.place, request.kind]))
    intent = replace(intent, platform=platform)
    recording = _Recording(
        ledger, await _with_what_is_there(ledger, account, intent, campaign), despite
    )
    outcome = await _send(recording, account, campaign, request)
    if recording.task is None:
        assert isinstance(outcome, Rejected), "nothing is sent without a record"
        raise Refused(outcome.error)
    await recording.task
    log.info("duplication %s at %s: %s", intent.id, account.name, _in_words(outcome))
    if isinstance(outcome, Created):
        outcome = with_what_is_left(account, intent, outcome)
    settled = await _settle(ledger, recording.intent, outcome)
    if settled.status is not DuplicationStatus.CREATED or not is_unfinished(settled.warnings):
        return settled
    try:
        return await finish(ledger, account, campaign, settled, FINISH_SECONDS)
    except LedgerUnavailable as failure:
        # What is on record is true, and is gone on with from there.
        log.error("duplication %s is not finished: %s", intent.id, failure)
        return settled


async def renounce(ledger: Ledger, intent: Intent) -> None:
    """See to it that an intent that was never sent does not look under way for good."""
    for pause in _pauses():
        try:
            await ledger.renounce(intent, RENOUNCED, ledger.now())
        except LedgerClosed:
            return
        except LedgerUnavailable:
            await asyncio.sleep(pause)
        else:
            return


async def _with_what_is_there(
    ledger: Ledger, account: Account, intent: Intent, campaign: Any
) -> Intent:
    """The intent with the campaigns that are like the copy already, where that will matter."""
    connector = account.connector
    if not isinstance(connector, FindsCopies) or connector.tells_creation:
        return intent
    if intent.requested_name is None and not connector.tells_source:
        return intent
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            listed = await like_copy(account, campaign, intent, ledger.now)
    except (NoAnswer, UnreadableAnswer, TimeoutError) as failure:
        log.warning("%s could not be read before a copy: %s", account.name, failure)
        return intent
    if not listed.is_whole:
        return intent
    return replace(intent, seen=tuple(each.id for each in listed.campaigns))


async def _send(
    recording: _Recording, account: Account, campaign: Any, request: ProviderRequest
) -> Outcome:
    """Say what is certain after the send. Raises `Refused` and what `_Recording.begin` raises."""
    title = account.connector.title
    try:
        response = await account.transport.send(request, recording.begin)
        return account.connector.read_answer(campaign, response)
    except NotSent as failure:
        message = f"{title} could not be reached ({failure}). Nothing was sent; try again."
        return Rejected(UserError(ErrorCode.PROVIDER_UNAVAILABLE, message))
    except NoAnswer as failure:
        return _unknown(f"{title} gave no answer ({failure})")
    except (KeyTaken, Unresolved, LedgerUnavailable):
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
    unfinished = isinstance(outcome, Created) and is_unfinished(outcome.warnings)
    return now + UNFINISHED_AFTER if unfinished else None


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
