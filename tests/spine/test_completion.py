"""The steps after a copy is recorded: its lookup and its rename, with failures and crashes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest

from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.duplication import (
    completion,
    manual_resolution,
    reconciliation,
)
from campaign_gateway.duplication.intents import make_intent, recorded_call
from campaign_gateway.model import (
    DEFAULT_TIMING,
    Campaign,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    OperatorNote,
    Refused,
    Timing,
    Unknown,
    UserError,
    WarningCode,
)
from campaign_gateway.web.callers.caller import EVERYONE
from support.open_duplicator import OpenDuplicator
from support.stub_provider import (
    Copying,
    Found,
    FoundByName,
    FoundUnchanged,
    FoundWithoutAges,
    Named,
    NamedAndChanged,
    NamedAndListed,
    NamedByProviderWithoutAges,
    Reading,
    Renaming,
    StubGateway,
    StubInput,
    timeout_for,
)
from support.waiting import until_async

NAME_NOT_APPLIED, DETAILS_UNKNOWN = WarningCode.NAME_NOT_APPLIED, WarningCode.DETAILS_UNKNOWN
NOT_APPLIED = WarningCode.NOT_APPLIED
NOW = datetime.now(UTC)
NOTE = OperatorNote("ann", "seen in the list")
LOST = Unknown(UserError(ErrorCode.OUTCOME_UNKNOWN, "no response"))

Open = Callable[..., Awaitable[StubGateway]]


# A pending step is due immediately, for tests with a running reconciler.
AT_ONCE: dict[str, float] = {"completion_due_after": 0, "completion_retry_interval": 0}


def codes(record: Duplication) -> list[WarningCode]:
    return [warning.code for warning in record.warnings]


def name(record: Duplication) -> str | None:
    assert record.status is DuplicationStatus.CREATED
    assert record.campaign is not None
    return record.campaign.name


def copy_id(record: Duplication) -> str | None:
    return record.campaign.id if record.campaign else None


async def begun(
    gateway: StubGateway, key: str = "k", at: datetime = NOW, **fields: Any
) -> Duplication:
    """Return the record of a call in progress, as another gateway of this account writes it."""
    campaign = StubInput(**fields)
    intent = make_intent(EVERYONE, key, gateway.account, campaign)
    await gateway.ledger.begin(intent, at, None)
    return await gateway.recorded(key)


async def unfinished(gateway: StubGateway, at: datetime, campaign_id: str = "c1") -> Duplication:
    """Return the record of a copy that was recorded at this time and never completed."""
    record = await begun(gateway, at=at)
    copy = Created(Campaign(campaign_id, name="Copy of source"))
    copy = completion.with_pending_warnings(recorded_call(gateway.account, record), copy)
    settled: Duplication = await gateway.ledger.settle(record.intent, copy, at, at)
    return settled


def halt(ledger: Any, method: str, *, after: bool) -> asyncio.Event:
    """Let calls of a method of the ledger hang until a restart. The event is set at the first."""
    received, real = asyncio.Event(), getattr(ledger.ledger, method)

    async def halting(*arguments: Any) -> object:
        if after:
            await real(*arguments)
        received.set()
        return await asyncio.Event().wait()

    # Only on the ledger that is open now: a restarted gateway opens another one.
    setattr(ledger.ledger, method, halting)
    return received


async def test_copy_is_recorded_with_its_id_before_the_rename_is_sent(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Named)
    recorded: list[Duplication] = []

    async def look() -> None:
        recorded.append(await gateway.recorded())

    # This is the record that a gateway would leave if it died during the rename.
    gateway.provider.meanwhile["rename"] = look
    await gateway.copy()
    (then,) = recorded
    assert (then.status, then.evidence) == (DuplicationStatus.CREATED, Evidence.RESPONSE)
    assert copy_id(then) == "c1"
    assert name(then) == "Copy of source"
    assert codes(then) == [NAME_NOT_APPLIED]


async def test_renamed_copy_has_no_pending_step(open_gateway: Open) -> None:
    gateway = await open_gateway(Named)
    copy = await gateway.copy()
    assert (name(copy), copy.warnings, copy.error) == ("Wanted", (), None)
    assert gateway.provider.campaigns["c1"]["name"] == "Wanted"
    assert gateway.provider.calls == ["copy", "read c1", "rename c1"]
    assert await gateway.recorded() == copy
    assert await gateway.due() == []


async def test_one_call_sets_the_name_and_the_other_options(open_gateway: Open) -> None:
    gateway = await open_gateway(NamedAndChanged)
    recorded: list[Duplication] = []

    async def look() -> None:
        recorded.append(await gateway.recorded())

    gateway.provider.meanwhile["rename"] = look
    copy = await gateway.copy()
    assert (name(copy), copy.warnings) == ("Wanted", ())
    assert gateway.provider.calls == ["copy", "read c1", "rename c1"]
    # This is the record that a gateway would leave if it died during that call.
    assert codes(recorded[0]) == [NAME_NOT_APPLIED, NOT_APPLIED]
    assert recorded[0].warnings[1].field == ("input", "stub", "subject")
    assert await gateway.due() == []


async def test_change_that_fails_for_a_while_is_repeated_and_the_copy_is_not(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(NamedAndChanged)
    gateway.provider.faults["rename"] += [500, 429]
    assert set(codes(await gateway.copy())) == {NAME_NOT_APPLIED, NOT_APPLIED}
    assert await gateway.check() == 1
    assert set(codes(await gateway.recorded())) == {NAME_NOT_APPLIED, NOT_APPLIED}
    assert await gateway.check() == 1
    after = await gateway.recorded()
    assert (name(after), after.warnings) == ("Wanted", ())
    assert gateway.provider.calls.count("copy") == 1
    assert await gateway.due() == []


async def test_option_is_still_set_if_the_copy_has_its_name_already(open_gateway: Open) -> None:
    gateway = await open_gateway(NamedAndChanged)
    gateway.provider.faults["rename"].append(500)
    await gateway.copy()
    # A person has renamed it in the meantime.
    gateway.provider.campaigns["c1"]["name"] = "Wanted"
    assert await gateway.check() == 1
    assert (await gateway.recorded()).warnings == ()
    assert gateway.provider.calls.count("rename c1") == 2


async def test_rejected_change_is_a_final_warning_for_each_option(open_gateway: Open) -> None:
    gateway = await open_gateway(NamedAndChanged)
    gateway.provider.faults["rename"].append(422)
    copy = await gateway.copy()
    assert codes(copy) == [NAME_NOT_APPLIED, NOT_APPLIED]
    remark = copy.warnings[1]
    assert (remark.is_final, remark.field) == (True, ("input", "stub", "subject"))
    assert remark.provider_message == "Refused with 422"
    assert "has not applied `subject`. Set it at " in remark.message
    assert await gateway.recorded() == copy
    assert await gateway.due() == []


class Unchangeable(NamedAndChanged):
    def build_change(self, *_: object) -> ProviderRequest:
        raise Refused(UserError(ErrorCode.CONFLICT, "The copy cannot be changed."))


async def test_change_that_the_copy_forbids_is_not_tried_again(open_gateway: Open) -> None:
    gateway = await open_gateway(Unchangeable)
    gateway.provider.faults["read"].append(500)
    # Without the copy, the next attempt may be possible.
    assert not any(each.is_final for each in (await gateway.copy()).warnings)
    assert await gateway.check() == 1
    copy = await gateway.recorded()
    assert codes(copy) == [NAME_NOT_APPLIED, NOT_APPLIED]
    assert all(each.is_final for each in copy.warnings)
    assert not any(call.startswith("rename") for call in gateway.provider.calls)
    assert await gateway.due() == []


async def test_redacted_response_is_not_sent_back_to_the_provider(open_gateway: Open) -> None:
    """Some providers take a name only with the content of the copy."""
    returned: list[object] = []

    class Returning(Named):
        def build_rename(
            self, copy_input: StubInput, copy_id: str, lookup_response: ProviderResponse | None
        ) -> ProviderRequest:
            returned.append(lookup_response)
            return super().build_rename(copy_input, copy_id, lookup_response)

    async def write() -> None:
        gateway.provider.campaigns["c1"]["name"] = "The key is [redacted]"

    gateway = await open_gateway(Returning)
    gateway.provider.meanwhile["read"] = write
    await gateway.copy()
    assert returned == [None]


async def test_copy_that_a_search_found_is_not_changed(open_gateway: Open) -> None:
    gateway = await open_gateway(FoundUnchanged)
    gateway.provider.faults["copy"].append("cut-after-copy")
    assert (await gateway.copy()).status is DuplicationStatus.UNKNOWN
    assert await gateway.check() == 1
    found = await gateway.recorded()
    assert (found.status, found.evidence) == (DuplicationStatus.CREATED, Evidence.INFERRED)
    assert codes(found) == [NAME_NOT_APPLIED, NOT_APPLIED]
    assert all(remark.is_final for remark in found.warnings)
    assert "rename c1" not in gateway.provider.calls
    assert await gateway.due() == []


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422])
async def test_rejected_rename_is_a_final_warning_with_the_provider_s_message(
    open_gateway: Open, status: int
) -> None:
    gateway = await open_gateway(Named)
    gateway.provider.faults["rename"].append(status)
    copy = await gateway.copy()
    assert name(copy) == "Copy of source"
    assert codes(copy) == [NAME_NOT_APPLIED]
    assert copy.warnings[0].provider_message == f"Refused with {status}"
    # An error would mean that there is no copy.
    assert copy.error is None
    assert await gateway.recorded() == copy
    assert await gateway.due() == []


async def test_rejected_rename_does_not_stop_the_lookup(open_gateway: Open) -> None:
    gateway = await open_gateway(Named)
    gateway.provider.response_fields = ("id",)
    gateway.provider.faults["rename"].append(422)
    copy = await gateway.copy()
    assert name(copy) == "Copy of source"
    assert codes(copy) == [NAME_NOT_APPLIED]
    assert await gateway.due() == []


async def test_rename_rejected_without_a_lookup_is_retried_after_one(
    open_gateway: Open,
) -> None:
    """Some renames must repeat fields that only the lookup returns."""
    gateway = await open_gateway(Named)
    gateway.provider.response_fields = ("id",)
    gateway.provider.faults["rename"] += [422, 422, 422]
    gateway.provider.faults["read"] += [404, 404]
    assert set(codes(await gateway.copy())) == {NAME_NOT_APPLIED, DETAILS_UNKNOWN}
    assert await gateway.check() == 1
    assert await gateway.check() == 1
    record = await gateway.recorded()
    assert (name(record), codes(record)) == ("Copy of source", [NAME_NOT_APPLIED])
    assert record.warnings[0].provider_message == "Refused with 422"
    assert gateway.provider.count("rename") == 3
    assert await gateway.due() == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (500, "Refused with 500"),
        (503, "Refused with 503"),
        # These refusals may be temporary: a new copy may not be visible everywhere yet.
        (429, "Refused with 429"),
        (404, "Refused with 404"),
        ("cut-before-copy", None),
        ("cut-after-copy", None),
        ("garbage", None),
        ("hang", None),
    ],
)
@pytest.mark.usefixtures("only_new_connections")
async def test_rename_with_a_temporary_failure_is_retried(
    open_gateway: Open, fault: int | str, words: str | None
) -> None:
    gateway = await open_gateway(Named, timeout=timeout_for(fault))
    gateway.provider.faults["rename"].append(fault)
    began = datetime.now(UTC)
    copy = await gateway.copy()
    assert name(copy) == "Copy of source"
    assert codes(copy) == [NAME_NOT_APPLIED]
    assert copy.warnings[0].provider_message == words
    # The retry comes later, because the cause is probably not over yet.
    assert (
        await gateway.due(began + timedelta(seconds=DEFAULT_TIMING.completion_retry_interval)) == []
    )
    assert await gateway.check() == 1
    assert (name(await gateway.recorded()), (await gateway.recorded()).warnings) == ("Wanted", ())
    assert await gateway.due() == []
    # The lookup before the retry shows a rename that took effect without a response.
    again = [] if fault in {"cut-after-copy", "garbage"} else ["rename c1"]
    assert gateway.provider.calls == ["copy", "read c1", "rename c1", "read c1", *again]


async def test_warning_has_the_provider_s_newest_message(open_gateway: Open) -> None:
    gateway = await open_gateway(Named)
    gateway.provider.faults["rename"] += [503, 422]
    await gateway.copy()
    await gateway.check()
    record = await gateway.recorded()
    assert [(warning.code, warning.provider_message) for warning in record.warnings] == [
        (NAME_NOT_APPLIED, "Refused with 422")
    ]
    assert await gateway.due() == []


async def test_rename_that_hangs_delays_the_caller_only_up_to_the_timeout(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Named, timeout=20, completion_timeout=0.3)
    gateway.provider.faults["rename"].append("hang")
    began = monotonic()
    copy = await gateway.copy()
    # Without this timeout, the call would end with the transport's timeout.
    assert monotonic() - began < 15
    assert codes(copy) == [NAME_NOT_APPLIED]
    assert await gateway.check() == 1
    assert name(await gateway.recorded()) == "Wanted"


async def test_lookup_is_kept_when_the_rename_hangs(open_gateway: Open) -> None:
    gateway = await open_gateway(Named, timeout=20, completion_timeout=1)
    gateway.provider.response_fields = ("id",)
    gateway.provider.faults["rename"].append("hang")
    copy = await gateway.copy()
    assert (name(copy), codes(copy)) == ("Copy of source", [NAME_NOT_APPLIED])
    await gateway.check()
    assert name(await gateway.recorded()) == "Wanted"


@pytest.mark.parametrize(
    ("method", "after", "renames"),
    [
        # Between the copy and the rename, and between the rename and its record.
        ("settle", True, 0),
        ("update_copy", False, 1),
        ("update_copy", True, 1),
    ],
)
async def test_crash_around_the_rename_loses_nothing_and_repeats_no_copy(
    open_gateway: Open,
    ledger: Any,
    method: str,
    *,
    after: bool,
    renames: int,
) -> None:
    gateway = await open_gateway(Named, **AT_ONCE)
    received = halt(ledger, method, after=after)
    asking = asyncio.create_task(gateway.ask())
    await asyncio.wait_for(received.wait(), 40)
    assert gateway.provider.count("rename") == renames
    await gateway.crash()
    await asyncio.wait([asking])

    again = await gateway.ask()
    assert again.replayed
    assert again.duplication is not None
    assert again.duplication.status is DuplicationStatus.CREATED
    assert copy_id(again.duplication) == "c1"
    # The response contains only what is recorded, even if the provider has done more.
    assert (again.duplication.warnings == ()) is (method == "update_copy" and after)
    async with gateway.reconciling():
        await until_async(lambda: is_finished(gateway))
    assert name(await gateway.recorded()) == "Wanted"
    assert await gateway.due() == []
    assert gateway.provider.campaigns.keys() == {"c1"}
    assert gateway.provider.count("copy") == 1


async def is_finished(gateway: StubGateway) -> bool:
    return not (await gateway.recorded()).warnings


async def test_crash_during_the_rename_loses_nothing_and_repeats_no_copy(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Named, **AT_ONCE)
    received = gateway.provider.hang("rename")
    asking = asyncio.create_task(gateway.ask())
    await asyncio.wait_for(received.wait(), 40)
    await gateway.crash()
    await asyncio.wait([asking])
    assert copy_id(await gateway.recorded()) == "c1"
    async with gateway.reconciling():
        await until_async(lambda: is_finished(gateway))
    assert name(await gateway.recorded()) == "Wanted"
    assert gateway.provider.calls == ["copy", "read c1", "rename c1", "read c1", "rename c1"]


async def test_copy_is_found_by_search_after_a_crash_before_its_record(
    open_gateway: Open, ledger: Any
) -> None:
    gateway = await open_gateway(Found, **AT_ONCE)
    received = halt(ledger, "settle", after=False)
    asking = asyncio.create_task(gateway.ask())
    await asyncio.wait_for(received.wait(), 40)
    await gateway.crash()
    await asyncio.wait([asking])
    assert (await gateway.recorded()).status is DuplicationStatus.UNKNOWN
    async with gateway.reconciling():
        await until_async(gateway.is_created)
    record = await gateway.recorded()
    assert (copy_id(record), record.evidence) == ("c1", Evidence.INFERRED)
    assert codes(record) == [NAME_NOT_APPLIED]
    assert gateway.provider.count("copy") == 1


@pytest.mark.parametrize(("minutes", "goes_on"), [(9, True), (11, False)])
async def test_failed_step_is_retried_for_ten_minutes(
    open_gateway: Open, minutes: int, *, goes_on: bool
) -> None:
    """After that, people may have worked on the copy."""
    gateway = await open_gateway(Named)
    gateway.provider.add()
    await unfinished(gateway, datetime.now(UTC) - timedelta(minutes=minutes))
    gateway.provider.faults["rename"].append(500)
    # There is always one try, because the gateway may have been down during the ten minutes.
    assert await gateway.check() == 1
    assert codes(await gateway.recorded()) == [NAME_NOT_APPLIED]
    assert bool(await gateway.due()) is goes_on


@pytest.mark.parametrize("asked", [None, "Copy of source", " Copy of source\u00a0"])
async def test_copy_with_the_requested_name_is_not_renamed(
    open_gateway: Open, asked: str | None
) -> None:
    gateway = await open_gateway(Named)
    copy = await gateway.copy(StubInput(name=asked))
    # Providers trim names, so a rename for a space would be repeated for ever.
    assert (name(copy), copy.warnings) == ("Copy of source", ())
    assert gateway.provider.calls == ["copy"]
    assert await gateway.due() == []


async def test_connector_without_rename_leaves_the_copy_s_name(open_gateway: Open) -> None:
    gateway = await open_gateway(Reading)
    copy = await gateway.copy()
    assert (name(copy), copy.warnings) == ("Copy of source", ())
    assert gateway.provider.calls == ["copy"]


async def test_replay_shows_the_completed_copy(open_gateway: Open) -> None:
    gateway = await open_gateway(Named)
    gateway.provider.faults["rename"].append(500)
    assert codes(await gateway.copy()) == [NAME_NOT_APPLIED]
    assert codes(await gateway.copy()) == [NAME_NOT_APPLIED]
    await gateway.check()
    again = await gateway.ask()
    assert again.replayed
    assert again.duplication is not None
    assert (name(again.duplication), again.duplication.warnings) == ("Wanted", ())
    assert gateway.provider.count("copy") == 1


async def test_another_key_with_the_same_input_makes_another_copy(open_gateway: Open) -> None:
    gateway = await open_gateway(Named)
    first, second = await gateway.copy(key="first"), await gateway.copy(key="second")
    assert [copy_id(first), copy_id(second)] == ["c1", "c2"]
    first_calls, second_calls = (
        ["copy", f"read {campaign_id}", f"rename {campaign_id}"] for campaign_id in ("c1", "c2")
    )
    assert gateway.provider.calls == first_calls + second_calls


async def test_copy_with_only_an_id_is_looked_up(open_gateway: Open) -> None:
    gateway = await open_gateway(Reading)
    gateway.provider.response_fields = ("id",)
    copy = await gateway.copy()
    assert copy.campaign is not None
    assert (copy.campaign.name, copy.campaign.provider_status) == ("Copy of source", "PENDING")
    assert copy.warnings == ()
    assert gateway.provider.calls == ["copy", "read c1"]
    assert await gateway.recorded() == copy
    assert await gateway.due() == []


@pytest.mark.parametrize("fault", [500, 404, 429, "proxy", "cut-before-copy", "unreadable", "hang"])
@pytest.mark.usefixtures("only_new_connections")
async def test_copy_whose_lookup_failed_is_looked_up_later(
    open_gateway: Open, fault: int | str
) -> None:
    gateway = await open_gateway(Reading, timeout=timeout_for(fault))
    gateway.provider.response_fields = ("id",)
    gateway.provider.faults["read"].append(fault)
    copy = await gateway.copy()
    assert (copy_id(copy), name(copy), codes(copy)) == ("c1", None, [DETAILS_UNKNOWN])
    assert await gateway.check() == 1
    later = await gateway.recorded()
    assert (name(later), later.warnings) == ("Copy of source", ())
    assert await gateway.due() == []
    assert gateway.provider.count("copy") == 1


async def test_copy_that_got_its_name_meanwhile_is_not_renamed_again(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Named)

    async def somebody_names_it() -> None:
        gateway.provider.campaigns["c1"]["name"] = "Wanted"

    gateway.provider.meanwhile["read"] = somebody_names_it
    copy = await gateway.copy()
    assert (name(copy), copy.warnings) == ("Wanted", ())
    assert gateway.provider.calls == ["copy", "read c1"]


async def test_copy_whose_lookup_failed_is_renamed_anyway(open_gateway: Open) -> None:
    gateway = await open_gateway(Named)
    gateway.provider.response_fields = ("id",)
    gateway.provider.faults["read"].append(500)
    copy = await gateway.copy()
    assert (name(copy), codes(copy)) == ("Wanted", [DETAILS_UNKNOWN])
    await gateway.check()
    assert (name(await gateway.recorded()), codes(await gateway.recorded())) == ("Wanted", [])
    assert gateway.provider.calls == ["copy", "read c1", "rename c1", "read c1"]


async def test_copy_is_renamed_later_when_only_the_lookup_succeeded(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Named)
    gateway.provider.response_fields = ("id",)
    gateway.provider.faults["rename"].append(500)
    copy = await gateway.copy()
    assert (name(copy), codes(copy)) == ("Copy of source", [NAME_NOT_APPLIED])
    await gateway.check()
    assert (name(await gateway.recorded()), codes(await gateway.recorded())) == ("Wanted", [])
    assert gateway.provider.calls == ["copy", "read c1", "rename c1", "read c1", "rename c1"]


async def test_each_failed_step_is_done_once(open_gateway: Open) -> None:
    gateway = await open_gateway(Named)
    gateway.provider.response_fields = ("id",)
    gateway.provider.faults["rename"] += [500, 500]
    gateway.provider.faults["read"] += [500]
    assert set(codes(await gateway.copy())) == {NAME_NOT_APPLIED, DETAILS_UNKNOWN}
    await gateway.check()
    assert codes(await gateway.recorded()) == [NAME_NOT_APPLIED]
    await gateway.check()
    record = await gateway.recorded()
    assert (name(record), record.warnings) == ("Wanted", ())
    assert await gateway.due() == []
    assert gateway.provider.count("copy") == 1


async def test_ledger_failure_after_the_rename_repeats_the_steps_later(
    open_gateway: Open, ledger: Any
) -> None:
    gateway = await open_gateway(Named)
    ledger.failures = {"update_copy": 1}
    copy = await gateway.copy()
    assert (copy_id(copy), codes(copy)) == ("c1", [NAME_NOT_APPLIED])
    assert await gateway.recorded() == copy
    # The reconciler meets the same failure, and must continue after it.
    ledger.failures = {"update_copy": 1}
    assert await gateway.check() == 1
    assert await gateway.check() == 1
    assert (name(await gateway.recorded()), codes(await gateway.recorded())) == ("Wanted", [])
    assert gateway.provider.count("copy") == 1


async def test_completion_with_an_uncertain_commit_is_reported_as_recorded(
    open_gateway: Open, ledger: Any
) -> None:
    gateway = await open_gateway(Named)
    ledger.failures_after = {"update_copy": 1}
    copy = await gateway.copy()
    assert (copy.status, copy_id(copy)) == (DuplicationStatus.CREATED, "c1")
    # The caller's response may be older than the record, but never newer.
    assert name(await gateway.copy()) == "Wanted"


async def test_bug_in_the_completion_does_not_hide_the_copy(
    open_gateway: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await open_gateway(Named)

    def broken(*_: object) -> ProviderRequest:
        raise RuntimeError("a bug in a connector")

    with monkeypatch.context() as patched:
        patched.setattr(Renaming, "build_rename", broken)
        copy = await gateway.copy()
        assert (copy_id(copy), codes(copy)) == ("c1", [NAME_NOT_APPLIED])
        assert "a bug in a connector" in caplog.text
        assert await gateway.check() == 1
    assert await gateway.check() == 1
    assert (name(await gateway.recorded()), codes(await gateway.recorded())) == ("Wanted", [])


async def test_step_that_hits_a_bug_is_not_retried_for_ever(
    open_gateway: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await open_gateway(Named)
    await unfinished(gateway, datetime.now(UTC) - timedelta(minutes=11))

    def broken(*_: object) -> ProviderRequest:
        raise RuntimeError("a bug in a connector")

    monkeypatch.setattr(Renaming, "build_rename", broken)
    assert await gateway.check() == 1
    assert codes(await gateway.recorded()) == [NAME_NOT_APPLIED]
    assert await gateway.due() == []


async def test_recorded_input_of_another_version_postpones_the_check(
    open_gateway: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For example, a newer version has renamed a field of the provider's input."""

    @dataclass(frozen=True)
    class NewerInput:
        source_id: str

    gateway = await open_gateway(Named)
    await unfinished(gateway, NOW)
    monkeypatch.setattr(Copying, "Input", NewerInput)
    (due,) = await gateway.due()
    await reconciliation.check_one(gateway.accounts, gateway.ledger, due)
    assert "the recorded input is not a NewerInput" in caplog.text
    assert codes(await gateway.recorded()) == [NAME_NOT_APPLIED]


async def test_late_response_during_a_check_keeps_its_copy(
    open_gateway: Open,
) -> None:
    """A late response of the provider replaces the result of a search."""
    gateway = await open_gateway(Named)
    gateway.provider.add()
    record = await begun(gateway)
    await gateway.ledger.settle(record.intent, LOST, NOW, NOW)
    guess = completion.with_pending_warnings(
        recorded_call(gateway.account, record), Created(Campaign("c1", name="Copy of source"))
    )
    inferred = Evidence.INFERRED
    assert await gateway.ledger.settle_from_evidence(record, guess, inferred, NOW, NOW)

    async def respond_late() -> None:
        late = Created(Campaign("c2", name="Another"))
        await gateway.ledger.settle(record.intent, late, NOW, None)

    gateway.provider.meanwhile["rename"] = respond_late
    assert await gateway.check() == 1
    after = await gateway.recorded()
    assert (copy_id(after), name(after), after.warnings) == ("c2", "Another", ())
    assert after.evidence is Evidence.RESPONSE
    assert await gateway.due() == []


async def test_copy_found_by_search_is_not_renamed(open_gateway: Open) -> None:
    """It may belong to a person who copied the same campaign by hand."""
    gateway = await open_gateway(Found)
    gateway.provider.faults["copy"].append("cut-after-copy")
    await gateway.lose()
    assert await gateway.check() == 1
    record = await gateway.recorded()
    assert (copy_id(record), name(record)) == ("c1", "Copy of source")
    assert record.evidence is Evidence.INFERRED
    (left,) = record.warnings
    assert (left.code, left.is_final) == (NAME_NOT_APPLIED, True)
    assert "Rename it at Stub" in left.message
    assert await gateway.due() == []
    assert gateway.provider.count("rename") == 0
    assert gateway.provider.count("copy") == 1


async def test_copy_named_by_an_operator_is_not_renamed(open_gateway: Open) -> None:
    gateway = await open_gateway(Found)
    gateway.provider.faults["copy"].append("cut-before-copy")
    lost = await gateway.lose()
    other = gateway.provider.add("elsewhere", "By hand")
    await manual_resolution.resolve_as_created(
        gateway.ledger, lost.intent.id, Campaign(other), NOTE
    )
    # The operator chose this campaign, so its name is not changed.
    assert await gateway.due() == []
    assert (await gateway.recorded()).warnings == ()
    assert gateway.provider.count("rename") == 0


async def test_operator_s_resolution_during_a_search_is_kept(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Found)
    gateway.provider.faults["copy"].append("cut-after-copy")
    lost = await gateway.lose()
    other = gateway.provider.add("elsewhere", "By hand")

    async def resolve() -> None:
        await manual_resolution.resolve_as_created(
            gateway.ledger, lost.intent.id, Campaign(other), NOTE
        )

    gateway.provider.meanwhile["list"] = resolve
    assert await gateway.check() == 1
    record = await gateway.recorded()
    assert (copy_id(record), record.evidence) == (other, Evidence.OPERATOR)
    assert await gateway.due() == []
    assert gateway.provider.count("rename") == 0


@pytest.mark.parametrize("asked", [None, "Wanted"])
async def test_lost_copy_is_found_by_its_source_id(open_gateway: Open, asked: str | None) -> None:
    gateway = await open_gateway(Found)
    gateway.provider.add("elsewhere", "Wanted")
    gateway.provider.faults["copy"].append("cut-after-copy")
    await gateway.lose(StubInput(name=asked))
    await gateway.check()
    record = await gateway.recorded()
    assert (record.status, copy_id(record)) == (DuplicationStatus.CREATED, "c2")
    assert codes(record) == ([NAME_NOT_APPLIED] if asked else [])


async def test_copy_of_another_source_is_not_matched_by_name(open_gateway: Open) -> None:
    gateway = await open_gateway(Found)
    gateway.provider.faults["copy"].append("cut-before-copy")
    await gateway.lose()
    gateway.provider.add("elsewhere", "Wanted")
    assert await gateway.check() == 1
    record = await gateway.recorded()
    assert (record.status, record.candidates) == (DuplicationStatus.UNKNOWN, ())


async def test_copy_without_a_source_id_is_found_by_its_name_only(open_gateway: Open) -> None:
    gateway = await open_gateway(FoundByName)
    gateway.provider.faults["copy"] += ["cut-after-copy", "cut-after-copy"]
    await gateway.lose(StubInput(name=None), key="unnamed")
    await gateway.lose(StubInput(name="Copy of source"), key="named")
    gateway.provider.campaigns["c1"]["name"] = "Older"
    assert await gateway.check() == 2
    assert (await gateway.recorded("unnamed")).status is DuplicationStatus.UNKNOWN
    assert copy_id(await gateway.recorded("named")) == "c2"
    # A copy without a name cannot be found, so the provider is not asked for it.
    assert gateway.provider.count("list") == 1


async def test_copy_that_needs_a_rename_is_not_searched_by_name(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(NamedAndListed)
    gateway.provider.faults["copy"].append("cut-after-copy")
    await gateway.lose()
    # The campaign with the name is one that a person made instead of the lost copy.
    gateway.provider.add("source", "Wanted")
    assert await gateway.check() == 1
    assert (await gateway.recorded()).status is DuplicationStatus.UNKNOWN
    assert gateway.provider.count("list") == 0


@pytest.mark.parametrize("asked", [None, "Wanted"])
async def test_copy_without_a_creation_time_is_the_one_that_did_not_exist_before(
    open_gateway: Open, asked: str | None
) -> None:
    gateway = await open_gateway(FoundWithoutAges)
    gateway.provider.add()
    gateway.provider.faults["copy"].append("cut-after-copy")
    await gateway.lose(StubInput(name=asked))
    await gateway.check()
    assert copy_id(await gateway.recorded()) == "c2"


@pytest.mark.parametrize("asked", [None, "Wanted"])
async def test_copy_with_the_name_of_its_provider_is_the_one_that_did_not_exist_before(
    open_gateway: Open, asked: str | None
) -> None:
    gateway = await open_gateway(NamedByProviderWithoutAges)
    source = gateway.provider.add(name="c1")
    assert gateway.provider.add(source) == "c2"
    gateway.provider.faults["copy"].append("cut-after-copy")
    await gateway.lose(StubInput(campaign_id=source, name=asked))
    await gateway.check()
    assert copy_id(await gateway.recorded()) == "c3"


@pytest.mark.parametrize("second", ["cut-before-copy", "cut-after-copy"])
async def test_two_different_intents_on_one_source_get_no_copy_by_search(
    open_gateway: Open, second: str
) -> None:
    """Nothing shows which copy belongs to which intent, and a wrong copy would be renamed."""
    gateway = await open_gateway(Found)
    gateway.provider.faults["copy"] += ["cut-after-copy", second]
    await gateway.lose(StubInput(name="One"), key="one")
    await gateway.lose(StubInput(name="Other"), key="other")
    assert await gateway.check() == 2
    for key in ("one", "other"):
        record = await gateway.recorded(key)
        assert record.status is DuplicationStatus.UNKNOWN
        assert {
            candidate.id for candidate in record.candidates
        } == gateway.provider.campaigns.keys()
    assert gateway.provider.count("rename") == 0


async def test_copy_of_another_intent_leaves_the_other_candidate(open_gateway: Open) -> None:
    gateway = await open_gateway(Found)
    gateway.provider.faults["copy"] += ["cut-after-copy", None]
    await gateway.lose(StubInput(name="One"), key="one")
    await gateway.copy(StubInput(name="Other"), key="other")
    await gateway.check()
    await gateway.check()
    assert [copy_id(await gateway.recorded(key)) for key in ("one", "other")] == ["c1", "c2"]
    names = [campaign["name"] for campaign in gateway.provider.campaigns.values()]
    assert names == ["Copy of source", "Other"]


async def test_call_in_progress_on_the_same_source_competes(open_gateway: Open) -> None:
    gateway = await open_gateway(Found)
    gateway.provider.faults["copy"].append("cut-before-copy")
    await gateway.lose(StubInput(name="One"), key="one")
    other = await begun(gateway, "other", datetime.now(UTC), name="Other")
    gateway.provider.add()
    await gateway.check()
    assert (await gateway.recorded("one")).status is DuplicationStatus.UNKNOWN
    # After that its copy is known, and the first intent still has none.
    await gateway.ledger.settle(other.intent, Created(Campaign("c1")), NOW, None)
    await gateway.check()
    assert (await gateway.recorded("one")).status is DuplicationStatus.UNKNOWN


async def test_identical_intents_get_the_copies_of_their_source_by_age(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Found)
    gateway.provider.faults["copy"] += ["cut-after-copy", "cut-after-copy"]
    first = await gateway.lose(key="first")
    await gateway.ask(key="second", override_of=first.intent.id)
    await gateway.check()
    await gateway.check()
    assert [copy_id(await gateway.recorded(key)) for key in ("first", "second")] == ["c1", "c2"]
    assert gateway.provider.count("rename") == 0


async def test_copy_of_a_removed_account_is_not_completed_at_another(open_gateway: Open) -> None:
    gateway = await open_gateway(Named)
    gateway.provider.faults["rename"].append(500)
    await gateway.copy()
    (due,) = await gateway.due()
    await gateway.ledger.postpone(due, due.requested_at, ())
    timing = Timing(reconcile_interval=0.01)
    reading = asyncio.create_task(reconciliation.reconcile({}, gateway.ledger, timing))
    await asyncio.sleep(0.3)
    reading.cancel()
    await asyncio.wait([reading])
    assert codes(await gateway.recorded()) == [NAME_NOT_APPLIED]
    assert gateway.provider.count("rename") == 1
    assert await gateway.check() == 1
    assert name(await gateway.recorded()) == "Wanted"


async def test_draining_gateway_waits_for_the_completion(open_gateway: Open) -> None:
    gateway = await open_gateway(Named)
    received, may_continue = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        received.set()
        await may_continue.wait()

    gateway.provider.meanwhile["rename"] = hold
    asking = asyncio.create_task(gateway.ask())
    await asyncio.wait_for(received.wait(), 40)
    draining = asyncio.create_task(gateway.duplicator.drain())
    # Any end before the rename is too early, so this wait can be short.
    await asyncio.wait([draining], timeout=0.2)
    assert not draining.done()
    may_continue.set()
    await asyncio.wait_for(draining, 40)
    assert name(await gateway.recorded()) == "Wanted"
    assert (await asking).error is None


async def test_draining_gateway_does_not_wait_for_a_rename_that_hangs(open_gateway: Open) -> None:
    gateway = await open_gateway(Named, timeout=20, completion_timeout=0.5)
    received = gateway.provider.hang("rename")
    asking = asyncio.create_task(gateway.ask())
    await asyncio.wait_for(received.wait(), 40)
    async with asyncio.timeout(5):
        await gateway.duplicator.drain()
    result = await asking
    assert result.duplication is not None
    assert (copy_id(result.duplication), codes(result.duplication)) == ("c1", [NAME_NOT_APPLIED])


async def test_caller_at_the_deadline_gets_the_copy_while_it_is_renamed(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Named)
    may_continue = asyncio.Event()

    async def hold() -> None:
        await may_continue.wait()

    gateway.provider.meanwhile["rename"] = hold
    hasty = OpenDuplicator(gateway.accounts, gateway.ledger, deadline=3)
    result = await hasty.ask("k", "stub", StubInput())
    assert result.duplication is not None
    assert (copy_id(result.duplication), codes(result.duplication)) == ("c1", [NAME_NOT_APPLIED])
    assert not result.replayed
    may_continue.set()
    await hasty.drain()
    assert name(await gateway.recorded()) == "Wanted"
