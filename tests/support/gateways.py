"""Starts real gateway processes, and acts as their clients."""

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
from support.forked_gateways import ForkedProcess, forks
from support.plain import NO_CAS

LAUNCHER = Path(__file__).with_name("crashing_gateway.py")

# A dead gateway is detected after seconds, and its calls are settled soon after.
SHORT_INTERVALS = {
    "heartbeat_interval": 0.3,
    "dead_after": 2.0,
    "check_timeout": 3.0,
}

RANK = {"IN_PROGRESS": 0, "UNKNOWN": 1, "ACCEPTED": 2, "CREATED": 3, "REJECTED": 3}

MUTATION = """
mutation Copy($campaign: SonarlyCampaignInput!, $key: String!) {
  duplicateCampaign(input: { sonarly: $campaign }, idempotencyKey: $key) {
    status replayed
    campaign { id }
    duplication { id status evidence }
    userErrors { code message retry retryAfterSeconds }
  }
}
"""
WAIT = "query Wait($id: ID!) { duplication(id: $id, waitSeconds: 1) { status } }"

_numbers = count(1)


@dataclass(frozen=True)
class Intent:
    """One request for one copy.

    The provider counts copies by `name`, which equal intents share. `called` is the name of the
    copy. `wish` identifies what one person wants. A person who presses again with a new key still
    has the same wish.
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
        """The final status if nothing else goes wrong."""
        return (PLAIN | FAULTS)[self.fault].last


def intents(
    faults: Sequence[str], accounts: Sequence[str] = ("main",), *, group: str = "plain"
) -> list[Intent]:
    """Return one intent for each fault, over the accounts in turn, fifty to a group."""
    return [
        intent(fault, f"{group}--{number // 50}", accounts[number % len(accounts)])
        for number, fault in enumerate(faults)
    ]


def intent(fault: str, group: str, account: str) -> Intent:
    """Return an intent with a name that no other intent has."""
    name = f"intent-{next(_numbers)}"
    return Intent(name, fault, group, account, key=name, called=name, wish=name)


@dataclass(frozen=True)
class GatewayResponse:
    """The payload of one mutation with an intent's key. Times are of the monotonic clock."""

    sent_at: float
    received_at: float
    status: str
    campaign: str | None
    duplication: str | None
    evidence: str | None
    code: str | None
    retry: str | None
    replayed: bool
    message: str | None
    retry_after: int | None

    @property
    def is_recorded(self) -> bool:
        """Whether `duplication` is the record of the key in the request."""
        return self.duplication is not None and self.status != "NOT_SENT"


@dataclass
class History:
    """The responses that one client received for an intent, in order of arrival."""

    intent: Intent
    responses: list[GatewayResponse] = field(default_factory=list)


@dataclass
class Gateway:
    process: subprocess.Popen[bytes] | ForkedProcess
    log: Path
    url: str = ""

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        return self.log.read_text("utf-8")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, seconds: float = 60) -> int:
        """Wait for the end, and return the exit code."""
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
    """Write a configuration file for `serve`. `accounts` maps names to the URLs of the provider.

    `more` has lines for the ledger, `more_of` has settings for single accounts.
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
    changes: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Gateway:
    """Start a gateway, and return before it listens.

    `changes` are those of `crashing_gateway.py`. With an `environment`, which adds to that of the
    tests, the gateway gets an interpreter of its own.
    """
    log = config.with_name(f"{config.stem}-{next(_numbers)}.log")
    serve = ["serve", "--config", str(config)]
    if environment is None:
        arguments = [json.dumps(changes or {}), *serve]
        with log.open("ab") as output:
            streams = output.fileno(), output.fileno()
            return Gateway(forks().start(arguments, streams, os.environ), log)
    command = [str(LAUNCHER), json.dumps(changes or {})]
    if changes is None and environment is not None:
        # The product's own command, without any change.
        command = ["-m", "campaign_gateway"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command, *serve],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    return Gateway(process, log)


async def listening(gateway: Gateway, seconds: float = 60) -> Gateway:
    async with asyncio.timeout(seconds):
        while not (match := re.search(r"listening on \S+ port (\d+)", gateway.output())):
            assert gateway.is_running, gateway.output()
            await asyncio.sleep(0.02)
    gateway.url = f"http://127.0.0.1:{match[1]}"
    return gateway


@asynccontextmanager
async def serving(
    config: Path,
    changes: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Gateway]:
    gateway = launch(config, changes, environment)
    try:
        yield await listening(gateway)
    finally:
        gateway.kill()


@asynccontextmanager
async def calling() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(trust_env=False, verify=NO_CAS, timeout=60, limits=limits) as http:
        yield http


async def ask(http: httpx.AsyncClient, url: str, intent: Intent) -> GatewayResponse | None:
    """Send the intent's mutation. Return None if the connection fails."""
    campaign = {
        "account": intent.account,
        "accountGroupId": intent.group,
        "campaignId": f"{intent.fault}--{intent.name}",
        "audienceId": AUDIENCE,
        "name": intent.called,
    }
    variables = {"campaign": campaign, "key": intent.key}
    sent_at = monotonic()
    try:
        response = await http.post(
            f"{url}/graphql", json={"query": MUTATION, "variables": variables}
        )
    except httpx.HTTPError:
        return None
    assert response.status_code == 200, f"{response.status_code}: {response.text}"
    content = response.json()
    assert "errors" not in content, content
    return parse_payload(sent_at, content["data"]["duplicateCampaign"])


async def sent(http: httpx.AsyncClient, gateway: Gateway, intent: Intent) -> GatewayResponse:
    """Send the intent's mutation over a connection that works, and return the response."""
    response = await ask(http, gateway.url, intent)
    assert response is not None, "the connection has failed"
    return response


def parse_payload(sent_at: float, payload: dict[str, Any]) -> GatewayResponse:
    duplication = payload["duplication"] or {}
    error = payload["userErrors"][0] if payload["userErrors"] else {}
    return GatewayResponse(
        sent_at=sent_at,
        received_at=monotonic(),
        status=payload["status"],
        campaign=payload["campaign"] and payload["campaign"]["id"],
        duplication=duplication.get("id"),
        evidence=duplication.get("evidence"),
        code=error.get("code"),
        retry=error.get("retry"),
        replayed=payload["replayed"],
        message=error.get("message"),
        retry_after=error.get("retryAfterSeconds"),
    )


Where = Callable[[], str]


def always(url: str) -> Where:
    return lambda: url


async def retry_until_final(
    http: httpx.AsyncClient,
    where: Where,
    provider: Provider,
    history: History,
    *,
    seconds: float = 60,
) -> History:
    """Repeat the request with the same key until the response is final or the time is over.

    `where` returns the URL of a gateway, which may change, or "" while no gateway listens.
    """
    give_up_at, pause, intent = monotonic() + seconds, 0.2, history.intent
    while monotonic() < give_up_at:
        url = where()
        response = await ask(http, url, intent) if url else None
        if response is None:
            await asyncio.sleep(0.05)
            continue
        history.responses.append(response)
        if is_final(response, provider, intent):
            break
        await asyncio.sleep(pause)
        pause = min(2.0, 1.5 * pause)
    return history


def is_final(response: GatewayResponse, provider: Provider, intent: Intent) -> bool:
    if not response.is_recorded or response.status == "IN_PROGRESS":
        return False
    if response.status == "UNKNOWN" and response.replayed:
        # Without a copy there is nothing to find, so UNKNOWN stays.
        return provider.is_done_with(intent.name) and not provider.has_copy(intent.name)
    return response.status in {"CREATED", "REJECTED"}


async def follow_advice(
    http: httpx.AsyncClient,
    where: Callable[[], Sequence[str]],
    provider: Provider,
    wish: Intent,
    *,
    presses: int = 2,
    seconds: float = 60,
) -> list[History]:
    """Act as a frontend that does what each response says. Return a history for each key.

    `where` returns the URLs of the gateways that one press of the button reaches, as behind a
    router that resends requests. Each gateway responds, and the frontend sees the last response.
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


async def _press(
    http: httpx.AsyncClient, urls: Sequence[str], history: History
) -> GatewayResponse | None:
    """Send one press to all of the gateways, and return the response that arrives last."""
    arrived = await asyncio.gather(*(ask(http, url, history.intent) for url in urls))
    in_order = sorted(
        (response for response in arrived if response), key=lambda response: response.received_at
    )
    history.responses += in_order
    return in_order[-1] if in_order else None


async def _wait(http: httpx.AsyncClient, url: str, duplication: str) -> None:
    """Query the duplication, as `WAIT` says. The outcome comes with the next mutation."""
    query = {"query": WAIT, "variables": {"id": duplication}}
    # The gateway may be killed during the query.
    with suppress(httpx.HTTPError):
        await http.post(f"{url}/graphql", json=query)


async def retry_all_until_final(
    http: httpx.AsyncClient,
    where: Where,
    provider: Provider,
    wanted: Sequence[Intent],
    *,
    clients: int = 24,
    seconds: float = 60,
) -> list[History]:
    """Run that many clients at the same time, each with one intent after the other."""
    histories = [History(intent) for intent in wanted]
    waiting = iter(histories)

    async def work() -> None:
        for history in waiting:
            await retry_until_final(http, where, provider, history, seconds=seconds)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(work())
    return histories


async def recorded(ledger_url: str) -> dict[str, Duplication]:
    """Read all records of the ledger, by key, as an operator."""
    if ledger_url.startswith("postgres"):
        # The event loop of a test with hundreds of clients may be busy for longer than 2 seconds.
        ledger_url += f"{'&' if '?' in ledger_url else '?'}connect_timeout=30"
    ledger = await open_ledger(ledger_url, as_operator=True)
    try:
        records = await ledger.list(None, Selection(), 1_000_000, None)
    finally:
        await ledger.close()
    return {record.intent.key: record for record in records}
