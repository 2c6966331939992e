"""The check of one account against providers that fail, and what it makes of the permissions."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.checks import account_check
from campaign_gateway.accounts.checks.account_check import Secret, check_account, check_accounts
from campaign_gateway.accounts.checks.problems import ProblemCode, needed
from campaign_gateway.accounts.checks.report import table
from campaign_gateway.accounts.transport.rate_limit import CallKind
from campaign_gateway.connectors.contract import Grant, Permission
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.model import ErrorCode, Rejected, UserError

KEY = "SG.a-secret-of-sendgrid-0123456789"

HEALTHY = b'{"scopes": ["marketing.read"]}'

Respond = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OpenAt = Callable[..., Account]


def responding(body: bytes = HEALTHY, status: bytes = b"200 OK", clock_ahead: float = 0) -> Respond:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=clock_ahead), usegmt=True)
        head = f"content-length: {len(body)}\r\ndate: {date}\r\n\r\n".encode()
        writer.write(b"HTTP/1.1 " + status + b"\r\n" + head + body)
        await writer.drain()
        writer.close()

    return respond


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


@asynccontextmanager
async def provider(respond: Respond, tls: ssl.SSLContext | None = None) -> Any:
    server = await asyncio.start_server(respond, "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"


def sendgrid(open_at: OpenAt, url: str, **settings: object) -> Account:
    return open_at("sendgrid", url, api_key=KEY, **settings)


async def test_certificate_and_latency_are_reported(open_at: OpenAt, tmp_path: Path) -> None:
    ca, ends_at = trustme.CA(), datetime(2031, 5, 1, 12, tzinfo=UTC)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", not_after=ends_at).configure_cert(context)
    async with provider(responding(), context) as url:
        account = sendgrid(open_at, url, ca_file=str(tmp_path / "ca.pem"))
        check = await check_account(account)
        assert (check.is_ok, check.has_tls, check.certificate_ends_at) == (True, True, ends_at)
        assert check.seconds is not None
        assert 0 < check.seconds < 5
        # Without the CA, the same certificate is a reason to send nothing.
        check = await check_account(sendgrid(open_at, url))
    assert (check.is_reachable, check.secret) == (False, Secret.UNKNOWN)
    (problem,) = check.problems
    assert problem.code is ProblemCode.UNREACHABLE
    assert "TLS certificate is not accepted" in problem.text
    assert "ca_file" in problem.text


async def test_provider_that_hangs_delays_no_other_account(
    open_at: OpenAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_check, "READ_SECONDS", 0.3)
    async with provider(hang) as hanging, provider(responding()) as healthy:
        accounts = [sendgrid(open_at, hanging), sendgrid(open_at, healthy)]
        slow, quick = await check_accounts(accounts)
    assert quick.checked_at < slow.checked_at
    assert (quick.is_ok, quick.secret) == (True, Secret.ACCEPTED)
    assert (slow.is_reachable, slow.seconds) == (False, None)
    (problem,) = slow.problems
    assert problem.code is ProblemCode.UNREACHABLE
    assert "timeout" in problem.text


FAILURES = {
    "cut": (cut, ProblemCode.UNREACHABLE),
    "unavailable": (responding(b"{}", b"503 No"), ProblemCode.UNCLEAR_RESPONSE),
    "another-server": (responding(b"<h1>Welcome</h1>"), ProblemCode.UNCLEAR_RESPONSE),
    "no-such-path": (responding(b"<h1>No</h1>", b"404 No"), ProblemCode.NOT_OFFERED),
    "rate-limited": (responding(b"{}", b"429 No"), ProblemCode.RATE_LIMITED),
    "unauthorized": (responding(b"{}", b"401 No"), ProblemCode.SECRET_REFUSED),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_failing_provider_has_its_own_problem(open_at: OpenAt, failure: str) -> None:
    respond, code = FAILURES[failure]
    async with provider(respond) as url:
        check = await check_account(sendgrid(open_at, url))
    assert [problem.code for problem in check.problems] == [code]
    refused = code is ProblemCode.SECRET_REFUSED
    assert check.secret is (Secret.REFUSED if refused else Secret.UNKNOWN)


async def test_words_of_a_hostile_provider_make_no_line_of_their_own(open_at: OpenAt) -> None:
    faked = "\x1b[2J\naccount tried: ok"
    error = {"code": faked, "title": faked, "detail": faked, "message": faked}
    body = json.dumps({"errors": [error], "message": faked, "title": faked, "detail": faked})
    async with provider(responding(body.encode(), b"401 No")) as url:
        for name in ("klaviyo", "mailchimp", "braze"):
            settings = {"instance": None} if name == "braze" else {}
            check = await check_account(open_at(name, url, api_key="key-us21", **settings))
            (problem,) = check.problems
            assert "account tried: ok" in problem.text
            assert problem.text.isprintable()


@pytest.mark.parametrize("ahead", [-3600, -20, 90])
async def test_clock_that_differs_by_more_than_a_minute_is_a_problem(
    open_at: OpenAt, ahead: int
) -> None:
    async with provider(responding(clock_ahead=ahead)) as url:
        check = await check_account(sendgrid(open_at, url))
    assert check.clock_skew is not None
    assert abs(check.clock_skew - ahead) <= 3
    assert [problem.code for problem in check.problems] == (
        [ProblemCode.CLOCKS_DIFFER] if abs(ahead) > 60 else []
    )


async def test_reads_use_the_limits_of_the_account(open_at: OpenAt) -> None:
    async with provider(responding()) as url:
        account = sendgrid(open_at, url, calls_per_minute=2)
        assert (await check_account(account)).is_ok
        # Reads get half of the limit, which is used up for this minute.
        check = await check_account(account)
    (problem,) = check.problems
    assert problem.code is ProblemCode.LIMIT_USED_UP
    assert problem.text == (
        "The check is not complete. The gateway's own limit for this account "
        "(`calls_per_minute`) is reached. Check again later."
    )
    assert " INCOMPLETE " in table([check])[1]
    assert (check.is_reachable, check.secret) == (None, Secret.UNKNOWN)


async def test_provider_that_gives_no_token_is_not_called_a_limit(
    open_at: OpenAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only Marketo has tokens here, and it gives none only for a wrong secret."""
    denied = Rejected(UserError(ErrorCode.PERMISSION_DENIED, "No.", provider_message="no role"))
    monkeypatch.setattr(CONNECTORS["marketo"], "parse_token", lambda *_: denied)
    async with provider(responding()) as url:
        account = open_at("marketo", url, client_id="a", client_secret=KEY)
        check = await check_account(account)
    (problem,) = check.problems
    assert problem.code is ProblemCode.READING_REFUSED
    assert problem.text.endswith("Marketo reports: no role")
    assert (check.is_reachable, check.secret) == (True, Secret.UNKNOWN)


async def test_limit_of_the_provider_is_not_called_a_setting(open_at: OpenAt) -> None:
    async with provider(responding(b"{}", b"429 No\r\nretry-after: 60")) as url:
        account = sendgrid(open_at, url)
        first = await check_account(account)
        # The provider's pause lasts.
        second = await check_account(account)
    assert [problem.code for problem in first.problems] == [ProblemCode.RATE_LIMITED]
    assert [problem.code for problem in second.problems] == [ProblemCode.LIMIT_USED_UP]
    assert "The provider limits the calls of this account for now." in second.problems[0].text
    for check in (first, second):
        assert " INCOMPLETE " in table([check])[1]
        assert "lower limits" not in check.problems[0].text


async def test_account_whose_calls_are_all_in_use_is_not_called_unreachable(
    open_at: OpenAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_check, "PERMIT_SECONDS", 0.1)
    async with provider(responding()) as url:
        account = sendgrid(open_at, url, calls_at_once=1)
        async with account.rate_limiter.acquire(CallKind.COPY, 1):
            check = await check_account(account)
    assert [problem.code for problem in check.problems] == [ProblemCode.LIMIT_USED_UP]
    assert check.is_reachable is None


def test_permission_of_one_kind_is_needed_only_if_no_other_kind_can_be_copied() -> None:
    granted, missing = Grant.GRANTED, Grant.MISSING

    def names(*permissions: tuple[str, Grant, str | None]) -> list[str]:
        return [each.name for each in needed([Permission(*each) for each in permissions])]

    assert names(("all", granted, None), ("a", missing, "A"), ("b", granted, "B")) == []
    assert names(("all", missing, None), ("a", missing, "A"), ("b", granted, "B")) == ["all"]
    assert names(("a", missing, "A"), ("b", missing, "B")) == ["a", "b"]
    assert names(("a", missing, "A"), ("b", missing, "B"), ("b2", granted, "B")) == ["a", "b"]
    assert names(("all", granted, None)) == []
    assert names(("all", Grant.NOT_CHECKED, None), ("more", Grant.NEEDS_COPY, None)) == []
