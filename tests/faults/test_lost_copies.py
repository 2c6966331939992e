"""Copies whose response is lost: which of them a search finds, by provider."""

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import MISSING, Field, dataclass, fields, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import ObjectValueNode, parse_value, print_ast

from campaign_gateway.app import create_app
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    Token,
    UsesAccessTokens,
)
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.model import Timing
from campaign_gateway.sandbox.contract_suite.subject import example_of
from campaign_gateway.sandbox.emulation import serving
from campaign_gateway.settings import parse_settings
from support.connectors import emulator_of
from support.figures import Figures

# The faults after which there is a copy, and a response without the copy's id or none.
FAULTS = ("cut-after-copy", "cut-in-response", "garbage", "unreadable", "empty")

# More than a search reads of any list without filters.
MANY = 350

# The first check comes after the campaigns that others make in the meantime.
TIMING = Timing(first_check_after=1, check_intervals=(0.5, 1, 2, 4), reconcile_interval=0.1)
LATE = replace(TIMING, first_check_after=25)

MUTATION = """
mutation Copy($key: String!) {{
  duplicateCampaign(input: {{ {provider}: {{ {fields} }} }}, idempotencyKey: $key) {{
    status duplication {{ id }} userErrors {{ message }}
  }}
}}
"""
DUPLICATIONS = """
query Found($after: String) {
  duplications(first: 100, after: $after) {
    pageInfo { hasNextPage endCursor }
    edges { node { id status evidence campaign { id name } warnings { code } } }
  }
}
"""


@dataclass
class Gateway:
    """A gateway with an emulator of each provider."""

    http: httpx.AsyncClient
    emulators: dict[str, str]

    async def ask(self, query: str, **variables: object) -> dict[str, Any]:
        body = {"query": query, "variables": variables}
        content = (await self.http.post("/graphql", json=body)).json()
        assert "errors" not in content, content
        data: dict[str, Any] = content["data"]
        return data

    async def duplicate(self, provider: str, source: object, name: str | None) -> dict[str, Any]:
        example = parse_value(f"{{{CONNECTORS[provider].example}}}")
        assert isinstance(example, ObjectValueNode)
        values = {field.name.value: print_ast(field.value) for field in example.fields}
        values["campaignId"] = json.dumps(source)
        if name_field(provider) is not None:
            values["name"] = json.dumps(name)
        text = ", ".join(f"{field}: {value}" for field, value in values.items())
        mutation = MUTATION.format(provider=provider, fields=text)
        payload: dict[str, Any] = (await self.ask(mutation, key=str(uuid.uuid4())))[
            "duplicateCampaign"
        ]
        return payload

    async def duplications(self) -> dict[str, dict[str, Any]]:
        nodes, after = [], None
        while True:
            page = (await self.ask(DUPLICATIONS, after=after))["duplications"]
            nodes += [edge["node"] for edge in page["edges"]]
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                return {node["id"]: node for node in nodes}

    async def settled(self, ids: Iterable[str], seconds: float) -> dict[str, dict[str, Any]]:
        """Return the duplications when all are CREATED, or after some seconds."""
        ends_at = asyncio.get_running_loop().time() + seconds
        while True:
            found = await self.duplications()
            is_done = all(found[each]["status"] == "CREATED" for each in ids)
            if is_done or asyncio.get_running_loop().time() > ends_at:
                return {each: found[each] for each in ids}
            await asyncio.sleep(0.2)

    async def fill(self, provider: str) -> None:
        """Make many campaigns at the provider, as other programs do."""
        settings = next(iter(emulator_of(provider).ACCOUNTS.values()))
        account = {"provider": provider, "base_url": self.emulators[provider], **settings}
        connector = CONNECTORS[provider](CONNECTORS[provider].Account.model_validate(account))
        token = None
        if isinstance(connector, UsesAccessTokens):
            parsed = connector.parse_token(await self.send(connector.build_token_request()))
            token = parsed.value if isinstance(parsed, Token) else None
        for number in range(MANY):
            filler = example_of(CONNECTORS[provider])
            if name_field(provider) is not None:
                filler = replace(filler, name=f"Filler {number}")
            request = connector.build_request(filler)
            if isinstance(connector, UsesAccessTokens):
                request = connector.authorize(request, token or "")
            await self.send(request)

    async def send(self, request: ProviderRequest) -> ProviderResponse:
        response = await self.http.request(
            request.method, request.url, content=request.body, headers=dict(request.headers)
        )
        return ProviderResponse(response.status_code, {}, response.content)

    async def rename_at_omnisend(self, campaign_id: str, name: str) -> None:
        account = {"provider": "omnisend", "base_url": self.emulators["omnisend"]}
        settings = account | next(iter(emulator_of("omnisend").ACCOUNTS.values()))
        connector: Any = CONNECTORS["omnisend"](
            CONNECTORS["omnisend"].Account.model_validate(settings)
        )
        named = replace(example_of(CONNECTORS["omnisend"]), name=name)
        response = await self.send(connector.build_rename(named, campaign_id, None))
        assert response.is_success

    async def copies(self, provider: str) -> list[Any]:
        response = await self.http.get(f"{self.emulators[provider]}/_emulator/copies")
        copies: list[Any] = response.json()["copies"]
        return copies


@asynccontextmanager
async def gateway_with(folder: Path, timing: Timing) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        emulators = {
            provider: await stack.enter_async_context(
                serving(emulator_of(provider).create_emulator())
            )
            for provider in CONNECTORS
        }
        accounts = {
            provider: {
                "provider": provider,
                "base_url": url,
                "calls_per_minute": None,
                "calls_per_second": None,
                **next(iter(emulator_of(provider).ACCOUNTS.values())),
            }
            for provider, url in emulators.items()
        }
        ledger = {"url": f"sqlite:///{folder}/ledger.db"}
        settings = parse_settings({"ledger": ledger, "accounts": accounts}, {})
        app = await create_app(settings, timing=timing)
        await stack.enter_async_context(app.router.lifespan_context(app))
        url = await stack.enter_async_context(serving(app))
        http = httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)
        yield Gateway(await stack.enter_async_context(http), emulators)


def source_of(provider: str, fault: str) -> object:
    outcomes = emulator_of(provider).OUTCOMES
    return next(
        source
        for source, words in outcomes.items()
        if source == fault or words.startswith(f"{fault}:")
    )


def name_field(provider: str) -> Field[str] | None:
    """Return the field of the input that chooses the name of the copy, if there is one."""
    named = (field for field in fields(CONNECTORS[provider].Input) if field.name == "name")
    return next(named, None)


def takes(provider: str, *, name: bool) -> bool:
    """Return whether the provider copies with, or without, a requested name."""
    field = name_field(provider)
    return field is not None if name else field is None or field.default is not MISSING


# Providers that name a copy after its source, and whether the copying call takes a name.
NAMED_BY_PROVIDER = {
    "dotdigital": False,
    "instantly": True,
    "klaviyo": True,
    "lemlist": True,
    "mailchimp": False,
    "omnisend": False,
    "sendgrid": True,
}


async def test_lost_copy_is_found_by_the_name_that_its_provider_chooses(tmp_path: Path) -> None:
    async with gateway_with(tmp_path, TIMING) as gateway:
        ids = {}
        for provider, takes_name in NAMED_BY_PROVIDER.items():
            name = None if takes_name else f"Copy {uuid.uuid4()}"
            source = source_of(provider, "cut-after-copy")
            payload = await gateway.duplicate(provider, source, name)
            assert payload["status"] == "UNKNOWN"
            ids[payload["duplication"]["id"]] = takes_name
        found = await gateway.settled(ids, 30)
        for duplication_id, takes_name in ids.items():
            duplication = found[duplication_id]
            assert (duplication["status"], duplication["evidence"]) == ("CREATED", "INFERRED")
            # It may be another person's, so the gateway does not rename it.
            assert duplication["campaign"]["name"].startswith(
                ("Copy of", "cut-after-copy (copy", "cut-after-copy Copy")
            )
            codes = [warning["code"] for warning in duplication["warnings"]]
            assert codes == ([] if takes_name else ["NAME_NOT_APPLIED"])
        for provider in NAMED_BY_PROVIDER:
            assert len(await gateway.copies(provider)) == 1


async def test_copies_with_one_name_of_the_provider_are_not_guessed(tmp_path: Path) -> None:
    async with gateway_with(tmp_path, TIMING) as gateway:
        ids = [
            (await gateway.duplicate("omnisend", "cut-after-copy", name))["duplication"]["id"]
            for name in ("One", "Another")
        ]
        found = await gateway.settled(ids, 3)
        assert [found[each]["status"] for each in ids] == ["UNKNOWN", "UNKNOWN"]


async def test_copy_is_not_guessed_if_another_source_has_the_same_name(tmp_path: Path) -> None:
    async with gateway_with(tmp_path, TIMING) as gateway:
        ids = {}
        for source in ("cut-before-copy", "empty", "cut-after-copy"):
            payload = await gateway.duplicate("omnisend", source, f"Copy {uuid.uuid4()}")
            ids[source] = payload["duplication"]["id"]
            if source == "cut-before-copy":
                # No copy of this one was made, and its name is that of the last one from now on.
                await gateway.rename_at_omnisend(source, "cut-after-copy")
        found = await gateway.settled([ids["empty"]], 10)
        # The other names do not matter.
        assert found[ids["empty"]]["status"] == "CREATED"
        rest = await gateway.settled([ids["cut-before-copy"], ids["cut-after-copy"]], 2)
        assert [each["status"] for each in rest.values()] == ["UNKNOWN", "UNKNOWN"]


@pytest.mark.long
@pytest.mark.parametrize("is_named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("is_busy", [False, True], ids=["quiet", "busy"])
async def test_share_of_lost_copies_that_are_never_found(
    *, is_busy: bool, is_named: bool, tmp_path: Path, figures: Figures
) -> None:
    """Every fault at every provider. In a busy account, others make many campaigns afterwards."""
    async with gateway_with(tmp_path, LATE if is_busy else TIMING) as gateway:
        lost = defaultdict(list)
        for provider in CONNECTORS:
            for fault in FAULTS if takes(provider, name=is_named) else ():
                name = f"Copy {uuid.uuid4()}" if is_named else None
                payload = await gateway.duplicate(provider, source_of(provider, fault), name)
                assert payload["status"] in {"UNKNOWN", "ACCEPTED"}, payload
                lost[provider].append(payload["duplication"]["id"])
        if is_busy:
            await asyncio.gather(*map(gateway.fill, CONNECTORS))
        every = [each for ids in lost.values() for each in ids]
        found = await gateway.settled(every, 60 if is_busy else 15)
    for provider, ids in lost.items():
        never = sum(found[each]["status"] != "CREATED" for each in ids)
        case = f"{'busy' if is_busy else 'quiet'}, {'named' if is_named else 'unnamed'}"
        figures.measured[f"lost, never found: {provider}, {case}"] = f"{never} of {len(ids)}"
