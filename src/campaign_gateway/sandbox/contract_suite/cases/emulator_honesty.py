"""Every emulator responds like the recordings of its provider, and rejects the same requests.

The recordings are independent of both: without them a connector and its emulator could share one
mistake. The requests are in the file `requests.toml` next to them.
"""

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from campaign_gateway.connectors.contract import ProviderResponse
from campaign_gateway.model import Rejected
from campaign_gateway.sandbox.contract_suite.calling import read_recording
from campaign_gateway.sandbox.contract_suite.fixtures import Counted
from campaign_gateway.sandbox.contract_suite.subject import (
    Subject,
    first_connector,
)

# Headers that a server or a proxy adds.
HEADERS_OF_THE_SERVER = {"connection", "content-length", "date", "server", "transfer-encoding"}


def test_every_recording_is_emulated_or_listed_as_not_emulated(subject: Subject) -> None:
    recordings = {path.stem for path in subject.recordings()}
    emulated, left_out = (subject.requests[name] for name in ("recorded", "not_emulated"))
    assert not emulated.keys() & left_out.keys()
    assert emulated.keys() | left_out.keys() == recordings


def test_emulator_responds_as_recorded(
    subject: Subject, recorded_name: str, emulator_url: str
) -> None:
    recorded = read_recording(subject.recording(recorded_name))
    response = send(emulator_url, subject, subject.requests["recorded"][recorded_name])
    assert response.status == recorded.status
    assert recorded.headers.keys() - HEADERS_OF_THE_SERVER <= response.headers.keys()
    assert media_type(response) == media_type(recorded)
    assert_same_shape(content_of(recorded), content_of(response))


def test_emulator_accepts_the_unchanged_request(
    subject: Subject, emulator_url: str, counted: Counted
) -> None:
    assert_accepted(subject, {}, emulator_url, counted)


def test_emulator_accepts_what_its_provider_accepts(
    subject: Subject, taken_name: str, emulator_url: str, counted: Counted
) -> None:
    change = subject.requests["also_taken"][taken_name]
    assert_accepted(subject, change, emulator_url, counted)


def test_emulator_rejects_what_its_provider_rejects(
    subject: Subject, refused_name: str, emulator_url: str, counted: Counted
) -> None:
    refused = subject.requests["refused"][refused_name]
    before = counted()["count"]
    response = send(emulator_url, subject, refused)
    assert response.status == refused["status"]
    connector, copy_input = first_connector(subject)
    assert isinstance(connector.parse_response(copy_input, response), Rejected)
    assert counted()["count"] == before


def assert_accepted(subject: Subject, change: dict[str, Any], url: str, counted: Counted) -> None:
    before = counted()["count"]
    response = send(url, subject, change)
    assert response.is_success
    assert counted()["count"] == before + 1


def send(url: str, subject: Subject, change: dict[str, Any]) -> ProviderResponse:
    """Send the accepted request with the change. Empty headers are left out."""
    taken = subject.requests["taken"]
    request = {**taken, **change}
    headers = {**taken["headers"], **change.get("headers", {})}
    body = request["body"]
    if isinstance(body, dict):
        body = {**taken["body"], **body}
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
