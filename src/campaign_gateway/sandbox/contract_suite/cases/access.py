"""What the reads of a check show of the secret of an account, at every connector."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

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
from campaign_gateway.model import ErrorCode
from campaign_gateway.sandbox.contract_suite.calling import read_recording
from campaign_gateway.sandbox.contract_suite.fixtures import Counted, OpenAt
from campaign_gateway.sandbox.contract_suite.strange_responses import damaged, try_random_responses
from campaign_gateway.sandbox.contract_suite.subject import (
    Subject,
    first_connector,
    secrets_of,
    texts_in,
)

NEEDS_COPY, GRANTED, MISSING = Grant.NEEDS_COPY, Grant.GRANTED, Grant.MISSING


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


def test_permissions_need_an_account_that_lacks_some(subject: Subject) -> None:
    assert bool(subject.permissions) == hasattr(subject.emulator, "LIMITED_ACCOUNT")


async def test_check_of_a_good_secret_finds_nothing_wrong_and_copies_nothing(
    subject: Subject, live: Account, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanges = recorded(live, monkeypatch)
    before = counted()
    check = await check_account(live)
    assert check.problems == ()
    assert (check.secret, check.is_reachable) == (Secret.ACCEPTED, True)
    assert grants_of(check) == {name: good for name, (good, _) in subject.permissions.items()}
    assert check.clock_skew is not None
    assert abs(check.clock_skew) < 5
    assert check.seconds is not None
    assert check.seconds > 0
    assert 1 <= len(exchanges) <= CHECK_READS
    for request, _ in exchanges:
        path = urlsplit(request.url).path
        assert request.method == "GET" or any(path.endswith(post) for post in subject.reading_posts)
    assert counted() == before


async def test_refused_secret_is_recognised(
    subject: Subject, account: str, emulator_url: str, open_at: OpenAt
) -> None:
    wrong = secrets_of(subject, "wrong-secret-0123456789")
    fields = {**subject.emulator.ACCOUNTS[account], **wrong}
    check = await check_account(open_at(emulator_url, **fields))
    assert check.secret is Secret.REFUSED
    (problem,) = check.problems
    assert problem.code is ProblemCode.SECRET_REFUSED
    assert "[accounts.tried]" in problem.text
    # Some providers repeat the secret.
    assert not any("wrong-secret" in text for text in texts_in(check))


async def test_missing_permission_is_named(
    subject: Subject, limited_account: dict[str, Any], emulator_url: str, open_at: OpenAt
) -> None:
    check = await check_account(open_at(emulator_url, **limited_account))
    expected = {name: limited for name, (_, limited) in subject.permissions.items()}
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


def test_recorded_response_shows_what_its_name_says(
    subject: Subject, access_recording: Path
) -> None:
    connector, _ = first_connector(subject)
    unclear = ProviderResponse(200, {}, b"{}")
    responses = [unclear] * subject.access_read + [read_recording(access_recording)]
    access = connector.parse_check(responses)
    grants = {permission.grant for permission in access.permissions}
    if access_recording.stem.split(".")[1] == "missing":
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
    # A campaign that does not exist shows little, if no document says what a wrong secret gets.
    is_missing = responses[-1].status == 404
    if access.error is None and not access.is_accepted and not is_missing:
        pytest.fail("neither an error nor an accepted secret")


def test_any_responses_give_a_result(subject: Subject, connector: ShowsAccess) -> None:
    def check(response: ProviderResponse) -> None:
        for count in range(1, CHECK_READS + 1):
            responses = [response] * count
            read = connector.build_check(responses)
            assert read is None or re.match("GET|POST", read.method)
            assert_valid(connector.parse_check(responses), responses)
        assert connector.build_check([response] * CHECK_READS) is None

    try_random_responses(subject, check)


async def test_damaged_responses_give_a_result(
    connector: ShowsAccess, live: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanges = recorded(live, monkeypatch)
    await check_account(live)
    received = [response for _, response in exchanges]
    for number, response in enumerate(received):
        for _, changed in list(damaged(response))[::9]:
            responses = [*received[:number], changed]
            connector.build_check(responses)
            assert_valid(connector.parse_check(responses), responses)


async def test_error_of_the_provider_says_nothing_about_the_secret(
    connector: ShowsAccess,
) -> None:
    for status, body in ((500, b"{}"), (502, b"<h1>Bad Gateway</h1>"), (200, b"<h1>Hello</h1>")):
        access = connector.parse_check([ProviderResponse(status, {}, body)])
        assert access.error is not None
        assert access.error.code is ErrorCode.OUTCOME_UNKNOWN
        assert not access.is_accepted
        grants = {permission.grant for permission in access.permissions}
        assert grants <= {Grant.NOT_CHECKED, NEEDS_COPY}
