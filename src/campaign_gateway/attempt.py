"""The one attempt at a copy: recorded, sent, read and settled."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any

from campaign_gateway.accounts import Account
from campaign_gateway.connector import ProviderRequest
from campaign_gateway.ledger.contract import (
    Duplication,
    Intent,
    Ledger,
    LedgerUnavailable,
    status_of,
)
from campaign_gateway.outcomes import (
    Accepted,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Unknown,
    UserError,
)
from campaign_gateway.transport import NoAnswer, NotSent

log = logging.getLogger(__name__)

# How long after an answer that left the copy unnamed the provider is first read.
FIRST_CHECK = timedelta(seconds=1)


class KeyTaken(Exception):
    """The ledger has given the key to another attempt: this one must not send."""

    def __init__(self, duplication: Duplication) -> None:
        super().__init__()
        self.duplication = duplication


@dataclass
class _Recording:
    """The writing of the record, which happens when a connection is up and nothing is sent."""

    ledger: Ledger
    intent: Intent
    task: asyncio.Task[Duplication] | None = None

    async def begin(self) -> None:
        """Raises `KeyTaken` and `LedgerUnavailable`."""
        self.task = asyncio.create_task(self.ledger.begin(self.intent, datetime.now(UTC)))
        # Shielded: a deadline that strikes here must not leave a record of unknown fate.
        self.check(await asyncio.shield(self.task))

    def check(self, duplication: Duplication) -> None:
        if duplication.intent.nonce != self.intent.nonce:
            raise KeyTaken(duplication)


async def attempt(
    ledger: Ledger, account: Account, intent: Intent, campaign: Any, request: ProviderRequest
) -> Duplication:
    """Send the request at most once, and record what became of it.

    Raises `Refused`, `KeyTaken` and `LedgerUnavailable`, all of them before the first byte.
    """
    recording = _Recording(ledger, intent)
    outcome = await _send(recording, account, campaign, request)
    if recording.task is None:
        assert isinstance(outcome, Rejected), "nothing is sent without a record"
        raise Refused(outcome.error)
    recording.check(await recording.task)
    log.info("duplication %s at %s: %s", intent.id, account.name, status_of(outcome))
    return await _settle(ledger, intent, outcome)


async def _send(
    recording: _Recording, account: Account, campaign: Any, request: ProviderRequest
) -> Outcome:
    """Say what is certain after the send. Raises what `_Recording.begin` raises."""
    title = account.connector.title
    try:
        response = await account.transport.send(request, recording.begin)
        return account.connector.read_answer(campaign, response)
    except NotSent as failure:
        message = f"{title} could not be reached ({failure}). Nothing was sent; try again."
        return Rejected(UserError(ErrorCode.PROVIDER_UNAVAILABLE, message))
    except NoAnswer as failure:
        return _unknown(f"{title} gave no answer ({failure})")
    except (KeyTaken, LedgerUnavailable):
        raise
    except Exception:
        if recording.task is None:
            raise
        log.exception("a fault of the gateway's own, duplication %s", recording.intent.id)
        return _unknown("The gateway could not read the answer")


async def _settle(ledger: Ledger, intent: Intent, outcome: Outcome) -> Duplication:
    """Record the outcome, however long the ledger takes to be usable again."""
    for pause in chain([0.1, 0.5, 1], repeat(5)):
        now = datetime.now(UTC)
        check_at = now + FIRST_CHECK if isinstance(outcome, Accepted | Unknown) else None
        try:
            return await ledger.settle(intent, outcome, now, check_at)
        except LedgerUnavailable as failure:
            log.error("duplication %s is not recorded yet: %s", intent.id, failure)
            await asyncio.sleep(pause)
    raise AssertionError("the pauses never end")


def _unknown(what_happened: str) -> Unknown:
    return Unknown(
        UserError(
            ErrorCode.OUTCOME_UNKNOWN,
            f"{what_happened}, so the copy may or may not exist. Look at the duplication before "
            "asking for another copy.",
        )
    )
