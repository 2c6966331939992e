"""Secrets are planted wherever one can be, and nothing that an operator sees has any of them."""

import asyncio
import base64
import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.web.callers.keys import create_key
from support.collector import Collector, collecting, environment
from support.commands import run
from support.database_proxy import proxy_for
from support.gateways import Gateway, launch, listening
from support.plain import NO_CAS
from support.waiting import until

KEY, STORED = create_key()
WRONG_KEY, _ = create_key()

# With characters that encodings change.
SECRETS = {
    "api key": 'sk_live_canary/1+\\"&<%7>',
    "client secret": "canary-2&client=secret/+",
    "issued token": "canary-3-issued-token",
    "database password": "canary4database",
    "caller's key": KEY.rpartition("_")[2],
    "wrong key": WRONG_KEY.rpartition("_")[2],
    "wrong token": "eyJhbGciOiJub25lIn0.canary5wrongtoken.x",
}

STATUSES = [201, 302, 400, 401, 403, 404, 409, 429, 500]
MARKETO_STATUSES = [201, 401, 500]
TIMING = {"statement_timeout": 1.0, "heartbeat_interval": 0.3}

CONFIGURATION = """
[server]
port = 0
[log]
level = "debug"
[metrics]
port = 0
[ledger]
url = "{ledger}"
[callers.team]
key = "{stored}"
accounts = "*"
may = ["copy", "read", "name-person"]
"""

SONARLY_ACCOUNT = """
[accounts.sonarly-{status}]
provider = "sonarly"
base_url = "{provider}/{status}"
api_key = {key}
timeout_seconds = 2
"""
MARKETO_ACCOUNT = """
[accounts.marketo-{status}]
provider = "marketo"
base_url = "{provider}/{status}"
client_id = "client"
client_secret = {secret}
timeout_seconds = 2
"""

SONARLY = """
mutation Copy($account: String!, $source: ID!, $key: String!) {
  duplicateCampaign(idempotencyKey: $key, input: { sonarly: {
    account: $account, accountGroupId: "507f1f77bcf86cd799439001", campaignId: $source,
    audienceId: "507f1f77bcf86cd799439021", name: "Copy"
  } }) { status duplication { id } userErrors { code message providerCode providerMessage } }
}
"""
MARKETO = """
mutation Copy($account: String!, $key: String!) {
  duplicateCampaign(idempotencyKey: $key, input: { marketo: {
    account: $account, campaignId: 1069, kind: SMART_CAMPAIGN, name: "Copy", folderId: 640
  } }) { status duplication { id } userErrors { code message providerCode providerMessage } }
}
"""


async def echo(request: Request) -> Response:
    """Respond with everything that the request has, in several encodings."""
    if request.url.path.endswith("/oauth/token"):
        token = {"access_token": SECRETS["issued token"], "expires_in": 3600}
        return JSONResponse({**token, "token_type": "bearer"})
    status = int(request.url.path.split("/")[1])
    parts = [str(request.url), *request.headers.values(), (await request.body()).decode()]
    # A provider knows the secret of its own account only.
    is_marketo = SECRETS["issued token"] in request.headers["authorization"]
    parts.append(SECRETS["client secret" if is_marketo else "api key"])
    encoded = [quote(part, safe="") for part in parts]
    encoded += [base64.b64encode(part.encode()).decode() for part in parts]
    text = " ".join([*parts, *encoded])
    campaign = {
        "id": "507f1f77bcf86cd7994390ff",
        "name": text[:300],
        "description": text,
        "status": text[:50],
        "createdAt": "2026-01-01T00:00:00Z",
    }
    error = {"code": text[:90], "message": text, "details": text}
    content = {"success": status == 201, "data": campaign, "error": error, "errors": [error]}
    headers = {"location": f"/{status}/{quote(text)}", "x-request-id": quote(text)}
    return JSONResponse({**content, "traceId": text, "requestId": text}, status, headers)


@pytest.fixture(scope="module")
def provider(serve: Callable[..., str]) -> str:
    methods = ["GET", "POST", "PATCH"]
    return serve(Starlette(routes=[Route("/{path:path}", echo, methods=methods)]))


@contextmanager
def found_nowhere(seen: dict[str, str]) -> Iterator[None]:
    """Assert that no secret is in the texts, in any encoding."""
    yield
    forms = {
        f"{name}, {form}": encoded
        for name, secret in SECRETS.items()
        for form, encoded in {
            "plain": secret,
            "JSON": json.dumps(secret)[1:-1],
            "URL": quote(secret, safe=""),
            "base64": base64.b64encode(secret.encode()).decode().rstrip("=")[:-1],
        }.items()
    }
    found = [(name, place) for name, form in forms.items() for place in seen if form in seen[place]]
    assert found == []


async def copy_everywhere(http: httpx.AsyncClient, gateway: Gateway) -> list[str]:
    """Return the texts of all responses."""
    url, owner = f"{gateway.url}/graphql", {"authorization": f"Bearer {KEY}"}
    texts = []
    names = [("sonarly", status, SONARLY) for status in STATUSES]
    names += [("marketo", status, MARKETO) for status in MARKETO_STATUSES]
    for name, status, query in names:
        key = f"{name}-{status}"
        variables = {"account": key, "source": "507f1f77bcf86cd799439011", "key": key}
        body = {"query": query, "variables": variables}
        response = await http.post(url, json=body, headers={**owner, "x-on-behalf-of": "Ann"})
        texts.append(response.text)
    for wrong in (WRONG_KEY, SECRETS["wrong token"]):
        headers = {"authorization": f"Bearer {wrong}"}
        texts.append((await http.post(url, json={"query": SONARLY}, headers=headers)).text)
    # A caller confuses its fields.
    variables = {"account": KEY, "source": KEY, "key": "confused"}
    sent: list[dict[str, Any]] = [
        {"json": {"query": SONARLY, "variables": variables}},
        {"json": {"query": SONARLY, "variables": {"authorization": f"Bearer {KEY}"}}},
        {"content": f"{{ {KEY}"},
        {"json": {"query": "{ accounts { name } }"}, "params": {"api_key": KEY}},
    ]
    for request in sent:
        response = await http.post(url, **request, headers={**owner, "traceparent": KEY})
        assert response.status_code in {200, 400, 415}
    return texts


async def test_no_secret_is_seen(
    tmp_path: Path, provider: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}
    with (
        found_nowhere(seen),
        collecting(Collector()) as collector,
        proxy_for(postgres_url.replace("postgres@", "postgres:unused@")) as database,
    ):
        ledger = database.url.replace("postgres@", f"postgres:{SECRETS['database password']}@")
        config = tmp_path / "gateway.toml"
        key, secret = (json.dumps(SECRETS[name]) for name in ("api key", "client secret"))
        accounts = [
            *(SONARLY_ACCOUNT.format(status=each, provider=provider, key=key) for each in STATUSES),
            *(
                MARKETO_ACCOUNT.format(status=each, provider=provider, secret=secret)
                for each in MARKETO_STATUSES
            ),
        ]
        config.write_text(CONFIGURATION.format(ledger=ledger, stored=STORED) + "".join(accounts))
        config.chmod(0o600)
        for name, value in environment(collector.url).items():
            monkeypatch.setenv(name, value)
        gateway = launch(config, {"timing": TIMING})
        try:
            await listening(gateway)
            async with httpx.AsyncClient(trust_env=False, verify=NO_CAS, timeout=30) as http:
                seen["responses"] = "".join(await copy_everywhere(http, gateway))
                assert "providerMessage" in seen["responses"]
                await see(http, gateway, config, seen)
                database.is_cut = True
                await until(lambda: "heartbeat" in gateway.output())
                done = await asyncio.to_thread(run, "duplications", "list", "--config", str(config))
                seen["list without a database"] = done.stdout + done.stderr
                assert done.returncode == 1
                database.is_cut = False
            assert await gateway.stop() == 0
        finally:
            gateway.kill()
        seen["log"] = gateway.output()
        assert seen["log"].count("[redacted]") > 50
        seen["traces"] = " ".join(body.decode("latin-1") for body in collector.bodies)
        assert "marketo-401" in seen["traces"]


async def see(
    http: httpx.AsyncClient, gateway: Gateway, config: Path, seen: dict[str, str]
) -> None:
    """Add what commands and pages show."""
    port = re.search(r"serving metrics on \S+ port (\d+)", gateway.output())
    assert port is not None
    metrics = await http.get(f"http://127.0.0.1:{port[1]}/metrics")
    seen["metrics"] = metrics.text
    owner = {"authorization": f"Bearer {KEY}"}
    seen["ready"] = (await http.get(f"{gateway.url}/readyz?accounts", headers=owner)).text
    commands = ["check", "check --json", "duplications list --all", "dashboard", "alerts"]
    for command in [*commands, "duplications list --all --json"]:
        has_config = command not in {"dashboard", "alerts"}
        more = ["--config", str(config)] if has_config else []
        done = await asyncio.to_thread(run, *shlex.split(command), *more)
        assert done.stdout, done.stderr
        seen[command] = done.stdout + done.stderr
    records = json.loads(seen["duplications list --all --json"])
    assert len(records) > len(STATUSES)
    for record in records[:2]:
        for form in ([], ["--json"]):
            command_line = ["duplications", "show", record["id"], *form, "--config", str(config)]
            done = await asyncio.to_thread(run, *command_line)
            assert done.returncode == 0, done.stderr
            seen[f"show {record['id']} {form}"] = done.stdout
