"""How connectors read one campaign, and what they make of the response."""

from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.connectors.contract import (
    ProviderResponse,
    ReadsCampaigns,
    UnexpectedResponse,
)
from campaign_gateway.model import Campaign, Refused
from campaign_gateway.sandbox.contract_suite.calling import read_recording
from campaign_gateway.sandbox.contract_suite.ids import HOSTILE_IDS, assert_same_place, shown
from campaign_gateway.sandbox.contract_suite.responses import UNREADABLE
from campaign_gateway.sandbox.contract_suite.strange_responses import damaged, try_random_responses
from campaign_gateway.sandbox.contract_suite.subject import (
    Subject,
    assert_blames,
    assert_valid_campaign,
    first_connector,
)


def assert_none_or(campaign: Campaign | None, campaign_id: str, context: str = "") -> None:
    if campaign is not None:
        assert campaign.id == campaign_id, context
        assert_valid_campaign(campaign)


def test_recorded_lookup_gives_the_campaign_in_its_name(
    subject: Subject, lookup_recording: Path
) -> None:
    connector, _ = first_connector(subject)
    response = read_recording(lookup_recording)
    match lookup_recording.stem.split("."):
        case [_, "unreadable", _]:
            with pytest.raises(UnexpectedResponse):
                connector.parse_lookup(response, "97")
        case [_, "none", _]:
            assert connector.parse_lookup(response, "97") is None
        case [_, campaign_id, _]:
            campaign = connector.parse_lookup(response, campaign_id)
            assert campaign is not None
            assert campaign.id == campaign_id
            assert campaign.name
        case _:
            pytest.fail(f"{lookup_recording.name} is not named like a lookup_recording")


def test_damaged_lookup_never_invents_a_campaign(subject: Subject, lookup_recording: Path) -> None:
    connector, _ = first_connector(subject)
    campaign_id = lookup_recording.stem.split(".")[1]
    for change, response in damaged(read_recording(lookup_recording)):
        try:
            campaign = connector.parse_lookup(response, campaign_id)
        except UnexpectedResponse:
            continue
        assert_none_or(campaign, campaign_id, change)


def test_unreadable_lookup_raises_or_finds_nothing(connector: ReadsCampaigns[Any]) -> None:
    for response in UNREADABLE:
        try:
            campaign = connector.parse_lookup(response, "97")
        except UnexpectedResponse:
            continue
        # Some providers have no other response for a campaign that does not exist.
        assert campaign is None
        assert response.status in {400, 404}


def test_random_lookup_raises_nothing_unexpected(
    subject: Subject, connector: ReadsCampaigns[Any]
) -> None:
    def check(response: ProviderResponse) -> None:
        try:
            campaign = connector.parse_lookup(response, "97")
        except UnexpectedResponse:
            return
        assert_none_or(campaign, "97")

    try_random_responses(subject, check)


def test_hostile_ids_never_change_where_a_lookup_goes(
    connector: ReadsCampaigns[Any], copy_input: Any
) -> None:
    assert_same_place(lambda related: connector.build_lookup("97", related), copy_input)


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=shown)
def test_hostile_id_is_never_looked_up(
    connector: ReadsCampaigns[Any], copy_input: Any, hostile: str
) -> None:
    for related_input in (copy_input, None):
        with pytest.raises(Refused) as refusal:
            connector.build_lookup(hostile, related_input)
        assert_blames(refusal.value, "id")
