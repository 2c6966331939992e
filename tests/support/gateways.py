"""Real gateways as processes that can be killed, and clients that never give up a key."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any

import httpx

from campaign_gateway.ledger import open_ledger
from campaign_gateway.model import Duplication, Selection
from support.faulty_provider import API_KEY, AUDIENCE, FAULTS, PLAIN, Provider
from support.plain import NO_CAS

LAUNCHER = Path(__file__).with_name("crashing_gateway.py")

# So that what becomes of a dead gateway's calls is soon seen.
SOON = {
    "ledger.postgres.HEARTBEAT": 0.3,
    "ledger.postgres.DEAD_AFTER": 2.0,
    "duplication.reconciliation.CHECK_TIMEOUT": 3.0,
}

RANK = {"IN_PROGRESS": 0, "UNKNOWN": 1, "ACCEPTED": 2, "CREATED": 3, "REJECTED": 3}

MUTATION = """
mutation Copy($campaign: SonarlyCampaignInput!, $key: String!) {
  duplicateCampaign(input: { sonarly: $campaign }, idempotencyKey: $key) {
    status replayed
    campaign { id }
    duplication { id status evidence }
    userErrors { code message retry }
  }
}
"""
WAIT = "query Wait($id: ID!) { duplication(id: $id, waitSeconds: 1) { status } }"

_numbers = count(1)


@dataclass(frozen=True)
class Intent:
    """One request for one copy.

    The provider counts by `name`, which equal intents share. `called` is the name of the copy.
    `wish` is what one person wants; a person who presses again with a new key keeps it.
    """

    name: str
    fault: str
    group: str
    account: str
    key: str
    called: str
    wish: str

    @property
    def expected(self) -> str:
        """What must be known in the end if nothing else goes wrong."""
        return (PLAIN | FAULTS)[self.fault].last


def intents(
    faults: Sequence[str], accounts: Sequence[str] = ("main",), *, group: str = "plain"
) -> list[Intent]:
    """One for each fault that is named, over the accounts in turn, fifty to a group."""
    return [
        intent(fault, f"{group}--{number // 50}", accounts[number % len(accounts)])
        for number, fault in enumerate(faults)
    ]


def intent(fault: str, group: str, account: str) -> Intent:
    """A new one, whose name no other intent has."""
    name = f"intent-{next(_numbers)}"
    return Intent(name, fault, group, account, key=name, called=name, wish=name)


@dataclass(frozen=True)
class Told:
    """One answer of a gateway to one request with an intent's key."""

    asked_at: float
    told_at: float
    status: str
    campaign: str | None
    duplication: str | None
    evidence: str | None
    code: str | None
    retry: str | None
    replayed: bool
    message: str | None

    @property
    def is_recorded(self) -> bool:
        """Whether `duplication` is the record of the key that was asked with."""
        return self.duplication is not None and self.status != "NOT_SENT"


@dataclass
class History:
    """What the clients were told of an intent, in the order of hearing it."""

    intent: Intent
    told: list[Told] = field(default_factory=list)


@dataclass
class Gateway:
    process: subprocess.Popen[bytes]
    log: Path
    url: str = ""

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        return self.log.read_text("utf-8")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, seconds: float = 60) -> int:
        """Its exit code."""
        async with asyncio.timeout(seconds):
            while (code := self.process.poll()) is None:
                await asyncio.sleep(0.01)
        return code

    async def stop(self) -> int:
        if self.is_running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        return await self.ended()


def configuration(
    folder: Path,
    ledger: str,
    accounts: Mapping[str, str],
    *,
    deadline: float = 25,
    timeout: float = 1,
    more: str = "",
    more_of: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
) -> Path:
    """A file that `serve` takes; `accounts` are names with the URLs of their provider.

    `more` are lines for the ledger, `more_of` settings for single accounts.
    """
    tables = ""
    for name, url in accounts.items():
        settings: dict[str, object] = {
            "provider": "sonarly",
            "base_url": url,
            "api_key": API_KEY,
            "timeout_seconds": timeout,
            **more_of.get(name, {}),
        }
        # JSON writes texts and numbers as TOML does.
        lines = [f"{setting} = {json.dumps(value)}\n" for setting, value in settings.items()]
        tables += "".join([f"[accounts.{name}]\n", *lines])
    path = folder / f"gateway-{next(_numbers)}.toml"
    path.write_text(
        f"[server]\nport = 0\ndeadline_seconds = {deadline}\n"
        f'[ledger]\nurl = "{ledger}"\n{more}\n{tables}',
        "utf-8",
    )
    return path


def launch(
    config: Path,
    tricks: Mapping[str, object] | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Gateway:
    """Start one without waiting for it. `environment` adds to that of the tests."""
    command = ["-m", "campaign_gateway"] if tricks is None else [str(LAUNCHER), json.dumps(tricks)]
    log = config.with_name(f"{config.stem}-{next(_numbers)}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command, "serve", "--config", str(config)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    return Gateway(process, log)


async def listening(gateway: Gateway, seconds: float = 60) -> Gateway:
    async with asyncio.timeout(seconds):
        while not (found := re.search(r"listening on \S+ port (\d+)", gateway.said())):
            assert gateway.is_running, gateway.said()
            await asyncio.sleep(0.02)
    gateway.url = f"http://127.0.0.1:{found[1]}"
    return gateway


@asynccontextmanager
async def serving(
    config: Path, tricks: Mapping[str, object] | None = None
) -> AsyncIterator[Gateway]:
    gateway = launch(config, tricks)
    try:
        yield await listening(gateway)
    finally:
        gateway.kill()


@asynccontextmanager
async def calling() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(trust_env=False, verify=NO_CAS, timeout=60, limits=limits) as http:
        yield http


async def ask(http: httpx.AsyncClient, url: str, intent: Intent) -> Told | None:
    """What a gateway says to the intent's mutation; None when it gives no answer."""
    campaign = {
        "account": intent.account,
        "accountGroupId": intent.group,
        "campaignId": f"{intent.fault}--{intent.name}",
        "audienceId": AUDIENCE,
        "name": intent.called,
    }
    variables = {"campaign": campaign, "key": intent.key}
    asked_at = monotonic()
    try:
        response = await http.post(
            f"{url}/graphql", json={"query": MUTATION, "variables": variables}
        )
    except httpx.HTTPError:
        return None
    assert response.status_code == 200, f"{response.status_code}: {response.text}"
    answer = response.json()
    assert "errors" not in answer, answer
    return _told(asked_at, answer["data"]["duplicateCampaign"])


def _told(asked_at: float, payload: dict[str, Any]) -> Told:
    duplication = payload["duplication"] or {}
    error = payload["userErrors"][0] if payload["userErrors"] else {}
    return Told(
        asked_at=asked_at,
        told_at=monotonic(),
        status=payload["status"],
        campaign=payload["campaign"] and payload["campaign"]["id"],
        duplication=duplication.get("id"),
        evidence=duplication.get("evidence"),
        code=error.get("code"),
        retry=error.get("retry"),
        replayed=payload["replayed"],
        message=error.get("message"),
    )


Where = Callable[[], str]


def always(url: str) -> Where:
    return lambda: url


async def insist(
    http: httpx.AsyncClient,
    where: Where,
    provider: Provider,
    history: History,
    *,
    seconds: float = 60,
) -> History:
    """Ask with the same key until all is known that ever can be, or the time is over.

    `where` gives the URL of a gateway, another one each time if need be, or "" while there is none.
    """
    give_up_at, pause, intent = monotonic() + seconds, 0.2, history.intent
    while monotonic() < give_up_at:
        url = where()
        told = await ask(http, url, intent) if url else None
        if told is None:
            await asyncio.sleep(0.05)
            continue
        history.told.append(told)
        if is_final(told, provider, intent):
            break
        await asyncio.sleep(pause)
        pause = min(2.0, 1.5 * pause)
    return history


def is_final(told: Told, provider: Provider, intent: Intent) -> bool:
    if not told.is_recorded or told.status == "IN_PROGRESS":
        return False
    if told.status == "UNKNOWN" and told.replayed:
        # Nobody will ever know more when there is nothing to be found.
        return provider.is_done_with(intent.name) and not provider.has_copy(intent.name)
    return told.status in {"CREATED", "REJECTED"}


async def follow(
    http: httpx.AsyncClient,
    where: Callable[[], Sequence[str]],
    provider: Provider,
    wish: Intent,
    *,
    presses: int = 2,
    seconds: float = 60,
) -> list[History]:
    """Act as a frontend that does only what each answer says. Return a history for each key.

    `where` gives the URLs of the gateways that a press of the button reaches, as behind a router
    that sends requests again: each answers, and the frontend sees the last answer only.
    """
    give_up_at, histories, pause = monotonic() + seconds, [History(wish)], 0.2
    while monotonic() < give_up_at:
        urls, history = where(), histories[-1]
        arrived = await _press(http, urls, history)
        if arrived is None:
            await asyncio.sleep(0.1)
            continue
        if arrived.retry == "NEW_KEY" or arrived.status == "REJECTED":
            if len(histories) == presses:
                break
            new_key = f"{wish.key}.{len(histories) + 1}"
            histories.append(History(replace(wish, key=new_key)))
            continue
        if arrived.retry == "NO" or is_final(arrived, provider, history.intent):
            break
        if arrived.retry == "WAIT" and arrived.duplication is not None:
            await _wait(http, urls[0], arrived.duplication)
        await asyncio.sleep(pause)
        pause = min(2.0, 1.5 * pause)
    return histories


async def _press(http: httpx.AsyncClient, urls: Sequence[str], history: History) -> Told | None:
    """Send one press to all of the gateways, and return the answer that arrives last."""
    arrived = await asyncio.gather(*(ask(http, url, history.intent) for url in urls))
    answers = sorted((each for each in arrived if each), key=lambda each: each.told_at)
    history.told += answers
    return answers[-1] if answers else None


async def _wait(http: httpx.AsyncClient, url: str, duplication: str) -> None:
    """Look at the duplication, as `WAIT` says. What became of it is asked with the key."""
    query = {"query": WAIT, "variables": {"id": duplication}}
    # A gateway that dies meanwhile is no reason to give up.
    with suppress(httpx.HTTPError):
        await http.post(f"{url}/graphql", json=query)


async def all_insist(
    http: httpx.AsyncClient,
    where: Where,
    provider: Provider,
    wanted: Sequence[Intent],
    *,
    clients: int = 24,
    seconds: float = 60,
) -> list[History]:
    """So many clients at once, each with one intent after the other."""
    histories = [History(each) for each in wanted]
    waiting = iter(histories)

    async def work() -> None:
        for each in waiting:
            await insist(http, where, provider, each, seconds=seconds)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(work())
    return histories


async def recorded(ledger_url: str) -> dict[str, Duplication]:
    """The ledger by key, as somebody who visits it finds it."""
    ledger = await open_ledger(ledger_url, as_operator=True)
    try:
        found = await ledger.list(None, Selection(), 1_000_000, None)
    finally:
        await ledger.close()
    return {each.intent.key: each for each in found}
