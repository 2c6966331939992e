"""How connectors rename a copy, and what they make of the response."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.connectors.contract import (
    ProviderResponse,
    RenamesCopies,
)
from campaign_gateway.model import ErrorCode, Refused
from campaign_gateway.sandbox.contract_suite.calling import read_recording
from campaign_gateway.sandbox.contract_suite.ids import HOSTILE_IDS, shown
from campaign_gateway.sandbox.contract_suite.names import STRANGE_NAMES
from campaign_gateway.sandbox.contract_suite.responses import RENAMABLE_COPY
from campaign_gateway.sandbox.contract_suite.strange_responses import try_random_responses
from campaign_gateway.sandbox.contract_suite.subject import (
    Subject,
    assert_blames,
    assert_valid_failure,
    first_connector,
)


def test_recorded_rename_gives_the_result_in_its_name(
    subject: Subject, rename_recording: Path
) -> None:
    connector, _ = first_connector(subject)
    failure = connector.parse_rename(read_recording(rename_recording))
    match rename_recording.stem.split("."):
        case ["renamed", _]:
            assert failure is None
        case ["unnamed", code, _]:
            assert failure is not None
            assert failure.error.code == ErrorCode(code.upper())
        case _:
            pytest.fail(f"{rename_recording.name} is not named like a rename_recording")


def test_random_rename_response_never_raises(
    subject: Subject, connector: RenamesCopies[Any]
) -> None:
    def check(response: ProviderResponse) -> None:
        assert_valid_failure(connector.parse_rename(response), response)

    try_random_responses(subject, check)


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=shown)
def test_hostile_id_of_a_copy_is_never_renamed(
    connector: RenamesCopies[Any], copy_input: Any, hostile: str
) -> None:
    with pytest.raises(Refused):
        connector.build_rename(copy_input, hostile, RENAMABLE_COPY)


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=shown)
def test_name_is_rejected_before_there_is_a_copy_to_rename(
    connector: Any, copy_input: Any, name: str
) -> None:
    named = replace(copy_input, name=name)
    try:
        connector.build_rename(named, "97", RENAMABLE_COPY)
    except Refused as refusal:
        assert_blames(refusal, "name")
        with pytest.raises(Refused) as before:
            connector.build_request(named)
        assert_blames(before.value, "name")
    else:
        assert connector.build_request(named).method == "POST"
