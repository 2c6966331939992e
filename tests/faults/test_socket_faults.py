"""Everything that can go wrong on a socket, many times over, through real gateways."""

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
    all_insist,
    always,
    configuration,
    intents,
    launch,
    listening,
    recorded,
)
from support.judge import hold

# An account has so many calls at once, and several keep its clients from queueing.
ACCOUNTS = ("one", "two", "three", "four", "five", "six")
OF_EACH = 10
AT_RANDOM = 1500


@dataclass
class Gateways:
    """Some, with a ledger each, because reading for what is UNKNOWN has a measure in each."""

    gateways: Sequence[Gateway]
    ledgers: Sequence[str]
    provider: Provider
    http: httpx.AsyncClient

    async def put_through(
        self, wanted: Sequence[Intent], *, clients: int = 400, seconds: float = 90
    ) -> tuple[list[History], dict[str, Duplication]]:
        """Clients insist on each at one of them; gives what they heard, and the records."""
        number = len(self.gateways)
        heard = await asyncio.gather(
            *(
                all_insist(
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
        for each in self.ledgers:
            records |= await recorded(each)
        return list(chain(*heard)), records


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
    ledgers = [f"sqlite:///{folder}/ledger-{each}.db" for each in range(number)]
    gateways = [launch(configuration(folder, each, accounts, timeout=2)) for each in ledgers]
    try:
        for each in gateways:
            await listening(each)
        yield Gateways(gateways, ledgers, provider, http)
    finally:
        for each in gateways:
            each.kill()


@pytest.fixture
async def pair(
    tmp_path: Path, provider: Provider, http: httpx.AsyncClient
) -> AsyncIterator[Gateways]:
    async with some(2, tmp_path, provider, http) as found:
        yield found


@pytest.fixture
async def four(
    tmp_path: Path, provider: Provider, http: httpx.AsyncClient
) -> AsyncIterator[Gateways]:
    async with some(4, tmp_path, provider, http) as found:
        yield found


async def test_every_fault_is_told_as_it_is_and_settled_by_reading_where_there_is_a_copy(
    pair: Gateways, figures: Figures
) -> None:
    wanted = intents([name for name in FAULTS for _ in range(OF_EACH)], ACCOUNTS)
    histories, records = await pair.put_through(wanted)
    hold(figures, pair.provider, histories, records)
    for each in histories:
        fault, seen = FAULTS[each.intent.fault], pair.provider.intents[each.intent.name]
        assert (len(seen.posts), len(seen.copies)) == (1, fault.copies), each
        assert each.told[0].status == fault.first, each
        assert each.told[-1].status == fault.last, each
        record = records[each.intent.name]
        assert record.status == fault.last, each
        if fault.first in {"UNKNOWN", "ACCEPTED"} and fault.last == "CREATED":
            assert record.evidence is Evidence.INFERRED, each


async def test_a_list_that_fails_at_first_only_delays_what_is_found(
    pair: Gateways, figures: Figures
) -> None:
    wanted = [
        each
        for fault in LIST_FAULTS
        for each in intents(["fin-after-copy"] * 10, ACCOUNTS, group=fault)
    ]
    histories, records = await pair.put_through(wanted)
    hold(figures, pair.provider, histories, records)
    figures.faults.update(each.group.partition("--")[0] for each in wanted)
    assert {each.told[0].status for each in histories} == {"UNKNOWN"}
    assert {each.told[-1].status for each in histories} == {"CREATED"}
    assert all(each.checks > 0 for each in records.values()), "the first list was no good"


async def test_nothing_is_recorded_where_no_connection_comes_about(
    pair: Gateways, figures: Figures
) -> None:
    histories, records = await pair.put_through(intents(["none"] * 20, ("refusing",)), seconds=3)
    hold(figures, pair.provider, histories, records)
    figures.faults["connection refused"] += sum(len(each.told) for each in histories)
    assert records == {}
    for told in (told for each in histories for told in each.told):
        assert (told.status, told.code) == ("NOT_SENT", "PROVIDER_UNAVAILABLE")
        assert told.retry == "SAME_KEY"


@pytest.mark.parametrize("account", ["closing", "resetting"])
async def test_a_connection_that_ends_as_soon_as_it_is_there_is_never_tried_again_with_a_record(
    pair: Gateways, figures: Figures, account: str
) -> None:
    histories, records = await pair.put_through(intents(["none"] * 20, (account,)), seconds=3)
    hold(figures, pair.provider, histories, records, kind=f"connection {account}")
    figures.faults[f"connection {account}"] += len(histories)
    assert {each.status for each in records.values()} <= {DuplicationStatus.UNKNOWN}
    for each in histories:
        # Whether the end or the connection comes first is the machine's choice.
        assert {told.status for told in each.told} <= {"UNKNOWN", "NOT_SENT"}


async def test_random_sequences_of_faults_break_no_promise(
    four: Gateways, figures: Figures
) -> None:
    await _at_random(four, figures, AT_RANDOM, seed=20_261)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
async def test_many_more_random_sequences_of_faults_break_no_promise(
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
    hold(figures, four.provider, histories, records)
    for each in histories:
        # So many at once can outlast the gateway's patience, before or after the request is sent.
        may_be = {each.intent.expected}
        if not four.provider.has_copy(each.intent.name):
            may_be.add("UNKNOWN")
        if not four.provider.intents[each.intent.name].posts:
            may_be.add("REJECTED")
        assert records[each.intent.name].status.value in may_be, each
