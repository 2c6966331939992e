"""How connectors request access tokens, and when they report that one is rejected."""

import re
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.connectors.contract import (
    ProviderResponse,
    Token,
    UnexpectedResponse,
)
from campaign_gateway.model import ErrorCode, Rejected
from campaign_gateway.sandbox.contract_suite.calling import read_recording
from campaign_gateway.sandbox.contract_suite.strange_responses import damaged, try_random_responses
from campaign_gateway.sandbox.contract_suite.subject import (
    Subject,
    assert_valid,
    first_connector,
)


def test_recorded_token_response_gives_the_result_in_its_name(
    subject: Subject, token_recording: Path
) -> None:
    connector, _ = first_connector(subject)
    response = read_recording(token_recording)
    match token_recording.stem.split("."):
        case ["signin", "token"]:
            token = connector.parse_token(response)
            assert isinstance(token, Token)
            assert token.value.encode() in response.body
            assert token.lifetime > 0
            assert token.value not in repr(token)
        case ["signin", "unreadable", _]:
            with pytest.raises(UnexpectedResponse):
                connector.parse_token(response)
        case ["signin", code, _]:
            rejection = connector.parse_token(response)
            assert isinstance(rejection, Rejected)
            assert rejection.error.code == ErrorCode(code.upper())
        case _:
            pytest.fail(f"{token_recording.name} is not named like a token_recording")


def test_random_token_response_raises_nothing_unexpected(
    subject: Subject, connector: Any, copy_input: Any
) -> None:
    def check(response: ProviderResponse) -> None:
        # If the token is rejected, the gateway sends the copying call again.
        if connector.rejects_token(response):
            assert isinstance(connector.parse_response(copy_input, response), Rejected)
        try:
            token = connector.parse_token(response)
        except UnexpectedResponse:
            return
        if isinstance(token, Token):
            assert response.is_success
            assert re.fullmatch(r"[\x21-\x7e]+", token.value)
            assert token.lifetime > 0
        else:
            assert_valid(token)

    try_random_responses(subject, check)


def test_only_an_authentication_failure_rejects_the_token(
    subject: Subject, copy_recording: Path
) -> None:
    connector, copy_input = first_connector(subject)
    good = read_recording(copy_recording)
    for change, response in [("nothing", good), *damaged(good)]:
        if connector.rejects_token(response):
            outcome = connector.parse_response(copy_input, response)
            assert isinstance(outcome, Rejected), change
            assert outcome.error.code is ErrorCode.AUTHENTICATION_FAILED, change
