"""The accounts at `/readyz?accounts`, and what the background checks log."""

import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.app import create_app
from campaign_gateway.model import DEFAULT_TIMING, Timing
from campaign_gateway.sandbox.emulation import serving
from campaign_gateway.sandbox.emulators.sonarly import AUDIENCES, GROUP, LIMITED_ACCOUNT
from campaign_gateway.settings import parse_settings
from campaign_gateway.web.callers.keys import create_key
from support.waiting import until, until_async

OFTEN = replace(
    DEFAULT_TIMING,
    account_check_delay=0.01,
    account_check_interval=0.05,
    problem_over_after=0.2,
)
NEVER = replace(DEFAULT_TIMING, account_check_delay=3600)

COPY = """
mutation ($campaign: SonarlyCampaignInput!, $key: String!) {
  duplicateCampaign(input: { sonarly: $campaign }, idempotencyKey: $key) { userErrors { code } }
}
"""


@asynccontextmanager
async def gateway(
    folder: Path, accounts: Mapping[str, object], timing: Timing, **sections: object
) -> AsyncIterator[httpx.AsyncClient]:
    settings = {
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
        "accounts": accounts,
        **sections,
    }
    app = await create_app(parse_settings(settings, {}), timing=timing)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        yield client


async def lines_of(client: httpx.AsyncClient, key: str | None = None) -> list[str]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    response = await client.get("/readyz?accounts", headers=headers)
    assert response.status_code == 200
    ready, *lines = response.text.splitlines()
    assert ready == "ready"
    return lines


async def test_line_says_what_is_wrong_and_when_it_was_checked(
    tables: Mapping[str, dict[str, Any]], unread: dict[str, Any], tmp_path: Path
) -> None:
    accounts = {
        "good": tables["sonarly"],
        "bad": {**tables["meta"], "access_token": "wrong"},
        "unread": unread,
    }
    async with gateway(tmp_path, accounts, OFTEN) as client:

        async def is_checked() -> bool:
            return not any("not checked yet" in line for line in await lines_of(client))

        await until_async(is_checked)
        good, bad, unread_line = await lines_of(client)
        # Without the parameter, probes get the same as before.
        assert (await client.get("/readyz")).text == "ready\n"
    time = r"\(checked at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)"
    assert re.fullmatch(rf"account good: ok {time}", good)
    assert re.fullmatch(
        rf"account unread: not checked, because no read of the provider is known {time}",
        unread_line,
    )
    assert re.fullmatch(rf"account bad: Meta Ads refuses the secret\. .* {time}", bad)


async def test_problem_that_only_a_copy_shows_is_there_without_another_caller_s_words(
    tables: Mapping[str, dict[str, Any]], tmp_path: Path
) -> None:
    table = {**tables["sonarly"], **LIMITED_ACCOUNT}
    async with gateway(tmp_path, {"good": tables["sonarly"], "limited": table}, NEVER) as client:
        campaign = {
            "account": "limited",
            "accountGroupId": GROUP,
            "campaignId": "forbidden",
            "audienceId": next(iter(AUDIENCES)),
        }
        for key in ("a", "b"):
            variables = {"campaign": campaign, "key": key}
            response = await client.post("/graphql", json={"query": COPY, "variables": variables})
            payload = response.json()["data"]["duplicateCampaign"]
            assert payload["userErrors"] == [{"code": "PERMISSION_DENIED"}]
        good, limited, problem = await lines_of(client)
        # The ledger's file is away, so the page is 503, and still shows the accounts.
        (tmp_path / "ledger.db").rename(tmp_path / "moved.db")
        response = await client.get("/readyz?accounts")
        (tmp_path / "moved.db").rename(tmp_path / "ledger.db")
    assert good == "account good: not checked yet"
    assert limited == "account limited: not checked yet"
    assert re.fullmatch(
        r"account limited: PERMISSION_DENIED since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, 2 failures; "
        "the log has the reason",
        problem,
    )
    assert response.status_code == 503
    reason, *lines = response.text.splitlines()
    assert reason.startswith("the ledger cannot be used: ")
    assert lines == [good, limited, problem]


async def test_caller_sees_only_its_accounts_and_only_with_its_key(
    tables: Mapping[str, dict[str, Any]], tmp_path: Path
) -> None:
    (team, team_hash), (admin, admin_hash) = create_key(), create_key()
    callers = {
        "team": {"key": team_hash, "accounts": ["braze"], "may": ["read"]},
        "admin": {"key": admin_hash, "accounts": "*", "may": ["read"]},
    }
    accounts = {name: tables[name] for name in ("braze", "sonarly")}
    async with gateway(tmp_path, accounts, NEVER, callers=callers) as client:
        assert await lines_of(client, team) == ["account braze: not checked yet"]
        assert len(await lines_of(client, admin)) == 2
        assert (await client.get("/readyz?accounts")).status_code == 401


async def test_problem_is_logged_once_and_again_when_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reads: list[int] = []
    is_refused = True

    async def scopes(_request: Request) -> Response:
        reads.append(401 if is_refused else 200)
        return JSONResponse({"scopes": ["marketing.read"]}, reads[-1])

    def warnings() -> list[str]:
        levels = {logging.WARNING}
        return [each.getMessage() for each in caplog.records if each.levelno in levels]

    async with serving(Starlette(routes=[Route("/v3/scopes", scopes)])) as url:
        table = {"provider": "sendgrid", "base_url": url, "api_key": "SG.key"}
        async with gateway(tmp_path, {"mail": table}, OFTEN):
            await until(lambda: reads.count(401) >= 3)
            is_refused = False
            await until(lambda: len(warnings()) > 1)
    first, last = warnings()
    assert first.startswith("account mail: SendGrid refuses the secret.")
    assert re.match("account mail: SECRET_REFUSED is over after [0-9]+ failures in ", last)
