"""What an operator's results do to the search for a copy, and to callers who ask again."""

from collections.abc import Awaitable, Callable

import pytest

from campaign_gateway.duplication import manual_resolution
from campaign_gateway.duplication.manual_resolution import CannotResolve
from campaign_gateway.duplication.service import DuplicationResult
from campaign_gateway.model import (
    Campaign,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    OperatorNote,
    Retry,
)
from support.stub_provider import (
    Copying,
    Found,
    NamedAndListed,
    StubGateway,
    StubInput,
    Tracked,
)

NOTE = OperatorNote("ann", "seen in the list")

Open = Callable[..., Awaitable[StubGateway]]


def retry_of(result: DuplicationResult) -> Retry:
    assert result.duplication is not None
    assert result.duplication.error is not None
    return result.duplication.error.retry(is_recorded=True)


async def test_withdrawn_result_blocks_the_same_copy_and_is_searched_again(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Found)
    gateway.provider.faults["copy"].append("cut-after-copy")
    lost = await gateway.lose()
    await manual_resolution.resolve_as_not_created(gateway.ledger, lost.intent.id, NOTE)
    assert retry_of(await gateway.ask()) is Retry.NEW_KEY
    await manual_resolution.withdraw(gateway.ledger.ledger, await gateway.recorded(), NOTE)
    # The same key was REJECTED a moment ago. The caller who follows NEW_KEY only now is held back.
    again = await gateway.ask()
    assert again.replayed
    assert retry_of(again) is Retry.WAIT
    blocked = await gateway.ask(key="new")
    assert blocked.error is not None
    assert blocked.error.code is ErrorCode.UNRESOLVED_DUPLICATION
    assert await gateway.check() == 1
    found = await gateway.recorded()
    assert (found.status, found.evidence) == (DuplicationStatus.CREATED, Evidence.INFERRED)
    assert gateway.provider.count("copy") == 1
    with pytest.raises(CannotResolve, match="no operator recorded this result"):
        await manual_resolution.withdraw(gateway.ledger.ledger, await gateway.recorded(), NOTE)


async def test_provider_s_job_is_followed_again_after_a_withdrawn_result(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Tracked)
    job = await gateway.copy()
    assert job.status is DuplicationStatus.ACCEPTED
    await manual_resolution.resolve_as_not_created(gateway.ledger, job.intent.id, NOTE)
    await manual_resolution.withdraw(gateway.ledger.ledger, await gateway.recorded(), NOTE)
    assert await gateway.check() == 1
    assert (await gateway.recorded()).status is DuplicationStatus.UNKNOWN
    assert job.campaign is not None
    gateway.provider.campaigns[job.campaign.id]["state"] = "COMPLETE"
    assert await gateway.check() == 1
    made = await gateway.recorded()
    assert (made.status, made.evidence) == (DuplicationStatus.CREATED, Evidence.RESPONSE)
    assert made.campaign is not None
    assert made.campaign.id == job.campaign.id


async def test_result_is_refused_if_another_was_recorded_during_the_question(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Found)
    gateway.provider.faults["copy"].append("cut-after-copy")
    lost = await gateway.lose()
    await gateway.check()
    for recording in (
        manual_resolution.resolve_as_created(gateway.ledger, lost.intent.id, Campaign("x"), NOTE),
        manual_resolution.resolve_as_not_created(gateway.ledger, lost.intent.id, NOTE),
    ):
        with pytest.raises(CannotResolve, match="is already CREATED"):
            await recording


async def test_operator_withdraws_only_the_result_that_was_shown(open_gateway: Open) -> None:
    gateway = await open_gateway(Copying)
    gateway.provider.faults["copy"].append("cut-after-copy")
    lost, ledger = await gateway.lose(), gateway.ledger.ledger
    await manual_resolution.resolve_as_not_created(ledger, lost.intent.id, NOTE)
    shown = await gateway.recorded()
    await manual_resolution.withdraw(ledger, shown, NOTE)
    await manual_resolution.resolve_as_created(ledger, lost.intent.id, Campaign("c1"), NOTE)
    with pytest.raises(CannotResolve, match="was changed just now"):
        await manual_resolution.withdraw(ledger, shown, NOTE)
    assert (await gateway.recorded()).status is DuplicationStatus.CREATED


async def test_provider_without_lookup_is_not_asked(open_gateway: Open) -> None:
    gateway = await open_gateway(Copying)
    gateway.provider.faults["copy"].append("cut-after-copy")
    lost = await gateway.lose()
    with pytest.raises(CannotResolve, match=r"Stub has no call that reads one campaign.*unchecked"):
        await manual_resolution.read_copy(gateway.account, lost, "c1")
    ledger = gateway.ledger
    assert await manual_resolution.search_candidates(gateway.account, ledger, lost) is None


async def test_candidates_are_what_a_search_finds_now(open_gateway: Open) -> None:
    gateway = await open_gateway(Found)
    gateway.provider.faults["copy"].append("cut-after-copy")
    lost = await gateway.lose()
    gateway.provider.add("elsewhere")

    async def candidates() -> list[str]:
        searched = await manual_resolution.search_candidates(gateway.account, gateway.ledger, lost)
        assert searched is not None
        return [campaign.id for campaign in searched]

    assert await candidates() == ["c1"]
    gateway.provider.add(name="By hand")
    assert await candidates() == ["c1", "c3"]
    gateway.provider.faults["list"].append(500)
    with pytest.raises(CannotResolve, match=r"Stub could not be searched: .*unchecked"):
        await candidates()


@pytest.mark.parametrize(
    ("campaign", "doubt"),
    [
        (Campaign("c1", "Another name", copied_from="source"), None),
        (Campaign("c1", "Wanted", copied_from="elsewhere"), "is a copy of elsewhere"),
    ],
)
async def test_source_counts_more_than_a_name_that_the_provider_chooses(
    open_gateway: Open, campaign: Campaign, doubt: str | None
) -> None:
    gateway = await open_gateway(NamedAndListed)
    gateway.provider.faults["copy"].append("cut-after-copy")
    lost = await gateway.lose(StubInput(name="Wanted"))
    account, ledger = gateway.account, gateway.ledger
    doubts = list(manual_resolution.doubts_about_copy(account, ledger, lost, campaign))
    assert len(doubts) == (doubt is not None)
    assert all(doubt is not None and doubt in each for each in doubts)
