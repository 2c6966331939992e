"""A gateway that is stopped for longer than a call may take, and then goes on."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from campaign_gateway.model import Evidence
from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    History,
    ask,
    configuration,
    intents,
    recorded,
    serving,
)
from support.judge import hold

# Of a call to the provider, in seconds.
TIMEOUT = 1.0


@pytest.mark.parametrize(("fault", "status"), [("none", "CREATED"), ("refusal-409", "REJECTED")])
async def test_the_answer_that_came_while_a_gateway_stood_still_is_the_outcome(
    tmp_path: Path,
    ledger_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    fault: str,
    status: str,
) -> None:
    (wanted,) = intents([fault])
    config = configuration(tmp_path, ledger_url, {"main": provider.url}, timeout=TIMEOUT)
    async with serving(config) as gateway:
        # It stands still before the provider answers, and the answer lies in its socket.
        provider.on_whole[wanted.name] = lambda: gateway.signal(signal.SIGSTOP)
        asking = asyncio.create_task(ask(http, gateway.url, wanted))
        async with asyncio.timeout(30):
            while not (provider.intents[wanted.name].whole and provider.is_done_with(wanted.name)):
                await asyncio.sleep(0.05)
        await asyncio.sleep(2 * TIMEOUT)
        gateway.signal(signal.SIGCONT)
        told = await asking
        assert told is not None, gateway.said()
        records = await recorded(ledger_url)
    hold(figures, provider, [History(wanted, [told])], records, kind="stopped beyond the deadline")
    figures.faults["stopped beyond the deadline"] += 1
    assert (told.status, told.replayed) == (status, False)
    assert records[wanted.name].evidence is Evidence.RESPONSE
    assert len(provider.intents[wanted.name].posts) == 1
