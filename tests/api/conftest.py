"""A whole gateway over real HTTP, with emulators on real sockets."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from campaign_gateway.sandbox.sandbox import Sandbox, sandbox
from support.edge import Edge, edge
from support.plain import NO_CAS

FIELDS = """
  status replayed
  campaign { account id provider name status }
  duplication { id provider account sourceCampaignId requestedName status evidence providerTraceId
    requestedAt settledAt campaign { id } error { code } }
  userErrors { code message field retry retryAfterSeconds providerCode providerMessage }
"""


@dataclass
class Client:
    """A client of the gateway, which can also read the emulators' counts."""

    http: httpx.AsyncClient
    sandbox: Sandbox

    async def execute(self, query: str, **variables: object) -> dict[str, Any]:
        # ASCII JSON can contain lone surrogates, which UTF-8 cannot.
        body = json.dumps({"query": query, "variables": variables})
        response = await self.http.post(
            "/graphql", content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code == 200, response.text
        content: dict[str, Any] = response.json()
        return content

    async def ask(self, query: str, **variables: object) -> Any:
        content = await self.execute(query, **variables)
        assert "errors" not in content, content["errors"]
        return content["data"]

    async def duplicate(self, fields: str, key: str | None = None) -> dict[str, Any]:
        """Return the payload for an input in GraphQL, such as `braze: {...}`."""
        query = (
            f"mutation Copy($key: String!) {{ duplicateCampaign(input: {{ {fields} }}, "
            f"idempotencyKey: $key) {{ {FIELDS} }} }}"
        )
        key = str(uuid.uuid4()) if key is None else key
        payload: dict[str, Any] = (await self.ask(query, key=key))["duplicateCampaign"]
        return payload

    async def counted(self, provider: str) -> dict[str, Any]:
        url = f"{self.sandbox.emulators[provider]}/_emulator/copies"
        counted: dict[str, Any] = (await self.http.get(url)).json()
        return counted


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """One gateway for a module. Its tests use the module's event loop, which lives as long."""
    async with edge(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def client(ledger_path: Path) -> AsyncIterator[Client]:
    async with (
        sandbox("127.0.0.1", 0, ledger_path) as running,
        httpx.AsyncClient(base_url=running.url, timeout=30, trust_env=False, verify=NO_CAS) as http,
    ):
        yield Client(http, running)
