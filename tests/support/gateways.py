"""Real gateways as processes that can be killed, and clients that never give up a key."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from campaign_gateway.ledger import open_ledger
from campaign_gateway.ledger.contract import Duplication, Selection
from support.faulty_provider import API_KEY, AUDIENCE, FAULTS, PLAIN, Provider

LAUNCHER = Path(__file__).with_name("crashing_gateway.py")

# So that what becomes of a dead gateway's calls is soon seen.
SOON = {
    "ledger.postgres.HEARTBEAT": 0.3,
    "ledger.postgres.DEAD_AFTER": 2.0,
    "reconciliation.CHECK_TIME": 3.0,
}

RANK = {"IN_PROGRESS": 0, "UNKNOWN": 1, "ACCEPTED": 2, "CREATED": 3, "REJECTED": 3}

MUTATION = """
mutation Copy($campaign: SonarlyCampaignInput!, $key: String!) {
  duplicateCampaign(input: { sonarly: $campaign }, idempotencyKey: $key) {
    status replayed
    campaign { id }
    duplication { id status evidence }
    userErrors { code message safeToRetry }
  }
}
"""

_numbers = count(1)


@dataclass(frozen=True)
class Intent:
    """One wish for one copy. `name` is its key too."""

    name: str
    fault: str
    group: str
    account: str

    @property
    def expected(self) -> str:
        """What must be known in the end if nothing else goes wrong."""
        return (PLAIN | FAULTS)[self.fault].last


def intents(
    faults: Sequence[str], accounts: Sequence[str] = ("main",), *, group: str = "plain"
) -> list[Intent]:
    """One for each fault that is named, over the accounts in turn, fifty to a group."""
    return [
        Intent(
            name=f"intent-{next(_numbers)}",
            fault=fault,
            group=f"{group}--{number // 50}",
            account=accounts[number % len(accounts)],
        )
        for number, fault in enumerate(faults)
    ]


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
    safe_to_retry: bool | None
    replayed: bool
    message: str | None


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
) -> Path:
    """A file that `serve` takes; `accounts` are names with the URLs of their provider."""
    tables = "".join(
        f'[accounts.{name}]\nprovider = "sonarly"\nbase_url = "{url}"\n'
        f'api_key = "{API_KEY}"\ntimeout_seconds = {timeout}\n'
        for name, url in accounts.items()
    )
    path = folder / f"gateway-{next(_numbers)}.toml"
    path.write_text(
        f"[server]\nport = 0\ndeadline_seconds = {deadline}\n"
        f'[ledger]\nurl = "{ledger}"\n{more}\n{tables}',
        "utf-8",
    )
    return path


def launch(config: Path, tricks: Mapping[str, object] | None = None) -> Gateway:
    """Start one without waiting for it."""
    command = ["-m", "campaign_gateway"] if tricks is None else [str(LAUNCHER), json.dumps(tricks)]
    log = config.with_name(f"{config.stem}-{next(_numbers)}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command, "serve", "--config", str(config)],
            stdout=output,
            stderr=subprocess.STDOUT,
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
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as http:
        yield http


async def ask(http: httpx.AsyncClient, url: str, intent: Intent) -> Told | None:
    """What a gateway says to the intent's mutation; None when it gives no answer."""
    campaign = {
        "account": intent.account,
        "accountGroupId": intent.group,
        "campaignId": f"{intent.fault}--{intent.name}",
        "audienceId": AUDIENCE,
        "name": intent.name,
    }
    variables = {"campaign": campaign, "key": intent.name}
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
    payload: dict[str, Any] = answer["data"]["duplicateCampaign"]
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
        safe_to_retry=error.get("safeToRetry"),
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
    if told.duplication is None or told.status == "IN_PROGRESS":
        return False
    if told.status == "UNKNOWN" and told.replayed:
        # Nobody will ever know more when there is nothing to be found.
        return provider.is_done_with(intent.name) and not provider.has_copy(intent.name)
    return told.status in {"CREATED", "REJECTED"}


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
    ledger = await open_ledger(ledger_url, visiting=True)
    try:
        found = await ledger.list(None, Selection(), 1_000_000, None)
    finally:
        await ledger.close()
    return {each.intent.key: each for each in found}
