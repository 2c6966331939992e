"""A strict stand-in for Braze's REST API.

Source: braze.com/docs (campaigns/duplicate, campaigns/list, campaigns/details and their twins of
Canvases, errors, rate limits; read up to 2026-11) and the recorded errors of the client braze_ruby.
Invented, because no document says it: the body of the 202; every text of a 400 to a duplicate; that
an unknown tag or field is rejected; that the lists have drafts; the time until the copy exists;
that a missing permission is a 403; that a time without a zone is UTC.
"""

import re
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
    f"Bearer {API_KEY}": {
        *("campaigns.duplicate", "campaigns.list", "campaigns.details"),
        *("canvas.duplicate", "canvas.list", "canvas.details"),
    },
    f"Bearer {LIMITED_KEY}": {"campaigns.duplicate", "campaigns.list"},
}


@dataclass(frozen=True)
class Kind:
    """What the calls for campaigns and those for Canvases do not have in common."""

    permission: str
    id_field: str
    items: str
    word: str


CAMPAIGN = Kind("campaigns", "campaign_id", "campaigns", "Campaign")
CANVAS = Kind("canvas", "canvas_id", "canvases", "Canvas")

# Each one's name and kind.
SOURCES = {
    "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10": ("Spring sale", CAMPAIGN),
    "7d1c9e58-2b6f-4f0a-8c35-91e4a7d20b66": ("Welcome journey", CANVAS),
}
TAGS = {"promo", "seasonal"}

# Seconds until the list has a copy.
CREATION_SECONDS = 3.0

# Each gets this response: status, message.
REFUSALS = {
    "not-found": (400, "Invalid {kind} ID"),
    "invalid": (400, "name is not acceptable"),
    "forbidden": (403, "Access Denied"),
    "rate-limited": (429, "Rate limit exceeded"),
    "error-500": (500, "Internal Server Error"),
    "error-503": (503, "Service Unavailable"),
}
OUTCOMES: dict[Any, str] = {
    **{
        source: "copied" if kind is CAMPAIGN else "copied, with kind: CANVAS"
        for source, (_, kind) in SOURCES.items()
    },
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
        for source, (name, kind) in SOURCES.items():
            self._add(kind, source, name, "", ["promo"], draft=False, exists_at=0)

    async def duplicate(self, request: Request) -> Response:
        self.copies.requests += 1
        kind = _kind_of(request)
        self._check_caller(request, f"{kind.permission}.duplicate")
        if not self.window.take():
            raise self._refusal(429, "Rate limit exceeded")
        body = await emulation.read_json(
            request,
            self._refusal(400, "Content-Type must be application/json"),
            self._refusal(400, "The request body is not JSON"),
        )
        if mistake := _mistake_in(body, kind):
            raise self._refusal(400, mistake)
        source = body[kind.id_field]
        if source == "unauthorized":
            raise self._invalid_key(request)
        is_of_other_kind = source in self.campaigns and self.campaigns[source]["kind"] is not kind
        if source in REFUSALS or source not in OUTCOMES or is_of_other_kind:
            status, message = REFUSALS.get(source, REFUSALS["not-found"])
            raise self._refusal(status, message.format(kind=kind.word))

        async def copy() -> Response:
            if source != "never-created":
                self._copy(kind, body)
            return self._response(202, "success")

        return await emulation.misbehave(source, request, copy)

    async def list_campaigns(self, request: Request) -> Response:
        kind = _kind_of(request)
        self._check_caller(request, f"{kind.permission}.list")
        page = request.query_params.get("page", "0")
        if not page.isdecimal():
            raise self._refusal(400, "page must be a number")
        edited_after = request.query_params.get("last_edit.time[gt]", "1970-01-01T00:00:00")
        # The format in the documents has no zone, and the example below it has one.
        time_format = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d?\d:\d\d)?"
        if not re.fullmatch(time_format, edited_after, re.ASCII):
            raise self._refusal(400, "last_edit.time[gt] must be a time")
        with_archived = request.query_params.get("include_archived") == "true"
        campaigns = [
            campaign
            for campaign in self.campaigns.values()
            if campaign["kind"] is kind
            and _exists(campaign)
            and campaign["updated_at"] > edited_after
            and (with_archived or not campaign["archived"])
        ]
        if request.query_params.get("sort_direction") == "desc":
            campaigns.reverse()
        only_campaigns_have = {"is_api_campaign": False} if kind is CAMPAIGN else {}
        items = [
            {
                "id": campaign["id"],
                "last_edited": campaign["updated_at"],
                "name": campaign["name"],
                **only_campaigns_have,
                "tags": campaign["tags"],
            }
            for campaign in campaigns[int(page) * 100 : int(page) * 100 + 100]
        ]
        return self._response(200, "success", **{kind.items: items})

    async def show_details(self, request: Request) -> Response:
        kind = _kind_of(request)
        self._check_caller(request, f"{kind.permission}.details")
        campaign = self.campaigns.get(request.query_params.get(kind.id_field, ""))
        if campaign is None or campaign["kind"] is not kind or not _exists(campaign):
            message = f"{kind.id_field} must be a string of the {kind.word} api identifier"
            raise self._refusal(400, message)
        return self._response(200, "success", **_details_of(campaign))

    def _copy(self, kind: Kind, body: dict[str, Any]) -> None:
        source, name, copy_id = body[kind.id_field], body["name"], str(uuid.uuid4())
        description, tags = body.get("description", ""), body.get("tag_names", ["promo"])
        tags = [tags] if isinstance(tags, str) else tags
        exists_at = time.monotonic() + CREATION_SECONDS
        self._add(kind, copy_id, name, description, tags, draft=True, exists_at=exists_at)
        self.copies.add(source, copy_id, name)

    def _add(
        self,
        kind: Kind,
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
            "kind": kind,
            "exists_at": exists_at,
            "created_at": now,
            "updated_at": now,
            "archived": False,
            "draft": draft,
            "name": name,
            "description": description,
            "schedule_type": "time_based",
            "channels": ["email"],
            "tags": tags,
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


def _kind_of(request: Request) -> Kind:
    # The sandbox has the emulator below a path of its own.
    path = request.url.path.removeprefix(request.scope["root_path"])
    return CANVAS if path.startswith("/canvas/") else CAMPAIGN


def _details_of(campaign: dict[str, Any]) -> dict[str, Any]:
    """Return what the details of its kind have."""
    common = {name: campaign[name] for name in campaign if name not in {"id", "kind", "exists_at"}}
    if campaign["kind"] is CANVAS:
        variants = [{"name": "Variant 1", "id": "variant-1", "first_step_ids": ["step-1"]}]
        return {
            **common,
            "first_entry": None,
            "last_entry": None,
            "variants": variants,
            "steps": [{"name": "Welcome", "type": "message", "id": "step-1", "next_paths": []}],
        }
    return {
        **common,
        "enabled": not campaign["draft"],
        "has_post_launch_draft": False,
        "first_sent": None,
        "last_sent": None,
        "teams": [],
        "messages": {"variation-1": {"channel": "email", "name": "Variation 1"}},
        "conversion_behaviors": [],
    }


def _mistake_in(body: object, kind: Kind) -> str | None:
    if not isinstance(body, dict):
        return "The request body must be an object"
    kinds = {kind.id_field: str, "name": str, "description": str, "tag_names": list | str}
    for name, value in body.items():
        if name not in kinds:
            return f"{name} is not a parameter"
        if not isinstance(value, kinds[name]):
            return f"{name} has the wrong type"
    for name in (kind.id_field, "name"):
        if not body.get(name):
            return f"{name} is required"
    tags = body.get("tag_names", [])
    unknown = set([tags] if isinstance(tags, str) else map(str, tags)) - TAGS
    return f"Tag {min(unknown)} does not exist" if unknown else None


def create_emulator() -> Starlette:
    braze = Braze()
    return emulation.create_app(
        braze.copies,
        *(
            route
            for path in ("/campaigns", "/canvas")
            for route in (
                Route(f"{path}/duplicate", braze.duplicate, methods=["POST"]),
                Route(f"{path}/list", braze.list_campaigns, methods=["GET"]),
                Route(f"{path}/details", braze.show_details, methods=["GET"]),
            )
        ),
    )
