"""A strict stand-in for Altcraft's API.

Source: guides.altcraft.com ("Clone campaign", "Clone a trigger campaign", "API interaction", the
list and get pages; v72 to v75). Invented, because no document says it: the texts of errors; which
errors these methods return; that a failure has HTTP 200 for some source ids and its own number as
the status for others (the documents leave that open); that a method rejects campaigns of the other
kind and unknown parameters; that `campaigns/get` returns triggers too; that
the lists are refused to a token without access to campaigns.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml.ElementTree import fromstring
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

TOKEN = "sandbox-altcraft-token-77d0c6"
ACCOUNTS = {"altcraft": {"token": TOKEN}, "altcraft-xml": {"token": TOKEN, "format": "xml"}}

# An account whose secret is valid, and lacks a permission that the gateway needs.
LIMITED_TOKEN = "sandbox-altcraft-limited-2e90"
LIMITED_ACCOUNT = {"token": LIMITED_TOKEN}

Campaign = dict[str, Any]

TRIGGERS = {96: "Abandoned cart"}
OTHERS = {87: "Newsletter"}

ERRORS = {
    400: "Incorrect request",
    401: "API token required",
    402: "Tariff limit reached",
    403: "No access to object",
    404: "Object not found",
    409: "Object is busy",
    429: "Too many requests",
    440: "Undocumented error",
    500: "Internal error",
}
# Ids are numbers here, so each outcome has one: 9404 returns HTTP 200 with error 404, 8404 returns
# HTTP 404 with error 404, and from 9001 on come the faults in the order of their list.
FAULT_IDS = {9001 + number: fault for number, fault in enumerate(emulation.FAULTS)}
OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(TRIGGERS, "copied, with kind: TRIGGER"),
    **dict.fromkeys(OTHERS, "copied, with kind: CAMPAIGN"),
    **{9000 + error: f"HTTP 200 with error {error}, {ERRORS[error].lower()}" for error in ERRORS},
    **{8000 + error: f"HTTP {error} with error {error}" for error in ERRORS},
    **{number: f"{fault}: {emulation.FAULTS[fault]}" for number, fault in FAULT_IDS.items()},
}


@dataclass
class Altcraft:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    campaigns: dict[int, Campaign] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, name in TRIGGERS.items():
            self._add(number, name, "trigger", is_active=True)
        for number, name in OTHERS.items():
            self._add(number, name, "broadcast", is_active=False)

    async def clone_trigger(self, request: Request) -> Response:
        return await self._clone(request, {"trigger"}, {"is_active": bool})

    async def clone_campaign(self, request: Request) -> Response:
        return await self._clone(request, {"broadcast", "regular"}, {})

    async def _clone(
        self, request: Request, kinds: set[str], more_parameters: dict[str, type]
    ) -> Response:
        self.copies.requests += 1
        call = await _read(request, {"id": int, "name": str, **more_parameters})
        number = call.get("id")
        if number is None:
            raise _refusal(call, 400)
        if number - 9000 in ERRORS:
            raise _refusal(call, number - 9000)
        if number - 8000 in ERRORS:
            raise _refusal(call, number - 8000, status=number - 8000)
        source = self.campaigns.get(number)
        if number not in FAULT_IDS and (source is None or source["type"] not in kinds):
            raise _refusal(call, 404)

        async def copy() -> Response:
            name = call.get("name", f"Clone of {source['name'] if source else number}")
            # Higher than every id with a meaning in this file.
            copy_id = 10_000 + len(self.copies.records) + 1
            self._add(copy_id, name, min(kinds), is_active=call.get("is_active", False))
            self.copies.add(str(number), str(copy_id), name)
            return _response(call, 0, {"saved_id": copy_id})

        return await emulation.misbehave(FAULT_IDS.get(number), request, copy)

    async def list_campaigns(self, request: Request) -> Response:
        return await self._list(request, {"trigger", "broadcast", "regular"}, is_paged=True)

    async def list_triggers(self, request: Request) -> Response:
        return await self._list(request, {"trigger"}, is_paged=False)

    async def _list(self, request: Request, kinds: set[str], *, is_paged: bool) -> Response:
        call = await _read(request, {"from_id": int, "limit": int})
        if call["token"] == LIMITED_TOKEN:
            raise _refusal(call, 403)
        items = [
            _list_item(campaign, is_trigger_list=not is_paged)
            for number, campaign in sorted(self.campaigns.items())
            if number >= call.get("from_id", 1) and campaign["type"] in kinds
        ]
        page = items[: call.get("limit", 1000)]
        more: dict[str, Any] = {"total_count": len(self.campaigns)}
        if is_paged and len(page) < len(items):
            more["next_from_id"] = items[len(page)]["id"]
        return _response(call, 0, page, **more)

    async def get_campaign(self, request: Request) -> Response:
        return await self._get(request, {"trigger", "broadcast", "regular"}, _details)

    async def get_trigger(self, request: Request) -> Response:
        return await self._get(request, {"trigger"}, _trigger_details)

    async def _get(
        self, request: Request, kinds: set[str], describe: Callable[[Campaign], Campaign]
    ) -> Response:
        call = await _read(request, {"id": int})
        campaign = self.campaigns.get(call.get("id", 0))
        if campaign is None or campaign["type"] not in kinds:
            raise _refusal(call, 404)
        return _response(call, 0, describe(campaign))

    def _add(self, number: int, name: str, kind: str, *, is_active: bool) -> None:
        self.campaigns[number] = {
            "id": number,
            "name": name,
            "type": kind,
            "is_active": is_active,
            "update_time": emulation.utc_now(),
        }


def _list_item(campaign: Campaign, *, is_trigger_list: bool) -> Campaign:
    """The campaign as the two lists return it. `type` has another meaning in each."""
    item = {name: campaign[name] for name in ("id", "name", "type", "is_active")}
    if is_trigger_list:
        item["type"] = "api_call"
    else:
        item["subid"] = ""
    return item | {"for_confirm": False, "ui_tags": [], "groups": [{"id": 0, "name": "main"}]}


def _details(campaign: Campaign) -> Campaign:
    return campaign | {"description": "", "updated_user": "sandbox"}


def _trigger_details(campaign: Campaign) -> Campaign:
    return {
        "id": campaign["id"],
        "name": campaign["name"],
        "is_active": campaign["is_active"],
        "trigger_type": "api_call",
        "content": [
            {
                "from_email": "",
                "from_name": "",
                "message_id": 41,
                "replyto_email": "",
                "replyto_name": "",
                "subject": "",
            }
        ],
        "send_channel": "email",
        "custom_tracking_domains": [],
        "is_random_tracking_prefix": False,
        "resource_id": 44,
        "list_id": 20,
        "skip_minutes": 0,
        "subid": "API",
        "call_url": "https://altcraft.invalid/trg/sandbox/<email|md5|xxh>",
        "virtual_sender_id": 98,
    }


async def _read(request: Request, kinds: dict[str, type]) -> dict[str, Any]:
    """Return the parameters with their types. Raises `Refusal`."""
    body, media_type = await request.body(), emulation.media_type_of(request)
    call: dict[str, Any] = {"format": media_type.removeprefix("application/")}
    try:
        if media_type == "application/json":
            parameters = json.loads(body)
        elif media_type == "application/xml":
            root = fromstring(body, forbid_dtd=True)
            if root.tag != "xml":
                raise _refusal(call, 400)
            parameters = {element.tag: element.text or "" for element in root}
        else:
            raise _refusal({"format": "json"}, 400)
        for name, value in {"format": "json", **parameters}.items():
            call[name] = _typed(value, {"token": str, "format": str, **kinds}[name])
    except (ValueError, KeyError, TypeError, AttributeError, ParseError):
        raise _refusal(call, 400) from None
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    if call.setdefault("token", bearer) not in {TOKEN, LIMITED_TOKEN}:
        raise _refusal(call, 401)
    if call["format"] not in {"json", "xml"}:
        raise _refusal({"format": "json"}, 400)
    return call


def _typed(value: object, kind: type) -> object:
    """Accept loose types, as the documents' samples do: "87" is a number and "true" is a flag."""
    if kind is bool and value in ("true", "false"):
        return value == "true"
    if kind is int and isinstance(value, str):
        return int(value)
    if type(value) is not kind:
        raise TypeError
    return value


def _refusal(call: dict[str, Any], error: int, status: int = 200) -> emulation.Refusal:
    return emulation.Refusal(_response(call, error, status=status))


def _response(
    call: dict[str, Any], error: int, data: object = None, status: int = 200, **more: object
) -> Response:
    content = {
        "data": data,
        "error": error,
        "error_text": ERRORS[error] if error else "Successful operation",
        **more,
    }
    if call["format"] != "xml":
        return Response(json.dumps(content), status, media_type="application/json")
    root = Element("xml")
    for name, value in content.items():
        _write(root, name, value)
    return Response(tostring(root, encoding="unicode"), status, media_type="application/xml")


def _write(parent: Element, name: str, value: object) -> None:
    """Write an array as repeated elements. An empty array and a null are an empty element."""
    if isinstance(value, list) and value:
        for item in value:
            _write(parent, name, item)
        return
    element = SubElement(parent, name)
    if isinstance(value, dict):
        for key, item in value.items():
            _write(element, key, item)
    elif isinstance(value, bool):
        element.text = str(value).lower()
    elif value:
        element.text = str(value)
    elif value == 0:
        element.text = "0"


def create_emulator() -> Starlette:
    altcraft = Altcraft()
    root = "/api/v1.1/campaigns"
    return emulation.create_app(
        altcraft.copies,
        Route(f"{root}/clone", altcraft.clone_campaign, methods=["POST"]),
        Route(f"{root}/list", altcraft.list_campaigns, methods=["POST"]),
        Route(f"{root}/get", altcraft.get_campaign, methods=["POST"]),
        Route(f"{root}/triggers/clone", altcraft.clone_trigger, methods=["POST"]),
        Route(f"{root}/triggers/list/", altcraft.list_triggers, methods=["POST"]),
        Route(f"{root}/triggers/get", altcraft.get_trigger, methods=["POST"]),
    )
