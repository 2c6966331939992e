"""The only code that sends requests to providers.

It reports whether a failed request was certainly not sent.
"""

import asyncio
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx
from opentelemetry.trace import Span

from campaign_gateway.accounts.transport.errors import AddressRefused, NoResponse, NotSent, TurnLost
from campaign_gateway.accounts.transport.observation import Observation
from campaign_gateway.accounts.transport.rate_limit import Permit
from campaign_gateway.accounts.transport.redaction import create_redactor, redact_body
from campaign_gateway.connectors.addresses import is_forbidden
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.observe.events import CallFailure, ProviderCall, provider_called
from campaign_gateway.observe.health import Health
from campaign_gateway.observe.traces import call_span, mark_failed

# Bytes of a response body. A longer body counts as incomplete.
COPY_RESPONSE_LIMIT = 1024 * 1024
READ_RESPONSE_LIMIT = 8 * 1024 * 1024

CONNECT_SECONDS = 3.0
CONNECT_TRIES = 3

# After the deadline of a call that was sent, the event loop polls the sockets `LAST_POLLS` times
# within `LAST_SECONDS`, because a response may have arrived already.
LAST_POLLS = 20
LAST_SECONDS = 0.2


@dataclass
class _Exchange:
    """How far one request got. Just before its first byte, it counts as sent."""

    permit: Permit
    before_first_byte: Callable[[], Awaitable[None]] | None = None
    may_have_sent: bool = False
    response: ProviderResponse | None = None
    observation: Observation | None = None

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        await check_address(event, info)
        if self.observation is not None:
            self.observation.trace(event, info)
        if event == "http11.send_request_headers.started":
            if self.before_first_byte is not None:
                await self.before_first_byte()
            self.permit.mark_sent()
            self.may_have_sent = True


@dataclass
class _Result:
    """How a call ended. Both are None if nothing was called."""

    http_status: int | None = None
    failure: CallFailure | None = None
    reason: str = ""


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Raise `TimeoutError` after this many seconds.

    It yields a function that the caller calls when it sends the request. The function raises
    `TimeoutError` if it is too late to send. After it was called, a response that has arrived by
    the deadline is still read, and the call ends at most `LAST_SECONDS` after the deadline.
    """
    # If the process was stopped or the event loop was blocked beyond the deadline, the loop finds
    # the timer and the provider's response at the same moment, and runs the timer first.
    #
    # Before the request is sent, the deadline is asyncio's own. It cancels the call immediately,
    # even while the record is being written, so that nothing is sent after it. The switch to the
    # late deadline and the first byte are one step of the loop: no timer can run between the check
    # of the time and the switch, and a timer that ran before has cancelled the call already.
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    polling: list[asyncio.Task[None]] = []

    def mark_sent() -> None:
        if loop.time() >= ends_at:
            raise TimeoutError
        limit.reschedule(None)
        polling.append(asyncio.create_task(_expire_late(limit, ends_at)))

    async with asyncio.timeout_at(ends_at) as limit:
        try:
            yield mark_sent
        finally:
            for task in polling:
                task.cancel()


async def _expire_late(limit: asyncio.Timeout, ends_at: float) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(ends_at - loop.time())
    # The number of turns is fixed, because one turn of a busy loop may take longer than the time,
    # and the bytes of a socket need several turns to reach the call that waits for them.
    for _ in range(LAST_POLLS):
        await asyncio.sleep(LAST_SECONDS / LAST_POLLS)
    limit.reschedule(loop.time())


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
        # No connection is kept alive. If the provider closed it while the next request is written,
        # it would be unknown whether that request took effect.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                verify=tls_context(ca_file),
                trust_env=False,
                limits=limits,
                socket_options=_socket_options(),
            ),
            trust_env=False,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            headers={"accept-encoding": "identity", "user-agent": "campaign-gateway"},
        )

    async def close(self) -> None:
        await self._client.aclose()

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
            response = await self._send_once(request, _Exchange(permit), before_first_byte, result)
            result.http_status = response.status
            return response

    async def _send_once(
        self,
        request: ProviderRequest,
        exchange: _Exchange,
        before_first_byte: Callable[[], Awaitable[None]],
        result: _Result,
    ) -> ProviderResponse:
        try:
            async with deadline(self._timeout_seconds) as mark_sent:

                async def record_and_mark_sent() -> None:
                    await before_first_byte()
                    mark_sent()

                exchange.before_first_byte = record_and_mark_sent
                for pause in _connect_pauses():
                    try:
                        return await self._exchange(request, exchange, COPY_RESPONSE_LIMIT)
                    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                        # A retry does not help against a wrong certificate or protocol.
                        if pause is None or exchange.may_have_sent or _tls_failure(error):
                            raise
                        await asyncio.sleep(pause)
        except httpx.LocalProtocolError as error:
            # h11 rejects a malformed request before it writes any of it.
            result.failure = CallFailure.MALFORMED_REQUEST
            raise NotSent("the request is malformed") from error
        except TurnLost as error:
            raise NotSent(str(error)) from error
        except (httpx.HTTPError, TimeoutError, AddressRefused) as error:
            if exchange.response is not None:
                return exchange.response
            reason = _explain(request, error, result)
            raise (NoResponse if exchange.may_have_sent else NotSent)(reason) from error
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
            try:
                async with deadline(self._timeout_seconds) as mark_sent:
                    mark_sent()
                    exchange = _Exchange(permit, observation=observation)
                    response = await self._exchange(request, exchange, READ_RESPONSE_LIMIT)
            except TurnLost as error:
                raise NoResponse(str(error)) from error
            except (httpx.HTTPError, TimeoutError, AddressRefused) as error:
                raise NoResponse(_explain(request, error, result)) from error
            result.http_status = response.status
            return response

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
                    )

    async def _exchange(
        self, request: ProviderRequest, exchange: _Exchange, limit: int
    ) -> ProviderResponse:
        async with self._client.stream(
            request.method,
            request.url,
            headers=dict(request.headers),
            content=request.body or None,
            extensions={"trace": exchange.trace},
        ) as response:
            headers = {
                name.lower(): self._redact(value.encode()).decode()
                for name, value in response.headers.items()
            }
            # The status counts as a response even if the body is lost after it.
            exchange.response = ProviderResponse(response.status_code, headers, b"", complete=False)
            exchange.permit.learn(response.status_code, headers)
            if "content-encoding" in headers:
                return exchange.response
            body = bytearray()
            # Raw chunks, because a compressed chunk would be expanded before it could be counted.
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit:
                    return exchange.response
            redacted_body = await redact_body(self._redact, bytes(body))
            return ProviderResponse(response.status_code, headers, redacted_body)


async def check_address(event: str, info: Mapping[str, Any]) -> None:
    """Refuse a new connection to a forbidden address. It is a trace hook of the HTTP library.

    Raises `AddressRefused`, before anything is sent. A check of the name would not be enough,
    because the library resolves the name itself.
    """
    if event == "connection.connect_tcp.complete":
        stream = info["return_value"]
        server = stream.get_extra_info("server_addr")
        if server is None:
            # The other end has closed it already, and the system does not know the address.
            await stream.aclose()
            raise httpx.ConnectError("the connection was closed on arrival")
        address, *_ = server
        if is_forbidden(address):
            await stream.aclose()
            raise AddressRefused(address)


def _connect_pauses() -> list[float | None]:
    """Return the seconds to wait after each failed try to connect, and None for the last try."""
    jitter = random.uniform(0.1, 0.3)  # noqa: S311 - no secret depends on it
    return [*(jitter * tries for tries in range(1, CONNECT_TRIES)), None]


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Trust the CAs of the file, or else those that the environment names, or the public ones."""
    named = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    file = ca_file or named[0]
    return _cached_tls_context(ca_file, named, Path(file).stat().st_mtime_ns if file else 0)


# Accounts share it, because loading the public CAs takes 40 ms.
@lru_cache
def _cached_tls_context(
    ca_file: str | None, _named: tuple[str | None, str | None], _changed_at: int
) -> ssl.SSLContext:
    if ca_file is None:
        # It reads SSL_CERT_FILE and SSL_CERT_DIR, and nothing else of the environment.
        return httpx.create_ssl_context()
    return ssl.create_default_context(cafile=ca_file)


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
    # The operator learns the host, and of an address also which one it is.
    address = f" {error}" if isinstance(error, AddressRefused) else ""
    result.reason = f"{reason}{address} ({urlsplit(request.url).netloc})"
    return reason


def _failure_of(error: Exception) -> tuple[CallFailure, str]:
    if failure := _tls_failure(error):
        return CallFailure.TLS, failure
    match error:
        case AddressRefused():
            reason = "the host has a link-local or metadata address"
            return CallFailure.FORBIDDEN_ADDRESS, reason
        case httpx.ConnectError():
            return CallFailure.NO_CONNECTION, "no connection"
        case TimeoutError() | httpx.TimeoutException():
            return CallFailure.TIMEOUT, "timeout"
        case httpx.RemoteProtocolError():
            reason = "the connection was closed, or the response was not HTTP"
            return CallFailure.CLOSED, reason
        case _:
            return CallFailure.CLOSED, "the connection failed"


# With these exceptions, the TLS library reports that it needs more bytes or that there are none.
_NO_TLS_FAILURES = (
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    ssl.SSLSyscallError,
)


def _tls_failure(error: BaseException) -> str | None:
    """Return why TLS failed, or None. The HTTP library reports it as a failed connection."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            # The part after the comma repeats the host name, which callers do not need.
            why = cause.verify_message.partition(",")[0]
            return f"the provider's TLS certificate is not accepted: {why}"
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _NO_TLS_FAILURES):
            why = (cause.reason or "unknown reason").replace("_", " ").lower()
            return f"TLS failed: {why}"
        cause = cause.__cause__ or cause.__context__
    return None


def _socket_options() -> list[tuple[int, int, int]]:
    # If this process dies, its kernel still delivers what was written. This limits for how long.
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    return [] if option is None else [(socket.IPPROTO_TCP, option, 20_000)]
