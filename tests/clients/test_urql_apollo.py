"""The GraphQL clients of frontends, with a running gateway."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.connectors.registry import CONNECTORS
from support.intents import INPUTS, STATUSES, intent, with_two_members
from support.node import node

HERE = Path(__file__).parent

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module", params=["urql", "apollo"])
def run(request: pytest.FixtureRequest, sandbox_url: str) -> Iterator[Run]:
    """Runs steps with a new client. Each is the name of an operation, with variables.

    All tests use one process, because the start of Node.js takes most of the CPU.
    """
    command = [node(), str(HERE / f"{request.param}.mjs"), f"{sandbox_url}/graphql"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        sent, printed = process.stdin, process.stdout

        def steps(*steps: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
            asked = [{"operation": name, "variables": variables} for name, variables in steps]
            print(json.dumps(asked), file=sent, flush=True)
            timer = threading.Timer(120, process.kill)
            timer.start()
            line = printed.readline()
            timer.cancel()
            assert line, "the client has ended, or did not respond"
            outcomes: list[dict[str, Any]] = json.loads(line)
            return outcomes

        yield steps
        sent.close()
        assert process.wait(30) == 0


def data(outcome: dict[str, Any], field: str) -> Any:
    """Return the data of a field. The outcome must have no error of either kind."""
    assert (outcome["graphQLErrors"], outcome["networkError"]) == ([], None)
    return outcome["data"][field]


@pytest.mark.parametrize("account", INPUTS)
def test_copy_at_each_provider_succeeds_and_its_retry_is_replayed(run: Run, account: str) -> None:
    wanted = intent(account)
    (name,) = (campaign["name"] for campaign in wanted["input"].values())

    first, again = (
        data(outcome, "duplicateCampaign") for outcome in run(("Copy", wanted), ("Copy", wanted))
    )

    assert first["status"] == STATUSES[account]
    assert first["userErrors"] == []
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert again["duplication"]["id"] == first["duplication"]["id"]
    if first["status"] == "CREATED":
        assert first["campaign"]["account"] == account
        assert first["campaign"]["name"] == name
        assert again["campaign"] == first["campaign"]


def test_rejection_is_data_and_no_error(run: Run) -> None:
    (outcome,) = run(("Copy", intent("braze", campaignId="not-found")))
    payload = data(outcome, "duplicateCampaign")
    assert (payload["status"], payload["campaign"]) == ("REJECTED", None)
    (error,) = payload["userErrors"]
    assert (error["code"], error["retry"]) == ("CAMPAIGN_NOT_FOUND", "NEW_KEY")


@pytest.mark.parametrize("other", [None, *INPUTS["sonarly"].values()], ids=["null", "two"])
def test_two_members_are_a_graphql_error(run: Run, other: object) -> None:
    """After a network error, a frontend would retry a request that can never succeed."""
    (outcome,) = run(("Copy", with_two_members(other)))
    assert outcome["networkError"] is None
    assert outcome["data"] is None
    (message,) = outcome["graphQLErrors"]
    assert (
        f"DuplicateCampaignInput takes exactly one of {', '.join(sorted(CONNECTORS))}." in message
    )
    assert "Received: braze, sonarly" in message


def test_one_query_waits_for_the_copy(run: Run) -> None:
    wanted = intent("braze")
    copy = data(run(("Copy", wanted))[0], "duplicateCampaign")
    assert (copy["status"], copy["campaign"]) == ("ACCEPTED", None)

    waiting = {"id": copy["duplication"]["id"], "seconds": 20}
    waited, again = run(("Wait", waiting), ("Copy", wanted))

    settled = data(waited, "duplication")
    assert settled["status"] == "CREATED"
    assert settled["campaign"]["name"] == wanted["input"]["braze"]["name"]
    assert data(again, "duplicateCampaign")["campaign"]["id"] == settled["campaign"]["id"]


def test_list_has_the_newest_copy_first(run: Run) -> None:
    wanted = intent("sonarly")
    copied, listed = run(("Copy", wanted), ("Recent", {"filter": {"provider": "SONARLY"}}))
    newest = data(listed, "duplications")["edges"][0]["node"]
    assert newest["id"] == data(copied, "duplicateCampaign")["duplication"]["id"]
    assert newest["requestedName"] == wanted["input"]["sonarly"]["name"]


def test_campaigns_with_one_id_in_two_accounts_are_cached_separately(run: Run) -> None:
    """A cache that identifies a campaign only by its id would mix them up."""
    (outcome,) = run(("SameIdAtTwoAccounts", {"id": "96"}))
    assert data(outcome, "json") == {"__typename": "Campaign", "account": "altcraft", "id": "96"}
    assert data(outcome, "xml")["account"] == "altcraft-xml"
