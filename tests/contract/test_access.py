"""What the reads of a check show of the secret of an account, at every connector."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.checks.account_check import AccountCheck, Secret, check_account
from campaign_gateway.accounts.checks.problems import ProblemCode
from campaign_gateway.connectors.contract import (
    CHECK_READS,
    Access,
    Grant,
    ProviderRequest,
    ProviderResponse,
    ShowsAccess,
)
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.model import ErrorCode
from support.connectors import (
    ACCOUNTS,
    ReadRecording,
    connect,
    emulator_of,
    first_connector,
    provider_of,
    recording_name,
    recordings,
    secrets_of,
    texts_in,
)
from support.strange_responses import RANDOM, damaged

NEEDS_COPY, GRANTED, MISSING = Grant.NEEDS_COPY, Grant.GRANTED, Grant.MISSING
NOT_CHECKED = Grant.NOT_CHECKED

# What the check finds with a sandbox account, and with one that lacks permissions.
EXPECTED: dict[str, dict[str, tuple[Grant, Grant]]] = {
    "altcraft": {
        "list trigger campaigns": (GRANTED, MISSING),
        "list campaigns": (GRANTED, MISSING),
        "copy campaigns": (NEEDS_COPY, NEEDS_COPY),
    },
    "braze": {
        "campaigns.list": (GRANTED, GRANTED),
        "campaigns.details": (GRANTED, MISSING),
        "campaigns.duplicate": (NEEDS_COPY, NEEDS_COPY),
        "canvas.list": (NOT_CHECKED, NOT_CHECKED),
        "canvas.details": (NOT_CHECKED, NOT_CHECKED),
        "canvas.duplicate": (NEEDS_COPY, NEEDS_COPY),
    },
    "hubspot": {
        "content": (GRANTED, MISSING),
        "marketing.campaigns.read": (GRANTED, GRANTED),
        "marketing.campaigns.write": (GRANTED, MISSING),
    },
    "klaviyo": {
        "campaigns:read": (GRANTED, MISSING),
        "campaigns:write": (NEEDS_COPY, NEEDS_COPY),
    },
    # A key allows everything.
    "mailchimp": {},
    "marketo": {"Read-Write Assets": (NEEDS_COPY, MISSING)},
    "meta": {"ads_management": (GRANTED, MISSING)},
    "omnisend": {
        "campaigns.read": (GRANTED, MISSING),
        "campaigns.write": (NEEDS_COPY, NEEDS_COPY),
    },
    "sendgrid": {
        "marketing.read": (GRANTED, MISSING),
        "full access to Marketing": (NEEDS_COPY, NEEDS_COPY),
    },
    "sonarly": {
        "campaigns:read": (GRANTED, MISSING),
        "campaigns:write": (NEEDS_COPY, NEEDS_COPY),
    },
}

# Reads whose documents require another method than GET.
READING_POSTS = {
    "/api/v1.1/campaigns/list",
    "/api/v1.1/campaigns/triggers/list/",
    "/oauth/v2/private-apps/get/access-token-info",
    "/v3/marketing/singlesends/search",
}

LIMITED = [provider for provider, grants in EXPECTED.items() if grants]


def shows_access(provider: str, name: str) -> ShowsAccess:
    connector = connect(provider, name)
    assert isinstance(connector, ShowsAccess)
    return connector


def recorded(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[ProviderRequest, ProviderResponse]]:
    """Return the list of the reads that the account will make."""
    exchanges: list[tuple[ProviderRequest, ProviderResponse]] = []
    send = account.transport.send_idempotent

    async def record(request: ProviderRequest, *more: Any) -> ProviderResponse:
        response = await send(request, *more)
        exchanges.append((request, response))
        return response

    monkeypatch.setattr(account.transport, "send_idempotent", record)
    return exchanges


def grants_of(check: AccountCheck) -> dict[str, Grant]:
    return {permission.name: permission.grant for permission in check.permissions}


def test_every_connector_shows_access() -> None:
    assert CONNECTORS.keys() == EXPECTED.keys()
    assert all(isinstance(connect(*account), ShowsAccess) for account in ACCOUNTS)
    limited = {name for name in CONNECTORS if hasattr(emulator_of(name), "LIMITED_ACCOUNT")}
    assert limited == set(LIMITED)


async def test_check_of_a_good_secret_finds_nothing_wrong_and_copies_nothing(
    account: tuple[str, str],
    live: Account,
    counted: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider, _ = account
    exchanges = recorded(live, monkeypatch)
    before = counted(provider)
    check = await check_account(live)
    assert check.problems == ()
    assert (check.secret, check.is_reachable) == (Secret.ACCEPTED, True)
    assert grants_of(check) == {name: good for name, (good, _) in EXPECTED[provider].items()}
    assert check.clock_skew is not None
    assert abs(check.clock_skew) < 5
    assert check.seconds is not None
    assert check.seconds > 0
    assert 1 <= len(exchanges) <= CHECK_READS
    for request, _ in exchanges:
        path = urlsplit(request.url).path
        assert request.method == "GET" or any(path.endswith(post) for post in READING_POSTS)
    assert counted(provider) == before


async def test_refused_secret_is_recognised(
    account: tuple[str, str],
    emulator: ModuleType,
    emulator_url: Callable[[str], str],
    open_at: Callable[..., Account],
) -> None:
    provider, name = account
    fields = {**emulator.ACCOUNTS[name], **secrets_of(provider, "wrong-secret-0123456789")}
    check = await check_account(open_at(provider, emulator_url(provider), **fields))
    assert check.secret is Secret.REFUSED
    (problem,) = check.problems
    assert problem.code is ProblemCode.SECRET_REFUSED
    assert "[accounts.tried]" in problem.text
    # Some providers repeat the secret.
    assert not any("wrong-secret" in text for text in texts_in(check))


@pytest.mark.parametrize("provider", LIMITED)
async def test_missing_permission_is_named(
    provider: str, emulator_url: Callable[[str], str], open_at: Callable[..., Account]
) -> None:
    fields = emulator_of(provider).LIMITED_ACCOUNT
    check = await check_account(open_at(provider, emulator_url(provider), **fields))
    expected = {name: limited for name, (_, limited) in EXPECTED[provider].items()}
    assert grants_of(check) == expected
    assert check.secret is Secret.ACCEPTED
    (problem,) = check.problems
    assert problem.code is ProblemCode.PERMISSION_MISSING
    assert all(
        (name in problem.text) == (grant is MISSING)
        for name, grant in expected.items()
        # One of them is a part of another's name.
        if not any(name in other and name != other for other in expected)
    )


# The number of the read whose responses were recorded, if it is not the first.
RECORDED_READ = {"hubspot": 2}


@pytest.mark.parametrize("recording", recordings("access"), ids=recording_name)
def test_recorded_response_shows_what_its_name_says(
    recording: Path, read_recording: ReadRecording
) -> None:
    provider = provider_of(recording)
    connector = first_connector(provider)[0]
    assert isinstance(connector, ShowsAccess)
    unclear = ProviderResponse(200, {}, b"{}")
    responses = [unclear] * RECORDED_READ.get(provider, 0) + [read_recording(recording)]
    access = connector.parse_check(responses)
    grants = {permission.grant for permission in access.permissions}
    if recording.stem.split(".")[1] == "missing":
        assert MISSING in grants
    else:
        assert MISSING not in grants
        assert access.is_accepted or GRANTED in grants


def assert_valid(access: Access, responses: Sequence[ProviderResponse]) -> None:
    for text in texts_in(access):
        text.encode("utf-8")
    if not any(response.is_success for response in responses):
        assert not any(permission.grant is GRANTED for permission in access.permissions)
    if access.error is not None:
        assert access.error.code in set(ErrorCode)
    if access.error is None and not access.is_accepted:
        pytest.fail("neither an error nor an accepted secret")


@settings(max_examples=20, deadline=None)
@given(response=RANDOM)
def test_any_responses_give_a_result(account: tuple[str, str], response: ProviderResponse) -> None:
    connector = shows_access(*account)
    for count in range(1, CHECK_READS + 1):
        responses = [response] * count
        read = connector.build_check(responses)
        assert read is None or re.match("GET|POST", read.method)
        assert_valid(connector.parse_check(responses), responses)
    assert connector.build_check([response] * CHECK_READS) is None


async def test_damaged_responses_give_a_result(
    account: tuple[str, str], live: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = shows_access(*account)
    exchanges = recorded(live, monkeypatch)
    await check_account(live)
    received = [response for _, response in exchanges]
    for number, response in enumerate(received):
        for _, changed in list(damaged(response))[::9]:
            responses = [*received[:number], changed]
            connector.build_check(responses)
            assert_valid(connector.parse_check(responses), responses)


async def test_error_of_the_provider_says_nothing_about_the_secret(
    account: tuple[str, str],
) -> None:
    connector = shows_access(*account)
    for status, body in ((500, b"{}"), (502, b"<h1>Bad Gateway</h1>"), (200, b"<h1>Hello</h1>")):
        access = connector.parse_check([ProviderResponse(status, {}, body)])
        assert access.error is not None
        assert access.error.code is ErrorCode.OUTCOME_UNKNOWN
        assert not access.is_accepted
        grants = {permission.grant for permission in access.permissions}
        assert grants <= {Grant.NOT_CHECKED, NEEDS_COPY}
