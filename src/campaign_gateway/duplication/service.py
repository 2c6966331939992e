"""One call, straight down and straight up: an intent, what is known of it, or its one attempt."""

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from campaign_gateway.accounts import Account, choose_account
from campaign_gateway.duplication.attempt import attempt, mark_never_sent
from campaign_gateway.duplication.errors import (
    ARGUMENTS,
    KEY_EXPIRED,
    KEY_REUSED,
    LEDGER_UNREADABLE,
    LEDGER_UNWRITABLE,
    OVERRIDE_ALREADY_USED,
    OVERRIDE_NOT_APPLICABLE,
    SHUTTING_DOWN,
    UNRESOLVED,
    check_key,
)
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import (
    CommitUncertain,
    KeyConflict,
    LedgerUnavailable,
    Unresolved,
)
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.model import Duplication, DuplicationStatus, Intent, Refused, UserError

log = logging.getLogger(__name__)

MADE = {DuplicationStatus.ACCEPTED, DuplicationStatus.CREATED}

# How much longer than its deadline a caller waits for a look into the ledger, in seconds.
FIND_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DuplicationResult:
    """What one request for a copy comes to.

    `error` is set when the request was refused before anything was recorded; `duplication` is then
    None, or the other one that stands in the way. Both are None while a call under way has no
    record yet.
    """

    duplication: Duplication | None = None
    error: UserError | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class _Running:
    fingerprint: str
    task: asyncio.Task[DuplicationResult]


class Duplicator:
    """Makes at most one copy for each idempotency key.

    A call runs in a task of its own, so a caller who hangs up does not cancel it. `deadline` is
    how many seconds a caller waits before being told IN_PROGRESS.
    """

    def __init__(self, accounts: Mapping[str, Account], ledger: Ledger, deadline: float) -> None:
        self._accounts = accounts
        self._ledger = ledger
        self._deadline = deadline
        self._running: dict[tuple[str, str], _Running] = {}
        self._marking: set[asyncio.Task[None]] = set()
        self._end = asyncio.get_running_loop().create_future()
        self.is_draining = False

    async def duplicate(
        self, scope: str, key: str, provider: str, campaign: Any, override_of: str | None = None
    ) -> DuplicationResult:
        """Copy the campaign that a provider's input describes, or say what became of it before.

        `override_of` is the id of an UNKNOWN duplication of the same copy, to ask for another one all
        the same.
        """
        try:
            check_key(key)
            try:
                account = choose_account(self._accounts, provider, campaign.account)
            except Refused as refusal:
                answer = await self._replay_without_account(scope, key, provider, campaign, refusal)
            else:
                intent = _intent(scope, key, provider, account.name, campaign)
                answer = await self._join_or_start(intent, account, campaign, override_of)
        except Refused as refusal:
            answer = DuplicationResult(error=refusal.error)
        return _with_whole_path(answer, provider)

    async def _replay_without_account(
        self, scope: str, key: str, provider: str, campaign: Any, refusal: Refused
    ) -> DuplicationResult:
        """What became of a key that was used while the configuration had other accounts."""
        try:
            recorded = await self._ledger.find(scope, key)
        except LedgerUnavailable as failure:
            log.error("the ledger cannot be used: %s", failure)
            return DuplicationResult(error=LEDGER_UNREADABLE)
        if recorded is None:
            raise refusal
        account = campaign.account or recorded.intent.account
        return await self._replay(_intent(scope, key, provider, account, campaign), recorded)

    async def drain(self) -> None:
        """Refuse new intents, and wait until those under way are sent and recorded."""
        self.is_draining = True
        # From here on no new task sends, so only those that are there need to be waited for.
        if tasks := [running.task for running in self._running.values()]:
            await asyncio.wait(tasks)
        if self._marking:
            await asyncio.wait(self._marking)

    def give_up(self) -> None:
        """DuplicationResult whoever waits for a call that does not end: the gateway will not wait any more."""
        if not self._end.done():
            self._end.set_result(None)

    async def _join_or_start(
        self, intent: Intent, account: Account, campaign: Any, override_of: str | None
    ) -> DuplicationResult:
        """Wait for the one task that has this key, which the first caller starts."""
        slot = (intent.scope, intent.key)
        running = self._running.get(slot)
        is_first = running is None
        if running is None:
            task = asyncio.create_task(self._run(intent, account, campaign, override_of))
            task.add_done_callback(lambda _: self._running.pop(slot))
            running = self._running[slot] = _Running(intent.fingerprint, task)
        elif running.fingerprint != intent.fingerprint:
            raise Refused(KEY_REUSED)
        await asyncio.wait(
            [running.task, self._end], timeout=self._deadline, return_when=asyncio.FIRST_COMPLETED
        )
        if not running.task.done():
            recorded = await self._find_within(intent)
            if recorded is not None:
                _refuse_another(intent, recorded)
            is_ours = recorded is None or recorded.intent.attempt_id == intent.attempt_id
            return DuplicationResult(recorded, replayed=not (is_first and is_ours))
        answer = running.task.result()
        is_repeat = not is_first and answer.duplication is not None and answer.error is None
        return replace(answer, replayed=answer.replayed or is_repeat)

    async def _run(
        self, intent: Intent, account: Account, campaign: Any, override_of: str | None
    ) -> DuplicationResult:
        """What the task does. Every refusal in here comes before the first byte."""
        try:
            return await self._look_or_attempt(intent, account, campaign, override_of)
        except Refused as refusal:
            return DuplicationResult(error=refusal.error)
        except LedgerUnavailable as failure:
            log.error("the ledger cannot be used: %s", failure)
            return DuplicationResult(error=LEDGER_UNREADABLE)

    async def _look_or_attempt(
        self, intent: Intent, account: Account, campaign: Any, override_of: str | None
    ) -> DuplicationResult:
        recorded = await self._ledger.find(intent.scope, intent.key)
        if recorded is None:
            try:
                return await self._attempt(intent, account, campaign, override_of)
            except Refused:
                # Another gateway may have begun the same key since the look above, and may have
                # made the copy by now.
                recorded = await self._try_find(intent)
                if recorded is None:
                    raise
            except KeyConflict as taken:
                recorded = taken.duplication
            except Unresolved as unresolved:
                if unresolved.duplication is None:
                    return await self._settled_meanwhile(intent, override_of)
                has_served = unresolved.duplication.intent.id == override_of
                return DuplicationResult(
                    unresolved.duplication, OVERRIDE_ALREADY_USED if has_served else UNRESOLVED
                )
        return await self._replay(intent, recorded)

    async def _settled_meanwhile(
        self, intent: Intent, override_of: str | None
    ) -> DuplicationResult:
        """The duplication to override, if it has its copy by now. Raises `Refused`."""
        named = await self._ledger.get(intent.scope, override_of) if override_of else None
        if named is None or named.status not in MADE:
            raise Refused(OVERRIDE_NOT_APPLICABLE)
        return DuplicationResult(named, UNRESOLVED)

    async def _attempt(
        self, intent: Intent, account: Account, campaign: Any, override_of: str | None
    ) -> DuplicationResult:
        self._refuse_while_draining()
        request = account.connector.build_request(campaign)
        async with account.rate_limiter.acquire(timeout=self._deadline):
            self._refuse_while_draining()
            try:
                return DuplicationResult(
                    await attempt(
                        self._ledger, account, intent, campaign, request, override_of=override_of
                    )
                )
            except CommitUncertain:
                # It may have been recorded all the same, and would look under way for good; and
                # another gateway may have recorded and sent the same key.
                task = asyncio.create_task(mark_never_sent(self._ledger, intent))
                self._marking.add(task)
                task.add_done_callback(self._marking.discard)
                raise
            except LedgerUnavailable as failure:
                log.error("the ledger cannot be used: %s", failure)
                raise Refused(LEDGER_UNWRITABLE) from None

    def _refuse_while_draining(self) -> None:
        if self.is_draining:
            raise Refused(SHUTTING_DOWN)

    async def _replay(self, intent: Intent, recorded: Duplication) -> DuplicationResult:
        """What became of the key, waiting for another gateway that may be at it now."""
        loop = asyncio.get_running_loop()
        give_up_at, pause = loop.time() + self._deadline, 0.05
        while True:
            _refuse_another(intent, recorded)
            is_known = recorded.status is not DuplicationStatus.IN_PROGRESS
            if is_known or self.is_draining or loop.time() > give_up_at:
                return DuplicationResult(recorded, replayed=True)
            await asyncio.sleep(pause)
            pause = min(0.5, 2 * pause)
            recorded = await self._try_find(intent) or recorded

    async def _find_within(self, intent: Intent) -> Duplication | None:
        """The record for a caller who has waited long enough, if the ledger has it at hand."""
        finding = asyncio.create_task(self._try_find(intent))
        await asyncio.wait([finding], timeout=FIND_SECONDS)
        return finding.result() if finding.done() else None

    async def _try_find(self, intent: Intent) -> Duplication | None:
        try:
            return await self._ledger.find(intent.scope, intent.key)
        except LedgerUnavailable:
            return None


def _refuse_another(intent: Intent, recorded: Duplication) -> None:
    """Raises `Refused` if the record of the key is another intent's, or not kept any more."""
    if recorded.expired:
        raise Refused(KEY_EXPIRED)
    if recorded.intent.fingerprint != intent.fingerprint:
        raise Refused(KEY_REUSED)


def _with_whole_path(answer: DuplicationResult, provider: str) -> DuplicationResult:
    """Connectors name a field of their own input; callers know it from the mutation's arguments."""
    error = answer.error
    if error is None or error.field is None or error.field[0] in ARGUMENTS:
        return answer
    return replace(answer, error=replace(error, field=("input", provider, *error.field)))


def _intent(scope: str, key: str, provider: str, account: str, campaign: Any) -> Intent:
    """What will be recorded. Leaving an option out and giving null for it are the same intent."""
    fields = asdict(campaign) | {"account": account}
    given = {name: value for name, value in fields.items() if value is not None}
    canonical = json.dumps([provider, given], sort_keys=True)
    return Intent(
        id=new_id(),
        attempt_id=secrets.token_hex(16),
        scope=scope,
        key=key,
        fingerprint=hashlib.sha256(canonical.encode()).hexdigest(),
        provider=provider,
        account=account,
        source_campaign_id=str(campaign.campaign_id),
        requested_name=campaign.name,
        input=json.dumps(fields),
    )
