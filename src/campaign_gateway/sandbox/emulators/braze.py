"""A strict stand-in for Braze's REST API.

Source: braze.com/docs (campaigns/duplicate, campaigns/list, campaigns/details, errors, rate limits;
read up to 2026-09) and the recorded errors of the client braze_ruby. Invented, because no document
says it: the body of the 202; every text of a 400 to campaigns/duplicate; that an unknown tag or
field is rejected; that the list has drafts; the time until the copy exists; that a missing
permission is a 403.
"""

import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

API_KEY = "sandbox-braze-3f1c9a52-key"
ACCOUNTS = {"braze": {"api_key": API_KEY}}

# An account whose secret is valid, and lacks a permission that the gateway needs.
LIMITED_KEY = "sandbox-braze-limited-83b1-key"
LIMITED_ACCOUNT = {"api_key": LIMITED_KEY}
PERMISSIONS = {
    f"Bearer {API_KEY}": {"campaigns.duplicate", "campaigns.list", "campaigns.details"},
    f"Bearer {LIMITED_KEY}": {"campaigns.duplicate", "campaigns.list"},
}

SOURCES = {"0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10": "Spring sale"}
TAGS = {"promo", "seasonal"}

# Seconds until the list has a copy.
CREATION_SECONDS = 3.0

# Each gets this response: status, message.
REFUSALS = {
    "not-found": (400, "Invalid Campaign ID"),
    "invalid": (400, "name is not acceptable"),
    "forbidden": (403, "Access Denied"),
    "rate-limited": (429, "Rate limit exceeded"),
    "error-500": (500, "Internal Server Error"),
    "error-503": (503, "Service Unavailable"),
}
OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    "not-found": "400, the campaign is unknown",
    "invalid": "400, the input is refused",
    "unauthorized": "401, as if the key were wrong",
    "forbidden": "403, as if the key lacked the permission",
    "rate-limited": "429, as if the limit were used up",
    "never-created": "202, but no copy ever appears",
    "error-500": "500, nothing copied",
    "error-503": "503, nothing copied",
    **emulation.FAULTS,
}


@dataclass
class Braze:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    window: emulation.FixedWindow = field(default_factory=lambda: emulation.FixedWindow(100))
    campaigns: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source, name in SOURCES.items():
            self._add(source, name, "", ["promo"], draft=False, exists_at=0)

    async def duplicate(self, request: Request) -> Response:
        self.copies.requests += 1
        self._check_caller(request, "campaigns.duplicate")
        if not self.window.take():
            raise self._refusal(429, "Rate limit exceeded")
        body = await emulation.read_json(
            request,
            self._refusal(400, "Content-Type must be application/json"),
            self._refusal(400, "The request body is not JSON"),
        )
        if mistake := _mistake_in(body):
            raise self._refusal(400, mistake)
        source = body["campaign_id"]
        if source == "unauthorized":
            raise self._invalid_key(request)
        if source in REFUSALS:
            raise self._refusal(*REFUSALS[source])
        if source not in OUTCOMES:
            raise self._refusal(*REFUSALS["not-found"])

        async def copy() -> Response:
            if source != "never-created":
                self._copy(body)
            return self._response(202, "success")

        return await emulation.misbehave(source, request, copy)

    async def list_campaigns(self, request: Request) -> Response:
        self._check_caller(request, "campaigns.list")
        page = request.query_params.get("page", "0")
        if not page.isdecimal():
            raise self._refusal(400, "page must be a number")
        with_archived = request.query_params.get("include_archived") == "true"
        campaigns = [
            campaign
            for campaign in self.campaigns.values()
            if _exists(campaign) and (with_archived or not campaign["archived"])
        ]
        if request.query_params.get("sort_direction") == "desc":
            campaigns.reverse()
        items = [
            {
                "id": campaign["id"],
                "last_edited": campaign["updated_at"],
                "name": campaign["name"],
                "is_api_campaign": False,
                "tags": campaign["tags"],
            }
            for campaign in campaigns[int(page) * 100 : int(page) * 100 + 100]
        ]
        return self._response(200, "success", campaigns=items)

    async def show_details(self, request: Request) -> Response:
        self._check_caller(request, "campaigns.details")
        campaign = self.campaigns.get(request.query_params.get("campaign_id", ""))
        if campaign is None or not _exists(campaign):
            message = "campaign_id must be a string of the Campaign api identifier"
            raise self._refusal(400, message)
        details = {name: campaign[name] for name in campaign if name not in {"id", "exists_at"}}
        return self._response(200, "success", **details)

    def _copy(self, body: dict[str, Any]) -> None:
        source, name, copy_id = body["campaign_id"], body["name"], str(uuid.uuid4())
        description, tags = body.get("description", ""), body.get("tag_names", ["promo"])
        tags = [tags] if isinstance(tags, str) else tags
        exists_at = time.monotonic() + CREATION_SECONDS
        self._add(copy_id, name, description, tags, draft=True, exists_at=exists_at)
        self.copies.add(source, copy_id, name)

    def _add(
        self,
        campaign_id: str,
        name: str,
        description: str,
        tags: list[str],
        *,
        draft: bool,
        exists_at: float,
    ) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.campaigns[campaign_id] = {
            "id": campaign_id,
            "exists_at": exists_at,
            "created_at": now,
            "updated_at": now,
            "archived": False,
            "draft": draft,
            "enabled": not draft,
            "has_post_launch_draft": False,
            "name": name,
            "description": description,
            "schedule_type": "time_based",
            "channels": ["email"],
            "first_sent": None,
            "last_sent": None,
            "tags": tags,
            "teams": [],
            "messages": {"variation-1": {"channel": "email", "name": "Variation 1"}},
            "conversion_behaviors": [],
        }

    def _check_caller(self, request: Request, permission: str) -> None:
        permissions = emulation.look_up(
            PERMISSIONS, request.headers.get("authorization", ""), self._invalid_key(request)
        )
        if permission not in permissions:
            raise self._refusal(*REFUSALS["forbidden"])

    def _invalid_key(self, request: Request) -> emulation.Refusal:
        # The real API echoes the key and leaves the limits empty, as recorded.
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        response = self._response(401, f"Invalid API key: {key}")
        for name in ("limit", "remaining", "reset"):
            response.headers[f"x-ratelimit-{name}"] = ""
        return emulation.Refusal(response)

    def _refusal(self, status: int, message: str) -> emulation.Refusal:
        return emulation.Refusal(self._response(status, message))

    def _response(self, status: int, message: str, **fields: object) -> Response:
        headers = {**self.window.limit_headers(status), "X-Request-Id": str(uuid.uuid4())}
        return JSONResponse({"message": message, **fields}, status, headers)


def _exists(campaign: dict[str, Any]) -> bool:
    return bool(campaign["exists_at"] <= time.monotonic())


def _mistake_in(body: object) -> str | None:
    if not isinstance(body, dict):
        return "The request body must be an object"
    kinds = {"campaign_id": str, "name": str, "description": str, "tag_names": list | str}
    for name, value in body.items():
        if name not in kinds:
            return f"{name} is not a parameter"
        if not isinstance(value, kinds[name]):
            return f"{name} has the wrong type"
    for name in ("campaign_id", "name"):
        if not body.get(name):
            return f"{name} is required"
    tags = body.get("tag_names", [])
    unknown = set([tags] if isinstance(tags, str) else map(str, tags)) - TAGS
    return f"Tag {min(unknown)} does not exist" if unknown else None


def create_emulator() -> Starlette:
    braze = Braze()
    return emulation.create_app(
        braze.copies,
        Route("/campaigns/duplicate", braze.duplicate, methods=["POST"]),
        Route("/campaigns/list", braze.list_campaigns, methods=["GET"]),
        Route("/campaigns/details", braze.show_details, methods=["GET"]),
    )
