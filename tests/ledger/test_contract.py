"""What every ledger promises, tested on a real file and on a real database."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger import ledger as ledger_module
from campaign_gateway.ledger.engine import Cursor, KeyConflict
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.ledger.ledger import Begun, Blocked, KeyHeld, NothingToOverride
from campaign_gateway.model import (
    Accepted,
    Campaign,
    CampaignStatus,
    CopyWarning,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Intent,
    Outcome,
    Rejected,
    Selection,
    Unknown,
    Unsettled,
    UserError,
    WarningCode,
)
from support.ledgers import as_listed

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
COPY = Campaign(
    id="c9",
    name="Copy",
    description="",
    status=CampaignStatus.DRAFT,
    provider_status="draft",
    tags=("a", "b"),
    created_at=NOW,
)
LEFT = CopyWarning(WarningCode.NAME_NOT_APPLIED, "It has another name.", "Bad title")
UNKNOWN = Unknown(UserError(ErrorCode.OUTCOME_UNKNOWN, "no response"))
REJECTED = Rejected(
    UserError(ErrorCode.RATE_LIMITED, "slow down", ("input", "braze"), 30, "429", "Slow!"), "trace"
)

MakeIntent = Callable[..., Intent]
Open = Callable[..., Awaitable[Ledger]]


async def begun(ledger: Ledger, intent: Intent) -> Duplication:
    assert await ledger.begin(intent, NOW, None) == Begun()
    return await stored(ledger, intent)


async def stored(ledger: Ledger, intent: Intent) -> Duplication:
    duplication = await ledger.get(None, intent.id)
    assert duplication is not None
    return duplication


async def settled(ledger: Ledger, intent: Intent, outcome: Outcome) -> Duplication:
    await ledger.begin(intent, NOW, None)
    return await ledger.settle(intent, outcome, NOW, NOW)


async def test_second_attempt_with_a_key_conflicts(ledger: Ledger, intent: MakeIntent) -> None:
    mine, other = intent("k"), intent("k")
    assert await ledger.begin(mine, NOW, None) == Begun()
    result = await ledger.begin(other, LATER, None)

    assert isinstance(result, KeyHeld)
    holder = result.record
    assert holder.intent == mine
    assert holder.status is DuplicationStatus.IN_PROGRESS
    assert holder.requested_at == NOW
    assert await ledger.find("everyone", "k") == holder
    assert await ledger.get("everyone", mine.id) == holder


async def test_repeated_begin_of_an_attempt_changes_nothing(
    ledger: Ledger, intent: MakeIntent
) -> None:
    mine = intent("k")
    assert await ledger.begin(mine, NOW, None) == Begun()
    assert await ledger.begin(mine, LATER, None) == Begun()
    assert (await stored(ledger, mine)).requested_at == NOW


async def test_one_of_a_hundred_concurrent_attempts_with_a_key_begins(
    ledger: Ledger, intent: MakeIntent
) -> None:
    attempts = [ledger.begin(intent("k"), NOW, None) for _ in range(100)]
    results = await asyncio.gather(*attempts)
    assert results.count(Begun()) == 1
    assert sum(isinstance(result, KeyHeld) for result in results) == 99


async def test_records_are_visible_in_their_scope_only(ledger: Ledger, intent: MakeIntent) -> None:
    ours = await begun(ledger, intent("k"))
    theirs = await begun(ledger, intent("k", scope="others"))
    assert await ledger.find("everyone", "k") == ours
    assert await ledger.find("others", "k") == theirs
    assert await ledger.find("nobody", "k") is None
    assert await ledger.get("others", ours.intent.id) is None
    assert await ledger.list("others", Selection(), 10, None) == [as_listed(theirs)]
    assert await ledger.list(None, Selection(), 10, None) == [as_listed(theirs), as_listed(ours)]
    ids = {ours.intent.id, theirs.intent.id, "unknown"}
    assert await ledger.get_all("everyone", ids) == [as_listed(ours)]
    assert await ledger.get_all("everyone", []) == []


async def test_each_outcome_is_read_as_it_was_recorded(ledger: Ledger, intent: MakeIntent) -> None:
    outcomes: list[tuple[Outcome, DuplicationStatus, datetime | None]] = [
        (Created(COPY, "trace"), DuplicationStatus.CREATED, LATER),
        (Accepted("trace"), DuplicationStatus.ACCEPTED, None),
        (REJECTED, DuplicationStatus.REJECTED, LATER),
        (UNKNOWN, DuplicationStatus.UNKNOWN, None),
    ]
    for outcome, status, settled_at in outcomes:
        mine = intent(status)
        await ledger.begin(mine, NOW, ("c7", "c8"))
        record = await ledger.settle(mine, outcome, LATER, None)
        assert record.intent == mine
        assert record.preexisting_ids == ("c7", "c8")
        assert record.status is status
        assert record.settled_at == settled_at
        assert record.provider_trace_id == outcome.trace_id
        assert record.campaign == (COPY if isinstance(outcome, Created) else None)
        assert record.error == getattr(outcome, "error", None)
        expected = None if status is DuplicationStatus.UNKNOWN else Evidence.RESPONSE
        assert record.evidence is expected
        assert await ledger.get("everyone", mine.id) == record


async def test_another_attempt_id_cannot_settle(ledger: Ledger, intent: MakeIntent) -> None:
    mine = intent("k")
    await ledger.begin(mine, NOW, None)
    stranger = replace(mine, attempt_id="another")
    await ledger.settle(stranger, Created(COPY), LATER, None)
    assert (await stored(ledger, mine)).status is DuplicationStatus.IN_PROGRESS


async def test_settled_record_keeps_its_status(ledger: Ledger, intent: MakeIntent) -> None:
    mine = intent("k")
    await settled(ledger, mine, UNKNOWN)
    late = await ledger.settle(mine, Created(COPY), LATER, None)
    assert late.status is DuplicationStatus.CREATED
    assert late.error is None
    others: list[Outcome] = [UNKNOWN, REJECTED, Accepted(), Created(replace(COPY, id="other"))]
    for outcome in others:
        assert await ledger.settle(mine, outcome, LATER, LATER) == late
    other = replace(COPY, id="other")
    assert not await ledger.settle_from_evidence(
        late, Created(other), Evidence.INFERRED, LATER, None
    )
    assert not await ledger.settle_as_not_created(late, UNKNOWN.error, LATER)
    await ledger.postpone(late, LATER, [other])
    assert await ledger.find("everyone", "k") == late


async def test_late_response_overwrites_weaker_evidence(ledger: Ledger, intent: MakeIntent) -> None:
    """The response arrives after a search or an operator has settled the duplication."""
    read, absent = intent("read"), intent("absent", requested_name="Other")
    was_read, was_absent = [await settled(ledger, intent, UNKNOWN) for intent in (read, absent)]
    guess = replace(COPY, id="guess")
    assert await ledger.settle_from_evidence(was_read, Created(guess), Evidence.INFERRED, NOW, None)
    assert await ledger.settle_as_not_created(was_absent, UNKNOWN.error, NOW)
    for outcome in (UNKNOWN, Accepted()):
        unmoved = await ledger.settle(read, outcome, LATER, LATER)
        assert unmoved.campaign == guess
    for settled_intent, name in ((read, "c10"), (absent, "c11")):
        late = await ledger.settle(settled_intent, Created(replace(COPY, id=name)), LATER, None)
        assert late.evidence is Evidence.RESPONSE
        assert late.campaign is not None
        assert late.campaign.id == name


async def test_outcome_of_a_vanished_record_is_recorded(ledger: Ledger, intent: MakeIntent) -> None:
    """The cause may be a failover to a replica of the database that lags behind."""
    mine = intent("k")
    record = await ledger.settle(mine, Created(COPY), LATER, None, ("c7", "c8"))
    assert record.status is DuplicationStatus.CREATED
    assert record.preexisting_ids == ("c7", "c8")
    assert await ledger.find("everyone", "k") == record
    with pytest.raises(KeyConflict) as taken:
        await ledger.settle(intent("k"), Created(COPY), LATER, None)
    assert taken.value.duplication == record


async def test_only_the_attempt_itself_is_marked_as_never_sent(
    ledger: Ledger, intent: MakeIntent
) -> None:
    error = UserError(ErrorCode.OVERLOADED, "never sent")
    mine, stranger, done = intent("k"), intent("k"), intent("done", requested_name="Done")
    await ledger.begin(mine, NOW, None)
    await ledger.mark_never_sent(stranger, error, NOW)
    assert (await stored(ledger, mine)).status is DuplicationStatus.IN_PROGRESS
    await ledger.mark_never_sent(mine, error, LATER)
    never_sent = await stored(ledger, mine)
    assert (never_sent.status, never_sent.error) == (DuplicationStatus.REJECTED, error)
    assert never_sent.settled_at == LATER
    settled_before = await settled(ledger, done, Created(COPY))
    await ledger.mark_never_sent(done, error, LATER)
    assert await stored(ledger, done) == settled_before


async def test_attempt_marked_as_never_sent_cannot_begin_later(
    ledger: Ledger, intent: MakeIntent
) -> None:
    """The database may execute an uncertain INSERT after its sender has marked the attempt."""
    mine = intent("k")
    await ledger.mark_never_sent(mine, UserError(ErrorCode.OVERLOADED, "never sent"), NOW)
    never_sent = await stored(ledger, mine)
    assert never_sent.status is DuplicationStatus.REJECTED
    assert await ledger.begin(mine, LATER, None) == KeyHeld(never_sent)
    assert await stored(ledger, mine) == never_sent


async def test_unknown_duplication_blocks_the_same_copy_with_a_new_key(
    ledger: Ledger, intent: MakeIntent
) -> None:
    unknown = await settled(ledger, intent("first"), UNKNOWN)
    for again in (intent("again"), intent("spaces", requested_name=" Copy\u2003")):
        assert await ledger.begin(again, NOW, None) == Blocked(unknown)
        assert await ledger.get(None, again.id) is None
    theirs = intent("theirs", scope="others")
    assert await ledger.begin(theirs, NOW, None) == Blocked(unknown)
    others: dict[str, dict[str, str | None]] = {
        "name": {"requested_name": "Another"},
        "no name": {"requested_name": None},
        "source": {"source_campaign_id": "c2"},
        "account": {"account": "braze-2"},
    }
    for key, changes in others.items():
        assert await ledger.begin(intent(key, **changes), NOW, None) == Begun()
    assert await ledger.settle_from_evidence(unknown, Created(COPY), Evidence.INFERRED, LATER, None)
    assert await ledger.begin(intent("again"), NOW, None) == Begun()


async def test_unknown_duplication_without_a_name_blocks_the_same_copy(
    ledger: Ledger, intent: MakeIntent
) -> None:
    unknown = await settled(ledger, intent("first", requested_name=None), UNKNOWN)
    again = intent("again", requested_name=None)
    assert await ledger.begin(again, NOW, None) == Blocked(unknown)


@pytest.mark.parametrize("outcome", [Accepted(), REJECTED, Created(COPY)])
async def test_settled_or_accepted_duplication_does_not_block(
    ledger: Ledger, intent: MakeIntent, outcome: Outcome
) -> None:
    await settled(ledger, intent("first"), outcome)
    assert await ledger.begin(intent("under way"), NOW, None) == Begun()
    assert await ledger.begin(intent("again"), NOW, None) == Begun()


async def test_override_must_name_the_newest_unknown_duplication(
    ledger: Ledger, intent: MakeIntent
) -> None:
    first = await settled(ledger, intent("first"), UNKNOWN)
    second = await settled(ledger, intent("second", override_of=first.intent.id), UNKNOWN)
    for outdated in (None, first.intent.id, new_id()):
        third = intent("third", override_of=outdated)
        assert await ledger.begin(third, NOW, None) == Blocked(second)
    third = intent("third", override_of=second.intent.id)
    assert await ledger.begin(third, NOW, None) == Begun()


async def test_override_cannot_name_a_duplication_of_another_scope(
    ledger: Ledger, intent: MakeIntent
) -> None:
    unknown = await settled(ledger, intent("first"), UNKNOWN)
    for named in (None, new_id(), unknown.intent.id):
        theirs = intent("theirs", scope="others", override_of=named)
        assert await ledger.begin(theirs, NOW, None) == Blocked(unknown)
    await ledger.settle(unknown.intent, REJECTED, NOW, None)
    for named in (new_id(), unknown.intent.id):
        theirs = intent("theirs", scope="others", override_of=named)
        assert await ledger.begin(theirs, NOW, None) == NothingToOverride()


async def test_newer_duplication_of_another_scope_prevents_an_override(
    ledger: Ledger, intent: MakeIntent
) -> None:
    mine, theirs = intent("mine"), intent("theirs", scope="others")
    for each in (mine, theirs):
        assert await ledger.begin(each, NOW, None) == Begun()
    for each in (mine, theirs):
        await ledger.settle(each, UNKNOWN, NOW, None)
    again = intent("again", override_of=mine.id)
    blocked = await ledger.begin(again, NOW, None)
    assert isinstance(blocked, Blocked)
    assert blocked.record.intent == theirs


@pytest.mark.parametrize("outcome", [Accepted(), Created(COPY), None])
async def test_unknown_duplication_is_overridden_once(
    ledger: Ledger, intent: MakeIntent, outcome: Outcome | None
) -> None:
    unknown = await settled(ledger, intent("first"), UNKNOWN)
    again = [intent(f"k{number}", override_of=unknown.intent.id) for number in range(20)]
    results = await asyncio.gather(*(ledger.begin(retried, NOW, None) for retried in again))
    assert results.count(Begun()) == 1
    assert results.count(Blocked(unknown)) == 19
    if outcome is not None:
        winner = await ledger.find("everyone", f"k{results.index(Begun())}")
        assert winner is not None
        await ledger.settle(winner.intent, outcome, NOW, None)
    more = intent("more", override_of=unknown.intent.id)
    assert await ledger.begin(more, NOW, None) == Blocked(unknown)


async def test_rejected_override_can_be_repeated(ledger: Ledger, intent: MakeIntent) -> None:
    unknown = await settled(ledger, intent("first"), UNKNOWN)
    refused, never_sent, more = (
        intent(key, override_of=unknown.intent.id) for key in ("refused", "never_sent", "more")
    )
    assert await ledger.begin(refused, NOW, None) == Begun()
    await ledger.settle(refused, REJECTED, NOW, None)
    assert await ledger.begin(never_sent, NOW, None) == Begun()
    await ledger.mark_never_sent(never_sent, UNKNOWN.error, NOW)
    assert await ledger.begin(more, NOW, None) == Begun()


async def test_name_of_9000_characters_is_stored(ledger: Ledger, intent: MakeIntent) -> None:
    name = "".join(chr(0x4E00 + number) for number in range(9000))
    record = await settled(ledger, intent("long", requested_name=name), UNKNOWN)
    assert record.intent.requested_name == name
    assert await ledger.competing(record) == [record]


async def test_intent_begins_if_the_blocking_duplication_is_settled_meanwhile(
    ledger: Ledger, intent: MakeIntent, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = await settled(ledger, intent("first"), UNKNOWN)
    find_one = ledger._one

    async def settle_and_find_one(statement: str, values: Mapping[str, object]) -> object:
        monkeypatch.setattr(ledger, "_one", find_one)
        await ledger.settle_from_evidence(unknown, Created(COPY), Evidence.INFERRED, NOW, None)
        return await find_one(statement, values)

    monkeypatch.setattr(ledger, "_one", settle_and_find_one)
    record = await begun(ledger, intent("again"))
    assert record.status is DuplicationStatus.IN_PROGRESS


async def test_override_of_a_duplication_that_does_not_block_is_refused(
    ledger: Ledger, intent: MakeIntent
) -> None:
    mine = intent("k", override_of=new_id())
    assert await ledger.begin(mine, NOW, None) == NothingToOverride()
    assert await ledger.find("everyone", "k") is None


async def test_search_settles_accepted_and_unknown_duplications(
    ledger: Ledger, intent: MakeIntent
) -> None:
    unsettled: list[Outcome] = [Accepted(), UNKNOWN]
    for number, outcome in enumerate(unsettled):
        record = await settled(ledger, intent(f"k{number}"), outcome)
        copy = replace(COPY, id=f"c1{number}")
        assert await ledger.settle_from_evidence(
            record, Created(copy), Evidence.INFERRED, LATER, None
        )
        read = await stored(ledger, record.intent)
        assert read.status is DuplicationStatus.CREATED
        assert read.campaign == copy
        assert read.evidence is Evidence.INFERRED
        assert read.error is None
        assert read.settled_at == LATER
    assert await ledger.claim_due("braze", LATER, 10, LATER) == []
    assert await ledger.known_copies("rest.example.com", ["c10", "c11", "c2"]) == {"c10", "c11"}
    assert await ledger.known_copies("other.example.com", ["c10"]) == frozenset()
    assert await ledger.known_copies("rest.example.com", []) == frozenset()


async def test_accepted_duplication_with_a_known_copy_is_settled(
    ledger: Ledger, intent: MakeIntent
) -> None:
    outcomes: dict[str, Outcome] = {
        "made": Created(replace(COPY, id="made"), "T-2", (LEFT,)),
        "failed": replace(REJECTED, trace_id=None),
    }
    for key, outcome in outcomes.items():
        copy_to_be = Campaign(key, name="Copy")
        accepted = await settled(ledger, intent(key), Accepted("T-1", copy_to_be))
        assert (accepted.status, accepted.campaign) == (DuplicationStatus.ACCEPTED, copy_to_be)
        assert accepted.settled_at is None
        assert [
            record.intent.key for record in await ledger.claim_due("braze", LATER, 10, LATER)
        ] == [key]
        # A duplication with a known copy does not compete for other campaigns.
        assert await ledger.known_copies("rest.example.com", [key]) == {key}
        late = await ledger.settle(accepted.intent, outcome, LATER, None)
        assert late.evidence is Evidence.RESPONSE
        assert late.settled_at == LATER
        if isinstance(outcome, Created):
            assert (late.campaign, late.warnings) == (outcome.campaign, (LEFT,))
            assert late.provider_trace_id == "T-2"
        else:
            assert (late.campaign, late.error) == (None, REJECTED.error)
            assert late.provider_trace_id == "T-1"
            assert await ledger.known_copies("rest.example.com", [key]) == frozenset()


async def test_operator_settles_an_accepted_duplication_with_a_known_copy(
    ledger: Ledger, intent: MakeIntent
) -> None:
    accepted = await settled(ledger, intent("k"), Accepted(campaign=COPY))
    settled_by = await ledger.settle_from_evidence(
        accepted, Created(COPY), Evidence.OPERATOR, LATER, None
    )
    assert settled_by is not None
    assert settled_by.status is DuplicationStatus.CREATED
    absent = await settled(ledger, intent("absent"), Accepted(campaign=replace(COPY, id="c10")))
    assert await ledger.settle_as_not_created(absent, REJECTED.error, LATER)
    assert (await stored(ledger, absent.intent)).campaign is None


async def test_copy_is_updated_while_the_record_names_it(
    ledger: Ledger, intent: MakeIntent
) -> None:
    mine = intent("k")
    await ledger.begin(mine, NOW, None)
    record = await ledger.settle(mine, Created(COPY, "T-1", (LEFT,)), NOW, LATER)
    assert record.warnings == (LEFT,)
    (due,) = await ledger.claim_due("braze", LATER, 10, LATER + timedelta(seconds=9))
    assert (due.intent, due.status) == (mine, DuplicationStatus.CREATED)
    named = replace(COPY, name="Named")
    amended = await ledger.update_copy(due, Created(named), None)
    assert amended is not None
    assert amended == await ledger.find("everyone", "k")
    assert (amended.campaign, amended.warnings, amended.checks) == (named, (), 1)
    assert (amended.settled_at, amended.provider_trace_id) == (NOW, "T-1")
    assert amended.evidence is Evidence.RESPONSE
    assert await ledger.claim_due("braze", LATER + timedelta(hours=1), 10, LATER) == []
    other = Created(replace(COPY, id="other"))
    assert await ledger.update_copy(amended, other, LATER) is None
    unknown = await settled(ledger, intent("lost", requested_name="Lost"), UNKNOWN)
    assert await ledger.update_copy(unknown, other, LATER) is None
    assert await ledger.find("everyone", "lost") == unknown
    assert await ledger.find("everyone", "k") == amended


async def test_campaign_is_the_copy_of_one_duplication(ledger: Ledger, intent: MakeIntent) -> None:
    await settled(ledger, intent("made"), Created(COPY))
    unknown = await settled(ledger, intent("lost"), UNKNOWN)
    assert not await ledger.settle_from_evidence(
        unknown, Created(COPY), Evidence.INFERRED, LATER, None
    )
    assert await ledger.find("everyone", "lost") == unknown
    elsewhere = await settled(
        ledger, intent("elsewhere", scope="others", id_namespace="other.example.com"), UNKNOWN
    )
    assert await ledger.settle_from_evidence(
        elsewhere, Created(COPY), Evidence.INFERRED, LATER, None
    )


async def test_response_takes_its_campaign_from_a_searched_duplication(
    ledger: Ledger, intent: MakeIntent
) -> None:
    """Search had assigned the copies of two equal intents the wrong way round."""
    late, other = intent("late", scope="a"), intent("other", scope="b")
    mine, theirs = [await settled(ledger, intent, UNKNOWN) for intent in (late, other)]
    for record, copy_id in ((mine, "c2"), (theirs, "c1")):
        copy = Created(replace(COPY, id=copy_id), warnings=(LEFT,))
        assert await ledger.settle_from_evidence(record, copy, Evidence.INFERRED, NOW, None)

    responded = await ledger.settle(late, Created(replace(COPY, id="c1"), "T"), LATER, None)
    assert (responded.status, responded.evidence) == (DuplicationStatus.CREATED, Evidence.RESPONSE)
    assert responded.campaign == replace(COPY, id="c1")
    exchanged = await stored(ledger, other)
    assert (exchanged.status, exchanged.evidence) == (DuplicationStatus.CREATED, Evidence.INFERRED)
    assert (exchanged.campaign, exchanged.warnings) == (replace(COPY, id="c2"), (LEFT,))
    again = await ledger.settle(late, Created(replace(COPY, id="c1"), "T"), LATER, None)
    assert again == responded
    assert await stored(ledger, other) == exchanged


async def test_outcome_is_recorded_if_the_owner_loses_the_campaign_meanwhile(
    ledger: Ledger, intent: MakeIntent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two statements of `settle`, a response gives the owner another campaign."""
    late, other = intent("late", scope="a"), intent("other", scope="b")
    await ledger.begin(late, NOW, None)
    record = await settled(ledger, other, UNKNOWN)
    assert await ledger.settle_from_evidence(record, Created(COPY), Evidence.INFERRED, NOW, None)
    find_one = ledger._one

    async def settle_the_other_and_find_one(statement: str, values: Mapping[str, object]) -> object:
        monkeypatch.setattr(ledger, "_one", find_one)
        record = await find_one(statement, values)
        await ledger.settle(other, Created(replace(COPY, id="c2")), NOW, None)
        return record

    monkeypatch.setattr(ledger, "_one", settle_the_other_and_find_one)
    responded = await ledger.settle(late, Created(COPY), LATER, None)
    assert (responded.status, responded.campaign) == (DuplicationStatus.CREATED, COPY)
    assert (await stored(ledger, other)).campaign == replace(COPY, id="c2")


async def test_late_acceptance_overwrites_an_operator_who_found_no_copy(
    ledger: Ledger, intent: MakeIntent
) -> None:
    record = await settled(ledger, intent("k"), UNKNOWN)
    assert await ledger.settle_as_not_created(record, UNKNOWN.error, NOW)
    late = await ledger.settle(record.intent, Accepted("T"), LATER, LATER)
    assert (late.status, late.evidence) == (DuplicationStatus.ACCEPTED, Evidence.RESPONSE)
    assert (late.error, late.settled_at) == (None, None)
    (due,) = await ledger.claim_due("braze", LATER, 10, LATER)
    assert due.intent == record.intent


async def test_late_acceptance_with_an_id_overwrites_a_searched_campaign(
    ledger: Ledger, intent: MakeIntent
) -> None:
    record = await settled(ledger, intent("k"), UNKNOWN)
    assert await ledger.settle_from_evidence(record, Created(COPY), Evidence.INFERRED, NOW, None)
    without_id = await ledger.settle(record.intent, Accepted("T"), LATER, LATER)
    assert (without_id.status, without_id.campaign) == (DuplicationStatus.CREATED, COPY)
    copy = replace(COPY, id="c7")
    late = await ledger.settle(record.intent, Accepted("T", copy), LATER, LATER)
    assert (late.status, late.campaign) == (DuplicationStatus.ACCEPTED, copy)


async def test_slow_check_does_not_overwrite_an_id_from_a_response(
    ledger: Ledger, intent: MakeIntent
) -> None:
    record = await settled(ledger, intent("k"), UNKNOWN)
    named = replace(COPY, id="c7")
    accepted = await ledger.settle(record.intent, Accepted("T", named), LATER, LATER)
    assert not await ledger.settle_from_evidence(
        record, Created(COPY), Evidence.INFERRED, NOW, None
    )
    assert await stored(ledger, record.intent) == accepted


async def test_never_sent_attempt_loses_a_searched_campaign(
    ledger: Ledger, intent: MakeIntent
) -> None:
    record = await settled(ledger, intent("k"), UNKNOWN)
    assert await ledger.settle_from_evidence(record, Created(COPY), Evidence.INFERRED, NOW, None)
    await ledger.mark_never_sent(
        record.intent, UserError(ErrorCode.OVERLOADED, "never sent"), LATER
    )
    never_sent = await stored(ledger, record.intent)
    assert (never_sent.status, never_sent.campaign) == (DuplicationStatus.REJECTED, None)
    assert await ledger.known_copies("rest.example.com", ["c9"]) == frozenset()


@pytest.mark.parametrize("evidence", [Evidence.INFERRED, Evidence.OPERATOR])
@pytest.mark.parametrize("before", [Accepted("T-1"), UNKNOWN])
async def test_duplication_that_loses_its_campaign_is_due_again(
    ledger: Ledger, intent: MakeIntent, before: Outcome, evidence: Evidence
) -> None:
    late, other = intent("late", scope="a"), intent("other", scope="b", fingerprint="another")
    await ledger.begin(late, NOW, None)
    record = await settled(ledger, other, before)
    assert await ledger.settle_from_evidence(record, Created(COPY), evidence, NOW, None)

    responded = await ledger.settle(late, Created(COPY), LATER, None)
    assert (responded.status, responded.campaign) == (DuplicationStatus.CREATED, COPY)
    released = await stored(ledger, other)
    assert (released.status, released.campaign, released.evidence) == (record.status, None, None)
    assert released.settled_at is None
    assert (released.error is None) == isinstance(before, Accepted)
    (due,) = await ledger.claim_due("braze", LATER, 10, LATER)
    assert due.intent == other
    assert await ledger.known_copies("rest.example.com", ["c9"]) == {"c9"}


async def test_campaign_in_two_responses_has_one_owner(ledger: Ledger, intent: MakeIntent) -> None:
    first = await settled(ledger, intent("first"), Created(COPY))
    second = await settled(ledger, intent("second"), Created(COPY))
    assert (second.status, second.campaign) == (DuplicationStatus.UNKNOWN, None)
    assert second.error is not None
    assert second.error.code is ErrorCode.OUTCOME_UNKNOWN
    assert await stored(ledger, first.intent) == first


async def test_concurrent_settlements_with_one_campaign_have_one_owner(
    ledger: Ledger, intent: MakeIntent
) -> None:
    intents = [intent(f"k{number}", scope=f"s{number}") for number in range(12)]
    for each in intents:
        await ledger.begin(each, NOW, None)
    records = [await ledger.settle(each, UNKNOWN, NOW, None) for each in intents]
    results = await asyncio.gather(
        *(
            ledger.settle_from_evidence(record, Created(COPY), Evidence.INFERRED, LATER, None)
            for record in records
        )
    )
    assert sum(result is not None for result in results) == 1
    late = await asyncio.gather(
        *(ledger.settle(record.intent, Created(COPY), LATER, None) for record in records)
    )
    owners = [record for record in late if record.status is DuplicationStatus.CREATED]
    assert [owner.evidence for owner in owners] == [Evidence.RESPONSE]


async def test_order_is_by_the_ledger_s_clock_instead_of_ids(
    ledger: Ledger, intent: MakeIntent
) -> None:
    """The clock of one gateway is behind, so its later duplication has the lower id."""
    older = intent("older", id="02", scope="a")
    newer = intent("newer", id="01", scope="a")
    await ledger.begin(older, NOW, None)
    await ledger.begin(newer, LATER, None)
    for recorded_intent in (older, newer):
        await ledger.settle(recorded_intent, UNKNOWN, LATER, None)
    more = intent("more", scope="a", override_of=older.id)
    result = await ledger.begin(more, LATER, None)
    assert isinstance(result, Blocked)
    assert result.record.intent == newer
    competing = await ledger.competing(result.record)
    assert [other.intent.id for other in competing] == [older.id, newer.id]
    listed = await ledger.list("a", Selection(), 10, None)
    assert [record.intent.id for record in listed] == [newer.id, older.id]
    cursor = (listed[0].requested_at, listed[0].intent.id)
    assert [record.intent.id for record in await ledger.list("a", Selection(), 10, cursor)] == [
        older.id
    ]
    assert await ledger.begin(replace(more, override_of=newer.id), LATER, None) == Begun()


async def test_accounts_with_shared_campaigns_get_one_namespace(
    ledger: Ledger, intent: MakeIntent
) -> None:
    namespaces = {"one": "a.example.com", "two": "b.example.com#program", "three": "c.example.com"}
    for account, id_namespace in namespaces.items():
        mine = intent(account, account=account, id_namespace=id_namespace, scope=account)
        await settled(ledger, mine, Created(replace(COPY, id=f"of-{account}")))
    clash = intent("clash", account="three", id_namespace="c.example.com", scope="clash")
    await settled(ledger, clash, Created(replace(COPY, id="of-one")))
    for account in namespaces:
        await ledger.move(account, "cdp")
        await ledger.move(account, "cdp")
    every = [f"of-{account}" for account in namespaces]
    assert await ledger.known_copies("cdp", every) == {"of-one", "of-three"}
    assert await ledger.known_copies("cdp#program", every) == {"of-two"}
    assert await ledger.known_copies("c.example.com", every) == {"of-one"}, "it has an owner there"


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        (Evidence.INFERRED, Evidence.RESPONSE),
        (Evidence.INFERRED, Evidence.OPERATOR),
        (Evidence.OPERATOR, Evidence.RESPONSE),
    ],
)
@pytest.mark.parametrize("loser", ["one", "two"])
async def test_weaker_owner_loses_the_campaign_if_accounts_share_campaigns(
    ledger: Ledger, intent: MakeIntent, loser: str, weaker: Evidence, stronger: Evidence
) -> None:
    for account in ("one", "two"):
        mine = intent(account, account=account, id_namespace=f"{account}.com", scope=account)
        evidence = weaker if account == loser else stronger
        if evidence is Evidence.RESPONSE:
            await settled(ledger, mine, Created(COPY))
        else:
            record = await settled(ledger, mine, UNKNOWN)
            assert await ledger.settle_from_evidence(record, Created(COPY), evidence, NOW, None)
    for account in ("one", "two"):
        await ledger.move(account, "cdp")
    records = {key: await ledger.find(key, key) for key in ("one", "two")}
    statuses = {key: record and record.status for key, record in records.items()}
    owner = "two" if loser == "one" else "one"
    expected = {loser: DuplicationStatus.UNKNOWN, owner: DuplicationStatus.CREATED}
    assert statuses == expected
    assert {record and record.intent.id_namespace for record in records.values()} == {"cdp"}


async def test_only_accounts_with_due_duplications_are_listed(
    ledger: Ledger, intent: MakeIntent
) -> None:
    for account in ("one", "two"):
        mine = intent(account, account=account)
        await ledger.begin(mine, NOW, None)
        await ledger.settle(mine, Accepted(), NOW, NOW if account == "one" else LATER)
    assert await ledger.due_accounts(NOW) == ["one"]
    assert sorted(await ledger.due_accounts(LATER)) == ["one", "two"]
    (due,) = await ledger.claim_due("two", LATER, 10, LATER + timedelta(seconds=1))
    assert due.intent.account == "two"
    assert await ledger.due_accounts(LATER) == ["one"]


async def test_operator_settles_accepted_and_unknown_duplications_as_not_created(
    ledger: Ledger, intent: MakeIntent
) -> None:
    error = UserError(ErrorCode.PROVIDER_UNAVAILABLE, "looked")
    unsettled: list[Outcome] = [Accepted("trace"), UNKNOWN]
    for number, outcome in enumerate(unsettled):
        record = await settled(ledger, intent(f"k{number}"), outcome)
        assert await ledger.settle_as_not_created(record, error, LATER)
        absent = await stored(ledger, record.intent)
        assert (absent.status, absent.error) == (DuplicationStatus.REJECTED, error)
        assert (absent.evidence, absent.settled_at) == (Evidence.OPERATOR, LATER)
        assert not await ledger.settle_as_not_created(record, error, LATER)
    assert await ledger.claim_due("braze", LATER, 10, LATER) == []


async def test_due_duplication_is_claimed_once_and_can_be_postponed(
    ledger: Ledger, intent: MakeIntent
) -> None:
    for seconds in (3, 1, 2):
        mine = intent(f"k{seconds}")
        await ledger.begin(mine, NOW, None)
        await ledger.settle(mine, Accepted(), NOW, NOW + timedelta(seconds=seconds))

    async def take(seconds: int, limit: int = 10) -> set[str]:
        taken = await ledger.claim_due(
            "braze", NOW + timedelta(seconds=seconds), limit, NOW + timedelta(seconds=60)
        )
        return {record.intent.key for record in taken}

    assert await take(0) == set()
    assert await take(9, limit=2) == {"k1", "k2"}
    assert await take(9) == {"k3"}
    assert await take(59) == set()
    record = await ledger.find("everyone", "k1")
    assert record is not None
    await ledger.postpone(record, NOW + timedelta(seconds=30), [COPY, replace(COPY, id="c10")])
    assert await take(30) == {"k1"}
    record = await ledger.find("everyone", "k1")
    assert record is not None
    assert record.checks == 1
    assert record.candidates == (COPY, replace(COPY, id="c10"))
    await ledger.postpone(record, NOW, [])
    assert await take(60) == {"k1", "k2", "k3"}
    record = await ledger.find("everyone", "k1")
    assert record is not None
    assert (record.checks, record.candidates) == (2, ())


async def test_concurrent_claims_never_overlap(ledger: Ledger, intent: MakeIntent) -> None:
    for number in range(30):
        await settled(ledger, intent(f"k{number}"), Accepted())
    taken = await asyncio.gather(
        *(ledger.claim_due("braze", LATER, 5, LATER + timedelta(hours=1)) for _ in range(12))
    )
    keys = [intent.intent.key for batch in taken for intent in batch]
    assert len(keys) == len(set(keys)) == 30


async def test_competing_duplications_are_unsettled_with_the_same_name_or_source(
    ledger: Ledger, intent: MakeIntent
) -> None:
    keys = {}
    changes_of: dict[str, dict[str, str | None]] = {
        "first": {},
        "other name": {"requested_name": "Else"},
        "other name and source": {"requested_name": "Else", "source_campaign_id": "c2"},
        "other id_namespace": {"id_namespace": "other.example.com"},
        "other account": {"account": "braze-2"},
        "spaces": {"requested_name": " Copy\u00a0"},
        "other source": {"source_campaign_id": "c2"},
        "second": {},
        "settled": {},
        "known": {},
    }
    for key, changes in changes_of.items():
        keys[key] = await begun(ledger, intent(key, **changes))
    await ledger.settle(keys["settled"].intent, Created(COPY), NOW, None)
    known = Accepted(campaign=replace(COPY, id="c10"))
    await ledger.settle(keys["known"].intent, known, NOW, NOW)
    competing = await ledger.competing(keys["second"])
    equals = ["first", "other name", "other account", "spaces", "other source", "second"]
    assert [other.intent.key for other in competing] == equals
    of_that_time = await ledger.competing(keys["second"], timedelta(seconds=1))
    everything = [*equals[:2], "other name and source", *equals[2:]]
    assert [other.intent.key for other in of_that_time] == everything
    await ledger.begin(intent("later"), NOW + timedelta(seconds=2), None)
    later = await ledger.find("everyone", "later")
    assert later is not None
    near, far = timedelta(seconds=1), timedelta(seconds=2)
    assert [other.intent.key for other in await ledger.competing(later, near)] == ["later"]
    assert len(await ledger.competing(later, far)) == len(everything) + 1


async def test_related_duplications_are_found_by_copy_and_by_source(
    ledger: Ledger, intent: MakeIntent
) -> None:
    record = await settled(ledger, intent("k"), Created(COPY))
    related = await ledger.find_related("everyone", "braze", ["c9", "c1", "c2"])
    assert related == {"c9": record, "c1": record}
    assert await ledger.find_related("everyone", "other", ["c9", "c1"]) == {}
    assert await ledger.find_related("others", "braze", ["c9", "c1"]) == {}
    assert await ledger.find_related("everyone", "braze", []) == {}


async def test_list_is_filtered_and_paged(ledger: Ledger, intent: MakeIntent) -> None:
    made = []
    for number in range(5):
        mine = intent(f"k{number}", provider="altcraft" if number == 4 else "braze")
        await ledger.begin(mine, NOW + timedelta(seconds=number), None)
        made.append(await stored(ledger, mine))
    await ledger.settle(made[0].intent, Accepted(), NOW, None)
    await ledger.settle(made[1].intent, REJECTED, NOW, None)

    async def keys(
        selection: Selection, limit: int = 10, before: Cursor | None = None
    ) -> list[str]:
        page = await ledger.list("everyone", selection, limit, before)
        return [record.intent.key for record in page]

    assert await keys(Selection(), 2) == ["k4", "k3"]
    assert await keys(Selection(), 2, (made[3].requested_at, made[3].intent.id)) == ["k2", "k1"]
    assert await keys(Selection(provider="altcraft")) == ["k4"]
    assert await keys(Selection(account="none")) == []
    both = (DuplicationStatus.ACCEPTED, DuplicationStatus.REJECTED)
    assert await keys(Selection(statuses=both)) == ["k1", "k0"]
    assert await keys(Selection(statuses=both[:1])) == ["k0"]
    since, until = NOW + timedelta(seconds=1), NOW + timedelta(seconds=3)
    assert await keys(Selection(since=since, until=until)) == ["k2", "k1"]


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_pages_that_filter_few_records_find_all_of_them(
    ledger: Ledger, intent: MakeIntent, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(ledger_module, "SCAN_LIMIT", 3)
    for number in range(10):
        account = "rare" if number in {0, 1, 9} else "common"
        mine = intent(f"k{number}", account=account)
        await ledger.begin(mine, NOW + timedelta(seconds=number // 2), None)

    async def keys(selection: Selection) -> tuple[list[str], int]:
        found: list[str] = []
        before: Cursor | None = None
        pages = 0
        while pages == 0 or before is not None:
            records, before = await ledger.page("everyone", selection, limit, before)
            assert len(records) <= limit
            found += [record.intent.key for record in records]
            pages += 1
        return found, pages

    all_keys = [f"k{number}" for number in reversed(range(10))]
    for selection in (
        Selection(),
        Selection(account="rare"),
        Selection(account="rare", since=NOW + timedelta(seconds=1)),
        Selection(account="common", statuses=(DuplicationStatus.IN_PROGRESS,)),
        Selection(statuses=(DuplicationStatus.UNKNOWN,)),
    ):
        found, pages = await keys(selection)
        expected = await ledger.list("everyone", selection, 100, None)
        assert found == [record.intent.key for record in expected]
        is_filtered = bool(selection.account or selection.statuses)
        assert pages >= (3 if is_filtered else len(all_keys) // limit)


async def test_key_is_kept_after_expiry_until_it_is_forgotten(
    ledger: Ledger, intent: MakeIntent
) -> None:
    old = intent("old")
    await settled(ledger, old, Created(COPY))
    unsettled: dict[str, Outcome] = {"accepted": Accepted(), "unknown": UNKNOWN}
    for key, outcome in unsettled.items():
        await settled(ledger, intent(key, requested_name=key), outcome)
    await ledger.begin(intent("under way"), NOW, None)
    young = intent("young")
    await ledger.begin(young, LATER, None)
    await ledger.settle(young, Created(replace(COPY, id="young")), LATER, None)

    assert await ledger.forget(LATER, 10) == 0
    assert await ledger.expire(NOW, 10) == 0
    assert await ledger.expire(LATER, 10) == 1
    assert await ledger.expire(LATER, 10) == 0
    record = await ledger.find("everyone", "old")
    assert record is not None
    assert record.expired
    assert (record.status, record.campaign) == (DuplicationStatus.CREATED, None)
    assert record.intent.input == ""
    assert await ledger.get("everyone", old.id) is None
    listed = await ledger.list(None, Selection(), 10, None)
    assert {record.intent.key for record in listed} == {"accepted", "unknown", "under way", "young"}
    result = await ledger.begin(intent("old"), LATER, None)
    assert isinstance(result, KeyHeld)
    assert result.record.expired
    # An expired duplication still owns its campaign.
    assert await ledger.known_copies("rest.example.com", ["c9"]) == {"c9"}

    assert await ledger.forget(NOW, 10) == 0
    assert await ledger.forget(LATER, 10) == 1
    assert await ledger.find("everyone", "old") is None
    assert await ledger.begin(intent("old"), LATER, None) == Begun()


async def test_expiry_stops_at_its_limit(ledger: Ledger, intent: MakeIntent) -> None:
    for number in range(5):
        mine = intent(f"k{number}")
        await settled(ledger, mine, Created(replace(COPY, id=f"c{number}")))
    assert [await ledger.expire(LATER, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert [await ledger.forget(LATER, 3) for _ in range(3)] == [3, 2, 0]


async def test_operator_reads_and_settles_while_a_gateway_runs(
    url: str, ledger: Ledger, open_at: Open, intent: MakeIntent
) -> None:
    under_way = await begun(ledger, intent("under way"))
    unknown = await settled(ledger, intent("lost", requested_name="Lost"), UNKNOWN)
    operator = await open_at(url, as_operator=True)
    listed = await operator.list(None, Selection(), 10, None)
    assert listed == [as_listed(unknown), as_listed(under_way)]
    assert await operator.settle_from_evidence(
        unknown, Created(COPY), Evidence.OPERATOR, LATER, None
    )
    resolved = await ledger.find("everyone", "lost")
    assert resolved is not None
    assert (resolved.status, resolved.evidence) == (
        DuplicationStatus.CREATED,
        Evidence.OPERATOR,
    )
    await operator.close()
    assert await ledger.find("everyone", "under way") == under_way
    await ledger.begin(intent("more"), NOW, None)


async def test_long_description_is_truncated(ledger: Ledger, intent: MakeIntent) -> None:
    """The disk reserve has space for small outcomes only."""
    copy = replace(COPY, description="x" * 1_000_000)
    record = await settled(ledger, intent("k"), Created(copy))
    assert record.campaign == replace(COPY, description="x" * 2000)


async def test_special_characters_are_stored_unchanged(ledger: Ledger, intent: MakeIntent) -> None:
    odd = "%s ? :name {lock} 'quoted' \\ 漢字 🎉"
    mine = intent("%(key)s:key?", requested_name=odd, source_campaign_id=odd)
    copy = replace(COPY, name=odd, description="\u0000 and \u2028")
    record = await settled(ledger, mine, Created(copy, odd))
    assert (record.intent, record.campaign, record.provider_trace_id) == (mine, copy, odd)
    assert await ledger.find("everyone", "%(key)s:key?") == record


def test_ids_of_one_gateway_sort_by_age() -> None:
    ids = []
    for _ in range(20):
        ids.append(new_id())
        time.sleep(0.00001)
    assert ids == sorted(set(ids))
    assert all(duplication_id[14] == "7" for duplication_id in ids)


async def test_unknown_duplications_of_a_scope_are_counted_up_to_a_limit(
    ledger: Ledger, intent: MakeIntent
) -> None:
    for number in range(4):
        await settled(ledger, intent(f"k{number}", requested_name=f"Copy {number}"), UNKNOWN)
    await settled(ledger, intent("created", requested_name="Created"), Created(COPY))
    await settled(ledger, intent("theirs", scope="others", requested_name="Theirs"), UNKNOWN)
    counts = [await ledger.count_unknown("everyone", limit) for limit in (1, 3, 100)]
    assert counts == [1, 3, 4]
    assert await ledger.count_unknown("no scope", 100) == 0


async def test_records_of_a_scope_are_measured_in_parts(ledger: Ledger, intent: MakeIntent) -> None:
    for number in range(5):
        await begun(ledger, intent(f"k{number}", input="x" * 100, requested_name=f"{number}"))
    await begun(ledger, intent("theirs", scope="others", requested_name="Theirs"))
    assert await ledger.measure("everyone", "", 3) == (3, 300, "k2")
    assert await ledger.measure("everyone", "k2", 3) == (2, 200, "k4")
    assert await ledger.measure("everyone", "k4", 3) == (0, 0, None)


async def test_unsettled_duplications_are_counted_by_account_and_status(
    ledger: Ledger, intent: MakeIntent
) -> None:
    await settled(ledger, intent("created"), Created(COPY))
    await ledger.begin(intent("running", source_campaign_id="s1"), LATER, None)
    await settled(ledger, intent("unknown", source_campaign_id="s2"), UNKNOWN)
    late = intent("late", source_campaign_id="s3")
    await ledger.begin(late, LATER, None)
    await ledger.settle(late, UNKNOWN, LATER, LATER)
    await settled(ledger, intent("accepted", account="other"), Accepted())
    groups = {(group.account, group.status): group for group in await ledger.unsettled()}
    assert groups == {
        (account, status): Unsettled(account, status, number, oldest)
        for account, status, number, oldest in (
            ("braze", DuplicationStatus.IN_PROGRESS, 1, LATER),
            ("braze", DuplicationStatus.UNKNOWN, 2, NOW),
            ("other", DuplicationStatus.ACCEPTED, 1, NOW),
        )
    }
