"""The reason why there is no connection: operators learn it, callers only that there is none."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator

import pytest

from campaign_gateway.accounts.transport import connecting
from campaign_gateway.accounts.transport.client import Transport
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.connectors.contract import ProviderRequest
from campaign_gateway.observe.health import account_health
from campaign_gateway.sandbox.contract_suite.calling import free_permit


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    opened = Transport(["a secret"], 5, health=account_health("tried", "sonarly", 60))
    yield opened
    await opened.close()


async def hang(*_: object) -> None:
    await asyncio.sleep(60)


def unknown_name(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def reason(
    transport: Transport, url: str, caplog: pytest.LogCaptureFixture
) -> tuple[str, str]:
    """Return what the caller learns, and the operator."""
    with pytest.raises(NoResponse) as failed:
        await transport.send_idempotent(ProviderRequest("GET", url, {}), free_permit())
    (line,) = [each.getMessage() for each in caplog.records if "reached" in each.getMessage()]
    _, _, details = line.partition("cannot be reached: ")
    host = url.partition("://")[2]
    assert details == f"{failed.value.details} ({host})"
    return str(failed.value), failed.value.details


async def test_refused_connection(transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    expected = ("no connection", "the connection was refused")
    assert await reason(transport, "http://127.0.0.1:9", caplog) == expected


async def test_name_that_is_not_known(
    transport: Transport, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", unknown_name)
    details = "the name cannot be resolved: Name or service not known"
    expected = ("no connection", details)
    assert await reason(transport, "http://name.invalid", caplog) == expected


async def test_network_that_refuses_later(
    transport: Transport, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall on the way has rejected the connection."""

    async def refuse(*_: object) -> None:
        raise OSError(errno.EHOSTUNREACH, "Connect call failed ('127.0.0.1', 9)")

    monkeypatch.setattr(connecting, "_connect_to", refuse)
    expected = ("no connection", "the connection failed: No route to host")
    assert await reason(transport, "http://127.0.0.1:9", caplog) == expected


@pytest.mark.parametrize(
    ("step", "details"),
    [
        ("_resolve", "no address of the name within 0.1 seconds"),
        ("_connect_to_any", "no connection within 0.1 seconds"),
    ],
)
async def test_silence(
    transport: Transport,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    details: str,
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(connecting, step, hang)
    assert await reason(transport, "http://127.0.0.1:9", caplog) == ("timeout", details)


@pytest.mark.parametrize(
    ("is_closed", "expected"),
    [
        (True, ("no connection", "the connection was closed before anything was sent")),
        (False, ("timeout", "no TLS on the connection within 0.1 seconds")),
    ],
)
async def test_host_that_does_not_answer_the_handshake(
    transport: Transport,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_closed: bool,
    expected: tuple[str, str],
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 5 if is_closed else 0.1)

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 if is_closed else -1)
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await reason(transport, url, caplog) == expected
