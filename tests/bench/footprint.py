"""What a gateway needs before and between calls: its start, its memory, and calls that wait."""

import asyncio
import http.client
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import processes
from bench.processes import memory_of
from bench.wire import Load, load

IDLE_SECONDS = 1.0


@dataclass(frozen=True)
class Footprint:
    """`start` is the time until the first response, in seconds. The memory is in MB."""

    start: float
    idle: float
    waiting: float
    calls: int

    def __str__(self) -> str:
        return (
            f"first response after {self.start:.2f} s, {self.idle:.1f} MB idle, "
            f"{self.waiting - self.idle:+.1f} MB while {self.calls} calls wait for the provider"
        )


def measure(folder: Path, starts: int, calls: int, seconds: float) -> Footprint:
    """Start a gateway several times, and let calls of the last one wait for so many seconds."""
    took = []
    with processes.provider(seconds) as url:
        for number in range(starts):
            place = folder / f"start-{number}"
            began_at = time.perf_counter()
            with processes.gateway(place, url, f"sqlite:///{place}/ledger.db") as server:
                _first_response(server.port)
                took.append(time.perf_counter() - began_at)
                if number == starts - 1:
                    time.sleep(IDLE_SECONDS)
                    idle = memory_of(server.pid)
                    waiting, result = asyncio.run(_most_memory(server, calls))
    assert not result.wrong, result.wrong.most_common(1)
    return Footprint(median(took), idle, waiting, calls)


def _first_response(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b"ok\n"
    connection.close()


async def _most_memory(server: processes.Server, calls: int) -> tuple[float, Load]:
    """Return the most memory that the gateway has while each client sends one call."""
    loading = asyncio.create_task(load(server.target("sonarly"), calls, 0))
    most = 0.0
    while not loading.done():
        most = max(most, memory_of(server.pid))
        await asyncio.sleep(0.05)
    return most, await loading
