"""The responses for the GraphiQL page, with and without a built bundle."""

import shutil
from itertools import count
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from campaign_gateway import web
from campaign_gateway.web.explorer import explorer_routes
from support.node import TESTS, run_node

keys = count()


def examples(_request: Request) -> dict[str, object]:
    tab = {"title": "One", "query": "{ a }", "variables": {"idempotencyKey": str(next(keys))}}
    return {"tabs": [tab], "isSandbox": False}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>built</title>")
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "assets" / "main-1a2b.js").write_text("export {}")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


def client(bundle: Path) -> httpx.AsyncClient:
    app = Starlette(routes=explorer_routes(examples, bundle))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


def assert_guarded(response: httpx.Response) -> None:
    policy = response.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", ["/graphiql", "/graphiql/"])
async def test_page_has_security_headers_and_is_revalidated(bundle: Path, path: str) -> None:
    async with client(bundle) as http:
        response = await http.get(path)
    assert response.status_code == 200
    assert "built" in response.text
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["cache-control"] == "no-cache"
    assert_guarded(response)


async def test_only_hashed_assets_are_cached_permanently(bundle: Path) -> None:
    async with client(bundle) as http:
        script = await http.get("/graphiql/assets/main-1a2b.js")
        icon = await http.get("/graphiql/favicon.svg")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]
    assert icon.headers["content-type"] == "image/svg+xml"
    assert "cache-control" not in icon.headers
    assert_guarded(script)
    assert_guarded(icon)


async def test_examples_have_new_keys_in_every_response(bundle: Path) -> None:
    async with client(bundle) as http:
        first = await http.get("/graphiql/examples.json")
        second = await http.get("/graphiql/examples.json")
    assert first.headers["cache-control"] == "no-store"
    assert [tab["title"] for tab in first.json()["tabs"]] == ["One"]
    assert first.json() != second.json()


@pytest.mark.parametrize(
    "path",
    [
        "/graphiql/%2e%2e/secret.txt",
        "/graphiql/assets/%2e%2e/%2e%2e/secret.txt",
        "/graphiql/..%2fsecret.txt",
        "/graphiql/assets/..%5c..%5csecret.txt",
        "/graphiql//etc/passwd",
        "/graphiql/assets",
        "/graphiql/absent.js",
    ],
)
async def test_path_outside_the_bundle_is_not_found(bundle: Path, path: str) -> None:
    async with client(bundle) as http:
        response = await http.get(path)
    assert response.status_code == 404


@pytest.mark.parametrize("path", ["/graphiql", "/graphiql/"])
async def test_missing_bundle_returns_a_page_that_says_how_to_build_it(
    tmp_path: Path, path: str
) -> None:
    async with client(tmp_path / "dist") as http:
        response = await http.get(path)
        examples_answer = await http.get("/graphiql/examples.json")
    assert response.status_code == 503
    assert "pip install --force-reinstall ." in response.text
    assert_guarded(response)
    assert examples_answer.status_code == 200


SOURCE = Path(web.explorer.__file__).parent / "page" / "source.js"


@pytest.mark.parametrize(
    ("written", "source", "expected"),
    [
        ("campaignId: 1 }", "22", "campaignId: 22 }"),
        ("campaignId: 1 }", "2 }) { a }", "campaignId: 1 }"),
        ("campaignId: 1 }", "2\n", "campaignId: 1 }"),
        ('campaignId: "a" }', "b", 'campaignId: "b" }'),
        ('campaignId: "a" }', 'b" }) {', 'campaignId: "b\\" }) {" }'),
    ],
)
def test_source_in_a_link_is_only_an_id(
    tmp_path: Path, written: str, source: str, expected: str
) -> None:
    """Otherwise a link could put any operation into the editor of a person with a key."""
    shutil.copy(SOURCE, tmp_path / "source.mjs")
    (tmp_path / "node_modules").symlink_to(TESTS / "node_modules")
    script = tmp_path / "linked.mjs"
    script.write_text(
        "import { withOutcome } from './source.mjs';\n"
        "const [query, source] = process.argv.slice(2);\n"
        "console.log(JSON.stringify(withOutcome(query, { query, outcomes: {} }, source)));"
    )
    assert run_node(script, written, source) == expected
