"""The sample package, built and installed into a new environment: tested, served, in GraphiQL."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from support.packages import ACME

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a new environment with both packages, as a stranger installs them."""
    folder = tmp_path_factory.mktemp("environment")
    run("-m", "pip", "wheel", "-q", "--no-deps", "-w", folder / "wheels", ROOT, ACME)
    run("-m", "venv", folder / "venv")
    constraints = ROOT / ".constraints.txt"
    pinned = ["-c", constraints] if constraints.exists() else []
    (gateway,) = (folder / "wheels").glob("campaign_gateway-*.whl")
    (acme,) = (folder / "wheels").glob("acme_gateway-*.whl")
    install = ["-m", "pip", "install", "-q", *pinned, f"{gateway}[testing]", acme, "mypy"]
    run(*install, python=python_in(folder))
    shutil.copytree(ACME / "tests", folder / "acme" / "tests")
    shutil.copy(ACME / "pyproject.toml", folder / "acme")
    return folder


def python_in(folder: Path) -> Path:
    return folder / "venv" / "bin" / "python"


def run(*arguments: object, python: object = sys.executable, folder: Path | None = None) -> str:
    command = [str(argument) for argument in (python, *arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_package_passes_the_contract_suite_away_from_the_sources(environment: Path) -> None:
    python = python_in(environment)
    output = run("-m", "pytest", "-q", python=python, folder=environment / "acme")
    passed = re.search(r"(\d+) passed in", output)
    assert passed
    assert int(passed[1]) > 150
    assert "skipped" not in output


def test_failure_in_the_suite_shows_its_values(environment: Path) -> None:
    """The plugin of pytest rewrites the assertions of the suite."""
    folder = environment / "wrong"
    shutil.copytree(environment / "acme", folder)
    file = folder / "tests" / "recordings" / "created.5b1f9e02.draft.http"
    file.write_text(file.read_text("utf-8").replace('"id": "5b1f9e02"', '"id": "other"'), "utf-8")
    with pytest.raises(AssertionError, match="assert 'other' == '5b1f9e02'"):
        run("-m", "pytest", "-q", python=python_in(environment), folder=folder)


def test_package_and_its_tests_have_strict_types(environment: Path) -> None:
    python = python_in(environment)
    run("-m", "mypy", "--strict", "-p", "acme_gateway", python=python, folder=environment)
    tests = environment / "acme" / "tests"
    run("-m", "mypy", "--strict", "test_contract.py", python=python, folder=tests)


@pytest.fixture(scope="module")
def url(environment: Path) -> Iterator[str]:
    output = environment / "sandbox.txt"
    command = [str(python_in(environment)), "-m", "campaign_gateway", "sandbox", "--port", "0"]
    with output.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=environment)
    try:
        for _ in range(600):
            if "Ctrl-C stops the sandbox" in output.read_text():
                break
            assert process.poll() is None, output.read_text()
            time.sleep(0.1)
        found = re.search(r"GraphiQL +(http://\S+)/graphiql", output.read_text())
        assert found
        yield found[1]
    finally:
        process.terminate()
        process.wait(60)


def test_gateway_serves_the_provider_of_the_package(url: str) -> None:
    assert "connector: acme of acme-gateway 1.0.0" in httpx.get(f"{url}/readyz").text
    query = (
        'mutation { duplicateCampaign(input: {acme: {campaignId: "spring", name: "Second"}}, '
        'idempotencyKey: "1") { status campaign { name } } }'
    )
    response = httpx.post(f"{url}/graphql", json={"query": query}, timeout=30)
    payload = response.json()["data"]["duplicateCampaign"]
    assert payload == {"status": "CREATED", "campaign": {"name": "Second"}}


def test_person_copies_at_the_provider_in_graphiql(url: str, chromium: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"{url}/graphiql")
        tab = page.get_by_role("tab").filter(has_text="CopyAtAcmeMail")
        tab.get_by_role("button").first.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        page.wait_for_timeout(500)
        with page.expect_response("**/graphql") as response:
            page.locator(".graphiql-execute-button").click()
        copied = response.value.json()["data"]["duplicateCampaign"]
        assert copied["campaign"]["name"] == "Spring sale, second wave"
        browser.close()
