"""The history of a duplication, and results that an operator withdraws, on both engines."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.ledger import Begun, Blocked
from campaign_gateway.ledger.rows import ABANDONED, RELEASED
from campaign_gateway.model import (
    Accepted,
    Campaign,
    Change,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Intent,
    OperatorNote,
    Outcome,
    Rejected,
    Unknown,
    UserError,
)

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
COPY = Campaign("c9", "Copy")
NEW = Campaign("c10", "B")
LOST = UserError(ErrorCode.OUTCOME_UNKNOWN, "no response")
ABSENT = UserError(ErrorCode.PROVIDER_UNAVAILABLE, "checked")
WITHDRAWN = UserError(ErrorCode.OUTCOME_UNKNOWN, "withdrawn")
REFUSED = UserError(ErrorCode.CONFLICT, "no")
ANN, BEN = OperatorNote("ann", "not in the list"), OperatorNote("ben", "ann looked too early")

IN_PROGRESS, UNKNOWN, ACCEPTED, CREATED, REJECTED = DuplicationStatus

MakeIntent = Callable[..., Intent]
Open = Callable[..., Awaitable[Ledger]]


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


async def settled(
    ledger: Ledger, intent: Intent, outcome: Outcome, begin: float = 0, end: float = 1
) -> Duplication:
    assert await ledger.begin(intent, at(begin), None) == Begun()
    return await ledger.settle(intent, outcome, at(end), None)


async def lost(ledger: Ledger, intent: Intent, begin: float = 0) -> Duplication:
    return await settled(ledger, intent, Unknown(LOST), begin, begin + 1)


async def declared_absent(ledger: Ledger, intent: Intent, second: float = 10) -> Duplication:
    """Return a lost duplication, after an operator recorded that it has no copy."""
    await lost(ledger, intent)
    record = await stored(ledger, intent)
    assert await ledger.settle_as_not_created(record, ABSENT, at(second), note=ANN)
    return await stored(ledger, intent)


async def stored(ledger: Ledger, intent: Intent) -> Duplication:
    record = await ledger.get(None, intent.id)
    assert record is not None
    return record


async def found(ledger: Ledger, record: Duplication, copy: Campaign, second: float) -> Duplication:
    settled_by_search = await ledger.settle_from_evidence(
        record, Created(copy), Evidence.INFERRED, at(second), None
    )
    assert settled_by_search is not None
    return settled_by_search


async def rows_of_history(ledger: Ledger) -> int:
    (row,) = await ledger.engine.read("SELECT count(*) AS number FROM history", {})
    return int(row["number"])


def first(requested_at: datetime = NOW) -> Change:
    return Change(requested_at, IN_PROGRESS)


async def test_call_without_a_correction_writes_no_history(
    ledger: Ledger, intent: MakeIntent
) -> None:
    outcomes: list[tuple[Outcome, Change]] = [
        (Created(COPY), Change(at(1), CREATED, Evidence.RESPONSE, "c9")),
        (Accepted(), Change(at(1), ACCEPTED, Evidence.RESPONSE)),
        (Rejected(REFUSED), Change(at(1), REJECTED, Evidence.RESPONSE, error=REFUSED)),
        (Unknown(LOST), Change(at(1), UNKNOWN, error=LOST)),
    ]
    for number, (outcome, change) in enumerate(outcomes):
        record = await settled(ledger, intent(str(number)), outcome)
        # A check changes no state.
        await ledger.postpone(record, at(5), [Campaign("x")])
        assert await ledger.history(record.intent.id) == [first(), change]
    running = intent("running", requested_name="Other")
    await ledger.begin(running, NOW, None)
    assert await ledger.history(running.id) == [first()]
    assert await rows_of_history(ledger) == 0
    assert await ledger.history("no such") == []


async def test_every_state_is_in_the_history(ledger: Ledger, intent: MakeIntent) -> None:
    record = await lost(ledger, intent("a"))
    await found(ledger, record, COPY, 2)
    late = await ledger.settle(record.intent, Rejected(REFUSED), at(3), None)
    assert late.status is REJECTED
    assert await ledger.history(record.intent.id) == [
        first(),
        Change(at(1), UNKNOWN, error=LOST),
        Change(at(2), CREATED, Evidence.INFERRED, "c9"),
        Change(at(3), REJECTED, Evidence.RESPONSE, error=REFUSED),
    ]


async def test_history_of_a_duplication_that_loses_its_campaign(
    ledger: Ledger, intent: MakeIntent
) -> None:
    loser = await lost(ledger, intent("loser"))
    await found(ledger, loser, COPY, 2)
    await settled(ledger, intent("winner"), Created(COPY), 3, 4)
    assert await ledger.history(loser.intent.id) == [
        first(),
        Change(at(1), UNKNOWN, error=LOST),
        Change(at(2), CREATED, Evidence.INFERRED, "c9"),
        Change(at(4), UNKNOWN, error=RELEASED),
    ]


async def test_takeover_from_a_dead_gateway_is_in_the_history(
    url: str, open_at: Open, intent: MakeIntent
) -> None:
    timing = {"heartbeat_interval": 0.05, "dead_after": 0.2}
    gateway = await open_at(url, **timing)
    record = intent("a")
    await gateway.begin(record, NOW, None)
    await gateway.close()
    ledger = await open_at(url, **timing)
    while len(history := await ledger.history(record.id)) < 2:
        await asyncio.sleep(0.05)
    assert history[0] == first()
    assert (history[1].status, history[1].error) == (UNKNOWN, ABANDONED)
    # Its own response still counts, and the takeover stays in the history.
    await ledger.settle(record, Created(COPY), ledger.now(), None)
    assert [change.status for change in await ledger.history(record.id)] == [
        IN_PROGRESS,
        UNKNOWN,
        CREATED,
    ]


async def test_operator_withdraws_a_result_and_records_another(
    ledger: Ledger, intent: MakeIntent
) -> None:
    absent = await declared_absent(ledger, intent("a"))
    reopened = await ledger.reopen(absent, WITHDRAWN, at(20), BEN)
    assert reopened is not None
    assert (reopened.status, reopened.evidence, reopened.error) == (UNKNOWN, None, WITHDRAWN)
    assert (reopened.settled_at, reopened.checks, reopened.campaign) == (None, 0, None)
    # The same copy is blocked again, and the copy is searched for again.
    assert await ledger.begin(intent("b"), at(21), None) == Blocked(reopened)
    (due,) = await ledger.claim_due("braze", at(20), 10, at(60))
    assert due.intent == reopened.intent
    assert await ledger.settle_from_evidence(
        reopened, Created(COPY), Evidence.OPERATOR, at(30), None, note=ANN
    )
    assert await ledger.history(absent.intent.id) == [
        first(),
        Change(at(1), UNKNOWN, error=LOST),
        Change(at(10), REJECTED, Evidence.OPERATOR, error=ABSENT, note=ANN),
        Change(at(20), UNKNOWN, error=WITHDRAWN, note=BEN),
        Change(at(30), CREATED, Evidence.OPERATOR, "c9", note=ANN),
    ]
    # The operator who still sees the first result does not withdraw the second.
    assert await ledger.reopen(absent, WITHDRAWN, at(35), BEN) is None
    # The note is the operator's alone, and not of the response that follows.
    await ledger.settle(absent.intent, Rejected(REFUSED), at(40), None)
    assert (await ledger.history(absent.intent.id))[-1].note is None


async def test_campaign_of_a_withdrawn_result_is_free(ledger: Ledger, intent: MakeIntent) -> None:
    wrong = await lost(ledger, intent("wrong"))
    named = await ledger.settle_from_evidence(
        wrong, Created(COPY), Evidence.OPERATOR, at(10), None, note=ANN
    )
    assert named is not None
    owner = await ledger.owner_of("rest.example.com", "C9")
    assert owner is not None
    assert owner.intent.id == wrong.intent.id
    assert await ledger.reopen(named, WITHDRAWN, at(20), BEN)
    assert await ledger.owner_of("rest.example.com", "c9") is None
    other = await lost(ledger, intent("other", requested_name="Other"), 30)
    await found(ledger, other, COPY, 40)


async def test_copy_that_the_provider_named_is_known_again(
    ledger: Ledger, intent: MakeIntent
) -> None:
    job = await settled(ledger, intent("a"), Accepted(campaign=COPY))
    assert await ledger.settle_as_not_created(job, ABSENT, at(10), note=ANN)
    reopened = await ledger.reopen(await stored(ledger, job.intent), WITHDRAWN, at(20), BEN)
    assert reopened is not None
    assert (reopened.status, reopened.campaign) == (UNKNOWN, COPY)
    assert await ledger.known_copies("rest.example.com", ["c9"]) == {"c9"}


async def test_copy_that_another_duplication_has_by_now_prevents_the_withdrawal(
    ledger: Ledger, intent: MakeIntent
) -> None:
    job = await settled(ledger, intent("a"), Accepted(campaign=COPY))
    assert await ledger.settle_as_not_created(job, ABSENT, at(10), note=ANN)
    other = await settled(ledger, intent("b", requested_name="Other"), Created(COPY), 11, 12)
    absent = await stored(ledger, job.intent)
    assert await ledger.reopen(absent, WITHDRAWN, at(20), BEN) is None
    assert await ledger.built_on(absent) == other.intent.id


LATER_OUTCOMES: dict[str, tuple[Outcome | None, bool]] = {
    "running": (None, True),
    "created": (Created(COPY), True),
    "accepted": (Accepted(), True),
    "unknown": (Unknown(LOST), True),
    "refused": (Rejected(REFUSED), False),
}


async def test_later_attempt_at_the_same_copy_prevents_the_withdrawal(
    ledger: Ledger, intent: MakeIntent
) -> None:
    for number, (name, (outcome, prevents)) in enumerate(LATER_OUTCOMES.items()):
        source = {"source_campaign_id": f"s{number}"}
        absent = await declared_absent(ledger, intent(f"first {name}", **source))
        # Of another caller, and by a gateway that took the time before the operator's result.
        later = intent(f"second {name}", scope="other", **source)
        assert await ledger.begin(later, at(9), None) == Begun()
        if outcome is not None:
            await ledger.settle(later, outcome, at(12), None)
        reopened = await ledger.reopen(absent, WITHDRAWN, at(20), BEN)
        assert (reopened is None) is prevents, name
        expected = later.id if prevents else None
        assert await ledger.built_on(absent) == expected, name


async def test_attempt_that_overrode_it_before_does_not_prevent_the_withdrawal(
    ledger: Ledger, intent: MakeIntent
) -> None:
    unknown = await lost(ledger, intent("a"))
    override = intent("b", override_of=unknown.intent.id)
    made = await settled(ledger, override, Created(COPY), 8, 9)
    assert await ledger.settle_as_not_created(unknown, ABSENT, at(10), note=ANN)
    absent = await stored(ledger, unknown.intent)
    assert await ledger.reopen(absent, WITHDRAWN, at(20), BEN)
    # It has been overridden, so a second override is still refused.
    again = await ledger.begin(intent("c", override_of=unknown.intent.id), at(21), None)
    assert isinstance(again, Blocked)
    assert (await stored(ledger, made.intent)).campaign == COPY


async def test_search_that_relied_on_the_result_prevents_the_withdrawal(
    ledger: Ledger, intent: MakeIntent
) -> None:
    # Both waited for a copy of one name. With one of them settled, the search could choose.
    equal = intent("b", source_campaign_id="s2")
    await lost(ledger, equal)
    absent = await declared_absent(ledger, intent("a"))
    await found(ledger, await stored(ledger, equal), COPY, 12)
    assert await ledger.reopen(absent, WITHDRAWN, at(20), BEN) is None
    assert await ledger.built_on(absent) == equal.id


async def test_only_an_operator_s_result_is_withdrawn(ledger: Ledger, intent: MakeIntent) -> None:
    absent = await declared_absent(ledger, intent("a"))
    await ledger.settle(absent.intent, Created(COPY), at(12), None)
    inferred = await found(ledger, await lost(ledger, intent("b", requested_name="B")), NEW, 2)
    for record in (absent, inferred):
        assert await ledger.reopen(record, WITHDRAWN, at(20), BEN) is None
        assert (await stored(ledger, record.intent)).status is CREATED
    expired = await declared_absent(ledger, intent("c", requested_name="C"))
    assert await ledger.expire(at(99), 10) == 3
    assert await ledger.reopen(expired, WITHDRAWN, at(20), BEN) is None


async def test_expiry_deletes_who_did_what(ledger: Ledger, intent: MakeIntent) -> None:
    absent = await declared_absent(ledger, intent("a"))
    kept = await lost(ledger, intent("b"), 20)
    assert await rows_of_history(ledger) == 1
    await ledger.expire(at(99), 10)
    assert await rows_of_history(ledger) == 0
    assert all(change.note is None for change in await ledger.history(absent.intent.id))
    assert len(await ledger.history(kept.intent.id)) == 2


async def test_one_of_many_concurrent_changes_wins(
    url: str, open_at: Open, intent: MakeIntent
) -> None:
    """Operators withdraw, settle and withdraw again, while the late response arrives."""
    gateway, operator = await open_at(url), await open_at(url, as_operator=True)
    absent = await declared_absent(gateway, intent("a"))
    ledgers = [gateway, operator] * 5
    reopened = await asyncio.gather(
        *(ledger.reopen(absent, WITHDRAWN, at(20), BEN) for ledger in ledgers)
    )
    (record,) = [each for each in reopened if each is not None]
    changes: list[Awaitable[Any]] = [
        operator.settle_as_not_created(record, ABSENT, at(30), note=ANN),
        gateway.settle(record.intent, Created(COPY), at(31), None),
        operator.settle_from_evidence(
            record, Created(NEW), Evidence.OPERATOR, at(32), None, note=ANN
        ),
    ]
    await asyncio.gather(*changes)
    end = await stored(gateway, absent.intent)
    assert (end.status, end.evidence, end.campaign) == (CREATED, Evidence.RESPONSE, COPY)
    history = await gateway.history(absent.intent.id)
    assert [change.status for change in history[:4]] == [IN_PROGRESS, UNKNOWN, REJECTED, UNKNOWN]
    # At most one operator recorded a result before the response.
    assert history[4:-1] in ([], [history[4]])
    assert history[-1] == Change(at(31), CREATED, Evidence.RESPONSE, "c9")


async def test_result_of_an_earlier_version_can_be_withdrawn(
    ledger: Ledger, intent: MakeIntent
) -> None:
    """Earlier versions recorded neither the time of a state nor the operator."""
    absent = await declared_absent(ledger, intent("a"))
    forget = "UPDATE duplication SET operator = NULL, reason = NULL, changed_at = NULL"
    await ledger.engine.write(forget, {})
    await ledger.engine.write("DELETE FROM history", {})
    assert await ledger.history(absent.intent.id) == [
        first(),
        Change(at(10), REJECTED, Evidence.OPERATOR, error=ABSENT),
    ]
    assert await ledger.reopen(absent, WITHDRAWN, at(20), BEN)
    history = await ledger.history(absent.intent.id)
    assert [change.at for change in history] == [NOW, at(10), at(20)]
