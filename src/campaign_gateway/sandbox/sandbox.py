"""Runs the gateway with an emulator of each provider, to try everything without an account."""

import asyncio
import fcntl
import importlib
import json
import logging
import os
import shlex
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from campaign_gateway.api import examples
from campaign_gateway.app import SandboxPages, create_app
from campaign_gateway.connectors.registry import CONNECTORS, find_connector, installed
from campaign_gateway.sandbox.emulation import serving
from campaign_gateway.sandbox.home import home_page
from campaign_gateway.settings import Settings, parse_settings
from campaign_gateway.web.server.server import CannotListen, Server, create_server, listen

log = logging.getLogger(__name__)

# Short, so that a frontend soon shows the error of a provider that hangs.
TIMEOUT_SECONDS = 5

# Of the folders for ledgers that nothing but a sandbox makes.
FOLDER_PREFIX = "campaign-gateway-sandbox-"

# From the requested one on, until one is free.
PORTS_TRIED = 20

# Entry points of this group are `acme = "acme_gateway.emulator"`: the module of an emulator.
GROUP = "campaign_gateway.emulators"

LOOPBACK_ORIGINS = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"

WATCH = "query Watch($id: ID!) { duplication(id: $id) { status evidence campaign { id name } } }"


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox. `emulators` has the base URL of each provider's emulator."""

    url: str
    settings: Settings
    emulators: Mapping[str, str]
    server: Server
    stopped: asyncio.Task[None]


@dataclass(frozen=True)
class Emulator:
    """One provider: `accounts` are settings by their names, `outcomes` are words by the source."""

    app: Starlette
    accounts: Mapping[str, Mapping[str, Any]]
    outcomes: Mapping[str, str]


async def run_sandbox(host: str, port: int, ledger: Path | None) -> None:
    """Serve until stopped. Raises `CannotListen` and `LedgerUnavailable`."""
    async with sandbox(host, port, ledger) as running:
        try:
            await _demonstrate(running)
        except httpx.HTTPError:
            # The user may stop the sandbox before the demonstration is complete.
            if not running.server.is_stopping:
                raise
        await running.stopped


@asynccontextmanager
async def sandbox(host: str, port: int, ledger: Path | None) -> AsyncIterator[Sandbox]:
    """Run a sandbox, without a demonstration. Raises `CannotListen` and `LedgerUnavailable`."""
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listen_near(host, port))
        _delete_abandoned_folders()
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX))
        connectors, errors = installed()
        for error in errors:
            log.error("the sandbox has no %s", error)
        found = find_emulators(connectors)
        # One server for all, because each takes a moment to stop.
        mounts = [Mount(f"/{provider}", emulator.app) for provider, emulator in found.items()]
        emulators_url = await stack.enter_async_context(serving(Starlette(routes=mounts)))
        emulators = {provider: f"{emulators_url}/{provider}" for provider in found}
        settings = _settings(found, emulators, ledger or Path(folder) / "ledger.db")
        outcomes = {provider: emulator.outcomes for provider, emulator in found.items()}
        pages = SandboxPages(outcomes, lambda gateway: home_page(gateway, emulators, outcomes))
        app = await create_app(settings, cors_origin_regex=LOOPBACK_ORIGINS, sandbox=pages)
        server = create_server(app, [host])
        stopped = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started and not stopped.done():
                await asyncio.sleep(0.01)
            yield Sandbox(_url_of(listener), settings, emulators, server, stopped)
        finally:
            server.should_exit = True
            await stopped


def _delete_abandoned_folders() -> None:
    """Delete the folders of sandboxes that were killed, which could not do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with suppress(OSError):
            # The user root must not follow what others have put there.
            if folder.lstat().st_uid != os.getuid():
                continue
            with (folder / "ledger.db-lock").open("rb") as lock:
                # A sandbox that runs holds this lock.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)


def _listen_near(host: str, port: int) -> socket.socket:
    """Reserve the port, or the next one that is free. Raises `CannotListen`."""
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        with suppress(CannotListen):
            listening = listen(host, candidate)
            if candidate != port:
                print(f"Port {port} is in use, so the sandbox uses port {candidate}.", flush=True)
            return listening
    return listen(host, port)


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def find_emulators(connectors: Collection[str]) -> Mapping[str, Emulator]:
    """Return the emulator of each provider. The package of a connector may have none."""
    emulators = {
        provider: _emulator_in(
            importlib.import_module(f"campaign_gateway.sandbox.emulators.{provider}")
        )
        for provider in connectors
        if provider in CONNECTORS
    }
    for entry_point in entry_points(group=GROUP):
        if entry_point.name in connectors and entry_point.name not in emulators:
            try:
                emulators[entry_point.name] = _emulator_in(entry_point.load())
            # Any error of the package, which must not stop the other emulators.
            except Exception:
                log.exception("the sandbox has no emulator of %s", entry_point.name)
    return emulators


def _emulator_in(module: ModuleType) -> Emulator:
    outcomes = {str(source): text for source, text in module.OUTCOMES.items()}
    return Emulator(module.create_emulator(), module.ACCOUNTS, outcomes)


def _settings(
    found: Mapping[str, Emulator], emulators: Mapping[str, str], ledger: Path
) -> Settings:
    accounts = {
        name: {
            "provider": provider,
            "base_url": emulators[provider],
            "timeout_seconds": TIMEOUT_SECONDS,
            # The emulators take any number of calls.
            "calls_per_minute": None,
            "calls_per_second": None,
            **fields,
        }
        for provider, emulator in found.items()
        for name, fields in emulator.accounts.items()
    }
    # The environment may contain secrets of real accounts, which no emulator should get.
    return parse_settings({"ledger": {"url": f"sqlite:///{ledger}"}, "accounts": accounts}, {})


async def _demonstrate(running: Sandbox) -> None:
    """Duplicate a campaign with each account, as a client would, and print what to try next."""
    gateway, accounts = running.url, running.settings.accounts
    # The gateway runs on this machine, so a proxy of the environment must not be used.
    async with httpx.AsyncClient(base_url=gateway, timeout=30, trust_env=False) as client:
        payloads = {
            name: await _execute(client, _body(running.settings, name)) for name in accounts
        }
        _print_table(running.settings, payloads)
        print(f"\nSandbox             {gateway}/")
        print(f"GraphiQL            {gateway}/graphiql")
        print(f"GraphQL             {gateway}/graphql")
        for provider, url in running.emulators.items():
            print(f"{f'copies at {provider}':<19} {url}/_emulator/copies")
        body = _body(running.settings, next(iter(accounts)))
        print(f"\nFrom a shell:\n{_curl(gateway, body)}\n", flush=True)
        for name, payload in payloads.items():
            if payload["status"] == "ACCEPTED":
                await _watch(client, name, payload["duplication"]["id"])
        print("Ctrl-C stops the sandbox.", flush=True)


def _body(settings: Settings, account: str) -> dict[str, Any]:
    connector = find_connector(settings.accounts[account].provider)
    query = examples.mutation(connector, account)
    return {"query": " ".join(query.split()), "variables": examples.new_key_variables()}


async def _execute(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    content = (await client.post("/graphql", json=body)).json()
    if "errors" in content:
        raise RuntimeError(f"the gateway returned errors: {content['errors']}")
    payload: dict[str, Any] = next(iter(content["data"].values()))
    return payload


async def _watch(client: httpx.AsyncClient, account: str, duplication_id: str) -> None:
    """Wait until the gateway has found the copy, whose id the provider did not return."""
    for _ in range(60):
        await asyncio.sleep(0.5)
        duplication = await _execute(client, {"query": WATCH, "variables": {"id": duplication_id}})
        if duplication["status"] != "ACCEPTED":
            print(
                f"{account}: duplication {duplication_id} is now {duplication['status']} as "
                f"campaign {duplication['campaign']['id']} (evidence: {duplication['evidence']})"
            )
            return


def _print_table(settings: Settings, payloads: Mapping[str, dict[str, Any]]) -> None:
    rows = [("ACCOUNT", "PROVIDER", "STATUS", "COPY", "NAME OF THE COPY")]
    for name, payload in payloads.items():
        copy = payload["campaign"] or {"id": "no id yet", "name": None}
        provider = settings.accounts[name].provider
        rows.append((name, provider, payload["status"], copy["id"], copy["name"] or ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _curl(gateway: str, body: dict[str, Any]) -> str:
    data = shlex.quote(json.dumps(body))
    return f"curl -s {gateway}/graphql -H 'content-type: application/json' -d {data}"
