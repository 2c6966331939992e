"""The promise checks themselves are tested, with made-up histories and broken gateways."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import httpx
import pytest

from campaign_gateway.model import Campaign, Duplication, DuplicationStatus
from campaign_gateway.model import Intent as RecordedIntent
from support.faulty_provider import Provider, Traffic
from support.gateways import (
    GatewayResponse,
    History,
    Intent,
    configuration,
    intents,
    launch,
    listening,
    recorded,
    retry_all_until_final,
)
from support.promises import Violations, find_violations

WANTED = Intent("wish", "none", "plain--0", "one", key="wish", called="wish", wish="wish")
CREATED = GatewayResponse(
    sent_at=1,
    received_at=2,
    status="CREATED",
    campaign="c1",
    duplication="d1",
    evidence="RESPONSE",
    code=None,
    retry=None,
    replayed=False,
    message=None,
    retry_after=None,
)
UNKNOWN = replace(CREATED, status="UNKNOWN", campaign=None, evidence=None, retry="WAIT")
REJECTED = replace(UNKNOWN, status="REJECTED", code="CONFLICT", retry="NEW_KEY")
NOT_SENT = replace(
    UNKNOWN, status="NOT_SENT", code="OVERLOADED", duplication=None, retry="SAME_KEY"
)
# Another intent's duplication blocks the request.
IN_THE_WAY = replace(NOT_SENT, code="UNRESOLVED_DUPLICATION", duplication="d9", retry="WAIT")
MADE = Traffic(posts=[1.1], copies={"c1": 1.2})
NOT_MADE = Traffic(posts=[1.1])


def record(status: str, campaign: str | None = None, found_as: str = "d1") -> Duplication:
    return Duplication(
        RecordedIntent(found_as, "n", "everyone", "wish", "f", "sonarly", "one", "s", "wish", "{}"),
        DuplicationStatus(status),
        datetime.now(UTC),
        Campaign(campaign) if campaign else None,
    )


def later(response: GatewayResponse) -> GatewayResponse:
    return replace(response, sent_at=response.sent_at + 5, received_at=response.received_at + 5)


def check(
    seen: Traffic, responses: list[GatewayResponse], recorded: Duplication | None
) -> Violations:
    provider = Provider(intents={"wish": seen})
    records = {} if recorded is None else {"wish": recorded}
    return find_violations(provider, [History(WANTED, responses)], records)


@pytest.mark.parametrize(
    ("seen", "responses", "recorded"),
    [
        (MADE, [CREATED, later(CREATED)], record("CREATED", "c1")),
        (MADE, [UNKNOWN, later(CREATED)], record("CREATED", "c1")),
        (NOT_MADE, [UNKNOWN, later(UNKNOWN)], record("UNKNOWN")),
        (NOT_MADE, [REJECTED], record("REJECTED")),
        (Traffic(), [NOT_SENT], None),
        (Traffic(), [IN_THE_WAY], None),
        # NOT_SENT says nothing about copies, and the same key finds the copy.
        (MADE, [replace(NOT_SENT, sent_at=0, received_at=0.5), CREATED], record("CREATED", "c1")),
        (MADE, [CREATED, later(NOT_SENT)], record("CREATED", "c1")),
        (MADE, [IN_THE_WAY, later(CREATED)], record("CREATED", "c1")),
        (MADE, [], record("UNKNOWN")),
    ],
)
def test_honest_responses_break_no_promise(
    seen: Traffic, responses: list[GatewayResponse], recorded: Duplication | None
) -> None:
    assert not check(seen, responses, recorded).all


@pytest.mark.parametrize(
    ("seen", "responses", "recorded", "complaint"),
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
        # Sent before the copy was made, and without a record.
        (
            MADE,
            [replace(REJECTED, duplication=None, sent_at=0, received_at=0.5)],
            record("CREATED", "c1"),
            "false",
        ),
        (MADE, [replace(NOT_SENT, retry="NEW_KEY")], record("CREATED", "c1"), "false"),
        (MADE, [CREATED, later(UNKNOWN)], record("CREATED", "c1"), "taken_back"),
        (MADE, [CREATED], record("UNKNOWN"), "taken_back"),
        (NOT_MADE, [REJECTED], record("UNKNOWN"), "taken_back"),
    ],
)
def test_each_kind_of_broken_promise_is_found(
    seen: Traffic, responses: list[GatewayResponse], recorded: Duplication | None, complaint: str
) -> None:
    assert getattr(check(seen, responses, recorded), complaint)


def test_one_copy_with_two_owners_is_found() -> None:
    provider = Provider(intents={"wish": MADE})
    records = {"wish": record("CREATED", "c1"), "other": record("CREATED", "c1")}
    violations = find_violations(provider, [History(WANTED, [CREATED])], records)
    assert violations.shared
    assert violations.most_owners == 2


FIRST = replace(WANTED, key="a", wish="a")
SECOND = replace(WANTED, key="b", wish="b")
BOTH_MADE = Traffic(posts=[1.1, 1.2], copies={"c1": 1.3, "c2": 1.4})
CREATED_TOO = replace(CREATED, campaign="c2", duplication="d2")
FOUND = replace(CREATED_TOO, campaign="c1", evidence="INFERRED")
BOTH = {"a": record("CREATED", "c1"), "b": record("CREATED", "c2", "d2")}


def check_equal_intents(
    seen: Traffic,
    first: list[GatewayResponse],
    second: list[GatewayResponse],
    records: dict[str, Duplication],
) -> Violations:
    histories = [History(FIRST, first), History(SECOND, second)]
    return find_violations(Provider(intents={"wish": seen}), histories, records)


@pytest.mark.parametrize(
    ("seen", "first", "second", "records"),
    [
        (BOTH_MADE, [CREATED], [CREATED_TOO], BOTH),
        # A search assigned one of them the other's copy, and a response corrected it.
        (BOTH_MADE, [CREATED], [FOUND, later(CREATED_TOO)], BOTH),
        (
            MADE,
            [CREATED],
            [replace(REJECTED, duplication="d2")],
            BOTH | {"b": record("REJECTED", None, "d2")},
        ),
    ],
)
def test_equal_intents_may_have_one_copy_each(
    seen: Traffic,
    first: list[GatewayResponse],
    second: list[GatewayResponse],
    records: dict[str, Duplication],
) -> None:
    violations = check_equal_intents(seen, first, second, records)
    assert not violations.all
    assert violations.most_copies == 1


@pytest.mark.parametrize(
    ("seen", "first", "second", "records", "complaint"),
    [
        (replace(BOTH_MADE, copies={"c1": 1, "c2": 2, "c3": 3}), [], [], BOTH, "too_many"),
        (replace(BOTH_MADE, posts=[1, 2, 3]), [], [], BOTH, "too_many"),
        (BOTH_MADE, [], [], {"a": record("CREATED", "c1")}, "lost"),
        (BOTH_MADE, [replace(REJECTED, duplication=None)], [], BOTH, "false"),
        (BOTH_MADE, [], [FOUND], BOTH | {"b": record("CREATED", "c1", "d2")}, "shared"),
        # A response of the provider is never taken back.
        (BOTH_MADE, [], [replace(CREATED_TOO, campaign="c1")], BOTH, "taken_back"),
    ],
)
def test_equal_intents_with_more_copies_than_intents_are_found(
    seen: Traffic,
    first: list[GatewayResponse],
    second: list[GatewayResponse],
    records: dict[str, Duplication],
    complaint: str,
) -> None:
    assert getattr(check_equal_intents(seen, first, second, records), complaint)


def test_second_press_with_a_new_key_still_wants_one_copy() -> None:
    again = replace(WANTED, key="wish.2")
    refused, made = History(WANTED, [REJECTED]), History(again, [CREATED_TOO])
    records = {"wish": record("REJECTED"), "wish.2": record("CREATED", "c2", "d2")}
    once = Traffic(posts=[1, 2], copies={"c2": 2})
    assert not find_violations(Provider(intents={"wish": once}), [refused, made], records).all
    violations = find_violations(Provider(intents={"wish": BOTH_MADE}), [refused, made], records)
    assert violations.too_many
    assert violations.false
    assert violations.most_copies == 2


@pytest.mark.parametrize(
    ("bug", "fault", "complaint"),
    [
        ("sends again", "fin-after-copy", "too_many"),
        ("takes 503 for a refusal", "status-503-after-copy", "false"),
        ("sends before recording", "held-after-copy", "too_many"),
        ("responds before recording", "none", "taken_back"),
        ("takes the newest campaign", "fin-after-copy", "false"),
    ],
)
async def test_gateway_with_a_seeded_bug_breaks_a_promise(
    tmp_path: Path,
    provider: Provider,
    http: httpx.AsyncClient,
    bug: str,
    fault: str,
    complaint: str,
) -> None:
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    config = configuration(tmp_path, ledger, {"one": provider.url}, timeout=10)
    wanted = intents([fault] * 6, ("one",))
    gateway = await listening(launch(config, {"bug": bug}))
    if fault.startswith("held"):
        provider.on_copy[wanted[3].name] = gateway.process.kill

    def where() -> str:
        return gateway.url if gateway.is_running else ""

    histories: list[History] = []
    give_up_at = monotonic() + 40
    try:
        while True:
            histories += await retry_all_until_final(http, where, provider, wanted, seconds=2)
            violations = find_violations(provider, histories, await recorded(ledger))
            if getattr(violations, complaint) or monotonic() > give_up_at:
                break
            if not gateway.is_running:
                gateway = await listening(launch(config, {"bug": bug}))
                provider.released.set()
    finally:
        gateway.kill()
    assert getattr(violations, complaint), violations
