"""A sandbox that the many small cases of a module share, and a client of its gateway."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from campaign_gateway.sandbox.sandbox import Sandbox, sandbox
from support.plain import NO_CAS

JSON = "application/json"
GRAPHQL_RESPONSE = "application/graphql-response+json"

PYTHON_WORDS = re.compile(
    r"Traceback|Error\(|Exception|object at 0x|<class|NoneType|\bdict\b|\bstr\b|\bsys\."
    r"|argument '|unexpected keyword|\.py\b"
)


@dataclass(frozen=True)
class Edge:
    http: httpx.AsyncClient
    sandbox: Sandbox

    async def post(
        self, query: str, variables: object = None, operation: str | None = None
    ) -> httpx.Response:
        # ASCII JSON can contain lone surrogates, which UTF-8 cannot.
        body = json.dumps({"query": query, "variables": variables, "operationName": operation})
        headers = {"accept": GRAPHQL_RESPONSE, "content-type": JSON}
        return await self.http.post("/graphql", content=body, headers=headers)

    async def refused(
        self, query: str, variables: object = None, operation: str | None = None
    ) -> list[str]:
        """Return the messages of a request that must be refused before anything is executed."""
        response = await self.post(query, variables, operation)
        content = response.json()
        assert response.status_code == 400, content
        assert "data" not in content
        assert {error["extensions"]["code"] for error in content["errors"]} == {"INVALID_REQUEST"}
        assert not PYTHON_WORDS.search(response.text), response.text
        return [error["message"] for error in content["errors"]]

    async def data(self, query: str, variables: object = None, operation: str | None = None) -> Any:
        """Return the data of a request that must have no errors."""
        response = await self.post(query, variables, operation)
        content = response.json()
        assert response.status_code == 200, content
        assert "errors" not in content, content
        return content["data"]

    async def copies_asked_for(self) -> int:
        """Return how many copies were requested from all providers together."""
        urls = self.sandbox.emulators.values()
        counts = await asyncio.gather(*(self.http.get(f"{url}/_emulator/copies") for url in urls))
        return sum(count.json()["asked"] for count in counts)


@asynccontextmanager
async def edge(folder: Path) -> AsyncIterator[Edge]:
    async with (
        sandbox("127.0.0.1", 0, folder / "ledger.db") as running,
        httpx.AsyncClient(base_url=running.url, timeout=30, trust_env=False, verify=NO_CAS) as http,
    ):
        yield Edge(http, running)
