"""The README's program for automation and agents, with a running gateway."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from support.readmes import READMES

SOURCE = "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10"

Copy = Callable[[str, dict[str, str], str, dict[str, object]], dict[str, Any]]


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch) -> Copy:
    # A proxy of the environment does not lead to this machine.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    blocks = READMES["src/campaign_gateway/api/README.md"].blocks("python")
    (block,) = [block for block in blocks if block.startswith("# copy_campaign.py")]
    program: dict[str, Any] = {"__name__": "copy_campaign"}
    exec(block, program)
    made: Copy = program["copy"]
    return made


def campaign(source: str) -> dict[str, object]:
    return {"braze": {"campaignId": source, "name": "May"}}


def test_program_that_runs_again_asks_for_the_same_copy(copy: Copy, sandbox_url: str) -> None:
    first, second = (copy(sandbox_url, {}, "newsletter", campaign(SOURCE)) for _ in range(2))
    other = copy(sandbox_url, {}, "another job", campaign(SOURCE))
    assert first["status"] == second["status"] == other["status"] == "CREATED"
    assert first["campaign"] == second["campaign"] != other["campaign"]


def test_program_repeats_a_request_without_a_response(
    copy: Copy, sandbox_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, requests = httpx.post, []

    def lose_the_first_response(*arguments: Any, **options: Any) -> httpx.Response:
        response = post(*arguments, **options)
        requests.append(response.json()["data"]["duplicateCampaign"])
        if len(requests) == 1:
            raise httpx.ReadError("the connection was cut")
        return response

    monkeypatch.setattr(httpx, "post", lose_the_first_response)
    payload = copy(sandbox_url, {}, "lost response", campaign(SOURCE))
    assert len(requests) > 1
    assert payload["duplication"] == requests[0]["duplication"]


def test_program_waits_when_its_caller_sends_too_many_requests(
    copy: Copy, sandbox_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = httpx.post
    pauses: list[float] = []
    # As `requests_per_minute` of a caller refuses a request.
    limited = httpx.Response(
        429,
        headers={"retry-after": "19"},
        json={"errors": [{"message": "too many", "extensions": {"code": "RATE_LIMITED"}}]},
    )
    responses = iter([limited])
    monkeypatch.setattr(httpx, "post", lambda *a, **b: next(responses, None) or post(*a, **b))
    monkeypatch.setattr(time, "sleep", pauses.append)
    assert copy(sandbox_url, {}, "limited", campaign("not-found"))["status"] == "REJECTED"
    assert pauses == [19]


def test_program_returns_a_refusal_and_stops_at_a_wrong_request(
    copy: Copy, sandbox_url: str
) -> None:
    assert copy(sandbox_url, {}, "refused", campaign("not-found"))["status"] == "REJECTED"
    with pytest.raises(SystemExit, match="the request is wrong"):
        copy(sandbox_url, {}, "wrong", {"braze": {"campaignId": 1}})
