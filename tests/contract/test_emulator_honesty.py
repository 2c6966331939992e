"""Every emulator responds like the recordings of its provider, and rejects the same requests.

The recordings are independent of both: without them a connector and its emulator could share one
mistake. The requests are in `tests/connectors/<provider>/requests.toml`.
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

from campaign_gateway.connectors.contract import ProviderResponse
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.model import Rejected
from support.connectors import ROOMS, first_connector

# test_registry.py reports a missing file. Here it must not stop the collection of all tests.
REQUESTS = {
    provider: tomllib.loads((ROOMS / provider / "requests.toml").read_text("utf-8"))
    for provider in CONNECTORS
    if (ROOMS / provider / "requests.toml").exists()
}

# Headers that a server or a proxy adds.
HEADERS_OF_THE_SERVER = {"connection", "content-length", "date", "server", "transfer-encoding"}

Counted = Callable[[str], dict[str, Any]]


def named(section: str) -> list[Any]:
    return [
        pytest.param(provider, name, id=f"{provider}/{name}")
        for provider, requests in REQUESTS.items()
        for name in requests[section]
    ]


@pytest.mark.parametrize("provider", REQUESTS)
def test_every_recording_is_emulated_or_listed_as_not_emulated(provider: str) -> None:
    recordings = {path.stem for path in (ROOMS / provider / "recordings").glob("*.http")}
    emulated, left_out = (REQUESTS[provider][name] for name in ("recorded", "not_emulated"))
    assert not emulated.keys() & left_out.keys()
    assert emulated.keys() | left_out.keys() == recordings


@pytest.mark.parametrize(("provider", "name"), named("recorded"))
def test_emulator_responds_as_recorded(
    provider: str,
    name: str,
    read_recording: Callable[[Path], ProviderResponse],
    emulator_url: Callable[[str], str],
) -> None:
    recorded = read_recording(ROOMS / provider / "recordings" / f"{name}.http")
    response = send(emulator_url(provider), provider, REQUESTS[provider]["recorded"][name])
    assert response.status == recorded.status
    assert recorded.headers.keys() - HEADERS_OF_THE_SERVER <= response.headers.keys()
    assert media_type(response) == media_type(recorded)
    assert_same_shape(content_of(recorded), content_of(response))


@pytest.mark.parametrize("provider", REQUESTS)
def test_emulator_accepts_the_unchanged_request(
    provider: str, emulator_url: Callable[[str], str], counted: Counted
) -> None:
    assert_accepted(provider, {}, emulator_url(provider), counted)


@pytest.mark.parametrize(("provider", "name"), named("also_taken"))
def test_emulator_accepts_what_its_provider_accepts(
    provider: str, name: str, emulator_url: Callable[[str], str], counted: Counted
) -> None:
    assert_accepted(
        provider, REQUESTS[provider]["also_taken"][name], emulator_url(provider), counted
    )


@pytest.mark.parametrize(("provider", "name"), named("refused"))
def test_emulator_rejects_what_its_provider_rejects(
    provider: str,
    name: str,
    emulator_url: Callable[[str], str],
    counted: Counted,
) -> None:
    refused = REQUESTS[provider]["refused"][name]
    before = counted(provider)["count"]
    response = send(emulator_url(provider), provider, refused)
    assert response.status == refused["status"]
    connector, copy_input = first_connector(provider)
    assert isinstance(connector.parse_response(copy_input, response), Rejected)
    assert counted(provider)["count"] == before


def assert_accepted(provider: str, change: dict[str, Any], url: str, counted: Counted) -> None:
    before = counted(provider)["count"]
    response = send(url, provider, change)
    assert response.is_success
    assert counted(provider)["count"] == before + 1


def send(url: str, provider: str, change: dict[str, Any]) -> ProviderResponse:
    """Send the accepted request with the change. Empty headers are left out."""
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
    headers = {name.lower(): value for name, value in response.getheaders()}
    received = ProviderResponse(response.status, headers, response.read())
    connection.close()
    return received


def media_type(response: ProviderResponse) -> str:
    return response.headers.get("content-type", "").partition(";")[0]


def content_of(response: ProviderResponse) -> Any:
    if media_type(response).endswith("json"):
        return json.loads(response.body)
    if media_type(response).endswith("xml"):
        return element_of(ET.fromstring(response.body))
    return response.body.decode()


def element_of(element: ET.Element) -> Any:
    """Return the children as a list for each name, or else the text as the type it looks like."""
    if not len(element):
        text = (element.text or "").strip()
        if text.isdigit():
            return int(text)
        return {"true": True, "false": False, "": None}.get(text, text)
    children: dict[str, list[Any]] = {}
    for child in element:
        value = element_of(child)
        # Some samples in the documents have an empty element where others have none.
        if value is not None:
            children.setdefault(child.tag, []).append(value)
    return children


def assert_same_shape(recorded: Any, emulated: Any, place: str = "") -> None:
    """Assert the same names and types at every level, and items of the same shape in lists."""
    if isinstance(recorded, dict) and isinstance(emulated, dict):
        assert emulated.keys() == recorded.keys(), place
        for name, value in recorded.items():
            assert_same_shape(value, emulated[name], f"{place}.{name}")
    elif isinstance(recorded, list) and isinstance(emulated, list):
        for item in emulated if recorded else ():
            assert_same_shape(recorded[0], item, f"{place}[]")
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
def test_different_shapes_are_not_the_same(recorded: Any, emulated: Any) -> None:
    with pytest.raises(AssertionError):
        assert_same_shape(recorded, emulated)
