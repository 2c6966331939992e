"""How connectors request access tokens, and when they report that one is rejected."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from campaign_gateway.connectors.contract import (
    Connector,
    ProviderResponse,
    Token,
    UnexpectedResponse,
    UsesAccessTokens,
)
from campaign_gateway.model import ErrorCode, Rejected
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
from support.strange_responses import RANDOM, damaged

ACCOUNTS = accounts_with(UsesAccessTokens)
COPIES = [
    path
    for path in recordings("created", "accepted", "rejected", "unknown")
    if provider_of(path) in {provider for provider, _ in ACCOUNTS}
]


@pytest.fixture(scope="module", params=ACCOUNTS, ids=as_id)
def account(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def connector(account: tuple[str, str]) -> Connector[Any]:
    return connect(*account)


@pytest.fixture(scope="module")
def tokens(connector: Connector[Any]) -> UsesAccessTokens:
    assert isinstance(connector, UsesAccessTokens)
    return connector


@pytest.mark.parametrize("recording", recordings("signin"), ids=recording_name)
def test_recorded_token_response_gives_the_result_in_its_name(
    recording: Path, read_recording: ReadRecording
) -> None:
    connector, _ = first_connector(provider_of(recording))
    assert isinstance(connector, UsesAccessTokens)
    response = read_recording(recording)
    match recording.stem.split("."):
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
            pytest.fail(f"{recording.name} is not named as a recording is")


@settings(max_examples=200, deadline=None)
@given(response=RANDOM)
def test_random_token_response_raises_nothing_unexpected(
    connector: Connector[Any],
    tokens: UsesAccessTokens,
    copy_input: Any,
    response: ProviderResponse,
) -> None:
    # If the token is rejected, the gateway sends the copying call again.
    if tokens.rejects_token(response):
        assert isinstance(connector.parse_response(copy_input, response), Rejected)
    try:
        token = tokens.parse_token(response)
    except UnexpectedResponse:
        return
    if isinstance(token, Token):
        assert response.is_success
        assert re.fullmatch(r"[\x21-\x7e]+", token.value)
        assert token.lifetime > 0
    else:
        assert_valid(token)


@pytest.mark.parametrize("recording", COPIES, ids=recording_name)
def test_only_an_authentication_failure_rejects_the_token(
    recording: Path, read_recording: ReadRecording
) -> None:
    connector, copy_input = first_connector(provider_of(recording))
    assert isinstance(connector, UsesAccessTokens)
    good = read_recording(recording)
    for change, response in [("nothing", good), *damaged(good)]:
        if connector.rejects_token(response):
            outcome = connector.parse_response(copy_input, response)
            assert isinstance(outcome, Rejected), change
            assert outcome.error.code is ErrorCode.AUTHENTICATION_FAILED, change
