"""A transport for `httpx.AsyncClient` that takes a fifth of the CPU of its own.

The drills send tens of thousands of requests. With the usual transport, their clients would need as
much CPU as the gateways.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import NamedTuple

import httptools
import httpx

# A gateway closes a connection that was idle for five seconds.
IDLE_SECONDS = 4.0


class _Origin(NamedTuple):
    host: str
    port: int


class _Connection(asyncio.Protocol):
    """Carries one request at a time."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.is_kept = True
        self._response: asyncio.Future[httpx.Response] | None = None

    async def send(self, message: bytes) -> httpx.Response:
        """Return the response. Raises `RemoteProtocolError` if the connection ends before."""
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()
        self._response = asyncio.get_running_loop().create_future()
        self.transport.write(message)
        return await self._response

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.is_kept = False
        if self._response is not None and not self._response.done():
            self._response.set_exception(httpx.RemoteProtocolError(f"no response: {error}"))

    def data_received(self, data: bytes) -> None:
        if self._response is None or self._response.done():
            # Nothing was asked. httpx would close the connection too.
            self.transport.abort()
        else:
            self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._response is not None
        self.is_kept = self._parser.should_keep_alive()
        status, stream = self._parser.get_status_code(), httpx.ByteStream(bytes(self._body))
        self._response.set_result(httpx.Response(status, headers=self._headers, stream=stream))


class PlainTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 without TLS, for requests and responses that are in memory as a whole."""

    def __init__(self) -> None:
        self._idle: dict[_Origin, list[_Connection]] = defaultdict(list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        limits = request.extensions["timeout"]
        origin = _Origin(request.url.host, request.url.port or 80)
        connection = self._idle_to(origin) or await _connect(origin, limits["connect"])
        lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
        lines += [b"%b: %b" % field for field in request.headers.raw]
        try:
            async with _timeout(limits["read"]):
                response = await connection.send(b"\r\n".join([*lines, b"", b""]) + request.content)
        except BaseException:
            connection.transport.abort()
            raise
        if connection.is_kept:
            connection.idle_since = monotonic()
            self._idle[origin].append(connection)
        else:
            connection.transport.abort()
        return response

    def _idle_to(self, origin: _Origin) -> _Connection | None:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.is_kept and monotonic() < connection.idle_since + IDLE_SECONDS:
                return connection
            connection.transport.abort()
        return None

    async def aclose(self) -> None:
        for idle in self._idle.values():
            for connection in idle:
                connection.transport.abort()


@asynccontextmanager
async def _timeout(seconds: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"no response in {seconds} s") from error


async def _connect(origin: _Origin, seconds: float | None) -> _Connection:
    try:
        async with asyncio.timeout(seconds):
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, *origin)
    except OSError as error:
        raise httpx.ConnectError(str(error)) from error
    return connection
