"""A TLS proxy in front of a provider, with a certificate of a private CA."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import trustme
from anyio.from_thread import start_blocking_portal


@dataclass(frozen=True)
class TlsProxy:
    """`ca_file` has the certificate of the CA, which no machine trusts by default."""

    url: str
    ca_file: str


@contextmanager
def tls_proxy_for(url: str, folder: Path) -> Iterator[TlsProxy]:
    """Run a proxy in a thread of its own, and write the CA's certificate to the folder."""
    ca, ca_file = trustme.CA(), folder / "private-ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    parts = urlsplit(url)
    assert parts.hostname is not None
    target = parts.hostname, parts.port or 80
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_passing_on(context, target)) as port,
    ):
        yield TlsProxy(f"https://127.0.0.1:{port}", str(ca_file))


@asynccontextmanager
async def _passing_on(context: ssl.SSLContext, target: tuple[str, int]) -> AsyncIterator[int]:
    connections: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(_pass_on(reader, writer, target))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(connections):
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _pass_on(
    from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter, target: tuple[str, int]
) -> None:
    """Pass on data in both directions until one side closes."""
    from_server, to_server = await asyncio.open_connection(*target)
    try:
        ways = [
            asyncio.create_task(_pump(from_client, to_server)),
            asyncio.create_task(_pump(from_server, to_client)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ways:
                task.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
    finally:
        for writer in (to_server, to_client):
            with suppress(OSError):
                await _close(writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    # The other side may never respond to the end of TLS.
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
