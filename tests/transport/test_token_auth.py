"""Access tokens over real sockets: requested once, reused, renewed once and always redacted."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.accounts.transport import token_auth
from campaign_gateway.accounts.transport.client import Transport
from campaign_gateway.accounts.transport.errors import NoResponse, NotSent
from campaign_gateway.accounts.transport.rate_limit import CallKind, Permit, RateLimiter
from campaign_gateway.accounts.transport.token_auth import TokenTransport
from campaign_gateway.api.types import DuplicateCampaignPayload
from campaign_gateway.connectors import errors, parsing
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    Token,
    UnexpectedResponse,
    UsesAccessTokens,
)
from campaign_gateway.ledger import Ledger, open_ledger
from campaign_gateway.model import (
    DuplicationStatus,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Retry,
    Timing,
    UserError,
    WarningCode,
)
from campaign_gateway.observe.health import account_health
from campaign_gateway.sandbox.contract_suite.calling import free_permit
from campaign_gateway.sandbox.emulation import serving
from support.stub_provider import (
    Copying,
    FoundWithoutAges,
    Named,
    StubGateway,
    StubInput,
    StubProvider,
    gateway_of,
    timeout_for,
)

SECRET = "client-secret-12345"

# The ways in which a token request can fail.
FAULTS: list[int | str] = [500, 503, "proxy", "cut-before-copy", "garbage", "unreadable", "hang"]


@dataclass
class Guarded(StubProvider):
    """Requires a token. Like Marketo, it rejects a bad one with code 601 and HTTP status 200."""

    lifetime: float = 3600
    issued: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    refuses_all: bool = False
    received: list[tuple[str, bytes]] = field(default_factory=list)
    spell: Callable[[str], str] = str
    next_token: str | None = None

    def app(self) -> Starlette:
        app = super().app()
        app.routes.append(Route("/token", self._call("token", self._issue), methods=["POST"]))
        app.routes.append(Route("/echo", self._call("echo", self._echo), methods=["GET", "POST"]))
        return app

    def revoke(self) -> None:
        self.revoked |= set(self.issued)

    def refusal(self, kind: str, request: Request) -> Response | None:
        if kind == "token":
            return None
        token = request.headers.get("x-token", "")
        self.received.append((token, request.headers.get("x-call", "").encode()))
        if self.refuses_all or token in self.revoked or token not in self.issued:
            return JSONResponse({"code": "601", "message": f"Token {token} is no good"})
        return None

    def _issue(self, request: Request, body: Any) -> Response:
        token = self.next_token
        if token is None:
            token = f'tok/en"{len(self.issued) + 1}&of-the-account'
            self.issued.append(token)
        if body["secret"] != SECRET:
            return JSONResponse({"message": f"Not the secret: {body['secret']}"}, 401)
        return JSONResponse({"token": token, "lifetime": self.lifetime})

    def _echo(self, request: Request, body: Any) -> Response:
        spelled = self.spell(request.headers["x-token"])
        return Response(f"You sent {spelled}.", headers={"x-received": spelled})


class WithToken(Copying, UsesAccessTokens):
    secret = SECRET

    def parse_response(self, copy_input: StubInput, response: ProviderResponse) -> Outcome:
        if self.rejects_token(response):
            provider_message = parsing.text(parsing.json_object(response), "message")
            return Rejected(
                UserError(
                    ErrorCode.AUTHENTICATION_FAILED, "refused", provider_message=provider_message
                )
            )
        return super().parse_response(copy_input, response)

    def build_token_request(self) -> ProviderRequest:
        return self._post("token", secret=self.secret)

    def parse_token(self, response: ProviderResponse) -> Token | Rejected:
        content = parsing.json_object(response)
        if not response.is_success:
            message = parsing.text(content, "message")
            failure = errors.failure("Stub", response, provider_message=message)
            if isinstance(failure, Rejected) and content is not None:
                return failure
        token = content.get("token") if content else None
        if token is None:
            raise UnexpectedResponse("no token")
        return Token(token, self.lifetime(content))

    def lifetime(self, content: Any) -> float:
        return float(content["lifetime"])

    def authorize(self, request: ProviderRequest, token: str) -> ProviderRequest:
        return replace(request, headers={**request.headers, "x-token": token})

    def rejects_token(self, response: ProviderResponse) -> bool:
        content = parsing.json_object(response)
        return parsing.text(content, "code") == "601"


class WithTokenAndName(WithToken, Named):
    pass


class WithTokenAndList(WithToken, FoundWithoutAges):
    pass


class Hook:
    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1


@dataclass
class Tried:
    """A provider that requires tokens, and a token transport to it."""

    provider: Guarded
    url: str
    transport: TokenTransport

    async def send(
        self, call: str = "", hook: Hook | None = None, path: str = "echo"
    ) -> ProviderResponse:
        request = ProviderRequest("POST", f"{self.url}/{path}", {"x-call": call}, b"{}")
        return await self.transport.send_once(request, free_permit(), hook or Hook())

    async def read(self, call: str = "") -> ProviderResponse:
        request = ProviderRequest("GET", f"{self.url}/echo", {"x-call": call})
        return await self.transport.send_idempotent(request, free_permit())


Open = Callable[..., Awaitable[Tried]]


@pytest.fixture
async def open_signed() -> AsyncIterator[Open]:
    async with AsyncExitStack() as opened:

        async def open_one(
            kind: type[WithToken] = WithToken,
            timeout: float = 5,
            provider: Guarded | None = None,
            token_timeout: float = 5,
        ) -> Tried:
            provider = provider or Guarded()
            url = await opened.enter_async_context(serving(provider.app()))
            signed = TokenTransport(
                Transport([SECRET], timeout, health=account_health("tried", "sonarly", 60)),
                kind(url),
                token_timeout,
            )
            opened.push_async_callback(signed.close)
            return Tried(provider, url, signed)

        yield open_one


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = await open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    yield opened
    await opened.close()


@pytest.fixture
async def open_gateway(ledger: Ledger) -> AsyncIterator[Callable[..., Awaitable[StubGateway]]]:
    async with AsyncExitStack() as opened:

        async def open_one(
            kind: type[WithToken] = WithToken, timeout: float = 5, **timing: Any
        ) -> StubGateway:
            gateway = gateway_of(kind, ledger, timeout, Guarded(), Timing(**timing))
            return await opened.enter_async_context(gateway)

        yield open_one


def guard(gateway: StubGateway) -> Guarded:
    assert isinstance(gateway.provider, Guarded)
    return gateway.provider


def is_refusal(response: ProviderResponse) -> bool:
    return b'"601"' in response.body


async def test_parallel_calls_request_one_token(open_signed: Open) -> None:
    tried = await open_signed()
    sending = [tried.send() for _ in range(10)]
    reading = [tried.read() for _ in range(10)]
    responses = await asyncio.gather(*sending, *reading)
    assert [response.status for response in responses] == [200] * 20
    # At some providers, a second token request would invalidate the first token.
    assert tried.provider.count("token") == 1
    assert {token for token, _ in tried.provider.received} == set(tried.provider.issued)


@dataclass
class Clock:
    """The time that the token transport uses."""

    later: float = 0

    def time(self) -> float:
        return monotonic() + self.later


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    # The loop's own time must not change, because the server and all timers use it.
    clock = Clock()
    seen = SimpleNamespace(**(vars(asyncio) | {"get_running_loop": lambda: clock}))
    monkeypatch.setattr(token_auth, "asyncio", seen)
    return clock


async def test_token_is_reused_until_it_expires(open_signed: Open, clock: Clock) -> None:
    tried = await open_signed()
    before = monotonic()
    await tried.send()
    took = monotonic() - before
    clock.later = 3600 - 60
    await tried.read()
    assert tried.provider.count("token") == 1
    clock.later = 3600
    await tried.send()
    await tried.send()
    assert tried.provider.count("token") == 2
    assert took < 60


async def test_lifetime_of_a_token_starts_when_it_is_requested(
    open_signed: Open, clock: Clock
) -> None:
    """The age of a token when it arrives is unknown, so its lifetime starts at the request."""
    tried = await open_signed()

    async def slowly() -> None:
        clock.later += 2000

    tried.provider.meanwhile["token"] = slowly
    await tried.send()
    clock.later += 1700
    await tried.send()
    assert tried.provider.count("token") == 2


async def test_rejected_token_is_renewed_once_and_the_same_request_is_sent_again(
    open_signed: Open,
) -> None:
    tried = await open_signed()
    await tried.read()
    tried.provider.revoke()
    tried.provider.calls.clear()
    tried.provider.received.clear()
    response = await tried.send("this one", hook := Hook())
    assert not is_refusal(response)
    assert hook.times == 1
    first, second = tried.provider.issued
    assert tried.provider.received == [(first, b"this one"), (second, b"this one")]
    assert tried.provider.calls == ["echo", "token", "echo"]
    # The next call uses the new token.
    await tried.send()
    assert tried.provider.count("token") == 1


async def test_requests_for_tokens_count_against_the_limits(open_signed: Open) -> None:
    tried = await open_signed()
    limiter = RateLimiter(1, 5)
    request = ProviderRequest("POST", f"{tried.url}/echo", {"x-call": ""}, b"{}")
    async with limiter.acquire(CallKind.COPY, 0) as permit:
        await tried.transport.send_once(request, permit, Hook())
        tried.provider.revoke()
        await tried.transport.send_once(request, permit, Hook())
    assert tried.provider.calls == ["token", "echo", "echo", "token", "echo"]
    with pytest.raises(Refused) as refusal:
        async with limiter.acquire(CallKind.COPY, 0):
            pass
    assert refusal.value.error.code is ErrorCode.RATE_LIMITED


async def test_new_token_without_a_turn_means_that_nothing_was_sent(open_signed: Open) -> None:
    tried = await open_signed()
    await tried.read()
    tried.provider.revoke()
    request = ProviderRequest("POST", f"{tried.url}/echo", {"x-call": ""}, b"{}")
    async with RateLimiter(1, 2).acquire(CallKind.COPY, 0) as permit:
        with pytest.raises(NotSent, match="`calls_per_minute`"):
            await tried.transport.send_once(request, permit, Hook())
    assert tried.provider.calls == ["token", "echo", "echo", "token"]


async def test_idempotent_request_with_a_rejected_token_is_sent_again(open_signed: Open) -> None:
    tried = await open_signed()
    await tried.read()
    tried.provider.revoke()
    assert not is_refusal(await tried.read())
    assert tried.provider.calls == ["token", "echo", "echo", "token", "echo"]


@pytest.mark.parametrize("method", ["send", "read"])
async def test_second_rejection_is_returned(open_signed: Open, method: str) -> None:
    tried = await open_signed()
    tried.provider.refuses_all = True
    response = await getattr(tried, method)()
    assert is_refusal(response)
    assert tried.provider.calls == ["token", "echo", "token", "echo"]


async def test_second_rejection_runs_the_hook_once(open_signed: Open) -> None:
    tried = await open_signed()
    tried.provider.refuses_all = True
    await tried.send(hook=(hook := Hook()))
    assert hook.times == 1


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_other_error_than_a_rejected_token_is_not_sent_again(
    open_signed: Open, status: int
) -> None:
    tried = await open_signed()
    # These may reject the call itself, and it may have taken effect.
    tried.provider.faults["echo"].append(status)
    assert (await tried.send()).status == status
    assert tried.provider.calls == ["token", "echo"]


async def test_parallel_rejections_share_one_renewal(open_signed: Open) -> None:
    tried = await open_signed()
    await tried.read()
    tried.provider.revoke()
    hooks = [Hook() for _ in range(10)]
    async with asyncio.timeout(40):
        responses = await asyncio.gather(
            *(tried.send(hook=hook) for hook in hooks), *(tried.read() for _ in range(10))
        )
    assert not any(map(is_refusal, responses))
    assert tried.provider.count("token") == 2
    # One call before, and two tries of each: a rejection causes only one more try.
    assert tried.provider.count("echo") == 41
    assert [hook.times for hook in hooks] == [1] * 10


async def test_late_rejection_uses_the_token_that_was_renewed_meanwhile(
    open_signed: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = await open_signed()
    await tried.read()
    has_arrived, may_continue = asyncio.Event(), asyncio.Event()
    rejects_token = tried.transport._connector.rejects_token
    send_idempotent = tried.transport._transport.send_idempotent

    async def late(request: ProviderRequest, permit: Permit, *more: Any) -> ProviderResponse:
        response = await send_idempotent(request, permit, *more)
        has_arrived.set()
        await may_continue.wait()
        return response

    tried.provider.revoke()
    # Delayed in the transport, because a socket cannot delay responses in a fixed order.
    with monkeypatch.context() as patched:
        patched.setattr(tried.transport._transport, "send_idempotent", late)
        reading = asyncio.create_task(tried.read())
        await asyncio.wait_for(has_arrived.wait(), 40)
    assert not is_refusal(await tried.send())
    may_continue.set()
    assert not rejects_token(await reading)
    assert tried.provider.count("token") == 2


async def test_rejected_credentials_raise_refused_before_anything_is_sent(
    open_signed: Open,
) -> None:
    class Wrong(WithToken):
        secret = "another-secret-99"

    tried = await open_signed(Wrong)
    for call in (tried.send(hook=(hook := Hook())), tried.read()):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.error.code is ErrorCode.AUTHENTICATION_FAILED
    assert hook.times == 0
    assert tried.provider.count("echo") == 0


async def test_secret_is_redacted_in_the_message_that_repeats_it(
    open_signed: Open,
) -> None:
    class Wrong(WithToken):
        def build_token_request(self) -> ProviderRequest:
            return self._post("token", secret=f"not {SECRET}")

    tried = await open_signed(Wrong)
    with pytest.raises(Refused) as refused:
        await tried.send()
    assert refused.value.error.provider_message == "Not the secret: not [redacted]"


async def test_rejected_credentials_leave_the_key_unused(
    open_gateway: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await open_gateway()
    with monkeypatch.context() as patched:
        patched.setattr(WithToken, "secret", "another-secret-99")
        result = await gateway.ask()
    payload = DuplicateCampaignPayload.from_model(result)
    assert payload.status.value == "NOT_SENT"
    assert payload.duplication is None
    assert [error.code.value for error in payload.user_errors] == ["AUTHENTICATION_FAILED"]
    assert payload.user_errors[0].retry is Retry.SAME_KEY
    assert await ledger.find("everyone", "k") is None
    assert gateway.provider.count("copy") == 0
    again = await gateway.ask()
    assert not again.replayed
    assert (again.duplication.status, again.error) == (DuplicationStatus.CREATED, None)
    assert gateway.provider.count("copy") == 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_failed_token_request_is_reported_as_not_sent(
    open_signed: Open, fault: int | str
) -> None:
    tried = await open_signed(timeout=20, token_timeout=0.5)
    tried.provider.faults["token"] += [fault, fault]
    began = monotonic()
    with pytest.raises(NotSent, match="access token could not be requested"):
        await tried.send(hook=(hook := Hook()))
    with pytest.raises((NoResponse, UnexpectedResponse)):
        await tried.read()
    assert monotonic() - began < 15
    assert hook.times == 0
    assert tried.provider.count("echo") == 0
    # The failure does not affect the next call.
    assert not is_refusal(await tried.send())


async def test_token_request_that_hangs_delays_each_call_only_until_its_timeout(
    open_signed: Open,
) -> None:
    """A call that waits for another call's token request waits no longer than for its own."""
    tried = await open_signed(timeout=20, token_timeout=0.5)
    tried.provider.faults["token"] += ["hang"] * 40
    began = monotonic()
    failures = await asyncio.gather(*(tried.send() for _ in range(20)), return_exceptions=True)
    assert monotonic() - began < 15
    # Each call raises NotSent, so its caller may safely try again.
    assert {type(failure) for failure in failures} == {NotSent}
    assert tried.provider.count("echo") == 0


async def test_cancelled_token_request_does_not_block_other_calls(open_signed: Open) -> None:
    tried = await open_signed(timeout=20)
    received = tried.provider.hang("token")
    leaving = asyncio.create_task(tried.send())
    await asyncio.wait_for(received.wait(), 40)
    waiting = asyncio.create_task(tried.send())
    leaving.cancel()
    assert not is_refusal(await asyncio.wait_for(waiting, 40))


@pytest.mark.parametrize("token", ["", "two words", "a\r\nx-more: b", "t\u00f6ken", "t\0"])
async def test_token_with_invalid_characters_is_refused(open_signed: Open, token: str) -> None:
    tried = await open_signed()
    tried.provider.next_token = token
    with pytest.raises(NotSent, match="access token could not be requested"):
        await tried.send(hook=(hook := Hook()))
    with pytest.raises(UnexpectedResponse):
        await tried.read()
    assert hook.times == 0
    assert tried.provider.count("echo") == 0


@pytest.mark.parametrize("fault", [*FAULTS, 401])
@pytest.mark.usefixtures("only_new_connections")
async def test_failed_renewal_returns_the_rejection(open_signed: Open, fault: int | str) -> None:
    tried = await open_signed(timeout=20, token_timeout=0.5)
    await tried.read()
    tried.provider.revoke()
    tried.provider.faults["token"] += [fault, fault]
    tried.provider.calls.clear()
    # The rejection proves that nothing was made. A failed token request would not prove it.
    assert is_refusal(await tried.send(hook=(hook := Hook())))
    assert hook.times == 1
    assert tried.provider.calls == ["echo", "token"]
    with pytest.raises((NoResponse, UnexpectedResponse, Refused)):
        await tried.read()


async def test_copy_with_a_rejected_token_is_recorded_as_rejected(
    open_gateway: Any,
) -> None:
    gateway = await open_gateway()
    guard(gateway).refuses_all = True
    record = await gateway.copy()
    assert record.status is DuplicationStatus.REJECTED
    assert record.error.code is ErrorCode.AUTHENTICATION_FAILED
    assert record.error.provider_message == "Token [redacted] is no good"
    assert gateway.provider.count("copy") == 2
    assert gateway.provider.campaigns == {}


@pytest.mark.parametrize("fault", ["cut-after-copy", "garbage", "hang"])
async def test_second_send_without_a_response_raises_no_response(
    open_signed: Open, fault: str
) -> None:
    tried = await open_signed(timeout=timeout_for(fault))
    await tried.read()
    tried.provider.revoke()
    tried.provider.faults["echo"].append(fault)
    with pytest.raises(NoResponse):
        await tried.send(hook=(hook := Hook()))
    assert hook.times == 1
    assert tried.provider.calls == ["token", "echo", "echo", "token", "echo"]


async def test_copy_whose_second_send_is_lost_is_unknown_and_not_sent_again(
    open_gateway: Any,
) -> None:
    gateway = await open_gateway()
    guard(gateway).refuses_all = True

    async def accept_the_second_token() -> None:
        guard(gateway).refuses_all = not guard(gateway).issued

    gateway.provider.meanwhile["token"] = accept_the_second_token
    gateway.provider.faults["copy"].append("cut-after-copy")
    record = await gateway.copy()
    assert record.status is DuplicationStatus.UNKNOWN
    assert record.error.code is ErrorCode.OUTCOME_UNKNOWN
    again = await gateway.ask()
    assert again.replayed
    assert again.duplication == record
    assert gateway.provider.count("copy") == 2
    assert gateway.provider.campaigns.keys() == {"c1"}


async def test_second_send_without_a_connection_is_rejected(open_gateway: Any) -> None:
    gateway = await open_gateway(UnreachableAfterwards)
    guard(gateway).refuses_all = True
    record = await gateway.copy()
    assert record.status is DuplicationStatus.REJECTED
    assert record.error.code is ErrorCode.PROVIDER_UNAVAILABLE
    assert gateway.provider.count("copy") == 1


class UnreachableAfterwards(WithToken):
    """Sends its second token to an address where nothing listens."""

    def authorize(self, request: ProviderRequest, token: str) -> ProviderRequest:
        url = "http://127.0.0.1:9" if "2" in token else request.url
        return replace(super().authorize(request, token), url=url)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("hang", ErrorCode.PROVIDER_UNAVAILABLE),
        ("unreadable", ErrorCode.PROVIDER_UNAVAILABLE),
        (401, ErrorCode.AUTHENTICATION_FAILED),
        (429, ErrorCode.RATE_LIMITED),
    ],
)
async def test_copy_without_a_token_leaves_its_key_unused(
    open_gateway: Any,
    ledger: Ledger,
    fault: int | str,
    code: ErrorCode,
) -> None:
    gateway = await open_gateway(token_timeout=0.5)
    gateway.provider.faults["token"].append(fault)
    result = await gateway.ask()
    assert result.duplication is None
    assert result.error.code is code
    assert result.error.retry(is_recorded=False) is Retry.SAME_KEY
    assert await ledger.find("everyone", "k") is None
    assert (await gateway.copy()).status is DuplicationStatus.CREATED


async def test_refused_while_parsing_a_response_does_not_mean_not_sent(
    open_gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the send it is a connector's bug. Only a token request before the send may raise it."""
    gateway = await open_gateway()

    def broken(*_: object) -> Outcome:
        raise Refused(UserError(ErrorCode.INVALID_INPUT, "no such id"))

    monkeypatch.setattr(WithToken, "parse_response", broken)
    result = await gateway.ask()
    assert result.error is None
    assert result.duplication.status is DuplicationStatus.UNKNOWN
    assert gateway.provider.campaigns.keys() == {"c1"}


async def test_rejected_credentials_before_the_list_read_are_reported(
    open_gateway: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await open_gateway(WithTokenAndList)
    monkeypatch.setattr(WithToken, "secret", "another-secret-99")
    result = await gateway.ask()
    assert result.error.code is ErrorCode.AUTHENTICATION_FAILED
    assert await ledger.find("everyone", "k") is None
    assert gateway.provider.count("copy") == 0


@pytest.mark.parametrize("status", [401, 429])
async def test_copy_is_created_even_if_its_rename_gets_no_token(
    open_gateway: Any, status: int
) -> None:
    gateway = await open_gateway(WithTokenAndName)
    # The token is valid for one call, so that the rename needs its own token.
    guard(gateway).lifetime = 0
    gateway.provider.faults["token"] += [None, status, status]
    copy = await gateway.copy()
    assert copy.status is DuplicationStatus.CREATED
    assert [warning.code for warning in copy.warnings] == [WarningCode.NAME_NOT_APPLIED]
    assert await gateway.check() == 1
    assert (await gateway.recorded()).warnings == ()
    assert gateway.provider.count("copy") == 1


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": lambda token: json.dumps(token)[1:-1],
    "url": lambda token: token.replace("/", "%2F").replace('"', "%22").replace("&", "%26"),
    "xml": lambda token: token.replace("&", "&amp;").replace('"', "&quot;"),
    "base64": lambda token: base64.b64encode(f"Bearer {token}".encode()).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("method", ["send", "read"])
@pytest.mark.parametrize("renewed", [False, True])
async def test_token_is_redacted_in_responses(
    open_signed: Open, spelling: str, method: str, *, renewed: bool
) -> None:
    tried = await open_signed()
    spell = tried.provider.spell = SPELLINGS[spelling]
    if renewed:
        await tried.read()
        tried.provider.revoke()
    response = await getattr(tried, method)()
    spelled = spell(tried.provider.issued[-1])
    assert b"[redacted]" in response.body
    assert spelled.encode() not in response.body
    assert "[redacted]" in response.headers["x-received"]
    assert spelled not in response.headers["x-received"]


async def test_rejected_token_is_redacted_in_the_rejection(
    open_signed: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = await open_signed()
    tried.provider.refuses_all = True
    twice = await tried.send()
    tried.provider.faults["token"].append(500)
    once = await tried.send()
    for response in (twice, once):
        assert is_refusal(response)
        assert b"Token [redacted] is no good" in response.body


async def test_token_is_in_no_repr_and_no_log(
    open_gateway: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("campaign_gateway", "httpx", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    gateway = await open_gateway(WithTokenAndName)
    guard(gateway).refuses_all = True
    refused = await gateway.copy(key="refused")
    guard(gateway).refuses_all = False
    gateway.provider.faults["rename"].append("cut-before-copy")
    made = await gateway.copy()
    signed = gateway.account.transport
    values = [refused, made, gateway.account, signed, vars(signed), Token("tok/en", 1), caplog.text]
    assert "REJECTED" in caplog.text
    for value in values:
        for token in (*guard(gateway).issued, "tok/en", SECRET):
            assert token not in f"{value} {value!r}"


async def test_two_accounts_do_not_share_a_token(open_signed: Open) -> None:
    provider = Guarded()
    one, other = await open_signed(provider=provider), await open_signed(provider=provider)
    await one.send("one")
    await other.send("other")
    first, second = provider.issued
    assert first != second
    assert provider.received == [(first, b"one"), (second, b"other")]
    # A rejection of one token does not renew the other.
    provider.revoked.add(first)
    await other.send("other")
    assert provider.count("token") == 2
