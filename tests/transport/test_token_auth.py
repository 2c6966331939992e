"""Tokens for the account's secrets, over real sockets: got once, kept, renewed once, never told."""

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

from campaign_gateway.api.types import DuplicateCampaignPayload
from campaign_gateway.connectors import errors, parsing
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    Token,
    UnexpectedResponse,
)
from campaign_gateway.ledger import Ledger, open_ledger
from campaign_gateway.model import (
    DuplicationStatus,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Retry,
    UserError,
    WarningCode,
)
from campaign_gateway.sandbox.emulation import serving
from campaign_gateway.transport import token_auth
from campaign_gateway.transport.client import Transport
from campaign_gateway.transport.errors import NoResponse, NotSent
from campaign_gateway.transport.token_auth import TokenTransport
from support.stub_provider import (
    Copying,
    FoundWithoutAges,
    Named,
    StubGateway,
    StubInput,
    StubProvider,
    gateway_of,
)

SECRET = "client-secret-12345"

# What no call can be made without, and what may become of asking for it.
FAULTS: list[int | str] = [500, 503, "proxy", "cut-before-copy", "garbage", "unreadable", "hang"]


@dataclass
class Guarded(StubProvider):
    """Wants a token in each call, and refuses a bad one as some do: with 601 in an HTTP 200."""

    lifetime: float = 3600
    given: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    refuses_all: bool = False
    said: list[tuple[str, bytes]] = field(default_factory=list)
    spell: Callable[[str], str] = str
    next_token: str | None = None

    def app(self) -> Starlette:
        app = super().app()
        app.routes.append(Route("/token", self._call("token", self._give), methods=["POST"]))
        app.routes.append(Route("/echo", self._call("echo", self._echo), methods=["GET", "POST"]))
        return app

    def revoke(self) -> None:
        self.revoked |= set(self.given)

    def refusal(self, kind: str, request: Request) -> Response | None:
        if kind == "token":
            return None
        token = request.headers.get("x-token", "")
        self.said.append((token, request.headers.get("x-call", "").encode()))
        if self.refuses_all or token in self.revoked or token not in self.given:
            return JSONResponse({"code": "601", "message": f"Token {token} is no good"})
        return None

    def _give(self, request: Request, said: Any) -> Response:
        token = self.next_token
        if token is None:
            token = f'tok/en"{len(self.given) + 1}&of-the-account'
            self.given.append(token)
        if said["secret"] != SECRET:
            return JSONResponse({"message": f"Not the secret: {said['secret']}"}, 401)
        return JSONResponse({"token": token, "lifetime": self.lifetime})

    def _echo(self, request: Request, said: Any) -> Response:
        spelled = self.spell(request.headers["x-token"])
        return Response(f"You said {spelled}.", headers={"x-said": spelled})


class Signing(Copying):
    secret = SECRET

    def parse_response(self, campaign: StubInput, response: ProviderResponse) -> Outcome:
        if self.rejects_token(response):
            said = parsing.read_text(parsing.read_json_object(response), "message")
            return Rejected(
                UserError(ErrorCode.AUTHENTICATION_FAILED, "refused", provider_message=said)
            )
        return super().parse_response(campaign, response)

    def build_token_request(self) -> ProviderRequest:
        return self._post("token", secret=self.secret)

    def parse_token(self, response: ProviderResponse) -> Token | Rejected:
        told = parsing.read_json_object(response)
        if not response.is_success:
            message = parsing.read_text(told, "message")
            failure = errors.failure("Stub", response, provider_message=message)
            if isinstance(failure, Rejected) and told is not None:
                return failure
        token = told.get("token") if told else None
        if token is None:
            raise UnexpectedResponse("no token")
        return Token(token, self.lifetime(told))

    def lifetime(self, told: Any) -> float:
        return float(told["lifetime"])

    def authorize(self, request: ProviderRequest, token: str) -> ProviderRequest:
        return replace(request, headers={**request.headers, "x-token": token})

    def rejects_token(self, response: ProviderResponse) -> bool:
        told = parsing.read_json_object(response)
        return parsing.read_text(told, "code") == "601"


class SigningAndNamed(Signing, Named):
    pass


class SigningAndLooking(Signing, FoundWithoutAges):
    pass


class Crossing:
    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1


@dataclass
class Tried:
    """A guarded provider and a signed transport to it."""

    provider: Guarded
    url: str
    transport: TokenTransport

    async def send(
        self, call: str = "", crossing: Crossing | None = None, path: str = "echo"
    ) -> ProviderResponse:
        request = ProviderRequest("POST", f"{self.url}/{path}", {"x-call": call}, b"{}")
        return await self.transport.send_once(request, crossing or Crossing())

    async def read(self, call: str = "") -> ProviderResponse:
        request = ProviderRequest("GET", f"{self.url}/echo", {"x-call": call})
        return await self.transport.send_idempotent(request)


Open = Callable[..., Awaitable[Tried]]


@pytest.fixture
async def open_signed() -> AsyncIterator[Open]:
    async with AsyncExitStack() as opened:

        async def open_one(
            kind: type[Signing] = Signing, timeout: float = 5, provider: Guarded | None = None
        ) -> Tried:
            provider = provider or Guarded()
            url = await opened.enter_async_context(serving(provider.app()))
            signed = TokenTransport(Transport([SECRET], timeout), kind(url))
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

        async def open_one(kind: type[Signing] = Signing, timeout: float = 5) -> StubGateway:
            gateway = gateway_of(kind, ledger, timeout, Guarded())
            return await opened.enter_async_context(gateway)

        yield open_one


def guard(gateway: StubGateway) -> Guarded:
    assert isinstance(gateway.provider, Guarded)
    return gateway.provider


def is_refusal(response: ProviderResponse) -> bool:
    return b'"601"' in response.body


async def test_many_calls_at_once_sign_in_once(open_signed: Open) -> None:
    tried = await open_signed()
    sending = [tried.send() for _ in range(10)]
    reading = [tried.read() for _ in range(10)]
    answers = await asyncio.gather(*sending, *reading)
    assert [each.status for each in answers] == [200] * 20
    # One that asked for itself would make the others' tokens bad at some providers.
    assert tried.provider.count("token") == 1
    assert {token for token, _ in tried.provider.said} == set(tried.provider.given)


@dataclass
class Clock:
    """The time as the signing sees it."""

    later: float = 0

    def time(self) -> float:
        return monotonic() + self.later


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    # Not the loop's own time, on which the server's and every other timer stands.
    clock = Clock()
    seen = SimpleNamespace(**(vars(asyncio) | {"get_running_loop": lambda: clock}))
    monkeypatch.setattr(token_auth, "asyncio", seen)
    return clock


async def test_a_token_serves_until_its_lifetime_is_over(open_signed: Open, clock: Clock) -> None:
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


async def test_a_token_ages_while_it_is_on_its_way(open_signed: Open, clock: Clock) -> None:
    """How old it was when it came nobody knows."""
    tried = await open_signed()

    async def slowly() -> None:
        clock.later += 2000

    tried.provider.meanwhile["token"] = slowly
    await tried.send()
    clock.later += 1700
    await tried.send()
    assert tried.provider.count("token") == 2


async def test_a_refused_token_is_renewed_once_and_the_same_request_sent_again(
    open_signed: Open,
) -> None:
    tried = await open_signed()
    await tried.read()
    tried.provider.revoke()
    tried.provider.calls.clear()
    tried.provider.said.clear()
    response = await tried.send("this one", crossing := Crossing())
    assert not is_refusal(response)
    assert crossing.times == 1
    first, second = tried.provider.given
    assert tried.provider.said == [(first, b"this one"), (second, b"this one")]
    assert tried.provider.calls == ["echo", "token", "echo"]
    # The new one serves the next call.
    await tried.send()
    assert tried.provider.count("token") == 1


async def test_a_read_whose_token_is_refused_is_read_again(open_signed: Open) -> None:
    tried = await open_signed()
    await tried.read()
    tried.provider.revoke()
    assert not is_refusal(await tried.read())
    assert tried.provider.calls == ["token", "echo", "echo", "token", "echo"]


@pytest.mark.parametrize("method", ["send", "read"])
async def test_a_second_refusal_is_the_answer(open_signed: Open, method: str) -> None:
    tried = await open_signed()
    tried.provider.refuses_all = True
    response = await getattr(tried, method)()
    assert is_refusal(response)
    assert tried.provider.calls == ["token", "echo", "token", "echo"]


async def test_a_second_refusal_crosses_once(open_signed: Open) -> None:
    tried = await open_signed()
    tried.provider.refuses_all = True
    await tried.send(crossing=(crossing := Crossing()))
    assert crossing.times == 1


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_what_is_no_refusal_of_the_token_is_not_sent_again(
    open_signed: Open, status: int
) -> None:
    tried = await open_signed()
    # These may say no to the call itself, which may have taken effect.
    tried.provider.faults["echo"].append(status)
    assert (await tried.send()).status == status
    assert tried.provider.calls == ["token", "echo"]


async def test_calls_that_are_refused_at_once_share_one_renewal(open_signed: Open) -> None:
    tried = await open_signed()
    await tried.read()
    tried.provider.revoke()
    crossings = [Crossing() for _ in range(10)]
    async with asyncio.timeout(10):
        answers = await asyncio.gather(
            *(tried.send(crossing=each) for each in crossings), *(tried.read() for _ in range(10))
        )
    assert not any(map(is_refusal, answers))
    assert tried.provider.count("token") == 2
    # One before, and twice each: no refusal is met with more than one new try.
    assert tried.provider.count("echo") == 41
    assert [each.times for each in crossings] == [1] * 10


async def test_a_refusal_that_comes_late_takes_the_token_that_is_there_by_then(
    open_signed: Open,
) -> None:
    tried = await open_signed()
    await tried.read()
    there, go_on = asyncio.Event(), asyncio.Event()
    connector = tried.transport._connector
    refuses = connector.rejects_token

    async def late(request: ProviderRequest) -> ProviderResponse:
        response = await exchange(request)
        there.set()
        await go_on.wait()
        return response

    # Held back in the transport, since a socket cannot be made to answer late in a given order.
    exchange = tried.transport._transport.send_idempotent
    tried.provider.revoke()
    tried.transport._transport.send_idempotent = late  # type: ignore[method-assign]
    reading = asyncio.create_task(tried.read())
    await asyncio.wait_for(there.wait(), 10)
    tried.transport._transport.send_idempotent = exchange  # type: ignore[method-assign]
    assert not is_refusal(await tried.send())
    go_on.set()
    assert not refuses(await reading)
    assert tried.provider.count("token") == 2


async def test_refused_secrets_are_a_refusal_before_anything_is_sent(open_signed: Open) -> None:
    class Wrong(Signing):
        secret = "another-secret-99"

    tried = await open_signed(Wrong)
    for call in (tried.send(crossing=(crossing := Crossing())), tried.read()):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.error.code is ErrorCode.AUTHENTICATION_FAILED
    assert crossing.times == 0
    assert tried.provider.count("echo") == 0


async def test_the_secret_is_not_in_the_refusal_that_repeats_it(
    open_signed: Open,
) -> None:
    class Wrong(Signing):
        def build_token_request(self) -> ProviderRequest:
            return self._post("token", secret=f"not {SECRET}")

    tried = await open_signed(Wrong)
    with pytest.raises(Refused) as refused:
        await tried.send()
    assert refused.value.error.provider_message == "Not the secret: not [redacted]"


async def test_whoever_asks_with_refused_secrets_may_use_the_key_again(
    open_gateway: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await open_gateway()
    with monkeypatch.context() as patched:
        patched.setattr(Signing, "secret", "another-secret-99")
        answer = await gateway.ask()
    payload = DuplicateCampaignPayload.from_model(answer)
    assert payload.status.value == "NOT_SENT"
    assert payload.duplication is None
    assert [each.code.value for each in payload.user_errors] == ["AUTHENTICATION_FAILED"]
    assert payload.user_errors[0].retry is Retry.SAME_KEY
    assert await ledger.find("everyone", "k") is None
    assert gateway.provider.count("copy") == 0
    again = await gateway.ask()
    assert not again.replayed
    assert (again.duplication.status, again.error) == (DuplicationStatus.CREATED, None)
    assert gateway.provider.count("copy") == 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_a_token_nothing_is_sent(
    open_signed: Open, monkeypatch: pytest.MonkeyPatch, fault: int | str
) -> None:
    monkeypatch.setattr(token_auth, "TOKEN_REQUEST_SECONDS", 0.5)
    tried = await open_signed(timeout=20)
    tried.provider.faults["token"] += [fault, fault]
    began = monotonic()
    with pytest.raises(NotSent, match="signing in failed"):
        await tried.send(crossing=(crossing := Crossing()))
    with pytest.raises((NoResponse, UnexpectedResponse)):
        await tried.read()
    assert monotonic() - began < 5
    assert crossing.times == 0
    assert tried.provider.count("echo") == 0
    # Nothing of the failure sticks.
    assert not is_refusal(await tried.send())


async def test_a_sign_in_that_hangs_holds_nobody_longer_than_it_may(
    open_signed: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who wait for another's sign-in wait no longer than for one of their own."""
    monkeypatch.setattr(token_auth, "TOKEN_REQUEST_SECONDS", 0.5)
    tried = await open_signed(timeout=20)
    tried.provider.faults["token"] += ["hang"] * 40
    began = monotonic()
    answers = await asyncio.gather(*(tried.send() for _ in range(20)), return_exceptions=True)
    assert monotonic() - began < 5
    # NotSent for each: a caller may safely try again.
    assert {type(each) for each in answers} == {NotSent}
    assert tried.provider.count("echo") == 0


async def test_a_caller_who_leaves_while_signing_in_blocks_nobody(open_signed: Open) -> None:
    tried = await open_signed(timeout=20)
    there = asyncio.Event()

    async def notice() -> None:
        there.set()

    tried.provider.meanwhile["token"] = notice
    tried.provider.faults["token"].append("hang")
    leaving = asyncio.create_task(tried.send())
    await asyncio.wait_for(there.wait(), 10)
    waiting = asyncio.create_task(tried.send())
    leaving.cancel()
    assert not is_refusal(await asyncio.wait_for(waiting, 10))


@pytest.mark.parametrize("token", ["", "two words", "a\r\nx-more: b", "t\u00f6ken", "t\0"])
async def test_a_token_that_no_header_can_carry_is_no_token(open_signed: Open, token: str) -> None:
    tried = await open_signed()
    tried.provider.next_token = token
    with pytest.raises(NotSent, match="signing in failed"):
        await tried.send(crossing=(crossing := Crossing()))
    with pytest.raises(UnexpectedResponse):
        await tried.read()
    assert crossing.times == 0
    assert tried.provider.count("echo") == 0


@pytest.mark.parametrize("fault", [*FAULTS, 401])
async def test_when_no_new_token_is_to_be_had_the_refusal_is_the_answer(
    open_signed: Open, monkeypatch: pytest.MonkeyPatch, fault: int | str
) -> None:
    monkeypatch.setattr(token_auth, "TOKEN_REQUEST_SECONDS", 0.5)
    tried = await open_signed(timeout=20)
    await tried.read()
    tried.provider.revoke()
    tried.provider.faults["token"] += [fault, fault]
    tried.provider.calls.clear()
    # It is certain that nothing was made, which no failure to sign in could say after a send.
    assert is_refusal(await tried.send(crossing=(crossing := Crossing())))
    assert crossing.times == 1
    assert tried.provider.calls == ["echo", "token"]
    with pytest.raises((NoResponse, UnexpectedResponse, Refused)):
        await tried.read()


async def test_a_copy_that_was_refused_for_its_token_alone_is_recorded_as_refused(
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
async def test_a_second_send_without_an_answer_has_none(open_signed: Open, fault: str) -> None:
    tried = await open_signed(timeout=0.5)
    await tried.read()
    tried.provider.revoke()
    tried.provider.faults["echo"].append(fault)
    with pytest.raises(NoResponse):
        await tried.send(crossing=(crossing := Crossing()))
    assert crossing.times == 1
    assert tried.provider.calls == ["token", "echo", "echo", "token", "echo"]


async def test_a_copy_whose_second_send_is_lost_is_unknown_and_not_sent_again(
    open_gateway: Any,
) -> None:
    gateway = await open_gateway()
    guard(gateway).refuses_all = True

    async def let_in_with_the_second() -> None:
        guard(gateway).refuses_all = not guard(gateway).given

    gateway.provider.meanwhile["token"] = let_in_with_the_second
    gateway.provider.faults["copy"].append("cut-after-copy")
    record = await gateway.copy()
    assert record.status is DuplicationStatus.UNKNOWN
    assert record.error.code is ErrorCode.OUTCOME_UNKNOWN
    again = await gateway.ask()
    assert again.replayed
    assert again.duplication == record
    assert gateway.provider.count("copy") == 2
    assert gateway.provider.campaigns.keys() == {"c1"}


async def test_a_second_send_that_reaches_nobody_made_nothing(open_gateway: Any) -> None:
    gateway = await open_gateway(AwayAfterwards)
    guard(gateway).refuses_all = True
    record = await gateway.copy()
    assert record.status is DuplicationStatus.REJECTED
    assert record.error.code is ErrorCode.PROVIDER_UNAVAILABLE
    assert gateway.provider.count("copy") == 1


class AwayAfterwards(Signing):
    """Its second token leads to where nobody listens."""

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
async def test_a_copy_that_cannot_be_signed_leaves_its_key_unused(
    open_gateway: Any,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    fault: int | str,
    code: ErrorCode,
) -> None:
    monkeypatch.setattr(token_auth, "TOKEN_REQUEST_SECONDS", 0.5)
    gateway = await open_gateway()
    gateway.provider.faults["token"].append(fault)
    answer = await gateway.ask()
    assert answer.duplication is None
    assert answer.error.code is code
    assert answer.error.retry(is_recorded=False) is Retry.SAME_KEY
    assert await ledger.find("everyone", "k") is None
    assert (await gateway.copy()).status is DuplicationStatus.CREATED


async def test_a_refusal_while_an_answer_is_read_does_not_say_that_nothing_was_sent(
    open_gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be a connector's fault; only before the send is it the sign-in's word."""
    gateway = await open_gateway()

    def broken(*_: object) -> Outcome:
        raise Refused(UserError(ErrorCode.INVALID_INPUT, "no such id"))

    monkeypatch.setattr(Signing, "parse_response", broken)
    answer = await gateway.ask()
    assert answer.error is None
    assert answer.duplication.status is DuplicationStatus.UNKNOWN
    assert gateway.provider.campaigns.keys() == {"c1"}


async def test_refused_secrets_before_a_look_at_what_is_there_are_told_as_such(
    open_gateway: Any, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await open_gateway(SigningAndLooking)
    monkeypatch.setattr(Signing, "secret", "another-secret-99")
    answer = await gateway.ask()
    assert answer.error.code is ErrorCode.AUTHENTICATION_FAILED
    assert await ledger.find("everyone", "k") is None
    assert gateway.provider.count("copy") == 0


@pytest.mark.parametrize("status", [401, 429])
async def test_a_copy_whose_name_waits_for_a_token_is_there_without_it(
    open_gateway: Any, status: int
) -> None:
    gateway = await open_gateway(SigningAndNamed)
    # Good for one call, so that the rename has to sign in by itself.
    guard(gateway).lifetime = 0
    gateway.provider.faults["token"] += [None, status, status]
    copy = await gateway.copy()
    assert copy.status is DuplicationStatus.CREATED
    assert [each.code for each in copy.warnings] == [WarningCode.NAME_NOT_APPLIED]
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
async def test_an_answer_does_not_tell_the_token(
    open_signed: Open, spelling: str, method: str, *, renewed: bool
) -> None:
    tried = await open_signed()
    spell = tried.provider.spell = SPELLINGS[spelling]
    if renewed:
        await tried.read()
        tried.provider.revoke()
    response = await getattr(tried, method)()
    spelled = spell(tried.provider.given[-1])
    assert b"[redacted]" in response.body
    assert spelled.encode() not in response.body
    assert "[redacted]" in response.headers["x-said"]
    assert spelled not in response.headers["x-said"]


async def test_a_refusal_does_not_tell_the_token_it_refuses(
    open_signed: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = await open_signed()
    tried.provider.refuses_all = True
    twice = await tried.send()
    tried.provider.faults["token"].append(500)
    once = await tried.send()
    for each in (twice, once):
        assert is_refusal(each)
        assert b"Token [redacted] is no good" in each.body


async def test_no_repr_and_no_log_tells_a_token(
    open_gateway: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("campaign_gateway", "httpx", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    gateway = await open_gateway(SigningAndNamed)
    guard(gateway).refuses_all = True
    refused = await gateway.copy(key="refused")
    guard(gateway).refuses_all = False
    gateway.provider.faults["rename"].append("cut-before-copy")
    made = await gateway.copy()
    signed = gateway.account.transport
    told = [refused, made, gateway.account, signed, vars(signed), Token("tok/en", 1), caplog.text]
    assert "REJECTED" in caplog.text
    for each in told:
        for token in (*guard(gateway).given, "tok/en", SECRET):
            assert token not in f"{each} {each!r}"


async def test_two_accounts_do_not_share_a_token(open_signed: Open) -> None:
    provider = Guarded()
    one, other = await open_signed(provider=provider), await open_signed(provider=provider)
    await one.send("one")
    await other.send("other")
    first, second = provider.given
    assert first != second
    assert provider.said == [(first, b"one"), (second, b"other")]
    # Nor does one's refusal renew the other's.
    provider.revoked.add(first)
    await other.send("other")
    assert provider.count("token") == 2
