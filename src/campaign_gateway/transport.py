"""The only code that sends to a provider, and the judge of what is certain after it has."""

import asyncio
import base64
import gc
import logging
import random
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from campaign_gateway.connector import ProviderRequest, ProviderResponse

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Bytes of an answer that are read; what is longer counts as unreadable.
COPY_ANSWER_LIMIT = 1024 * 1024
READ_ANSWER_LIMIT = 8 * 1024 * 1024

# Bytes of a body that the event loop itself parses, which takes it a few milliseconds.
PARSED_AT_ONCE = 64 * 1024

REDACTED = b"[redacted]"

# Bytes that one search for secrets goes through, which takes about a millisecond.
WINDOW = 64 * 1024
# Bytes that one character of a secret takes up at most, as `&amp;amp;amp;amp;#x00000000;` does.
LONGEST_SPELLING = 40
# Characters below which a secret is redacted only as a word of its own.
SHORT = 8

# One thread: several would take turns with the event loop, and each turn delays it by 5 ms.
_WORKER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-answers")

CONNECT_SECONDS = 3.0
CONNECT_TRIES = 3

# After the deadline of a call that was sent, the event loop polls the sockets this often in this
# many seconds, for an answer that has arrived already.
LAST_POLLS = 20
LAST_SECONDS = 0.2


class NotSent(Exception):
    """Not one byte reached the provider: nothing was made."""


class NoAnswer(Exception):
    """Bytes may have reached the provider and no status came back: a copy may exist."""


@dataclass
class _Exchange:
    """How far one request got. The line of no return lies just before its first byte."""

    on_crossing: Callable[[], Awaitable[None]] | None = None
    crossed: bool = False
    answer: ProviderResponse | None = None

    async def trace(self, event: str, _info: object) -> None:
        if event == "http11.send_request_headers.started":
            if self.on_crossing is not None:
                await self.on_crossing()
            self.crossed = True


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
        self._hide = hider(secrets)
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

    async def send(
        self, request: ProviderRequest, on_crossing: Callable[[], Awaitable[None]]
    ) -> ProviderResponse:
        """Send a request that may make a copy, at most once.

        `on_crossing` runs when the connection is up and nothing is written yet; what it raises is
        raised here, and then nothing is written. Raises `NotSent` and `NoAnswer`.
        """
        exchange = _Exchange()
        try:
            async with deadline(self._timeout_seconds) as await_answer:

                async def cross() -> None:
                    await on_crossing()
                    await_answer()

                exchange.on_crossing = cross
                for pause in _connect_pauses():
                    try:
                        return await self._exchange(request, exchange, COPY_ANSWER_LIMIT)
                    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                        # A wrong certificate or protocol stays wrong, so a new try is useless.
                        if pause is None or exchange.crossed or _tls_failure(error):
                            raise
                        await asyncio.sleep(pause)
        except httpx.LocalProtocolError as error:
            # h11 refuses a malformed request before it writes any of it.
            raise NotSent("the request could not be written") from error
        except (httpx.HTTPError, TimeoutError) as error:
            if exchange.answer is not None:
                return exchange.answer
            if exchange.crossed:
                raise NoAnswer(_reason(request, error)) from error
            raise NotSent(_reason(request, error)) from error
        raise AssertionError("the last try returns or raises")

    async def read(self, request: ProviderRequest) -> ProviderResponse:
        """Send a request that may be sent twice without harm. Raises `NoAnswer`.

        The answer may be long: parse it with `parsed`.
        """
        try:
            async with deadline(self._timeout_seconds) as await_answer:
                await_answer()
                return await self._exchange(request, _Exchange(), READ_ANSWER_LIMIT)
        except (httpx.HTTPError, TimeoutError) as error:
            raise NoAnswer(_reason(request, error)) from error

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
            body_hidden = await hidden(self._hide, bytes(body))
            return ProviderResponse(response.status_code, headers, body_hidden)


def _connect_pauses() -> list[float | None]:
    """Seconds to wait after each failed try to connect; None after the last."""
    spread = random.uniform(0.1, 0.3)  # noqa: S311 - only spreads callers
    return [*(spread * tries for tries in range(1, CONNECT_TRIES)), None]


def _trust(ca_file: str | None) -> ssl.SSLContext:
    """The CAs of the file alone, else those that the environment names, else the public ones."""
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


async def parsed(
    response: ProviderResponse, parse: Callable[..., Result], *arguments: object
) -> Result:
    """Return what `parse` makes of the arguments. A long response is parsed in the worker."""
    if len(response.body) <= PARSED_AT_ONCE:
        return parse(*arguments)
    return await _in_worker(parse, *arguments)


async def hidden(hide: Callable[[bytes], bytes], body: bytes) -> bytes:
    # The answer to a copy never waits for the worker, which may have many lists to parse.
    return hide(body) if len(body) <= COPY_ANSWER_LIMIT else await _in_worker(hide, body)


async def _in_worker(work: Callable[..., Result], *arguments: object) -> Result:
    """Run what takes long in a thread, so that the event loop goes on meanwhile."""
    whole = partial(_uncollected, work, *arguments)
    return await asyncio.get_running_loop().run_in_executor(_WORKER, whole)


def _uncollected(work: Callable[..., Result], *arguments: object) -> Result:
    """Run it without Python's garbage collector, which stops all threads: 50 to 150 ms for a list.

    The parsers make no cycles, so that all they allocate is freed without the collector.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return work(*arguments)
    finally:
        if was_enabled:
            gc.enable()


def hider(secrets: Iterable[str]) -> Callable[[bytes], bytes]:
    """Takes the secrets out of what is said, as JSON, XML, a URL or base64 may spell them."""
    # One secret may stand inside another, of which a part would be left otherwise.
    longest_first = sorted(filter(None, secrets), key=len, reverse=True)
    patterns = [_pattern_of(secret) for secret in longest_first]
    encoded = [each.encode() for secret in longest_first for each in _in_base64(secret)]

    def hide(said: bytes) -> bytes:
        for pattern, longest in patterns:
            said = _without(pattern, longest, said)
        for spelling in encoded:
            said = said.replace(spelling, REDACTED)
        return said

    return hide


def _without(pattern: re.Pattern[bytes], longest: int, said: bytes) -> bytes:
    """What is said without the matches, of which none is longer than `longest` bytes.

    It searches one window after the other, because a search holds Python's lock to its end.
    """
    kept: list[bytes] = []
    start = position = 0
    while position < len(said):
        border = position + WINDOW
        # A match that begins in the window may end behind it, and what follows a match is seen too.
        found = pattern.search(said, position, border + longest)
        if found is None or found.start() >= border:
            position = border
        else:
            kept += [said[start : found.start()], REDACTED]
            start = position = found.end()
    return b"".join([*kept, said[start:]]) if kept else said


def _pattern_of(secret: str) -> tuple[re.Pattern[bytes], int]:
    """Matches the secret in any spelling but base64. The number is the longest match's."""
    found = "".join(map(_spellings_of, secret))
    if len(secret) < SHORT:
        # A secret so short may well stand inside a harmless word.
        found = rf"(?<![\w-]){found}(?![\w-])"
    return re.compile(found.encode()), LONGEST_SPELLING * len(secret)


def _in_base64(secret: str) -> list[str]:
    """The secret in base64 behind any other text, as in `user:secret`: there are three ways."""
    if len(secret) < SHORT:
        return []
    found = []
    for ahead in range(3):
        encoded = base64.b64encode(b"\0" * ahead + secret.encode()).decode().rstrip("=")
        # The characters at both ends also carry bits of what stands there.
        found.append(encoded[(0, 2, 3)[ahead] : -1])
    return found


def _spellings_of(character: str) -> str:
    """One character, escaped as often as a message goes through encoders on its way."""
    # Every alternative begins with a plain character: then `re` skips quickly to the next of them.
    # All repeats are bounded, or some bodies would take quadratic time.
    code, plain = ord(character), re.escape(character)
    escaped = rf"u(?i:{code:04x})" if character.isalnum() else rf"(?:u(?i:{code:04x})|{plain})"
    # Possessive, because no other number of backslashes can match where all of them do not.
    backslashes = r"\\{0,15}" if character == "\\" else r"\\{0,15}+"
    names = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
    named = f"|{names[character]};" if character in names else ""
    return (
        rf"(?:{plain}|\\{backslashes}{escaped}|%(?:25){{0,4}}(?i:{code:02x})"
        rf"|&(?:amp;){{0,4}}(?:#0{{0,7}}{code};|#x0{{0,7}}(?i:{code:x});{named}))"
    )


def _socket_options() -> list[tuple[int, int, int]]:
    # After a sender's death its kernel still delivers what was written; this bounds for how long.
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    return [] if option is None else [(socket.IPPROTO_TCP, option, 20_000)]
