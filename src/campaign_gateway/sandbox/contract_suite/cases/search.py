"""How connectors search for a copy, and what they make of the response."""

import re
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.connectors.contract import (
    ListsCampaigns,
    ProviderResponse,
    UnexpectedResponse,
)
from campaign_gateway.sandbox.contract_suite.calling import read_recording
from campaign_gateway.sandbox.contract_suite.ids import assert_same_place, place_of
from campaign_gateway.sandbox.contract_suite.responses import UNREADABLE
from campaign_gateway.sandbox.contract_suite.strange_responses import damaged, try_random_responses
from campaign_gateway.sandbox.contract_suite.subject import (
    Subject,
    assert_valid_campaign,
    first_connector,
)


def test_recorded_search_gives_the_campaign_in_its_name(
    subject: Subject, search_recording: Path
) -> None:
    connector, _ = first_connector(subject)
    response = read_recording(search_recording)
    _, expected, _ = search_recording.stem.split(".")
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


def test_damaged_search_never_invents_a_campaign(subject: Subject, search_success: Path) -> None:
    connector, _ = first_connector(subject)
    good = read_recording(search_success)
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


def test_random_search_raises_nothing_unexpected(
    subject: Subject, connector: ListsCampaigns[Any], copy_input: Any
) -> None:
    def check(response: ProviderResponse) -> None:
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

    try_random_responses(subject, check)


def test_hostile_ids_never_change_where_a_search_goes(
    connector: ListsCampaigns[Any], copy_input: Any
) -> None:
    assert_same_place(lambda searched: connector.build_search(searched, None), copy_input)
