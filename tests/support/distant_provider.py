"""A provider behind TLS and a long way, which closes idle connections when it likes."""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import cast

import trustme
from anyio.from_thread import start_blocking_portal

# A way to the provider takes half of it.
ROUND_TRIP = 0.04


@dataclass
class DistantProvider:
    """Responds to a request with the number of it, and counts each number.

    After a response, the connection is closed if it is idle for `closes_after()` seconds.
    `closed_after` has these seconds, and `closed_at` the moments, by the number of the request.
    `announces` is the header of every response, a line with its end.
    """

    closes_after: Callable[[], float] = lambda: 60
    announces: str = ""
    url: str = ""
    ca_file: str = ""
    received: Counter[int] = field(default_factory=Counter)
    closed_after: dict[int, float] = field(default_factory=dict)
    closed_at: dict[int, float] = field(default_factory=dict)


@contextmanager
def distant(provider: DistantProvider, folder: Path) -> Iterator[DistantProvider]:
    """Run the provider, and what delays its packets, in a thread of its own."""
    ca = trustme.CA()
    provider.ca_file = str(folder / "ca.pem")
    ca.cert_pem.write_to_path(provider.ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_serving(provider, context)),
    ):
        yield provider


@asynccontextmanager
async def _serving(provider: DistantProvider, context: ssl.SSLContext) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    near = await loop.create_server(lambda: _Serving(provider), "127.0.0.1", 0, ssl=context)
    port = near.sockets[0].getsockname()[1]
    far = await loop.create_server(lambda: _Delaying(port), "127.0.0.1", 0, backlog=2048)
    provider.url = f"https://localhost:{far.sockets[0].getsockname()[1]}/copy"
    async with near, far:
        yield
        near.close()
        far.close()


class _Serving(asyncio.Protocol):
    def __init__(self, provider: DistantProvider) -> None:
        self._provider = provider
        self._read = b""
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        if not self._read.endswith(b"}"):
            return
        number = json.loads(self._read.partition(b"\r\n\r\n")[2])["number"]
        self._read = b""
        self._provider.received[number] += 1
        if self._idle is not None:
            self._idle.cancel()
        body = json.dumps({"number": number}).encode()
        head = f"HTTP/1.1 201 Created\r\ncontent-length: {len(body)}\r\n{self._provider.announces}"
        self._transport.write(head.encode() + b"\r\n" + body)
        seconds = self._provider.closed_after[number] = self._provider.closes_after()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(seconds, self._close, number)

    def _close(self, number: int) -> None:
        self._provider.closed_at[number] = monotonic()
        self._transport.abort()


class _Delaying(asyncio.Protocol):
    """Passes everything on in both directions, each half a round trip later."""

    def __init__(self, port: int, other: "_Delaying | None" = None) -> None:
        self._port = port
        self._other = other
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._other is None:
            loop, other = asyncio.get_running_loop(), _Delaying(self._port, self)
            self._other = other
            self._connecting = loop.create_task(
                loop.create_connection(lambda: other, "127.0.0.1", self._port)
            )
        self._transport.writelines(self._waiting)

    def data_received(self, data: bytes) -> None:
        self._later(lambda other: other.send(data))

    def connection_lost(self, error: Exception | None) -> None:
        self._later(lambda other: other.end())

    def send(self, data: bytes) -> None:
        if self._transport is None:
            self._waiting.append(data)
        else:
            self._transport.write(data)

    def end(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _later(self, act: "Callable[[_Delaying], None]") -> None:
        assert self._other is not None
        asyncio.get_running_loop().call_later(ROUND_TRIP / 2, act, self._other)
