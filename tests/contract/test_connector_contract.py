"""What every connector promises, whichever provider it is for.

A connector is tried with what its room holds: its example, its emulator, and recorded answers in
`tests/connectors/<provider>/recordings`. A recording's name says how it must be read:

    created.<id>.<what>.http     the copy exists and has this id
    accepted.<what>.http         the provider has said yes and not named the copy
    rejected.<code>.<what>.http  nothing was made, with this code in lower case
    unknown.<what>.http          a copy may or may not exist
    search.<id>.<what>.http      a page of campaigns that holds this one; `none`: that holds none
    lookup.<id>.<what>.http      this campaign; `none`: there is no such campaign
    renamed.<what>.http          the copy has been given its name
    unnamed.<code>.<what>.http   it has not, with this code in lower case
    progress.created.<what>.http, progress.accepted.<what>.http, progress.rejected.<what>.http
                                 how far the provider is with a copy whose id it has told
    signin.token.http, signin.<code>.<what>.http    a token, or why there is none
    <reading>.unreadable.<what>.http    tells nothing, of the last two and of search and lookup
"""

import asyncio
import base64
import gzip
import json
import random
import re
import time
import types
import typing
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import httpx
import pytest
import strawberry
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from campaign_gateway.accounts import Account, open_account
from campaign_gateway.connectors.contract import (
    Connector,
    ListsCampaigns,
    ProviderRequest,
    ProviderResponse,
    ReadsCampaigns,
    RenamesCopies,
    ReportsProgress,
    Token,
    UnexpectedResponse,
    UsesAccessTokens,
)
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.model import (
    Accepted,
    Campaign,
    Created,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Retry,
    Unknown,
    WarningCode,
)
from campaign_gateway.sandbox import emulation
from campaign_gateway.settings import parse_settings
from campaign_gateway.transport.errors import NoResponse

First = Callable[[str], tuple[Connector[Any], Any]]
Read = Callable[[Path], ProviderResponse]
Duplicate = Callable[[Account, Any], Awaitable[Outcome]]
Counted = Callable[[str], dict[str, Any]]
Opens = Callable[..., Account]
Spoilt = Callable[[ProviderResponse], Iterator[tuple[str, ProviderResponse]]]

ROOMS = Path(__file__).parents[1] / "connectors"
RECORDINGS = list(ROOMS.glob("*/recordings/*.http"))

# The only statuses by which a provider has refused for certain; written down a second time here
# because the whole promise hangs on this list.
REFUSALS = {
    400: ErrorCode.INVALID_INPUT,
    401: ErrorCode.AUTHENTICATION_FAILED,
    402: ErrorCode.QUOTA_EXCEEDED,
    403: ErrorCode.PERMISSION_DENIED,
    404: ErrorCode.CAMPAIGN_NOT_FOUND,
    405: ErrorCode.PROVIDER_UNAVAILABLE,
    409: ErrorCode.CONFLICT,
    410: ErrorCode.CAMPAIGN_NOT_FOUND,
    413: ErrorCode.INVALID_INPUT,
    414: ErrorCode.INVALID_INPUT,
    415: ErrorCode.INVALID_INPUT,
    422: ErrorCode.INVALID_INPUT,
    426: ErrorCode.PROVIDER_UNAVAILABLE,
    429: ErrorCode.RATE_LIMITED,
    431: ErrorCode.INVALID_INPUT,
}

# Those that one provider alone has documented as such.
REFUSALS_OF: dict[str, dict[int, ErrorCode]] = {
    "hubspot": {423: ErrorCode.RATE_LIMITED, 477: ErrorCode.RATE_LIMITED},
}


# Recordings


def test_each_recorded_answer_is_read_as_its_name_says(
    answer_recording: Path, first_connector: First, read_recording: Read
) -> None:
    connector, campaign = first_connector(provider_of(answer_recording))
    outcome = connector.parse_response(campaign, read_recording(answer_recording))
    assert_as_named(outcome, answer_recording)


async def test_each_recorded_answer_is_read_alike_from_a_socket(
    answer_recording: Path, first_connector: First, duplicate: Duplicate, open_at: Opens
) -> None:
    provider = provider_of(answer_recording)
    connector, campaign = first_connector(provider)
    place = sign_in_path(connector)
    answer = as_sent(answer_recording)

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        is_sign_in = place and place in head.split()[1].decode()
        writer.write(as_sent(token_of(provider)) if is_sign_in else answer)
        writer.write_eof()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        account = open_at(provider, url, **secrets_of(provider))
        assert_as_named(await duplicate(account, campaign), answer_recording)


def test_each_recorded_search_is_read_as_its_name_says(
    search_recording: Path, first_connector: First, read_recording: Read
) -> None:
    connector, _ = first_connector(provider_of(search_recording))
    assert isinstance(connector, ListsCampaigns)
    _, wanted, _ = search_recording.stem.split(".")
    if wanted == "unreadable":
        with pytest.raises(UnexpectedResponse):
            connector.parse_search(read_recording(search_recording), None)
        return
    found = connector.parse_search(read_recording(search_recording), None).campaigns
    if wanted == "none":
        assert not found
    else:
        (campaign,) = (each for each in found if each.id == wanted)
        assert campaign.name


def test_each_recorded_lookup_is_read_as_its_name_says(
    lookup_recording: Path, first_connector: First, read_recording: Read
) -> None:
    connector, _ = first_connector(provider_of(lookup_recording))
    assert isinstance(connector, ReadsCampaigns)
    _, wanted, _ = lookup_recording.stem.split(".")
    response = read_recording(lookup_recording)
    if wanted == "unreadable":
        with pytest.raises(UnexpectedResponse):
            connector.parse_lookup(response, "97")
        return
    found = connector.parse_lookup(response, "97" if wanted == "none" else wanted)
    if wanted == "none":
        assert found is None
    else:
        assert found is not None
        assert found.id == wanted
        assert found.name


def test_each_recorded_rename_is_read_as_its_name_says(
    rename_recording: Path, first_connector: First, read_recording: Read
) -> None:
    connector, _ = first_connector(provider_of(rename_recording))
    assert isinstance(connector, RenamesCopies)
    refusal = connector.parse_rename(read_recording(rename_recording))
    match rename_recording.stem.split("."):
        case ["renamed", _]:
            assert refusal is None
        case ["unnamed", code, _]:
            assert refusal is not None
            assert refusal.error.code == ErrorCode(code.upper())
        case _:
            pytest.fail(f"{rename_recording.name} is not named as a recording is")


def test_each_recorded_progress_is_read_as_its_name_says(
    progress_recording: Path, first_connector: First, read_recording: Read
) -> None:
    connector, campaign = first_connector(provider_of(progress_recording))
    assert isinstance(connector, ReportsProgress)
    _, wanted, _ = progress_recording.stem.split(".")
    response = read_recording(progress_recording)
    copy_id = (re.findall(rb'"campaignGuid": *"([^"]+)"', response.body) or [b"97"])[0].decode()
    if wanted == "unreadable":
        with pytest.raises(UnexpectedResponse):
            connector.parse_progress(campaign, copy_id, response)
        return
    outcome = connector.parse_progress(campaign, copy_id, response)
    assert type(outcome).__name__.lower() == wanted
    assert_sound(outcome)
    if isinstance(outcome, Created):
        assert outcome.campaign.id == copy_id


def test_each_recorded_sign_in_is_read_as_its_name_says(
    sign_in_recording: Path, first_connector: First, read_recording: Read
) -> None:
    connector, _ = first_connector(provider_of(sign_in_recording))
    assert isinstance(connector, UsesAccessTokens)
    response = read_recording(sign_in_recording)
    match sign_in_recording.stem.split("."):
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
            refusal = connector.parse_token(response)
            assert isinstance(refusal, Rejected)
            assert refusal.error.code == ErrorCode(code.upper())
        case _:
            pytest.fail(f"{sign_in_recording.name} is not named as a recording is")


def test_the_source_is_never_taken_for_its_copy(
    good_recording: Path, first_connector: First, read_recording: Read
) -> None:
    connector, campaign = first_connector(provider_of(good_recording))
    response = read_recording(good_recording)
    outcome = connector.parse_response(campaign, response)
    if isinstance(outcome, Created):
        same = type(campaign.campaign_id)(outcome.campaign.id)
        outcome = connector.parse_response(replace(campaign, campaign_id=same), response)
        assert isinstance(outcome, Accepted | Unknown)


def provider_of(recording: Path) -> str:
    return recording.parents[1].name


def token_of(provider: str) -> Path:
    return ROOMS / provider / "recordings" / "signin.token.http"


def sign_in_path(connector: object) -> str | None:
    """Where it asks for a token, without what stands ahead of it at a base URL."""
    if not isinstance(connector, UsesAccessTokens):
        return None
    return urlsplit(connector.build_token_request().url).path.removeprefix("/behind/a/path")


def as_sent(recording: Path) -> bytes:
    head, _, body = recording.read_bytes().partition(b"\n\n")
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
            pytest.fail(f"{recording.name} is not named as a recording is")


# Answers that are not what they should be


def test_a_spoilt_success_is_never_a_refusal_nor_another_copy(
    good_recording: Path, first_connector: First, read_recording: Read, spoilt: Spoilt
) -> None:
    connector, campaign = first_connector(provider_of(good_recording))
    good = read_recording(good_recording)
    told = connector.parse_response(campaign, good)
    ids = {told.campaign.id} if isinstance(told, Created) else set()
    for change, response in spoilt(good):
        outcome = connector.parse_response(campaign, response)
        assert isinstance(outcome, Created | Accepted | Unknown), change
        assert not isinstance(outcome, Created) or outcome.campaign.id in ids, change
        assert_sound(outcome)


def test_a_success_that_was_cut_off_is_not_trusted(
    good_recording: Path, first_connector: First, read_recording: Read
) -> None:
    connector, campaign = first_connector(provider_of(good_recording))
    good = read_recording(good_recording)
    for response in [
        replace(good, complete=False),
        replace(good, complete=False, body=b""),
        *(replace(good, body=good.body.rstrip()[:end]) for end in range(len(good.body) - 1)),
    ]:
        assert isinstance(connector.parse_response(campaign, response), Accepted | Unknown)


CHEAP = [
    b"", b"{", b"{}", b"[]", b"null", b'"text"', b"0", b"\xff\xfe{}", b"\x00\x01\x02",
    b"<html><body>It works!</body></html>", b"<xml/>", b"<xml>", b"not found",
    '{"success": true}'.encode("utf-16"), gzip.compress(b"{}"),
    b'\xef\xbb\xbf{"error": "' + b"9" * 400 + b'"}', b'{"error": NaN, "success": 1e999}',
    b'{"error": {}, "data": {}, "success": [], "message": {}}',
    b"<xml><error><error/></error><data>1</data></xml>",
]  # fmt: skip
COSTLY = [
    b"[" * 200_000,
    b'{"data":' * 30_000,
    b"<xml>" * 50_000,
    b"<xml>" * 20_000 + b"</xml>" * 20_000,
    b'{"error": ' + b"9" * 5_000 + b"}",
    b'{"message": "' + b"x" * 250_000 + b'"}',
    b"x" * 250_000,
]


# The one status that each provider's documents have for a copy made, where it is a yes whatever
# became of the body. At the others only a body can say so.
YES = {
    "braze": 202,
    "hubspot": 201,
    "klaviyo": 201,
    "omnisend": 201,
    "sendgrid": 201,
    "sonarly": 201,
}


@pytest.mark.parametrize("is_complete", [True, False])
def test_only_the_documented_success_is_believed_without_its_body(
    connector: Connector[Any], campaign: Any, *, is_complete: bool
) -> None:
    for status in range(200, 300):
        for body in CHEAP:
            answer = ProviderResponse(status, {}, body, is_complete)
            if status != YES.get(connector.provider):
                assert isinstance(connector.parse_response(campaign, answer), Unknown), (
                    status,
                    body,
                )


@pytest.mark.parametrize("is_complete", [True, False])
def test_an_unreadable_answer_is_judged_by_its_status_alone(
    connector: Connector[Any], campaign: Any, *, is_complete: bool
) -> None:
    some = [200, 201, 202, 404, 408, 500]
    tries = [(status, body) for status in range(200, 600) for body in CHEAP]
    tries += [(status, body) for status in some for body in COSTLY]
    for status, body in tries:
        outcome = connector.parse_response(
            campaign, ProviderResponse(status, {}, body, is_complete)
        )
        assert_by_status(outcome, status, refusals_of(connector))


def refusals_of(connector: Connector[Any]) -> dict[int, ErrorCode]:
    return REFUSALS | REFUSALS_OF.get(connector.provider, {})


def assert_by_status(outcome: Outcome, status: int, refusals: dict[int, ErrorCode]) -> None:
    assert_sound(outcome)
    if 200 <= status < 300:
        assert isinstance(outcome, Accepted | Unknown), status
    elif status in refusals:
        assert isinstance(outcome, Rejected), status
        # A 404 that no API has written tells of a wrong address, not of an unknown campaign.
        assert outcome.error.code in {refusals[status], CODES_OF_A_STRANGER.get(status)}
    else:
        assert isinstance(outcome, Unknown), status


CODES_OF_A_STRANGER = {
    # Where it is documented that being throttled looks like this.
    403: ErrorCode.RATE_LIMITED,
    404: ErrorCode.PROVIDER_UNAVAILABLE,
    # Where it is documented that a retired version of the API looks like this.
    410: ErrorCode.PROVIDER_UNAVAILABLE,
}

KEYS = [
    "success", "data", "error", "error_text", "errors", "message", "id", "saved_id", "name", "code",
    "traceId", "status", "campaigns", "items", "is_active", "next_from_id", "createdAt", "tags",
    "attributes", "result", "results", "settings", "title", "copied_campaign_id", "campaignGuid",
    "warnings", "paging", "access_token", "expires_in",
]  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([0, "0", 404, 97, "97", "abc-1", "\ud800", "9" * 200, 10**40])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=12,
)
# Real answers with some bytes exchanged for others, so that most of their structure remains.
SPLICED = st.builds(
    lambda body, start, length, put_in: body[:start] + put_in + body[start + length :],
    st.sampled_from(sorted({path.read_bytes().partition(b"\n\n")[2] for path in RECORDINGS})),
    st.integers(0, 400),
    st.integers(0, 12),
    st.binary(max_size=8) | st.sampled_from([b"null", b"[]", b"{}", b"<x>", b"</data>", b"-1"]),
)
ANSWERS = st.builds(
    ProviderResponse,
    st.sampled_from([200, 201, 202, 400, 404, 409, 429, 440, 500]) | st.integers(100, 999),
    st.dictionaries(
        st.sampled_from(["retry-after", "x-ratelimit-reset", "x-request-id", "content-type"]),
        st.text(st.characters(max_codepoint=255)),
    ),
    st.binary() | VALUES.map(lambda value: json.dumps(value).encode()) | SPLICED,
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(response=ANSWERS)
def test_no_answer_whatsoever_makes_a_connector_fail(
    connector: Connector[Any], campaign: Any, response: ProviderResponse
) -> None:
    outcome = connector.parse_response(campaign, response)
    assert_sound(outcome)
    if not response.is_success:
        refuses = response.status in refusals_of(connector)
        assert isinstance(outcome, Rejected | Unknown if refuses else Unknown)
    if isinstance(outcome, Created):
        assert response.complete
        assert outcome.campaign.id.encode() in response.body


@settings(max_examples=100, deadline=None)
@given(response=ANSWERS)
def test_no_answer_whatsoever_makes_a_search_fail(
    connector: Connector[Any], campaign: Any, response: ProviderResponse
) -> None:
    if not isinstance(connector, ListsCampaigns):
        return
    try:
        page = connector.parse_search(response, None)
    except UnexpectedResponse:
        return
    for each in page.campaigns:
        assert_sound_campaign(each)
    if page.next_cursor is not None:
        # A cursor that the provider has made up must not lead anywhere else than a plain one does.
        request = connector.build_search(campaign, page.next_cursor)
        assert place_of(request) == place_of(connector.build_search(campaign, "1"))


@settings(max_examples=100, deadline=None)
@given(response=ANSWERS)
def test_no_answer_whatsoever_makes_a_lookup_fail(
    connector: Connector[Any], response: ProviderResponse
) -> None:
    if not isinstance(connector, ReadsCampaigns):
        return
    try:
        found = connector.parse_lookup(response, "97")
    except UnexpectedResponse:
        return
    assert found is None or found.id == "97"
    assert_sound_campaign(found)


@settings(max_examples=100, deadline=None)
@given(response=ANSWERS)
def test_no_answer_whatsoever_makes_the_steps_after_a_copy_fail(
    connector: Connector[Any], campaign: Any, response: ProviderResponse
) -> None:
    if isinstance(connector, RenamesCopies):
        refusal = connector.parse_rename(response)
        assert refusal is not None or (response.is_success and response.complete)
        if refusal is not None:
            assert_sound(refusal)
    if isinstance(connector, ReportsProgress):
        try:
            outcome = connector.parse_progress(campaign, "97", response)
        except UnexpectedResponse:
            return
        assert response.is_success
        assert response.complete
        assert_sound(outcome)
        assert not isinstance(outcome, Created) or outcome.campaign.id == "97"


@settings(max_examples=200, deadline=None)
@given(response=ANSWERS)
def test_no_answer_whatsoever_makes_signing_in_fail(
    connector: Connector[Any], campaign: Any, response: ProviderResponse
) -> None:
    if not isinstance(connector, UsesAccessTokens):
        return
    # After this the same copy is sent again.
    if connector.rejects_token(response):
        assert isinstance(connector.parse_response(campaign, response), Rejected)
    try:
        answer = connector.parse_token(response)
    except UnexpectedResponse:
        return
    if isinstance(answer, Token):
        assert response.is_success
        assert re.fullmatch(r"[\x21-\x7e]+", answer.value)
        assert answer.lifetime > 0
    else:
        assert_sound(answer)


def test_only_a_refusal_is_sent_again(
    answer_recording: Path, first_connector: First, read_recording: Read, spoilt: Spoilt
) -> None:
    connector, campaign = first_connector(provider_of(answer_recording))
    if not isinstance(connector, UsesAccessTokens):
        return
    good = read_recording(answer_recording)
    for change, response in [("nothing", good), *spoilt(good)]:
        if connector.rejects_token(response):
            outcome = connector.parse_response(campaign, response)
            assert isinstance(outcome, Rejected), change
            assert outcome.error.code is ErrorCode.AUTHENTICATION_FAILED, change


UNREADABLE = [
    ProviderResponse(status, {}, body, is_complete)
    for status in [*range(200, 206), 301, 400, 401, 403, 404, 408, 429, *range(500, 505)]
    for body in (CHEAP + COSTLY if status == 200 else CHEAP)
    for is_complete in (True, False)
]


def test_an_unreadable_search_says_so(connector: Connector[Any]) -> None:
    for response in UNREADABLE:
        if isinstance(connector, ListsCampaigns):
            with pytest.raises(UnexpectedResponse):
                connector.parse_search(response, None)


def test_an_unreadable_lookup_says_so(connector: Connector[Any]) -> None:
    for response in UNREADABLE:
        if isinstance(connector, ReadsCampaigns):
            try:
                found = connector.parse_lookup(response, "97")
            except UnexpectedResponse:
                continue
            # Some providers know no other way of saying that there is no such campaign.
            assert found is None
            assert response.status in {400, 404}


def test_a_spoilt_search_never_makes_a_campaign_up(
    search_recording: Path, first_connector: First, read_recording: Read, spoilt: Spoilt
) -> None:
    connector, _ = first_connector(provider_of(search_recording))
    good = read_recording(search_recording)
    if not isinstance(connector, ListsCampaigns) or not good.is_success:
        return
    told = re.findall(rb"[A-Za-z0-9_-]+", good.body)
    for change, response in spoilt(good):
        try:
            page = connector.parse_search(response, None)
        except UnexpectedResponse:
            continue
        for each in page.campaigns:
            assert each.id.encode() in told, change
            assert_sound_campaign(each)


def test_a_spoilt_lookup_never_makes_a_campaign_up(
    lookup_recording: Path, first_connector: First, read_recording: Read, spoilt: Spoilt
) -> None:
    connector, _ = first_connector(provider_of(lookup_recording))
    wanted = lookup_recording.stem.split(".")[1]
    if not isinstance(connector, ReadsCampaigns):
        return
    for change, response in spoilt(read_recording(lookup_recording)):
        try:
            found = connector.parse_lookup(response, wanted)
        except UnexpectedResponse:
            continue
        assert found is None or found.id == wanted, change
        assert_sound_campaign(found)


# How long to wait


def test_a_rate_limit_says_how_long_to_wait(connector: Connector[Any], campaign: Any) -> None:
    def seconds(**headers: str) -> int | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        outcome = connector.parse_response(campaign, ProviderResponse(429, named, b""))
        assert isinstance(outcome, Rejected)
        assert outcome.error.code == ErrorCode.RATE_LIMITED
        return outcome.error.retry_after

    def about(wanted: int, found: int | None) -> bool:
        return found is not None and wanted - 5 <= found <= wanted

    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    reset = str(int(time.time()) + 45)
    assert seconds() is None
    assert seconds(retry_after="30") == 30
    assert about(90, seconds(retry_after=soon))
    assert about(45, seconds(x_ratelimit_reset=reset))
    assert seconds(retry_after="30", x_ratelimit_reset=reset) == 30
    assert about(45, seconds(retry_after="", x_ratelimit_reset=reset))
    assert seconds(retry_after="", x_ratelimit_reset="") is None
    assert seconds(retry_after="Sat, 01 Jan 2022 00:00:00 GMT") == 0
    assert seconds(x_ratelimit_reset="1392815263") == 0
    assert seconds(x_ratelimit_reset="17") == 17
    assert seconds(retry_after="999999999") == 3600


STRANGE_DELAYS = [
    "-5", "1.5", "soon", "9" * 400, "1e3", "٣",
    "Mon, 99 Foo 2026 25:61:61 GMT",
    "Mon, 01 Jan 0000 00:00:00 GMT",
    "Mon, 01 Jan 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Mon, 01 Jan 2026 00:00:00 +9999",
    "Mon, 01 Jan 2026 00:00:00 -0000",
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
    "Mon, 01 Jan 2026 99999999999999999999:00:00 GMT",
]  # fmt: skip


@pytest.mark.parametrize("value", STRANGE_DELAYS, ids=lambda value: ascii(value)[:50])
@pytest.mark.parametrize("header", ["retry-after", "x-ratelimit-reset"])
def test_a_strange_delay_is_survived(
    connector: Connector[Any], campaign: Any, header: str, value: str
) -> None:
    outcome = connector.parse_response(campaign, ProviderResponse(429, {header: value}, b""))
    assert isinstance(outcome, Rejected)
    assert_sound(outcome)


# Requests


def test_the_example_makes_a_request(connector: Connector[Any], campaign: Any) -> None:
    request = connector.build_request(campaign)
    assert request.method == "POST"
    assert urlsplit(request.url).hostname == "provider.example"
    assert urlsplit(request.url).path.startswith("/behind/a/path/")


def test_building_depends_on_the_input_alone(connector: Connector[Any], campaign: Any) -> None:
    before = asdict(campaign)
    built = [asdict(connector.build_request(campaign)) for _ in range(3)]
    assert built[0] == built[1] == built[2]
    assert asdict(campaign) == before


HOSTILE_IDS = [
    "", " ", ".", "..", "a/b", "../admin", "a\\b", "x?y", "a#b", "a&b", "a=b", "a;b", "a:b",
    "a@b", "%2e%2e", "%2F", "a b", "a\n", "a\r\nHost: evil.example", "a\x00b", "a\x7fb", "é", "٣",
    "a\u202eb", "\ud800", "<id/>", '"', "9" * 10_240, "a" * 10_240,
]  # fmt: skip
SOUND_IDS = ["a", "0", "-", "_", "A-z_09", "a" * 128, "507f1f77bcf86cd799439011"]
HOSTILE_NUMBERS = [0, -1, -(2**31)]
SOUND_NUMBERS = [1, 2**31 - 1]


def test_hostile_ids_are_refused_by_name(connector: Connector[Any], campaign: Any) -> None:
    texts, numbers = id_fields(campaign)
    assert texts or numbers
    for name, hostile in with_ids(campaign, HOSTILE_IDS, HOSTILE_NUMBERS):
        with pytest.raises(Refused) as refusal:
            connector.build_request(hostile)
        assert_blames(refusal.value, camel_case(name))


def test_hostile_ids_never_lead_a_search_astray(connector: Connector[Any], campaign: Any) -> None:
    if not isinstance(connector, ListsCampaigns):
        return
    for name, hostile in with_ids(campaign, HOSTILE_IDS, HOSTILE_NUMBERS):
        try:
            request = connector.build_search(hostile, None)
        except Refused as refusal:
            assert_blames(refusal, camel_case(name))
        else:
            assert place_of(request) == place_of(connector.build_search(campaign, None))


def test_hostile_ids_never_lead_a_lookup_astray(connector: Connector[Any], campaign: Any) -> None:
    if not isinstance(connector, ReadsCampaigns):
        return
    for name, hostile in with_ids(campaign, HOSTILE_IDS, HOSTILE_NUMBERS):
        try:
            request = connector.build_lookup("97", hostile)
        except Refused as refusal:
            assert_blames(refusal, camel_case(name))
        else:
            assert place_of(request) == place_of(connector.build_lookup("97", campaign))


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=lambda text: ascii(text)[:40])
def test_a_hostile_id_is_never_looked_up(
    connector: Connector[Any], campaign: Any, hostile: str
) -> None:
    if not isinstance(connector, ReadsCampaigns):
        return
    for near in (campaign, None):
        with pytest.raises(Refused) as refusal:
            connector.build_lookup(hostile, near)
        assert_blames(refusal.value, "id")


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=lambda text: ascii(text)[:40])
def test_a_hostile_id_of_a_copy_leads_nowhere(
    connector: Connector[Any], campaign: Any, hostile: str
) -> None:
    if isinstance(connector, RenamesCopies):
        with pytest.raises(Refused):
            connector.build_rename(campaign, hostile, None)
    if isinstance(connector, ReportsProgress):
        with pytest.raises(Refused):
            connector.build_progress(campaign, hostile)


def test_sound_ids_stay_in_their_place(connector: Connector[Any], campaign: Any) -> None:
    usual = place_of(connector.build_request(campaign))
    for _, sound in with_ids(campaign, SOUND_IDS, SOUND_NUMBERS):
        assert place_of(connector.build_request(sound)) == usual


def id_fields(campaign: Any) -> tuple[list[str], list[str]]:
    """The fields that hold ids: as text, in lists or alone, and as numbers."""
    hints = typing.get_type_hints(type(campaign))
    texts = [name for name, hint in hints.items() if strawberry.ID in flat(hint)]
    numbers = [name for name, hint in hints.items() if hint is int and name.endswith("_id")]
    return texts, numbers


def flat(hint: Any) -> Iterator[Any]:
    yield hint
    for argument in typing.get_args(hint):
        yield from flat(argument)


def with_ids(campaign: Any, texts: list[str], numbers: list[int]) -> Iterator[tuple[str, Any]]:
    """The campaign with one id after the other in each place where an id can stand."""
    text_fields, number_fields = id_fields(campaign)
    hints = typing.get_type_hints(type(campaign))
    for name in text_fields:
        is_list = any(typing.get_origin(each) is list for each in flat(hints[name]))
        for text in texts:
            for value in [[text], ["sound", text]] if is_list else [text]:
                yield name, replace(campaign, **{name: value})
    for name in number_fields:
        for number in numbers:
            yield name, replace(campaign, **{name: number})


def assert_blames(refusal: Refused, field: str) -> None:
    assert refusal.error.code == ErrorCode.INVALID_INPUT
    assert refusal.error.field == (field,)
    assert len(refusal.error.message) < 500


def camel_case(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def place_of(request: ProviderRequest) -> tuple[str, str, int, int]:
    """Host and shape of the path, as the HTTP client and the standard library both see them."""
    url = httpx.URL(request.url)
    parts = urlsplit(request.url)
    assert (url.scheme, url.host) == (parts.scheme, parts.hostname)
    assert url.raw_path.decode().partition("?")[0] == parts.path
    assert not parts.fragment
    assert re.fullmatch(r"[\x21-\x7e]+", request.url)
    return request.method, url.host, parts.path.count("/"), parts.query.count("&")


# Names


ORDINARY_NAMES = ["Frühling 🌷 春", "He said \"no\" & 'yes' < {maybe} > [x] \\ / %41 &amp;"]
STRANGE_NAMES = [
    "x" * 1_000, "]]>", "<![CDATA[x]]>", "<name>x</name>", '"}, {"name": "x', "a\r\nb", "a\rb",
    "a\nb\tc", " leading and trailing ", "e\u0301 is two characters", "\u2028\u0085\u202e\ufeff",
    "😀" * 300, "\x00", "a\x1bb", "\ud800", "\ufffe", "", "   ",
]  # fmt: skip


@pytest.mark.parametrize("name", ORDINARY_NAMES + STRANGE_NAMES, ids=lambda name: ascii(name)[:40])
async def test_a_name_arrives_whole_or_is_refused(
    live: Account, campaign: Any, name: str, duplicate: Duplicate, counted: Counted
) -> None:
    before = counted(live.connector.provider)
    try:
        await duplicate(live, replace(campaign, name=name))
    except Refused as refusal:
        assert_blames(refusal, "name")
        assert name not in ORDINARY_NAMES
        assert counted(live.connector.provider) == before
    else:
        after = counted(live.connector.provider)
        assert after["copies"][-1]["name"] == name
        assert after["count"] == before["count"] + 1


# Secrets

# Every way of writing a text has to escape something in it.
SECRET = "k\"e&y<1>'2/%3+\\4=;tail"


def test_secrets_stay_out_of_every_repr(account: tuple[str, str], campaign: Any) -> None:
    provider, name = account
    # A secret that every way of writing leaves as it is: here nothing should be written at all.
    secret = "plain-secret-0123456789"
    settings_of = {"provider": provider, "base_url": "https://provider.example"}
    table = {**settings_of, **secrets_of(provider, secret)}
    configured = parse_settings({"accounts": {name: table}}, {})
    opened = open_account(name, configured.accounts[name])
    connector = opened.connector
    assert set(configured.accounts[name].secrets()) == {secret}
    requests = [connector.build_request(campaign)]
    if isinstance(connector, ListsCampaigns):
        requests.append(connector.build_search(campaign, None))
    if isinstance(connector, ReadsCampaigns):
        requests.append(connector.build_lookup("97", campaign))
    if isinstance(connector, RenamesCopies):
        described = ProviderResponse(200, {}, b'{"id": "97", "settings": {}}')
        requests.append(connector.build_rename(campaign, "97", described))
    if isinstance(connector, ReportsProgress):
        requests.append(connector.build_progress(campaign, "97"))
    if isinstance(connector, UsesAccessTokens):
        requests = [connector.authorize(each, secret) for each in requests]
        requests.append(connector.build_token_request())
    for each in [configured, opened, connector, opened.transport, *requests]:
        assert not any(secret in text for text in (repr(each), str(each), f"{each}"))
    # Logs of servers and proxies keep URLs. To sign in there may be no other way.
    signing_in = (
        connector.build_token_request() if isinstance(connector, UsesAccessTokens) else None
    )
    assert not any(secret in request.url for request in requests if request != signing_in)
    assert all(secret in revealed(str(asdict(request))) for request in requests)


def test_the_leak_detector_detects() -> None:
    for spelling in spellings(SECRET):
        assert leaks(f"Invalid key: {spelling}!")


async def test_a_secret_that_the_provider_echoes_is_in_no_outcome(
    answer_recording: Path,
    first_connector: First,
    read_recording: Read,
    duplicate: Duplicate,
    open_at: Opens,
    echo: tuple[str, list[Response], list[str]],
) -> None:
    url, answers, heard = echo
    provider = provider_of(answer_recording)
    connector, campaign = first_connector(provider)
    signs_in = isinstance(connector, UsesAccessTokens)
    # A token is as good as a secret, and must not be hidden only for being the same as one.
    secret = "another-secret-0123456789" if signs_in else SECRET
    account = open_at(provider, url, **secrets_of(provider, secret))
    recorded = read_recording(answer_recording)
    if isinstance(connector, UsesAccessTokens):
        signed_in = read_recording(token_of(provider))
        token = connector.parse_token(signed_in)
        assert isinstance(token, Token)
        told = signed_in.body.replace(token.value.encode(), json.dumps(SECRET)[1:-1].encode())
        account.transport._pass = None  # type: ignore[union-attr]
        answers.append(Response(told, signed_in.status, dict(signed_in.headers)))
    headers = {
        name: SECRET if name.startswith("x-") else value
        for name, value in recorded.headers.items()
        if name != "content-length"
    }
    in_texts, anywhere = with_text_at_leaves(recorded, "@@")
    bodies = [(in_texts, spelling) for spelling in spellings(SECRET)]
    for body, spelling in [*bodies, (anywhere, SECRET), (b"@@", SECRET)]:
        said = body.replace(b"@@", spelling.encode())
        answers.append(Response(said, recorded.status, headers))
        outcome = await duplicate(account, campaign)
        assert not any(map(leaks, texts_in(asdict(outcome)))), spelling
        # Else there was nothing to echo, and the test would show nothing.
        assert any(leaks(revealed(each)) for each in heard)
        heard.clear()


@pytest.fixture(scope="module")
def echo(serve: Callable[[ASGIApp], str]) -> tuple[str, list[Response], list[str]]:
    """A server's URL, the answers that it is to give, and what it was sent."""
    answers: list[Response] = []
    heard: list[str] = []

    async def say(request: Request) -> Response:
        body = (await request.body()).decode()
        heard.append(f"{request.headers.get('authorization')} {request.url.query} {body}")
        # What comes after a copy is of no interest here.
        return answers.pop(0) if answers else Response(status_code=500)

    app = Starlette(routes=[Route("/{path:path}", say, methods=["GET", "POST"])])
    return serve(app), answers, heard


def secrets_of(provider: str, secret: str = SECRET) -> dict[str, str]:
    """Settings that give each secret of an account this value."""
    settings_of = CONNECTORS[provider].Account.model_fields
    secrets = [name for name, each in settings_of.items() if SecretStr in flat(each.annotation)]
    assert secrets
    return dict.fromkeys(secrets, secret)


def spellings(secret: str) -> list[str]:
    """As JSON, XML and URLs may write it, once or in one another, and in base64."""
    in_json = json.dumps(secret)[1:-1]
    in_xml = escape(secret, {'"': "&quot;", "'": "&apos;"})
    in_url = quote(secret, safe="")
    return [
        secret,
        in_json,
        json.dumps(in_json)[1:-1],
        json.dumps(json.dumps(in_json)[1:-1])[1:-1],
        secret.replace("/", "\\/").replace('"', '\\"'),
        "".join(f"\\u{ord(each):04x}" for each in secret),
        "".join(f"\\u{ord(each):04X}" for each in secret),
        in_xml,
        escape(in_xml),
        "".join(f"&#{ord(each)};" for each in secret),
        "".join(f"&#x{ord(each):X};" for each in secret),
        in_url,
        quote(in_url, safe=""),
        re.sub("%..", lambda found: found[0].lower(), in_url),
        base64.b64encode(secret.encode()).decode(),
    ]


def revealed(text: str) -> str:
    """The text with what Basic authentication hides in base64 (RFC 7617)."""
    found = re.findall(r"Basic ([A-Za-z0-9+/]+=*)", text)
    return " ".join([text, *(base64.b64decode(each).decode() for each in found)])


def leaks(text: str) -> bool:
    return any(spelling in text for spelling in spellings(SECRET))


# What the emulators do, over real sockets

# What becomes of each fault that every emulator can have, and how many copies it leaves behind.
FAULTS: dict[str, tuple[types.UnionType | type, int]] = {
    "slow": (Created | Accepted, 1),
    "hang": (NoResponse, 0),
    "cut-before-copy": (NoResponse, 0),
    "cut-after-copy": (NoResponse, 1),
    "cut-in-answer": (Accepted | Unknown, 1),
    "garbage": (NoResponse, 1),
    "unreadable": (Accepted | Unknown, 1),
    "empty": (Accepted | Unknown, 1),
    "redirect": (Unknown, 0),
}


def test_each_fault_has_a_verdict() -> None:
    assert set(FAULTS) == set(emulation.FAULTS)


async def test_an_emulated_outcome_is_told_for_what_it_is(
    emulated: tuple[Account, Any, str],
    duplicate: Duplicate,
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account, campaign, description = emulated
    monkeypatch.setattr(emulation, "SLOW_SECONDS", 0.2)
    refusals = refusals_of(account.connector)
    verdict, copies = verdict_on(campaign.campaign_id, description, refusals)
    before = counted(account.connector.provider)
    outcome: Outcome | NoResponse
    try:
        outcome = await duplicate(account, campaign)
    except NoResponse as failure:
        outcome = failure
    after = counted(account.connector.provider)
    assert isinstance(outcome, verdict)
    assert after["asked"] == before["asked"] + 1
    assert after["count"] == before["count"] + copies
    if isinstance(outcome, Created):
        assert after["copies"][-1]["id"] == outcome.campaign.id
        assert {each.code for each in outcome.warnings} & LEFT == left_undone(description)
        if WarningCode.NAME_NOT_APPLIED not in left_undone(description):
            assert after["copies"][-1]["name"] == outcome.campaign.name == campaign.name
    if isinstance(outcome, Rejected):
        is_unknown = re.search("unknown|not found", description)
        code = ErrorCode.CAMPAIGN_NOT_FOUND if is_unknown else refusals[number_in(description)]
        assert outcome.error.code == code


LEFT = {WarningCode.NAME_NOT_APPLIED, WarningCode.DETAILS_UNKNOWN}


def left_undone(description: str) -> set[WarningCode]:
    """What a copy lacks by the emulator's own words, when a call that comes after it fails."""
    _, _, failure = description.partition("copied, then ")
    words = {
        "the new name": WarningCode.NAME_NOT_APPLIED,
        "reading it back": WarningCode.DETAILS_UNKNOWN,
    }
    return {code for word, code in words.items() if word in failure}


def verdict_on(
    source: object, description: str, refusals: dict[int, ErrorCode]
) -> tuple[types.UnionType | type, int]:
    """What the emulator's own words about a source campaign let one expect."""
    for word in (str(source), description.partition(":")[0]):
        if word in FAULTS:
            return FAULTS[word]
    number = number_in(description)
    if number in refusals:
        return Rejected, 0
    if number == 0 or 200 <= number < 300:
        return Created | Accepted, 0 if "no copy" in description else 1
    return Unknown, 0


def number_in(description: str) -> int:
    """The status or error that a description names last; 0 when it names none."""
    return int((re.findall(r"\b[1-5]\d\d\b", description) or ["0"])[-1])


async def test_a_copy_is_found_and_read_again(
    live: Account,
    room: ModuleType,
    campaign: Any,
    duplicate: Duplicate,
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Where a provider makes copies later than it answers.
    monkeypatch.setattr(room, "CREATION_SECONDS", 0.1, raising=False)
    campaign = replace(campaign, name=f"Found again {random.randrange(10**9)}")
    outcome = await duplicate(live, campaign)
    made = counted(live.connector.provider)["copies"][-1]
    assert made["name"] == campaign.name
    if isinstance(live.connector, ListsCampaigns):
        found = await search(live, live.connector, campaign)
        assert [each.id for each in found] == [made["id"]]
        source = str(campaign.campaign_id) if live.connector.reports_source else None
        assert found[0].copied_from == source
    if isinstance(live.connector, ReadsCampaigns):
        read = await look_up(live, live.connector, made["id"], campaign)
        assert read is not None
        assert (read.id, read.name) == (made["id"], campaign.name)
        if isinstance(outcome, Created):
            assert read.id == outcome.campaign.id
        assert await look_up(live, live.connector, "987654321", campaign) is None
        if isinstance(live.connector, ListsCampaigns) and live.connector.list_has_all_fields:
            assert await search(live, live.connector, campaign) == [read]


async def search(account: Account, connector: ListsCampaigns[Any], campaign: Any) -> list[Campaign]:
    """The campaigns of this name, on whichever page, waiting for the first one."""
    found: list[Campaign] = []
    for _ in range(40):
        cursor: str | None = None
        for _ in range(5):
            response = await account.transport.send_idempotent(
                connector.build_search(campaign, cursor)
            )
            page = connector.parse_search(response, cursor)
            found += [each for each in page.campaigns if each.name == campaign.name]
            cursor = page.next_cursor
            if cursor is None:
                break
        if found:
            break
        await asyncio.sleep(0.05)
    return found


async def look_up(
    account: Account, connector: ReadsCampaigns[Any], campaign_id: str, near: Any
) -> Campaign | None:
    response = await account.transport.send_idempotent(connector.build_lookup(campaign_id, near))
    return connector.parse_lookup(response, campaign_id)


# What the tests above share


def assert_sound(outcome: Outcome) -> None:
    """Fit for the ledger and for a caller."""
    if isinstance(outcome, Created):
        assert_sound_campaign(outcome.campaign)
    if isinstance(outcome, Rejected | Unknown):
        error = outcome.error
        assert isinstance(outcome, Unknown) == (error.code is ErrorCode.OUTCOME_UNKNOWN)
        assert error.retry_after is None or 0 <= error.retry_after <= 3600
        assert error.retry_after is None or error.code is ErrorCode.RATE_LIMITED
        assert len(error.provider_message or "") <= 200
        assert len(error.provider_code or "") <= 100
    for text in texts_in(asdict(outcome)):
        text.encode("utf-8")


def assert_sound_campaign(campaign: Campaign | None) -> None:
    if campaign is None:
        return
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", campaign.id)
    for value in (campaign.name, campaign.description, campaign.provider_status):
        assert value is None or isinstance(value, str)
    for instant in (campaign.created_at, campaign.updated_at):
        assert instant is None or instant.utcoffset() == timedelta(0)
    for text in texts_in(asdict(campaign)):
        text.encode("utf-8")


def texts_in(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for each in value.values():
                yield from texts_in(each)
        case list() | tuple():
            for each in value:
                yield from texts_in(each)


def with_text_at_leaves(response: ProviderResponse, text: str) -> tuple[bytes, bytes]:
    """The body with the text in place of every text, and in place of every value."""
    if b"<" in response.body[:1]:
        root = ET.fromstring(response.body)
        leaves = [each for each in root.iter() if not len(each)]
        for each in leaves:
            each.text = each.text if (each.text or "").strip('"').isdigit() else text
        in_texts = ET.tostring(root)
        for each in leaves:
            each.text = text
        return in_texts, ET.tostring(root)
    if not response.body.startswith(b"{"):
        return text.encode(), text.encode()

    def put(value: Any, kinds: type | tuple[type, ...]) -> Any:
        if isinstance(value, dict):
            return {key: put(each, kinds) for key, each in value.items()}
        if isinstance(value, list):
            return [put(each, kinds) for each in value]
        return text if isinstance(value, kinds) else value

    whole = json.loads(response.body)
    return json.dumps(put(whole, str)).encode(), json.dumps(put(whole, object)).encode()
