"""Adds an access token to each request, and gets a new token from the provider when needed."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from campaign_gateway.accounts.transport.client import Transport
from campaign_gateway.accounts.transport.deadline import deadline
from campaign_gateway.accounts.transport.errors import NoResponse, NotSent
from campaign_gateway.accounts.transport.observation import Observation
from campaign_gateway.accounts.transport.rate_limit import Permit
from campaign_gateway.accounts.transport.redaction import Redactor, create_redactor, redact_body
from campaign_gateway.accounts.transport.worker import run_copy_parser, run_parser
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    UnexpectedResponse,
    UsesAccessTokens,
)
from campaign_gateway.model import DEFAULT_TIMING, Refused, Rejected
from campaign_gateway.observe.events import ProviderCall


@dataclass(frozen=True)
class _CachedToken:
    token: str = field(repr=False)
    expires_at: float
    redact: Redactor


class TokenTransport:
    """A transport that requests a token if it has none, and once more if its token is rejected.

    Both ways to send also raise `Refused` if the provider rejects the account's credentials.
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
        self._cached_token: _CachedToken | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        await self._transport.close()

    async def send_once(
        self,
        request: ProviderRequest,
        permit: Permit,
        before_first_byte: Callable[[], Awaitable[None]],
    ) -> ProviderResponse:
        """Like `Transport.send_once`, but sends again if the provider rejects only the token.

        Such a response means that the provider did not execute the request, so this is no second
        copy.
        """
        try:
            first = await self._get_token(None, permit)
        except (NoResponse, UnexpectedResponse) as failure:
            raise NotSent(f"the access token could not be requested: {failure}") from failure
        response = await self._transport.send_once(
            self._authorize(request, first), permit, before_first_byte
        )
        if not await run_copy_parser(response, self._connector.rejects_token, response):
            return await _redact(response, first)
        try:
            second = await self._get_token(first, permit)
        except (NoResponse, UnexpectedResponse, Refused):
            return await _redact(response, first)
        try:
            await permit.wait_for_turn()
        except Refused as refusal:
            raise NotSent(f"a new access token could not be used: {refusal}") from refusal
        response = await self._transport.send_once(
            self._authorize(request, second), permit, _already_recorded
        )
        return await _redact(response, second)

    async def send_idempotent(
        self,
        request: ProviderRequest,
        permit: Permit,
        call: ProviderCall = ProviderCall.OTHER,
        observation: Observation | None = None,
    ) -> ProviderResponse:
        """Like `Transport.send_idempotent`.

        Also raises `UnexpectedResponse` if the response to the token request cannot be parsed.
        """
        first = await self._get_token(None, permit)
        authorized = self._authorize(request, first)
        response = await self._transport.send_idempotent(authorized, permit, call, observation)
        if not await run_parser(response, self._connector.rejects_token, response):
            return await _redact(response, first)
        second = await self._get_token(first, permit)
        authorized = self._authorize(request, second)
        response = await self._transport.send_idempotent(authorized, permit, call, observation)
        return await _redact(response, second)

    def _authorize(self, request: ProviderRequest, cached: _CachedToken) -> ProviderRequest:
        return self._connector.authorize(request, cached.token)

    async def _get_token(self, rejected: _CachedToken | None, permit: Permit) -> _CachedToken:
        """Return a token that is neither expired nor rejected. One caller requests it for all."""
        loop = asyncio.get_running_loop()
        try:
            # The wait for another call's token request counts too: each of them may hang.
            async with deadline(self._token_timeout) as mark_sent:
                mark_sent()
                async with self._lock:
                    cached = self._cached_token
                    if cached and cached is not rejected and loop.time() < cached.expires_at:
                        return cached
                    self._cached_token = await self._request_token(loop.time(), permit)
                    return self._cached_token
        except TimeoutError:
            raise NoResponse("timeout") from None

    async def _request_token(self, requested_at: float, permit: Permit) -> _CachedToken:
        request = self._connector.build_token_request()
        response = await self._transport.send_idempotent(request, permit, ProviderCall.TOKEN)
        token = await run_parser(response, self._connector.parse_token, response)
        if isinstance(token, Rejected):
            raise Refused(token.error)
        if not re.fullmatch(r"[\x21-\x7e]+", token.value):
            raise UnexpectedResponse("the token contains characters that no header allows")
        return _CachedToken(
            token.value, requested_at + token.lifetime, create_redactor([token.value])
        )


async def _already_recorded() -> None:
    """Do nothing: the intent was recorded before the first try."""


async def _redact(response: ProviderResponse, cached: _CachedToken) -> ProviderResponse:
    """Redact the token, which is a secret until it expires."""
    headers = {
        name: cached.redact(value.encode()).decode() for name, value in response.headers.items()
    }
    return replace(response, headers=headers, body=await redact_body(cached.redact, response.body))
