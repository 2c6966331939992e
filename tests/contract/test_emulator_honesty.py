"""Each emulator answers as its provider was recorded, and refuses what its provider refuses.

The recordings are the third witness: without them connector and emulator could share one mistake.
What to send stands in `tests/connectors/<provider>/requests.toml`.
"""

import json
import tomllib
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest

from campaign_gateway.connectors.contract import Connector, ProviderResponse
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.model import Rejected

ROOMS = Path(__file__).parents[1] / "connectors"
# One that is missing is the registry's test to tell, not a reason to collect none.
REQUESTS = {
    provider: tomllib.loads((ROOMS / provider / "requests.toml").read_text("utf-8"))
    for provider in CONNECTORS
    if (ROOMS / provider / "requests.toml").exists()
}

# What a server or a proxy adds of its own accord.
HEADERS_OF_THE_SERVER = {"connection", "content-length", "date", "server", "transfer-encoding"}

Counted = Callable[[str], dict[str, Any]]


def named(section: str) -> list[Any]:
    return [
        pytest.param(provider, name, id=f"{provider}/{name}")
        for provider, requests in REQUESTS.items()
        for name in requests[section]
    ]


@pytest.mark.parametrize("provider", REQUESTS)
def test_every_recording_is_either_emulated_or_said_not_to_be(provider: str) -> None:
    recordings = {path.stem for path in (ROOMS / provider / "recordings").glob("*.http")}
    emulated, left_out = (REQUESTS[provider][name] for name in ("recorded", "not_emulated"))
    assert not emulated.keys() & left_out.keys()
    assert emulated.keys() | left_out.keys() == recordings


@pytest.mark.parametrize(("provider", "name"), named("recorded"))
def test_an_emulator_answers_as_recorded(
    provider: str,
    name: str,
    read_recording: Callable[[Path], ProviderResponse],
    emulator_url: Callable[[str], str],
) -> None:
    recorded = read_recording(ROOMS / provider / "recordings" / f"{name}.http")
    answer = send(emulator_url(provider), provider, REQUESTS[provider]["recorded"][name])
    assert answer.status == recorded.status
    assert recorded.headers.keys() - HEADERS_OF_THE_SERVER <= answer.headers.keys()
    assert media_type(answer) == media_type(recorded)
    assert_same_shape(content_of(recorded), content_of(answer))


@pytest.mark.parametrize("provider", REQUESTS)
def test_what_the_others_differ_from_is_taken(
    provider: str, emulator_url: Callable[[str], str], counted: Counted
) -> None:
    assert_taken(provider, {}, emulator_url(provider), counted)


@pytest.mark.parametrize(("provider", "name"), named("also_taken"))
def test_an_emulator_takes_what_its_provider_takes(
    provider: str, name: str, emulator_url: Callable[[str], str], counted: Counted
) -> None:
    assert_taken(provider, REQUESTS[provider]["also_taken"][name], emulator_url(provider), counted)


@pytest.mark.parametrize(("provider", "name"), named("refused"))
def test_an_emulator_refuses_what_its_provider_refuses(
    provider: str,
    name: str,
    emulator_url: Callable[[str], str],
    counted: Counted,
    first_connector: Callable[[str], tuple[Connector[Any], Any]],
) -> None:
    refused = REQUESTS[provider]["refused"][name]
    before = counted(provider)["count"]
    answer = send(emulator_url(provider), provider, refused)
    assert answer.status == refused["status"]
    connector, campaign = first_connector(provider)
    assert isinstance(connector.parse_response(campaign, answer), Rejected)
    assert counted(provider)["count"] == before


def assert_taken(provider: str, change: dict[str, Any], url: str, counted: Counted) -> None:
    before = counted(provider)["count"]
    answer = send(url, provider, change)
    assert answer.is_success
    assert counted(provider)["count"] == before + 1


def send(url: str, provider: str, change: dict[str, Any]) -> ProviderResponse:
    """Send the request that is taken, with the change; an empty header is left out."""
    request = {**REQUESTS[provider]["taken"], **change}
    headers = {**REQUESTS[provider]["taken"]["headers"], **change.get("headers", {})}
    body = request["body"]
    if isinstance(body, dict):
        body = {**REQUESTS[provider]["taken"]["body"], **body}
        body = json.dumps({k: v for k, v in body.items() if k not in request.get("without", ())})
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request(
        request["method"],
        request["path"],
        body if request["method"] != "GET" else None,
        {name: value for name, value in headers.items() if value},
    )
    response = connection.getresponse()
    found = {name.lower(): value for name, value in response.getheaders()}
    answer = ProviderResponse(response.status, found, response.read())
    connection.close()
    return answer


def media_type(response: ProviderResponse) -> str:
    return response.headers.get("content-type", "").partition(";")[0]


def content_of(response: ProviderResponse) -> Any:
    if media_type(response).endswith("json"):
        return json.loads(response.body)
    if media_type(response).endswith("xml"):
        return element_of(ET.fromstring(response.body))
    return response.body.decode()


def element_of(element: ET.Element) -> Any:
    """An element as what its text looks like, or as its children by name, each name a list."""
    if not len(element):
        text = (element.text or "").strip()
        if text.isdigit():
            return int(text)
        return {"true": True, "false": False, "": None}.get(text, text)
    children: dict[str, list[Any]] = {}
    for child in element:
        value = element_of(child)
        # What is empty is an empty element in some samples of the documents, left out in others.
        if value is not None:
            children.setdefault(child.tag, []).append(value)
    return children


def assert_same_shape(recorded: Any, emulated: Any, place: str = "") -> None:
    """The same names and types all the way down; lists by what they hold, if they hold anything."""
    if isinstance(recorded, dict) and isinstance(emulated, dict):
        assert emulated.keys() == recorded.keys(), place
        for name, value in recorded.items():
            assert_same_shape(value, emulated[name], f"{place}.{name}")
    elif isinstance(recorded, list) and isinstance(emulated, list):
        for each in emulated if recorded else ():
            assert_same_shape(recorded[0], each, f"{place}[]")
    else:
        assert type(emulated) is type(recorded), place


@pytest.mark.parametrize(
    ("recorded", "emulated"),
    [
        ({"id": 1}, {}),
        ({"id": 1}, {"id": 1, "more": 1}),
        ({"id": 1}, {"id": "1"}),
        ({"id": None}, {"id": "1"}),
        ({"data": [{"id": 1}]}, {"data": [{"id": 1}, {"id": "2"}]}),
        ({"data": [1]}, {"data": 1}),
        ([True], [1]),
    ],
)
def test_shapes_that_differ_are_told_apart(recorded: Any, emulated: Any) -> None:
    with pytest.raises(AssertionError):
        assert_same_shape(recorded, emulated)
