"""A strict stand-in for dotdigital's REST API of email campaigns, version 2.

Source: dotdigital's descriptions of its API v2, "Copy campaign", and its rate limits, as harvested
at github.com/api-evangelist/dotdigital (read 2026-11). From there are the path, Basic
authentication, the 201 (another description has 200), the copy's `id`, `name`, `subject`,
`fromName` and `status`, the name "Copy of ...", and that the older limit is a 400. Invented,
because no document that was read says it: the object of an error, which has a `message` here; the
other statuses, and every message; the value of `fromName`; the ends of the names of the headers
`X-RateLimit-...`, and their values. The body of the copying call is ignored.
"""

import base64
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

USER, PASSWORD = "apiuser-5c1d90e2@apiconnector.com", "sandbox-dotdigital-81f3c7"
ACCOUNTS = {"dotdigital": {"user": USER, "password": PASSWORD}}
AUTHORIZATION = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"

# Each campaign's name.
SOURCES = {"1045": "Spring sale", "1046": "Winter sale"}

# Each gets this response: status, message.
REFUSALS = {
    "invalid": (400, "The request is not valid"),
    "throttled": (400, "Too many calls for this account"),
    "not-found": (404, "The campaign was not found"),
    "unauthorized": (401, "The user or the password is not valid"),
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
class Dotdigital:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    names: dict[str, str] = field(
        default_factory=lambda: {**SOURCES, **{fault: fault for fault in emulation.FAULTS}}
    )
    last_id: int = 2000

    async def copy_campaign(self, request: Request) -> Response:
        self.copies.requests += 1
        if request.headers.get("authorization") != AUTHORIZATION:
            raise _refusal("unauthorized")
        source = request.path_params["id"]
        if source in REFUSALS:
            raise _refusal(source)
        name = f"Copy of {emulation.look_up(self.names, source, _refusal('not-found'))}"

        async def copy() -> Response:
            self.last_id += 1
            self.names[str(self.last_id)] = name
            self.copies.add(source, str(self.last_id), name)
            campaign = {
                "id": self.last_id,
                "name": name,
                "subject": "The sale has begun",
                "fromName": "Sandbox",
                "status": "Unsent",
            }
            return JSONResponse(campaign, 201)

        return await emulation.misbehave(source, request, copy)


def _refusal(name: str) -> emulation.Refusal:
    status, message = REFUSALS[name]
    limit = {
        "X-RateLimit-Limit": "2000",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(round(time.time()) + emulation.LIMIT_SECONDS),
        "X-RateLimit-Scope": "account",
    }
    headers = limit if status == 429 else None
    return emulation.Refusal(JSONResponse({"message": message}, status, headers))


def create_emulator() -> Starlette:
    dotdigital = Dotdigital()
    return emulation.create_app(
        dotdigital.copies,
        Route("/v2/campaigns/{id}/copy", dotdigital.copy_campaign, methods=["POST"]),
    )
