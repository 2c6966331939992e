"""The only code that sends requests to providers.

It reports whether a failed request was certainly not sent.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from urllib.parse import urlsplit

from opentelemetry.trace import Span

from campaign_gateway.accounts.transport.connecting import connect
from campaign_gateway.accounts.transport.deadline import deadline
from campaign_gateway.accounts.transport.errors import (
    AddressRefused,
    ConnectFailed,
    ConnectTimedOut,
    MalformedRequest,
    NoResponse,
    NotSent,
    ResponseLost,
    TurnLost,
)
from campaign_gateway.accounts.transport.http1 import Connection, Origin, Response, serialize
from campaign_gateway.accounts.transport.kept_connections import KeptConnections
from campaign_gateway.accounts.transport.observation import Observation
from campaign_gateway.accounts.transport.rate_limit import Permit
from campaign_gateway.accounts.transport.redaction import create_redactor, redact_body
from campaign_gateway.accounts.transport.tls import tls_context, tls_failure
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.observe.events import CallFailure, ProviderCall, provider_called
from campaign_gateway.observe.health import Health
from campaign_gateway.observe.traces import call_span, mark_failed

# Bytes of a response body. A longer body counts as incomplete.
COPY_RESPONSE_LIMIT = 1024 * 1024
READ_RESPONSE_LIMIT = 8 * 1024 * 1024

CONNECT_TRIES = 3

_FAILURES = (MalformedRequest, AddressRefused, ConnectFailed, ResponseLost)


@dataclass
class _Exchange:
    """How far one request got. Just before its first byte, it counts as sent."""

    permit: Permit
    observation: Observation | None = None
    may_have_sent: bool = False
    response: Response | None = None
    # The status counts as a response even if the body is lost after it.
    head: ProviderResponse | None = None

    def send(self, connection: Connection, message: bytes, limit: int) -> Response:
        """Raises `TurnLost`, before anything is sent."""
        self.permit.mark_sent()
        self.may_have_sent = True
        when_head_arrives = None
        if self.observation is not None:
            self.observation.mark_sent(connection.transport.get_extra_info("ssl_object"))
            when_head_arrives = self.observation.mark_received
        self.response = connection.send(message, limit, when_head_arrives)
        return self.response


@dataclass
class _Result:
    """How a call ended. Status and failure are None if nothing was called."""

    http_status: int | None = None
    failure: CallFailure | None = None
    details: str = ""
    reason: str = ""
    was_sent: bool = False


class Transport:
    """Sends the requests of one account: one deadline per call, no redirects and no proxies."""

    def __init__(
        self,
        secrets: Iterable[str],
        timeout_seconds: float,
        ca_file: str | None = None,
        *,
        health: Health,
    ) -> None:
        self._health = health
        self._timeout_seconds = timeout_seconds
        # Some providers repeat the secret when they reject it.
        self._redact = create_redactor(secrets)
        self._tls = tls_context(ca_file)
        self._kept = KeptConnections()

    async def close(self) -> None:
        await self._kept.close()

    async def send_once(
        self,
        request: ProviderRequest,
        permit: Permit,
        before_first_byte: Callable[[], Awaitable[None]],
    ) -> ProviderResponse:
        """Send a request that may make a copy, at most once.

        `before_first_byte` runs after the connection is open and before anything is written. If it
        raises, nothing is written and the exception propagates. Raises `NotSent` and `NoResponse`,
        and `Refused` if the permit gets no turn.
        """
        await permit.wait_for_turn()
        with self._reporting(request, ProviderCall.COPY) as result:
            exchange = _Exchange(permit)
            try:
                response = await self._send_once(request, exchange, before_first_byte)
            except TurnLost as error:
                raise NotSent(str(error)) from error
            except (*_FAILURES, TimeoutError) as error:
                if exchange.head is None:
                    result.was_sent = exchange.may_have_sent
                    reason = _explain(request, error, result)
                    raise (NoResponse if exchange.may_have_sent else NotSent)(reason) from error
                response = exchange.head
            result.http_status = response.status
            return response

    async def _send_once(
        self,
        request: ProviderRequest,
        exchange: _Exchange,
        before_first_byte: Callable[[], Awaitable[None]],
    ) -> ProviderResponse:
        origin, message = serialize(request)
        async with deadline(self._timeout_seconds) as mark_sent:
            connection = self._kept.take_for_copy(origin)
            if connection is None:
                connection = await self._connect(origin)
            try:
                await before_first_byte()
                # While the record was written, the provider may have closed a kept connection.
                if not self._kept.may_carry_copy(origin, connection):
                    connection.close()
                    connection = await self._connect(origin)
                mark_sent()
            except BaseException:
                connection.close()
                raise
            return await self._exchange(origin, connection, message, exchange, COPY_RESPONSE_LIMIT)

    async def _connect(self, origin: Origin) -> Connection:
        """Raises `ConnectFailed` and `AddressRefused`."""
        for pause in _connect_pauses():
            try:
                return await connect(origin, self._tls)
            except ConnectFailed as error:
                # Another try does not help against a wrong certificate or protocol.
                if pause is None or tls_failure(error):
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def send_idempotent(
        self,
        request: ProviderRequest,
        permit: Permit,
        call: ProviderCall = ProviderCall.OTHER,
        observation: Observation | None = None,
    ) -> ProviderResponse:
        """Send a request that may be sent twice without harm.

        Raises `NoResponse`, and `Refused` if the permit gets no turn. The response may be long, so
        parse it with `run_parser`.
        """
        await permit.wait_for_turn()
        with self._reporting(request, call) as result:
            exchange = _Exchange(permit, observation)
            try:
                response = await self._send_idempotent(request, exchange)
            except TurnLost as error:
                raise NoResponse(str(error)) from error
            except (*_FAILURES, TimeoutError) as error:
                # A kept connection may have failed before, and then there was no new one.
                result.was_sent = exchange.may_have_sent and not isinstance(error, ConnectFailed)
                reason = _explain(request, error, result)
                raise NoResponse(reason, result.details) from error
            result.http_status = response.status
            return response

    async def _send_idempotent(
        self, request: ProviderRequest, exchange: _Exchange
    ) -> ProviderResponse:
        origin, message = serialize(request)
        limit = READ_RESPONSE_LIMIT
        async with deadline(self._timeout_seconds) as mark_sent:
            mark_sent()
            connection = self._kept.take_for_read(origin)
            if connection is not None:
                try:
                    return await self._exchange(origin, connection, message, exchange, limit)
                except ResponseLost:
                    if exchange.response is None or exchange.response.has_begun:
                        raise
                # The provider may have closed the kept connection before it got the request.
                await exchange.permit.wait_for_turn()
            connection = await connect(origin, self._tls)
            return await self._exchange(origin, connection, message, exchange, limit)

    @contextmanager
    def _reporting(self, request: ProviderRequest, call: ProviderCall) -> Iterator[_Result]:
        """Report the call when it ends, as the caller has noted its result."""
        began_at, result = monotonic(), _Result()
        with call_span(request.method, request.url, self._redact) as span:
            try:
                yield result
            except asyncio.CancelledError:
                result.failure = CallFailure.CANCELLED
                raise
            finally:
                if result.http_status is not None or result.failure is not None:
                    if span.is_recording():
                        _describe(span, self._health, call, result)
                    provider_called(
                        self._health,
                        call,
                        monotonic() - began_at,
                        http_status=result.http_status,
                        failure=result.failure,
                        reason=result.reason,
                        was_sent=result.was_sent,
                    )

    async def _exchange(
        self,
        origin: Origin,
        connection: Connection,
        message: bytes,
        exchange: _Exchange,
        limit: int,
    ) -> ProviderResponse:
        """Send a request on an open connection. Raises `ResponseLost` and `TurnLost`."""
        try:
            response = exchange.send(connection, message, limit)
            await response.ended
        finally:
            if connection.end_exchange():
                self._kept.keep(origin, connection)
            if exchange.response is not None and exchange.response.status is not None:
                exchange.head = self._head_of(exchange.response)
                exchange.permit.learn(exchange.head.status, exchange.head.headers)
        if response.failure is not None:
            raise response.failure
        assert exchange.head is not None
        if not response.is_complete:
            return exchange.head
        body = await redact_body(self._redact, bytes(response.body))
        return replace(exchange.head, body=body, complete=True)

    def _head_of(self, response: Response) -> ProviderResponse:
        assert response.status is not None
        headers: dict[str, str] = {}
        # All values are redacted together. The parser refuses a value with a zero byte.
        values = self._redact(b"\0".join(value for _, value in response.headers)).split(b"\0")
        for (name, _), value in zip(response.headers, values, strict=False):
            text = _decode(value)
            key = name.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        return ProviderResponse(response.status, headers, b"", complete=False)


def _decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _connect_pauses() -> list[float | None]:
    """Return the seconds to wait after each failed try to connect, and None for the last try."""
    jitter = random.uniform(0.1, 0.3)  # noqa: S311 - no secret depends on it
    return [*(jitter * tries for tries in range(1, CONNECT_TRIES)), None]


def _describe(span: Span, health: Health, call: ProviderCall, result: _Result) -> None:
    span.set_attributes({f"campaign_gateway.{name}": text for name, text in health.fields.items()})
    span.set_attribute("campaign_gateway.call", call)
    if result.http_status is not None:
        span.set_attribute("http.response.status_code", result.http_status)
        if result.http_status >= 400:
            mark_failed(span, str(result.http_status))
    elif result.failure is not None:
        mark_failed(span, result.failure)


def _explain(request: ProviderRequest, error: Exception, result: _Result) -> str:
    """Return the failure in words for callers, and note it in the result for the operator."""
    result.failure, reason = _failure_of(error)
    # The operator learns the host, of an address also which one it is, and why a connection failed.
    match error:
        case AddressRefused():
            result.details = f"{reason} {error}"
        case ConnectFailed() if result.failure is not CallFailure.TLS:
            result.details = str(error)
        case _:
            result.details = reason
    result.reason = f"{result.details} ({urlsplit(request.url).netloc})"
    return reason


def _failure_of(error: Exception) -> tuple[CallFailure, str]:
    if failure := tls_failure(error):
        return CallFailure.TLS, failure
    match error:
        case MalformedRequest():
            return CallFailure.MALFORMED_REQUEST, "the request is malformed"
        case AddressRefused():
            reason = "the host has a link-local or metadata address"
            return CallFailure.FORBIDDEN_ADDRESS, reason
        case TimeoutError() | ConnectTimedOut():
            return CallFailure.TIMEOUT, "timeout"
        case ConnectFailed():
            return CallFailure.NO_CONNECTION, "no connection"
        case _:
            return CallFailure.CLOSED, str(error)
