"""A strict stand-in for Braze's REST API.

Source: braze.com/docs (campaigns/duplicate, campaigns/list, campaigns/details, errors, rate limits;
read up to 2026-09) and the recorded errors of the client braze_ruby. Invented, because no document
says it: the body of the 202; every text of a 400 to campaigns/duplicate; that an unknown tag or
field is rejected; that the list has drafts; the time until the copy exists.
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

from campaign_gateway.sandbox.emulation import FAULTS, Copies, FixedWindow, emulator, misbehave

API_KEY = "sandbox-braze-3f1c9a52-key"
ACCOUNTS = {"braze": {"api_key": API_KEY}}

SOURCES = {"0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10": "Spring sale"}
TAGS = {"promo", "seasonal"}

# Seconds until the list has a copy.
CREATION_SECONDS = 3.0

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
    **FAULTS,
}


@dataclass
class Braze:
    copies: Copies = field(default_factory=Copies)
    window: FixedWindow = field(default_factory=lambda: FixedWindow(100))
    campaigns: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for source, name in SOURCES.items():
            self._add(source, name, "", ["promo"], draft=False, seen_at=0)

    async def duplicate(self, request: Request) -> Response:
        self.copies.asked += 1
        if refusal := self._refuse_caller(request):
            return refusal
        if not self.window.take():
            return self._answer(429, "Rate limit exceeded")
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return self._answer(400, "Content-Type must be application/json")
        try:
            body = await request.json()
        except ValueError:
            return self._answer(400, "The request body is not JSON")
        if mistake := _mistake_in(body):
            return self._answer(400, mistake)
        outcome = body["campaign_id"]
        match outcome:
            case "not-found":
                return self._answer(400, "Invalid Campaign ID")
            case "invalid":
                return self._answer(400, "name is not acceptable")
            case "unauthorized":
                return self._invalid_key(request)
            case "forbidden":
                return self._answer(403, "Access Denied")
            case "rate-limited":
                return self._answer(429, "Rate limit exceeded")
            case "error-500":
                return self._answer(500, "Internal Server Error")
            case "error-503":
                return self._answer(503, "Service Unavailable")
            case _ if outcome not in OUTCOMES:
                return self._answer(400, "Invalid Campaign ID")

        async def copy() -> Response:
            if outcome != "never-created":
                self._copy(body)
            return self._answer(202, "success")

        return await misbehave(outcome, request, copy)

    async def list_campaigns(self, request: Request) -> Response:
        if refusal := self._refuse_caller(request):
            return refusal
        asked = request.query_params.get("page", "0")
        if not asked.isdecimal():
            return self._answer(400, "page must be a number")
        page = int(asked)
        newest_first = request.query_params.get("sort_direction") == "desc"
        with_archived = request.query_params.get("include_archived") == "true"
        shown = [
            each
            for each in self.campaigns
            if each["seen_at"] <= time.monotonic() and (with_archived or not each["archived"])
        ]
        if newest_first:
            shown.reverse()
        items = [
            {
                "id": each["id"],
                "last_edited": each["updated_at"],
                "name": each["name"],
                "is_api_campaign": False,
                "tags": each["tags"],
            }
            for each in shown[page * 100 : page * 100 + 100]
        ]
        return self._answer(200, "success", campaigns=items)

    async def show_details(self, request: Request) -> Response:
        if refusal := self._refuse_caller(request):
            return refusal
        wanted = request.query_params.get("campaign_id")
        for each in self.campaigns:
            if each["id"] == wanted and each["seen_at"] <= time.monotonic():
                shown = {name: each[name] for name in each if name not in {"id", "seen_at"}}
                return self._answer(200, "success", **shown)
        return self._answer(400, "campaign_id must be a string of the Campaign api identifier")

    def _copy(self, body: dict[str, Any]) -> None:
        source, name = body["campaign_id"], body["name"]
        tags = body.get("tag_names", ["promo"])
        tags = [tags] if isinstance(tags, str) else tags
        seen_at = time.monotonic() + CREATION_SECONDS
        copy_id = self._add(
            str(uuid.uuid4()), name, body.get("description", ""), tags, draft=True, seen_at=seen_at
        )
        self.copies.add(source, copy_id, name)

    def _add(
        self,
        campaign_id: str,
        name: str,
        description: str,
        tags: list[str],
        *,
        draft: bool,
        seen_at: float,
    ) -> str:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.campaigns.append(
            {
                "id": campaign_id,
                "seen_at": seen_at,
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
        )
        return campaign_id

    def _refuse_caller(self, request: Request) -> Response | None:
        allowed = request.headers.get("authorization") == f"Bearer {API_KEY}"
        return None if allowed else self._invalid_key(request)

    def _invalid_key(self, request: Request) -> Response:
        # The real API echoes the key and leaves the limits empty, as recorded.
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        response = self._answer(401, f"Invalid API key: {sent}")
        for name in ("limit", "remaining", "reset"):
            response.headers[f"x-ratelimit-{name}"] = ""
        return response

    def _answer(self, status: int, message: str, **fields: object) -> Response:
        limits = {
            "X-RateLimit-Limit": str(self.window.limit),
            "X-RateLimit-Remaining": str(self.window.remaining()),
            "X-RateLimit-Reset": str(int(time.time() + max(1, self.window.resets_in()))),
            "X-Request-Id": str(uuid.uuid4()),
        }
        return JSONResponse({"message": message, **fields}, status, limits)


def _mistake_in(body: object) -> str | None:
    if not isinstance(body, dict):
        return "The request body must be an object"
    known = {"campaign_id": str, "name": str, "description": str, "tag_names": list | str}
    for name, value in body.items():
        if name not in known:
            return f"{name} is not a parameter"
        if not isinstance(value, known[name]):
            return f"{name} has the wrong type"
    for name in ("campaign_id", "name"):
        if not body.get(name):
            return f"{name} is required"
    tags = body.get("tag_names", [])
    unknown = set([tags] if isinstance(tags, str) else map(str, tags)) - TAGS
    return f"Tag {min(unknown)} does not exist" if unknown else None


def create_emulator() -> Starlette:
    braze = Braze()
    return emulator(
        braze.copies,
        Route("/campaigns/duplicate", braze.duplicate, methods=["POST"]),
        Route("/campaigns/list", braze.list_campaigns, methods=["GET"]),
        Route("/campaigns/details", braze.show_details, methods=["GET"]),
    )
