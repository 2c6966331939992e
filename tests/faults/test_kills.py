"""Gateways that die by `kill -9` at every step of a call, and at any moment under load."""

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
    SOON,
    Gateway,
    History,
    all_insist,
    ask,
    configuration,
    insist,
    intents,
    launch,
    listening,
    recorded,
    serving,
)
from support.judge import hold
from support.postgres import PostgresServer

# Gateways, whose start is work for a processor: there may be few of those.
AT_ONCE = 6

ENGINES = ("sqlite", "postgres")

# What the provider is to do, and what must be among the ends, because the intent that the gateway
# died over has no other.
STEPS: Mapping[str, tuple[str, str]] = {
    "before-begin": ("none", "CREATED by RESPONSE"),
    "after-begin": ("none", "UNKNOWN"),
    "after-headers": ("none", "UNKNOWN"),
    "after-request": ("slow", "CREATED by INFERRED"),
    "the provider has the request": ("slow", "CREATED by INFERRED"),
    "the provider has made the copy": ("slow", "CREATED by INFERRED"),
    "after-status": ("none", "CREATED by INFERRED"),
    "after-answer": ("none", "CREATED by INFERRED"),
    "before-settle": ("none", "CREATED by INFERRED"),
    "after-settle": ("none", "CREATED by RESPONSE"),
    "before-reply": ("none", "CREATED by RESPONSE"),
    "before-reading-is-settled": ("fin-after-copy", "CREATED by INFERRED"),
    "after-reading-is-settled": ("fin-after-copy", "CREATED by INFERRED"),
}
INTENTS_A_KILL = 8

# What is asked for while gateways are killed at random.
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
CLIENTS = 20


@dataclass
class Ledgers:
    """New ones of either engine."""

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
    return Ledgers(tmp_path, postgres.create_database)


@dataclass
class Lives:
    """The gateways of one ledger, one after the other."""

    config: Path
    gateway: Gateway | None = None

    def where(self) -> str:
        return self.gateway.url if self.gateway and self.gateway.is_running else ""

    async def begin(self, tricks: Mapping[str, object] | None) -> Gateway:
        self.gateway = launch(self.config, tricks)
        return await listening(self.gateway)

    def end(self) -> None:
        if self.gateway is not None:
            self.gateway.kill()


def all_is_known(
    provider: Provider, histories: Sequence[History], records: Mapping[str, Duplication]
) -> None:
    """Every copy has been found, and nothing is left open but what was never made."""
    for name in {each.intent.name for each in histories}:
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
    """Kill a gateway at the step, start another at its ledger, and ask with the same keys."""
    fault, typical = STEPS[step]
    wanted = intents(
        [fault] * INTENTS_A_KILL, group=f"plain--{engine}-{step.replace(' ', '-')}-{at}"
    )
    async with turn:
        ledger = ledgers.new(engine)
        lives = Lives(configuration(ledgers.folder, ledger, {"main": provider.url}))
        by_provider = step.startswith("the provider")
        death = {} if by_provider else {"at": step, "after": at, "signal": "SIGKILL"}
        dying = await lives.begin({"constants": SOON, **death})
        if by_provider:
            moments = provider.on_copy if step.endswith("the copy") else provider.on_whole
            moments.update({each.name: dying.process.kill for each in wanted[at:]})
        asking = asyncio.create_task(all_insist(http, lives.where, provider, wanted, seconds=90))
        try:
            assert await dying.ended() == -signal.SIGKILL, f"{step}: {dying.said()}"
            await lives.begin({"constants": SOON})
            histories = await asking
        finally:
            asking.cancel()
            lives.end()
    records = await recorded(ledger)
    hold(figures, provider, histories, records, kind=f"killed: {step}")
    figures.faults[f"killed: {step}"] += 1
    all_is_known(provider, histories, records)
    ends = {
        f"{each.status} by {each.evidence}" if each.evidence else str(each.status)
        for each in records.values()
    }
    assert typical in ends, f"{step}: {ends}"


async def test_a_gateway_killed_at_any_step_leaves_one_copy_and_its_outcome(
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
async def test_after_a_kill_between_request_and_answer_the_same_key_finds_the_copy_by_reading(
    ledgers: Ledgers, provider: Provider, http: httpx.AsyncClient, figures: Figures, engine: str
) -> None:
    """As it is shipped: this one runs the product's own command, and nothing of it is changed."""
    ledger, (wanted,) = ledgers.new(engine), intents(["slow"])
    config = configuration(ledgers.folder, ledger, {"main": provider.url})
    async with serving(config, environment={}) as dying:
        provider.on_copy[wanted.name] = dying.process.kill
        assert await ask(http, dying.url, wanted) is None
        assert await dying.ended() == -signal.SIGKILL
    async with serving(config, environment={}) as living:
        started = monotonic()
        history = await insist(http, lambda: living.url, provider, History(wanted))
        took = monotonic() - started
        records = await recorded(ledger)
    hold(figures, provider, [history], records, kind="killed, nothing changed")
    figures.faults["killed, nothing changed"] += 1
    figures.measured[f"outcome known again after kill -9, {engine}"] = f"{took:.1f} s"
    assert history.told[0].status in {"UNKNOWN", "CREATED"}
    assert history.told[-1].status == "CREATED"
    assert history.told[-1].evidence == "INFERRED"
    assert len(provider.intents[wanted.name].posts) == 1


async def test_gateways_killed_at_any_moment_under_load_break_no_promise(
    ledgers: Ledgers, provider: Provider, http: httpx.AsyncClient, figures: Figures
) -> None:
    # Several at once: one gateway starts while another one works.
    async with asyncio.TaskGroup() as tasks:
        for seed, engine in enumerate(ENGINES * 2):
            tasks.create_task(kill_at_random(8, seed, engine, ledgers, provider, http, figures))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
async def test_hundreds_of_kills_under_load_break_no_promise(
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
    config = configuration(ledgers.folder, ledger, dict.fromkeys(accounts, provider.url))
    lives, histories = Lives(config), []

    async def work() -> None:
        while not enough.is_set():
            (wanted,) = intents([choice.choice(LOAD)], [choice.choice(accounts)], group=f"k-{seed}")
            histories.append(History(wanted))
            await insist(http, lives.where, provider, histories[-1], seconds=120)
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            tasks.create_task(work())
        try:
            for number in range(kills):
                gateway = await lives.begin({"constants": SOON})
                await asyncio.sleep(choice.uniform(0, 1))
                gateway.kill()
                figures.faults["killed at random"] += 1
                if number % 5 == 4:
                    # One that dies before it has even started.
                    lives.gateway = launch(config, {"constants": SOON})
                    await asyncio.sleep(choice.uniform(0, 0.2))
                    lives.end()
                    figures.faults["killed while it starts"] += 1
            await lives.begin({"constants": SOON})
        finally:
            enough.set()
    records = await recorded(ledger)
    lives.end()
    hold(figures, provider, histories, records, kind="killed at random")
    all_is_known(provider, histories, records)
