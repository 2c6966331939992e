"""One call with failures before, during and after the send."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.rate_limit import CallKind, RateLimiter
from campaign_gateway.accounts.transport.worker import LOOP_LIMIT
from campaign_gateway.connectors.account_settings import CALLS_AT_ONCE
from campaign_gateway.duplication import service
from campaign_gateway.duplication.intents import make_intent
from campaign_gateway.duplication.service import DuplicationResult
from campaign_gateway.model import (
    Campaign,
    Created,
    DuplicationStatus,
    ErrorCode,
    Intent,
    Outcome,
    Retry,
    Unknown,
    UserError,
)
from campaign_gateway.web.callers.caller import EVERYONE
from support.open_duplicator import OpenDuplicator
from support.stub_provider import Copying, StubGateway


@pytest.fixture
async def duplicator(account: Account, ledger: Any) -> OpenDuplicator:
    return OpenDuplicator({"sonarly": account}, ledger, deadline=5)


async def ask(duplicator: OpenDuplicator, campaign: Any, key: str = "k") -> DuplicationResult:
    return await duplicator.ask(key, "sonarly", campaign)


def status(result: DuplicationResult) -> DuplicationStatus:
    assert result.duplication is not None
    return result.duplication.status


def code(result: DuplicationResult) -> ErrorCode:
    assert result.error is not None
    return result.error.code


def begin_elsewhere(ledger: Any, theirs: Intent) -> None:
    """Let another gateway begin its intent between our `find` and our `begin`."""
    find = ledger.ledger.find

    async def find_and_begin(*arguments: str) -> object:
        ledger.ledger.find = find
        record = await find(*arguments)
        await ledger.ledger.begin(theirs, datetime.now(UTC), None)
        return record

    ledger.ledger.find = find_and_begin


async def test_refusal_is_replaced_by_the_record_another_gateway_made_meanwhile(
    account: Account, ledger: Any, campaign: Any, copies: Any
) -> None:
    limited = replace(account, rate_limiter=RateLimiter(1, calls_per_minute=1))
    async with limited.rate_limiter.acquire(CallKind.COPY, 1) as permit:
        permit.mark_sent()
    duplicator = OpenDuplicator({"sonarly": limited}, ledger, 5)
    theirs = make_intent(EVERYONE, "k", account, campaign())
    find = ledger.ledger.find

    async def find_and_let_them_copy(*arguments: Any) -> object:
        ledger.ledger.find = find
        record = await find(*arguments)
        await ledger.ledger.begin(theirs, datetime.now(UTC), None)
        created = Created(Campaign("c1", "Copy"))
        await ledger.ledger.settle(theirs, created, datetime.now(UTC), None)
        return record

    refused = await ask(duplicator, campaign(), "other")
    assert code(refused) is ErrorCode.RATE_LIMITED
    ledger.ledger.find = find_and_let_them_copy
    result = await ask(duplicator, campaign())
    assert status(result) is DuplicationStatus.CREATED
    assert (result.error, result.replayed) == (None, True)
    assert await copies() == 0


async def test_intent_that_cannot_be_recorded_is_not_sent(
    duplicator: OpenDuplicator, ledger: Any, campaign: Any, copies: Any
) -> None:
    ledger.failures = {"begin": 1}
    result = await ask(duplicator, campaign())
    assert result.duplication is None
    assert code(result) is ErrorCode.OVERLOADED
    assert result.error is not None
    assert result.error.retry(is_recorded=False) is Retry.SAME_KEY
    assert await copies() == 0
    retried = await ask(duplicator, campaign())
    assert status(retried) is DuplicationStatus.CREATED
    assert await copies() == 1


async def test_ledger_read_failure_is_not_reported_as_safe_to_retry(
    duplicator: OpenDuplicator, ledger: Any, campaign: Any, copies: Any
) -> None:
    await ask(duplicator, campaign())
    ledger.failures = {"find": 1}
    result = await ask(duplicator, campaign())
    assert result.duplication is None
    assert code(result) is ErrorCode.OUTCOME_UNKNOWN
    assert result.error is not None
    assert result.error.retry(is_recorded=False) is Retry.SAME_KEY
    assert (await ask(duplicator, campaign())).replayed
    assert await copies() == 1


async def test_record_with_uncertain_commit_is_not_sent_and_is_rejected(
    duplicator: OpenDuplicator, ledger: Any, campaign: Any, copies: Any
) -> None:
    ledger.failures_after = {"begin": 1}
    ledger.failures = {"mark_never_sent": 1}
    result = await ask(duplicator, campaign())
    assert code(result) is ErrorCode.OUTCOME_UNKNOWN
    again = await ask(duplicator, campaign())
    assert again.replayed
    assert status(again) is DuplicationStatus.REJECTED
    assert await copies() == 0
    assert status(await ask(duplicator, campaign(), "new")) is DuplicationStatus.CREATED
    await duplicator.drain()


async def test_unknown_attempt_is_replayed_and_not_sent_again(
    duplicator: OpenDuplicator, campaign: Any, copies: Any
) -> None:
    lost = await ask(duplicator, campaign("cut-before-copy"))
    assert status(lost) is DuplicationStatus.UNKNOWN
    again = await ask(duplicator, campaign("cut-before-copy"))
    assert again.replayed
    assert again.duplication == lost.duplication
    assert await copies() == 1


@pytest.mark.parametrize("named", [None, "sonarly"])
async def test_key_is_replayed_after_the_accounts_have_changed(
    account: Account, ledger: Any, campaign: Any, copies: Any, named: str | None
) -> None:
    """A caller that retries after a lost response must not hear that nothing was made."""
    asked = campaign("cut-after-copy", account=named)
    lost = await ask(OpenDuplicator({"sonarly": account}, ledger, deadline=5), asked)
    assert status(lost) is DuplicationStatus.UNKNOWN
    other, another = (replace(account, name=name) for name in ("other", "another"))
    now = OpenDuplicator(
        {response.name: response for response in (other, another)}, ledger, deadline=5
    )

    again = await ask(now, asked)
    assert again.replayed
    assert again.duplication == lost.duplication
    assert code(await ask(now, campaign(account=named))) is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert code(await ask(now, asked, "new")) is ErrorCode.UNKNOWN_ACCOUNT
    ledger.failures = {"find": 1}
    assert code(await ask(now, asked)) is ErrorCode.OUTCOME_UNKNOWN
    assert await copies() == 1


async def test_orphan_of_a_dead_gateway_is_replayed_as_unknown(
    duplicator: OpenDuplicator, account: Account, ledger: Any, campaign: Any, copies: Any
) -> None:
    """An attempt of a dead gateway is UNKNOWN to the next gateway."""
    orphan = make_intent(EVERYONE, "k", account, campaign())
    await ledger.begin(orphan, datetime.now(UTC), None)
    await ledger.reopen()
    result = await ask(duplicator, campaign())
    assert result.replayed
    assert status(result) is DuplicationStatus.UNKNOWN
    assert await copies() == 0


async def test_outcome_is_recorded_after_the_ledger_has_failed_twice(
    duplicator: OpenDuplicator, ledger: Any, campaign: Any, copies: Any
) -> None:
    ledger.failures = {"settle": 2}
    result = await ask(duplicator, campaign())
    assert status(result) is DuplicationStatus.CREATED
    assert await copies() == 1


async def test_caller_gets_in_progress_at_the_deadline_and_the_call_continues(
    account: Account, ledger: Any, campaign: Any, copies: Any
) -> None:
    hasty = OpenDuplicator({"sonarly": account}, ledger, deadline=1)
    # The third repetition is 1.6 seconds after the response.
    ledger.failures = {"settle": 3}
    result = await ask(hasty, campaign())
    assert status(result) is DuplicationStatus.IN_PROGRESS
    await hasty.drain()
    again = await ask(hasty, campaign())
    assert status(again) is DuplicationStatus.CREATED
    assert again.replayed
    assert await copies() == 1


async def test_ledger_failure_at_the_deadline_is_in_progress_and_no_error(
    account: Account, ledger: Any, campaign: Any
) -> None:
    hasty = OpenDuplicator({"sonarly": account}, ledger, deadline=0.3)
    asking = asyncio.create_task(ask(hasty, campaign("slow")))
    await asyncio.sleep(0.1)
    ledger.failures = {"find": 1}
    assert await asking == DuplicationResult()
    await hasty.drain()


async def test_caller_that_hangs_up_does_not_stop_the_call(
    duplicator: OpenDuplicator, campaign: Any, copies: Any
) -> None:
    asking = asyncio.create_task(ask(duplicator, campaign()))
    while await copies() == 0:
        assert not asking.done()
        await asyncio.sleep(0.01)
    asking.cancel()
    await duplicator.drain()
    again = await ask(duplicator, campaign())
    assert status(again) is DuplicationStatus.CREATED
    assert await copies() == 1


async def test_key_that_another_gateway_begins_first_is_replayed_and_not_sent(
    duplicator: OpenDuplicator, account: Account, ledger: Any, campaign: Any, copies: Any
) -> None:
    theirs = make_intent(EVERYONE, "k", account, campaign())
    begin_elsewhere(ledger, theirs)
    asking = asyncio.create_task(ask(duplicator, campaign()))
    while await ledger.ledger.get(None, theirs.id) is None:
        await asyncio.sleep(0.01)
    made = Created(Campaign("theirs"))
    await ledger.ledger.settle(theirs, made, datetime.now(UTC), None)
    result = await asking
    assert result.replayed
    assert result.duplication is not None
    assert result.duplication.intent == theirs
    assert result.duplication.campaign == made.campaign
    assert await copies() == 0


async def test_key_that_another_gateway_sends_for_long_is_in_progress_at_the_deadline(
    account: Account, ledger: Any, campaign: Any, copies: Any
) -> None:
    hasty = OpenDuplicator({"sonarly": account}, ledger, deadline=2)
    theirs = make_intent(EVERYONE, "k", account, campaign())
    await ledger.begin(theirs, datetime.now(UTC), None)
    result = await ask(hasty, campaign())
    assert result.replayed
    assert status(result) is DuplicationStatus.IN_PROGRESS
    assert await copies() == 0


async def test_key_that_another_gateway_begins_with_another_input_is_reused(
    duplicator: OpenDuplicator, account: Account, ledger: Any, campaign: Any, copies: Any
) -> None:
    theirs = make_intent(EVERYONE, "k", account, campaign(name="Another"))
    begin_elsewhere(ledger, theirs)
    result = await ask(duplicator, campaign())
    assert code(result) is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert await copies() == 0


async def test_deadline_during_the_commit_sends_nothing_and_rejects_the_record(
    duplicator: OpenDuplicator, ledger: Any, campaign: Any, copies: Any
) -> None:
    begin = ledger.ledger.begin

    async def slowly(*arguments: Any) -> object:
        # Longer than the timeout of the account.
        await asyncio.sleep(3.5)
        return await begin(*arguments)

    ledger.ledger.begin = slowly
    result = await ask(duplicator, campaign())
    assert status(result) is DuplicationStatus.REJECTED
    assert result.duplication is not None
    assert code(DuplicationResult(error=result.duplication.error)) is ErrorCode.PROVIDER_UNAVAILABLE
    assert await copies() == 0


async def test_bug_after_the_send_is_unknown(
    duplicator: OpenDuplicator,
    account: Account,
    campaign: Any,
    copies: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug in a connector")

    monkeypatch.setattr(type(account.connector), "parse_response", broken)
    result = await ask(duplicator, campaign())
    assert status(result) is DuplicationStatus.UNKNOWN
    assert "a bug in a connector" in caplog.text
    assert await copies() == 1


async def test_bug_before_the_send_is_raised_and_sends_nothing(
    duplicator: OpenDuplicator,
    account: Account,
    campaign: Any,
    copies: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug in the transport")

    monkeypatch.setattr(account.transport, "send_once", broken)
    with pytest.raises(RuntimeError, match="a bug in the transport"):
        await ask(duplicator, campaign())
    assert await copies() == 0


async def test_draining_gateway_refuses_new_keys_and_replays_old_ones(
    duplicator: OpenDuplicator, campaign: Any, copies: Any
) -> None:
    await ask(duplicator, campaign())
    await duplicator.drain()
    assert (await ask(duplicator, campaign())).replayed
    result = await ask(duplicator, campaign(), key="new")
    assert code(result) is ErrorCode.OVERLOADED
    assert await copies() == 1


async def test_unknown_copy_blocks_a_new_key_until_it_is_overridden(
    duplicator: OpenDuplicator, campaign: Any, copies: Any
) -> None:
    lost = await ask(duplicator, campaign("cut-before-copy"), "first")
    assert status(lost) is DuplicationStatus.UNKNOWN
    again = await ask(duplicator, campaign("cut-before-copy"), "second")
    assert code(again) is ErrorCode.UNRESOLVED_DUPLICATION
    assert again.duplication == lost.duplication
    assert not again.replayed
    assert await copies() == 1
    assert lost.duplication is not None
    override_of = lost.duplication.intent.id
    for wrong in ("no duplication", "01890000-0000-7000-8000-000000000000"):
        result = await duplicator.ask("third", "sonarly", campaign("cut-before-copy"), wrong)
        assert code(result) in {ErrorCode.UNRESOLVED_DUPLICATION, ErrorCode.INVALID_INPUT}
    assert await copies() == 1
    more = await duplicator.ask("third", "sonarly", campaign("cut-before-copy"), override_of)
    assert status(more) is DuplicationStatus.UNKNOWN
    assert await copies() == 2
    outdated = await duplicator.ask("fourth", "sonarly", campaign("cut-before-copy"), override_of)
    assert code(outdated) is ErrorCode.UNRESOLVED_DUPLICATION
    assert outdated.duplication == more.duplication


async def test_override_works_for_one_of_several_callers(
    duplicator: OpenDuplicator, account: Account, ledger: Any, campaign: Any, copies: Any
) -> None:
    lost = make_intent(EVERYONE, "lost", account, campaign())
    await ledger.begin(lost, datetime.now(UTC), None)
    unknown = Unknown(UserError(ErrorCode.OUTCOME_UNKNOWN, "no response"))
    await ledger.settle(lost, unknown, datetime.now(UTC), None)
    asking = [duplicator.ask(f"k{number}", "sonarly", campaign(), lost.id) for number in range(5)]
    results = await asyncio.gather(*asking)
    refused = [result for result in results if result.error is not None]
    assert len(refused) == 4
    for result in refused:
        assert code(result) is ErrorCode.UNRESOLVED_DUPLICATION
        assert result.error is not None
        assert result.error.field == ("overrideDuplicationId",)
    assert await copies() == 1


async def test_override_of_a_duplication_that_was_created_meanwhile_sends_nothing(
    duplicator: OpenDuplicator, account: Account, ledger: Any, campaign: Any, copies: Any
) -> None:
    earlier = make_intent(EVERYONE, "found", account, campaign())
    await ledger.begin(earlier, datetime.now(UTC), None)
    await ledger.settle(earlier, Created(Campaign("c1", "Copy")), datetime.now(UTC), None)
    result = await duplicator.ask("new", "sonarly", campaign(), earlier.id)
    assert status(result) is DuplicationStatus.CREATED
    assert result.error is not None
    assert result.error.retry(is_recorded=False) is Retry.WAIT
    assert await copies() == 0


async def test_expired_key_is_refused_and_not_sent_again(
    duplicator: OpenDuplicator, ledger: Any, campaign: Any, copies: Any
) -> None:
    await ask(duplicator, campaign())
    await ledger.expire(datetime.now(UTC) + timedelta(seconds=1), 10)
    again = await ask(duplicator, campaign())
    assert code(again) is ErrorCode.IDEMPOTENCY_KEY_EXPIRED
    assert again.error is not None
    assert again.error.field == ("idempotencyKey",)
    assert again.error.retry(is_recorded=False) is Retry.NO
    assert await copies() == 1


@pytest.mark.parametrize("grace", [60.0, 0.0])
async def test_draining_gateway_sends_waiting_calls_only_if_their_permits_come_soon(
    duplicator: OpenDuplicator,
    account: Account,
    campaign: Any,
    copies: Any,
    monkeypatch: pytest.MonkeyPatch,
    grace: float,
) -> None:
    monkeypatch.setattr(service, "LAST_PERMITS_SECONDS", grace)
    async with AsyncExitStack() as all_slots:
        for _ in range(CALLS_AT_ONCE):
            await all_slots.enter_async_context(account.rate_limiter.acquire(CallKind.COPY, 1))
        asking = asyncio.create_task(ask(duplicator, campaign()))
        await asyncio.sleep(0.05)
        draining = asyncio.create_task(duplicator.drain())
        await asyncio.sleep(0.05)
        late = await ask(duplicator, campaign(), key="late")
    await draining
    result = await asking
    assert code(late) is ErrorCode.OVERLOADED
    assert (result.error is None) == (grace > 0)
    assert await copies() == (grace > 0)


async def test_long_response_to_a_copy_does_not_block_the_event_loop(
    open_gateway: Callable[..., Awaitable[StubGateway]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To parse a mebibyte of odd JSON or XML takes up to a second."""
    gateway = await open_gateway(Copying)
    parsed_in: list[int] = []
    parse = Copying.parse_response

    def parse_response(*arguments: Any) -> Outcome:
        parsed_in.append(threading.get_ident())
        return parse(*arguments)

    monkeypatch.setattr(Copying, "parse_response", parse_response)
    assert (await gateway.copy(key="short")).status is DuplicationStatus.CREATED
    gateway.provider.response_fields += ("padding",)
    add = partial(gateway.provider.add, padding="x" * LOOP_LIMIT)
    monkeypatch.setattr(gateway.provider, "add", add)
    assert (await gateway.copy(key="long")).status is DuplicationStatus.CREATED
    assert [thread == threading.get_ident() for thread in parsed_in] == [True, False]
