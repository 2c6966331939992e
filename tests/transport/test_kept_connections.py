"""Which requests share a connection, and that a copy is never sent again on another one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from campaign_gateway.accounts.transport import kept_connections
from campaign_gateway.accounts.transport.client import Transport
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.observe.health import account_health
from campaign_gateway.sandbox.contract_suite.calling import free_permit
from support.waiting import until

OK = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n"
ANNOUNCED = OK + b"Keep-Alive: timeout=5, max=100\r\n"


@dataclass
class Provider:
    """Sends the responses in turn, and counts connections and requests.

    A response of None closes the connection, and so do bytes without an end of the body.
    """

    responses: list[bytes | None] = field(default_factory=list)
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    ended: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                self.requests.append(head.split()[0])
                response = self.responses.pop(0) if self.responses else OK + b"\r\n{}"
                if response is not None:
                    writer.write(response)
                if response is None or not response.endswith(b"{}"):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.ended += 1

    async def close_connections(self) -> None:
        for writer in self.writers:
            writer.close()
            await writer.wait_closed()


@dataclass
class Caller:
    transport: Transport
    url: str
    recorded: int = 0

    async def copy(
        self, during_the_record: Callable[[], Awaitable[None]] | None = None
    ) -> ProviderResponse:
        async def record() -> None:
            self.recorded += 1
            if during_the_record is not None:
                await during_the_record()

        request = ProviderRequest("POST", self.url, {}, b"{}")
        return await self.transport.send_once(request, free_permit(), record)

    async def read(self) -> ProviderResponse:
        request = ProviderRequest("PUT", self.url, {}, b"{}")
        return await self.transport.send_idempotent(request, free_permit())


@asynccontextmanager
async def calling(*responses: bytes | None) -> AsyncIterator[tuple[Caller, Provider]]:
    provider = Provider(list(responses))
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    transport = Transport([], 5, health=account_health("tried", "sonarly", 60))
    async with server:
        yield Caller(transport, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), provider
        await transport.close()
        await until(lambda: provider.ended == provider.connections)


async def test_reads_share_a_connection() -> None:
    async with calling() as (caller, provider):
        for _ in range(3):
            assert (await caller.read()).body == b"{}"
        assert (provider.connections, len(provider.requests)) == (1, 3)


@pytest.mark.parametrize(
    "response",
    [
        OK + b"Connection: close\r\n\r\n{}",
        OK + b"Keep-Alive: timeout=1\r\n\r\n{}",
        OK + b"\r\n{}more{}",
        OK.replace(b"1.1", b"1.0") + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n{}",
    ],
)
async def test_connection_that_may_not_be_kept_is_closed(response: bytes) -> None:
    async with calling(response) as (caller, provider):
        await caller.read()
        await caller.read()
        assert provider.connections == 2


async def test_parallel_reads_have_a_connection_each() -> None:
    async with calling() as (caller, provider):
        await asyncio.gather(*(caller.read() for _ in range(4)))
        await asyncio.gather(*(caller.read() for _ in range(4)))
        assert (provider.connections, len(provider.requests)) == (4, 8)


async def test_read_is_repeated_once_on_a_new_connection() -> None:
    async with calling(OK + b"\r\n{}", None) as (caller, provider):
        await caller.read()
        assert (await caller.read()).body == b"{}"
        assert (provider.connections, len(provider.requests)) == (2, 3)


@pytest.mark.parametrize("last", [None, b"HTTP/1.1 20"])
async def test_read_is_not_repeated_on_new_connections_or_after_a_byte(last: bytes | None) -> None:
    async with calling(OK + b"\r\n{}", last, last) as (caller, provider):
        await caller.read()
        with pytest.raises(NoResponse):
            await caller.read()
        assert len(provider.requests) == (3 if last is None else 2)


async def test_connection_that_was_closed_is_not_used() -> None:
    async with calling() as (caller, provider):
        await caller.read()
        await provider.close_connections()
        await caller.read()
        # The end was seen, so nothing was sent twice.
        assert (provider.connections, len(provider.requests)) == (2, 2)


async def test_copy_takes_a_kept_connection_if_the_provider_announces_for_how_long() -> None:
    async with calling(*[ANNOUNCED + b"\r\n{}"] * 3) as (caller, provider):
        for _ in range(3):
            assert (await caller.copy()).body == b"{}"
        assert provider.connections == 1


async def test_copy_takes_a_new_connection_if_it_is_unknown_how_long_they_are_kept() -> None:
    async with calling() as (caller, provider):
        for _ in range(3):
            await caller.copy()
        assert provider.connections == 3


async def test_copy_takes_a_kept_connection_when_others_stayed_open_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_connections, "IDLE_SECONDS_OF_READS", 0.1)
    async with calling() as (caller, provider):
        await caller.copy()
        # The gateway closes it when it has been idle for so long, and it was open until then.
        await until(lambda: provider.ended == 1)
        await caller.copy()
        await caller.copy()
        assert (provider.connections, len(provider.requests)) == (2, 3)


async def test_copy_takes_a_new_connection_at_a_provider_that_closes_idle_ones_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_connections, "IDLE_SECONDS_OF_READS", 0.3)
    async with calling() as (caller, provider):
        await caller.copy()
        await until(lambda: provider.ended == 1)
        await caller.copy()
        # It had stayed open for long before. This one does not.
        await provider.close_connections()
        for _ in range(3):
            await caller.copy()
        assert provider.connections == 5


async def test_copy_is_not_sent_again_if_its_kept_connection_ends() -> None:
    async with calling(ANNOUNCED + b"\r\n{}", None) as (caller, provider):
        await caller.copy()
        with pytest.raises(NoResponse):
            await caller.copy()
        assert (provider.connections, len(provider.requests), caller.recorded) == (1, 2, 2)


async def test_connection_that_ends_while_the_record_is_written_is_replaced() -> None:
    async with calling(ANNOUNCED + b"\r\n{}") as (caller, provider):
        await caller.copy()
        assert (await caller.copy(provider.close_connections)).body == b"{}"
        assert (provider.connections, len(provider.requests), caller.recorded) == (2, 2, 2)


async def test_connection_that_becomes_too_old_while_the_record_is_written_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def make_old() -> None:
        monkeypatch.setattr(kept_connections, "IDLE_SECONDS_OF_COPIES", 0)

    async with calling(ANNOUNCED + b"\r\n{}") as (caller, provider):
        await caller.copy()
        await caller.copy(make_old)
        assert (provider.connections, len(provider.requests)) == (2, 2)


async def test_response_without_a_request_is_not_taken_for_the_next_one() -> None:
    async with calling(ANNOUNCED + b"\r\n{}") as (caller, provider):
        await caller.copy()

        async def send_another_response() -> None:
            provider.writers[0].write(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
            await provider.writers[0].drain()

        assert (await caller.copy(send_another_response)).status == 201
        assert (provider.connections, len(provider.requests)) == (2, 2)


async def test_provider_that_refuses_before_the_request_is_heard() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 429 Slow down\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    transport = Transport([], 5, health=account_health("tried", "sonarly", 60))
    async with server:
        port = server.sockets[0].getsockname()[1]
        caller = Caller(transport, f"http://127.0.0.1:{port}")
        response = await caller.copy(lambda: asyncio.sleep(0.05))
    await transport.close()
    assert (response.status, response.headers["retry-after"], response.complete) == (429, "3", True)
