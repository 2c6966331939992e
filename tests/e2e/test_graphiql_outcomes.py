"""Runs in one visit of the GraphiQL page each example twice, and each outcome of each menu."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from playwright.sync_api import Browser, Page, expect

from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.connectors.errors import REFUSALS
from campaign_gateway.model import Accepted, Created, Rejected, Unknown
from campaign_gateway.sandbox.contract_suite.cases.emulated_outcomes import (
    expected_result,
    number_in,
)
from support.figures import Figures
from support.graphiql import (
    Visitor,
    chromium_browser,
    execute,
    open_page,
    payload_of,
    sent_variables,
    visiting,
    visitor,
)

pytestmark = pytest.mark.long

STATUSES = {
    Created: "CREATED",
    Accepted: "ACCEPTED",
    Rejected: "REJECTED",
    Unknown: "UNKNOWN",
    NoResponse: "UNKNOWN",
}


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


def offered(page: Page, menu: str) -> list[tuple[str, str]]:
    """Return the values and the texts of a menu."""
    options = page.locator(f"{menu} option:not([disabled])").all()
    return [(option.get_attribute("value") or "", option.inner_text()) for option in options]


def choose_tab(page: Page, value: str, name: str) -> None:
    page.locator("#tabs").select_option(value)
    expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")
    # GraphiQL reads a tab's operation name a tenth of a second after it has shown the tab.
    page.wait_for_timeout(500)


def run(page: Page) -> tuple[str, Any]:
    """Run the operation, and again after each pause that the provider's limit demands."""
    while True:
        response = execute(page)
        payload = payload_of(response)
        codes = {error["code"] for error in payload["userErrors"]}
        if payload["status"] != "NOT_SENT" or "RATE_LIMITED" not in codes:
            return sent_variables(response)["idempotencyKey"], payload
        (error,) = payload["userErrors"]
        page.wait_for_timeout(1000 * error["retryAfterSeconds"] + 100)


def expected_statuses(source: str, words: str) -> set[str]:
    """Return the statuses that fit the words of the menu."""
    if number_in(words) >= 400 and number_in(words) not in REFUSALS:
        # A provider may document its own refusals.
        return {"REJECTED", "UNKNOWN"}
    outcome, _ = expected_result(source, words, REFUSALS)
    return {STATUSES[each] for each in get_args(outcome) or (outcome,)}


def test_every_example_and_every_outcome_runs_from_the_menus(
    page: Page, sandbox_url: str, figures: Figures
) -> None:
    open_page(page, sandbox_url)
    keys, wrong, number = set(), [], 0
    for tab, name in offered(page, "#tabs"):
        if not name.startswith("CopyAt"):
            continue
        choose_tab(page, tab, name)
        for _ in range(2):
            key, payload = run(page)
            number += 1
            assert payload["status"] in {"CREATED", "ACCEPTED"}, name
            assert not payload["replayed"]
            keys.add(key)
        for source, text in offered(page, "#outcome"):
            words = text.removeprefix(f"{source}: ").removesuffix(f" ({source})")
            page.locator("#outcome").select_option(source)
            expect(page.locator(".graphiql-query-editor")).to_contain_text(source)
            key, payload = run(page)
            number += 1
            keys.add(key)
            if payload["status"] not in expected_statuses(source, words):
                wrong.append((name, text, payload))
    assert wrong == []
    assert len(keys) == number, "each run has a key of its own"
    figures.measured["runs in GraphiQL"] = f"{number}, each with a key of its own"
