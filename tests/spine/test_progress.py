"""A copy whose id the provider returns before it is complete: shown, checked, never repeated."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from campaign_gateway.api.types import DuplicateCampaignPayload
from campaign_gateway.duplication import manual_resolution, reconciliation
from campaign_gateway.model import (
    DEFAULT_TIMING,
    Campaign,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    OperatorNote,
    Retry,
    WarningCode,
)
from support.stub_provider import (
    Copying,
    StubGateway,
    StubInput,
    Tracked,
    TrackedAndFound,
    Tracking,
    timeout_for,
)
from support.waiting import until_async

NOTE = OperatorNote("ann", "seen in the list")

ACCEPTED, CREATED, REJECTED = (
    DuplicationStatus.ACCEPTED,
    DuplicationStatus.CREATED,
    DuplicationStatus.REJECTED,
)

Open = Callable[..., Awaitable[StubGateway]]


def copy_id(record: Duplication) -> str | None:
    return record.campaign.id if record.campaign else None


def becomes(gateway: StubGateway, state: str, **more: str) -> None:
    gateway.provider.campaigns["c1"] |= {"state": state, **more}


async def test_accepted_copy_is_shown_with_its_id_immediately(open_gateway: Open) -> None:
    gateway = await open_gateway(Tracked)
    result = await gateway.ask()
    assert result.error is None
    record = await gateway.recorded()
    assert result.duplication == record
    assert (record.status, copy_id(record), record.evidence) == (ACCEPTED, "c1", Evidence.RESPONSE)
    assert (record.settled_at, record.error, record.provider_trace_id) == (None, None, "T-1")
    id_namespace = record.intent.id_namespace
    # From now on, no other duplication can have this campaign as its copy.
    assert await gateway.ledger.known_copies(id_namespace, ["c1", "c2"]) == {"c1"}
    (due,) = await gateway.due(
        datetime.now(UTC) + timedelta(seconds=DEFAULT_TIMING.first_check_after)
    )
    assert due == record
    assert gateway.provider.calls == ["copy"]


async def test_caller_gets_the_accepted_copy(
    open_gateway: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await open_gateway(Tracked)
    # The schema has only the registered providers.
    monkeypatch.setattr(Copying, "provider", "sonarly")
    result = await gateway.duplicator.ask("k", "sonarly", StubInput())
    payload = DuplicateCampaignPayload.from_model(result)
    assert payload.status.value == "ACCEPTED"
    assert payload.campaign is not None
    assert payload.campaign.id == "c1"
    assert payload.user_errors == []
    assert payload.warnings == []


async def test_copy_in_progress_stays_accepted(open_gateway: Open) -> None:
    gateway = await open_gateway(Tracked)
    before = await gateway.copy()
    for checks in range(1, 4):
        assert await gateway.check() == 1
        record = await gateway.recorded()
        assert (record.status, record.campaign) == (ACCEPTED, before.campaign)
        assert record.checks == checks
    # It is not searched in lists either, because its id is known.
    assert gateway.provider.calls == ["copy", "progress c1", "progress c1", "progress c1"]


async def test_complete_copy_is_created_with_the_evidence_response(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Tracked)
    await gateway.copy()
    becomes(gateway, "COMPLETE", name="Wanted")
    assert await gateway.check() == 1
    record = await gateway.recorded()
    assert (record.status, copy_id(record), record.evidence) == (CREATED, "c1", Evidence.RESPONSE)
    assert record.campaign is not None
    assert (record.campaign.name, record.campaign.provider_status) == ("Wanted", "COMPLETE")
    assert (record.warnings, record.error) == ((), None)
    assert record.settled_at is not None
    assert record.provider_trace_id == "T-2"
    assert await gateway.due() == []
    again = await gateway.ask()
    assert again.replayed
    assert again.duplication == record
    assert gateway.provider.count("copy") == 1


async def test_partial_copy_is_created_with_a_warning(open_gateway: Open) -> None:
    gateway = await open_gateway(Tracked)
    await gateway.copy()
    becomes(gateway, "PARTIAL", message="Two images are missing")
    await gateway.check()
    record = await gateway.recorded()
    assert (record.status, copy_id(record), record.evidence) == (CREATED, "c1", Evidence.RESPONSE)
    assert [(warning.code, warning.provider_message) for warning in record.warnings] == [
        (WarningCode.PARTIAL_COPY, "Two images are missing")
    ]
    assert await gateway.due() == []


async def test_partial_copy_is_renamed_and_keeps_its_warning(open_gateway: Open) -> None:
    gateway = await open_gateway(TrackedAndFound)
    await gateway.copy()
    # A rename before the copy is complete could be overwritten.
    assert gateway.provider.count("rename") == 0
    becomes(gateway, "PARTIAL")
    await gateway.check()
    codes = [warning.code for warning in (await gateway.recorded()).warnings]
    assert codes == [WarningCode.PARTIAL_COPY, WarningCode.NAME_NOT_APPLIED]
    await gateway.check()
    record = await gateway.recorded()
    assert [warning.code for warning in record.warnings] == [WarningCode.PARTIAL_COPY]
    assert record.campaign is not None
    assert record.campaign.name == "Wanted"
    assert await gateway.due() == []


async def test_complete_copy_with_only_an_id_is_looked_up(open_gateway: Open) -> None:
    gateway = await open_gateway(Tracked)
    await gateway.copy()
    becomes(gateway, "COMPLETE", name="")
    await gateway.check()
    assert [warning.code for warning in (await gateway.recorded()).warnings] == [
        WarningCode.DETAILS_UNKNOWN
    ]
    becomes(gateway, "COMPLETE", name="Wanted")
    await gateway.check()
    record = await gateway.recorded()
    assert record.campaign is not None
    assert (record.campaign.name, record.warnings) == ("Wanted", ())


@pytest.mark.parametrize("kind", [Tracked, Tracking])
async def test_copy_that_does_not_exist_any_more_is_rejected(
    open_gateway: Open, kind: type[Copying]
) -> None:
    gateway = await open_gateway(kind)
    await gateway.copy()
    del gateway.provider.campaigns["c1"]
    await gateway.check()
    record = await gateway.recorded()
    assert (record.status, record.campaign, record.evidence) == (REJECTED, None, Evidence.RESPONSE)
    assert record.error is not None
    assert record.error.code is ErrorCode.CAMPAIGN_NOT_FOUND
    # A new key may request another copy, and another duplication may get this id.
    assert record.error.retry(is_recorded=True) is Retry.NEW_KEY
    assert await gateway.due() == []
    assert await gateway.ledger.known_copies(record.intent.id_namespace, ["c1"]) == frozenset()


async def test_failed_copy_that_left_no_campaign_is_rejected(open_gateway: Open) -> None:
    gateway = await open_gateway(Tracked)
    await gateway.copy()
    becomes(gateway, "FAILED", message="The source is broken")
    # The provider knows the job, and the campaign does not exist.
    gateway.provider.faults["read"].append(404)
    await gateway.check()
    record = await gateway.recorded()
    assert (record.status, record.campaign, record.warnings) == (REJECTED, None, ())
    assert record.error is not None
    assert record.error.code is ErrorCode.CONFLICT
    assert record.error.provider_message == "The source is broken"
    assert gateway.provider.calls == ["copy", "progress c1", "read c1"]
    again = await gateway.ask()
    assert again.replayed
    assert gateway.provider.count("copy") == 1


async def test_failed_copy_that_left_a_campaign_is_partial(open_gateway: Open) -> None:
    gateway = await open_gateway(Tracked)
    await gateway.copy()
    becomes(gateway, "FAILED", message="The source is broken")
    await gateway.check()
    record = await gateway.recorded()
    # After REJECTED, the caller could make a second copy.
    assert (record.status, copy_id(record), record.error) == (CREATED, "c1", None)
    assert [(warning.code, warning.provider_message) for warning in record.warnings] == [
        (WarningCode.PARTIAL_COPY, "The source is broken")
    ]


@pytest.mark.parametrize("fault", [401, 429, 500, "cut-before-copy", "unreadable", "hang"])
@pytest.mark.usefixtures("only_new_connections")
async def test_failed_copy_is_settled_only_after_a_lookup(
    open_gateway: Open, fault: int | str
) -> None:
    gateway = await open_gateway(Tracked, timeout=timeout_for(fault))
    await gateway.copy()
    becomes(gateway, "FAILED")
    gateway.provider.faults["read"].append(fault)
    await gateway.check()
    record = await gateway.recorded()
    assert (record.status, copy_id(record)) == (ACCEPTED, "c1")
    await gateway.check()
    assert (await gateway.recorded()).status is CREATED


@pytest.mark.parametrize(
    "fault", [401, 403, 429, 500, 503, "proxy", "cut-before-copy", "garbage", "unreadable", "hang"]
)
@pytest.mark.usefixtures("only_new_connections")
async def test_unexpected_response_only_postpones_the_check(
    open_gateway: Open, caplog: pytest.LogCaptureFixture, fault: int | str
) -> None:
    gateway = await open_gateway(Tracked, timeout=timeout_for(fault))
    before = await gateway.copy()
    # A 404 from a proxy, and a 401 after a change of the secret, show nothing about the copy.
    becomes(gateway, "COMPLETE")
    gateway.provider.faults["progress"].append(fault)
    assert await gateway.check() == 1
    record = await gateway.recorded()
    assert (record.status, record.campaign, record.checks) == (ACCEPTED, before.campaign, 1)
    assert "could not be checked" in caplog.text
    assert await gateway.check() == 1
    assert (await gateway.recorded()).status is CREATED
    assert gateway.provider.count("copy") == 1


@pytest.mark.parametrize("fault", [None, 503])
async def test_intervals_between_checks_grow(open_gateway: Open, fault: int | None) -> None:
    gateway = await open_gateway(Tracked)
    await gateway.copy()
    intervals = DEFAULT_TIMING.check_intervals
    for seconds in (*intervals[:6], *intervals[-1:]):
        if seconds == intervals[-1]:
            for _ in intervals[6:]:
                await gateway.check()
        gateway.provider.faults["progress"].append(fault)
        pause, began = timedelta(seconds=seconds), datetime.now(UTC)
        assert await gateway.check() == 1
        # The bounds hold on a slow machine too: the first interval is long, the second can be long.
        assert await gateway.due(began + pause) == []
        assert len(await gateway.due(datetime.now(UTC) + pause)) == 1


async def test_accepted_copy_of_a_connector_without_progress_stays_accepted(
    open_gateway: Open,
) -> None:
    """For example, a newer version of a connector cannot read the progress any more."""
    gateway = await open_gateway(Tracking)
    await gateway.copy()
    (due,) = await gateway.due()
    connector = Copying(gateway.url)
    older = {"stub": replace(gateway.account, connector=connector)}
    await reconciliation.check_one(older, gateway.ledger, due)
    record = await gateway.recorded()
    assert (record.status, copy_id(record), record.checks) == (ACCEPTED, "c1", 1)


async def test_restarted_gateway_continues_to_check_the_copy(
    open_gateway: Open, ledger: Any
) -> None:
    gateway = await open_gateway(Tracked, first_check_after=0)
    received, real = asyncio.Event(), ledger.ledger.settle

    async def halt(*arguments: Any) -> None:
        await real(*arguments)
        received.set()
        await asyncio.Event().wait()

    # The caller gets no response, and the record is written.
    ledger.ledger.settle = halt
    asking = asyncio.create_task(gateway.ask())
    await asyncio.wait_for(received.wait(), 40)
    await gateway.crash()
    await asyncio.wait([asking])
    record = await gateway.recorded()
    assert (record.status, copy_id(record)) == (ACCEPTED, "c1")
    becomes(gateway, "COMPLETE")
    async with gateway.reconciling():
        await until_async(gateway.is_created)
    assert gateway.provider.count("copy") == 1


async def test_crash_during_a_check_loses_nothing(open_gateway: Open, ledger: Any) -> None:
    gateway = await open_gateway(Tracked)
    before = await gateway.copy()
    received = gateway.provider.hang("progress")
    checking = asyncio.create_task(gateway.check())
    await asyncio.wait_for(received.wait(), 40)
    checking.cancel()
    await asyncio.wait([checking])
    await ledger.reopen()
    assert await gateway.recorded() == before
    becomes(gateway, "COMPLETE")
    await gateway.check()
    assert (await gateway.recorded()).status is CREATED
    assert gateway.provider.count("copy") == 1


@pytest.mark.parametrize("failures", ["failures", "failures_after"])
async def test_ledger_failure_when_the_copy_is_complete_is_retried(
    open_gateway: Open, ledger: Any, failures: str
) -> None:
    gateway = await open_gateway(Tracked)
    await gateway.copy()
    becomes(gateway, "COMPLETE")
    setattr(ledger, failures, {"settle": 1})
    assert await gateway.check() == 1
    await gateway.check()
    assert (await gateway.recorded()).status is CREATED
    assert gateway.provider.count("copy") == 1


async def test_operator_s_resolution_ends_the_checks(open_gateway: Open) -> None:
    gateway = await open_gateway(Tracked)
    first, second = await gateway.copy(key="first"), await gateway.copy(key="second")
    assert first.campaign is not None
    await manual_resolution.resolve_as_created(
        gateway.ledger, first.intent.id, first.campaign, NOTE
    )
    await manual_resolution.resolve_as_not_created(gateway.ledger, second.intent.id, NOTE)
    assert await gateway.due() == []
    assert gateway.provider.count("progress") == 0
    made, absent = await gateway.recorded("first"), await gateway.recorded("second")
    assert (made.status, made.evidence, made.campaign) == (
        CREATED,
        Evidence.OPERATOR,
        first.campaign,
    )
    assert (absent.status, absent.evidence, absent.campaign) == (REJECTED, Evidence.OPERATOR, None)


@pytest.mark.parametrize("state", ["PENDING", "nothing"])
async def test_operator_s_resolution_is_kept_when_the_check_finds_nothing(
    open_gateway: Open, state: str
) -> None:
    gateway = await open_gateway(Tracked)
    lost = await gateway.copy()
    becomes(gateway, "" if state == "nothing" else state)

    async def resolve() -> None:
        await manual_resolution.resolve_as_not_created(gateway.ledger, lost.intent.id, NOTE)

    gateway.provider.meanwhile["progress"] = resolve
    # A later postponement must not make the record due again.
    assert await gateway.check() == 1
    record = await gateway.recorded()
    assert (record.status, record.evidence) == (REJECTED, Evidence.OPERATOR)
    assert await gateway.due() == []


async def test_provider_s_response_replaces_an_operator_s_resolution(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Tracked)
    lost = await gateway.copy()
    becomes(gateway, "COMPLETE")

    async def resolve() -> None:
        await manual_resolution.resolve_as_not_created(gateway.ledger, lost.intent.id, NOTE)

    gateway.provider.meanwhile["progress"] = resolve
    await gateway.check()
    record = await gateway.recorded()
    assert (record.status, copy_id(record), record.evidence) == (CREATED, "c1", Evidence.RESPONSE)
    assert record.error is None


async def test_accepted_copy_does_not_compete_and_is_no_candidate(open_gateway: Open) -> None:
    gateway = await open_gateway(TrackedAndFound)
    gateway.provider.faults["copy"] += [None, "cut-after-copy"]
    await gateway.copy(StubInput(name="One"), key="one")
    await gateway.lose(StubInput(name="Other"), key="other")
    await gateway.check()
    # If the first competed, the second would get no copy, because their inputs differ.
    other = await gateway.recorded("other")
    assert (other.status, copy_id(other)) == (CREATED, "c2")
    assert (await gateway.recorded("one")).status is ACCEPTED


async def test_only_copy_is_left_to_the_accepted_duplication(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(TrackedAndFound)
    gateway.provider.faults["copy"] += [None, "cut-before-copy"]
    await gateway.copy(key="one")
    await gateway.lose(key="other")
    await gateway.check()
    other = await gateway.recorded("other")
    assert (other.status, other.candidates) == (DuplicationStatus.UNKNOWN, ())
    assert not await gateway.ledger.settle_from_evidence(
        other, Created(Campaign("c1")), Evidence.INFERRED, other.requested_at, None
    )
    with pytest.raises(manual_resolution.CannotResolve, match="copy of another duplication"):
        await manual_resolution.resolve_as_created(
            gateway.ledger, other.intent.id, Campaign("c1"), NOTE
        )
    assert gateway.provider.count("copy") == 2


async def test_reconciler_settles_many_copies(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Tracked, first_check_after=0, check_intervals=(0.01,))
    keys = [str(number) for number in range(20)]
    ends = ["COMPLETE", "PARTIAL", "FAILED", "PENDING"]
    for key in keys:
        await gateway.copy(StubInput(name=key), key)
    gateway.provider.faults["progress"] += [503, "cut-before-copy", "proxy"] * 3
    async with gateway.reconciling():
        await until_async(lambda: is_followed(gateway, 2 * len(keys)))
        for number, campaign in enumerate(gateway.provider.campaigns.values()):
            campaign["state"] = ends[number % 4]
        await until_async(lambda: are_ended(gateway, keys))
    for number, key in enumerate(keys):
        record = await gateway.recorded(key)
        assert copy_id(record) == f"c{number + 1}"
        assert record.status is (ACCEPTED if ends[number % 4] == "PENDING" else CREATED)
    assert gateway.provider.count("copy") == len(keys)


async def is_followed(gateway: StubGateway, times: int) -> bool:
    return gateway.provider.count("progress") >= times


async def are_ended(gateway: StubGateway, keys: list[str]) -> bool:
    records = [await gateway.recorded(key) for key in keys]
    return sum(record.status is CREATED for record in records) == 15
