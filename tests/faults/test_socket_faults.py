"""Every fault of a socket, many times, through real gateways."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import httpx
import pytest

from campaign_gateway.model import Duplication, DuplicationStatus, Evidence
from support.faulty_provider import FAULTS, LIST_FAULTS, Provider
from support.figures import Figures
from support.gateways import (
    Gateway,
    History,
    Intent,
    always,
    configuration,
    intents,
    launch,
    listening,
    recorded,
    retry_all_until_final,
)
from support.promises import check_promises

# Each account limits its concurrent calls. Several accounts avoid a queue.
ACCOUNTS = ("one", "two", "three", "four", "five", "six")
OF_EACH = 10
AT_RANDOM = 1350


@dataclass
class Gateways:
    """Gateways with a ledger each, because each ledger limits its checks."""

    gateways: Sequence[Gateway]
    ledgers: Sequence[str]
    provider: Provider
    http: httpx.AsyncClient

    async def put_through(
        self, wanted: Sequence[Intent], *, clients: int = 400, seconds: float = 90
    ) -> tuple[list[History], dict[str, Duplication]]:
        """Repeat each intent at one of the gateways. Return the histories and the records."""
        number = len(self.gateways)
        histories_by_gateway = await asyncio.gather(
            *(
                retry_all_until_final(
                    self.http,
                    always(gateway.url),
                    self.provider,
                    wanted[place::number],
                    clients=clients,
                    seconds=seconds,
                )
                for place, gateway in enumerate(self.gateways)
            )
        )
        records: dict[str, Duplication] = {}
        for ledger in self.ledgers:
            records |= await recorded(ledger)
        return list(chain(*histories_by_gateway)), records


@asynccontextmanager
async def some(
    number: int, folder: Path, provider: Provider, http: httpx.AsyncClient
) -> AsyncIterator[Gateways]:
    accounts = {
        **dict.fromkeys(ACCOUNTS, provider.url),
        "refusing": provider.refusing_url,
        "closing": provider.closing_url,
        "resetting": provider.resetting_url,
    }
    ledgers = [f"sqlite:///{folder}/ledger-{place}.db" for place in range(number)]
    # Shorter than the head of a dripping response takes.
    gateways = [launch(configuration(folder, ledger, accounts, timeout=6)) for ledger in ledgers]
    try:
        for gateway in gateways:
            await listening(gateway)
        yield Gateways(gateways, ledgers, provider, http)
    finally:
        for gateway in gateways:
            gateway.kill()


@pytest.fixture
async def pair(
    tmp_path: Path, provider: Provider, http: httpx.AsyncClient
) -> AsyncIterator[Gateways]:
    async with some(2, tmp_path, provider, http) as gateways:
        yield gateways


@pytest.fixture
async def four(
    tmp_path: Path, provider: Provider, http: httpx.AsyncClient
) -> AsyncIterator[Gateways]:
    async with some(4, tmp_path, provider, http) as gateways:
        yield gateways


async def test_every_socket_fault_gets_an_honest_response_and_its_copy_is_found(
    pair: Gateways, figures: Figures
) -> None:
    wanted = intents([name for name in FAULTS for _ in range(OF_EACH)], ACCOUNTS)
    histories, records = await pair.put_through(wanted)
    check_promises(figures, pair.provider, histories, records)
    for history in histories:
        fault, seen = FAULTS[history.intent.fault], pair.provider.intents[history.intent.name]
        assert (len(seen.posts), len(seen.copies)) == (1, fault.copies), history
        # At the deadline of a hanging provider, a busy gateway may not have its record yet.
        late = {"IN_PROGRESS"} if history.intent.fault.startswith("hang") else set()
        # It may also get the whole head of a dripping response before it sees that time is over.
        if history.intent.fault == "response-dripping":
            late = {"ACCEPTED"}
        assert history.responses[0].status in {fault.first, *late}, history
        assert history.responses[-1].status == fault.last, history
        record = records[history.intent.name]
        assert record.status == fault.last, history
        if fault.first in {"UNKNOWN", "ACCEPTED"} and fault.last == "CREATED":
            assert record.evidence is Evidence.INFERRED, history


async def test_failing_campaign_list_only_delays_the_search(
    pair: Gateways, figures: Figures
) -> None:
    wanted = [
        intent
        for fault in LIST_FAULTS
        for intent in intents(["fin-after-copy"] * 10, ACCOUNTS, group=fault)
    ]
    histories, records = await pair.put_through(wanted)
    check_promises(figures, pair.provider, histories, records)
    figures.faults.update(intent.group.partition("--")[0] for intent in wanted)
    assert {history.responses[0].status for history in histories} == {"UNKNOWN"}
    assert {history.responses[-1].status for history in histories} == {"CREATED"}
    assert all(record.checks > 0 for record in records.values()), "the first list was no good"


async def test_refused_connection_leaves_no_record(pair: Gateways, figures: Figures) -> None:
    histories, records = await pair.put_through(intents(["none"] * 20, ("refusing",)), seconds=3)
    check_promises(figures, pair.provider, histories, records)
    figures.faults["connection refused"] += sum(len(history.responses) for history in histories)
    assert records == {}
    for response in (response for history in histories for response in history.responses):
        assert (response.status, response.code) == ("NOT_SENT", "PROVIDER_UNAVAILABLE")
        assert response.retry == "SAME_KEY"


@pytest.mark.parametrize("account", ["closing", "resetting"])
async def test_connection_closed_on_arrival_is_not_retried_once_recorded(
    pair: Gateways, figures: Figures, account: str
) -> None:
    histories, records = await pair.put_through(intents(["none"] * 20, (account,)), seconds=3)
    check_promises(figures, pair.provider, histories, records, kind=f"connection {account}")
    figures.faults[f"connection {account}"] += len(histories)
    assert {record.status for record in records.values()} <= {DuplicationStatus.UNKNOWN}
    for history in histories:
        # The gateway may see the connection or its end first.
        assert {response.status for response in history.responses} <= {"UNKNOWN", "NOT_SENT"}


async def test_random_faults_break_no_promise(four: Gateways, figures: Figures) -> None:
    await _at_random(four, figures, AT_RANDOM, seed=20_261)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
async def test_many_more_random_faults_break_no_promise(
    four: Gateways, figures: Figures, seed: int
) -> None:
    await _at_random(four, figures, 4_000, seed)


async def _at_random(four: Gateways, figures: Figures, number: int, seed: int) -> None:
    choice = random.Random(seed)
    faults = choice.choices(list(FAULTS), k=number)
    histories, records = await four.put_through(
        [
            *intents(faults[: number // 2], ACCOUNTS),
            *intents(faults[number // 2 :], ACCOUNTS, group="list-500"),
        ],
        clients=150,
        seconds=240,
    )
    check_promises(figures, four.provider, histories, records)
    for history in histories:
        # So many faults in parallel can exceed the gateway's timeouts, before or after the send.
        may_be = {history.intent.expected}
        if not four.provider.has_copy(history.intent.name):
            may_be.add("UNKNOWN")
        if not four.provider.intents[history.intent.name].posts:
            may_be.add("REJECTED")
        assert records[history.intent.name].status.value in may_be, history
