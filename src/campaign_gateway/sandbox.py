"""The gateway against an emulator of each provider: a place to try everything without an account."""

import asyncio
import importlib
import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

from campaign_gateway.api import examples
from campaign_gateway.app import create_app
from campaign_gateway.connectors import CONNECTORS
from campaign_gateway.emulation import serving
from campaign_gateway.server import create_server, listen
from campaign_gateway.settings import Settings, parse_settings

# So that a hanging provider shows its error screen soon.
TIMEOUT_SECONDS = 5

LOOPBACK_ORIGINS = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"

WATCH = "query Watch($id: ID!) { duplication(id: $id) { status evidence campaign { id name } } }"

Demonstration = list[tuple[str, dict[str, Any]]]


async def run_sandbox(host: str, port: int, ledger: Path | None) -> None:
    """Serve until stopped. Raises `CannotListen` and `LedgerUnavailable`."""
    async with AsyncExitStack() as stack:
        listener = listen(host, port)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="campaign-gateway-"))
        emulators = {provider: _emulator_of(provider) for provider in CONNECTORS}
        urls = {
            provider: await stack.enter_async_context(serving(emulator.create_emulator()))
            for provider, emulator in emulators.items()
        }
        settings = _settings(emulators, urls, ledger or Path(folder) / "ledger.db")
        notes = {provider: list(_notes(emulator)) for provider, emulator in emulators.items()}
        app = create_app(settings, cors_origin_regex=LOOPBACK_ORIGINS, notes=notes)
        server = create_server(app)
        serving_task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving_task.done():
            await asyncio.sleep(0.01)
        bound_host, bound_port = listener.getsockname()[:2]
        gateway = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
        try:
            await _demonstrate(gateway, settings, urls)
        except BaseException:
            server.should_exit = True
            raise
        finally:
            await serving_task


def _emulator_of(provider: str) -> ModuleType:
    return importlib.import_module(f"campaign_gateway.connectors.{provider}.emulator")


def _settings(
    emulators: Mapping[str, ModuleType], urls: Mapping[str, str], ledger: Path
) -> Settings:
    accounts = {
        name: {
            "provider": provider,
            "base_url": urls[provider],
            "timeout_seconds": TIMEOUT_SECONDS,
            **fields,
        }
        for provider, emulator in emulators.items()
        for name, fields in emulator.ACCOUNTS.items()
    }
    # The environment may hold the secrets of real accounts, which no emulator should see.
    return parse_settings({"ledger": {"url": f"sqlite:///{ledger}"}, "accounts": accounts}, {})


def _notes(emulator: ModuleType) -> Iterator[str]:
    yield "In the sandbox the campaignId decides what happens:"
    yield from (f"  {number}: {outcome}" for number, outcome in emulator.OUTCOMES.items())


async def _demonstrate(gateway: str, settings: Settings, urls: Mapping[str, str]) -> None:
    """Duplicate a campaign at each account, as any client would, and say how to go on."""
    # The gateway is on this machine: no proxy of the environment's leads there.
    async with httpx.AsyncClient(base_url=gateway, timeout=30, trust_env=False) as client:
        answers = {name: await _ask(client, _body(settings, name)) for name in settings.accounts}
        _print_table(settings, answers)
        print(f"\nGraphiQL          {gateway}/graphiql")
        print(f"GraphQL           {gateway}/graphql")
        for provider, url in urls.items():
            print(f"{f'copies at {provider}':<17} {url}/_emulator/copies")
        first = next(iter(settings.accounts))
        print(f"\nFrom a shell:\n{_curl(gateway, _body(settings, first))}\n", flush=True)
        for name, answer in answers.items():
            if answer["status"] == "ACCEPTED":
                await _watch(client, name, answer["duplication"]["id"])
        print("Ctrl-C stops the sandbox.", flush=True)


def _body(settings: Settings, account: str) -> dict[str, Any]:
    connector = CONNECTORS[settings.accounts[account].provider]
    query = examples.mutation(connector, account)
    return {"query": " ".join(query.split()), "variables": examples.fresh_key()}


async def _ask(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = (await client.post("/graphql", json=body)).json()
    if "errors" in answer:
        raise RuntimeError(f"the gateway answered with errors: {answer['errors']}")
    payload: dict[str, Any] = next(iter(answer["data"].values()))
    return payload


async def _watch(client: httpx.AsyncClient, account: str, duplication_id: str) -> None:
    """Wait for the copy that the provider did not name."""
    for _ in range(60):
        await asyncio.sleep(0.5)
        found = await _ask(client, {"query": WATCH, "variables": {"id": duplication_id}})
        if found["status"] != "ACCEPTED":
            print(
                f"{account}: duplication {duplication_id} is now {found['status']} as campaign "
                f"{found['campaign']['id']} (evidence: {found['evidence']})"
            )
            return


def _print_table(settings: Settings, answers: Mapping[str, dict[str, Any]]) -> None:
    rows = [("ACCOUNT", "PROVIDER", "STATUS", "COPY", "NAME OF THE COPY")]
    for name, answer in answers.items():
        copy = answer["campaign"] or {"id": "not named yet", "name": None}
        provider = settings.accounts[name].provider
        rows.append((name, provider, answer["status"], copy["id"], copy["name"] or ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _curl(gateway: str, body: dict[str, Any]) -> str:
    data = shlex.quote(json.dumps(body))
    return f"curl -s {gateway}/graphql -H 'content-type: application/json' -d {data}"
