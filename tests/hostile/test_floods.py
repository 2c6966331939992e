"""Floods of connections and requests against a gateway's process: others, memory and log."""

import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from graphql import get_introspection_query

import campaign_gateway
from support.commands import Command
from support.figures import Figures
from support.raw_http import QUERY, connect, exchange, head, is_closed, post, responses_to

HOST = b"Host: localhost"
GET = head(HOST, target=b"/graphql?query=%7B__typename%7D", method=b"GET")
LARGE = post(json.dumps({"query": get_introspection_query()}).encode())

# Starts the gateway with fewer descriptors than it may have by itself.
LIMITED = """import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
os.execv(sys.executable, [sys.executable, "-m", "campaign_gateway", *sys.argv[2:]])"""


TIMES = """import statistics, sys, time
from support.raw_http import exchange, post
measured = []
for _ in range(int(sys.argv[2])):
    started = time.perf_counter()
    assert exchange(sys.argv[1], post()).status == 200
    measured.append(time.perf_counter() - started)
print(statistics.median(measured))"""


class Gateway(Command):
    """A gateway in a process of its own, with one account whose provider is never called."""

    def __init__(self, folder: Path, descriptors: int | None = None) -> None:
        config = folder / "gateway.toml"
        config.write_text(
            f"""
            [server]
            port = 0
            [ledger]
            url = "sqlite:///{folder}/ledger.db"
            [accounts.outreach]
            provider = "sonarly"
            api_key = "key"
            """
        )
        serve = ("serve", "--config", str(config))
        if descriptors is None:
            super().__init__(*serve)
        else:
            super().__init__(*serve, launcher=("-c", LIMITED, str(descriptors)))
        self.url = f"http://127.0.0.1:{self.wait_for('listening on .* port ([0-9]+)')[1]}"

    def memory(self) -> float:
        """Return what the process occupies, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def time(self, count: int) -> float:
        """Return the median time of so many queries in seconds, each on a new connection.

        They are sent by another process, which the other clients do not delay. It is the best of
        three medians, because other processes use the machine too.
        """
        command = [sys.executable, "-c", TIMES, self.url, str(count)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        return min(
            float(subprocess.check_output(command, env=environment, timeout=120)) for _ in range(3)
        )


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("floods"))
    try:
        # The first requests load what later ones share.
        for _ in range(20):
            assert exchange(running.url, LARGE).status == 200
        yield running
    finally:
        running.kill()


# Memory


ENDLESS = {
    "short fields": (GET[:-2], b"x: y\r\n" * 10_000),
    "one field": (GET[:-2] + b"x: y", b"y" * 65536),
    "trailers": (
        head(HOST, b"Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n",
        b"x: y\r\n" * 10_000,
    ),
    "offers to upgrade": (b"", head(HOST, b"Connection: upgrade", b"Upgrade: x") * 500),
    "queries": (b"", GET * 1000),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_stream_of_one_connection_takes_no_memory(gateway: Gateway, name: str) -> None:
    start, piece = ENDLESS[name]
    before = gateway.memory()
    with connect(gateway.url) as connection:
        connection.settimeout(1)
        connection.sendall(start)
        with suppress(OSError):
            # The server refuses it, or stops reading because its responses are not read.
            for _ in range(100 * 1024 * 1024 // len(piece)):
                connection.sendall(piece)
        assert gateway.memory() < before + 10
    assert exchange(gateway.url, post()).status == 200


def flood_of_pipelines(gateway: Gateway, connections: int, requests: int) -> float:
    """Return by how many MB the process grows while no client reads the responses."""
    before = gateway.memory()
    with ExitStack() as stack:
        for _ in range(connections):
            connection = stack.enter_context(connect(gateway.url))
            connection.settimeout(0.2)
            with suppress(TimeoutError):
                connection.sendall(GET * requests)
        assert exchange(gateway.url, post()).status == 200
        return gateway.memory() - before


def test_unread_pipelines_take_little_memory(gateway: Gateway) -> None:
    assert flood_of_pipelines(gateway, 5, 14_000) < 15


@pytest.mark.long
def test_unread_pipelines_of_20_connections_take_little_memory(gateway: Gateway) -> None:
    assert flood_of_pipelines(gateway, 20, 14_000) < 30


def hostile_requests(seed: int) -> Iterator[bytes]:
    """Requests that are wrong, or that ask for as much as they can."""
    choice = random.Random(seed)
    while True:
        number = choice.randrange(10**9)
        names = " ".join(f"n{i}x{number}: name" for i in range(20))
        queries = [
            f"{{ accounts {{ {names} }} }}",
            f"{{ __schema {{ types {{ {names} fields {{ name }} }} }} }}",
            f"query Q{number} {{ nothing }}",
            f"{{ _entities(representations: [{number}]) {{ __typename }} }}",
            "{" * choice.randrange(300),
            f"{{ __typename }} # {'é' * choice.randrange(20_000)}",
        ]
        body = json.dumps(
            {
                "query": choice.choice(queries),
                "variables": {"v": ["x" * 100] * choice.randrange(300)},
            }
        ).encode()
        yield choice.choice(
            [
                post(body),
                post(body, b"X: " + b"y" * choice.randrange(40_000)),
                post(body[: choice.randrange(len(body))]),
                head(b"Host: evil.example"),
                head(HOST, b"Content-Length: 70000") + b"x" * 70_000,
                head(HOST, b"Transfer-Encoding: chunked") + b"zz\r\n",
                choice.randbytes(choice.randrange(1, 3000)),
                GET * 50,
            ]
        )


def grown_by(gateway: Gateway, count: int) -> float:
    requests = hostile_requests(7)
    # Caches are full after a few hundred, and the allocator has what it keeps.
    for _ in range(300):
        responses_to(gateway.url, next(requests), head(HOST, b"Connection: close"))
    before = gateway.memory()
    for _ in range(count):
        responses_to(gateway.url, next(requests), head(HOST, b"Connection: close"))
    return gateway.memory() - before


def test_hostile_requests_leave_the_memory_as_it_was(gateway: Gateway) -> None:
    assert grown_by(gateway, 300) < 30


@pytest.mark.long
def test_two_thousand_hostile_requests_leave_the_memory_as_it_was(gateway: Gateway) -> None:
    assert grown_by(gateway, 2000) < 30


@pytest.mark.long
def test_long_documents_leave_the_memory_as_it_was(gateway: Gateway) -> None:
    """Each character of such a document takes four bytes, also in its parsed form."""
    before = gateway.memory()
    for number in range(300):
        query = f'query Q{number} {{ duplication(id: "\U0001f600{"x" * 60_000}") {{ id }} }}'
        body = json.dumps({"query": query}, ensure_ascii=False).encode()
        assert exchange(gateway.url, post(body)).status == 200
    assert gateway.memory() < before + 30


# Connections


def test_gateway_serves_others_when_its_descriptors_are_few(tmp_path: Path) -> None:
    check_few_descriptors(tmp_path, descriptors=128, connections=200)


@pytest.mark.long
def test_gateway_serves_others_with_1024_descriptors(tmp_path: Path) -> None:
    check_few_descriptors(tmp_path, descriptors=1024, connections=1100)


def check_few_descriptors(folder: Path, descriptors: int, connections: int) -> None:
    gateway = Gateway(folder, descriptors)
    try:
        with ExitStack() as stack:
            silent = [stack.enter_context(connect(gateway.url)) for _ in range(connections)]
            assert gateway.time(20) < 10
            assert exchange(gateway.url, head(HOST, target=b"/readyz", method=b"GET")).status == 200
            # The oldest ones made room for the newest.
            assert is_closed(silent[0], 10)
        assert gateway.stop() == 0
        assert len(gateway.output) < 5000
    finally:
        gateway.kill()


Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def stay_silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def drip(start: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(start)
    while not reader.at_eof() and not writer.is_closing():
        writer.write(b"x")
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await reader.read(100)


async def drip_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await drip(b"POST /", reader, writer)


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    fields = (b"Content-Type: application/json", b"Content-Length: 1000")
    await drip(head(HOST, *fields), reader, writer)


async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # The buffer of the reader is small, so the kernel's fills, and then the gateway's.
    path = b"/graphiql/assets/" + largest_asset().encode()
    writer.write(head(HOST, target=path, method=b"GET") * 2)
    while not writer.is_closing():
        await asyncio.sleep(1)
        # An empty line before a request is allowed, and shows whether the connection is there.
        writer.write(b"\r\n")


def largest_asset() -> str:
    folder = Path(campaign_gateway.__file__).parent / "web" / "explorer" / "dist" / "assets"
    sizes = {file.name: file.stat().st_size for file in folder.glob("*")}
    if not sizes:
        pytest.skip("GraphiQL was not built")
    return max(sizes, key=lambda name: sizes[name])


async def be_idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(post(QUERY))
    await reader.read()


@asynccontextmanager
async def flood(url: str, client: Client, count: int) -> AsyncIterator[set[asyncio.Task[None]]]:
    """Run so many clients. The set has those whose connections are still open."""
    address = urlsplit(url)
    present: set[asyncio.Task[None]] = set()

    async def one() -> None:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(
                address.hostname, address.port, limit=1024
            )
            try:
                await client(reader, writer)
            finally:
                writer.close()

    for _ in range(count):
        task = asyncio.create_task(one())
        present.add(task)
        task.add_done_callback(present.discard)
        await asyncio.sleep(0.0005)
    try:
        yield present
    finally:
        for task in list(present):
            task.cancel()
        await asyncio.gather(*present, return_exceptions=True)


FLOODS: dict[str, tuple[Client, int]] = {
    "silent": (stay_silent, 1000),
    "dripping a head": (drip_head, 1000),
    "dripping a body": (drip_body, 1000),
    "not reading": (never_read, 1000),
    "idle": (be_idle, 5000),
}


@pytest.mark.long
@pytest.mark.parametrize("name", FLOODS)
async def test_flood_of_slow_clients_neither_delays_others_nor_stays(
    gateway: Gateway, figures: Figures, name: str
) -> None:
    client, count = FLOODS[name]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * count)), hard))
    alone = await asyncio.to_thread(gateway.time, 200)
    memory = gateway.memory()
    started = time.monotonic()
    async with flood(gateway.url, client, count) as present:
        opened_in = time.monotonic() - started
        # The gateway is busy for a moment with what they have asked for.
        await asyncio.sleep(3)
        beside = await asyncio.to_thread(gateway.time, 200)
        grown = gateway.memory() - memory
        while present and time.monotonic() - started < 90:
            await asyncio.sleep(0.1)
        gone_after = time.monotonic() - started
        left = len(present)
    figures.measured[f"{count} clients {name}"] = (
        f"others {beside * 1000:.1f} ms, alone {alone * 1000:.1f} ms; {grown:.0f} MB; opened in "
        f"{opened_in:.1f} s, gone after {gone_after:.0f} s"
    )
    assert left == 0
    assert gone_after < 60 + opened_in
    assert beside < 1.5 * alone
