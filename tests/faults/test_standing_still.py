"""A gateway that is paused for longer than the timeout of a call, and then resumes."""

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
from support.promises import check_promises

# The timeout of a call to the provider, in seconds.
TIMEOUT = 1.0


@pytest.mark.parametrize(("fault", "status"), [("none", "CREATED"), ("refusal-409", "REJECTED")])
async def test_response_that_arrived_during_a_pause_is_the_outcome(
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
        # It is paused before the provider responds, so the response waits in its socket.
        provider.on_whole[wanted.name] = lambda: gateway.signal(signal.SIGSTOP)
        asking = asyncio.create_task(ask(http, gateway.url, wanted))
        async with asyncio.timeout(30):
            while not (provider.intents[wanted.name].whole and provider.is_done_with(wanted.name)):
                await asyncio.sleep(0.05)
        await asyncio.sleep(2 * TIMEOUT)
        gateway.signal(signal.SIGCONT)
        response = await asking
        assert response is not None, gateway.output()
        records = await recorded(ledger_url)
    check_promises(
        figures,
        provider,
        [History(wanted, [response])],
        records,
        kind="stopped beyond the deadline",
    )
    figures.faults["stopped beyond the deadline"] += 1
    assert (response.status, response.replayed) == (status, False)
    assert records[wanted.name].evidence is Evidence.RESPONSE
    assert len(provider.intents[wanted.name].posts) == 1
