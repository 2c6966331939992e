"""A strict stand-in for ActiveCampaign's REST API of campaigns, version 3.

Source: ActiveCampaign's OpenAPI description of campaigns and users, and its rate limits, as
harvested at github.com/api-evangelist/activecampaign on 2026-08-13; the pages "Duplicate Campaign"
and "Edit campaign" of developers.activecampaign.com (all read 2026-11). From there are the paths,
the header of the key, the 200 of each call with its keys and types, the text of the 400 of a copy,
the 400 and the 406 of a change, the 403 of a wrong key, the message of an unknown campaign, and the
headers of a limit. Invented, because no document that was read says it: the objects of the other
errors; that a copy of an unknown campaign gets the 400 of a change, and a lookup the 404 of the
campaign's links; the `errors` of a change with wrong fields, which are those of a new campaign; the
name of a copy. The body of the copying call is ignored.
"""

from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

API_KEY = "sandbox-4f81c0e7b9d23a65"
ACCOUNTS = {"activecampaign": {"api_key": API_KEY}}

# Each campaign's name.
SOURCES = {1: "Welcome", 216: "Spring sale"}

CALLS_PER_SECOND = 5

# Each gets this response: status, message.
UNKNOWN, FORBIDDEN, INTERNAL_ERROR = 9404, 9403, 9500
REFUSALS = {
    UNKNOWN: (400, "Campaign not found"),
    FORBIDDEN: (403, "The API key is not valid"),
    9429: (429, "Too many calls"),
    INTERNAL_ERROR: (500, "Internal error"),
}

# ActiveCampaign has a text in place of an object.
LOCKED = 9400
NOT_ALLOWED = "Bad request. You are not allowed to copy this campaign."

# The result of the second call, which sets the copy's name.
RENAMES = {
    9101: "copied, then the new name is refused",
    9102: "copied, then the new name gets a server error",
    9103: "copied, then the connection is closed during the call for the new name",
}

# Ids are numbers here, so each fault has one.
FAULT_IDS = {9001 + number: fault for number, fault in enumerate(emulation.FAULTS)}

OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    LOCKED: f"400, {NOT_ALLOWED.lower()}",
    **{number: f"{status}, {message.lower()}" for number, (status, message) in REFUSALS.items()},
    **RENAMES,
    **{number: f"{fault}: {emulation.FAULTS[fault]}" for number, fault in FAULT_IDS.items()},
}

# The fields of a change that the gateway could send, with their types.
FIELDS = {"name": str, "type": str, "segmentId": str, "addressId": int, "scheduledDate": str}


@dataclass
class Activecampaign:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    campaigns: dict[int, dict[str, Any]] = field(default_factory=dict)
    last_id: int = 216

    def __post_init__(self) -> None:
        for source, name in {**SOURCES, **dict.fromkeys(RENAMES, "Sale"), **FAULT_IDS}.items():
            self._add(source, name)

    async def copy_campaign(self, request: Request) -> Response:
        self.copies.requests += 1
        _check_caller(request)
        source = request.path_params["id"]
        if source == LOCKED:
            raise emulation.Refusal(JSONResponse(NOT_ALLOWED, 400))
        if source in REFUSALS:
            raise _refusal(source)
        campaign = emulation.look_up(self.campaigns, source, _refusal(UNKNOWN))

        async def copy() -> Response:
            self.last_id += 1
            made = self._add(self.last_id, f"Copy of {campaign['name']}")
            self.copies.add(str(source), made["id"], made["name"])
            return JSONResponse(
                {
                    "succeeded": 1,
                    "message": "Campaign draft copied.",
                    "newCampaignId": self.last_id,
                }
            )

        return await emulation.misbehave(FAULT_IDS.get(source), request, copy)

    async def edit(self, request: Request) -> Response:
        _check_caller(request)
        if not await request.body():
            raise _error(406, {"message": "Empty request body"})
        invalid = _error(400, {"errors": ["The body must be a JSON object"]})
        body = await emulation.read_json(request, invalid, invalid)
        _check_body(body)
        copy_id = request.path_params["id"]
        campaign = emulation.look_up(self.campaigns, copy_id, _refusal(UNKNOWN))
        source = int(self.copies.source_of(str(copy_id)) or 0)
        if source == 9101:
            raise _error(400, {"errors": ["Field name must not be this name"]})
        if source == 9102:
            raise _refusal(INTERNAL_ERROR)

        async def rename() -> Response:
            campaign["name"] = body.get("name", campaign["name"])
            campaign["mdate"] = emulation.utc_now("seconds")
            self.copies.rename(str(copy_id), campaign["name"])
            return JSONResponse(_edited(campaign))

        fault = "cut-before-copy" if source == 9103 else None
        return await emulation.misbehave(fault, request, rename)

    async def show(self, request: Request) -> Response:
        _check_caller(request)
        campaign_id = request.path_params["id"]
        missing = _error(404, {"message": f"No Result found for Campaign with id {campaign_id}"})
        return JSONResponse({"campaign": emulation.look_up(self.campaigns, campaign_id, missing)})

    async def show_user(self, request: Request) -> Response:
        _check_caller(request)
        user = {
            "username": "jdoe",
            "firstName": "John",
            "lastName": "Doe",
            "email": "john.doe@example.com",
            "phone": "",
            "signature": None,
            "links": {"lists": f"{request.url.replace(path='/api/3/users/1/lists')}"},
            "id": "1",
        }
        return JSONResponse({"user": user})

    def _add(self, number: int, name: str) -> dict[str, Any]:
        now = emulation.utc_now("seconds")
        self.campaigns[number] = {
            "type": "single",
            "userid": "1",
            "source": "web",
            "name": name,
            "cdate": now,
            "mdate": now,
            "sdate": None,
            "ldate": None,
            "status": "0",
            "id": str(number),
            "user": "1",
            "automation": None,
        }
        return self.campaigns[number]


def _check_caller(request: Request) -> None:
    if request.headers.get("api-token") != API_KEY:
        raise _refusal(FORBIDDEN)


def _check_body(body: object) -> None:
    if not isinstance(body, dict):
        raise _error(400, {"errors": ["The body must be a JSON object"]})
    for name, value in body.items():
        kind = FIELDS.get(name)
        if kind is None:
            raise _error(400, {"errors": [f"Field {name} is not known"]})
        if type(value) is not kind:
            raise _error(400, {"errors": [f"Field {name} must be of type {kind.__name__}"]})
    if body.get("name") == "":
        raise _error(400, {"errors": ["Field name is required"]})


def _edited(campaign: dict[str, Any]) -> dict[str, Any]:
    """Return the campaign as a change returns it: with numbers, and other names of its fields."""
    return {
        "id": int(campaign["id"]),
        "name": campaign["name"],
        "type": campaign["type"],
        "canSplitContent": False,
        "segmentId": 0,
        "scheduledDate": None,
        "addressId": 2,
        "status": int(campaign["status"]),
        "listIds": None,
        "automationId": 0,
    }


def _refusal(number: int) -> emulation.Refusal:
    status, message = REFUSALS[number]
    limit = {
        "RateLimit-Limit": str(CALLS_PER_SECOND),
        "RateLimit-Remaining": "0",
        "Retry-After": str(emulation.LIMIT_SECONDS),
    }
    return _error(status, {"message": message}, limit if status == 429 else None)


def _error(
    status: int, content: dict[str, Any], headers: dict[str, str] | None = None
) -> emulation.Refusal:
    return emulation.Refusal(JSONResponse(content, status, headers))


def create_emulator() -> Starlette:
    activecampaign = Activecampaign()
    campaign = "/api/3/campaigns/{id:int}"
    return emulation.create_app(
        activecampaign.copies,
        Route("/api/3/users/me", activecampaign.show_user, methods=["GET"]),
        Route(campaign, activecampaign.show, methods=["GET"]),
        Route(f"{campaign}/copy", activecampaign.copy_campaign, methods=["POST"]),
        Route(f"{campaign}/edit", activecampaign.edit, methods=["PUT"]),
    )
