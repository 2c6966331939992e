"""A strict stand-in for ActiveCampaign's REST API of campaigns, version 3.

Source: ActiveCampaign's API reference, "Copy a campaign" and the lookup of a campaign, and its rate
limits, as harvested at github.com/api-evangelist/activecampaign (read 2026-11). From there are both
paths, the header of the key, the 200 of a copy, the message of the 400, the lookup's `name`,
`cdate`, `mdate` and numbers in text, and the headers of a limit. Invented, because no document that
was read says it: the object of an error, which has a `message` here; every status and message but
those of the 400; the name of a copy; the format of the times. The body of the copying call is
ignored.
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
SOURCES = {"1": "Welcome", "216": "Spring sale"}

CALLS_PER_SECOND = 5

# Each gets this response: status, message.
REFUSALS = {
    "not-allowed": (400, "You are not allowed to copy this campaign"),
    "not-found": (404, "The campaign was not found"),
    "unauthorized": (401, "The API key is not valid"),
    "forbidden": (403, "The user may not copy campaigns"),
    "rate-limited": (429, "Too many calls"),
    "error-500": (500, "Internal error"),
}

OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    **{name: f"{status}, {message.lower()}" for name, (status, message) in REFUSALS.items()},
    **emulation.FAULTS,
}


@dataclass
class Activecampaign:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    campaigns: dict[str, dict[str, str]] = field(default_factory=dict)
    last_id: int = 216

    def __post_init__(self) -> None:
        for source, name in {**SOURCES, **{fault: fault for fault in emulation.FAULTS}}.items():
            self._add(source, name)

    async def copy_campaign(self, request: Request) -> Response:
        self.copies.requests += 1
        _check_caller(request)
        source = request.path_params["id"]
        if source in REFUSALS:
            raise _refusal(source)
        campaign = emulation.look_up(self.campaigns, source, _refusal("not-found"))

        async def copy() -> Response:
            self.last_id += 1
            made = self._add(str(self.last_id), f"Copy of {campaign['name']}")
            self.copies.add(source, made["id"], made["name"])
            return JSONResponse(
                {
                    "succeeded": 1,
                    "message": "Campaign draft copied.",
                    "newCampaignId": self.last_id,
                }
            )

        return await emulation.misbehave(source, request, copy)

    async def show(self, request: Request) -> Response:
        _check_caller(request)
        missing = _refusal("not-found")
        campaign = emulation.look_up(self.campaigns, request.path_params["id"], missing)
        return JSONResponse({"campaign": campaign})

    def _add(self, campaign_id: str, name: str) -> dict[str, str]:
        now = emulation.utc_now("seconds")
        self.campaigns[campaign_id] = {"id": campaign_id, "name": name, "cdate": now, "mdate": now}
        return self.campaigns[campaign_id]


def _check_caller(request: Request) -> None:
    if request.headers.get("api-token") != API_KEY:
        raise _refusal("unauthorized")


def _refusal(name: str) -> emulation.Refusal:
    status, message = REFUSALS[name]
    limit = {
        "RateLimit-Limit": str(CALLS_PER_SECOND),
        "RateLimit-Remaining": "0",
        "Retry-After": str(emulation.LIMIT_SECONDS),
    }
    headers = limit if status == 429 else None
    return emulation.Refusal(JSONResponse({"message": message}, status, headers))


def create_emulator() -> Starlette:
    activecampaign = Activecampaign()
    campaign = "/api/3/campaigns/{id}"
    return emulation.create_app(
        activecampaign.copies,
        Route(campaign, activecampaign.show, methods=["GET"]),
        Route(f"{campaign}/copy", activecampaign.copy_campaign, methods=["POST"]),
    )
