"""What a new user tries first: the version, and the address without a path."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx
import pytest

from campaign_gateway import app, cli
from campaign_gateway.settings import parse_settings
from campaign_gateway.web.explorer import explorer_routes


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


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_root_redirects_to_graphiql_by_a_path_alone(sandbox_url: str, method: str) -> None:
    response = httpx.request(method, f"{sandbox_url}/", trust_env=False)
    assert response.status_code == 307
    assert response.headers["location"] == "/graphiql"


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
