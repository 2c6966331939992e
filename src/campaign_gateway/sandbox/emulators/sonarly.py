"""A strict stand-in for Sonarly's REST API.

Source: app.sonarly.io/docs (getting-started, accounts-list, campaigns-duplicate, campaigns-list,
campaigns-get; read 2026-11). Invented, because no document says it: every error code but
VALIDATION_ERROR and AUDIENCE_NOT_READY; the Retry-After of a 429; the name of an unnamed copy; that
unknown fields and an empty leadIds are rejected; the null times of a draft.
"""

import secrets
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

API_KEY = "sk_live_sandbox_5b2e8d41c7"
ACCOUNTS = {"sonarly": {"api_key": API_KEY}}

# An account whose secret is valid, and lacks a permission that the gateway needs.
LIMITED_KEY = "sk_live_sandbox_limited_91fa"
LIMITED_ACCOUNT = {"api_key": LIMITED_KEY}
PERMISSIONS = {
    f"Bearer {API_KEY}": {"campaigns:read", "campaigns:write"},
    f"Bearer {LIMITED_KEY}": {"campaigns:write"},
}

GROUP = "507f1f77bcf86cd799439001"
SOURCES = {"507f1f77bcf86cd799439011": "Outreach"}
AUDIENCES = {"507f1f77bcf86cd799439021": {"507f1f77bcf86cd799439031", "507f1f77bcf86cd799439032"}}

# Each gets this response: status, code, message.
REFUSALS = {
    "not-found": (404, "NOT_FOUND", "Campaign not found"),
    "invalid": (400, "VALIDATION_ERROR", "Request validation failed"),
    "unauthorized": (401, "UNAUTHORIZED", "Invalid or missing API key"),
    "forbidden": (403, "FORBIDDEN", "Missing required permission campaigns:write"),
    "conflict": (409, "CONFLICT", "The campaign has an active workflow"),
    "audience-not-ready": (409, "AUDIENCE_NOT_READY", "The audience is still being filled"),
    "unprocessable": (422, "VALIDATION_ERROR", "The campaign cannot be duplicated"),
    "rate-limited": (429, "RATE_LIMITED", "Rate limit exceeded"),
    "error-500": (500, "INTERNAL_ERROR", "Internal server error"),
    "error-502": (502, "UPSTREAM_ERROR", "Upstream service error"),
}
OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    **{name: f"{status}, {message.lower()}" for name, (status, _, message) in REFUSALS.items()},
    **emulation.FAULTS,
}


@dataclass
class Sonarly:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    campaigns: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source, name in SOURCES.items():
            self._add(source, name, 2)

    async def duplicate(self, request: Request) -> Response:
        self.copies.requests += 1
        _check_caller(request, "campaigns:write")
        body = await emulation.read_json(
            request,
            _invalid("Content-Type must be application/json"),
            _invalid("The request body is not JSON"),
        )
        if mistake := _mistake_in(body):
            raise _invalid(mistake)
        source = request.path_params["campaign_id"]
        if source in REFUSALS:
            raise _refusal(*REFUSALS[source])
        if source not in OUTCOMES:
            raise _refusal(404, "NOT_FOUND", "Campaign not found")
        if body["audienceId"] not in AUDIENCES:
            raise _refusal(404, "NOT_FOUND", "Audience not found")
        leads = set(body.get("leadIds", AUDIENCES[body["audienceId"]]))
        if not leads <= AUDIENCES[body["audienceId"]]:
            raise _invalid("A lead does not belong to the audience")

        async def copy() -> Response:
            name = body.get("name", f"Copy of {SOURCES.get(source, source)}")
            campaign = self._add(secrets.token_hex(12), name, len(leads))
            self.copies.add(source, campaign["id"], name)
            return _success(201, campaign)

        return await emulation.misbehave(source, request, copy)

    async def list_groups(self, request: Request) -> Response:
        # Every valid key may read them.
        _permissions_of(request)
        group = {"id": GROUP, "name": "Sandbox", "createdAt": emulation.utc_now()}
        return _success(200, {"items": [group]})

    async def list_campaigns(self, request: Request) -> Response:
        _check_caller(request, "campaigns:read")
        return _success(200, {"items": list(self.campaigns.values())})

    async def show_campaign(self, request: Request) -> Response:
        _check_caller(request, "campaigns:read")
        missing = _refusal(404, "NOT_FOUND", "Campaign not found")
        campaign_id = request.path_params["campaign_id"]
        return _success(200, emulation.look_up(self.campaigns, campaign_id, missing))

    def _add(self, campaign_id: str, name: str, lead_count: int) -> dict[str, Any]:
        now = emulation.utc_now()
        campaign = {
            "id": campaign_id,
            "name": name,
            "description": "",
            "status": "draft",
            "selectedLeadCount": lead_count,
            "includeConversationHistory": True,
            "autoCancelOnMessageReceived": True,
            "outreachLanguage": "en",
            "createdAt": now,
            "updatedAt": now,
            "startedAt": None,
            "rateLimitedUntil": None,
        }
        self.campaigns[campaign_id] = campaign
        return campaign


def _permissions_of(request: Request) -> set[str]:
    """Raises `Refusal`."""
    authorization = request.headers.get("authorization", "")
    return emulation.look_up(PERMISSIONS, authorization, _refusal(*REFUSALS["unauthorized"]))


def _check_caller(request: Request, permission: str) -> None:
    if permission not in _permissions_of(request):
        raise _refusal(403, "FORBIDDEN", f"Missing required permission {permission}")
    if request.path_params["group_id"] != GROUP:
        raise _refusal(404, "NOT_FOUND", "Account group not found")


def _mistake_in(body: object) -> str | None:
    if not isinstance(body, dict):
        return "The request body must be an object"
    if unknown := set(body) - {"name", "audienceId", "leadIds"}:
        return f"{min(unknown)} is not a field"
    if not isinstance(body.get("audienceId"), str):
        return "audienceId is required"
    if not isinstance(body.get("name", ""), str):
        return "name must be a string"
    leads = body.get("leadIds", ["none given"])
    if not isinstance(leads, list) or not leads or not all(isinstance(lead, str) for lead in leads):
        return "leadIds must be an array of strings"
    return None


def _success(status: int, data: dict[str, Any]) -> Response:
    return JSONResponse(
        {"success": True, "data": data, "error": None, "traceId": secrets.token_hex(12)}, status
    )


def _invalid(message: str) -> emulation.Refusal:
    return _refusal(400, "VALIDATION_ERROR", message)


def _refusal(status: int, code: str, message: str) -> emulation.Refusal:
    error = {"code": code, "message": message, "details": None}
    content = {"success": False, "data": None, "error": error, "traceId": secrets.token_hex(12)}
    headers = {"Retry-After": str(emulation.LIMIT_SECONDS)} if status == 429 else None
    return emulation.Refusal(JSONResponse(content, status, headers))


def create_emulator() -> Starlette:
    sonarly = Sonarly()
    campaigns = "/v1/accounts/{group_id}/campaigns"
    return emulation.create_app(
        sonarly.copies,
        Route("/v1/accounts", sonarly.list_groups, methods=["GET"]),
        Route(campaigns, sonarly.list_campaigns, methods=["GET"]),
        Route(f"{campaigns}/{{campaign_id}}", sonarly.show_campaign, methods=["GET"]),
        Route(f"{campaigns}/{{campaign_id}}/duplicate", sonarly.duplicate, methods=["POST"]),
    )
