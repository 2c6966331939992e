"""Reads the provider until it is known what became of a duplication; it never asks for a copy."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from campaign_gateway.accounts import Account
from campaign_gateway.connectors.contract import (
    ReadsCampaigns,
    ReportsProgress,
    UnexpectedResponse,
)
from campaign_gateway.connectors.errors import warning
from campaign_gateway.duplication.campaign_reads import load_input, look_up
from campaign_gateway.duplication.completion import (
    complete_copy,
    has_pending_steps,
    with_final_warnings,
    with_pending_warnings,
)
from campaign_gateway.duplication.copy_search import Finding, _find_copy
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import KeyConflict, LedgerUnavailable
from campaign_gateway.model import (
    Accepted,
    Campaign,
    Created,
    Duplication,
    DuplicationStatus,
    Evidence,
    Refused,
    Rejected,
    WarningCode,
)
from campaign_gateway.transport.errors import NoResponse
from campaign_gateway.transport.worker import parsed

log = logging.getLogger(__name__)

Checked = TypeVar("Checked")

# Seconds between the checks of one duplication; the last pause repeats.
CHECK_INTERVALS = (2, 3, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)

# At once for each account, so that a provider that hangs holds up nobody else's checks.
CHECKS_AT_ONCE = 8

# A check takes no longer, and nobody else checks the same duplication meanwhile.
CHECK_TIMEOUT = timedelta(seconds=30)


async def reconcile(accounts: Mapping[str, Account], ledger: Ledger, every_seconds: float) -> None:
    """Check what is due, for ever."""
    checks: dict[asyncio.Task[None], str] = {}
    try:
        while True:
            try:
                under_way = Counter(checks.values())
                # What other gateways have accounts for is left to them.
                for name in accounts.keys() & await ledger.due_accounts(ledger.now()):
                    room, now = CHECKS_AT_ONCE - under_way[name], ledger.now()
                    due = (
                        await ledger.claim_due(name, now, room, now + CHECK_TIMEOUT) if room else ()
                    )
                    for each in due:
                        check = asyncio.create_task(_check(accounts, ledger, each))
                        checks[check] = name
            except LedgerUnavailable as failure:
                log.error("the ledger cannot be used: %s", failure)
            await asyncio.sleep(every_seconds)
            checks = {check: name for check, name in checks.items() if not check.done()}
    finally:
        for check in checks:
            check.cancel()
        if checks:
            await asyncio.wait(checks)


async def _check(accounts: Mapping[str, Account], ledger: Ledger, duplication: Duplication) -> None:
    account = accounts[duplication.intent.account]
    try:
        # An account's name may have been another provider's before.
        if account.connector.provider != duplication.intent.provider:
            await _postpone(ledger, duplication, ())
        elif duplication.status is DuplicationStatus.CREATED:
            await _finish(account, ledger, duplication)
        elif duplication.campaign is not None:
            await _record_progress(account, ledger, duplication)
        else:
            finding = await find_copy(account, ledger, duplication)
            await _record_finding(account, ledger, duplication, finding)
    except (KeyConflict, LedgerUnavailable) as failure:
        # It is due again when nobody has it any more.
        log.error("duplication %s could not be recorded: %s", duplication.intent.id, failure)


async def _finish(account: Account, ledger: Ledger, duplication: Duplication) -> None:
    try:
        campaign = load_input(account, duplication)
    except Exception:
        # Another version of the gateway may have written it.
        log.exception("duplication %s could not be checked", duplication.intent.id)
        await _postpone(ledger, duplication, ())
    else:
        await complete_copy(ledger, account, campaign, duplication, CHECK_TIMEOUT.total_seconds())


async def _record_finding(
    account: Account, ledger: Ledger, duplication: Duplication, finding: Finding
) -> None:
    if finding.copy is not None:
        # It may yet be somebody else's, who would not want it renamed.
        copy = with_final_warnings(
            account, with_pending_warnings(account, duplication.intent, Created(finding.copy))
        )
        found = Evidence.INFERRED
        if await ledger.settle_from_evidence(duplication, copy, found, ledger.now(), None):
            log.info("duplication %s is campaign %s", duplication.intent.id, copy.campaign.id)
            return
    if finding.candidates and finding.candidates != duplication.candidates:
        candidates = ", ".join(each.id for each in finding.candidates)
        log.warning(
            "duplication %s may be one of the campaigns %s; somebody must look",
            duplication.intent.id,
            candidates,
        )
    await _postpone(ledger, duplication, finding.candidates)


async def _record_progress(account: Account, ledger: Ledger, duplication: Duplication) -> None:
    outcome = await _check_with_timeout(duplication, _progress(account, duplication))
    if outcome is None or isinstance(outcome, Accepted):
        await _postpone(ledger, duplication, ())
        return
    now, again = ledger.now(), None
    if isinstance(outcome, Created):
        outcome = with_pending_warnings(account, duplication.intent, outcome)
        again = now if has_pending_steps(outcome.warnings) else None
    settled = await ledger.settle(duplication.intent, outcome, now, again)
    log.info("duplication %s is %s", duplication.intent.id, settled.status)
    if settled.status is DuplicationStatus.ACCEPTED:
        # Another duplication has the campaign, so a person has to look.
        await _postpone(ledger, duplication, ())


async def _progress(account: Account, duplication: Duplication) -> Created | Accepted | Rejected:
    """How far the provider is with a copy whose id it has told."""
    connector, copy = account.connector, duplication.campaign
    if copy is None or not isinstance(connector, ReportsProgress):
        raise UnexpectedResponse(f"{connector.title} has no call that tells how far a copy is")
    campaign = load_input(account, duplication)
    response = await account.transport.send_idempotent(connector.build_progress(campaign, copy.id))
    outcome = await parsed(response, connector.parse_progress, campaign, copy.id, response)
    if isinstance(outcome, Rejected) and isinstance(connector, ReadsCampaigns):
        # What has failed may have left a campaign behind.
        left = await look_up(account, copy.id, campaign)
        if left is not None:
            said = outcome.error.provider_message
            remark = warning(connector.title, WarningCode.PARTIAL_COPY, said)
            return Created(left, outcome.trace_id, (remark,))
    return outcome


async def _postpone(
    ledger: Ledger, duplication: Duplication, candidates: Sequence[Campaign]
) -> None:
    pause = CHECK_INTERVALS[min(duplication.checks, len(CHECK_INTERVALS) - 1)]
    again = ledger.now() + timedelta(seconds=pause)
    await ledger.postpone(duplication, again, candidates)


async def find_copy(account: Account, ledger: Ledger, duplication: Duplication) -> Finding:
    """The one campaign at the provider that must be this duplication's copy, if there is one.

    Raises `LedgerUnavailable`.
    """
    finding = await _check_with_timeout(duplication, _find_copy(account, ledger, duplication))
    return finding or Finding(candidates=duplication.candidates)


async def _check_with_timeout(
    duplication: Duplication, check: Awaitable[Checked]
) -> Checked | None:
    """What the check says; None, and a line in the log, when the provider does something wrong."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT.total_seconds()):
            return await check
    except (NoResponse, UnexpectedResponse, Refused, TimeoutError) as failure:
        log.warning("duplication %s could not be checked: %s", duplication.intent.id, failure)
    except LedgerUnavailable:
        raise
    except Exception:
        # One row that trips a fault of ours must not stop the checks of all the others.
        log.exception("duplication %s could not be checked", duplication.intent.id)
    return None
