"""Three gateways at one PostgreSQL keep the limits of an account together."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest

from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    SHORT_INTERVALS,
    Gateway,
    History,
    Intent,
    ask,
    calling,
    configuration,
    intents,
    is_final,
    launch,
    listening,
    recorded,
)
from support.postgres import PostgresServer
from support.promises import check_promises
from support.waiting import until_async

# The minute and the second are short here. The gateways count longer windows than the test, so that
# a busy machine may deliver the calls of a window late.
WINDOWS = {"second": 2.5, "minute": 5.0}
MEASURED = {"second": 1.0, "minute": 3.5}


@dataclass
class Crowd:
    """Clients that send each intent to one of the gateways until its outcome is final."""

    http: httpx.AsyncClient
    provider: Provider
    gateways: Sequence[Gateway]
    histories: list[History] = field(default_factory=list)
    refused: int = 0

    async def copy(self, number: int, intent: Intent) -> None:
        history = History(intent)
        self.histories.append(history)
        while True:
            running = [gateway for gateway in self.gateways if gateway.is_running]
            response = await ask(self.http, running[number % len(running)].url, intent)
            if response is None:
                await asyncio.sleep(0.1)
                continue
            history.responses.append(response)
            if is_final(response, self.provider, intent):
                return
            self.refused += response.code == "RATE_LIMITED"
            await asyncio.sleep(response.retry_after or 1)

    async def copy_all(self, wanted: Sequence[Intent]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number, intent in enumerate(wanted):
                tasks.create_task(self.copy(number, intent))


def calls_at(provider: Provider) -> list[float]:
    """Return when the provider's socket has received each call."""
    # The provider's thread adds to them meanwhile.
    copies = [traffic.posts for traffic in list(provider.intents.values())]
    return sorted(at for times in [*copies, *list(provider.lists.values())] for at in times)


def most_in(times: Sequence[float], seconds: float) -> int:
    return max(sum(start <= time < start + seconds for time in times) for start in times)


@asynccontextmanager
async def three_gateways(
    config: Path, changes: dict[str, object] | None = None
) -> AsyncIterator[list[Gateway]]:
    gateways = [launch(config, changes) for _ in range(3)]
    try:
        yield [await listening(gateway) for gateway in gateways]
    finally:
        for gateway in gateways:
            gateway.kill()


async def test_three_gateways_keep_the_limits_of_one_account_together(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    limits = {"calls_per_minute": 12, "calls_per_second": 6}
    config = configuration(
        tmp_path, postgres_url, {"main": provider.url}, timeout=10, more_of={"main": limits}
    )
    constants = {
        "accounts.transport.turns.WINDOWS": WINDOWS,
        "accounts.transport.provider_limits.FIRST_PAUSE": 60,
    }
    wanted = intents(["none"] * 30)
    async with three_gateways(config, {"constants": constants}) as gateways:
        crowd = Crowd(http, provider, gateways)
        await crowd.copy_all(wanted)
        times = calls_at(provider)
        # When the provider refuses a call of one gateway, the others learn it too.
        await crowd.copy(0, *intents(["refusal-429"]))
        for gateway in gateways[1:]:
            await until_async(partial(is_paused, crowd, gateway))
        records = await recorded(postgres_url)
    check_promises(figures, provider, crowd.histories, records)
    assert len(times) == len(wanted)
    for name, seconds in MEASURED.items():
        assert most_in(times, seconds) <= limits[f"calls_per_{name}"]


async def is_paused(crowd: Crowd, gateway: Gateway) -> bool:
    """Return whether the gateway refuses a new copy for as long as the provider wants."""
    (wanted,) = intents(["none"])
    response = await ask(crowd.http, gateway.url, wanted)
    assert response is not None
    crowd.histories.append(History(wanted, [response]))
    return response.code == "RATE_LIMITED" and 20 < (response.retry_after or 0) <= 60


COPIES = 300
PER_MINUTE, PER_SECOND = 100, 10


async def copy_300(
    folder: Path,
    ledger: str,
    provider: Provider,
    figures: Figures,
    trouble: Callable[[Sequence[Gateway]], None] | None = None,
) -> None:
    limits = {"calls_per_minute": PER_MINUTE, "calls_per_second": PER_SECOND}
    config = configuration(
        folder, ledger, {"main": provider.url}, timeout=10, more_of={"main": limits}
    )
    wanted, began = intents(["none"] * COPIES), monotonic()
    async with calling() as http, three_gateways(config, {"timing": SHORT_INTERVALS}) as gateways:
        crowd = Crowd(http, provider, gateways)
        causing = asyncio.create_task(
            asyncio.to_thread(trouble or (lambda _gateways: None), gateways)
        )
        async with asyncio.timeout(900):
            await crowd.copy_all(wanted)
        await causing
        records = await recorded(ledger)
    check_promises(figures, provider, crowd.histories, records)
    times = calls_at(provider)
    kind = "with a kill and a restart of the database" if trouble else "undisturbed"
    figures.measured[f"300 copies through three gateways, {kind}"] = (
        f"{len(times)} calls, most in 60 s {most_in(times, 60)}, most in 1 s {most_in(times, 1)}, "
        f"{crowd.refused} times RATE_LIMITED, {monotonic() - began:.0f} s"
    )
    assert {records[intent.key].status for intent in wanted} == {"CREATED"}
    assert sum(len(traffic.copies) for traffic in provider.intents.values()) == COPIES
    assert most_in(times, 60) <= PER_MINUTE
    assert most_in(times, 1) <= PER_SECOND


@pytest.mark.long
async def test_300_copies_at_once_keep_100_a_minute_and_10_a_second(
    tmp_path: Path, postgres_url: str, provider: Provider, figures: Figures
) -> None:
    await copy_300(tmp_path, postgres_url, provider, figures)


@pytest.mark.long
async def test_300_copies_keep_the_limits_over_a_kill_and_a_restart_of_the_database(
    tmp_path: Path, own_postgres: PostgresServer, provider: Provider, figures: Figures
) -> None:
    ledger = own_postgres.create_database()

    def kill_and_restart(gateways: Sequence[Gateway]) -> None:
        _until_calls(provider, 30)
        gateways[0].kill()
        _until_calls(provider, 60)
        own_postgres.kill()
        own_postgres.start()
        _until_calls(provider, 130)
        own_postgres.kill()
        own_postgres.start()
        _until_calls(provider, 160)
        # It stands still for longer than its lease.
        gateways[1].signal(signal.SIGSTOP)
        sleep(30)
        _until_calls(provider, 200)
        gateways[1].signal(signal.SIGCONT)

    await copy_300(tmp_path, ledger, provider, figures, kill_and_restart)


def _until_calls(provider: Provider, number: int) -> None:
    while len(calls_at(provider)) < number:
        sleep(0.05)
