"""One call, straight down and straight up: an intent, what is known of it, or its one attempt."""

import asyncio
import hashlib
import json
import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from campaign_gateway.accounts import Account, choose_account
from campaign_gateway.attempt import KeyTaken, attempt
from campaign_gateway.ledger.contract import (
    Duplication,
    Intent,
    Ledger,
    LedgerUnavailable,
    new_id,
)
from campaign_gateway.outcomes import ErrorCode, Refused, UserError

log = logging.getLogger(__name__)

KEY_REUSED = UserError(
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    "This idempotency key was used with another input. Use a new key for a new intent.",
    field=("idempotencyKey",),
)

LEDGER_DOWN = UserError(
    ErrorCode.OVERLOADED,
    "The gateway cannot record anything at the moment, so it sent nothing. Try again with the "
    "same idempotency key.",
)
SHUTTING_DOWN = UserError(
    ErrorCode.OVERLOADED,
    "The gateway is shutting down and sent nothing. Try again with the same idempotency key.",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request for a copy comes to.

    `error` is set and `duplication` is not when the request was refused before anything was
    recorded. Both are None while a call under way has no record yet.
    """

    duplication: Duplication | None = None
    error: UserError | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class _Running:
    fingerprint: str
    task: asyncio.Task[Answer]


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
        self._is_draining = False

    async def duplicate(self, scope: str, key: str, provider: str, campaign: Any) -> Answer:
        """Copy the campaign that a provider's input describes, or say what became of it before."""
        try:
            _check_key(key)
            account = choose_account(self._accounts, provider, campaign.account)
            answer = await self._follow(_intent(scope, key, account, campaign), account, campaign)
        except Refused as refusal:
            answer = Answer(error=refusal.error)
        return _with_whole_path(answer, provider)

    async def drain(self) -> None:
        """Refuse new intents, and wait until those under way are sent and recorded."""
        self._is_draining = True
        if self._running:
            await asyncio.wait([running.task for running in self._running.values()])

    async def _follow(self, intent: Intent, account: Account, campaign: Any) -> Answer:
        """Wait for the one task that has this key, which the first caller starts."""
        slot = (intent.scope, intent.key)
        running = self._running.get(slot)
        is_first = running is None
        if running is None:
            task = asyncio.create_task(self._run(intent, account, campaign))
            task.add_done_callback(lambda _: self._running.pop(slot))
            running = self._running[slot] = _Running(intent.fingerprint, task)
        elif running.fingerprint != intent.fingerprint:
            raise Refused(KEY_REUSED)
        done, _ = await asyncio.wait([running.task], timeout=self._deadline)
        if not done:
            return Answer(await self._find_if_possible(intent), replayed=not is_first)
        answer = running.task.result()
        is_repeat = not is_first and answer.duplication is not None
        return replace(answer, replayed=answer.replayed or is_repeat)

    async def _run(self, intent: Intent, account: Account, campaign: Any) -> Answer:
        """What the task does. Every refusal in here comes before the first byte."""
        try:
            return await self._look_or_attempt(intent, account, campaign)
        except Refused as refusal:
            return Answer(error=refusal.error)
        except LedgerUnavailable as failure:
            log.error("the ledger cannot be used: %s", failure)
            return Answer(error=LEDGER_DOWN)

    async def _look_or_attempt(self, intent: Intent, account: Account, campaign: Any) -> Answer:
        recorded = await self._ledger.find(intent.scope, intent.key)
        if recorded is not None:
            return _replay(intent, recorded)
        if self._is_draining:
            raise Refused(SHUTTING_DOWN)
        request = account.connector.build_request(campaign)
        try:
            async with account.permits.hold(patience=self._deadline / 2):
                return Answer(await attempt(self._ledger, account, intent, campaign, request))
        except KeyTaken as taken:
            return _replay(intent, taken.duplication)

    async def _find_if_possible(self, intent: Intent) -> Duplication | None:
        try:
            return await self._ledger.find(intent.scope, intent.key)
        except LedgerUnavailable:
            return None


def _with_whole_path(answer: Answer, provider: str) -> Answer:
    """Connectors name a field of their own input; callers know it from the mutation's arguments."""
    error = answer.error
    if error is None or error.field is None or error.field == KEY_REUSED.field:
        return answer
    return replace(answer, error=replace(error, field=("input", provider, *error.field)))


def _replay(intent: Intent, recorded: Duplication) -> Answer:
    if recorded.intent.fingerprint != intent.fingerprint:
        raise Refused(KEY_REUSED)
    return Answer(recorded, replayed=True)


def _check_key(key: str) -> None:
    if not re.fullmatch(r"[\x21-\x7e]{1,128}", key):
        raise Refused(
            UserError(
                ErrorCode.INVALID_INPUT,
                "idempotencyKey must be 1 to 128 visible ASCII characters; a UUID serves well.",
                field=("idempotencyKey",),
            )
        )


def _intent(scope: str, key: str, account: Account, campaign: Any) -> Intent:
    """What will be recorded. Leaving an option out and giving null for it are the same intent."""
    fields = asdict(campaign) | {"account": account.name}
    given = {name: value for name, value in fields.items() if value is not None}
    provider = account.connector.provider
    canonical = json.dumps([provider, given], sort_keys=True)
    return Intent(
        id=new_id(),
        nonce=secrets.token_hex(16),
        scope=scope,
        key=key,
        fingerprint=hashlib.sha256(canonical.encode()).hexdigest(),
        provider=provider,
        account=account.name,
        source_campaign_id=str(campaign.campaign_id),
        requested_name=campaign.name,
        input=json.dumps(fields),
    )
