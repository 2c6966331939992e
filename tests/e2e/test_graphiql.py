"""Uses the GraphiQL page in a real Chromium, as a person who tries the gateway does."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.calling import CalledGateway, called_gateway
from support.graphiql import (
    Visitor,
    chromium_browser,
    execute,
    give_up,
    marked_errors,
    open_page,
    payload_of,
    put_operation,
    sent_variables,
    show_tab,
    visiting,
    visitor,
    wait_for_editor,
    wait_for_marked_error,
    write_operation,
    write_variables,
    written_operation,
)

DARK = re.compile(r"\bgraphiql-dark\b")
ONE_MEMBER = 'braze: {campaignId: "a", name: "b"}'
TWO_MEMBERS = ONE_MEMBER + ', sonarly: {accountGroupId: "a", campaignId: "b", audienceId: "c"}'


def document(members: str, selection: str = "status") -> str:
    arguments = f'input: {{{members}}}, idempotencyKey: "k"'
    return f"mutation {{ duplicateCampaign({arguments}) {{ {selection} }} }}"


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with chromium_browser(chromium) as browser:
        yield browser


@pytest.fixture(scope="module")
def tab(browser: Browser, sandbox_url: str) -> Visitor:
    return visitor(browser, sandbox_url)


@pytest.fixture
def page(tab: Visitor) -> Iterator[Page]:
    with visiting(tab) as page:
        yield page


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
    (example, *_) = open_page(page, sandbox_url)
    dry = example["query"].replace("$idempotencyKey\n", "$idempotencyKey, dryRun: true\n")
    put_operation(page, dry)
    assert payload_of(execute(page))["status"] == "NOT_SENT"
    put_operation(page, example["query"])
    # A dry run uses no key.
    expect(page.locator("#key-choice")).to_contain_text("The next run sends this key")
    first = execute(page)
    assert sent_variables(first) == example["variables"]
    expect(page.locator("#key-choice")).to_contain_text("The next run gets a new key")
    page.get_by_label("Keep the key, to retry").check()
    again = execute(page)
    assert sent_variables(again) == sent_variables(first)
    assert payload_of(again)["replayed"] is True
    put_operation(page, dry)
    expect(page.locator("#key-choice")).to_contain_text("a dry run, which uses no key")
    put_operation(page, example["query"])
    page.get_by_label("New key for each copy").check()
    assert sent_variables(execute(page)) != sent_variables(first)


def test_dry_run_in_the_same_tab_leaves_the_key_of_a_copy_alone(
    page: Page, sandbox_url: str
) -> None:
    (example, *_) = open_page(page, sandbox_url)
    real = example["query"]
    name = real.split("(")[0].removeprefix("mutation ")
    dry = real.replace(f"mutation {name}", "mutation Preview").replace(
        "$idempotencyKey\n", "$idempotencyKey, dryRun: true\n"
    )
    put_operation(page, f"{dry}\n{real}")
    first = execute(page, name)
    assert payload_of(first)["status"] in {"CREATED", "ACCEPTED"}
    expect(page.locator("#key-choice")).to_contain_text("The next run gets a new key")
    preview = execute(page, "Preview")
    # A dry run uses no key, so it needs no new one.
    assert sent_variables(preview) == sent_variables(first)
    assert payload_of(preview)["status"] == "NOT_SENT"
    expect(page.locator("#key-choice")).to_contain_text("a dry run, which uses no key")
    second = execute(page, name)
    assert sent_variables(second) != sent_variables(first)
    assert payload_of(second)["replayed"] is False


def test_run_after_an_unknown_result_sends_the_same_key(page: Page, sandbox_url: str) -> None:
    open_page(page, sandbox_url)
    page.locator("#tabs").select_option(label="CopyAtSendGrid")
    page.wait_for_timeout(500)
    page.locator("#outcome").select_option("cut-before-copy")
    first = execute(page)
    assert payload_of(first)["status"] == "UNKNOWN"
    expect(page.locator("#key-choice")).to_contain_text("the next run sends it again")
    assert sent_variables(execute(page)) == sent_variables(first)
    # With another source it is another copy, which the gateway would refuse with the same key.
    page.locator("#outcome").select_option("not-found")
    expect(page.locator("#key-choice")).to_contain_text("The next run gets a new key")
    other = execute(page)
    assert sent_variables(other) != sent_variables(first)
    assert payload_of(other)["userErrors"][0]["code"] == "CAMPAIGN_NOT_FOUND"


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


def test_outcome_brings_the_other_fields_that_it_needs(page: Page, sandbox_url: str) -> None:
    open_page(page, sandbox_url)
    editor = page.locator(".graphiql-query-editor")
    for name, source, field in [
        ("CopyAtBraze", "7d1c9e58-2b6f-4f0a-8c35-91e4a7d20b66", "kind: CANVAS"),
        ("CopyAtMarketo", "1107", "kind: PROGRAM"),
    ]:
        page.locator("#tabs").select_option(label=name)
        page.wait_for_timeout(500)
        example, usual = written_operation(page), page.locator("#outcome").input_value()
        page.locator("#outcome").select_option(source)
        expect(editor).to_contain_text(field)
        assert payload_of(execute(page))["status"] in {"CREATED", "ACCEPTED"}
        page.locator("#outcome").select_option(usual)
        expect(editor).not_to_contain_text(field)
        assert written_operation(page) == example
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


def hidden_of(page: Page, file: str) -> list[float]:
    """Return how much of an editor's text is hidden: at the end of its lines, and above."""
    hidden: list[float] = page.evaluate(
        """(file) => __MONACO.editor.getEditors()
            .filter((editor) => editor.getModel().uri.path.endsWith(file))
            .flatMap((editor) => [
                editor.getScrollWidth() - editor.getLayoutInfo().contentWidth,
                editor.getScrollTop(),
            ])""",
        file,
    )
    return hidden


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
    # No end of a line is cut off, and a tab shows the beginning of its operation.
    page.locator(".graphiql-query-editor .view-lines").click()
    page.keyboard.press("ControlOrMeta+End")
    page.locator("#tabs").select_option(label="CopyAtMailchimp")
    for file in ("operation.graphql", "variables.json"):
        # The editor wraps the lines after it has measured them.
        for _ in range(100):
            if hidden_of(page, file) == [0, 0]:
                break
            page.wait_for_timeout(100)
        assert hidden_of(page, file) == [0, 0]


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
    expect(page.locator("#account")).to_have_text("account sonarly: copies are real")
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
