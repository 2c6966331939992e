"""How long calls of one account take while the provider of another account hangs."""

import asyncio
from pathlib import Path
from time import monotonic

import httpx
import pytest

from campaign_gateway.accounts.transport.rate_limit import QUEUE_LENGTH
from campaign_gateway.connectors.account_settings import CALLS_AT_ONCE
from support.faulty_provider import faulty_provider
from support.figures import Figures
from support.gateways import ask, calling, configuration, intent, serving
from support.plain_clients import ask_plainly

OPEN_MUTATIONS = 500
CALLERS = 4


def percentile(seconds: list[float], part: float) -> float:
    return sorted(seconds)[int(part * len(seconds))]


async def measure(http: httpx.AsyncClient, url: str, seconds: float) -> list[float]:
    """Copy in a few callers, one call after the other, and return how long each took."""
    took: list[float] = []
    ends_at = monotonic() + seconds

    async def work() -> None:
        while monotonic() < ends_at:
            response = await ask(http, url, intent("none", f"group--{len(took) // 50}", "works"))
            assert response is not None
            assert response.status == "CREATED"
            took.append(response.received_at - response.sent_at)

    await asyncio.gather(*(work() for _ in range(CALLERS)))
    return took


async def keep_asking(url: str, responses: asyncio.Semaphore) -> None:
    """Act as a client that waits as long as the gateway says, and asks again."""
    wanted = intent("none", "hung--0", "hangs")
    while True:
        response = await ask_plainly(url, wanted)
        responses.release()
        if response.retry_after is None:
            wanted = intent("none", "hung--0", "hangs")
        else:
            await asyncio.sleep(response.retry_after)


@pytest.mark.parametrize("seconds", [1.0, pytest.param(20.0, marks=pytest.mark.long)])
async def test_calls_of_one_account_while_another_hangs_are_measured(
    tmp_path: Path, figures: Figures, seconds: float
) -> None:
    with faulty_provider() as provider:
        places = {"hangs": provider.hanging_url, "works": provider.url}
        config = configuration(tmp_path, f"sqlite:///{tmp_path}/ledger.db", places, timeout=20)
        async with serving(config) as gateway, calling() as http:
            await measure(http, gateway.url, seconds / 4)
            before = await measure(http, gateway.url, seconds)
            responses = asyncio.Semaphore(0)
            asking = [
                asyncio.create_task(keep_asking(gateway.url, responses))
                for _ in range(OPEN_MUTATIONS)
            ]
            # The others are in the queue, or at the provider.
            for _ in range(OPEN_MUTATIONS - QUEUE_LENGTH - CALLS_AT_ONCE):
                await responses.acquire()
            during = await measure(http, gateway.url, seconds)
            assert not any(task.done() for task in asking)
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
            after = await measure(http, gateway.url, seconds)
    alone = before + after
    figures.measured[f"copies in {seconds:.0f} s while another account hangs"] = ", ".join(
        f"p{100 * part:.0f} {1000 * percentile(alone, part):.1f} ms alone and "
        f"{1000 * percentile(during, part):.1f} ms"
        for part in (0.5, 0.99)
    )
    # The bound is for a fault, such as a common queue. The figure is for the comparison.
    assert percentile(during, 0.5) < 5 * percentile(alone, 0.5) + 0.5
