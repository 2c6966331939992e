"""How connectors rename a copy, and what they make of the response."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from campaign_gateway.connectors.contract import Connector, ProviderResponse, RenamesCopies
from campaign_gateway.model import ErrorCode, Refused
from support.connectors import (
    ReadRecording,
    accounts_with,
    as_id,
    assert_blames,
    assert_valid,
    connect,
    first_connector,
    provider_of,
    recording_name,
    recordings,
)
from support.ids import HOSTILE_IDS, shown
from support.names import STRANGE_NAMES
from support.responses import respond
from support.strange_responses import RANDOM

LOOKUP = respond(200, {"id": "97", "settings": {}})


@pytest.fixture(scope="module", params=accounts_with(RenamesCopies), ids=as_id)
def account(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def connector(account: tuple[str, str]) -> Connector[Any]:
    return connect(*account)


@pytest.fixture(scope="module")
def renaming(connector: Connector[Any]) -> RenamesCopies[Any]:
    assert isinstance(connector, RenamesCopies)
    return connector


@pytest.mark.parametrize("recording", recordings("renamed", "unnamed"), ids=recording_name)
def test_recorded_rename_gives_the_result_in_its_name(
    recording: Path, read_recording: ReadRecording
) -> None:
    connector, _ = first_connector(provider_of(recording))
    assert isinstance(connector, RenamesCopies)
    failure = connector.parse_rename(read_recording(recording))
    match recording.stem.split("."):
        case ["renamed", _]:
            assert failure is None
        case ["unnamed", code, _]:
            assert failure is not None
            assert failure.error.code == ErrorCode(code.upper())
        case _:
            pytest.fail(f"{recording.name} is not named as a recording is")


@settings(max_examples=100, deadline=None)
@given(response=RANDOM)
def test_random_rename_response_never_raises(
    renaming: RenamesCopies[Any], response: ProviderResponse
) -> None:
    failure = renaming.parse_rename(response)
    if failure is None:
        assert response.is_success
        assert response.complete
    else:
        assert_valid(failure)


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=shown)
def test_hostile_id_of_a_copy_is_never_renamed(
    renaming: RenamesCopies[Any], copy_input: Any, hostile: str
) -> None:
    with pytest.raises(Refused):
        renaming.build_rename(copy_input, hostile, LOOKUP)


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=shown)
def test_name_is_rejected_before_there_is_a_copy_to_rename(
    connector: Connector[Any], renaming: RenamesCopies[Any], copy_input: Any, name: str
) -> None:
    named = replace(copy_input, name=name)
    try:
        renaming.build_rename(named, "97", LOOKUP)
    except Refused as refusal:
        assert_blames(refusal, "name")
        with pytest.raises(Refused) as before:
            connector.build_request(named)
        assert_blames(before.value, "name")
    else:
        assert connector.build_request(named).method == "POST"
