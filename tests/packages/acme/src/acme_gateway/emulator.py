"""A strict stand-in for Acme Mail's REST API."""

import secrets
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

ACCOUNTS = {"acme": {"api_key": "acme-sandbox-4e1b9f0c"}}
LIMITED_ACCOUNT = {"api_key": "acme-sandbox-limited-5d80"}
PERMISSIONS = {
    "Bearer acme-sandbox-4e1b9f0c": {"campaigns.read", "campaigns.write"},
    "Bearer acme-sandbox-limited-5d80": {"campaigns.write"},
}
SOURCES = {"spring": "Spring sale"}
REFUSALS = {
    "not-found": (404, "no such campaign"),
    "invalid": (400, "the campaign cannot be copied"),
    "unauthorized": (401, "the key is not valid"),
    "rate-limited": (429, "too many requests"),
    "error-500": (500, "internal error"),
}
OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    **{source: f"{status}, {message}" for source, (status, message) in REFUSALS.items()},
    **emulation.FAULTS,
}


def create_emulator() -> Starlette:
    copies = emulation.Copies()
    campaigns = {source: _campaign(source, name) for source, name in SOURCES.items()}

    async def copy_campaign(request: Request) -> Response:
        copies.requests += 1
        _check_caller(request, "campaigns.write")
        body = await emulation.read_json(
            request, _refusal(415, "the body must be JSON"), _refusal(400, "the body is not JSON")
        )
        if not isinstance(body, dict) or body.keys() - {"name"}:
            raise _refusal(400, "the body must be an object with a name")
        if not isinstance(body.get("name", ""), str):
            raise _refusal(400, "name must be a text")
        source = request.path_params["id"]
        if source in REFUSALS:
            raise _refusal(*REFUSALS[source])
        if source not in OUTCOMES:
            raise _refusal(404, "no such campaign")

        async def copy() -> Response:
            name = body.get("name", f"Copy of {SOURCES.get(source, source)}")
            made = _campaign(secrets.token_hex(8), name)
            campaigns[made["id"]] = made
            copies.add(source, made["id"], name)
            return JSONResponse(made, 201)

        return await emulation.misbehave(source, request, copy)

    async def list_campaigns(request: Request) -> Response:
        _check_caller(request, "campaigns.read")
        return JSONResponse({"campaigns": [*reversed(campaigns.values())]})

    async def show_campaign(request: Request) -> Response:
        _check_caller(request, "campaigns.read")
        missing = _refusal(404, "no such campaign")
        return JSONResponse(emulation.look_up(campaigns, request.path_params["id"], missing))

    return emulation.create_app(
        copies,
        Route("/v1/campaigns", list_campaigns, methods=["GET"]),
        Route("/v1/campaigns/{id}", show_campaign, methods=["GET"]),
        Route("/v1/campaigns/{id}/copies", copy_campaign, methods=["POST"]),
    )


def _campaign(campaign_id: str, name: str) -> dict[str, Any]:
    return {
        "id": campaign_id,
        "name": name,
        "status": "draft",
        "created_at": emulation.utc_now(),
    }


def _check_caller(request: Request, permission: str) -> None:
    """Raises `Refusal`."""
    unknown = _refusal(401, "the key is not valid")
    authorization = request.headers.get("authorization", "")
    if permission not in emulation.look_up(PERMISSIONS, authorization, unknown):
        raise _refusal(403, f"the key lacks {permission}")


def _refusal(status: int, message: str) -> emulation.Refusal:
    headers = {"Retry-After": "30"} if status == 429 else None
    return emulation.Refusal(JSONResponse({"message": message}, status, headers))
