"""Whether a failed request was certainly not sent, over real sockets that fail in many ways."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from campaign_gateway.accounts.transport.client import COPY_RESPONSE_LIMIT, Transport
from campaign_gateway.accounts.transport.errors import ConnectFailed, NoResponse, NotSent
from campaign_gateway.accounts.transport.http1 import Connection, Response
from campaign_gateway.accounts.transport.redaction import create_redactor
from campaign_gateway.connectors.contract import ProviderRequest
from campaign_gateway.observe.health import account_health
from campaign_gateway.sandbox.contract_suite.calling import free_permit

SECRET = 'sk/live"a&b-12345'

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def provider(handle: Handle) -> AsyncIterator[str]:
    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/copy"


@asynccontextmanager
async def transport(
    timeout: float = 2, secrets: tuple[str, ...] = (SECRET,)
) -> AsyncIterator[Transport]:
    opened = Transport(secrets, timeout, health=account_health("tried", "sonarly", 60))
    yield opened
    await opened.close()


def post(url: str, body: bytes = b"{}") -> ProviderRequest:
    return ProviderRequest("POST", url, {"content-type": "application/json"}, body)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(2)


class Hook:
    """Counts the calls of `before_first_byte`, and can wait or raise."""

    def __init__(self, error: Exception | None = None, seconds: float = 0) -> None:
        self.times = 0
        self._error = error
        self._seconds = seconds

    async def __call__(self) -> None:
        self.times += 1
        await asyncio.sleep(self._seconds)
        if self._error:
            raise self._error


async def test_response_is_returned_complete() -> None:
    asked = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await read_request(reader))
        writer.write(b"HTTP/1.1 201 Created\r\nX-Trace: T\r\nContent-Length: 4\r\n\r\nbody")

    async with provider(respond) as url, transport() as opened:
        response = await opened.send_once(post(url), free_permit(), hook := Hook())
    assert (response.status, response.body, response.complete) == (201, b"body", True)
    assert response.headers["x-trace"] == "T"
    assert hook.times == 1
    assert asked[0].startswith(b"POST /copy HTTP/1.1\r\n")
    assert b"accept-encoding: identity" in asked[0].lower()


async def test_hook_runs_before_the_first_byte() -> None:
    seen = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):
            seen.set()

    async def is_unseen() -> None:
        await asyncio.sleep(0.2)
        assert not seen.is_set()

    async with provider(watch) as url, transport() as opened:
        with pytest.raises(NoResponse):
            await opened.send_once(post(url), free_permit(), is_unseen)
    assert seen.is_set()


async def test_hook_that_raises_prevents_the_request() -> None:
    received = []

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())

    async with provider(watch) as url, transport() as opened:
        with pytest.raises(LookupError):
            await opened.send_once(post(url), free_permit(), Hook(LookupError()))
        await asyncio.sleep(0.1)
    assert received == [b""]


async def test_deadline_during_the_hook_prevents_the_request() -> None:
    received = []

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())

    async with provider(watch) as url, transport(timeout=0.2) as opened:
        with pytest.raises(NotSent):
            await opened.send_once(post(url), free_permit(), Hook(seconds=5))
        await asyncio.sleep(0.1)
    assert received == [b""]


async def test_only_a_provider_without_a_connection_is_reported_as_unreachable() -> None:
    async def cut(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}/copy"
    # What the log says of a copy without a response is tried in `observe/test_log.py`.
    expected = {"once": [[], ["UNREACHABLE"]], "idempotent": [["NO_RESPONSE"], ["UNREACHABLE"]]}
    found: dict[str, list[list[str]]] = {"once": [], "idempotent": []}
    async with provider(cut) as lost:
        for url in (lost, closed):
            for way, problems in found.items():
                health = account_health("tried", "sonarly", 60)
                opened = Transport((SECRET,), 2, health=health)
                sending = (
                    opened.send_once(post(url), free_permit(), Hook())
                    if way == "once"
                    else opened.send_idempotent(post(url), free_permit())
                )
                with pytest.raises((NoResponse, NotSent)):
                    await sending
                problems.append([problem for problem, _, _ in health.lasting()])
                await opened.close()
    assert found == expected


async def test_refused_connection_is_retried_and_reported_as_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with transport() as opened:
        with pytest.raises(NotSent):
            await opened.send_once(
                post(f"http://127.0.0.1:{port}/copy"), free_permit(), hook := Hook()
            )
    assert hook.times == 0


async def test_request_is_not_retried_after_the_hook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the progress of the request counts, not the type of the exception."""
    calls = []

    def fail(_self: Connection, *_: object) -> Response:
        calls.append(1)
        raise ConnectFailed

    monkeypatch.setattr(Connection, "send", fail)
    async with provider(silent) as url, transport() as opened:
        with pytest.raises(NoResponse):
            await opened.send_once(post(url), free_permit(), hook := Hook())
    assert (calls, hook.times) == ([1], 1)


async def test_provider_that_starts_during_the_retries_is_reached() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def come_up() -> asyncio.Server:
        await asyncio.sleep(0.05)
        return await asyncio.start_server(respond, "127.0.0.1", port)

    coming = asyncio.create_task(come_up())
    async with transport() as opened:
        response = await opened.send_once(
            post(f"http://127.0.0.1:{port}/copy"), free_permit(), Hook()
        )
    assert response.status == 202
    (await coming).close()


async def test_host_without_tls_is_reported_as_not_sent() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with provider(plain) as url, transport() as opened:
        with pytest.raises(NotSent):
            await opened.send_once(
                post(url.replace("http:", "https:")), free_permit(), hook := Hook()
            )
    assert hook.times == 0


async def test_malformed_header_is_reported_as_not_sent() -> None:
    received = []

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())

    async with provider(watch) as url, transport() as opened:
        request = ProviderRequest("POST", url, {"x-name": "a\r\nb: c"}, b"{}")
        with pytest.raises(NotSent):
            await opened.send_once(request, free_permit(), hook := Hook())
        await asyncio.sleep(0.1)
    assert not any(received)
    assert hook.times == 0


FAULTS: dict[str, Handle] = {}


def fault(handle: Handle) -> Handle:
    FAULTS[handle.__name__] = handle
    return handle


@fault
async def closed_before_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@fault
async def closed_after_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)


@fault
async def reset_after_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@fault
async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await reader.read()


@fault
async def half_a_status_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 20")


@fault
async def not_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"\x15\x03\x01\x00\x02\x02\x0a nonsense\r\n\r\n")


@fault
async def dripping_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 201 Created\r\n")
    while True:
        writer.write(b"X-A: b\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("name", FAULTS)
async def test_missing_status_after_the_first_byte_is_no_response(name: str) -> None:
    connections = []

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await FAULTS[name](reader, writer)

    async with provider(counted) as url, transport(timeout=1) as opened:
        with pytest.raises(NoResponse):
            await opened.send_once(post(url), free_permit(), hook := Hook())
    assert hook.times == 1
    assert len(connections) == 1


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 100\r\n\r\nshort",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"Content-Length: %d\r\n\r\n%s"
        % (COPY_RESPONSE_LIMIT + 1, b"x" * (COPY_RESPONSE_LIMIT + 1)),
    ],
)
async def test_status_with_an_incomplete_body_is_a_response(rest: bytes) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 201 Created\r\n" + rest)
        await writer.drain()

    async with provider(respond) as url, transport() as opened:
        response = await opened.send_once(post(url), free_permit(), Hook())
    assert (response.status, response.body, response.complete) == (201, b"", False)


async def test_slow_body_ends_with_the_deadline() -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with provider(respond) as url, transport(timeout=0.5) as opened:
        async with asyncio.timeout(20):
            response = await opened.send_once(post(url), free_permit(), Hook())
    assert (response.status, response.complete) == (201, False)


async def test_redirects_and_proxies_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(b"HTTP/1.1 307 Temporary\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with provider(respond) as url, transport() as opened:
        response = await opened.send_once(post(url), free_permit(), Hook())
    assert response.status == 307
    assert len(requests) == 1


async def test_idempotent_request_that_fails_raises_no_response() -> None:
    async with provider(closed_after_reading) as url, transport() as opened:
        with pytest.raises(NoResponse):
            await opened.send_idempotent(post(url), free_permit())


SPELLINGS = [
    SECRET,
    json.dumps(SECRET)[1:-1],
    SECRET.replace("/", "\\/").replace('"', "\\u0022").replace("&", "\\u0026"),
    SECRET.replace("&", "&amp;").replace('"', "&quot;"),
    SECRET.replace("&", "&#38;").replace('"', "&#x22;"),
    SECRET.replace("/", "%2F").replace('"', "%22").replace("&", "%26"),
    base64.b64encode(SECRET.encode()).decode(),
    base64.b64encode(f":{SECRET}".encode()).decode(),
    base64.b64encode(f"Bearer {SECRET}".encode()).decode(),
    base64.b64encode(f"someone:{SECRET}, and more".encode()).decode(),
    SECRET.upper(),
    json.dumps(SECRET.upper())[1:-1],
    SECRET.encode().hex(),
    SECRET.encode().hex().upper(),
    f"Bearer {SECRET}".encode().hex(),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_secret_is_redacted_in_every_encoding(spelling: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        body = f'{{"message": "Invalid API key: {spelling}"}}'.encode()
        head = f"HTTP/1.1 401 No\r\nX-Key: {spelling}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    async with provider(echo) as url, transport() as opened:
        response = await opened.send_once(post(url), free_permit(), Hook())
    assert b"[redacted]" in response.body
    assert spelling.encode() not in response.body
    assert "[redacted]" in response.headers["x-key"]


@pytest.mark.parametrize("spelling", ["caf\u00c9-0123456789", "CAF\u00c9-0123456789"])
def test_secret_with_other_letters_than_ascii_is_redacted(spelling: str) -> None:
    redact = create_redactor(["caf\u00c9-0123456789"])
    assert redact(f"the key {spelling} is wrong".encode()) == b"the key [redacted] is wrong"


async def test_short_secret_is_redacted_only_as_a_word() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        body = b"key: abc, campaign abc-1, cabcd"
        writer.write(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async with provider(echo) as url, transport(secrets=("abc",)) as opened:
        response = await opened.send_once(post(url), free_permit(), Hook())
    assert response.body == b"key: [redacted], campaign abc-1, cabcd"
