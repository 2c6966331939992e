"""The two ends of a benchmark: the provider, and a closed loop of clients.

`python tests/bench/wire.py [SECONDS]` is the provider, as a process of its own. It prints its port,
and waits so many seconds before each response.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter, time_ns

import httptools

# As long as the providers' own. Each has an id of its own, because no two duplications have the
# same copy.
SONARLY_COPY = (
    '{"success":true,"data":{"id":"%024x","name":"Outreach, third quarter","description":"",'
    '"status":"draft","selectedLeadCount":25,"includeConversationHistory":true,'
    '"autoCancelOnMessageReceived":true,"outreachLanguage":"en",'
    '"createdAt":"2026-05-01T12:00:00.000Z","updatedAt":"2026-05-01T12:00:00.000Z",'
    '"startedAt":null,"rateLimitedUntil":null},"error":null,"traceId":"66a1f0c2b7d4e8910c3a5f78"}'
)
SONARLY_LIST = (
    '{"success":true,"data":{"items":[]},"error":null,"traceId":"66a1f0c2b7d4e8910c3a5f"}'
)
BRAZE_LIST = '{"message":"success","campaigns":[]}'

_numbers = count(1)


def respond(method: bytes, path: bytes) -> tuple[bytes, str]:
    """Return the status line and the body for a request of any benchmark."""
    if method == b"GET":
        return b"200 OK", BRAZE_LIST if path.startswith(b"/campaigns") else SONARLY_LIST
    if path == b"/campaigns/duplicate":
        return b"202 Accepted", '{"message":"success"}'
    return b"201 Created", SONARLY_COPY % next(_numbers)


class Provider(asyncio.Protocol):
    """One connection to the provider, which stays open if the client wants."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_message_complete(self) -> None:
        status, body = respond(self._parser.get_method(), self._path)
        keep = self._parser.should_keep_alive()
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n"
        message = head % (status, len(body), b"" if keep else b"connection: close\r\n")
        message += body.encode()
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._send, message, keep)
        else:
            self._send(message, keep)

    def _send(self, message: bytes, keep: bool) -> None:  # noqa: FBT001 - a callback of the loop
        self._transport.write(message)
        if not keep:
            self._transport.close()


async def serve_provider(delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Provider(delay), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@dataclass(frozen=True)
class Target:
    """A server, and what it is asked.

    In each request, `@KEY@` in the body is replaced by a text of its own. Each response must have
    the status 200 and contain `expected`.
    """

    name: str
    port: int
    body: str
    expected: bytes
    path: str = "/graphql"
    credential: str | None = None

    def requests(self) -> Callable[[], bytes]:
        lines = [f"POST {self.path} HTTP/1.1", f"host: 127.0.0.1:{self.port}"]
        lines += ["content-type: application/json", "accept: application/json"]
        if self.credential is not None:
            lines.append(f"authorization: Bearer {self.credential}")
        head = "".join(f"{line}\r\n" for line in lines)

        def request() -> bytes:
            body = self.body.replace("@KEY@", f"{time_ns()}-{next(_numbers)}")
            return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()

        return request


@dataclass
class Load:
    """What a closed loop of clients has seen. Times are in seconds."""

    times: list[float] = field(default_factory=list)
    seconds: float = 0.0
    wrong: Counter[str] = field(default_factory=Counter)

    def percentile(self, part: float) -> float:
        return sorted(self.times)[int(part * len(self.times))]


class _Client(asyncio.Protocol):
    """Sends a request, and the next one as soon as the response is there."""

    def __init__(self, target: Target, load: Load, until: float) -> None:
        self._expected, self._load, self._until = target.expected, load, until
        self._request = target.requests()
        self._body = bytearray()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.ended.done():
            self._load.wrong["the connection was closed"] += 1
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        now, status = perf_counter(), self._parser.get_status_code()
        self._load.times.append(now - self._sent_at)
        if status != 200 or self._expected not in self._body:
            self._load.wrong[f"{status}: {self._body[:300].decode(errors='replace')}"] += 1
        if now < self._until:
            # Outside the parser, which cannot be replaced while it calls.
            asyncio.get_running_loop().call_soon(self._send)
        else:
            self.ended.set_result(None)
            self._transport.close()

    def _send(self) -> None:
        self._body.clear()
        self._parser = httptools.HttpResponseParser(self)
        self._sent_at = perf_counter()
        self._transport.write(self._request())


async def load(target: Target, in_flight: int, seconds: float) -> Load:
    """Keep so many requests in flight. The last ones end after the time."""
    result, began_at = Load(), perf_counter()
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(in_flight):
        client = _Client(target, result, began_at + seconds)
        # mypy does not infer a lambda with a default.
        await loop.create_connection(lambda client=client: client, "127.0.0.1", target.port)  # type: ignore[misc]
        clients.append(client.ended)
    await asyncio.gather(*clients)
    result.seconds = perf_counter() - began_at
    return result


if __name__ == "__main__":
    asyncio.run(serve_provider(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
