"""How connectors read one campaign, and what they make of the response."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from campaign_gateway.connectors.contract import (
    ProviderResponse,
    ReadsCampaigns,
    UnexpectedResponse,
)
from campaign_gateway.model import Campaign, Refused
from support.connectors import (
    ReadRecording,
    accounts_with,
    as_id,
    assert_blames,
    assert_valid_campaign,
    connect,
    first_connector,
    provider_of,
    recording_name,
    recordings,
)
from support.ids import HOSTILE_IDS, assert_same_place, shown
from support.responses import UNREADABLE
from support.strange_responses import RANDOM, damaged

RECORDED = recordings("lookup")


@pytest.fixture(scope="module", params=accounts_with(ReadsCampaigns), ids=as_id)
def account(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def connector(account: tuple[str, str]) -> ReadsCampaigns[Any]:
    return reading(connect(*account))


def reading(connector: object) -> ReadsCampaigns[Any]:
    assert isinstance(connector, ReadsCampaigns)
    return connector


def assert_none_or(campaign: Campaign | None, campaign_id: str, context: str = "") -> None:
    if campaign is not None:
        assert campaign.id == campaign_id, context
        assert_valid_campaign(campaign)


@pytest.mark.parametrize("recording", RECORDED, ids=recording_name)
def test_recorded_lookup_gives_the_campaign_in_its_name(
    recording: Path, read_recording: ReadRecording
) -> None:
    connector = reading(first_connector(provider_of(recording))[0])
    response = read_recording(recording)
    match recording.stem.split("."):
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
            pytest.fail(f"{recording.name} is not named as a recording is")


@pytest.mark.parametrize("recording", RECORDED, ids=recording_name)
def test_damaged_lookup_never_invents_a_campaign(
    recording: Path, read_recording: ReadRecording
) -> None:
    connector = reading(first_connector(provider_of(recording))[0])
    campaign_id = recording.stem.split(".")[1]
    for change, response in damaged(read_recording(recording)):
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


@settings(max_examples=100, deadline=None)
@given(response=RANDOM)
def test_random_lookup_raises_nothing_unexpected(
    connector: ReadsCampaigns[Any], response: ProviderResponse
) -> None:
    try:
        campaign = connector.parse_lookup(response, "97")
    except UnexpectedResponse:
        return
    assert_none_or(campaign, "97")


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
