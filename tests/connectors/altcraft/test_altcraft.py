"""Altcraft's own behaviour: two formats, two styles of failure, copies that can be active."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from starlette.types import ASGIApp

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import UnexpectedResponse
from campaign_gateway.connectors.providers import altcraft as module
from campaign_gateway.connectors.providers.altcraft import (
    AltcraftAccount,
    AltcraftCampaignInput,
    AltcraftCampaignKind,
    AltcraftConnector,
)
from campaign_gateway.model import (
    Accepted,
    Campaign,
    CampaignStatus,
    Created,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Unknown,
)
from campaign_gateway.sandbox.contract_suite.calling import free_permit
from campaign_gateway.sandbox.emulators.altcraft import TOKEN, create_emulator
from support.responses import respond

TRIGGER, CAMPAIGN = AltcraftCampaignKind.TRIGGER, AltcraftCampaignKind.CAMPAIGN

Duplicate = Callable[[Account, Any], Awaitable[Outcome]]

WANTED = AltcraftCampaignInput(
    account=None, campaign_id=96, kind=TRIGGER, name="A copy", is_active=None
)


def connector(format_: str = "json") -> AltcraftConnector:
    table = {"base_url": "https://altcraft.example", "token": "t0k&n", "format": format_}
    return AltcraftConnector(AltcraftAccount.model_validate({"provider": "altcraft", **table}))


def sent(**changes: Any) -> Any:
    return json.loads(connector().build_request(replace(WANTED, **changes)).body)


def sent_in_xml(**changes: Any) -> dict[str, str | None]:
    root = ET.fromstring(connector("xml").build_request(replace(WANTED, **changes)).body)
    assert root.tag == "xml"
    return {element.tag: element.text for element in root}


def read(body: object, status: int = 200, **changes: Any) -> Outcome:
    return connector().parse_response(replace(WANTED, **changes), respond(status, body))


def saved(number: object) -> dict[str, object]:
    return {"data": {"saved_id": number}, "error": 0, "error_text": "Successful operation"}


# Requests


def test_each_kind_has_its_method() -> None:
    trigger = connector().build_request(WANTED)
    other = connector().build_request(replace(WANTED, kind=CAMPAIGN))
    assert trigger.url == "https://altcraft.example/api/v1.1/campaigns/triggers/clone"
    assert other.url == "https://altcraft.example/api/v1.1/campaigns/clone"
    assert trigger.method == other.method == "POST"


@pytest.mark.parametrize("format_", ["json", "xml"])
def test_token_is_only_in_the_body(format_: str) -> None:
    request = connector(format_).build_request(WANTED)
    assert request.headers == {
        "content-type": f"application/{format_}",
        "accept": f"application/{format_}",
    }
    assert "t0k" not in request.url
    assert request.body.count(b"t0k") == 1


def test_json_request_has_the_documented_form() -> None:
    assert sent(name=None) == {"token": "t0k&n", "format": "json", "id": 96, "is_active": False}
    assert sent()["name"] == "A copy"


def test_xml_request_has_the_documented_form() -> None:
    name = '<b> & "quotes" ]]> it\'s'
    assert sent_in_xml(name=name, is_active=True) == {
        "token": "t0k&n",
        "format": "xml",
        "id": "96",
        "name": name,
        "is_active": "true",
    }


@pytest.mark.parametrize(("requested", "sent_flag"), [(None, False), (False, False), (True, True)])
def test_copied_trigger_is_active_only_if_requested(
    *, requested: bool | None, sent_flag: bool
) -> None:
    assert sent(is_active=requested)["is_active"] is sent_flag
    assert sent_in_xml(is_active=requested)["is_active"] == str(sent_flag).lower()


def test_is_active_is_refused_for_other_kinds() -> None:
    for is_active in (None, False):
        assert "is_active" not in sent(kind=CAMPAIGN, is_active=is_active)
    with pytest.raises(Refused) as refusal:
        sent(kind=CAMPAIGN, is_active=True)
    assert refusal.value.error.code == ErrorCode.INVALID_INPUT
    assert refusal.value.error.field == ("isActive",)


# Responses


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, CampaignStatus.DRAFT),
        ({"is_active": True}, CampaignStatus.ACTIVE),
        # No document says which state the copy of another kind has.
        ({"kind": CAMPAIGN}, CampaignStatus.UNKNOWN),
    ],
)
def test_copy_has_the_requested_state(changes: dict[str, Any], status: CampaignStatus) -> None:
    assert read(saved(97), **changes) == Created(Campaign(id="97", name="A copy", status=status))


@pytest.mark.parametrize("body_format", ["json", "xml"])
@pytest.mark.parametrize("format_", ["json", "xml"])
def test_json_and_xml_are_parsed_with_either_account_format(format_: str, body_format: str) -> None:
    in_xml = "<xml><data><saved_id>97</saved_id></data><error>0</error></xml>"
    body = in_xml if body_format == "xml" else saved(97)
    outcome = connector(format_).parse_response(WANTED, respond(200, body))
    assert isinstance(outcome, Created)
    assert outcome.campaign.id == "97"


@pytest.mark.parametrize("number", [97, "97", '"97"'], ids=repr)
def test_number_written_as_text_is_parsed(number: object) -> None:
    outcome = read({**saved(number), "error": "0"})
    assert isinstance(outcome, Created)
    assert outcome.campaign.id == "97"


@pytest.mark.parametrize("number", [0, -97, 97.5, True, "9 7", "9" * 19, None, [97], 96], ids=repr)
def test_invalid_id_of_a_copy_is_accepted_without_the_copy(number: object) -> None:
    assert read(saved(number)) == Accepted()


@pytest.mark.parametrize("styled", ["{{'error': {0}}}", "<xml><data/><error>{0}</error></xml>"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (400, ErrorCode.INVALID_INPUT),
        (401, ErrorCode.AUTHENTICATION_FAILED),
        (402, ErrorCode.QUOTA_EXCEEDED),
        (403, ErrorCode.PERMISSION_DENIED),
        (404, ErrorCode.CAMPAIGN_NOT_FOUND),
        (429, ErrorCode.RATE_LIMITED),
    ],
)
def test_rejection_is_the_same_with_status_200_and_its_own(
    error: int, code: ErrorCode, styled: str
) -> None:
    body = styled.format(error).replace("'", '"')
    for status in (200, error):
        outcome = read(body, status)
        assert isinstance(outcome, Rejected)
        assert outcome.error.code == code
        assert outcome.error.provider_code == str(error)


def test_rate_limit_with_status_200_has_the_delay() -> None:
    limited = replace(respond(200, {"error": 429}), headers={"retry-after": "30"})
    outcome = connector().parse_response(WANTED, limited)
    assert isinstance(outcome, Rejected)
    assert outcome.error.retry_after == 30


@pytest.mark.parametrize("error", [440, 408, 500, 503, -1, 1, 200, 202, 99999])
def test_error_in_no_table_is_unknown(error: int) -> None:
    assert isinstance(read({"error": error, "error_text": "?"}), Unknown)
    assert isinstance(read({"error": error, "error_text": "?"}, 404), Unknown)


@pytest.mark.parametrize(
    ("status", "error"), [(404, 0), (500, 0), (500, 404), (302, 0), (404, 500), (429, 440)]
)
def test_contradicting_status_and_error_are_unknown(status: int, error: int) -> None:
    assert isinstance(read({**saved(97), "error": error}, status), Unknown)


@pytest.mark.parametrize(
    "body", ["", "{}", "<xml/>", "<html/>", {"data": {"saved_id": 97}}], ids=repr
)
def test_status_200_without_the_copy_is_unknown(body: object) -> None:
    assert isinstance(read(body), Unknown)


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
LONG = "9" * 50_000
OFTEN = "&a;" * 5_000
SAVED = "<error>0</error><data><saved_id>{}</saved_id></data>"
BOMBS = {
    "a document type": f"<!DOCTYPE xml><xml>{SAVED.format(97)}</xml>",
    "an entity": f'<!DOCTYPE xml [<!ENTITY n "97">]><xml>{SAVED.format("&n;")}</xml>',
    "a billion laughs": f'<!DOCTYPE xml [<!ENTITY a0 "97">{LAUGHS}]>'
    f"<xml>{SAVED.format('&a11;')}</xml>",
    "a long entity often": f'<!DOCTYPE xml [<!ENTITY a "{LONG}">]><xml>{SAVED.format(OFTEN)}</xml>',
    "a file": '<!DOCTYPE xml [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    "<xml><data/><error>403</error><error_text>&f;</error_text></xml>",
    "another document": '<!DOCTYPE xml SYSTEM "http://127.0.0.1:9/evil.dtd">'
    f"<xml>{SAVED.format(97)}</xml>",
    "a parameter entity": '<!DOCTYPE xml [<!ENTITY % p SYSTEM "http://127.0.0.1:9/"> %p;]>'
    f"<xml>{SAVED.format(97)}</xml>",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_malicious_xml_is_not_parsed(bomb: str) -> None:
    body = BOMBS[bomb]
    began = time.monotonic()
    outcome = read(body)
    assert time.monotonic() - began < 10
    assert isinstance(outcome, Unknown)
    assert outcome.error.provider_message is None
    with pytest.raises(UnexpectedResponse):
        connector().parse_search(respond(200, body), None)
    with pytest.raises(UnexpectedResponse):
        connector().parse_lookup(respond(200, body), "97")


# Searches and lookups


def test_keys_are_parsed_in_any_case() -> None:
    item = {"Id": 97, "NAME": "A copy", "Is_Active": True, "Groups": [{"Id": 0}]}
    (campaign,) = (
        connector().parse_search(respond(200, {"data": [item], "error": 0}), None).campaigns
    )
    assert campaign == Campaign(id="97", name="A copy", status=CampaignStatus.ACTIVE)


def test_search_starts_after_the_source() -> None:
    def place(kind: AltcraftCampaignKind, cursor: str | None) -> tuple[str, int]:
        request = connector().build_search(replace(WANTED, kind=kind), cursor)
        return request.url.removeprefix("https://altcraft.example/api/v1.1"), json.loads(
            request.body
        )["from_id"]

    assert place(TRIGGER, None) == ("/campaigns/triggers/list/", 97)
    assert place(CAMPAIGN, None) == ("/campaigns/list", 97)
    assert place(TRIGGER, "1200") == ("/campaigns/triggers/list/", 1200)


def test_next_page_starts_at_next_from_id_or_after_a_full_page() -> None:
    def page(count: int, **more: int) -> str | None:
        items = [{"id": 100 + number, "name": "A copy"} for number in range(count)]
        response = respond(200, {"data": items, "error": 0, **more})
        return connector().parse_search(response, None).next_cursor

    assert page(2, next_from_id=102) == "102"
    assert page(1000, next_from_id=1100) == "1100"
    assert page(1000) == "1100"
    assert page(999) is None
    assert page(0) is None


@pytest.mark.parametrize("format_", ["json", "xml"])
@pytest.mark.parametrize(("kind", "source"), [(TRIGGER, 96), (CAMPAIGN, 87)])
async def test_search_reads_every_page(
    kind: AltcraftCampaignKind,
    source: int,
    format_: str,
    serve: Callable[[ASGIApp], str],
    open_at: Callable[..., Account],
    duplicate: Duplicate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    account = open_at("altcraft", serve(create_emulator()), token=TOKEN, format=format_)
    wanted = replace(WANTED, campaign_id=source, kind=kind)
    made = []
    for number in range(5):
        outcome = await duplicate(account, replace(wanted, name=f"Copy {number}"))
        assert isinstance(outcome, Created)
        made.append(outcome.campaign.id)
    connector = account.connector
    assert isinstance(connector, AltcraftConnector)
    ids: list[str] = []
    cursor: str | None = None
    for _ in range(10):
        response = await account.transport.send_idempotent(
            connector.build_search(wanted, cursor), free_permit()
        )
        page = connector.parse_search(response, cursor)
        assert len(page.campaigns) <= 2
        ids += [campaign.id for campaign in page.campaigns]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [campaign_id for campaign_id in ids if campaign_id in made] == made
    assert len(ids) == len(set(ids))


def test_lookup_uses_the_method_of_the_kind() -> None:
    def method(related_input: AltcraftCampaignInput | None) -> str:
        return connector().build_lookup("97", related_input).url.partition("/api/v1.1")[2]

    assert method(None) == "/campaigns/get"
    assert method(WANTED) == "/campaigns/triggers/get"
    assert method(replace(WANTED, kind=CAMPAIGN)) == "/campaigns/get"


@pytest.mark.parametrize("number", ["abc", "-1", "0", "1.5", "0x1f", "٣", "²", " 1", "1_000"])
def test_id_that_is_no_number_is_refused(number: str) -> None:
    with pytest.raises(Refused) as refusal:
        connector().build_lookup(number, WANTED)
    assert refusal.value.error.code == ErrorCode.INVALID_INPUT
    assert refusal.value.error.field == ("id",)
