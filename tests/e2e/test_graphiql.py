"""Uses the GraphiQL page in a real Chromium, as a person who tries the gateway does."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
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

from support.calling import CalledGateway, called_gateway

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

DARK = re.compile(r"\bgraphiql-dark\b")
ONE_MEMBER = 'braze: {campaignId: "a", name: "b"}'
TWO_MEMBERS = ONE_MEMBER + ', sonarly: {accountGroupId: "a", campaignId: "b", audienceId: "c"}'


def document(members: str, selection: str = "status") -> str:
    arguments = f'input: {{{members}}}, idempotencyKey: "k"'
    return f"mutation {{ duplicateCampaign({arguments}) {{ {selection} }} }}"


def give_up(reason: str) -> NoReturn:
    if os.environ.get("CAMPAIGN_GATEWAY_REQUIRE_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


# The scope is the module, because pytest-asyncio cannot start a loop while Playwright's loop runs.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, sandbox_url: str) -> Iterator[Page]:
    """A new page. No request may go to another host or fail, and the console must stay empty."""
    if httpx.get(f"{sandbox_url}/graphiql").status_code == 503:
        give_up("the GraphiQL bundle is not built; reinstall with Node or npm's registry at hand")
    page = browser.new_page(viewport={"width": 1400, "height": 900})
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
    yield page
    page.close()
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


def execute(page: Page) -> Response:
    with page.expect_response("**/graphql") as response:
        page.locator(".graphiql-execute-button").click()
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


def write_variables(page: Page, variables: dict[str, Any]) -> None:
    # Typing would add a second quote or bracket to each opening one.
    page.evaluate(
        """(text) => __MONACO.editor.getModels()
            .find((model) => model.uri.path.endsWith('variables.json')).setValue(text)""",
        json.dumps(variables, indent=2),
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


def test_every_example_runs_twice_without_typing_a_key(page: Page, sandbox_url: str) -> None:
    examples = open_page(page, sandbox_url)
    copies = [example for example in examples if "provider" in example]
    known = {"braze", "hubspot", "klaviyo", "mailchimp", "meta", "sendgrid"}
    assert {example["provider"] for example in copies[: len(known)]} == known
    expect(page.get_by_role("tab")).to_have_count(len(examples))
    for index, example in enumerate(copies):
        show_tab(page, index)
        first, second = execute(page), execute(page)
        assert sent_variables(first) == example["variables"]
        assert sent_variables(second)["idempotencyKey"] != example["variables"]["idempotencyKey"]
        for response in (first, second):
            payload = payload_of(response)
            assert payload["status"] in {"CREATED", "ACCEPTED"}
            assert payload["replayed"] is False
        expect(page.locator(".graphiql-response")).to_contain_text(payload["status"])


def test_tabs_read_accounts_list_copies_and_wait(page: Page, sandbox_url: str) -> None:
    examples = open_page(page, sandbox_url)
    made = payload_of(execute(page))
    names = ["Accounts", "ListCopies", "WaitForCopy"]
    for name in names:
        page.locator("#tabs").select_option(label=name)
        page.wait_for_timeout(500)
        if name == "WaitForCopy":
            write_variables(page, {"id": made["duplication"]["id"]})
        data = execute(page).json()["data"]
        assert data, name
    assert data["duplication"]["status"] == "CREATED"
    assert len(examples) > len(names)


def test_key_is_kept_for_a_retry_by_choice(page: Page, sandbox_url: str) -> None:
    open_page(page, sandbox_url)
    expect(page.locator("#key-choice")).to_contain_text("The next run sends this key")
    first = execute(page)
    expect(page.locator("#key-choice")).to_contain_text("The next run gets a new key")
    page.get_by_label("Keep the key, to retry").check()
    again = execute(page)
    assert sent_variables(again) == sent_variables(first)
    assert payload_of(again)["replayed"] is True
    page.get_by_label("New key for each copy").check()
    assert sent_variables(execute(page)) != sent_variables(first)


def test_run_after_an_unknown_result_sends_the_same_key(page: Page, sandbox_url: str) -> None:
    open_page(page, sandbox_url)
    page.locator("#tabs").select_option(label="CopyAtSendGrid")
    page.wait_for_timeout(500)
    page.locator("#outcome").select_option("cut-before-copy")
    first = execute(page)
    assert payload_of(first)["status"] == "UNKNOWN"
    expect(page.locator("#key-choice")).to_contain_text("the next run sends it again")
    assert sent_variables(execute(page)) == sent_variables(first)


def test_menu_offers_each_outcome_of_the_sandbox(page: Page, sandbox_url: str) -> None:
    examples = open_page(page, sandbox_url)
    for example in examples:
        if "provider" not in example:
            continue
        name = example["query"].split("(")[0].removeprefix("mutation ")
        page.locator("#tabs").select_option(label=name)
        expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")
        options = page.locator("#outcome option:not([disabled])")
        expect(options).to_have_count(len(example["outcomes"]))
        for outcome in list(example["outcomes"])[:: max(1, len(example["outcomes"]) // 3)]:
            page.locator("#outcome").select_option(outcome)
            expect(page.locator(".graphiql-query-editor")).to_contain_text(outcome)
    page.locator("#tabs").select_option(label="CopyAtMailchimp")
    page.wait_for_timeout(500)
    page.locator("#outcome").select_option("not-found")
    (error,) = payload_of(execute(page))["userErrors"]
    assert error["code"] == "CAMPAIGN_NOT_FOUND"


def test_bar_says_that_it_is_a_sandbox_and_what_a_reload_keeps(
    page: Page, sandbox_url: str
) -> None:
    open_page(page, sandbox_url)
    expect(page.locator("#mode")).to_have_text("SANDBOX")
    expect(page.locator("#account")).to_contain_text("account braze")
    expect(page.locator("#bar")).to_contain_text("A reload forgets")


def test_page_fits_a_small_screen(page: Page, sandbox_url: str) -> None:
    page.set_viewport_size({"width": 1024, "height": 700})
    open_page(page, sandbox_url)
    wanted = ["#mode", "#tabs", "#outcome", "#key-choice", ".graphiql-execute-button"]
    for place in [*wanted, ".graphiql-editor-tool", ".graphiql-response"]:
        box = page.locator(place).first.bounding_box()
        assert box is not None, place
        assert box["x"] >= 0, place
        assert box["x"] + box["width"] <= 1024, place
        assert box["y"] + box["height"] <= 700, place
    editor = page.locator(".graphiql-query-editor").bounding_box()
    assert editor is not None
    assert editor["height"] >= 250


def test_link_of_the_sandbox_opens_its_example(page: Page, sandbox_url: str) -> None:
    page.goto(sandbox_url)
    expect(page.get_by_role("heading", name="Outcomes to try")).to_be_visible()
    page.locator("details", has_text="Klaviyo").first.locator("summary").click()
    page.get_by_role("link", name="not-found").locator("visible=true").first.click()
    wait_for_editor(page)
    expect(page.get_by_role("tab").first).to_contain_text("CopyAtKlaviyo")
    expect(page.locator("#outcome")).to_have_value("not-found")
    page.wait_for_timeout(500)
    (error,) = payload_of(execute(page))["userErrors"]
    assert error["code"] == "CAMPAIGN_NOT_FOUND"


def test_new_visit_has_new_idempotency_keys(page: Page, sandbox_url: str) -> None:
    open_page(page, sandbox_url)
    sent_first = sent_variables(execute(page))["idempotencyKey"]
    # GraphiQL stores its tabs half a second after a change.
    page.wait_for_timeout(1000)
    assert sent_first not in page.evaluate("() => JSON.stringify(localStorage)")

    examples = open_page(page, sandbox_url)
    expect(page.get_by_role("tab")).to_have_count(len(examples))
    sent_next = sent_variables(execute(page))["idempotencyKey"]
    assert sent_next != sent_first


def test_theme_is_kept_for_the_next_visit(page: Page, sandbox_url: str) -> None:
    open_page(page, sandbox_url)
    page.get_by_role("button", name="Open settings dialog").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("body")).to_have_class(DARK)
    open_page(page, sandbox_url)
    expect(page.locator("body")).to_have_class(DARK)


def test_editor_marks_two_members_of_a_one_of_input(page: Page, sandbox_url: str) -> None:
    open_page(page, sandbox_url)
    write_operation(page, document(TWO_MEMBERS))
    wait_for_marked_error(page, "exactly one")

    # The error for the unknown field shows that the editor checked this document.
    write_operation(page, document(ONE_MEMBER, "status unheardOf"))
    assert len(wait_for_marked_error(page, "unheardOf")) == 1

    write_operation(page, document(ONE_MEMBER))
    expect(page.locator(".graphiql-query-editor .squiggly-error")).to_have_count(0)
    page.wait_for_timeout(1000)
    assert marked_errors(page) == []


def test_variables_mark_two_members_of_a_one_of_input(page: Page, sandbox_url: str) -> None:
    open_page(page, sandbox_url)
    write_operation(
        page,
        "mutation Copy($input: DuplicateCampaignInput!) "
        '{ duplicateCampaign(input: $input, idempotencyKey: "k") { status } }',
    )
    one = {"braze": {"campaignId": "a", "name": "b"}}
    two = {**one, "sonarly": {"accountGroupId": "a", "campaignId": "b", "audienceId": "c"}}
    write_variables(page, {"input": two})
    marked = page.locator(".graphiql-editor-tool .squiggly-error")
    expect(marked.first).to_be_visible()
    assert any("xactly one" in message for message in marked_errors(page, "variables.json"))
    write_variables(page, {"input": one})
    expect(marked).to_have_count(0)


def test_page_opens_if_the_examples_cannot_be_read(page: Page, sandbox_url: str) -> None:
    page.route("**/graphiql/examples.json", lambda route: route.fulfill(body="not json"))
    page.goto(f"{sandbox_url}/graphiql")
    expect(page.get_by_role("tab")).to_have_count(1)
    write_operation(page, "{ __typename }")
    page.wait_for_timeout(500)
    assert json.loads(execute(page).body())["data"] == {"__typename": "Query"}


@pytest.fixture
def called(tmp_path: Path) -> Iterator[CalledGateway]:
    callers = {"admin": {"accounts": "*", "may": ["copy", "read", "introspect"]}}
    with called_gateway(tmp_path, callers, ["sonarly"]) as running:
        yield running


def test_page_asks_for_a_key_and_keeps_it_for_the_tab_alone(
    browser: Browser, called: CalledGateway
) -> None:
    if called.http.get("/graphiql").status_code == 503:
        give_up("the GraphiQL bundle is not built")
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(f"{called.url}/graphiql")
    field = page.get_by_label("Key or token of a caller")
    expect(page.locator("#key")).to_contain_text("This gateway needs a key.")
    field.fill("cgw_wrong")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#key")).to_contain_text("The gateway does not accept this key.")
    field.fill(called.keys["admin"])
    with page.expect_response("**/graphql") as introspection:
        page.get_by_role("button", name="Continue").click()
    assert "__schema" in introspection.value.json()["data"]
    expect(page.locator("#key")).to_have_count(0)
    expect(page.locator("#mode")).to_have_text("LIVE")
    expect(page.locator("#account")).to_have_text("account sonarly: a copy is real")
    wait_for_editor(page)
    # GraphiQL reads the operation's name a tenth of a second after it has shown the editor.
    page.wait_for_timeout(500)
    payload = execute(page).json()["data"]["duplicateCampaign"]
    assert payload["status"] == "CREATED"

    # A reload is the same tab.
    with page.expect_response("**/graphiql/examples.json") as examples:
        page.reload()
    assert examples.value.status == 200
    assert called.keys["admin"] not in page.evaluate("JSON.stringify({...localStorage})")
    assert page.evaluate("document.cookie") == ""
    other_tab = context.new_page()
    other_tab.goto(f"{called.url}/graphiql")
    expect(other_tab.locator("#key")).to_contain_text("This gateway needs a key.")
    context.close()
