"""Every connector at its running emulator, over real sockets."""

import asyncio
import random
import re
import types
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.connectors.contract import (
    ListsCampaigns,
    LostCopy,
    NarrowsSearches,
    ReadsCampaigns,
)
from campaign_gateway.model import (
    Accepted,
    Campaign,
    Created,
    ErrorCode,
    Outcome,
    Rejected,
    Unknown,
    WarningCode,
)
from campaign_gateway.sandbox import emulation
from campaign_gateway.sandbox.contract_suite.calling import duplicate, free_permit
from campaign_gateway.sandbox.contract_suite.fixtures import Counted
from campaign_gateway.sandbox.contract_suite.subject import (
    Subject,
    can_be_named,
)

# The result of each fault that every emulator can have, and how many copies it makes.
FAULTS: dict[str, tuple[types.UnionType | type, int]] = {
    "slow": (Created | Accepted, 1),
    "hang": (NoResponse, 0),
    "cut-before-copy": (NoResponse, 0),
    "cut-after-copy": (NoResponse, 1),
    "cut-in-response": (Accepted | Unknown, 1),
    "garbage": (NoResponse, 1),
    "unreadable": (Accepted | Unknown, 1),
    "empty": (Accepted | Unknown, 1),
    "redirect": (Unknown, 0),
}


async def test_emulated_outcome_is_recognised(
    subject: Subject,
    emulated: tuple[Account, Any, str],
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account, copy_input, description = emulated
    monkeypatch.setattr(emulation, "SLOW_SECONDS", 0.2)
    refusals = subject.refusals
    expected, copies = expected_result(copy_input.campaign_id, description, refusals)
    before = counted()
    outcome: Outcome | NoResponse
    try:
        outcome = await duplicate(account, copy_input)
    except NoResponse as failure:
        outcome = failure
    after = counted()
    assert isinstance(outcome, expected)
    assert after["asked"] == before["asked"] + 1
    assert after["count"] == before["count"] + copies
    if isinstance(outcome, Created):
        assert after["copies"][-1]["id"] == outcome.campaign.id
        assert {warning.code for warning in outcome.warnings} & PENDING == pending_steps(
            description
        )
        if WarningCode.NAME_NOT_APPLIED not in pending_steps(description):
            name = copy_input.name if can_be_named(copy_input) else outcome.campaign.name
            assert after["copies"][-1]["name"] == outcome.campaign.name == name
    if isinstance(outcome, Rejected):
        is_unknown = re.search("unknown|not found", description)
        code = ErrorCode.CAMPAIGN_NOT_FOUND if is_unknown else refusals[number_in(description)]
        assert outcome.error.code == code


PENDING = {
    WarningCode.NAME_NOT_APPLIED,
    WarningCode.NOT_APPLIED,
    WarningCode.DETAILS_UNKNOWN,
}


def pending_steps(description: str) -> set[WarningCode]:
    """Return the steps that fail after a copy, by the emulator's own description."""
    _, _, failure = description.partition("copied, then ")
    words = {
        "the new name": WarningCode.NAME_NOT_APPLIED,
        "the audience": WarningCode.NOT_APPLIED,
        "reading it back": WarningCode.DETAILS_UNKNOWN,
    }
    return {code for word, code in words.items() if word in failure}


def expected_result(
    source: object, description: str, refusals: Mapping[int, ErrorCode]
) -> tuple[types.UnionType | type, int]:
    """Return the type of the outcome and the number of copies, by the emulator's description."""
    for word in (str(source), description.partition(":")[0]):
        if word in FAULTS:
            return FAULTS[word]
    number = number_in(description)
    if number in refusals:
        return Rejected, 0
    if number == 0 or 200 <= number < 300:
        return Created | Accepted, 0 if "no copy" in description else 1
    return Unknown, 0


def number_in(description: str) -> int:
    """Return the last status or error number in a description, or 0 if there is none."""
    return int((re.findall(r"\b[1-5]\d\d\b", description) or ["0"])[-1])


async def test_copy_is_found_and_read_again(
    live: Account,
    emulator: ModuleType,
    copy_input: Any,
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # For a provider that makes copies after its response.
    monkeypatch.setattr(emulator, "CREATION_SECONDS", 0.1, raising=False)
    if can_be_named(copy_input):
        copy_input = replace(copy_input, name=f"Found 'again' {random.randrange(10**9)}")
    outcome = await duplicate(live, copy_input)
    made = counted()["copies"][-1]
    assert copy_input.name in {made["name"], None}
    if isinstance(live.connector, ListsCampaigns):
        campaigns = await search(live, live.connector, copy_input)
        assert [campaign.id for campaign in campaigns] == [made["id"]]
        source = str(copy_input.campaign_id) if live.connector.reports_source else None
        assert campaigns[0].copied_from == source
    if isinstance(live.connector, ListsCampaigns) and isinstance(live.connector, NarrowsSearches):
        lost = LostCopy(copy_input.name, datetime.now(UTC) - timedelta(hours=1))
        request = live.connector.build_copy_search(copy_input, None, lost)
        response = await live.transport.send_idempotent(request, free_permit())
        narrowed = live.connector.parse_search(response, None).campaigns
        assert made["id"] in {campaign.id for campaign in narrowed}
    if isinstance(live.connector, ReadsCampaigns):
        read = await look_up(live, live.connector, made["id"], copy_input)
        assert read is not None
        assert (read.id, read.name) == (made["id"], made["name"])
        if isinstance(outcome, Created):
            assert read.id == outcome.campaign.id
        assert await look_up(live, live.connector, "987654321", copy_input) is None
        if isinstance(live.connector, ListsCampaigns) and live.connector.list_has_all_fields:
            assert await search(live, live.connector, copy_input) == [read]


async def search(
    account: Account, connector: ListsCampaigns[Any], copy_input: Any
) -> list[Campaign]:
    """Wait until the list has campaigns with the copy's name, and return those of all pages."""
    campaigns: list[Campaign] = []
    for _ in range(40):
        cursor: str | None = None
        for _ in range(5):
            response = await account.transport.send_idempotent(
                connector.build_search(copy_input, cursor), free_permit()
            )
            page = connector.parse_search(response, cursor)
            campaigns += [one for one in page.campaigns if one.name == copy_input.name]
            cursor = page.next_cursor
            if cursor is None:
                break
        if campaigns:
            break
        await asyncio.sleep(0.05)
    return campaigns


async def look_up(
    account: Account, connector: ReadsCampaigns[Any], campaign_id: str, related_input: Any
) -> Campaign | None:
    request = connector.build_lookup(campaign_id, related_input)
    response = await account.transport.send_idempotent(request, free_permit())
    return connector.parse_lookup(response, campaign_id)
