"""The frontend in a README is compiled and run as it is written there."""

import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from campaign_gateway.api.enums import DuplicateCampaignStatus
from support.node import run_node
from support.plain import NO_CAS
from support.readmes import REPOSITORY, file_in_a_readme
from support.typescript import STRICT, STRICTEST, Frontend, Mistakes

PRESSING = Path(__file__).parent / "pressing.mjs"
ADDRESS = "http://127.0.0.1:8000"

# A page may add this. The README's own example has no DateTime.
MORE = """\
import { graphql } from './gql';
import type { BrazeCampaignInput, WhenQuery } from './gql/graphql';

export const WHEN = graphql(`query When($id: ID!) { duplication(id: $id) { requestedAt } }`);

export function texts(braze: BrazeCampaignInput, { duplication }: WhenQuery): string[] {
  return [braze.campaignId, duplication?.requestedAt ?? ''];
}
"""


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory, sandbox_url: str) -> Frontend:
    made = Frontend(tmp_path_factory.mktemp("readme") / "frontend")
    made.write("schema.graphql", (REPOSITORY / "schema.graphql").read_text("utf-8"))
    made.write("codegen.ts", file_in_a_readme("codegen.ts"))
    copying = file_in_a_readme("src/copying.ts")
    # Otherwise the example would use any server that has this address.
    assert ADDRESS in copying
    made.write("src/copying.ts", copying.replace(ADDRESS, sandbox_url))
    made.write("src/more.ts", MORE)
    made.generate()
    return made


@pytest.fixture(scope="module")
def compiled(frontend: Frontend) -> tuple[list[Mistakes], Path]:
    return frontend.compile(STRICT, STRICTEST)


@pytest.mark.parametrize("options", [0, 1], ids=["strict", "strictest"])
def test_frontend_compiles(compiled: tuple[list[Mistakes], Path], options: int) -> None:
    assert compiled[0][options] == {}


def test_frontend_has_a_text_for_every_status() -> None:
    words = re.findall(r"case '(\w+)'", file_in_a_readme("src/copying.ts"))
    assert set(words) == set(DuplicateCampaignStatus)


SCENARIOS = ("created", "refused", "lost", "corrected", "anyway", "earlier", "unknown")

# Scenario -> the name of the copy, and the result of each press of the button.
Results = Mapping[str, tuple[str, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def results(compiled: tuple[list[Mistakes], Path]) -> Results:
    _, modules = compiled
    names = {scenario: f"Copy {uuid.uuid4()}" for scenario in SCENARIOS}
    presses = run_node(PRESSING, str(modules), json.dumps(names))
    return {scenario: (name, presses[scenario]) for scenario, name in names.items()}


def statuses(press: dict[str, Any]) -> list[str]:
    return [copy["status"] for copy in press["shown"]]


def test_copy_is_shown_when_it_is_created(results: Results) -> None:
    name, (pressed,) = results["created"]
    assert statuses(pressed) == ["ACCEPTED", "CREATED"]
    assert pressed["shown"][-1]["words"] == f"Copied: {name}"
    assert pressed["failure"] is None
    assert pressed["during"][0]["input"]["braze"]["name"] == name
    assert pressed["after"] is None


def test_rejection_is_shown_and_the_next_press_is_a_new_intent(results: Results) -> None:
    _, (refused, corrected) = results["refused"]
    assert statuses(refused) == ["REJECTED"]
    assert refused["shown"][0]["words"].startswith("Braze does not know the campaign")
    assert refused["after"] is None
    assert statuses(corrected)[-1] == "CREATED"


def test_lost_response_makes_no_second_copy(results: Results, sandbox_url: str) -> None:
    """The retry sends the first input, even if the form was edited in the meantime."""
    name, (lost, again) = results["lost"]
    assert "the connection was lost" in lost["failure"]
    assert lost["shown"] == []
    assert lost["after"]["input"]["braze"]["name"] == name
    assert again["during"][0] == lost["after"]
    assert statuses(again)[-1] == "CREATED"
    assert requested(sandbox_url, name) == [name]


def requested(sandbox_url: str, name: str) -> list[str]:
    query = """{ duplications(filter: { provider: BRAZE }, first: 100) {
      edges { node { requestedName } } } }"""
    response = httpx.post(
        f"{sandbox_url}/graphql", json={"query": query}, trust_env=False, verify=NO_CAS
    ).json()
    names = [edge["node"]["requestedName"] for edge in response["data"]["duplications"]["edges"]]
    return [requested_name for requested_name in names if requested_name.startswith(name)]


def test_corrected_form_is_sent_with_the_same_key(results: Results) -> None:
    """Nothing is recorded for a request that was not sent, and another gateway may use its key."""
    name, (refused, corrected) = results["corrected"]
    assert statuses(refused) == ["NOT_SENT"]
    assert refused["shown"][0]["userErrors"][0]["retry"] == "SAME_KEY"
    assert refused["after"] == {"key": refused["during"][0]["key"]}
    assert corrected["during"][0]["key"] == refused["after"]["key"]
    assert corrected["during"][0]["input"]["braze"]["name"] == name
    assert statuses(corrected)[-1] == "CREATED"


def test_user_can_request_another_copy_after_one_that_stays_unknown(results: Results) -> None:
    _, (stuck, elsewhere, anyway) = results["anyway"]
    assert statuses(stuck)[-1] == "UNKNOWN"
    assert statuses(elsewhere) == ["NOT_SENT"], "a new key alone is refused"
    assert elsewhere["shown"][0]["userErrors"][0]["retry"] == "WAIT"
    assert statuses(anyway)[0] == "UNKNOWN", "it was sent"
    duplications = {pressed["shown"][0]["duplication"]["id"] for pressed in (stuck, elsewhere)}
    assert len(duplications) == 1
    assert anyway["shown"][0]["duplication"]["id"] not in duplications


def test_earlier_attempt_that_made_the_copy_ends_the_intent(
    results: Results, sandbox_url: str
) -> None:
    name, (lost, elsewhere) = results["earlier"]
    assert lost["shown"] == []
    assert statuses(elsewhere) == ["NOT_SENT", "CREATED"], "it waits, and requests no other copy"
    assert elsewhere["after"] is None
    assert requested(sandbox_url, name) == [name]


def test_intent_that_stays_unknown_is_kept(results: Results) -> None:
    _, (pressed,) = results["unknown"]
    assert statuses(pressed) == ["UNKNOWN"] * 4
    assert len(pressed["waits"]) == 3
    assert pressed["after"] == pressed["during"][0]
    assert len({open_intent["key"] for open_intent in pressed["during"]}) == 1
