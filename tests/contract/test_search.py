"""How connectors search for a copy, and what they make of the response."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from campaign_gateway.connectors.contract import (
    ListsCampaigns,
    LostCopy,
    NamesCopies,
    NarrowsSearches,
    ProviderResponse,
    UnexpectedResponse,
)
from support.connectors import (
    ReadRecording,
    accounts_with,
    as_id,
    assert_valid_campaign,
    connect,
    example_of,
    first_connector,
    provider_of,
    recording_name,
    recordings,
)
from support.ids import assert_same_place, place_of, shown
from support.responses import UNREADABLE
from support.strange_responses import RANDOM, damaged

RECORDED = recordings("search")
SUCCESSES = [path for path in RECORDED if path.read_bytes().startswith(b"HTTP/1.1 2")]


@pytest.fixture(scope="module", params=accounts_with(ListsCampaigns), ids=as_id)
def account(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def connector(account: tuple[str, str]) -> ListsCampaigns[Any]:
    return listing(connect(*account))


def listing(connector: object) -> ListsCampaigns[Any]:
    assert isinstance(connector, ListsCampaigns)
    return connector


@pytest.mark.parametrize("recording", RECORDED, ids=recording_name)
def test_recorded_search_gives_the_campaign_in_its_name(
    recording: Path, read_recording: ReadRecording
) -> None:
    connector = listing(first_connector(provider_of(recording))[0])
    response = read_recording(recording)
    _, expected, _ = recording.stem.split(".")
    if expected == "unreadable":
        with pytest.raises(UnexpectedResponse):
            connector.parse_search(response, None)
        return
    campaigns = connector.parse_search(response, None).campaigns
    if expected == "none":
        assert not campaigns
    else:
        (campaign,) = (candidate for candidate in campaigns if candidate.id == expected)
        assert campaign.name


@pytest.mark.parametrize("recording", SUCCESSES, ids=recording_name)
def test_damaged_search_never_invents_a_campaign(
    recording: Path, read_recording: ReadRecording
) -> None:
    connector = listing(first_connector(provider_of(recording))[0])
    good = read_recording(recording)
    words = re.findall(rb"[A-Za-z0-9_-]+", good.body)
    for change, response in damaged(good):
        try:
            page = connector.parse_search(response, None)
        except UnexpectedResponse:
            continue
        for campaign in page.campaigns:
            assert campaign.id.encode() in words, change
            assert_valid_campaign(campaign)


def test_unreadable_search_raises(connector: ListsCampaigns[Any]) -> None:
    for response in UNREADABLE:
        with pytest.raises(UnexpectedResponse):
            connector.parse_search(response, None)


@settings(max_examples=100, deadline=None)
@given(response=RANDOM)
def test_random_search_raises_nothing_unexpected(
    connector: ListsCampaigns[Any], copy_input: Any, response: ProviderResponse
) -> None:
    try:
        page = connector.parse_search(response, None)
    except UnexpectedResponse:
        return
    for campaign in page.campaigns:
        assert_valid_campaign(campaign)
    if page.next_cursor is not None:
        # A cursor with any content must lead to the same place as a plain one.
        request = connector.build_search(copy_input, page.next_cursor)
        assert place_of(request) == place_of(connector.build_search(copy_input, "1"))


def test_hostile_ids_never_change_where_a_search_goes(
    connector: ListsCampaigns[Any], copy_input: Any
) -> None:
    assert_same_place(lambda searched: connector.build_search(searched, None), copy_input)


SINCE = datetime(2026, 5, 1, 11, 0, tzinfo=UTC)


@pytest.mark.parametrize("narrowing", accounts_with(NarrowsSearches), ids=as_id)
@pytest.mark.parametrize(
    "name", [None, "A copy", " x ", "'", '"it\'s" \\ 5', "é&=,)(", "x" * 1000], ids=shown
)
def test_search_for_a_copy_goes_where_every_search_goes(
    narrowing: tuple[str, str], name: str | None
) -> None:
    connector: Any = connect(*narrowing)
    copy_input = example_of(narrowing[0])
    lost = LostCopy(name, SINCE)
    request = connector.build_copy_search(copy_input, "1", lost)
    usual = connector.build_search(copy_input, "1")
    assert request.url.partition("?")[0] == usual.url.partition("?")[0]
    # The same for each page, because some cursors are valid only with the same filters.
    assert request == connector.build_copy_search(copy_input, "1", lost)


@pytest.mark.parametrize(
    ("provider", "name", "source"),
    [
        ("klaviyo", "Copy of Sale", "Sale"),
        ("mailchimp", "Sale (copy 01)", "Sale"),
        ("mailchimp", "A (b) [c] (copy 12)", "A (b) [c]"),
        ("omnisend", "Copy of: Sale", "Sale"),
        ("sendgrid", "Copy of Sale", "Sale"),
        ("sendgrid", "Copy of " + "x" * 92, "x" * 100),
    ],
)
def test_name_that_a_provider_gives_to_a_copy_is_recognised(
    provider: str, name: str, source: str
) -> None:
    connector = first_connector(provider)[0]
    assert isinstance(connector, NamesCopies)
    assert connector.is_name_of_copy(name, source)
    for other in (source, f"{name} 2", f"x{name}", "Copy", "", "Copy of", "Copy of Sales"):
        assert not connector.is_name_of_copy(other, source)
