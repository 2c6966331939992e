"""How connectors read the progress of a copy, and what they make of the response."""

from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.connectors.contract import (
    ProviderResponse,
    ReportsProgress,
    UnexpectedResponse,
)
from campaign_gateway.model import Created, Refused
from campaign_gateway.sandbox.contract_suite.calling import read_recording
from campaign_gateway.sandbox.contract_suite.ids import HOSTILE_IDS, shown
from campaign_gateway.sandbox.contract_suite.strange_responses import try_random_responses
from campaign_gateway.sandbox.contract_suite.subject import (
    Subject,
    assert_valid,
    first_connector,
)


def test_recorded_progress_gives_the_outcome_in_its_name(
    subject: Subject, progress_recording: Path
) -> None:
    connector, copy_input = first_connector(subject)
    response = read_recording(progress_recording)
    match progress_recording.stem.split("."):
        case [_, "unreadable", _]:
            with pytest.raises(UnexpectedResponse):
                connector.parse_progress(copy_input, "97", response)
        case [_, expected, copy_id, _]:
            outcome = connector.parse_progress(copy_input, copy_id, response)
            assert type(outcome).__name__.lower() == expected
            assert_valid(outcome)
            assert not isinstance(outcome, Created) or outcome.campaign.id == copy_id
        case _:
            pytest.fail(f"{progress_recording.name} is not named like a progress_recording")


def test_random_progress_raises_nothing_unexpected(
    subject: Subject, connector: ReportsProgress[Any], copy_input: Any
) -> None:
    def check(response: ProviderResponse) -> None:
        try:
            outcome = connector.parse_progress(copy_input, "97", response)
        except UnexpectedResponse:
            return
        assert response.is_success
        assert response.complete
        assert_valid(outcome)
        assert not isinstance(outcome, Created) or outcome.campaign.id == "97"

    try_random_responses(subject, check)


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=shown)
def test_progress_of_a_hostile_id_is_never_requested(
    connector: ReportsProgress[Any], copy_input: Any, hostile: str
) -> None:
    with pytest.raises(Refused):
        connector.build_progress(copy_input, hostile)
