"""The judge of all these tests is tried itself: on made-up histories, and on broken gateways."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from campaign_gateway.ledger.contract import Duplication
from campaign_gateway.ledger.contract import Intent as RecordedIntent
from campaign_gateway.outcomes import Campaign, DuplicationStatus
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

WANTED = Intent("wish", "none", "plain--0", "one")
CREATED = Told(
    asked_at=1,
    told_at=2,
    status="CREATED",
    campaign="c1",
    duplication="d1",
    evidence="ANSWER",
    code=None,
    safe_to_retry=None,
    replayed=False,
    message=None,
)
UNKNOWN = replace(CREATED, status="UNKNOWN", campaign=None, evidence=None, safe_to_retry=False)
REJECTED = replace(UNKNOWN, status="REJECTED", code="CONFLICT", safe_to_retry=True)
OVERLOADED = replace(REJECTED, code="OVERLOADED", duplication=None)
MADE = Seen(posts=[1.1], copies={"c1": 1.2})
NOT_MADE = Seen(posts=[1.1])


def record(status: str, campaign: str | None = None) -> Duplication:
    return Duplication(
        RecordedIntent("d1", "n", "everyone", "wish", "f", "sonarly", "one", "s", "wish", "{}"),
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
        (Seen(), [OVERLOADED], None),
        # Nothing was there when it was refused, and the retry has made it.
        (MADE, [replace(OVERLOADED, asked_at=0, told_at=0.5), CREATED], record("CREATED", "c1")),
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
        (MADE, [CREATED, later(OVERLOADED)], record("CREATED", "c1"), "false"),
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
    assert judge(provider, [History(WANTED, [CREATED])], records).false


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
