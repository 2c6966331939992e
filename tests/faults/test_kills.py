"""Gateways killed with SIGKILL at every step of a call, and at random under load."""

import asyncio
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import monotonic

import httpx
import pytest

from campaign_gateway.model import Duplication, DuplicationStatus
from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    SHORT_INTERVALS,
    Gateway,
    History,
    ask,
    configuration,
    intents,
    launch,
    listening,
    recorded,
    retry_all_until_final,
    retry_until_final,
    serving,
)
from support.postgres import PostgresServer
from support.promises import check_promises

# How many scenarios run at the same time. Each starts two gateways, which needs CPU.
AT_ONCE = 6

ENGINES = ("sqlite", "postgres")

# Of a call to the provider, in seconds. No fault here takes long, so it is for busy machines only.
TIMEOUT = 10

# For each step: the provider's fault, and a result that must occur, because the intent that the
# gateway died with can only end so.
STEPS: Mapping[str, tuple[str, str]] = {
    "before-begin": ("none", "CREATED by RESPONSE"),
    "after-begin": ("none", "UNKNOWN"),
    "after-headers": ("none", "UNKNOWN"),
    "after-request": ("slow", "CREATED by INFERRED"),
    "the provider has the request": ("slow", "CREATED by INFERRED"),
    "the provider has made the copy": ("slow", "CREATED by INFERRED"),
    "after-status": ("none", "CREATED by INFERRED"),
    "after-response": ("none", "CREATED by INFERRED"),
    "before-settle": ("none", "CREATED by INFERRED"),
    "after-settle": ("none", "CREATED by RESPONSE"),
    "before-reply": ("none", "CREATED by RESPONSE"),
    "before-evidence-is-settled": ("fin-after-copy", "CREATED by INFERRED"),
    "after-evidence-is-settled": ("fin-after-copy", "CREATED by INFERRED"),
}
INTENTS_A_KILL = 8

# The faults of the requests while gateways are killed at random.
LOAD = [
    *["none"] * 5,
    *["slow"] * 4,
    "fin-after-copy",
    "rst-before-copy",
    "status-503-after-copy",
    "refusal-409",
    "copied-late",
    "body-without-id",
]
CLIENTS = 12


@dataclass
class Ledgers:
    """Makes new ledgers of either engine."""

    folder: Path
    new_database: Callable[[], str]
    made: int = 0

    def new(self, engine: str) -> str:
        self.made += 1
        if engine == "postgres":
            return self.new_database()
        return f"sqlite:///{self.folder}/ledger-{self.made}.db"


@pytest.fixture
def ledgers(tmp_path: Path, postgres: PostgresServer) -> Ledgers:
    return Ledgers(tmp_path, postgres.create_ledger)


@dataclass
class Lives:
    """The gateways of one ledger, one after the other."""

    config: Path
    gateway: Gateway | None = None

    def where(self) -> str:
        return self.gateway.url if self.gateway and self.gateway.is_running else ""

    async def begin(self, changes: Mapping[str, object] | None) -> Gateway:
        self.gateway = launch(self.config, changes)
        return await listening(self.gateway)

    def end(self) -> None:
        if self.gateway is not None:
            self.gateway.kill()


def all_is_known(
    provider: Provider, histories: Sequence[History], records: Mapping[str, Duplication]
) -> None:
    """Assert that every copy was found, and that only intents without a copy are unsettled."""
    for name in {history.intent.name for history in histories}:
        is_found = records[name].status is DuplicationStatus.CREATED
        assert is_found == provider.has_copy(name), (name, records[name])


async def die_once(
    engine: str,
    step: str,
    at: int,
    ledgers: Ledgers,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    turn: asyncio.Semaphore,
) -> None:
    """Kill a gateway at the step, start another with its ledger, and repeat the requests."""
    fault, typical = STEPS[step]
    wanted = intents(
        [fault] * INTENTS_A_KILL, group=f"plain--{engine}-{step.replace(' ', '-')}-{at}"
    )
    async with turn:
        ledger = ledgers.new(engine)
        lives = Lives(
            configuration(ledgers.folder, ledger, {"main": provider.url}, timeout=TIMEOUT)
        )
        by_provider = step.startswith("the provider")
        death = {} if by_provider else {"at": step, "after": at, "signal": "SIGKILL"}
        dying = await lives.begin({"timing": SHORT_INTERVALS, **death})
        if by_provider:
            moments = provider.on_copy if step.endswith("the copy") else provider.on_whole
            moments.update({intent.name: dying.process.kill for intent in wanted[at:]})
        asking = asyncio.create_task(
            retry_all_until_final(http, lives.where, provider, wanted, seconds=90)
        )
        try:
            assert await dying.ended() == -signal.SIGKILL, f"{step}: {dying.output()}"
            await lives.begin({"timing": SHORT_INTERVALS})
            histories = await asking
        finally:
            asking.cancel()
            lives.end()
    records = await recorded(ledger)
    check_promises(figures, provider, histories, records, kind=f"killed: {step}")
    figures.faults[f"killed: {step}"] += 1
    all_is_known(provider, histories, records)
    ends = {
        f"{record.status} by {record.evidence}" if record.evidence else str(record.status)
        for record in records.values()
    }
    assert typical in ends, f"{step}: {ends}"


async def test_gateway_killed_at_any_step_leaves_one_copy_and_its_outcome(
    ledgers: Ledgers, provider: Provider, http: httpx.AsyncClient, figures: Figures
) -> None:
    turn = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        for engine, step in product(ENGINES, STEPS):
            tasks.create_task(die_once(engine, step, 0, ledgers, provider, http, figures, turn))


@pytest.mark.long
async def test_gateways_killed_twenty_times_at_every_step_leave_one_copy_each(
    ledgers: Ledgers, provider: Provider, http: httpx.AsyncClient, figures: Figures
) -> None:
    turn = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        for engine, step, number in product(ENGINES, STEPS, range(20)):
            at = number % (INTENTS_A_KILL - 2)
            tasks.create_task(die_once(engine, step, at, ledgers, provider, http, figures, turn))


@pytest.mark.parametrize("engine", ENGINES)
async def test_copy_is_found_by_search_after_a_kill_between_request_and_response(
    ledgers: Ledgers, provider: Provider, http: httpx.AsyncClient, figures: Figures, engine: str
) -> None:
    """The product's own command runs here, without any change."""
    ledger, (wanted,) = ledgers.new(engine), intents(["slow"])
    config = configuration(ledgers.folder, ledger, {"main": provider.url}, timeout=TIMEOUT)
    async with serving(config, environment={}) as dying:
        provider.on_copy[wanted.name] = dying.process.kill
        assert await ask(http, dying.url, wanted) is None
        assert await dying.ended() == -signal.SIGKILL
    async with serving(config, environment={}) as living:
        started = monotonic()
        history = await retry_until_final(http, lambda: living.url, provider, History(wanted))
        took = monotonic() - started
        records = await recorded(ledger)
    check_promises(figures, provider, [history], records, kind="killed, nothing changed")
    figures.faults["killed, nothing changed"] += 1
    figures.measured[f"outcome known again after kill -9, {engine}"] = f"{took:.1f} s"
    assert history.responses[0].status in {"UNKNOWN", "CREATED"}
    assert history.responses[-1].status == "CREATED"
    assert history.responses[-1].evidence == "INFERRED"
    assert len(provider.intents[wanted.name].posts) == 1


async def test_gateways_killed_at_random_under_load_break_no_promise(
    ledgers: Ledgers, provider: Provider, http: httpx.AsyncClient, figures: Figures
) -> None:
    # Several ledgers at the same time: one gateway starts while another one works.
    async with asyncio.TaskGroup() as tasks:
        for seed, engine in enumerate(ENGINES * 2):
            tasks.create_task(kill_at_random(12, seed, engine, ledgers, provider, http, figures))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
async def test_hundreds_of_random_kills_under_load_break_no_promise(
    ledgers: Ledgers, provider: Provider, http: httpx.AsyncClient, figures: Figures, seed: int
) -> None:
    async with asyncio.TaskGroup() as tasks:
        for lane, engine in enumerate(ENGINES * 2):
            number = 100 + 4 * seed + lane
            tasks.create_task(kill_at_random(25, number, engine, ledgers, provider, http, figures))


async def kill_at_random(
    kills: int,
    seed: int,
    engine: str,
    ledgers: Ledgers,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    choice, ledger, enough = random.Random(seed), ledgers.new(engine), asyncio.Event()
    accounts = ("one", "two")
    config = configuration(
        ledgers.folder, ledger, dict.fromkeys(accounts, provider.url), timeout=TIMEOUT
    )
    lives, histories = Lives(config), []

    async def work() -> None:
        while not enough.is_set():
            (wanted,) = intents([choice.choice(LOAD)], [choice.choice(accounts)], group=f"k-{seed}")
            histories.append(History(wanted))
            await retry_until_final(http, lives.where, provider, histories[-1], seconds=120)
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            tasks.create_task(work())
        try:
            for number in range(kills):
                gateway = await lives.begin({"timing": SHORT_INTERVALS})
                await asyncio.sleep(choice.uniform(0, 1))
                gateway.kill()
                figures.faults["killed at random"] += 1
                if number % 5 == 4:
                    # This one dies before it listens.
                    lives.gateway = launch(config, {"timing": SHORT_INTERVALS})
                    await asyncio.sleep(choice.uniform(0, 0.2))
                    lives.end()
                    figures.faults["killed while it starts"] += 1
            await lives.begin({"timing": SHORT_INTERVALS})
        finally:
            enough.set()
    records = await recorded(ledger)
    lives.end()
    check_promises(figures, provider, histories, records, kind="killed at random")
    all_is_known(provider, histories, records)
