"""Drives the GraphiQL page in a real Chromium, as a person does."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def give_up(reason: str) -> NoReturn:
    if os.environ.get("CAMPAIGN_GATEWAY_REQUIRE_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def chromium_browser(chromium: str) -> Iterator[Browser]:
    """Start the browser. The fixture's scope must be a module.

    pytest-asyncio cannot start a loop while Playwright's loop runs.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


class Visitor(NamedTuple):
    """A tab of the browser, and what is wrong in it since the last visit has ended."""

    page: Page
    host: str
    complaints: list[str]


def visitor(browser: Browser, sandbox_url: str) -> Visitor:
    """Open a tab. In the same tab, a second visit takes a third of the first one's CPU."""
    if httpx.get(f"{sandbox_url}/graphiql").status_code == 503:
        give_up("the GraphiQL bundle is not built; reinstall with Node or npm's registry at hand")
    page = browser.new_page()
    page.set_default_timeout(20_000)
    complaints: list[str] = []

    def on_request(request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in {"http", "https", "ws", "wss"} and address.netloc != host:
            complaints.append(f"request to another host: {request.url}")

    def on_response(response: Response) -> None:
        if response.status >= 400:
            complaints.append(f"{response.status} for {response.url}")

    def on_console(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(f"console {message.type}: {message.text}")

    def on_failure(request: Request) -> None:
        # The browser cancels what is still loading when a test leaves the page.
        if request.failure != "net::ERR_ABORTED":
            complaints.append(f"failed: {request.url} {request.failure}")

    host = urlsplit(sandbox_url).netloc
    page.on("request", on_request)
    page.on("response", on_response)
    page.on("requestfailed", on_failure)
    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
    return Visitor(page, host, complaints)


@contextmanager
def visiting(visitor: Visitor) -> Iterator[Page]:
    """Yield the tab, with a browser that remembers no earlier visit but for files in its cache.

    No request may go to another host or fail, and the console must stay empty.
    """
    page = visitor.page
    page.set_viewport_size({"width": 1400, "height": 900})
    yield page
    page.unroute_all()
    page.goto("about:blank")
    stored = {"origin": f"http://{visitor.host}", "storageTypes": "cookies,local_storage,indexeddb"}
    page.context.new_cdp_session(page).send("Storage.clearDataForOrigin", stored)
    complaints = visitor.complaints.copy()
    visitor.complaints.clear()
    assert complaints == []


def open_page(page: Page, sandbox_url: str) -> list[dict[str, Any]]:
    """Open the page, and return the examples that it received."""
    with (
        page.expect_response("**/graphiql/examples.json") as examples,
        page.expect_response("**/graphql") as introspection,
    ):
        page.goto(f"{sandbox_url}/graphiql")
    introspection.value.finished()
    wait_for_editor(page)
    tabs: list[dict[str, Any]] = examples.value.json()["tabs"]
    return tabs


def wait_for_editor(page: Page) -> None:
    """Wait until the editor has an operation, because the button does nothing before."""
    expect(page.locator(".graphiql-query-editor .view-line").first).to_be_visible()


def show_tab(page: Page, index: int) -> None:
    tab = page.get_by_role("tab").nth(index)
    tab.get_by_role("button").first.click()
    expect(tab).to_have_attribute("aria-selected", "true")
    # GraphiQL reads a tab's operation name a tenth of a second after it has shown the tab.
    page.wait_for_timeout(500)


def execute(page: Page, operation: str | None = None) -> Response:
    """Run the operation of the tab, or one of its operations."""
    with page.expect_response("**/graphql") as response:
        page.locator(".graphiql-execute-button").click()
        if operation:
            page.get_by_role("menuitem", name=operation, exact=True).click()
    response.value.finished()
    return response.value


def sent_variables(response: Response) -> dict[str, Any]:
    body: Any = response.request.post_data_json
    variables: dict[str, Any] = body["variables"]
    return variables


def write_operation(page: Page, text: str) -> None:
    page.locator(".graphiql-query-editor .view-lines").click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(text)
    page.keyboard.press("Escape")


def written_operation(page: Page) -> str:
    text: str = page.evaluate(
        """() => __MONACO.editor.getModels()
            .find((model) => model.uri.path.endsWith('operation.graphql')).getValue()"""
    )
    return text


def write_variables(page: Page, variables: dict[str, Any]) -> None:
    _put(page, "variables.json", json.dumps(variables, indent=2))


def put_operation(page: Page, text: str) -> None:
    """Write an operation of several lines, which typing would indent once more."""
    _put(page, "operation.graphql", text)


def _put(page: Page, file: str, text: str) -> None:
    # Typing would add a second quote or bracket to each opening one.
    page.evaluate(
        """([file, text]) => __MONACO.editor.getModels()
            .find((model) => model.uri.path.endsWith(file)).setValue(text)""",
        [file, text],
    )
    page.wait_for_timeout(500)


def marked_errors(page: Page, file: str = "operation.graphql") -> list[str]:
    messages: list[str] = page.evaluate(
        """(file) => __MONACO.editor.getModelMarkers({})
            .filter((marker) => marker.resource.path.endsWith(file))
            .map((marker) => marker.message)""",
        file,
    )
    return messages


def wait_for_marked_error(page: Page, part: str) -> list[str]:
    expect(page.locator(".graphiql-query-editor .squiggly-error").first).to_be_visible()
    for _ in range(40):
        errors = marked_errors(page)
        if any(part in message for message in errors):
            return errors
        page.wait_for_timeout(100)
    raise AssertionError(f"no error about {part!r} in {errors}")


def payload_of(response: Response) -> Any:
    content = response.json()
    assert "errors" not in content
    return content["data"]["duplicateCampaign"]
