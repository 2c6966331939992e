"""One call, straight down and straight up: an intent, its record, or its one attempt."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from campaign_gateway.accounts.account import Account, choose_account
from campaign_gateway.accounts.transport.rate_limit import CallKind
from campaign_gateway.connectors.contract import CopyInput
from campaign_gateway.duplication.attempt import attempt, mark_never_sent
from campaign_gateway.duplication.completion import calls_of_copy
from campaign_gateway.duplication.errors import (
    KEY_EXPIRED,
    KEY_REUSED,
    LEDGER_DISK_FULL,
    LEDGER_UNREADABLE,
    LEDGER_UNWRITABLE,
    OVERRIDE_ALREADY_USED,
    OVERRIDE_NOT_APPLICABLE,
    SHUTTING_DOWN,
    UNRESOLVED,
    UNRESOLVED_OF_ANOTHER,
    check_key,
)
from campaign_gateway.duplication.intents import CopyCall, fingerprint, new_call
from campaign_gateway.duplication.lost_time import refuse_lost_key
from campaign_gateway.duplication.quotas import Quotas
from campaign_gateway.duplication.requests import (
    build_request,
    require_right_to_activate,
    require_right_to_copy,
)
from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.engine import CommitUncertain, DiskFull, LedgerUnavailable
from campaign_gateway.ledger.ledger import Blocked, KeyHeld, NotBegun, NothingToOverride
from campaign_gateway.model import Duplication, DuplicationStatus, Intent, Refused, UserError
from campaign_gateway.observe.events import ledger_failed, ledger_worked, refused, replayed
from campaign_gateway.web.callers.caller import Caller, Quota

MADE = {DuplicationStatus.ACCEPTED, DuplicationStatus.CREATED}

# A copy waits for its permit during this part of the caller's deadline. After that the caller is
# refused, and does not get IN_PROGRESS for a call that has not begun.
PATIENCE = 0.8

# When the gateway stops, calls that have arrived before are sent if they get their permit within
# these seconds. A client need not repeat a call that arrived in the last moment.
LAST_PERMITS_SECONDS = 1.0

# How much longer than its deadline a caller waits for the ledger to find the record, in seconds.
FIND_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DuplicationResult:
    """The result of one request for a copy.

    `error` is set if the request was refused before anything was recorded; `duplication` is then
    None, or the other one that blocks this copy. Both are None while a call in progress has no
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

    A call runs in a task of its own, so a caller who hangs up does not cancel it. After `deadline`
    seconds, a caller who still waits gets IN_PROGRESS.
    """

    def __init__(
        self, ledger: Ledger, deadline: float, quotas: Mapping[str, Quota] = MappingProxyType({})
    ) -> None:
        self._ledger = ledger
        self.quotas = Quotas(ledger, quotas)
        self._deadline = deadline
        self._running: dict[tuple[str, str], _Running] = {}
        self._marking: set[asyncio.Task[None]] = set()
        # The callers who wait for a task.
        self._waiting: set[asyncio.Future[None]] = set()
        self._has_given_up = False
        self.is_draining = False
        self._permits_until = math.inf

    async def duplicate(
        self,
        caller: Caller,
        accounts: Mapping[str, Account],
        key: str,
        provider: str,
        copy_input: CopyInput,
        *,
        override_of: str | None = None,
    ) -> DuplicationResult:
        """Copy a campaign, or return the result that its key has already.

        `accounts` are those that the caller may use. `override_of` is the id of an UNKNOWN
        duplication of the same copy. It lets the gateway make another copy although that one may
        exist.
        """
        account: Account | None = None
        try:
            require_right_to_copy(caller)
            check_key(key)
            try:
                account = choose_account(accounts, provider, copy_input.account)
            except Refused as refusal:
                result = await self._replay_without_account(
                    caller.scope, key, provider, copy_input, refusal
                )
            else:
                require_right_to_activate(caller, account, copy_input)
                result = await self._join_or_start(
                    new_call(caller, key, account, copy_input, override_of)
                )
        except Refused as refusal:
            result = DuplicationResult(error=refusal.error)
        _report(caller, provider, account, copy_input, result)
        return result

    async def _run(self, call: CopyCall, *, is_late: bool) -> DuplicationResult:
        """Replay the record of a key, or make its one attempt. This is the key's task.

        A call is late if it arrived after the gateway had begun to stop. It is not sent.
        """
        permit_by = asyncio.get_running_loop().time() + PATIENCE * self._deadline
        try:
            record = await self._ledger.find(call.intent.scope, call.intent.key)
            if record is None:
                return await self._attempt(call, permit_by, is_late=is_late)
            return await self._replay(call.intent.fingerprint, record)
        except Refused as refusal:
            return DuplicationResult(error=refusal.error)
        except LedgerUnavailable as failure:
            ledger_failed(self._ledger.health, failure)
            return DuplicationResult(error=LEDGER_UNREADABLE)

    async def _attempt(
        self, call: CopyCall, permit_by: float, *, is_late: bool
    ) -> DuplicationResult:
        intent = call.intent
        result: Duplication | NotBegun
        try:
            if is_late:
                raise Refused(SHUTTING_DOWN)
            refuse_lost_key(self._ledger, intent.key)
            result = await self._send(call, permit_by)
        except Refused:
            # Another gateway may have begun the same key since this one looked for it, and may
            # have made the copy by now.
            record = await self._try_find(intent.scope, intent.key)
            if record is None:
                raise
            result = KeyHeld(record)
        match result:
            case Duplication():
                return DuplicationResult(result)
            case KeyHeld(record):
                return await self._replay(intent.fingerprint, record)
            case Blocked(record) if record.intent.scope != intent.scope:
                return DuplicationResult(error=UNRESOLVED_OF_ANOTHER)
            case Blocked(record):
                is_used = record.intent.id == intent.override_of
                return DuplicationResult(record, OVERRIDE_ALREADY_USED if is_used else UNRESOLVED)
            case NothingToOverride():
                return await self._settled_meanwhile(intent)

    async def _send(self, call: CopyCall, permit_by: float) -> Duplication | NotBegun:
        """Wait for a permit until `permit_by`, a time of the loop's clock, and make the attempt.

        Raises `Refused` and `LedgerUnavailable`, both before the first byte.
        """
        request = build_request(call)
        await self.quotas.check(call.intent)
        limiter, calls = call.account.rate_limiter, calls_of_copy(call)
        loop = asyncio.get_running_loop()
        async with limiter.acquire(CallKind.COPY, permit_by - loop.time(), calls) as permit:
            if loop.time() > self._permits_until:
                raise Refused(SHUTTING_DOWN)
            try:
                result = await attempt(self._ledger, call, permit, request)
            except CommitUncertain:
                # The record may exist, and then it would be IN_PROGRESS for ever. Another gateway
                # may have recorded and sent the same key. So the response must not say that nothing
                # was made.
                task = asyncio.create_task(mark_never_sent(self._ledger, call.intent))
                self._marking.add(task)
                task.add_done_callback(self._marking.discard)
                raise
            except LedgerUnavailable as failure:
                ledger_failed(self._ledger.health, failure, is_intent=True)
                is_full = isinstance(failure, DiskFull)
                raise Refused(LEDGER_DISK_FULL if is_full else LEDGER_UNWRITABLE) from None
        if isinstance(result, Duplication):
            ledger_worked(self._ledger.health, is_intent=True)
            self.quotas.count(call.intent)
        return result

    async def _replay(self, fingerprint: str, record: Duplication) -> DuplicationResult:
        """Return the result of a key, and wait for another gateway if that one is sending it.

        `fingerprint` is the caller's. Raises `Refused` if the record is of another intent.
        """
        scope, key = record.intent.scope, record.intent.key
        loop = asyncio.get_running_loop()
        give_up_at, pause = loop.time() + self._deadline, 0.05
        while True:
            _require_same_intent(fingerprint, record)
            is_known = record.status is not DuplicationStatus.IN_PROGRESS
            if is_known or self.is_draining or loop.time() > give_up_at:
                return DuplicationResult(record, replayed=True)
            await asyncio.sleep(pause)
            pause = min(0.5, 2 * pause)
            record = await self._try_find(scope, key) or record

    async def _replay_without_account(
        self, scope: str, key: str, provider: str, copy_input: CopyInput, refusal: Refused
    ) -> DuplicationResult:
        """Return the result of a key that was used while the configuration had other accounts.

        Raises `refusal` if the key was not used.
        """
        try:
            record = await self._ledger.find(scope, key)
        except LedgerUnavailable as failure:
            ledger_failed(self._ledger.health, failure)
            return DuplicationResult(error=LEDGER_UNREADABLE)
        if record is None:
            raise refusal
        account_name = copy_input.account or record.intent.account
        return await self._replay(fingerprint(provider, account_name, copy_input), record)

    async def _settled_meanwhile(self, intent: Intent) -> DuplicationResult:
        """Return the duplication to override, if its copy is known by now. Raises `Refused`."""
        override_of = intent.override_of
        record = await self._ledger.get(intent.scope, override_of) if override_of else None
        if record is None or record.status not in MADE:
            raise Refused(OVERRIDE_NOT_APPLICABLE)
        return DuplicationResult(record, UNRESOLVED)

    async def _join_or_start(self, call: CopyCall) -> DuplicationResult:
        """Wait for the one task of this key, which the first caller starts. Raises `Refused`."""
        intent = call.intent
        slot = (intent.scope, intent.key)
        running = self._running.get(slot)
        is_first = running is None
        if running is None:
            task = asyncio.create_task(self._run(call, is_late=self.is_draining))
            task.add_done_callback(lambda _: self._running.pop(slot))
            running = self._running[slot] = _Running(intent.fingerprint, task)
        elif running.fingerprint != intent.fingerprint:
            raise Refused(KEY_REUSED)
        await self._wait_for(running.task)
        if not running.task.done():
            record = await self._find_within(intent)
            if record is not None:
                _require_same_intent(intent.fingerprint, record)
            is_ours = record is None or record.intent.attempt_id == intent.attempt_id
            return DuplicationResult(record, replayed=not (is_first and is_ours))
        result = running.task.result()
        is_repeat = not is_first and result.duplication is not None and result.error is None
        return replace(result, replayed=result.replayed or is_repeat)

    async def _wait_for(self, task: asyncio.Task[DuplicationResult]) -> None:
        """Wait until the task ends, the deadline is over, or the gateway gives up."""
        if self._has_given_up:
            return
        # `asyncio.wait` costs more, and with each caller who waits it would cost more again,
        # because they all would wait for one future of `give_up`.
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()

        def wake(_task: object = None) -> None:
            if not waiting.done():
                waiting.set_result(None)

        self._waiting.add(waiting)
        timer = loop.call_later(self._deadline, wake)
        task.add_done_callback(wake)
        try:
            await waiting
        finally:
            task.remove_done_callback(wake)
            timer.cancel()
            self._waiting.remove(waiting)

    async def _find_within(self, intent: Intent) -> Duplication | None:
        """Return the record to a caller whose deadline is over, if the ledger is fast enough."""
        finding = asyncio.create_task(self._try_find(intent.scope, intent.key))
        await asyncio.wait([finding], timeout=FIND_SECONDS)
        return finding.result() if finding.done() else None

    async def _try_find(self, scope: str, key: str) -> Duplication | None:
        try:
            return await self._ledger.find(scope, key)
        except LedgerUnavailable:
            return None

    async def drain(self) -> None:
        """Refuse new intents, and wait until those in progress are sent and recorded."""
        self.is_draining = True
        self._permits_until = asyncio.get_running_loop().time() + LAST_PERMITS_SECONDS
        # From now on no new task sends, so waiting for the present ones is enough.
        if tasks := [running.task for running in self._running.values()]:
            await asyncio.wait(tasks)
        if self._marking:
            await asyncio.wait(self._marking)

    def give_up(self) -> None:
        """Respond to all waiting callers now, although their calls still run."""
        self._has_given_up = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


def _report(
    caller: Caller,
    provider: str,
    account: Account | None,
    copy_input: CopyInput,
    result: DuplicationResult,
) -> None:
    """Report a request that made no attempt. The attempt reports itself, once for all who wait."""
    if result.error is not None:
        refused(
            result.error,
            caller=caller.name,
            person=caller.person,
            provider=provider,
            requested_account=copy_input.account,
            source=str(copy_input.campaign_id),
            blocked_by=result.duplication,
            health=account.health if account else None,
        )
    elif result.replayed and result.duplication is not None:
        replayed(result.duplication)


def _require_same_intent(fingerprint: str, record: Duplication) -> None:
    """Raises `Refused` if the record is of another intent, or too old to tell."""
    if record.expired:
        raise Refused(KEY_EXPIRED)
    if record.intent.fingerprint != fingerprint:
        raise Refused(KEY_REUSED)
