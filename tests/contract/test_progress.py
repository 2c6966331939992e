"""How connectors read the progress of a copy, and what they make of the response."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from campaign_gateway.connectors.contract import (
    ProviderResponse,
    ReportsProgress,
    UnexpectedResponse,
)
from campaign_gateway.model import Created, Refused
from support.connectors import (
    ReadRecording,
    accounts_with,
    as_id,
    assert_valid,
    connect,
    first_connector,
    provider_of,
    recording_name,
    recordings,
)
from support.ids import HOSTILE_IDS, shown
from support.strange_responses import RANDOM


@pytest.fixture(scope="module", params=accounts_with(ReportsProgress), ids=as_id)
def account(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def connector(account: tuple[str, str]) -> ReportsProgress[Any]:
    connector = connect(*account)
    assert isinstance(connector, ReportsProgress)
    return connector


@pytest.mark.parametrize("recording", recordings("progress"), ids=recording_name)
def test_recorded_progress_gives_the_outcome_in_its_name(
    recording: Path, read_recording: ReadRecording
) -> None:
    connector, copy_input = first_connector(provider_of(recording))
    assert isinstance(connector, ReportsProgress)
    response = read_recording(recording)
    match recording.stem.split("."):
        case [_, "unreadable", _]:
            with pytest.raises(UnexpectedResponse):
                connector.parse_progress(copy_input, "97", response)
        case [_, expected, copy_id, _]:
            outcome = connector.parse_progress(copy_input, copy_id, response)
            assert type(outcome).__name__.lower() == expected
            assert_valid(outcome)
            assert not isinstance(outcome, Created) or outcome.campaign.id == copy_id
        case _:
            pytest.fail(f"{recording.name} is not named as a recording is")


@settings(max_examples=100, deadline=None)
@given(response=RANDOM)
def test_random_progress_raises_nothing_unexpected(
    connector: ReportsProgress[Any], copy_input: Any, response: ProviderResponse
) -> None:
    try:
        outcome = connector.parse_progress(copy_input, "97", response)
    except UnexpectedResponse:
        return
    assert response.is_success
    assert response.complete
    assert_valid(outcome)
    assert not isinstance(outcome, Created) or outcome.campaign.id == "97"


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=shown)
def test_progress_of_a_hostile_id_is_never_requested(
    connector: ReportsProgress[Any], copy_input: Any, hostile: str
) -> None:
    with pytest.raises(Refused):
        connector.build_progress(copy_input, hostile)
