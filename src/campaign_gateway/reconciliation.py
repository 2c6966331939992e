"""Reads the provider until it is known what became of a duplication; it never sends again."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from campaign_gateway.accounts import Account
from campaign_gateway.connector import FindsCopies, UnreadableAnswer
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.contract import Duplication, LedgerUnavailable
from campaign_gateway.outcomes import Campaign, DuplicationStatus, Evidence, Refused
from campaign_gateway.reading import called, in_full, input_of
from campaign_gateway.transport import NoAnswer

log = logging.getLogger(__name__)

# Seconds between the checks of one duplication; the last pause repeats.
PAUSES = (2, 3, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)

CHECKS_AT_ONCE = 16

# A check takes no longer, and nobody else checks the same duplication meanwhile.
CHECK_TIME = timedelta(seconds=30)

# A copy is taken for ours when it was made in this interval around the request. The start allows
# for clocks that differ, the end for copies that a provider makes late.
EARLIEST_COPY = timedelta(minutes=-2)
EARLIEST_PROMISED_COPY = timedelta(seconds=-5)
LATEST_COPY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check comes to: the copy, or the campaigns that it could not choose from."""

    copy: Campaign | None = None
    candidates: Sequence[Campaign] = ()


async def reconcile(accounts: Mapping[str, Account], ledger: Ledger, every_seconds: float) -> None:
    """Check what is due, for ever."""
    checks: set[asyncio.Task[None]] = set()
    try:
        while True:
            try:
                now = datetime.now(UTC)
                room = CHECKS_AT_ONCE - len(checks)
                for each in await ledger.take_due(now, room, now + CHECK_TIME):
                    checks.add(asyncio.create_task(_check(accounts, ledger, each)))
            except LedgerUnavailable as failure:
                log.error("the ledger cannot be used: %s", failure)
            await asyncio.sleep(every_seconds)
            if len(checks) == CHECKS_AT_ONCE:
                await asyncio.wait(checks, return_when=asyncio.FIRST_COMPLETED)
            checks = {check for check in checks if not check.done()}
    finally:
        for check in checks:
            check.cancel()
        if checks:
            await asyncio.wait(checks)


async def _check(accounts: Mapping[str, Account], ledger: Ledger, duplication: Duplication) -> None:
    account, finding = accounts.get(duplication.intent.account), Finding()
    try:
        if account is not None:
            finding = await find_copy(account, ledger, duplication)
        await _record(ledger, duplication, finding)
    except LedgerUnavailable as failure:
        # It is due again when nobody has it any more.
        log.error("the ledger cannot be used: %s", failure)


async def _record(ledger: Ledger, duplication: Duplication, finding: Finding) -> None:
    now, copy = datetime.now(UTC), finding.copy
    if copy and await ledger.settle_by_reading(duplication, copy, Evidence.INFERRED, now):
        log.info("duplication %s is campaign %s", duplication.intent.id, copy.id)
        return
    if finding.candidates and finding.candidates != duplication.candidates:
        found = ", ".join(each.id for each in finding.candidates)
        log.warning(
            "duplication %s may be one of the campaigns %s; somebody must look",
            duplication.intent.id,
            found,
        )
    pause = PAUSES[min(duplication.checks, len(PAUSES) - 1)]
    await ledger.postpone(duplication, now + timedelta(seconds=pause), finding.candidates)


async def find_copy(account: Account, ledger: Ledger, duplication: Duplication) -> Finding:
    """The one campaign at the provider that must be this duplication's copy, if there is one.

    Raises `LedgerUnavailable`; what the provider does wrong is logged.
    """
    try:
        async with asyncio.timeout(CHECK_TIME.total_seconds()):
            return await _find_copy(account, ledger, duplication)
    except (NoAnswer, UnreadableAnswer, Refused, TimeoutError) as failure:
        log.warning("duplication %s could not be checked: %s", duplication.intent.id, failure)
    except LedgerUnavailable:
        raise
    except Exception:
        # One row that trips a fault of ours must not stop the checks of all the others.
        log.exception("duplication %s could not be checked", duplication.intent.id)
    return Finding(candidates=duplication.candidates)


async def _find_copy(account: Account, ledger: Ledger, duplication: Duplication) -> Finding:
    name = duplication.intent.requested_name
    if name is None or not isinstance(account.connector, FindsCopies):
        return Finding()
    campaign = input_of(account, duplication)
    listed = await called(account, campaign, name)
    candidates = [
        candidate
        for each in listed.campaigns
        if each.id != duplication.intent.source_campaign_id
        and (candidate := await in_full(account, campaign, each))
        and _may_be_copy(candidate, duplication, EARLIEST_COPY)
    ]
    # In this order: whoever settles in between is then either still a rival or has its claim seen.
    rivals = await ledger.rivals(duplication)
    known = await ledger.claimed(account.name, [each.id for each in candidates])
    free = [each for each in candidates if each.id not in known]
    copy = _choose(duplication, rivals, free)
    return Finding(copy) if copy else Finding(candidates=tuple(free))


def _may_be_copy(candidate: Campaign, duplication: Duplication, earliest: timedelta) -> bool:
    """Made in the time of the call, or, where nobody tells the time, first seen after it."""
    requested_at, seen = duplication.requested_at, duplication.intent.seen
    if candidate.created_at is not None:
        return earliest <= candidate.created_at - requested_at <= LATEST_COPY
    if seen is None or datetime.now(UTC) - requested_at > LATEST_COPY:
        return False
    return candidate.id not in seen


def _choose(
    duplication: Duplication, rivals: Sequence[Duplication], candidates: Sequence[Campaign]
) -> Campaign | None:
    """The copy that is this duplication's and can be no rival's.

    What was asked and never clearly answered has a weaker claim than what the provider has said
    yes to, as long as the copy was not there before that was asked.
    """
    promised = [each for each in rivals if each.status is not DuplicationStatus.UNKNOWN]
    return _deal(duplication, rivals, candidates, EARLIEST_COPY) or _deal(
        duplication, promised, candidates, EARLIEST_PROMISED_COPY
    )


def _deal(
    duplication: Duplication,
    rivals: Sequence[Duplication],
    candidates: Sequence[Campaign],
    earliest: timedelta,
) -> Campaign | None:
    """One copy for one intent; as many copies as equal intents are dealt out in order of age.

    A campaign does not tell what it was copied from, so whoever waits for one of this name, and
    could be its owner, is a rival.
    """

    def fits(candidate: Campaign, rival: Duplication) -> bool:
        return _may_be_copy(candidate, rival, earliest)

    rivals = [each for each in rivals if any(fits(candidate, each) for candidate in candidates)]
    copies = [each for each in candidates if any(fits(each, rival) for rival in rivals)]
    are_equal = len({each.intent.fingerprint for each in rivals}) == 1
    if duplication not in rivals or len(copies) != len(rivals) or not are_equal:
        return None
    return sorted(copies, key=_by_age)[rivals.index(duplication)]


def _by_age(copy: Campaign) -> tuple[datetime, int, str]:
    """Where no time is told, ids are numbers that grow."""
    return copy.created_at or datetime.max.replace(tzinfo=UTC), len(copy.id), copy.id
