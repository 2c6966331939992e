"""A gateway with configured callers, in front of emulators, and its clients."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette
from starlette.routing import Mount

from campaign_gateway.app import Gateway, create_app
from campaign_gateway.sandbox.emulation import serving
from campaign_gateway.sandbox.emulators import altcraft, braze, meta, sonarly
from campaign_gateway.settings import parse_settings
from campaign_gateway.web.callers.keys import create_key
from support.plain import NO_CAS

EMULATORS = {"altcraft": altcraft, "braze": braze, "meta": meta, "sonarly": sonarly}

# Sources at Sonarly's emulator.
SOURCE = "507f1f77bcf86cd799439011"
GROUP = "507f1f77bcf86cd799439001"
AUDIENCE = "507f1f77bcf86cd799439021"

COPY = """
mutation Copy($input: DuplicateCampaignInput!, $key: String!, $override: ID) {
  duplicateCampaign(input: $input, idempotencyKey: $key, overrideDuplicationId: $override) {
    status replayed campaign { account id name } requestedBy { caller person }
    duplication { id status requestedBy { caller person } }
    userErrors { code message field retry retryAfterSeconds }
  }
}
"""


def sonarly_input(name: str, source: str = SOURCE, **more: object) -> dict[str, Any]:
    fields = {"accountGroupId": GROUP, "campaignId": source, "audienceId": AUDIENCE, "name": name}
    return {"sonarly": {**fields, **more}}


@dataclass(frozen=True)
class Client:
    """Sends requests with the headers of one caller."""

    http: httpx.Client
    headers: Mapping[str, str] = field(default_factory=dict)

    def post(self, query: str, **variables: object) -> httpx.Response:
        content = json.dumps({"query": query, "variables": variables})
        return self.http.post(
            "/graphql",
            content=content,
            headers={"content-type": "application/json", **self.headers},
        )

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path, headers=self.headers)

    def data(self, query: str, **variables: object) -> Any:
        response = self.post(query, **variables)
        answer = response.json()
        assert response.status_code == 200, answer
        assert "errors" not in answer, answer
        return answer["data"]

    def copy(
        self, copy_input: Mapping[str, Any], key: str | None = None, override: str | None = None
    ) -> Any:
        key = key or str(uuid.uuid4())
        return self.data(COPY, input=copy_input, key=key, override=override)["duplicateCampaign"]


@dataclass(frozen=True)
class CalledGateway:
    """A running gateway. `keys` has one key for each caller that has one."""

    url: str
    app: Starlette
    gateway: Gateway
    http: httpx.Client
    keys: Mapping[str, str]

    def client(self, caller: str | None = None, **headers: str) -> Client:
        """Return a client that sends the key of a caller, if one is named."""
        bearer = {"authorization": f"Bearer {self.keys[caller]}"} if caller else {}
        return Client(self.http, {**bearer, **headers})

    def client_with(self, credential: str) -> Client:
        return Client(self.http, {"authorization": f"Bearer {credential}"})


@contextmanager
def called_gateway(
    folder: Path,
    callers: Mapping[str, Mapping[str, object]],
    providers: Sequence[str] = tuple(EMULATORS),
    **sections: Mapping[str, object],
) -> Iterator[CalledGateway]:
    """Run a gateway in a thread of its own. Callers without a `key` get one."""
    created = {name: create_key() for name, caller in callers.items() if "key" not in caller}
    tables = {
        name: {**({"key": created[name][1]} if name in created else {}), **caller}
        for name, caller in callers.items()
    }
    keys = {name: key for name, (key, _) in created.items()}
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            _running(folder, providers, {**sections, "callers": tables})
        ) as (url, app),
        httpx.Client(base_url=url, timeout=30, trust_env=False, verify=NO_CAS) as http,
    ):
        yield CalledGateway(url, app, app.state.gateway, http, keys)


@asynccontextmanager
async def _running(
    folder: Path, providers: Sequence[str], sections: Mapping[str, Mapping[str, object]]
) -> AsyncIterator[tuple[str, Starlette]]:
    mounts = [Mount(f"/{name}", EMULATORS[name].create_emulator()) for name in providers]
    async with serving(Starlette(routes=mounts)) as emulators:
        accounts = {
            name: {
                "provider": provider,
                "base_url": f"{emulators}/{provider}",
                "timeout_seconds": 5,
                **fields,
            }
            for provider in providers
            for name, fields in EMULATORS[provider].ACCOUNTS.items()
        }
        ledger = {"url": f"sqlite:///{folder}/ledger.db"}
        settings = parse_settings({"accounts": accounts, "ledger": ledger, **sections}, {})
        app = await create_app(settings)
        gateway: Gateway = app.state.gateway
        try:
            # Without the background tasks: what is unsettled stays so.
            async with serving(app) as url:
                yield url, app
        finally:
            await gateway.drain()
            await gateway.close()
