"""What every ledger promises, tried on the real files."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from campaign_gateway.ledger import open_ledger
from campaign_gateway.ledger.contract import (
    Intent,
    Ledger,
    LedgerUnavailable,
    Selection,
    new_id,
)
from campaign_gateway.outcomes import (
    Accepted,
    Campaign,
    CampaignStatus,
    Created,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Outcome,
    Rejected,
    Unknown,
    UserError,
)

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
UNKNOWN = Unknown(UserError(ErrorCode.OUTCOME_UNKNOWN, "no answer"))
REJECTED = Rejected(
    UserError(ErrorCode.RATE_LIMITED, "slow down", ("input", "braze"), 30, "429", "Slow!"), "trace"
)


def intent(key: str, **changes: str | None) -> Intent:
    return replace(
        Intent(
            id=new_id(),
            nonce=new_id(),
            scope="everyone",
            key=key,
            fingerprint="f",
            provider="braze",
            account="braze",
            source_campaign_id="c1",
            requested_name="Copy",
            input="{}",
        ),
        **changes,  # type: ignore[arg-type]
    )


Open = Callable[[], Awaitable[Ledger]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def opened(path: Path) -> AsyncIterator[list[Ledger]]:
    ledgers: list[Ledger] = []
    yield ledgers
    for each in ledgers:
        await each.close()


@pytest.fixture
async def ledger(path: Path, opened: list[Ledger]) -> Ledger:
    found = open_ledger(f"sqlite:///{path}")
    opened.append(found)
    return found


async def test_an_intent_is_recorded_once(ledger: Ledger) -> None:
    mine, other = intent("k"), intent("k")
    first = await ledger.begin(mine, NOW)
    second = await ledger.begin(other, LATER)

    assert first.intent == second.intent == mine
    assert first.status is DuplicationStatus.IN_PROGRESS
    assert first.requested_at == NOW
    assert await ledger.find("everyone", "k") == first
    assert await ledger.get("everyone", mine.id) == first


async def test_a_hundred_attempts_at_one_key_have_one_winner(ledger: Ledger) -> None:
    attempts = [intent("k") for _ in range(100)]
    records = await asyncio.gather(*(ledger.begin(each, NOW) for each in attempts))
    assert len({record.intent.nonce for record in records}) == 1


async def test_scopes_do_not_see_each_other(ledger: Ledger) -> None:
    ours = await ledger.begin(intent("k"), NOW)
    theirs = await ledger.begin(intent("k", scope="others"), NOW)
    assert ours.intent.id != theirs.intent.id
    assert await ledger.get("others", ours.intent.id) is None
    assert await ledger.list("others", Selection(), 10, None) == [theirs]


async def test_each_outcome_comes_back_whole(ledger: Ledger) -> None:
    outcomes: list[tuple[Outcome, DuplicationStatus, datetime | None]] = [
        (Created(COPY, "trace"), DuplicationStatus.CREATED, LATER),
        (Accepted("trace"), DuplicationStatus.ACCEPTED, None),
        (REJECTED, DuplicationStatus.REJECTED, LATER),
        (UNKNOWN, DuplicationStatus.UNKNOWN, None),
    ]
    for outcome, status, settled_at in outcomes:
        begun = await ledger.begin(intent(status), NOW)
        settled = await ledger.settle(begun.intent, outcome, LATER, None)
        assert settled.status is status
        assert settled.settled_at == settled_at
        assert settled.provider_trace_id == outcome.trace_id
        assert settled.campaign == (COPY if isinstance(outcome, Created) else None)
        assert settled.error == getattr(outcome, "error", None)
        expected = None if status is DuplicationStatus.UNKNOWN else Evidence.ANSWER
        assert settled.evidence is expected
        assert await ledger.get("everyone", begun.intent.id) == settled


async def test_only_the_attempt_that_began_settles(ledger: Ledger) -> None:
    begun = await ledger.begin(intent("k"), NOW)
    stranger = replace(begun.intent, nonce="another")
    await ledger.settle(stranger, Created(COPY), LATER, None)
    found = await ledger.get("everyone", begun.intent.id)
    assert found is not None
    assert found.status is DuplicationStatus.IN_PROGRESS


async def test_a_status_only_moves_up(ledger: Ledger) -> None:
    begun = await ledger.begin(intent("k"), NOW)
    await ledger.settle(begun.intent, UNKNOWN, NOW, None)
    late = await ledger.settle(begun.intent, Created(COPY), LATER, None)
    assert late.status is DuplicationStatus.CREATED
    assert late.error is None
    others: list[Outcome] = [UNKNOWN, REJECTED, Accepted(), Created(replace(COPY, id="other"))]
    for outcome in others:
        assert await ledger.settle(begun.intent, outcome, LATER, LATER) == late
    other = replace(COPY, id="other")
    assert not await ledger.settle_by_reading(late, other, Evidence.INFERRED, LATER)
    assert await ledger.find("everyone", "k") == late


async def test_reading_settles_what_is_accepted_or_unknown(ledger: Ledger) -> None:
    unsettled: list[Outcome] = [Accepted(), UNKNOWN]
    for number, outcome in enumerate(unsettled):
        begun = await ledger.begin(intent(f"k{number}"), NOW)
        settled = await ledger.settle(begun.intent, outcome, NOW, NOW)
        assert settled in await ledger.due(NOW, 10)
        copy = replace(COPY, id=f"c{number}")
        assert await ledger.settle_by_reading(settled, copy, Evidence.INFERRED, LATER)
        found = await ledger.get("everyone", begun.intent.id)
        assert found is not None
        assert found.status is DuplicationStatus.CREATED
        assert found.campaign == copy
        assert found.evidence is Evidence.INFERRED
        assert found.error is None
        assert found.settled_at == LATER
    assert await ledger.due(LATER, 10) == []
    assert await ledger.claimed("braze", ["c0", "c1", "c2"]) == {"c0", "c1"}
    assert await ledger.claimed("other", ["c0"]) == frozenset()


async def test_one_campaign_is_the_copy_of_one_duplication(ledger: Ledger) -> None:
    made = await ledger.begin(intent("made"), NOW)
    await ledger.settle(made.intent, Created(COPY), NOW, None)
    lost = await ledger.begin(intent("lost"), NOW)
    unknown = await ledger.settle(lost.intent, UNKNOWN, NOW, NOW)
    assert not await ledger.settle_by_reading(unknown, COPY, Evidence.INFERRED, LATER)
    assert await ledger.find("everyone", "lost") == unknown
    elsewhere = await ledger.begin(intent("elsewhere", account="braze-2"), NOW)
    found = await ledger.settle(elsewhere.intent, UNKNOWN, NOW, NOW)
    assert await ledger.settle_by_reading(found, COPY, Evidence.INFERRED, LATER)


async def test_what_is_due_comes_longest_due_first_and_can_be_postponed(ledger: Ledger) -> None:
    due = []
    for seconds in (3, 1, 2):
        begun = await ledger.begin(intent(f"k{seconds}"), NOW)
        at = NOW + timedelta(seconds=seconds)
        due.append(await ledger.settle(begun.intent, Accepted(), NOW, at))
    _, one, two = due
    assert await ledger.due(NOW, 10) == []
    assert await ledger.due(NOW + timedelta(seconds=2), 10) == [one, two]
    assert await ledger.due(NOW + timedelta(seconds=9), 2) == [one, two]
    await ledger.postpone(one, NOW + timedelta(seconds=5))
    found = await ledger.due(NOW + timedelta(seconds=9), 10)
    assert [each.intent.key for each in found] == ["k2", "k3", "k1"]
    assert [each.checks for each in found] == [0, 0, 1]


async def test_rivals_are_the_unsettled_equals(ledger: Ledger) -> None:
    keys = {}
    changes_of: dict[str, dict[str, str | None]] = {
        "first": {},
        "other name": {"requested_name": "Else"},
        "no name": {"requested_name": None},
        "other account": {"account": "braze-2"},
        "other source": {"source_campaign_id": "c2"},
        "second": {},
        "settled": {},
    }
    for key, changes in changes_of.items():
        keys[key] = await ledger.begin(intent(key, **changes), NOW)
    await ledger.settle(keys["settled"].intent, Created(COPY), NOW, None)
    found = await ledger.rivals(keys["second"])
    assert [each.intent.key for each in found] == ["first", "other source", "second"]
    assert [each.intent.key for each in await ledger.rivals(keys["no name"])] == ["no name"]


async def test_near_knows_sources_and_copies(ledger: Ledger) -> None:
    begun = await ledger.begin(intent("k"), NOW)
    settled = await ledger.settle(begun.intent, Created(COPY), NOW, None)
    assert await ledger.near("everyone", "braze", "c9") == settled
    assert await ledger.near("everyone", "braze", "c1") == settled
    assert await ledger.near("everyone", "braze", "c2") is None
    assert await ledger.near("everyone", "other", "c9") is None
    assert await ledger.near("others", "braze", "c9") is None


async def test_everything_survives_a_restart_and_orphans_become_unknown(
    path: Path, ledger: Ledger, opened: list[Ledger]
) -> None:
    orphan = await ledger.begin(intent("orphan"), NOW)
    done = await ledger.begin(intent("done"), NOW)
    settled = await ledger.settle(done.intent, Created(COPY), LATER, None)
    await ledger.close()

    again = opened[0] = open_ledger(f"sqlite:///{path}")

    assert await again.find("everyone", "done") == settled
    found = await again.find("everyone", "orphan")
    assert found is not None
    assert found.status is DuplicationStatus.UNKNOWN
    assert found.error is not None
    assert found.error.code is ErrorCode.OUTCOME_UNKNOWN
    assert await again.due(LATER, 10) == [found]
    # The answer that the dead process was owed may still be told by whoever has the nonce.
    late = await again.settle(orphan.intent, Created(replace(COPY, id="late")), LATER, None)
    assert late.status is DuplicationStatus.CREATED


async def test_one_file_belongs_to_one_gateway(path: Path, ledger: Ledger) -> None:
    with pytest.raises(LedgerUnavailable, match="in use by another gateway"):
        open_ledger(f"sqlite:///{path}")
    await ledger.check()


async def test_a_ledger_of_a_newer_gateway_is_refused(path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{path}")
    await ledger.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerUnavailable, match="newer version"):
        open_ledger(f"sqlite:///{path}")


def test_a_file_that_cannot_be_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="cannot be used"):
        open_ledger(f"sqlite:///{tmp_path}/no/such/folder/ledger.db")
    broken = tmp_path / "broken.db"
    broken.write_text("this is no database, though it is long enough to look like one " * 100)
    with pytest.raises(LedgerUnavailable, match="cannot be used"):
        open_ledger(f"sqlite:///{broken}")


async def test_a_failed_write_fails_its_callers_and_leaves_the_ledger_usable(
    path: Path, ledger: Ledger
) -> None:
    blocker = sqlite3.connect(path, isolation_level=None)
    ledger._writer.execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]
    blocker.execute("BEGIN IMMEDIATE")
    attempts = [ledger.begin(intent(f"k{number}"), NOW) for number in range(5)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert all(isinstance(result, LedgerUnavailable) for result in results)
    with pytest.raises(LedgerUnavailable):
        await ledger.check()
    blocker.execute("ROLLBACK")
    blocker.close()
    await ledger.check()
    assert await ledger.find("everyone", "k0") is None
    assert (await ledger.begin(intent("k0"), NOW)).status is DuplicationStatus.IN_PROGRESS


async def test_a_caller_who_leaves_does_not_undo_the_write(ledger: Ledger) -> None:
    writing = asyncio.create_task(ledger.begin(intent("k"), NOW))
    await asyncio.sleep(0)
    writing.cancel()
    await ledger.check()
    assert await ledger.find("everyone", "k") is not None


async def test_every_write_is_on_disk_before_it_is_told(ledger: Ledger) -> None:
    writer = ledger._writer  # type: ignore[attr-defined]
    assert writer.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_ids_sort_by_age() -> None:
    ids = []
    for _ in range(20):
        ids.append(new_id())
        time.sleep(0.00001)
    assert ids == sorted(set(ids))
    assert all(each[14] == "7" for each in ids)
