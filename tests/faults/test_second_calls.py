"""Faults between and after the requests of providers that need two requests, or a job, for a copy.

In all cases one copy is requested, and its id is never lost once it is in the ledger.
"""

import asyncio
import signal
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from campaign_gateway.model import DEFAULT_TIMING, Duplication, DuplicationStatus
from campaign_gateway.sandbox.emulators import hubspot, mailchimp, marketo, meta, omnisend
from support.commands import run
from support.crashing_gateway import WAITS_AT_STEP
from support.emulator_proxies import EmulatorProxies, EmulatorProxy, copies_at
from support.figures import Figures
from support.gateways import (
    SHORT_INTERVALS,
    Gateway,
    configuration,
    launch,
    listening,
    recorded,
    serving,
)
from support.waiting import until

Payload = dict[str, Any]

EMULATORS: Mapping[str, Any] = {
    "hubspot": hubspot,
    "mailchimp": mailchimp,
    "marketo": marketo,
    "meta": meta,
    "omnisend": omnisend,
}
# Providers that choose the name of a copy themselves, with a source campaign of each.
RENAMING = {
    "mailchimp": "42694e9e57",
    "meta": "120210000000000101",
    "omnisend": "65f2c1d47a9b3e0012ab34cd",
}
PENDING = {name: ["NAME_NOT_APPLIED"] for name in RENAMING} | {
    "meta": ["DETAILS_UNKNOWN", "NAME_NOT_APPLIED"]
}

# How much later than promised a response may come on a busy machine, in seconds.
SLACK = 6

# A gateway that will be killed at a step waits there long enough for a slow machine, and its
# successor does not wait that long.
LONG_WAITS = {
    "completion_timeout": 60,
    "completion_due_after": 2,
    **SHORT_INTERVALS,
}
WITHOUT_RECONCILIATION = {**LONG_WAITS, "reconcile_interval": 3600}
FREQUENT_CHECKS = {
    "timing": {
        "check_intervals": [0.5],
        "completion_retry_interval": 1,
    }
}
WITH_ANOTHER_GATEWAY = {**LONG_WAITS, "completion_due_after": 5}

MUTATION = """
mutation Copy($input: DuplicateCampaignInput!, $key: String!) {
  duplicateCampaign(input: $input, idempotencyKey: $key) {
    status replayed
    campaign { id name }
    warnings { code message providerMessage }
    duplication { id status evidence campaign { id } warnings { code message providerMessage } }
    userErrors { code message retry providerMessage }
  }
}
"""


@dataclass
class Client:
    """A client that wants one copy, and the payloads that it received."""

    http: httpx.AsyncClient
    account: str
    provider: str
    source: object
    more: Mapping[str, object] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"Copy {uuid.uuid4()}")
    key: str = field(default_factory=lambda: str(uuid.uuid4()))
    payloads: list[Payload] = field(default_factory=list)
    took: float = 0

    async def ask(self, url: str) -> Payload | None:
        """Send the mutation with the client's key. Return None if the connection fails."""
        campaign = {"account": self.account, "campaignId": self.source, "name": self.name}
        copy_input = {self.provider: {**campaign, **self.more}}
        variables = {"input": copy_input, "key": self.key}
        sent_at = monotonic()
        try:
            response = await self.http.post(
                f"{url}/graphql", json={"query": MUTATION, "variables": variables}
            )
        except httpx.HTTPError:
            return None
        self.took = monotonic() - sent_at
        assert "errors" not in response.json(), response.text
        payload: Payload = response.json()["data"]["duplicateCampaign"]
        self._check_repeat(payload)
        self.payloads.append(payload)
        return payload

    def _check_repeat(self, payload: Payload) -> None:
        """Assert that all payloads name the same record and the same copy."""
        recorded = payload["duplication"] or {"id": None, "warnings": [], "campaign": None}
        assert payload["warnings"] == recorded["warnings"]
        assert (
            payload["campaign"] is None or payload["campaign"]["id"] == recorded["campaign"]["id"]
        )
        for before in self.payloads:
            if before["duplication"] is not None:
                assert payload["replayed"]
                assert recorded["id"] == before["duplication"]["id"]
            if before["campaign"] is not None and payload["status"] != "REJECTED":
                assert payload["campaign"]["id"] == before["campaign"]["id"]

    async def ask_until(
        self, url: str, is_so: Callable[[Payload], bool], seconds: float = 40
    ) -> Payload:
        give_up_at = monotonic() + seconds
        while not ((payload := await self.ask(url)) and is_so(payload)):
            assert monotonic() < give_up_at, payload
            await asyncio.sleep(0.2)
        return payload


def codes(payload: Payload | None) -> list[str]:
    assert payload is not None
    return sorted(warning["code"] for warning in payload["warnings"])


def is_created(payload: Payload) -> bool:
    return bool(payload["status"] == "CREATED")


def is_finished(payload: Payload) -> bool:
    return payload["status"] == "CREATED" and not payload["warnings"]


def configured(
    folder: Path,
    ledger: str,
    proxies: Mapping[str, tuple[str, EmulatorProxy]],
    *,
    timeout: float = 20,
    deadline: float = 25,
) -> Path:
    """Configure accounts by name, each with its provider and the proxy of its emulator."""
    tables = ""
    for account, (provider, proxy) in proxies.items():
        settings = EMULATORS[provider].ACCOUNTS[provider]
        secrets = "".join(f'{name} = "{value}"\n' for name, value in settings.items())
        tables += (
            f'[accounts.{account}]\nprovider = "{provider}"\nbase_url = "{proxy.url}"\n'
            f"timeout_seconds = {timeout}\n{secrets}"
        )
    return configuration(folder, ledger, {}, deadline=deadline, more=tables)


@pytest.fixture(scope="module")
def proxy_server(serve: Callable[[ASGIApp], str]) -> EmulatorProxies:
    proxies = EmulatorProxies()
    proxies.url = serve(proxies)
    return proxies


def new_proxy(proxy_server: EmulatorProxies, provider: str) -> EmulatorProxy:
    return proxy_server.new(EMULATORS[provider].create_emulator())


def names_of(proxies: Mapping[str, EmulatorProxy]) -> dict[str, tuple[str, EmulatorProxy]]:
    """Name each account after its provider."""
    return {provider: (provider, proxy) for provider, proxy in proxies.items()}


async def one_copy(http: httpx.AsyncClient, proxy: EmulatorProxy, *clients: Client) -> None:
    """Assert that there is one copy for each client, and that each client knows its copy."""
    counted = await copies_at(http, proxy)
    assert counted["asked"] == len(clients), counted
    made = {copy["name"]: copy["id"] for copy in counted["copies"]}
    payload = {client.name: client.payloads[-1]["campaign"]["id"] for client in clients}
    assert made == payload
    assert counted["count"] == len(clients)


async def made_for(http: httpx.AsyncClient, proxy: EmulatorProxy) -> str:
    """Return the id of the only copy."""
    (copy,) = (await copies_at(http, proxy))["copies"]
    return str(copy["id"])


@dataclass
class Death:
    """A gateway that is killed when all calls have reached one step.

    The step is one of the gateway's own, or a kind of requests with the state in which its proxy
    holds them, as in `rename is asked`.
    """

    step: str
    proxies: Sequence[EmulatorProxy]
    calls: int
    timing: Mapping[str, object] = field(default_factory=lambda: WITHOUT_RECONCILIATION)
    gateway: Gateway | None = None

    @property
    def is_at_provider(self) -> bool:
        return " is " in self.step

    def changes(self) -> dict[str, object]:
        if self.is_at_provider:
            kind, _, state = self.step.partition(" is ")
            for proxy in self.proxies:
                proxy.held = (kind, state)
            return {"timing": self.timing}
        step, _, after = self.step.partition(" after ")
        return {"timing": self.timing, "at": step, "after": int(after or 0)}

    def has_come(self) -> bool:
        assert self.gateway is not None
        assert self.gateway.is_running, self.gateway.output()
        if self.is_at_provider:
            return sum(proxy.holding for proxy in self.proxies) >= self.calls
        return self.gateway.output().count(WAITS_AT_STEP) >= self.calls

    async def strike(self) -> None:
        assert self.gateway is not None
        self.gateway.kill()
        assert self.gateway.process.returncode == -signal.SIGKILL
        # Its requests must be lost before the next gateway sends the same.
        await until(lambda: not any(proxy.holding for proxy in self.proxies))
        for proxy in self.proxies:
            proxy.held = None


async def started(
    turn: asyncio.Semaphore, config: Path, changes: Mapping[str, object] | None = None
) -> Gateway:
    """Start a gateway. The semaphore limits how many start at the same time."""
    async with turn:
        gateway = launch(config, changes)
        try:
            return await listening(gateway)
        except BaseException:
            gateway.kill()
            raise


# --- a name in a second call ----------------------------------------------------------------------

STEPS_OF_RENAMES = (
    "after-settle",
    "lookup is asked",
    "after-second-response",
    "rename is asked",
    "rename is done",
    "before-update",
    "after-update",
)


async def die_over_names(
    step: str,
    ledger: str,
    folder: Path,
    proxy_server: EmulatorProxies,
    http: httpx.AsyncClient,
    turn: asyncio.Semaphore,
    *,
    others: int = 0,
) -> None:
    """Copy at each provider and kill the gateway at the step. Another one finishes the work."""
    proxies = {provider: new_proxy(proxy_server, provider) for provider in RENAMING}
    config = configured(folder, ledger, names_of(proxies))
    clients = [Client(http, provider, provider, source) for provider, source in RENAMING.items()]
    timing = WITH_ANOTHER_GATEWAY if others else WITHOUT_RECONCILIATION
    death = Death(step, list(proxies.values()), len(clients), timing)
    gateways = [await started(turn, config, death.changes())]
    asking: list[asyncio.Task[Payload | None]] = []
    try:
        gateways += [await started(turn, config) for _ in range(others)]
        death.gateway = gateways[0]
        asking = [asyncio.create_task(client.ask(death.gateway.url)) for client in clients]
        await until(death.has_come)
        # The record as the next gateway will find it, while this one still runs.
        records = await recorded(ledger)
        for client in clients:
            await is_on_record(http, proxies[client.provider], records[client.key], step)
        await death.strike()
        assert await asyncio.gather(*asking) == [None] * len(clients)
        if not others:
            gateways.append(await started(turn, config))
        living = gateways[-1].url
        # The copy is reported immediately, long before it is renamed.
        for client in clients:
            payload = await client.ask(living)
            assert payload is not None
            assert (payload["status"], payload["replayed"]) == ("CREATED", True), step
            assert payload["campaign"]["id"] == await made_for(http, proxies[client.provider])
        for client in clients:
            payload = await client.ask_until(living, is_finished)
            assert payload["campaign"]["name"] == client.name, step
            assert payload["duplication"]["evidence"] == "RESPONSE"
    finally:
        for task in asking:
            task.cancel()
        for gateway in gateways:
            gateway.kill()
    for client in clients:
        await one_copy(http, proxies[client.provider], client)
        # The lookup shows that the copy has its name already.
        renames = 2 if step == "rename is asked" else 1
        assert proxies[client.provider].count("rename") == renames, (step, client.provider)


async def is_on_record(
    http: httpx.AsyncClient, proxy: EmulatorProxy, record: Duplication, step: str
) -> None:
    """Assert that the copy and its pending steps are recorded before any response."""
    assert record.status is DuplicationStatus.CREATED, step
    assert record.campaign is not None
    assert record.campaign.id == await made_for(http, proxy)
    left = sorted(str(warning.code) for warning in record.warnings)
    assert left == ([] if step == "after-update" else PENDING[record.intent.provider]), step


async def test_next_gateway_names_the_copy_after_a_kill_at_any_step(
    tmp_path: Path, proxy_server: EmulatorProxies, http: httpx.AsyncClient, figures: Figures
) -> None:
    turn = asyncio.Semaphore(4)
    async with asyncio.TaskGroup() as tasks:
        for number, step in enumerate(STEPS_OF_RENAMES):
            ledger = f"sqlite:///{tmp_path}/ledger-{number}.db"
            tasks.create_task(die_over_names(step, ledger, tmp_path, proxy_server, http, turn))
            figures.faults[f"killed over a name: {step}"] += 1


async def test_second_gateway_names_the_copy_when_the_first_is_killed(
    tmp_path: Path,
    postgres: Any,
    proxy_server: EmulatorProxies,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    turn = asyncio.Semaphore(4)
    async with asyncio.TaskGroup() as tasks:
        for step in ("after-settle", "rename is asked"):
            ledger = postgres.create_database()
            tasks.create_task(
                die_over_names(step, ledger, tmp_path, proxy_server, http, turn, others=1)
            )
            figures.faults[f"killed over a name: {step}"] += 1


async def test_copy_with_a_lost_response_is_settled_only_where_a_search_can_find_it(
    tmp_path: Path, proxy_server: EmulatorProxies, http: httpx.AsyncClient, figures: Figures
) -> None:
    """Meta reports the source of a copy. The others do not, and the copy has no name yet."""
    proxies = {provider: new_proxy(proxy_server, provider) for provider in RENAMING}
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    config = configured(tmp_path, ledger, names_of(proxies))
    clients = {
        provider: Client(http, provider, provider, source) for provider, source in RENAMING.items()
    }
    death = Death("before-settle", list(proxies.values()), len(clients))
    async with serving(config, death.changes()) as dying:
        death.gateway = dying
        asking = [asyncio.create_task(client.ask(dying.url)) for client in clients.values()]
        await until(death.has_come)
        await death.strike()
        assert await asyncio.gather(*asking) == [None] * len(clients)
    async with serving(config, FREQUENT_CHECKS) as living:
        for client in clients.values():
            payload = await client.ask_until(living.url, is_created)
            assert payload["duplication"]["evidence"] == "INFERRED"
            # It may be another user's copy of the same source.
            assert codes(payload) == ["NAME_NOT_APPLIED"]
            assert "Rename it at " in payload["warnings"][0]["message"]
    for provider in RENAMING:
        counted = await copies_at(http, proxies[provider])
        assert (counted["asked"], counted["count"]) == (1, 1)
        assert proxies[provider].count("rename") == 0
    figures.faults["killed over a name: before-settle"] += 1


# For each source campaign: the warnings, the provider's message, whether the copy has its name, and
# whether the gateway tries again.
FAILING_SECOND_CALLS: Mapping[tuple[str, str], tuple[list[str], str | None, bool, bool]] = {
    ("mailchimp", "rename-refused"): (
        ["NAME_NOT_APPLIED"],
        "The campaign could not be updated.",
        False,
        False,
    ),
    ("mailchimp", "rename-error-500"): (
        ["NAME_NOT_APPLIED"],
        "An unexpected internal error has occurred.",
        False,
        True,
    ),
    ("mailchimp", "rename-cut"): (["NAME_NOT_APPLIED"], None, False, True),
    ("mailchimp", "rename-hangs"): (["NAME_NOT_APPLIED"], None, False, True),
    ("omnisend", "rename-refused"): (
        ["NAME_NOT_APPLIED"],
        "name: Must not be this name",
        False,
        False,
    ),
    ("omnisend", "rename-error-500"): (
        ["NAME_NOT_APPLIED"],
        "An unexpected error occurred.",
        False,
        True,
    ),
    ("omnisend", "rename-cut"): (["NAME_NOT_APPLIED"], None, False, True),
    ("meta", "rename-refused"): (
        ["NAME_NOT_APPLIED"],
        "Invalid parameter: The name is not acceptable.",
        False,
        False,
    ),
    ("meta", "rename-error-500"): (["NAME_NOT_APPLIED"], "An unknown error occurred", False, True),
    ("meta", "rename-cut"): (["NAME_NOT_APPLIED"], None, False, True),
    ("meta", "read-back-fails"): (["DETAILS_UNKNOWN"], None, True, True),
}


async def test_failed_second_call_becomes_a_warning_with_the_copy(
    tmp_path: Path, proxy_server: EmulatorProxies, http: httpx.AsyncClient, figures: Figures
) -> None:
    proxies = {provider: new_proxy(proxy_server, provider) for provider in RENAMING}
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", names_of(proxies))
    clients = {
        (provider, source): Client(http, provider, provider, source)
        for provider, source in FAILING_SECOND_CALLS
    }
    async with serving(config, FREQUENT_CHECKS) as gateway:
        await asyncio.gather(*(client.ask(gateway.url) for client in clients.values()))
        for (provider, source), client in clients.items():
            warnings, output, is_named, _ = FAILING_SECOND_CALLS[provider, source]
            (payload,) = client.payloads
            assert payload["status"] == payload["duplication"]["status"] == "CREATED"
            assert payload["userErrors"] == []
            assert codes(payload) == warnings, source
            assert payload["warnings"][0]["providerMessage"] == output
            assert (payload["campaign"]["name"] == client.name) == is_named
            assert client.took < DEFAULT_TIMING.completion_timeout + SLACK
            figures.faults[f"after the copy: {source}"] += 1

        def tries(provider: str, client: Client) -> int:
            kind = "lookup" if client.source == "read-back-fails" else "rename"
            return proxies[provider].count(kind, f"/{client.payloads[0]['campaign']['id']}")

        again = [
            (provider, client)
            for (provider, source), client in clients.items()
            # A hanging call takes its whole timeout.
            if FAILING_SECOND_CALLS[provider, source][3] and source != "rename-hangs"
        ]
        await until(lambda: all(tries(*renamed) >= 3 for renamed in again))
        for (provider, source), client in clients.items():
            payload = (await client.ask(gateway.url)) or {}
            assert codes(payload) == FAILING_SECOND_CALLS[provider, source][0]
            if source == "rename-refused":
                assert tries(provider, client) == 1, "a refusal is final"
                assert payload["warnings"] == client.payloads[0]["warnings"]
    for provider, proxy in proxies.items():
        counted = await copies_at(http, proxy)
        mine = [client for (other, _), client in clients.items() if other == provider]
        assert counted["asked"] == counted["count"] == len(mine)
        assert {copy["id"] for copy in counted["copies"]} == {
            client.payloads[-1]["campaign"]["id"] for client in mine
        }


# For each kind of requests and its fault: the warnings until it works. If Meta's copy cannot be
# read, only its id is known. Mailchimp's rename must repeat the other settings of the copy.
RETRYABLE: Mapping[tuple[str, str], Mapping[str, list[str]]] = {
    ("rename", "500"): {name: ["NAME_NOT_APPLIED"] for name in RENAMING},
    ("rename", "cut-before-copy"): {name: ["NAME_NOT_APPLIED"] for name in RENAMING},
    ("rename", "429"): {name: ["NAME_NOT_APPLIED"] for name in RENAMING},
    ("rename", "hang"): {name: ["NAME_NOT_APPLIED"] for name in RENAMING},
    ("lookup", "404"): {
        "mailchimp": ["NAME_NOT_APPLIED"],
        "meta": ["DETAILS_UNKNOWN"],
        "omnisend": [],
    },
    ("lookup", "500"): {
        "mailchimp": ["NAME_NOT_APPLIED"],
        "meta": ["DETAILS_UNKNOWN"],
        "omnisend": [],
    },
    ("lookup", "hang"): PENDING,
}


async def test_second_call_that_fails_for_a_while_is_repeated_by_the_gateway(
    tmp_path: Path, proxy_server: EmulatorProxies, http: httpx.AsyncClient, figures: Figures
) -> None:
    proxies: dict[str, tuple[str, EmulatorProxy]] = {}
    clients: dict[str, Client] = {}
    expected: dict[str, list[str]] = {}
    for (kind, fault), warnings in RETRYABLE.items():
        for provider, source in RENAMING.items():
            account = f"{provider}-{kind}-{fault}"
            proxies[account] = provider, new_proxy(proxy_server, provider)
            proxies[account][1].failing[kind] = fault
            clients[account] = Client(http, account, provider, source)
            expected[account] = warnings[provider]
    # Longer than a caller waits for the second call, so the wait ends before the call.
    timeout = DEFAULT_TIMING.completion_timeout + SLACK
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", proxies, timeout=timeout)
    async with serving(config, FREQUENT_CHECKS) as gateway:
        await asyncio.gather(*(client.ask(gateway.url) for client in clients.values()))
        for account, client in clients.items():
            (payload,) = client.payloads
            assert payload["status"] == "CREATED"
            assert codes(payload) == expected[account], account
            assert client.took < DEFAULT_TIMING.completion_timeout + SLACK
        for _, proxy in proxies.values():
            proxy.failing.clear()
        for client in clients.values():
            payload = await client.ask_until(gateway.url, is_finished)
            assert payload["campaign"]["name"] == client.name
    for account, client in clients.items():
        await one_copy(http, proxies[account][1], client)
        figures.faults[f"for a while: {account.partition('-')[2]}"] += 1


# --- stopping -------------------------------------------------------------------------------------


async def test_gateway_stopped_during_a_rename_ends_in_time_and_the_next_one_renames(
    tmp_path: Path, proxy_server: EmulatorProxies, http: httpx.AsyncClient, figures: Figures
) -> None:
    proxies = {provider: new_proxy(proxy_server, provider) for provider in RENAMING}
    for proxy in proxies.values():
        proxy.held = ("rename", "asked")
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", names_of(proxies), timeout=15)
    clients = [Client(http, provider, provider, source) for provider, source in RENAMING.items()]
    timing = {
        "completion_timeout": 2,
        "completion_retry_interval": 1,
    }
    async with serving(config, {"timing": timing}) as stopping:
        asking = [asyncio.create_task(client.ask(stopping.url)) for client in clients]
        await until(lambda: all(proxy.holding for proxy in proxies.values()))
        stopping.signal(signal.SIGTERM)
        signalled_at = monotonic()
        # The README requires fifteen seconds more than the longest call.
        assert await stopping.ended(15 + 15) == 0, stopping.output()
        assert monotonic() - signalled_at < 2 + SLACK
        for payload in await asyncio.gather(*asking):
            assert payload is not None, "every caller gets a response"
            assert payload["status"] == "CREATED"
            assert codes(payload) == ["NAME_NOT_APPLIED"]
        figures.faults["SIGTERM over a name"] += 1
    for proxy in proxies.values():
        proxy.held = None
    async with serving(config) as living:
        for client in clients:
            payload = await client.ask_until(living.url, is_finished)
            assert payload["campaign"]["name"] == client.name
            await one_copy(http, proxies[client.provider], client)


@pytest.mark.parametrize("end", ["the caller's deadline", "a second signal"])
async def test_caller_gets_the_copy_when_the_response_comes_before_the_rename(
    tmp_path: Path,
    proxy_server: EmulatorProxies,
    http: httpx.AsyncClient,
    figures: Figures,
    end: str,
) -> None:
    proxy, ledger = new_proxy(proxy_server, "meta"), f"sqlite:///{tmp_path}/ledger.db"
    proxy.held = ("rename", "asked")
    deadline = 4 if end == "the caller's deadline" else 25
    config = configured(tmp_path, ledger, names_of({"meta": proxy}), deadline=deadline)
    client = Client(http, "meta", "meta", RENAMING["meta"])
    async with serving(config, {"timing": WITHOUT_RECONCILIATION}) as gateway:
        asking = asyncio.create_task(client.ask(gateway.url))
        await until(lambda: proxy.holding > 0)
        if end == "a second signal":
            gateway.signal(signal.SIGTERM)
            # The kernel merges two signals that come at the same time.
            await asyncio.sleep(0.2)
            gateway.signal(signal.SIGTERM)
            await gateway.ended(5 + SLACK)
        payload = await asking
        assert payload is not None
        assert (payload["status"], payload["replayed"]) == ("CREATED", False)
        assert codes(payload) == PENDING["meta"]
        assert payload["campaign"]["id"] == await made_for(http, proxy)
    await until(lambda: proxy.holding == 0)
    proxy.held = None
    async with serving(config) as living:
        await client.ask_until(living.url, is_finished)
    await one_copy(http, proxy, client)
    figures.faults[f"over a name: {end}"] += 1


async def test_gateway_stopped_during_a_repeated_rename_leaves_it_to_the_next_one(
    tmp_path: Path, proxy_server: EmulatorProxies, http: httpx.AsyncClient, figures: Figures
) -> None:
    proxy = new_proxy(proxy_server, "omnisend")
    proxy.failing["rename"] = "500"
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", names_of({"omnisend": proxy}))
    client = Client(http, "omnisend", "omnisend", RENAMING["omnisend"])
    timing = {
        "completion_retry_interval": 1,
        "check_timeout": 2,
    }
    async with serving(config, {"timing": timing}) as stopping:
        assert codes(await client.ask(stopping.url)) == ["NAME_NOT_APPLIED"]
        # From here on, the gateway renames in the background.
        proxy.failing.clear()
        proxy.held = ("rename", "asked")
        await until(lambda: proxy.holding > 0)
        stopping.signal(signal.SIGTERM)
        assert await stopping.ended(2 + SLACK) == 0, stopping.output()
        await until(lambda: proxy.holding == 0)
        proxy.held = None
        figures.faults["SIGTERM over a name"] += 1
    async with serving(config) as living:
        await client.ask_until(living.url, is_finished)
    await one_copy(http, proxy, client)


# --- a job ----------------------------------------------------------------------------------------

LAUNCH = "6f1d2c3b-8a4e-4b7d-9c05-2e1f7a8b9c0d"

# The results if the gateway can follow the job, and if the response was lost.
JOBS: Mapping[str, tuple[str, list[str]]] = {
    LAUNCH: ("CREATED", []),
    "job-is-partial": ("CREATED", ["PARTIAL_COPY"]),
    "job-fails": ("CREATED", ["PARTIAL_COPY"]),
    "job-fails-and-leaves-nothing": ("REJECTED", []),
    "job-never-ends": ("ACCEPTED", []),
}
JOBS_LOST: Mapping[str, tuple[str, list[str]]] = {source: ("CREATED", []) for source in JOBS} | {
    "job-fails-and-leaves-nothing": ("UNKNOWN", []),
}
STEPS_OF_JOBS = (
    "before-settle",
    "after-settle",
    "progress is asked",
    "after-second-response",
)


async def die_over_jobs(
    step: str,
    folder: Path,
    proxy_server: EmulatorProxies,
    http: httpx.AsyncClient,
    turn: asyncio.Semaphore,
) -> None:
    proxy, ledger = (
        new_proxy(proxy_server, "hubspot"),
        f"sqlite:///{folder}/{step.replace(' ', '-')}.db",
    )
    config = configured(folder, ledger, names_of({"hubspot": proxy}))
    clients = [Client(http, "hubspot", "hubspot", source, {"kind": "CAMPAIGN"}) for source in JOBS]
    death = Death(
        step,
        [proxy],
        len(clients),
        {**LONG_WAITS, "check_intervals": [0.5]},
    )
    gateways = [await started(turn, config, death.changes())]
    asking: list[asyncio.Task[Payload | None]] = []
    try:
        death.gateway = gateways[0]
        asking = [asyncio.create_task(client.ask(death.gateway.url)) for client in clients]
        await until(death.has_come)
        records = await recorded(ledger)
        await death.strike()
        for payload in await asyncio.gather(*asking):
            has_response = step not in {"before-settle", "after-settle"}
            assert (payload is not None) == has_response, step
            assert payload is None or (
                payload["status"] == "ACCEPTED" and payload["campaign"]["id"]
            )
        made = {copy["name"]: copy["id"] for copy in (await copies_at(http, proxy))["copies"]}
        ids = {client.name: record_id(records[client.key]) for client in clients}
        # One job has an id and makes no campaign, so the emulator does not count it.
        if step != "before-settle":
            assert made == {name: ids[name] for name in made}, step
            assert None not in ids.values()
        gateways.append(await started(turn, config, FREQUENT_CHECKS))
        ends = JOBS_LOST if step == "before-settle" else JOBS
        for client in clients:
            status, warnings = ends[str(client.source)]

            def is_so(payload: Payload, wanted: str = status) -> bool:
                return bool(payload["status"] == wanted)

            payload = await client.ask_until(gateways[-1].url, is_so)
            assert codes(payload) == warnings, (step, client.source)
            assert (payload["campaign"] or {}).get("id") == made.get(client.name), (
                step,
                client.source,
            )
            if status == "REJECTED":
                assert payload["userErrors"][0]["retry"] == "NEW_KEY"
        # The unsettled ones are checked several times, and do not change.
        async with asyncio.timeout(40):
            while any(
                record.checks < 5
                for record in (await recorded(ledger)).values()
                if record.status in {DuplicationStatus.ACCEPTED, DuplicationStatus.UNKNOWN}
            ):
                await asyncio.sleep(0.2)
        for client in clients:
            payload = (await client.ask(gateways[-1].url)) or {}
            assert payload["status"] == ends[str(client.source)][0]
    finally:
        for task in asking:
            task.cancel()
        for gateway in gateways:
            gateway.kill()
    counted = await copies_at(http, proxy)
    assert (counted["asked"], counted["count"]) == (len(JOBS), len(made))
    assert proxy.count("copy") == len(JOBS)


def record_id(record: Duplication) -> str | None:
    return record.campaign.id if record.campaign else None


async def test_next_gateway_follows_the_provider_s_job_after_a_kill(
    tmp_path: Path, proxy_server: EmulatorProxies, http: httpx.AsyncClient, figures: Figures
) -> None:
    turn = asyncio.Semaphore(4)
    async with asyncio.TaskGroup() as tasks:
        for step in STEPS_OF_JOBS:
            tasks.create_task(die_over_jobs(step, tmp_path, proxy_server, http, turn))
            figures.faults[f"killed over a job: {step}"] += 1


def show_command(config: Path, duplication: str) -> str:
    done = run("duplications", "show", duplication, "--config", str(config))
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_show_command_prints_an_unfinished_copy_and_its_warnings(
    tmp_path: Path, proxy_server: EmulatorProxies, http: httpx.AsyncClient
) -> None:
    proxy = new_proxy(proxy_server, "hubspot")
    proxy.held = ("progress", "asked")
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", names_of({"hubspot": proxy}))
    client = Client(http, "hubspot", "hubspot", "job-is-partial", {"kind": "CAMPAIGN"})
    async with serving(config, FREQUENT_CHECKS) as gateway:
        payload = (await client.ask(gateway.url)) or {}
        copy, duplication = payload["campaign"]["id"], payload["duplication"]["id"]
        output = await asyncio.to_thread(show_command, config, duplication)
        assert f"copy                 {copy}  {client.name}\n" in output
        assert "status               ACCEPTED\n" in output
        proxy.held = None
        await client.ask_until(gateway.url, lambda payload: bool(payload["status"] == "CREATED"))
        output = await asyncio.to_thread(show_command, config, duplication)
        assert f"copy                 {copy}" in output
        assert "warning              PARTIAL_COPY: " in output
    await one_copy(http, proxy, client)


# --- access tokens --------------------------------------------------------------------------------

MARKETO = {"kind": "SMART_CAMPAIGN", "folderId": 640}


def at_marketo(http: httpx.AsyncClient, source: int) -> Client:
    return Client(http, "marketo", "marketo", source, MARKETO)


async def test_expired_token_is_renewed_and_one_copy_is_made(
    tmp_path: Path, proxy_server: EmulatorProxies, http: httpx.AsyncClient, figures: Figures
) -> None:
    proxy, client = new_proxy(proxy_server, "marketo"), at_marketo(http, marketo.EXPIRING)
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", names_of({"marketo": proxy}))
    async with serving(config) as gateway:
        payload = await client.ask(gateway.url)
        assert payload is not None
        assert is_finished(payload)
        assert [proxy.count(kind) for kind in ("token", "copy")] == [2, 2]
        assert await client.ask(gateway.url)
        assert proxy.count("copy") == 2
    await one_copy(http, proxy, client)
    figures.faults["expired token"] += 1


# The step at which the gateway dies with an expired token, and the number of copies then.
STEPS_OF_TOKENS = {"after-response": 0, "token is asked": 0, "after-response after 1": 1}


async def die_over_a_token(
    step: str,
    folder: Path,
    proxy_server: EmulatorProxies,
    http: httpx.AsyncClient,
    turn: asyncio.Semaphore,
) -> None:
    made, proxy = STEPS_OF_TOKENS[step], new_proxy(proxy_server, "marketo")
    ledger = f"sqlite:///{folder}/{step.replace(' ', '-')}.db"
    config = configured(folder, ledger, names_of({"marketo": proxy}))
    client = at_marketo(http, marketo.EXPIRING)
    death = Death(step, [proxy], 1)
    changes = death.changes()
    # The first token request must succeed.
    proxy.held = None
    gateways = [await started(turn, config, changes)]
    try:
        death.gateway = gateways[0]
        if death.is_at_provider:
            # A query gets the first token, so the token request that is held is the second one.
            question = '{ campaign(account: "marketo", id: "1069") { id } }'
            response = await http.post(f"{gateways[0].url}/graphql", json={"query": question})
            assert "1069" in response.text
            death.changes()
        asking = asyncio.create_task(client.ask(gateways[0].url))
        await until(death.has_come)
        await death.strike()
        assert await asking is None
        sent = proxy.count("copy")
        # The request with the expired token, and perhaps its repetition.
        assert sent == 1 + made
        gateways.append(await started(turn, config, FREQUENT_CHECKS))
        if made:
            payload = await client.ask_until(gateways[1].url, is_finished)
            assert payload["duplication"]["evidence"] == "INFERRED"
            await one_copy(http, proxy, client)
        else:
            async with asyncio.timeout(40):
                while (await recorded(ledger))[client.key].checks < 2:
                    await asyncio.sleep(0.2)
            payload = await client.ask(gateways[1].url) or {}
            assert (payload["status"], payload["replayed"]) == ("UNKNOWN", True)
        assert proxy.count("copy") == sent, "a repeated key sends nothing"
    finally:
        for gateway in gateways:
            gateway.kill()
    counted = await copies_at(http, proxy)
    assert counted["asked"] == counted["count"] == made


async def test_gateway_killed_with_an_expired_token_makes_at_most_one_copy(
    tmp_path: Path, proxy_server: EmulatorProxies, http: httpx.AsyncClient, figures: Figures
) -> None:
    turn = asyncio.Semaphore(4)
    async with asyncio.TaskGroup() as tasks:
        for step in STEPS_OF_TOKENS:
            tasks.create_task(die_over_a_token(step, tmp_path, proxy_server, http, turn))
            figures.faults[f"killed over a token: {step}"] += 1


async def test_failed_token_request_sends_nothing_and_the_same_key_works_later(
    tmp_path: Path,
    proxy_server: EmulatorProxies,
    http: httpx.AsyncClient,
    figures: Figures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy, client = new_proxy(proxy_server, "marketo"), at_marketo(http, 1069)
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    config = configured(tmp_path, ledger, names_of({"marketo": proxy}))
    monkeypatch.setattr(marketo, "CLIENT_SECRET", "another one since today")
    async with serving(config, {"timing": {"token_timeout": 2}}) as gateway:
        refused = await client.ask(gateway.url) or {}
        assert (refused["status"], refused["duplication"]) == ("NOT_SENT", None)
        (error,) = refused["userErrors"]
        assert (error["code"], error["retry"]) == ("AUTHENTICATION_FAILED", "SAME_KEY")
        assert error["providerMessage"] == "Bad client credentials"
        monkeypatch.undo()
        proxy.held = ("token", "asked")
        silent = await client.ask(gateway.url) or {}
        assert (silent["status"], silent["duplication"]) == ("NOT_SENT", None)
        (error,) = silent["userErrors"]
        assert (error["code"], error["retry"]) == ("PROVIDER_UNAVAILABLE", "SAME_KEY")
        assert client.took < 2 + SLACK
        # A request that was never sent leaves no record.
        assert await recorded(ledger) == {}
        assert proxy.count("copy") == 0
        proxy.held = None
        payload = await client.ask(gateway.url)
        assert payload is not None
        assert is_finished(payload)
        assert not payload["replayed"]
    await one_copy(http, proxy, client)
    figures.faults["refused token request"] += 1
    figures.faults["hanging token request"] += 1
