"""How the cost of calls and reads grows with the records, and with the gateways of one ledger."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median

from bench import processes
from bench.filling import fill
from bench.mutations import Nonsense, measure
from bench.processes import Server, cpu_seconds
from bench.wire import load
from campaign_gateway.ledger import Ledger, open_ledger
from campaign_gateway.model import DuplicationStatus, Selection
from support.postgres import PostgresServer, postgres_server

READS = 30

CORES = sorted(os.sched_getaffinity(0))


@contextmanager
def database(kind: str, folder: Path) -> Iterator[tuple[str, PostgresServer | None]]:
    """Return the URL of a new ledger, and its server. A server of its own may be in memory."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/ledger.db", None
    else:
        with postgres_server() as server:
            yield server.create_database(), server


def grow(folder: Path, kind: str, rows: int, in_flight: int, seconds: float) -> Iterator[str]:
    """Compare a ledger with so many records with an empty one, in turns."""
    with ExitStack() as stack:
        url = stack.enter_context(processes.provider())
        servers = []
        for name, number in (("empty", 0), ("full", rows)):
            place = folder / name
            place.mkdir()
            ledger, _ = stack.enter_context(database(kind, place))
            asyncio.run(_create(ledger))
            began_at = time.perf_counter()
            if number:
                fill(ledger, number, time.time_ns() // 1000)
                yield f"{number:,} records filled in {time.perf_counter() - began_at:.0f} s"
            for what, milliseconds in asyncio.run(_reads(ledger)):
                yield f"{name}: {what} {milliseconds:.2f} ms"
            servers.append(stack.enter_context(processes.gateway(place, url, ledger)))
        ratios = []
        for _ in range(5):
            empty, full = (
                measure(server.target("sonarly"), server.pid, in_flight, seconds)
                for server in servers
            )
            ratios.append(full.cpu / empty.cpu)
            yield (
                f"{in_flight} in flight: {empty.cpu:.0f} us a mutation with no records, "
                f"{full.cpu:.0f} with {rows:,}; p99 {empty.p99:.1f} and {full.p99:.1f} ms"
            )
        yield f"full by empty, median: {median(ratios):.2f}"


async def _create(url: str) -> None:
    ledger = await open_ledger(url)
    await ledger.close()


async def _reads(url: str) -> Sequence[tuple[str, float]]:
    """Return what the reads of callers and of the gateway itself take, in milliseconds."""
    ledger = await open_ledger(url, as_operator=True)
    try:
        return [(what, await _time(read)) for what, read in _reads_of(ledger)]
    finally:
        await ledger.close()


def _reads_of(ledger: Ledger) -> Iterator[tuple[str, Callable[[], Awaitable[object]]]]:
    scope, now = "caller:caller-1", ledger.now()
    rare = Selection(statuses=(DuplicationStatus.REJECTED,))
    newest = Selection()
    yield "a page of a caller", lambda: ledger.page(scope, newest, 20, None)
    old = (now - timedelta(days=3), "")
    yield "a page in the middle", lambda: ledger.page(scope, newest, 20, old)
    yield "a page whose filter matches nothing", lambda: ledger.page(scope, rare, 20, None)
    yield "the key of a new request", lambda: ledger.find(scope, "no-such-key")
    yield "what is not settled, for the metrics", ledger.unsettled
    yield "the accounts with checks that are due", lambda: ledger.due_accounts(now)

    async def claim_and_compete() -> None:
        until = now + timedelta(seconds=1)
        for due in await ledger.claim_due("past", now, 1, until):
            await ledger.competing(due)

    yield "one check that is due, with those that compete", claim_and_compete
    yield "one step of a caller's measurement", lambda: ledger.measure(scope, "8", 500)


async def _time(read: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(READS):
        began_at = time.perf_counter()
        await read()
        times.append(time.perf_counter() - began_at)
    return 1000 * median(times)


def replicate(folder: Path, most: int, in_flight: int, seconds: float) -> Iterator[str]:
    """Measure one, two and more gateways on one PostgreSQL, each with its share of the clients."""
    with ExitStack() as stack:
        url = stack.enter_context(processes.provider())
        ledger, database_server = stack.enter_context(database("postgres", folder))
        assert database_server is not None
        assert database_server.pid is not None
        servers: list[Server] = []
        for number in range(1, most + 1):
            place, core = folder / f"gateway-{number}", CORES[number % len(CORES)]
            gateway = processes.gateway(place, url, ledger, core=core)
            servers.append(stack.enter_context(gateway))
            pids = [database_server.pid, *(server.pid for server in servers)]
            share = max(1, in_flight // number)
            _load(servers, share, min(seconds, 1))
            before = [cpu_seconds(pid) for pid in pids]
            began_at = time.perf_counter()
            calls = _load(servers, share, seconds)
            took = time.perf_counter() - began_at
            spent = [cpu_seconds(pid) - earlier for pid, earlier in zip(pids, before, strict=True)]
            yield (
                f"{number} gateways: {calls / took:.0f} mutations/s, "
                f"{1e6 * sum(spent[1:]) / calls:.0f} us of the gateways for each and "
                f"{1e6 * spent[0] / calls:.0f} us of the database, "
                f"which use {sum(spent[1:]) / took:.2f} and {spent[0] / took:.2f} cores"
            )


def _load(servers: Sequence[Server], in_flight: int, seconds: float) -> int:
    """Return the number of calls of all servers together. Raises `Nonsense`."""

    def call(server: Server) -> int:
        result = asyncio.run(load(server.target("sonarly"), in_flight, seconds))
        if result.wrong:
            raise Nonsense(f"a gateway: {result.wrong.most_common(1)}")
        return len(result.times)

    with ThreadPoolExecutor(len(servers)) as threads:
        return sum(threads.map(call, servers))
