"""The reconciler: it reads the provider to settle duplications, and never sends a copy request."""

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.accounts.transport.rate_limit import CallKind, Permit
from campaign_gateway.accounts.transport.worker import run_parser
from campaign_gateway.connectors.contract import (
    ReadsCampaigns,
    ReportsProgress,
    UnexpectedResponse,
)
from campaign_gateway.connectors.errors import warning
from campaign_gateway.duplication.campaign_reads import look_up
from campaign_gateway.duplication.completion import (
    complete_copy,
    has_pending_steps,
    with_pending_warnings,
    without_completion,
)
from campaign_gateway.duplication.copy_search import CALLS_A_CHECK, SearchResult, find_copy
from campaign_gateway.duplication.intents import UnreadableInput, recorded_call
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
    Timing,
    WarningCode,
)
from campaign_gateway.observe.events import (
    ProviderCall,
    SettledBy,
    ledger_failed,
    ledger_worked,
    outcome_settled,
    search_done,
    search_failed,
)
from campaign_gateway.observe.traces import check_span

log = logging.getLogger(__name__)

Checked = TypeVar("Checked")


async def reconcile(accounts: Mapping[str, Account], ledger: Ledger, timing: Timing) -> None:
    """Check the duplications that are due, for ever."""
    check_timeout = timedelta(seconds=timing.check_timeout)
    checks: set[asyncio.Task[None]] = set()
    try:
        while True:
            try:
                # Other gateways may have other accounts.
                for name in accounts.keys() & await ledger.due_accounts(ledger.now()):
                    # Of an account that hangs or is at its limit, the rest stays due. So it does
                    # not delay the checks of other accounts.
                    limiter, now = accounts[name].rate_limiter, ledger.now()
                    room = limiter.free_checks(timing.check_timeout, CALLS_A_CHECK)
                    due = (
                        await ledger.claim_due(name, now, room, now + check_timeout) if room else ()
                    )
                    checks |= {
                        asyncio.create_task(check_one(accounts, ledger, duplication))
                        for duplication in due
                    }
                ledger_worked(ledger.health)
            except LedgerUnavailable as failure:
                ledger_failed(ledger.health, failure)
            await asyncio.sleep(timing.reconcile_interval)
            checks = {check for check in checks if not check.done()}
    finally:
        for check in checks:
            check.cancel()
        if checks:
            await asyncio.wait(checks)


async def check_one(
    accounts: Mapping[str, Account], ledger: Ledger, duplication: Duplication
) -> None:
    account = accounts[duplication.intent.account]
    timeout = account.timing.check_timeout
    # If it fails here, it is due again when this gateway's claim to it ends.
    try:
        async with account.rate_limiter.acquire(CallKind.CHECK, timeout, CALLS_A_CHECK) as permit:
            with check_span(duplication.intent.id):
                await _check(account, permit, ledger, duplication)
    except Refused as refusal:
        search_failed(account.health, duplication.intent.id, refusal)
    except KeyConflict:
        log.error("the record of duplication %s is lost", duplication.intent.id)
    except LedgerUnavailable as failure:
        ledger_failed(ledger.health, failure)


async def _check(
    account: Account, permit: Permit, ledger: Ledger, duplication: Duplication
) -> None:
    # Before a change of the configuration, the account may have been another provider's.
    if account.connector.provider != duplication.intent.provider:
        await _postpone(account, ledger, duplication, ())
    elif duplication.status is DuplicationStatus.CREATED:
        await _complete(account, permit, ledger, duplication)
    elif duplication.campaign is not None:
        await _check_progress(account, permit, ledger, duplication)
    else:
        await _search(account, permit, ledger, duplication)


async def _complete(
    account: Account, permit: Permit, ledger: Ledger, duplication: Duplication
) -> None:
    try:
        call = recorded_call(account, duplication)
    except UnreadableInput as failure:
        search_failed(account.health, duplication.intent.id, failure)
        await _postpone(account, ledger, duplication, ())
    else:
        timeout = permit.ends_at - asyncio.get_running_loop().time()
        await complete_copy(ledger, call, permit, duplication, timeout)


async def _search(
    account: Account, permit: Permit, ledger: Ledger, duplication: Duplication
) -> None:
    result = await search(account, permit, ledger, duplication)
    if result.copy is not None:
        copy = without_completion(recorded_call(account, duplication), result.copy)
        now = ledger.now()
        settled = await ledger.settle_from_evidence(duplication, copy, Evidence.INFERRED, now, None)
        if settled is not None:
            outcome_settled(settled, SettledBy.SEARCH, now)
            return
    if result.candidates and result.candidates != duplication.candidates:
        log.warning(
            "duplication %s may be one of the campaigns %s; an operator has to choose",
            duplication.intent.id,
            ", ".join(campaign.id for campaign in result.candidates),
        )
    await _postpone(account, ledger, duplication, result.candidates)


async def search(
    account: Account, permit: Permit, ledger: Ledger, duplication: Duplication
) -> SearchResult:
    """Search for the copy; a failed search leaves the candidates as they were.

    Raises `LedgerUnavailable`.
    """
    finding = find_copy(account, permit, ledger, duplication)
    result = await _check_with_timeout(account, permit, duplication, finding)
    return result or SearchResult(candidates=duplication.candidates)


async def _check_progress(
    account: Account, permit: Permit, ledger: Ledger, duplication: Duplication
) -> None:
    progress = _progress(account, permit, duplication)
    outcome = await _check_with_timeout(account, permit, duplication, progress)
    if outcome is None or isinstance(outcome, Accepted):
        await _postpone(account, ledger, duplication, ())
        return
    now, next_check_at = ledger.now(), None
    if isinstance(outcome, Created):
        outcome = with_pending_warnings(recorded_call(account, duplication), outcome)
        next_check_at = now if has_pending_steps(outcome.warnings) else None
    settled = await ledger.settle(
        duplication.intent, outcome, now, next_check_at, duplication.preexisting_ids
    )
    if settled.status is not duplication.status:
        outcome_settled(settled, SettledBy.PROGRESS, now)
    if settled.status is DuplicationStatus.ACCEPTED:
        # The campaign is another duplication's copy, so an operator has to decide.
        await _postpone(account, ledger, duplication, ())


async def _progress(
    account: Account, permit: Permit, duplication: Duplication
) -> Created | Accepted | Rejected:
    """Ask the provider how far it is with a copy whose id it has reported."""
    connector, copy = account.connector, duplication.campaign
    if copy is None or not isinstance(connector, ReportsProgress):
        raise UnexpectedResponse(f"{connector.title} has no call that reports a copy's progress")
    copy_input = recorded_call(account, duplication).copy_input
    request = connector.build_progress(copy_input, copy.id)
    response = await account.transport.send_idempotent(request, permit, ProviderCall.PROGRESS)
    outcome = await run_parser(response, connector.parse_progress, copy_input, copy.id, response)
    if isinstance(outcome, Rejected) and isinstance(connector, ReadsCampaigns):
        # A failed copy may have left a campaign.
        partial_copy = await look_up(account, permit, copy.id, copy_input)
        if partial_copy is not None:
            message = outcome.error.provider_message
            remark = warning(connector.title, WarningCode.PARTIAL_COPY, message)
            return Created(partial_copy, outcome.trace_id, (remark,))
    return outcome


async def _postpone(
    account: Account, ledger: Ledger, duplication: Duplication, candidates: Sequence[Campaign]
) -> None:
    intervals = account.timing.check_intervals
    interval = intervals[min(duplication.checks, len(intervals) - 1)]
    next_check_at = ledger.now() + timedelta(seconds=interval)
    await ledger.postpone(duplication, next_check_at, candidates)


async def _check_with_timeout(
    account: Account, permit: Permit, duplication: Duplication, check: Awaitable[Checked]
) -> Checked | None:
    """Return the check's result, or report its failure and return None.

    Raises `LedgerUnavailable`.
    """
    try:
        async with asyncio.timeout_at(permit.ends_at):
            result = await check
    except (NoResponse, UnexpectedResponse, UnreadableInput, Refused) as failure:
        search_failed(account.health, duplication.intent.id, failure)
    except TimeoutError:
        search_failed(account.health, duplication.intent.id, "timeout")
    except LedgerUnavailable:
        raise
    except Exception:
        # A bug that one record triggers must not stop the checks of all the others.
        log.exception("duplication %s could not be checked", duplication.intent.id)
    else:
        search_done(account.health)
        return result
    return None
