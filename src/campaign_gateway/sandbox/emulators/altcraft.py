"""A strict stand-in for Altcraft's API.

Source: guides.altcraft.com ("Clone campaign", "Clone a trigger campaign", "API interaction", the
list and get pages; v72 to v75). Invented, because no document says it: the texts of errors; which
errors these methods return; that a failure has HTTP 200 for some source ids and its own number as
the status for others (the documents leave that open); that a method rejects campaigns of the other
kind and unknown parameters; that `campaigns/get` returns triggers too.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml.ElementTree import fromstring
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from campaign_gateway.sandbox.emulation import FAULTS, Copies, emulator, misbehave

TOKEN = "sandbox-altcraft-token-77d0c6"
ACCOUNTS = {"altcraft": {"token": TOKEN}, "altcraft-xml": {"token": TOKEN, "format": "xml"}}

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
FAULT_IDS = {9001 + number: fault for number, fault in enumerate(FAULTS)}
OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(TRIGGERS, "copied, with kind: TRIGGER"),
    **dict.fromkeys(OTHERS, "copied, with kind: CAMPAIGN"),
    **{9000 + error: f"HTTP 200 with error {error}, {ERRORS[error].lower()}" for error in ERRORS},
    **{8000 + error: f"HTTP {error} with error {error}" for error in ERRORS},
    **{number: f"{fault}: {FAULTS[fault]}" for number, fault in FAULT_IDS.items()},
}


@dataclass
class Altcraft:
    copies: Copies = field(default_factory=Copies)
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
        self.copies.asked += 1
        call = await _read(request, {"id": int, "name": str, **more_parameters})
        if isinstance(call, Response):
            return call
        number = call.get("id")
        if number is None:
            return _answer(call, 400)
        if number - 9000 in ERRORS:
            return _answer(call, number - 9000)
        if number - 8000 in ERRORS:
            return _answer(call, number - 8000, status=number - 8000)
        source = self.campaigns.get(number)
        if number not in FAULT_IDS and (source is None or source["type"] not in kinds):
            return _answer(call, 404)

        async def copy() -> Response:
            name = call.get("name", f"Clone of {source['name'] if source else number}")
            # Higher than every id with a meaning in this file.
            copy_id = 10_000 + len(self.copies.made) + 1
            self._add(copy_id, name, min(kinds), is_active=call.get("is_active", False))
            self.copies.add(str(number), str(copy_id), name)
            return _answer(call, 0, {"saved_id": copy_id})

        return await misbehave(FAULT_IDS.get(number), request, copy)

    async def list_campaigns(self, request: Request) -> Response:
        return await self._list(request, {"trigger", "broadcast", "regular"}, is_paged=True)

    async def list_triggers(self, request: Request) -> Response:
        return await self._list(request, {"trigger"}, is_paged=False)

    async def _list(self, request: Request, kinds: set[str], *, is_paged: bool) -> Response:
        call = await _read(request, {"from_id": int, "limit": int})
        if isinstance(call, Response):
            return call
        shown = [
            _listed(each, is_trigger_list=not is_paged)
            for number, each in sorted(self.campaigns.items())
            if number >= call.get("from_id", 1) and each["type"] in kinds
        ]
        page = shown[: call.get("limit", 1000)]
        more: dict[str, Any] = {"total_count": len(self.campaigns)}
        if is_paged and len(page) < len(shown):
            more["next_from_id"] = shown[len(page)]["id"]
        return _answer(call, 0, page, **more)

    async def get_campaign(self, request: Request) -> Response:
        return await self._get(request, {"trigger", "broadcast", "regular"}, _described)

    async def get_trigger(self, request: Request) -> Response:
        return await self._get(request, {"trigger"}, _described_trigger)

    async def _get(
        self, request: Request, kinds: set[str], describe: Callable[[Campaign], Campaign]
    ) -> Response:
        call = await _read(request, {"id": int})
        if isinstance(call, Response):
            return call
        found = self.campaigns.get(call.get("id", 0))
        if found is None or found["type"] not in kinds:
            return _answer(call, 404)
        return _answer(call, 0, describe(found))

    def _add(self, number: int, name: str, kind: str, *, is_active: bool) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.campaigns[number] = {
            "id": number,
            "name": name,
            "type": kind,
            "is_active": is_active,
            "update_time": now,
        }


def _listed(campaign: Campaign, *, is_trigger_list: bool) -> Campaign:
    """The campaign as the two lists return it. `type` has another meaning in each."""
    shown = {name: campaign[name] for name in ("id", "name", "type", "is_active")}
    if is_trigger_list:
        shown["type"] = "api_call"
    else:
        shown["subid"] = ""
    return shown | {"for_confirm": False, "ui_tags": [], "groups": [{"id": 0, "name": "main"}]}


def _described(campaign: Campaign) -> Campaign:
    return campaign | {"description": "", "updated_user": "sandbox"}


def _described_trigger(campaign: Campaign) -> Campaign:
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


async def _read(request: Request, known: dict[str, type]) -> dict[str, Any] | Response:
    """Return the parameters with their types, or the response that rejects them."""
    body = await request.body()
    media_type = request.headers.get("content-type", "").split(";")[0]
    call: dict[str, Any] = {"format": media_type.removeprefix("application/")}
    try:
        if media_type == "application/json":
            sent = json.loads(body)
        elif media_type == "application/xml":
            root = fromstring(body, forbid_dtd=True)
            if root.tag != "xml":
                return _answer(call, 400)
            sent = {each.tag: each.text or "" for each in root}
        else:
            return _answer({"format": "json"}, 400)
        for name, value in {"format": "json", **sent}.items():
            call[name] = _typed(value, {"token": str, "format": str, **known}[name])
    except (ValueError, KeyError, TypeError, AttributeError, ParseError):
        return _answer(call, 400)
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    if call.pop("token", bearer) != TOKEN:
        return _answer(call, 401)
    if call["format"] not in {"json", "xml"}:
        return _answer({"format": "json"}, 400)
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


def _answer(
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
    return emulator(
        altcraft.copies,
        Route(f"{root}/clone", altcraft.clone_campaign, methods=["POST"]),
        Route(f"{root}/list", altcraft.list_campaigns, methods=["POST"]),
        Route(f"{root}/get", altcraft.get_campaign, methods=["POST"]),
        Route(f"{root}/triggers/clone", altcraft.clone_trigger, methods=["POST"]),
        Route(f"{root}/triggers/list/", altcraft.list_triggers, methods=["POST"]),
        Route(f"{root}/triggers/get", altcraft.get_trigger, methods=["POST"]),
    )
