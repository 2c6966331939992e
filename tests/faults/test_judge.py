"""The judge of all these tests is tried itself: on made-up histories, and on broken gateways."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from campaign_gateway.model import Campaign, Duplication, DuplicationStatus
from campaign_gateway.model import Intent as RecordedIntent
from support.faulty_provider import Provider, Seen
from support.gateways import (
    History,
    Intent,
    Told,
    all_insist,
    configuration,
    intents,
    launch,
    listening,
    recorded,
)
from support.judge import Verdict, judge

WANTED = Intent("wish", "none", "plain--0", "one", key="wish", called="wish", wish="wish")
CREATED = Told(
    asked_at=1,
    told_at=2,
    status="CREATED",
    campaign="c1",
    duplication="d1",
    evidence="RESPONSE",
    code=None,
    retry=None,
    replayed=False,
    message=None,
)
UNKNOWN = replace(CREATED, status="UNKNOWN", campaign=None, evidence=None, retry="WAIT")
REJECTED = replace(UNKNOWN, status="REJECTED", code="CONFLICT", retry="NEW_KEY")
NOT_SENT = replace(
    UNKNOWN, status="NOT_SENT", code="OVERLOADED", duplication=None, retry="SAME_KEY"
)
# Another intent's duplication stands in the way.
IN_THE_WAY = replace(NOT_SENT, code="UNRESOLVED_DUPLICATION", duplication="d9", retry="WAIT")
MADE = Seen(posts=[1.1], copies={"c1": 1.2})
NOT_MADE = Seen(posts=[1.1])


def record(status: str, campaign: str | None = None, found_as: str = "d1") -> Duplication:
    return Duplication(
        RecordedIntent(found_as, "n", "everyone", "wish", "f", "sonarly", "one", "s", "wish", "{}"),
        DuplicationStatus(status),
        datetime.now(UTC),
        Campaign(campaign) if campaign else None,
    )


def later(told: Told) -> Told:
    return replace(told, asked_at=told.asked_at + 5, told_at=told.told_at + 5)


def judged(seen: Seen, told: list[Told], found: Duplication | None) -> Verdict:
    provider = Provider(intents={"wish": seen})
    records = {} if found is None else {"wish": found}
    return judge(provider, [History(WANTED, told)], records)


@pytest.mark.parametrize(
    ("seen", "told", "found"),
    [
        (MADE, [CREATED, later(CREATED)], record("CREATED", "c1")),
        (MADE, [UNKNOWN, later(CREATED)], record("CREATED", "c1")),
        (NOT_MADE, [UNKNOWN, later(UNKNOWN)], record("UNKNOWN")),
        (NOT_MADE, [REJECTED], record("REJECTED")),
        (Seen(), [NOT_SENT], None),
        (Seen(), [IN_THE_WAY], None),
        # What was not sent says nothing about copies, and the same key finds what there is.
        (MADE, [replace(NOT_SENT, asked_at=0, told_at=0.5), CREATED], record("CREATED", "c1")),
        (MADE, [CREATED, later(NOT_SENT)], record("CREATED", "c1")),
        (MADE, [IN_THE_WAY, later(CREATED)], record("CREATED", "c1")),
        (MADE, [], record("UNKNOWN")),
    ],
)
def test_what_is_honest_passes(seen: Seen, told: list[Told], found: Duplication | None) -> None:
    assert not judged(seen, told, found).wrong


@pytest.mark.parametrize(
    ("seen", "told", "found", "complaint"),
    [
        (replace(MADE, copies={"c1": 1, "c2": 2}), [CREATED], record("CREATED", "c1"), "too_many"),
        (replace(MADE, posts=[1, 2]), [CREATED], record("CREATED", "c1"), "too_many"),
        (MADE, [CREATED], None, "lost"),
        (MADE, [], None, "lost"),
        (NOT_MADE, [], record("IN_PROGRESS"), "lost"),
        (MADE, [replace(CREATED, duplication="d2")], record("CREATED", "c1"), "lost"),
        (MADE, [REJECTED], record("UNKNOWN"), "false"),
        (MADE, [], record("REJECTED"), "false"),
        (NOT_MADE, [CREATED], record("CREATED", "c1"), "false"),
        (MADE, [], record("CREATED", "c2"), "false"),
        (MADE, [CREATED, later(REJECTED)], record("CREATED", "c1"), "false"),
        # Said before the copy was made, and without a record.
        (
            MADE,
            [replace(REJECTED, duplication=None, asked_at=0, told_at=0.5)],
            record("CREATED", "c1"),
            "false",
        ),
        (MADE, [replace(NOT_SENT, retry="NEW_KEY")], record("CREATED", "c1"), "false"),
        (MADE, [CREATED, later(UNKNOWN)], record("CREATED", "c1"), "fallen"),
        (MADE, [CREATED], record("UNKNOWN"), "fallen"),
        (NOT_MADE, [REJECTED], record("UNKNOWN"), "fallen"),
    ],
)
def test_what_breaks_a_promise_is_found(
    seen: Seen, told: list[Told], found: Duplication | None, complaint: str
) -> None:
    assert getattr(judged(seen, told, found), complaint)


def test_one_copy_for_two_intents_is_found() -> None:
    provider = Provider(intents={"wish": MADE})
    records = {"wish": record("CREATED", "c1"), "other": record("CREATED", "c1")}
    verdict = judge(provider, [History(WANTED, [CREATED])], records)
    assert verdict.shared
    assert verdict.most_owners == 2


FIRST = replace(WANTED, key="a", wish="a")
SECOND = replace(WANTED, key="b", wish="b")
BOTH_MADE = Seen(posts=[1.1, 1.2], copies={"c1": 1.3, "c2": 1.4})
CREATED_TOO = replace(CREATED, campaign="c2", duplication="d2")
FOUND = replace(CREATED_TOO, campaign="c1", evidence="INFERRED")
BOTH = {"a": record("CREATED", "c1"), "b": record("CREATED", "c2", "d2")}


def judged_as_equals(
    seen: Seen, first: list[Told], second: list[Told], records: dict[str, Duplication]
) -> Verdict:
    histories = [History(FIRST, first), History(SECOND, second)]
    return judge(Provider(intents={"wish": seen}), histories, records)


@pytest.mark.parametrize(
    ("seen", "first", "second", "records"),
    [
        (BOTH_MADE, [CREATED], [CREATED_TOO], BOTH),
        # Reading has dealt one of them the other's copy, and an answer has put that right.
        (BOTH_MADE, [CREATED], [FOUND, later(CREATED_TOO)], BOTH),
        (
            MADE,
            [CREATED],
            [replace(REJECTED, duplication="d2")],
            BOTH | {"b": record("REJECTED", None, "d2")},
        ),
    ],
)
def test_equal_intents_may_have_a_copy_each(
    seen: Seen, first: list[Told], second: list[Told], records: dict[str, Duplication]
) -> None:
    verdict = judged_as_equals(seen, first, second, records)
    assert not verdict.wrong
    assert verdict.most_copies == 1


@pytest.mark.parametrize(
    ("seen", "first", "second", "records", "complaint"),
    [
        (replace(BOTH_MADE, copies={"c1": 1, "c2": 2, "c3": 3}), [], [], BOTH, "too_many"),
        (replace(BOTH_MADE, posts=[1, 2, 3]), [], [], BOTH, "too_many"),
        (BOTH_MADE, [], [], {"a": record("CREATED", "c1")}, "lost"),
        (BOTH_MADE, [replace(REJECTED, duplication=None)], [], BOTH, "false"),
        (BOTH_MADE, [], [FOUND], BOTH | {"b": record("CREATED", "c1", "d2")}, "shared"),
        # An answer of the provider's never gives way.
        (BOTH_MADE, [], [replace(CREATED_TOO, campaign="c1")], BOTH, "fallen"),
    ],
)
def test_equal_intents_may_not_have_more_than_that(
    seen: Seen,
    first: list[Told],
    second: list[Told],
    records: dict[str, Duplication],
    complaint: str,
) -> None:
    assert getattr(judged_as_equals(seen, first, second, records), complaint)


def test_a_person_who_presses_again_still_wants_one_copy() -> None:
    again = replace(WANTED, key="wish.2")
    refused, made = History(WANTED, [REJECTED]), History(again, [CREATED_TOO])
    records = {"wish": record("REJECTED"), "wish.2": record("CREATED", "c2", "d2")}
    once = Seen(posts=[1, 2], copies={"c2": 2})
    assert not judge(Provider(intents={"wish": once}), [refused, made], records).wrong
    verdict = judge(Provider(intents={"wish": BOTH_MADE}), [refused, made], records)
    assert verdict.too_many
    assert verdict.false
    assert verdict.most_copies == 2


@pytest.mark.parametrize(
    ("bug", "fault", "complaint"),
    [
        ("sends again", "fin-after-copy", "too_many"),
        ("takes 503 for a refusal", "status-503-after-copy", "false"),
        ("sends before recording", "held-after-copy", "too_many"),
        ("answers before recording", "none", "fallen"),
        ("takes the newest campaign", "fin-after-copy", "false"),
    ],
)
async def test_a_gateway_with_a_mistake_in_it_does_not_pass(
    tmp_path: Path,
    provider: Provider,
    http: httpx.AsyncClient,
    bug: str,
    fault: str,
    complaint: str,
) -> None:
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    config = configuration(tmp_path, ledger, {"one": provider.url})
    wanted = intents([fault] * 6, ("one",))
    gateway = await listening(launch(config, {"bug": bug}))
    first = gateway
    if fault.startswith("held"):
        provider.on_copy[wanted[3].name] = gateway.process.kill
    try:
        histories = await all_insist(
            http, lambda: first.url if first.is_running else "", provider, wanted, seconds=2
        )
        if not first.is_running:
            gateway = await listening(launch(config, {"bug": bug}))
            provider.released.set()
            histories += await all_insist(http, lambda: gateway.url, provider, wanted, seconds=2)
        records = await recorded(ledger)
    finally:
        gateway.kill()
    verdict = judge(provider, histories, records)
    assert getattr(verdict, complaint), verdict
