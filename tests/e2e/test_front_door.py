"""What a new user tries first: the version, and the address without a path."""

import subprocess
import sys
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx
import pytest

from campaign_gateway import app, cli
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.settings import parse_settings
from campaign_gateway.web.explorer import explorer_routes
from support.calling import COPY, called_gateway, sonarly_input


def test_version_option_prints_the_installed_version() -> None:
    command = [sys.executable, "-m", "campaign_gateway", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"campaign-gateway {version('campaign-gateway')}\n"


def test_version_option_works_in_a_source_tree_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cli, "version", missing)
    monkeypatch.setattr(sys, "argv", ["campaign-gateway", "--version"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert "the package is not installed" in capsys.readouterr().out


def test_root_redirects_to_graphiql_by_a_path_alone(tmp_path: Path) -> None:
    with called_gateway(tmp_path, {}, ["sonarly"]) as running:
        for method in ("GET", "HEAD"):
            response = running.http.request(method, "/")
            assert response.status_code == 307
            assert response.headers["location"] == "/graphiql"


def test_root_of_the_sandbox_shows_accounts_copies_and_outcomes(sandbox_url: str) -> None:
    name = "<script>alert(1)</script> & co"
    copy = {"query": COPY, "variables": {"input": sonarly_input(name), "key": name[:1] * 8}}
    httpx.post(f"{sandbox_url}/graphql", json=copy, trust_env=False).raise_for_status()
    response = httpx.get(f"{sandbox_url}/", trust_env=False)
    assert "<script" not in response.text
    assert escape(name) in response.text
    assert "script-src" not in response.headers["content-security-policy"]
    for provider, connector in CONNECTORS.items():
        assert f"/graphiql?provider={provider}" in response.text
        assert connector.title in response.text
    assert "cut-after-copy" in response.text


def test_root_takes_no_other_method(sandbox_url: str) -> None:
    assert httpx.post(f"{sandbox_url}/", trust_env=False).status_code == 405


async def test_root_leads_to_an_explanation_if_graphiql_is_not_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        app, "explorer_routes", lambda examples: explorer_routes(examples, tmp_path / "dist")
    )
    account = {"provider": "sonarly", "api_key": "key"}
    settings = parse_settings(
        {"ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"}, "accounts": {"outreach": account}},
        {},
    )
    gateway = await app.create_app(settings)
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(gateway), base_url="http://gateway", follow_redirects=True
        ) as client:
            response = await client.get("/")
    finally:
        await gateway.state.gateway.close()
    assert response.status_code == 503
    assert "GraphiQL was not built" in response.text
