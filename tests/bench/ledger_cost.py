"""Measures the ledger: `python tests/bench/ledger_cost.py [--seconds N] [URL ...]`.

One call is a begin and a settle, as for one copy, in a closed loop of 1, 16 and 64 callers. Without
URLs, it measures a SQLite file below the working directory and a PostgreSQL server of its own.
"""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from campaign_gateway.ledger import Ledger, open_ledger
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.ledger.sqlite import SqliteEngine
from campaign_gateway.model import Campaign, CampaignStatus, Created, Intent

CALLERS = (1, 16, 64)

INPUT = (
    '{"account": null, "campaign_id": "507f1f77bcf86cd799439011", "name": "Spring, second wave",'
    ' "description": "For the second wave", "tag_names": ["promo", "spring"]}'
)


@dataclass(frozen=True)
class Cost:
    """Seconds for one call. `cpu` is of this process with all its threads."""

    engine: str
    callers: int
    calls: int
    per_second: float
    p50: float
    p99: float
    cpu: float
    server_cpu: float | None
    writes_per_commit: float | None

    def __str__(self) -> str:
        figures = [
            f"{self.per_second:.0f} calls/s",
            f"p50 {self.p50 * 1e3:.2f} ms",
            f"p99 {self.p99 * 1e3:.2f} ms",
            f"{self.cpu * 1e6:.0f} us CPU a call",
        ]
        if self.server_cpu is not None:
            figures.append(f"and {self.server_cpu * 1e6:.0f} us in the server")
        if self.writes_per_commit is not None:
            figures.append(f"{self.writes_per_commit:.1f} writes a COMMIT")
        return ", ".join(figures)


async def measure(url: str, callers: int, seconds: float) -> Cost:
    ledger = await open_ledger(url)
    try:
        batches = _batches_of(ledger)
        processes = _server_processes(url)
        server_before = _cpu_of(processes)
        cpu_before, started_at = time.process_time(), time.perf_counter()
        times = sorted(await _load(ledger, callers, started_at + seconds))
        cpu, took = time.process_time() - cpu_before, time.perf_counter() - started_at
        # Connections that the pool opened during the run are counted from their start.
        server_cpu = _cpu_of(_server_processes(url)) - server_before
    finally:
        await ledger.close()
    calls = len(times)
    return Cost(
        engine=url.partition(":")[0],
        callers=callers,
        calls=calls,
        per_second=calls / took,
        p50=times[calls // 2],
        p99=times[calls * 99 // 100],
        cpu=cpu / calls,
        server_cpu=server_cpu / calls if processes else None,
        writes_per_commit=sum(batches) / len(batches) if batches else None,
    )


async def _load(ledger: Ledger, callers: int, until: float) -> list[float]:
    times: list[float] = []

    async def call_repeatedly() -> None:
        while (began_at := time.perf_counter()) < until:
            intent = _intent()
            await ledger.begin(intent, datetime.now(UTC), None)
            now = datetime.now(UTC)
            copy = Campaign(new_id(), intent.requested_name, "", CampaignStatus.DRAFT, "draft")
            await ledger.settle(intent, Created(copy, "trace"), now, None)
            times.append(time.perf_counter() - began_at)

    await asyncio.gather(*(call_repeatedly() for _ in range(callers)))
    return times


def _intent() -> Intent:
    return Intent(
        id=new_id(),
        attempt_id=secrets.token_hex(16),
        scope="everyone",
        key=new_id(),
        fingerprint=secrets.token_hex(32),
        provider="braze",
        account="braze-eu",
        source_campaign_id="507f1f77bcf86cd799439011",
        requested_name=f"Spring, {secrets.token_hex(8)}",
        input=INPUT,
    )


def _batches_of(ledger: Ledger) -> list[int]:
    """Return a list that grows by the size of each batch that a SQLite ledger commits."""
    sizes: list[int] = []
    if isinstance(ledger.engine, SqliteEngine):
        writer = ledger.engine.writer
        commit: Callable[[Sequence[Any]], None] = writer._commit

        def count_and_commit(batch: Sequence[Any]) -> None:
            sizes.append(len(batch))
            commit(batch)

        # The writer has no hook for its batches.
        writer._commit = count_and_commit  # type: ignore[method-assign]
    return sizes


def _server_processes(url: str) -> list[Path]:
    """Return the folders in /proc of the server's processes, if it runs on this machine."""
    if url.startswith("sqlite:"):
        return []
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT pid FROM pg_stat_activity").fetchall()
    processes = [Path(f"/proc/{pid}") for (pid,) in rows]
    return [process for process in processes if _is_postgres(process)]


def _is_postgres(process: Path) -> bool:
    with suppress(OSError):
        return "postgres" in (process / "comm").read_text()
    return False


def _cpu_of(processes: list[Path]) -> float:
    ticks = 0
    for process in processes:
        with suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def _own_ledgers() -> Iterator[list[str]]:
    # The import path of a script is its own folder, and `support` is one folder up.
    sys.path.append(str(Path(__file__).parents[1]))
    from support.postgres import postgres_server  # noqa: PLC0415 - needs the new path

    with ExitStack() as opened:
        # The usual temporary folder may be in memory.
        folder = opened.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd()))
        server = opened.enter_context(postgres_server())
        yield [f"sqlite:///{folder}/ledger.db", server.create_database()]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what the ledger costs.")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("urls", nargs="*", metavar="URL")
    arguments = parser.parse_args()
    with ExitStack() as opened:
        urls = arguments.urls or opened.enter_context(_own_ledgers())
        for url in urls:
            for callers in CALLERS:
                cost = asyncio.run(measure(url, callers, arguments.seconds))
                print(f"{cost.engine}, {callers} callers: {cost}", flush=True)


if __name__ == "__main__":
    main()
