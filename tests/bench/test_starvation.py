"""How long calls of one account take while the provider of another account hangs."""

import asyncio
import json
import re
from contextlib import closing
from pathlib import Path
from time import monotonic

import httpx
import pytest

from campaign_gateway.connectors.account_settings import CALLS_AT_ONCE
from campaign_gateway.transport.rate_limit import QUEUE_LENGTH
from support.faulty_provider import AUDIENCE, faulty_provider
from support.figures import Figures
from support.gateways import Intent, ask, calling, configuration, intent, serving

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


def mutation(wanted: Intent) -> bytes:
    body = json.dumps(
        {
            "query": "mutation Copy($campaign: SonarlyCampaignInput!, $key: String!) {"
            " duplicateCampaign(input: { sonarly: $campaign }, idempotencyKey: $key)"
            " { status userErrors { retryAfterSeconds } } }",
            "variables": {
                "campaign": {
                    "account": wanted.account,
                    "accountGroupId": wanted.group,
                    "campaignId": f"none--{wanted.name}",
                    "audienceId": AUDIENCE,
                    "name": wanted.name,
                },
                "key": wanted.key,
            },
        }
    ).encode()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}"
    return b"POST /graphql HTTP/1.1\r\nhost: localhost\r\n%b\r\n\r\n%b" % (head.encode(), body)


async def keep_asking(port: int, first_responses: asyncio.Semaphore) -> None:
    """Act as a client that waits as long as the gateway says, and asks again.

    It uses a plain socket, because 500 clients of a library would take the CPU that is measured.
    """
    wanted = intent("none", "hung--0", "hangs")
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            writer.write(mutation(wanted))
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None, head
            body = await reader.readexactly(int(length[1]))
        first_responses.release()
        if refused := re.search(rb'"retryAfterSeconds":(\d+)', body):
            await asyncio.sleep(int(refused[1]))
        else:
            wanted = intent("none", "hung--0", "hangs")


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
            port = int(gateway.url.rpartition(":")[2])
            asking = [
                asyncio.create_task(keep_asking(port, responses)) for _ in range(OPEN_MUTATIONS)
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
