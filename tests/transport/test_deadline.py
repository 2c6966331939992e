"""When the deadline ends a call, and when a response that has arrived is still read."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest
import trustme

from campaign_gateway.accounts.transport.client import Transport
from campaign_gateway.accounts.transport.deadline import LAST_SECONDS
from campaign_gateway.accounts.transport.errors import NoResponse, NotSent
from campaign_gateway.accounts.transport.token_auth import TokenTransport
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, Token
from campaign_gateway.model import Rejected
from campaign_gateway.observe.health import account_health
from campaign_gateway.sandbox.contract_suite.calling import free_permit
from support.waiting import until

TIMEOUT = 0.5

# Seconds that a busy machine may add to a wait.
SLACK = 2.0

Blocking = Callable[[], None]
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def nothing_to_record() -> None: ...


@contextmanager
def responding(body: bytes, block: Blocking, context: ssl.SSLContext | None) -> Iterator[str]:
    """A provider in its own thread, which responds while `block` blocks the event loop."""
    loop = asyncio.get_running_loop()
    responded = threading.Event()
    blocked = threading.Event()

    def stand_still() -> None:
        blocked.set()
        responded.wait(SLACK)
        block()

    def serve() -> None:
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) if context else plain as connection:
            while not connection.recv(65536).endswith(b"{}"):
                pass
            loop.call_soon_threadsafe(stand_still)
            blocked.wait(SLACK)
            head = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body[:1024])
            responded.set()
            connection.sendall(body[1024:])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        scheme = "https" if context else "http"
        yield f"{scheme}://localhost:{listener.getsockname()[1]}/copy"
        thread.join(10)


@asynccontextmanager
async def transport(
    timeout: float = TIMEOUT, ca_file: str | None = None
) -> AsyncIterator[Transport]:
    opened = Transport(
        ["a-secret-12345"], timeout, ca_file, health=account_health("tried", "sonarly", 60)
    )
    yield opened
    await opened.close()


def post(url: str) -> ProviderRequest:
    return ProviderRequest("POST", url, {"content-type": "application/json"}, b"{}")


async def send(opened: Transport, url: str) -> ProviderResponse:
    return await opened.send_once(post(url), free_permit(), nothing_to_record)


async def read(opened: Transport, url: str) -> ProviderResponse:
    return await opened.send_idempotent(post(url), free_permit())


Call = Callable[[Transport, str], Awaitable[ProviderResponse]]


@pytest.mark.parametrize("call", [send, read])
@pytest.mark.parametrize("size", [2, 100_000])
@pytest.mark.parametrize("is_tls", [False, True])
async def test_response_that_has_arrived_by_the_deadline_is_read(
    tmp_path: Path, call: Call, size: int, *, is_tls: bool
) -> None:
    """The same happens if the process is stopped for longer than the deadline."""
    context, ca_file = _certified(tmp_path) if is_tls else (None, None)
    body = b"x" * size
    with responding(body, lambda: time.sleep(TIMEOUT + 0.1), context) as url:
        async with transport(ca_file=ca_file) as opened:
            response = await call(opened, url)
    assert (response.status, response.complete, response.body) == (201, True, body)


class TokenConnector:
    """A connector whose provider returns a token to any caller."""

    def __init__(self, url: str) -> None:
        self._url = url

    def build_token_request(self) -> ProviderRequest:
        return post(self._url)

    def parse_token(self, response: ProviderResponse) -> Token | Rejected:
        return Token(response.body.decode(), 60)

    def authorize(self, request: ProviderRequest, token: str) -> ProviderRequest:
        return request

    def rejects_token(self, response: ProviderResponse) -> bool:
        return False


async def test_token_that_has_arrived_by_the_deadline_is_read() -> None:
    with responding(b"token", lambda: time.sleep(TIMEOUT + 0.1), None) as url:
        async with transport(timeout=60) as opened:
            signed = TokenTransport(opened, TokenConnector(url), TIMEOUT)
            cached = await signed._get_token(None, free_permit())
    assert cached.token == "token"


async def test_response_is_read_even_if_one_turn_of_the_loop_is_very_long() -> None:
    turns: list[asyncio.Task[None]] = []

    async def take_long() -> None:
        while True:
            time.sleep(LAST_SECONDS + 0.05)  # noqa: ASYNC251 - simulates a busy loop
            await asyncio.sleep(0)

    def block() -> None:
        time.sleep(TIMEOUT)
        turns.append(asyncio.create_task(take_long()))

    with responding(b"{}", block, None) as url:
        async with transport() as opened:
            response = await send(opened, url)
            turns[0].cancel()
    assert (response.status, response.body) == (201, b"{}")


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[str]:
    handlers: list[asyncio.Task[None]] = []

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await handle(reader, writer)
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.create_task(closing(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/copy"
        await asyncio.wait_for(asyncio.gather(*handlers), 40)


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A provider that never responds. Yields its URL and what it received until the end."""
    received: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())

    async with serving(listen) as url:
        yield url, received


async def _hook_past_the_deadline() -> None:
    """Ends between the deadline and the end of the last polls, even if it is cancelled."""
    await asyncio.shield(asyncio.create_task(asyncio.sleep(TIMEOUT + LAST_SECONDS / 2)))


async def _hook_that_never_ends() -> None:
    await asyncio.Event().wait()


async def _hook_that_blocks_past_the_deadline() -> None:
    """The same happens if the process is stopped between the commit and the first byte."""
    time.sleep(TIMEOUT + 0.1)  # noqa: ASYNC251 - as the docstring says


@pytest.mark.parametrize("hook", [_hook_past_the_deadline, _hook_that_blocks_past_the_deadline])
async def test_deadline_before_the_first_byte_prevents_the_request(
    hook: Callable[[], Awaitable[None]],
) -> None:
    async with silent() as (url, received), transport() as opened:
        with pytest.raises(NotSent, match="timeout"):
            await opened.send_once(post(url), free_permit(), hook)
        # Until after the end of the hook and of the last polls.
        await asyncio.sleep(2 * LAST_SECONDS)
    assert received == [b""]


async def test_deadline_before_the_first_byte_ends_the_call_immediately() -> None:
    async with silent() as (url, _), transport() as opened:
        began = monotonic()
        with pytest.raises(NotSent):
            await opened.send_once(post(url), free_permit(), _hook_that_never_ends)
    # The last polls wait for a response, and there can be none.
    assert monotonic() - began < TIMEOUT + SLACK


@pytest.mark.parametrize("call", [send, read])
async def test_call_to_a_provider_that_hangs_ends_after_the_last_polls(call: Call) -> None:
    async with silent() as (url, _), transport() as opened:
        began = monotonic()
        with pytest.raises(NoResponse, match="timeout"):
            await call(opened, url)
    assert TIMEOUT + LAST_SECONDS - 0.01 <= monotonic() - began < TIMEOUT + LAST_SECONDS + SLACK


@pytest.mark.parametrize("call", [send, read])
async def test_call_to_a_slow_provider_ends_after_the_last_polls(call: Call) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\n")
        while True:
            writer.write(b"X-A: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(drip) as url, transport() as opened:
        began = monotonic()
        with pytest.raises(NoResponse, match="timeout"):
            await call(opened, url)
        assert monotonic() - began < TIMEOUT + LAST_SECONDS + SLACK


async def test_cancelled_caller_ends_the_call_immediately() -> None:
    async with silent() as (url, _), transport(timeout=60) as opened:
        may_have_sent = asyncio.Event()

        async def hook() -> None:
            may_have_sent.set()

        sending = asyncio.create_task(opened.send_once(post(url), free_permit(), hook))
        await asyncio.wait_for(may_have_sent.wait(), 40)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(sending, 40)
    # No task waits for the deadline of a call that has ended.
    await until(lambda: not any(map(_waits_for_a_deadline, asyncio.all_tasks())))


def _waits_for_a_deadline(task: asyncio.Task[object]) -> bool:
    return "_expire_late" in repr(task.get_coro())


def _certified(folder: Path) -> tuple[ssl.SSLContext, str]:
    ca, path = trustme.CA(), str(folder / "ca.pem")
    ca.cert_pem.write_to_path(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    return context, path
