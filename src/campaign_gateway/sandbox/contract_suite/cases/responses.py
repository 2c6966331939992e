"""What every connector makes of a response to the call that copies a campaign.

A recording in the folder `recordings` has the expected result in its name:

    created.<id>.<what>.http     the copy exists and has this id
    accepted.<what>.http         the provider accepted the copy and did not return its id
    rejected.<code>.<what>.http  no copy was made; the code is in lower case
    unknown.<what>.http          a copy may or may not exist
    search.<id>.<what>.http      a page with this campaign; `none`: a page without campaigns
    lookup.<id>.<what>.http      this campaign; `none`: there is no such campaign
    renamed.<what>.http          the copy has its name
    unnamed.<code>.<what>.http   the copy does not have its name; the code is in lower case
    progress.created.<id>.<what>.http, progress.accepted..., progress.rejected...
                                 the progress of the copy with this id
    signin.token.http, signin.<code>.<what>.http    a token, or the reason why there is none
    access.granted.<what>.http, access.missing.<what>.http
                                 a read of a check: no permission is missing, or one is
    <kind>.unreadable.<what>.http    a response that shows nothing, of the last two and of search
                                     and lookup
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from campaign_gateway.connectors.contract import Connector, ProviderResponse, UsesAccessTokens
from campaign_gateway.model import (
    Accepted,
    Created,
    ErrorCode,
    Outcome,
    Rejected,
    Retry,
    Unknown,
)
from campaign_gateway.sandbox.contract_suite.calling import (
    duplicate,
    read_recording,
    split_recording,
)
from campaign_gateway.sandbox.contract_suite.fixtures import OpenAt
from campaign_gateway.sandbox.contract_suite.responses import CHEAP, COSTLY
from campaign_gateway.sandbox.contract_suite.strange_responses import damaged, try_random_responses
from campaign_gateway.sandbox.contract_suite.subject import (
    Subject,
    assert_valid,
    example_of,
    first_connector,
    secrets_of,
)


def test_recorded_response_gives_the_outcome_in_its_name(
    subject: Subject, copy_recording: Path
) -> None:
    connector, copy_input = first_connector(subject)
    outcome = connector.parse_response(copy_input, read_recording(copy_recording))
    assert_as_named(outcome, copy_recording)


async def test_recorded_response_gives_the_same_outcome_from_a_socket(
    subject: Subject, copy_recording: Path, open_at: OpenAt
) -> None:
    connector, copy_input = first_connector(subject)
    token_path = token_path_of(connector)
    token = subject.recording("signin.token")

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asks_for_token = token_path and token_path in head.split()[1].decode()
        writer.write(as_sent(token if asks_for_token else copy_recording))
        writer.write_eof()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        account = open_at(url, **secrets_of(subject, "a-secret"))
        assert_as_named(await duplicate(account, copy_input), copy_recording)


def token_path_of(connector: object) -> str | None:
    """Return the path of the token request, without the path of the base URL."""
    if not isinstance(connector, UsesAccessTokens):
        return None
    return urlsplit(connector.build_token_request().url).path.removeprefix("/behind/a/path")


def as_sent(recording: Path) -> bytes:
    head, body = split_recording(recording)
    return head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body


def assert_as_named(outcome: Outcome, recording: Path) -> None:
    match recording.stem.split("."):
        case ["created", copy_id, _]:
            assert isinstance(outcome, Created)
            assert outcome.campaign.id == copy_id
        case ["accepted", _]:
            assert isinstance(outcome, Accepted)
        case ["rejected", code, _]:
            assert isinstance(outcome, Rejected)
            assert outcome.error.code == ErrorCode(code.upper())
            assert outcome.error.retry(is_recorded=True) is Retry.NEW_KEY
        case ["unknown", _]:
            assert isinstance(outcome, Unknown)
            assert outcome.error.code == ErrorCode.OUTCOME_UNKNOWN
            assert outcome.error.retry(is_recorded=True) is Retry.WAIT
        case _:
            pytest.fail(f"{recording.name} is not named like a recording")


def test_source_is_never_taken_for_its_copy(subject: Subject, created_recording: Path) -> None:
    connector, copy_input = first_connector(subject)
    response = read_recording(created_recording)
    copy = connector.parse_response(copy_input, response)
    assert isinstance(copy, Created)
    id_type = type(copy_input.campaign_id)
    for source in {copy.campaign.id, copy.campaign.id.upper()}:
        same = replace(copy_input, campaign_id=id_type(source))
        assert isinstance(connector.parse_response(same, response), Accepted | Unknown)


def test_damaged_success_is_never_a_rejection_or_another_copy(
    subject: Subject, success_recording: Path
) -> None:
    connector, copy_input = first_connector(subject)
    good = read_recording(success_recording)
    expected = connector.parse_response(copy_input, good)
    ids = {expected.campaign.id} if isinstance(expected, Created) else set()
    for change, response in damaged(good):
        outcome = connector.parse_response(copy_input, response)
        assert isinstance(outcome, Created | Accepted | Unknown), change
        assert not isinstance(outcome, Created) or outcome.campaign.id in ids, change
        assert_valid(outcome)


def test_success_that_was_cut_off_is_not_created(subject: Subject, success_recording: Path) -> None:
    connector, copy_input = first_connector(subject)
    good = read_recording(success_recording)
    for response in [
        replace(good, complete=False),
        replace(good, complete=False, body=b""),
        *(replace(good, body=good.body.rstrip()[:end]) for end in range(len(good.body) - 1)),
    ]:
        assert isinstance(connector.parse_response(copy_input, response), Accepted | Unknown)


@pytest.mark.parametrize("body", CHEAP, ids=range(len(CHEAP)))
def test_documented_success_is_accepted_with_any_body(
    subject: Subject, documented_success: int, body: bytes
) -> None:
    connector, _ = first_connector(subject)
    copy_input = example_of(subject.connector, subject.success_changes)
    for is_complete in (True, False):
        response = ProviderResponse(documented_success, {}, body, is_complete)
        outcome = connector.parse_response(copy_input, response)
        assert isinstance(outcome, Accepted)
        assert outcome.campaign is None


@pytest.mark.parametrize("is_complete", [True, False])
def test_undocumented_success_without_a_copy_is_unknown(
    subject: Subject, connector: Connector[Any], copy_input: Any, *, is_complete: bool
) -> None:
    inputs = [copy_input, example_of(subject.connector, subject.success_changes)]
    for status in range(200, 300):
        for body in CHEAP[status % 4 :: 4] if status != subject.documented_success else ():
            response = ProviderResponse(status, {}, body, is_complete)
            for one in inputs:
                outcome = connector.parse_response(one, response)
                assert isinstance(outcome, Unknown), (status, body)


@pytest.mark.parametrize("is_complete", [True, False])
def test_unreadable_response_is_judged_by_its_status_alone(
    subject: Subject, connector: Connector[Any], copy_input: Any, *, is_complete: bool
) -> None:
    some = [200, 201, 202, 404, 408, 500]
    # Each status meets some of the bodies, and each body meets statuses of every kind.
    tries = [(status, body) for status in range(200, 600) for body in CHEAP[status % 4 :: 4]]
    tries += [(status, body) for status in some for body in CHEAP]
    tries += [(status, body) for status in (200, 404, 500) for body in COSTLY]
    for status, body in tries:
        response = ProviderResponse(status, {}, body, is_complete)
        outcome = connector.parse_response(copy_input, response)
        assert_by_status(outcome, status, subject.refusals)


def assert_by_status(outcome: Outcome, status: int, refusals: Mapping[int, ErrorCode]) -> None:
    assert_valid(outcome)
    if 200 <= status < 300:
        assert isinstance(outcome, Accepted | Unknown), status
    elif status in refusals:
        assert isinstance(outcome, Rejected), status
        # A 404 that does not come from the API means a wrong address, not an unknown campaign.
        assert outcome.error.code in {refusals[status], CODES_WITHOUT_BODY.get(status)}
    else:
        assert isinstance(outcome, Unknown), status


CODES_WITHOUT_BODY = {
    # One provider documents such a response for throttling.
    403: ErrorCode.RATE_LIMITED,
    404: ErrorCode.PROVIDER_UNAVAILABLE,
    # One provider documents such a response for a retired version of its API.
    410: ErrorCode.PROVIDER_UNAVAILABLE,
}


def test_random_response_never_raises(
    subject: Subject, connector: Connector[Any], copy_input: Any
) -> None:
    def check(response: ProviderResponse) -> None:
        outcome = connector.parse_response(copy_input, response)
        assert_valid(outcome)
        if not response.is_success:
            refuses = response.status in subject.refusals
            assert isinstance(outcome, Rejected | Unknown if refuses else Unknown)
        if isinstance(outcome, Created):
            assert response.complete
            assert outcome.campaign.id.encode() in response.body

    try_random_responses(subject, check)
