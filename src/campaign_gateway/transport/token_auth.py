"""Requests that carry a token, which the provider gives for the account's secrets now and then."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    SignsIn,
    UnreadableAnswer,
)
from campaign_gateway.model import Refused, Rejected
from campaign_gateway.transport.client import Transport, deadline
from campaign_gateway.transport.errors import NoAnswer, NotSent
from campaign_gateway.transport.redaction import hidden, hider
from campaign_gateway.transport.worker import parsed

# How long signing in may take, in seconds, the wait for another's included; it comes on top of the
# call's own time.
SIGN_IN_SECONDS = 5


@dataclass(frozen=True)
class _Pass:
    token: str = field(repr=False)
    expires_at: float
    hide: Callable[[bytes], bytes]


class SignedTransport:
    """A transport that signs in when it has to, and once more when the token is refused.

    `send` and `read` also raise `Refused` when the provider does not let the account in.
    """

    def __init__(self, transport: Transport, connector: SignsIn) -> None:
        self._transport = transport
        self._connector = connector
        self._pass: _Pass | None = None
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        await self._transport.close()

    async def send(
        self, request: ProviderRequest, on_crossing: Callable[[], Awaitable[None]]
    ) -> ProviderResponse:
        """As `Transport.send`; sends again only what was refused for its token alone."""
        try:
            first = await self._sign_in(None)
        except (NoAnswer, UnreadableAnswer) as failure:
            raise NotSent(f"signing in failed: {failure}") from failure
        response = await self._transport.send(self._signed(request, first), on_crossing)
        if not self._connector.refuses_token(response):
            return await _hidden(response, first)
        try:
            second = await self._sign_in(first)
        except (NoAnswer, UnreadableAnswer, Refused):
            return await _hidden(response, first)
        response = await self._transport.send(self._signed(request, second), _already_crossed)
        return await _hidden(response, second)

    async def read(self, request: ProviderRequest) -> ProviderResponse:
        """As `Transport.read`, and raises `UnreadableAnswer` when signing in tells nothing."""
        first = await self._sign_in(None)
        response = await self._transport.read(self._signed(request, first))
        if not await parsed(response, self._connector.refuses_token, response):
            return await _hidden(response, first)
        second = await self._sign_in(first)
        response = await self._transport.read(self._signed(request, second))
        return await _hidden(response, second)

    def _signed(self, request: ProviderRequest, given: _Pass) -> ProviderRequest:
        return self._connector.sign(request, given.token)

    async def _sign_in(self, refused: _Pass | None) -> _Pass:
        """What is good by our clock and not refused, asked for by one caller for all."""
        loop = asyncio.get_running_loop()
        try:
            # Waiting for another's sign-in counts: it may hang, and so may the next one's.
            async with deadline(SIGN_IN_SECONDS) as await_answer:
                await_answer()
                async with self._turn:
                    known = self._pass
                    if known and known is not refused and loop.time() < known.expires_at:
                        return known
                    self._pass = await self._new_pass(loop.time())
                    return self._pass
        except TimeoutError:
            raise NoAnswer("not in time") from None

    async def _new_pass(self, asked_at: float) -> _Pass:
        response = await self._transport.read(self._connector.build_sign_in())
        answer = await parsed(response, self._connector.read_sign_in, response)
        if isinstance(answer, Rejected):
            raise Refused(answer.error)
        if not re.fullmatch(r"[\x21-\x7e]+", answer.value):
            raise UnreadableAnswer("a token that no request can carry")
        return _Pass(answer.value, asked_at + answer.lifetime, hider([answer.value]))


async def _already_crossed() -> None:
    """The intent is on record since the first time."""


async def _hidden(response: ProviderResponse, given: _Pass) -> ProviderResponse:
    """The answer without the token, which is as good as a secret while it lasts."""
    headers = {
        name: given.hide(value.encode()).decode() for name, value in response.headers.items()
    }
    return replace(response, headers=headers, body=await hidden(given.hide, response.body))
