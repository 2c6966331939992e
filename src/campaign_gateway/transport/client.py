"""The only code that sends to a provider, and the judge of what is certain after it has."""

import asyncio
import logging
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.transport.errors import NoResponse, NotSent
from campaign_gateway.transport.redaction import redact, redactor

log = logging.getLogger(__name__)


# Bytes of an answer that are read; what is longer counts as unreadable.
COPY_ANSWER_LIMIT = 1024 * 1024
READ_ANSWER_LIMIT = 8 * 1024 * 1024

CONNECT_SECONDS = 3.0
CONNECT_TRIES = 3

# After the deadline of a call that was sent, the event loop polls the sockets this often in this
# many seconds, for an answer that has arrived already.
LAST_POLLS = 20
LAST_SECONDS = 0.2


@dataclass
class _Exchange:
    """How far one request got. The line of no return lies just before its first byte."""

    before_first_byte: Callable[[], Awaitable[None]] | None = None
    may_have_sent: bool = False
    answer: ProviderResponse | None = None

    async def trace(self, event: str, _info: object) -> None:
        if event == "http11.send_request_headers.started":
            if self.before_first_byte is not None:
                await self.before_first_byte()
            self.may_have_sent = True


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Raises `TimeoutError` after so many seconds.

    It yields a function that the caller calls as the request is sent, and that raises
    `TimeoutError` if it is too late to send. From then on the deadline first lets the answer be
    read that has arrived, and ends the call `LAST_SECONDS` later at the latest.
    """
    # A process that was stopped, or an event loop that was blocked, beyond the deadline finds the
    # timer and the provider's answer at the same moment, and asyncio would run the timer first.
    #
    # Before the request is sent the deadline is asyncio's own: it cancels the call at once, also
    # while the record is being written, so that nothing is sent after it. The switch to the late
    # deadline is one step of the loop with the first byte: no timer can run between the check of
    # the time and the switch, and a timer that ran before has cancelled the call already.
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    polling: list[asyncio.Task[None]] = []

    def await_answer() -> None:
        if loop.time() >= ends_at:
            raise TimeoutError
        limit.reschedule(None)
        polling.append(asyncio.create_task(_expire_late(limit, ends_at)))

    async with asyncio.timeout_at(ends_at) as limit:
        try:
            yield await_answer
        finally:
            for task in polling:
                task.cancel()


async def _expire_late(limit: asyncio.Timeout, ends_at: float) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(ends_at - loop.time())
    # A fixed number of turns, and not only a time: one turn of a busy loop may outlast the time,
    # and what a socket has takes several turns to reach the call that waits for it.
    for _ in range(LAST_POLLS):
        await asyncio.sleep(LAST_SECONDS / LAST_POLLS)
    limit.reschedule(loop.time())


class Transport:
    """Sends to one account's provider: one deadline for a whole call, no redirects, no proxies."""

    def __init__(
        self, secrets: Iterable[str], timeout_seconds: float, ca_file: str | None = None
    ) -> None:
        self._timeout_seconds = timeout_seconds
        # Some providers echo the secret when they refuse it.
        self._hide = redactor(secrets)
        # A connection that is kept alive may be closed by the provider as the next request is
        # written, which looks the same whether that request took effect or not: so none is kept.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                verify=_trust(ca_file),
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
        self, request: ProviderRequest, before_first_byte: Callable[[], Awaitable[None]]
    ) -> ProviderResponse:
        """Send a request that may make a copy, at most once.

        `before_first_byte` runs when the connection is up and nothing is written yet; what it raises is
        raised here, and then nothing is written. Raises `NotSent` and `NoResponse`.
        """
        exchange = _Exchange()
        try:
            async with deadline(self._timeout_seconds) as await_answer:

                async def cross() -> None:
                    await before_first_byte()
                    await_answer()

                exchange.before_first_byte = cross
                for pause in _connect_pauses():
                    try:
                        return await self._exchange(request, exchange, COPY_ANSWER_LIMIT)
                    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                        # A wrong certificate or protocol stays wrong, so a new try is useless.
                        if pause is None or exchange.may_have_sent or _tls_failure(error):
                            raise
                        await asyncio.sleep(pause)
        except httpx.LocalProtocolError as error:
            # h11 refuses a malformed request before it writes any of it.
            raise NotSent("the request could not be written") from error
        except (httpx.HTTPError, TimeoutError) as error:
            if exchange.answer is not None:
                return exchange.answer
            if exchange.may_have_sent:
                raise NoResponse(_reason(request, error)) from error
            raise NotSent(_reason(request, error)) from error
        raise AssertionError("the last try returns or raises")

    async def send_idempotent(self, request: ProviderRequest) -> ProviderResponse:
        """Send a request that may be sent twice without harm. Raises `NoResponse`.

        The answer may be long: parse it with `parsed`.
        """
        try:
            async with deadline(self._timeout_seconds) as await_answer:
                await_answer()
                return await self._exchange(request, _Exchange(), READ_ANSWER_LIMIT)
        except (httpx.HTTPError, TimeoutError) as error:
            raise NoResponse(_reason(request, error)) from error

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
                name.lower(): self._hide(value.encode()).decode()
                for name, value in response.headers.items()
            }
            # The status is an answer, whatever becomes of the body after it.
            exchange.answer = ProviderResponse(response.status_code, headers, b"", complete=False)
            if "content-encoding" in headers:
                return exchange.answer
            body = bytearray()
            # Raw, because a decoded chunk is inflated whole before it could be counted.
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit:
                    return exchange.answer
            body_hidden = await redact(self._hide, bytes(body))
            return ProviderResponse(response.status_code, headers, body_hidden)


def _connect_pauses() -> list[float | None]:
    """Seconds to wait after each failed try to connect; None after the last."""
    spread = random.uniform(0.1, 0.3)  # noqa: S311 - only spreads callers
    return [*(spread * tries for tries in range(1, CONNECT_TRIES)), None]


def _trust(ca_file: str | None) -> ssl.SSLContext:
    """The CAs of the file alone, else those that the environment names, else the public ones."""
    named = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    file = ca_file or named[0]
    return _trust_once(ca_file, named, Path(file).stat().st_mtime_ns if file else 0)


# Accounts share it, because loading the public CAs takes 40 ms.
@lru_cache
def _trust_once(
    ca_file: str | None, _named: tuple[str | None, str | None], _changed_at: int
) -> ssl.SSLContext:
    if ca_file is None:
        # It reads SSL_CERT_FILE and SSL_CERT_DIR, and nothing else of the environment.
        return httpx.create_ssl_context()
    return ssl.create_default_context(cafile=ca_file)


def _reason(request: ProviderRequest, error: Exception) -> str:
    if failure := _tls_failure(error):
        log.warning("no TLS connection to %s: %s", urlsplit(request.url).netloc, failure)
        return failure
    match error:
        case httpx.ConnectError():
            return "no connection"
        case TimeoutError() | httpx.TimeoutException():
            return "not in time"
        case httpx.RemoteProtocolError():
            return "the connection was closed or did not speak HTTP"
        case _:
            return "the connection broke"


# The TLS library's way to say that it needs more bytes, and that there are none.
_NO_TLS_FAILURES = (
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    ssl.SSLSyscallError,
)


def _tls_failure(error: BaseException) -> str | None:
    """Why TLS failed, which the HTTP library reports as a connection that failed; else None."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            # The part after the comma repeats the host name, which callers need not know.
            why = cause.verify_message.partition(",")[0]
            return f"the provider's TLS certificate is not accepted: {why}"
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _NO_TLS_FAILURES):
            why = (cause.reason or "unknown reason").replace("_", " ").lower()
            return f"TLS failed: {why}"
        cause = cause.__cause__ or cause.__context__
    return None


def _socket_options() -> list[tuple[int, int, int]]:
    # After a sender's death its kernel still delivers what was written; this bounds for how long.
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    return [] if option is None else [(socket.IPPROTO_TCP, option, 20_000)]
