"""One sandbox that the many small cases of a module share, and what they ask of it."""

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
        # ASCII JSON can also spell what UTF-8 cannot carry.
        body = json.dumps({"query": query, "variables": variables, "operationName": operation})
        headers = {"accept": GRAPHQL_RESPONSE, "content-type": JSON}
        return await self.http.post("/graphql", content=body, headers=headers)

    async def refused(
        self, query: str, variables: object = None, operation: str | None = None
    ) -> list[str]:
        """The messages, of a request of which nothing was executed."""
        response = await self.post(query, variables, operation)
        answer = response.json()
        assert response.status_code == 400, answer
        assert "data" not in answer
        assert {error["extensions"]["code"] for error in answer["errors"]} == {"INVALID_REQUEST"}
        assert not PYTHON_WORDS.search(response.text), response.text
        return [error["message"] for error in answer["errors"]]

    async def data(self, query: str, variables: object = None, operation: str | None = None) -> Any:
        """What is answered without any error."""
        response = await self.post(query, variables, operation)
        answer = response.json()
        assert response.status_code == 200, answer
        assert "errors" not in answer, answer
        return answer["data"]

    async def copies_asked_for(self) -> int:
        """How often any provider was asked for a copy."""
        urls = self.sandbox.emulators.values()
        answers = await asyncio.gather(*(self.http.get(f"{url}/_emulator/copies") for url in urls))
        return sum(answer.json()["asked"] for answer in answers)


@asynccontextmanager
async def edge(folder: Path) -> AsyncIterator[Edge]:
    async with (
        sandbox("127.0.0.1", 0, folder / "ledger.db") as running,
        httpx.AsyncClient(base_url=running.url, timeout=30, trust_env=False, verify=NO_CAS) as http,
    ):
        yield Edge(http, running)
