"""Requests that carry a token, which the provider gives for the account's secrets now and then."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    UnexpectedResponse,
    UsesAccessTokens,
)
from campaign_gateway.model import DEFAULT_TIMING, Refused, Rejected
from campaign_gateway.transport.client import Transport, deadline
from campaign_gateway.transport.errors import NoResponse, NotSent
from campaign_gateway.transport.redaction import redact, redactor
from campaign_gateway.transport.worker import parsed


@dataclass(frozen=True)
class _CachedToken:
    token: str = field(repr=False)
    expires_at: float
    hide: Callable[[bytes], bytes]


class TokenTransport:
    """A transport that signs in when it has to, and once more when the token is refused.

    `send` and `read` also raise `Refused` when the provider does not let the account in.
    """

    def __init__(
        self,
        transport: Transport,
        connector: UsesAccessTokens,
        token_timeout: float = DEFAULT_TIMING.token_timeout,
    ) -> None:
        self._transport = transport
        self._token_timeout = token_timeout
        self._connector = connector
        self._pass: _CachedToken | None = None
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        await self._transport.close()

    async def send_once(
        self, request: ProviderRequest, before_first_byte: Callable[[], Awaitable[None]]
    ) -> ProviderResponse:
        """As `Transport.send_once`; sends again only what was refused for its token alone."""
        try:
            first = await self._sign_in(None)
        except (NoResponse, UnexpectedResponse) as failure:
            raise NotSent(f"signing in failed: {failure}") from failure
        response = await self._transport.send_once(self._signed(request, first), before_first_byte)
        if not self._connector.rejects_token(response):
            return await _redact(response, first)
        try:
            second = await self._sign_in(first)
        except (NoResponse, UnexpectedResponse, Refused):
            return await _redact(response, first)
        response = await self._transport.send_once(self._signed(request, second), _already_recorded)
        return await _redact(response, second)

    async def send_idempotent(self, request: ProviderRequest) -> ProviderResponse:
        """As `Transport.send_idempotent`, and raises `UnexpectedResponse` when signing in tells nothing."""
        first = await self._sign_in(None)
        response = await self._transport.send_idempotent(self._signed(request, first))
        if not await parsed(response, self._connector.rejects_token, response):
            return await _redact(response, first)
        second = await self._sign_in(first)
        response = await self._transport.send_idempotent(self._signed(request, second))
        return await _redact(response, second)

    def _signed(self, request: ProviderRequest, given: _CachedToken) -> ProviderRequest:
        return self._connector.authorize(request, given.token)

    async def _sign_in(self, refused: _CachedToken | None) -> _CachedToken:
        """What is good by our clock and not refused, asked for by one caller for all."""
        loop = asyncio.get_running_loop()
        try:
            # Waiting for another's sign-in counts: it may hang, and so may the next one's.
            async with deadline(self._token_timeout) as await_answer:
                await_answer()
                async with self._turn:
                    known = self._pass
                    if known and known is not refused and loop.time() < known.expires_at:
                        return known
                    self._pass = await self._new_pass(loop.time())
                    return self._pass
        except TimeoutError:
            raise NoResponse("not in time") from None

    async def _new_pass(self, asked_at: float) -> _CachedToken:
        response = await self._transport.send_idempotent(self._connector.build_token_request())
        answer = await parsed(response, self._connector.parse_token, response)
        if isinstance(answer, Rejected):
            raise Refused(answer.error)
        if not re.fullmatch(r"[\x21-\x7e]+", answer.value):
            raise UnexpectedResponse("a token that no request can carry")
        return _CachedToken(answer.value, asked_at + answer.lifetime, redactor([answer.value]))


async def _already_recorded() -> None:
    """The intent is on record since the first time."""


async def _redact(response: ProviderResponse, given: _CachedToken) -> ProviderResponse:
    """The answer without the token, which is as good as a secret while it lasts."""
    headers = {
        name: given.hide(value.encode()).decode() for name, value in response.headers.items()
    }
    return replace(response, headers=headers, body=await redact(given.hide, response.body))
