"""A strict stand-in for HubSpot's APIs of marketing emails (v3) and of campaigns (2026-09-beta).

Source: developers.hubspot.com/docs (clone, list and retrieve of both kinds, clone status, error
handling, private apps; read up to 2026-11). Invented, because no document says it: the texts of
errors; those for an empty or used name, an unknown asset type or field, and an invalid date; which
types can be cloned; the `Location` of a 201; the duration of a job; that its campaign can be
read from the start; what a failed job leaves behind; that a page has at most 100 emails; the name
of a clone without a requested name, and the states of clones. Lists are sorted only by createdAt.
"""

import base64
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

ACCESS_TOKEN = "sandbox-hubspot-6d20c4b19e-token"
ACCOUNTS = {"hubspot": {"access_token": ACCESS_TOKEN}}

# An account whose secret is valid, and lacks a permission that the gateway needs.
LIMITED_TOKEN = "sandbox-hubspot-limited-4f77-token"
LIMITED_ACCOUNT = {"access_token": LIMITED_TOKEN}
SCOPES = {
    f"Bearer {ACCESS_TOKEN}": {"content", "marketing.campaigns.read", "marketing.campaigns.write"},
    f"Bearer {LIMITED_TOKEN}": {"marketing.campaigns.read"},
}

# Emails by id, with their name and their source.
EMAILS = {
    "67890123456": ("Spring newsletter", None),
    "67890123457": ("Spring newsletter, clone", "67890123456"),
    "67890123458": ("Welcome", None),
}
CAMPAIGNS = {"6f1d2c3b-8a4e-4b7d-9c05-2e1f7a8b9c0d": "Product launch"}
# Campaigns that were cloned before, with the status of the job.
JOBS = {
    "0b0e1f5a-3c52-4a09-8e6f-1d2c3b4a5f60": "COMPLETE",
    "0b0e1f5a-3c52-4a09-8e6f-1d2c3b4a5f61": "PARTIAL_FAILURE",
    "0b0e1f5a-3c52-4a09-8e6f-1d2c3b4a5f62": "FAILED",
    "0b0e1f5a-3c52-4a09-8e6f-1d2c3b4a5f63": "PENDING",
}
ASSET_TYPES = {"BLOG_POST", "CTA", "FORM", "LANDING_PAGE", "MARKETING_EMAIL", "OBJECT_LIST"}

# Seconds until the job has filled a cloned campaign.
CREATION_SECONDS = 3.0

# Each gets this response: status, category, message.
REFUSALS = {
    "not-found": (404, "OBJECT_NOT_FOUND", "Object not found"),
    "invalid": (400, "VALIDATION_ERROR", "Invalid input"),
    "unauthorized": (401, "INVALID_AUTHENTICATION", "The access token is not valid"),
    "forbidden": (403, "MISSING_SCOPES", "The app has not been granted all required scopes"),
    "conflict": (409, "CONFLICT", "The object is in conflict with another"),
    "rate-limited": (429, "RATE_LIMITS", "You have reached your secondly limit"),
    "locked": (423, "LOCKED", "The account is locked for two seconds"),
    "moving": (477, "MIGRATION_IN_PROGRESS", "The account is being moved"),
    "error-500": (500, "INTERNAL_ERROR", "Internal error"),
    "error-503": (503, "SERVICE_UNAVAILABLE", "Service temporarily unavailable"),
}
# Campaigns whose job does not end with COMPLETE, and its last status.
JOB_ENDS = {
    "job-fails": "FAILED",
    "job-fails-and-leaves-nothing": "FAILED",
    "job-is-partial": "PARTIAL_FAILURE",
    "job-never-ends": "PENDING",
    "job-is-done-at-once": "COMPLETE",
    "job-is-partial-at-once": "PARTIAL_FAILURE",
}

# Every outcome of an email exists for a campaign too: `campaign-not-found` and so on.
WORDS = {
    **{name: f"{status}, {message.lower()}" for name, (status, _, message) in REFUSALS.items()},
    **{name: f"{name}: {words}" for name, words in emulation.FAULTS.items()},
}
CAMPAIGN_WORDS = {f"campaign-{name}": name for name in WORDS}


def _as_campaign(words: str, name: str) -> str:
    """Return the outcome with a name of its own: two campaigns cannot have the same name."""
    return f'{words}, with kind: CAMPAIGN, name: "{name}"'


OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(EMAILS, "copied"),
    **{guid: _as_campaign("copied", f"{name}, again") for guid, name in CAMPAIGNS.items()},
    "job-fails": _as_campaign("copied, but the job fails", "Launch that fails"),
    "job-fails-and-leaves-nothing": _as_campaign(
        "accepted, but the job fails and leaves no copy", "Launch that never was"
    ),
    "job-is-partial": _as_campaign("copied in part", "Launch in part"),
    "job-never-ends": _as_campaign("copied, but the job never ends", "Launch without end"),
    "job-is-done-at-once": _as_campaign("copied immediately", "Launch immediately"),
    "job-is-partial-at-once": _as_campaign(
        "copied in part immediately", "Launch in part immediately"
    ),
    **WORDS,
    **{word: _as_campaign(WORDS[name], f"Launch: {name}") for word, name in CAMPAIGN_WORDS.items()},
}

FLAGS = ("DraftNodes", "Edges", "StickyNotes", "Tasks", "TrackingUrls")
NEEDED_FOR_CAMPAIGNS = {
    "sourceCampaignGuid": str,
    "name": str,
    "assetsToClone": dict,
    **{f"shouldClone{flag}": bool for flag in FLAGS},
}
FREE_FOR_CAMPAIGNS = dict.fromkeys(
    ["audience", "currencyCode", "endDate", "notes", "startDate"], str
)


@dataclass(frozen=True)
class Job:
    ends_at: float
    end: str

    @property
    def status(self) -> str:
        return self.end if time.monotonic() >= self.ends_at else "PENDING"


@dataclass
class HubSpot:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    emails: dict[str, dict[str, Any]] = field(default_factory=dict)
    campaigns: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(70_000_000_001))

    def __post_init__(self) -> None:
        for email_id, (name, cloned_from) in EMAILS.items():
            self._add_email(email_id, name, "en", cloned_from)
        for guid, name in CAMPAIGNS.items():
            self._add_campaign(guid, {"name": name, "notes": "For the whole of Europe"})
        self.jobs = {guid: Job(time.monotonic(), end) for guid, end in JOBS.items()}

    async def clone_email(self, request: Request) -> Response:
        free = {"cloneName": str, "language": str}
        body = await self._read(request, "content", {"id": str}, free)
        source_id = body["id"]
        if source_id in REFUSALS:
            raise _refusal(*REFUSALS[source_id])
        if source_id not in self.emails and source_id not in emulation.FAULTS:
            raise _refusal(*REFUSALS["not-found"])

        async def copy() -> Response:
            source = self.emails.get(source_id, {"name": source_id, "language": "en"})
            name = body.get("cloneName", source["name"])
            language = body.get("language", source["language"])
            email = self._add_email(str(next(self.numbers)), name, language, source_id)
            self.copies.add(source_id, email["id"], name)
            return JSONResponse(email)

        return await emulation.misbehave(source_id, request, copy)

    async def clone_campaign(self, request: Request) -> Response:
        body = await self._read(
            request, "marketing.campaigns.write", NEEDED_FOR_CAMPAIGNS, FREE_FOR_CAMPAIGNS
        )
        if not body["name"]:
            raise _invalid("name is required")
        if mistake := _mistake_in_assets(body["assetsToClone"]) or _mistake_in_dates(body):
            raise _invalid(mistake)
        source = body["sourceCampaignGuid"]
        word = CAMPAIGN_WORDS.get(source)
        if word in REFUSALS:
            raise _refusal(*REFUSALS[word])
        if not (source in self.campaigns or source in JOB_ENDS or word):
            raise _refusal(*REFUSALS["not-found"])
        if body["name"] in {item["properties"]["hs_name"] for item in self.campaigns.values()}:
            raise _invalid("Another campaign has this name")

        async def copy() -> Response:
            guid = str(uuid.uuid4())
            wait = 0 if source.endswith("at-once") else CREATION_SECONDS
            self.jobs[guid] = Job(time.monotonic() + wait, JOB_ENDS.get(source, "COMPLETE"))
            if source != "job-fails-and-leaves-nothing":
                self._add_campaign(guid, body)
                self.copies.add(source, guid, body["name"])
            location = f"/marketing/campaigns/2026-09-beta/clone/{guid}/status"
            content = {"campaignGuid": guid, "status": self.jobs[guid].status}
            return JSONResponse(content, 201, {"Location": location})

        return await emulation.misbehave(word, request, copy)

    async def show_status(self, request: Request) -> Response:
        _check_caller(request, "marketing.campaigns.write")
        guid = request.path_params["guid"]
        job = emulation.look_up(self.jobs, guid, _refusal(*REFUSALS["not-found"]))
        return JSONResponse({"campaignGuid": guid, "status": job.status})

    async def list_emails(self, request: Request) -> Response:
        _check_caller(request, "content")
        try:
            query = request.query_params
            after = datetime.fromisoformat(query.get("createdAfter", "1970-01-01T00:00:00Z"))
            emails = [
                email
                for email in self.emails.values()
                if datetime.fromisoformat(email["createdAt"]) > after
            ]
        except (ValueError, TypeError):
            raise _invalid("createdAfter is not a time") from None
        return _page(request, [_with_fields(request, item) for item in emails], 10)

    async def show_email(self, request: Request) -> Response:
        _check_caller(request, "content")
        missing = _refusal(*REFUSALS["not-found"])
        email = emulation.look_up(self.emails, request.path_params["email_id"], missing)
        return JSONResponse(_with_fields(request, email))

    async def list_campaigns(self, request: Request) -> Response:
        _check_caller(request, "marketing.campaigns.read")
        part = request.query_params.get("name", "")
        items = [
            _with_properties(request, item)
            for item in self.campaigns.values()
            if part in item["properties"]["hs_name"]
        ]
        return _page(request, items, 50)

    async def list_asset_types(self, request: Request) -> Response:
        _check_caller(request, "marketing.campaigns.read")
        return JSONResponse({"results": sorted(ASSET_TYPES)})

    async def show_campaign(self, request: Request) -> Response:
        _check_caller(request, "marketing.campaigns.read")
        missing = _refusal(*REFUSALS["not-found"])
        campaign = emulation.look_up(self.campaigns, request.path_params["guid"], missing)
        return JSONResponse(_with_properties(request, campaign) | {"assets": {}})

    async def _read(
        self, request: Request, scope: str, needed: Mapping[str, type], free: Mapping[str, type]
    ) -> dict[str, Any]:
        """Return the body of a clone request. Raises `Refusal`."""
        self.copies.requests += 1
        _check_caller(request, scope)
        body = await emulation.read_json(
            request,
            _refusal(415, "VALIDATION_ERROR", "The body must be application/json"),
            _invalid("The body is not JSON"),
        )
        if not isinstance(body, dict):
            raise _invalid("The body must be an object")
        for name, value in body.items():
            if type(value) is not {**needed, **free}.get(name):
                raise _invalid(f"{name} is unknown or of the wrong type")
        if missing := needed.keys() - body.keys():
            raise _invalid(f"{min(missing)} is required")
        return body

    def _add_email(
        self, email_id: str, name: str, language: str, cloned_from: str | None
    ) -> dict[str, Any]:
        now = emulation.utc_now()
        email = {
            "activeDomain": "sandbox.invalid",
            "allEmailCampaignIds": [],
            "archived": False,
            "businessUnitId": "0",
            "content": {"plainTextVersion": "", "templatePath": "sandbox.html", "widgets": {}},
            "createdAt": now,
            "createdById": "1000001",
            "emailTemplateMode": "DRAG_AND_DROP",
            "from": {"fromName": "Sandbox", "replyTo": "sandbox@mail.invalid"},
            "id": email_id,
            "isAb": False,
            "isPublished": False,
            "isTransactional": False,
            "jitterSendTime": False,
            "language": language,
            "name": name,
            "sendOnPublish": True,
            "state": "DRAFT",
            "subcategory": "batch",
            "subject": name,
            "subscriptionDetails": {"officeLocationId": "0", "subscriptionId": "0"},
            "to": {"contactIds": {"exclude": [], "include": []}, "suppressGraymail": False},
            "type": "BATCH_EMAIL",
            "updatedAt": now,
            "updatedById": "1000001",
            "webversion": {"domain": "sandbox.invalid", "isPageRedirected": False, "slug": ""},
        }
        if cloned_from:
            email["clonedFrom"] = cloned_from
        self.emails[email_id] = email
        return email

    def _add_campaign(self, guid: str, fields: dict[str, Any]) -> None:
        now = emulation.utc_now()
        properties = {
            "hs_name": fields["name"],
            "hs_campaign_status": "planned",
            "hs_notes": fields.get("notes"),
            "hs_audience": fields.get("audience"),
            "hs_currency_code": fields.get("currencyCode"),
            "hs_start_date": fields.get("startDate"),
            "hs_end_date": fields.get("endDate"),
        }
        self.campaigns[guid] = {
            "businessUnits": [{"id": 0}],
            "createdAt": now,
            "id": guid,
            # As documented, properties without a value are missing.
            "properties": {name: value for name, value in properties.items() if value},
            "updatedAt": now,
        }


def _scopes_of(request: Request) -> set[str]:
    """Raises `Refusal`."""
    authorization = request.headers.get("authorization", "")
    return emulation.look_up(SCOPES, authorization, _refusal(*REFUSALS["unauthorized"]))


def _check_caller(request: Request, scope: str) -> None:
    if scope not in _scopes_of(request):
        raise _refusal(*REFUSALS["forbidden"])


async def show_token(request: Request) -> Response:
    scopes = _scopes_of(request)
    body = await emulation.read_json(
        request,
        _refusal(415, "VALIDATION_ERROR", "The body must be application/json"),
        _invalid("The body is not JSON"),
    )
    if not isinstance(body, dict) or f"Bearer {body.get('tokenKey')}" not in SCOPES:
        raise _invalid("tokenKey is not a token")
    content = {"userId": 1000001, "hubId": 2000001, "appId": 3000001, "scopes": sorted(scopes)}
    return JSONResponse(content)


def _mistake_in_assets(assets: dict[str, Any]) -> str | None:
    if unknown := assets.keys() - ASSET_TYPES:
        return f"{min(unknown)} is not a type of assets that can be cloned"
    for ids in assets.values():
        if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
            return "assetsToClone must map types to arrays of ids"
    return None


def _mistake_in_dates(body: dict[str, Any]) -> str | None:
    for name in ("startDate", "endDate"):
        day = body.get(name, "2026-10-30")
        try:
            datetime.strptime(day, "%Y-%m-%d")  # noqa: DTZ007 - a day has no zone
        except ValueError:
            return f"{name} must be a date in the format YYYY-MM-DD"
        if len(day) != len("2026-10-30"):
            return f"{name} must be a date in the format YYYY-MM-DD"
    return None


def _with_fields(request: Request, email: dict[str, Any]) -> dict[str, Any]:
    """Return an email with the requested fields, or with all of them if the request names none."""
    names = request.query_params.getlist("includedProperties") or list(email)
    return {name: email[name] for name in names if name in email}


def _with_properties(request: Request, campaign: dict[str, Any]) -> dict[str, Any]:
    """Return a campaign with the requested properties, or without any if the request names none."""
    names = request.query_params.getlist("properties")
    properties = campaign["properties"]
    return campaign | {
        "properties": {name: properties[name] for name in names if name in properties}
    }


def _page(request: Request, items: list[dict[str, Any]], default_limit: int) -> Response:
    """Return a page of items, which are in the order of their creation."""
    query = request.query_params
    try:
        limit = int(query.get("limit", default_limit))
        start = int(base64.b64decode(query.get("after", "MA=="), validate=True))
    except ValueError:
        raise _invalid("limit or after is not valid") from None
    order = query.get("sort", "createdAt")
    if order not in {"createdAt", "-createdAt"} or not 1 <= limit <= 100:
        raise _invalid("sort or limit is not valid")
    if order == "-createdAt":
        items.reverse()
    content: dict[str, Any] = {"total": len(items), "results": items[start : start + limit]}
    if start + limit < len(items):
        after = quote(base64.b64encode(str(start + limit).encode()))
        # Below a mount, as in the sandbox, the URL's path is longer than HubSpot's.
        path = request.url.path.removeprefix(request.scope["root_path"])
        link = f"https://api.hubapi.com{path}?after={after}"
        content["paging"] = {"next": {"after": after, "link": link}}
    return JSONResponse(content)


def _invalid(message: str) -> emulation.Refusal:
    return _refusal(400, "VALIDATION_ERROR", message)


def _refusal(status: int, category: str, message: str) -> emulation.Refusal:
    body = {
        "status": "error",
        "message": message,
        "correlationId": str(uuid.uuid4()),
        "category": category,
    }
    headers = {"Retry-After": str(emulation.LIMIT_SECONDS)} if status == 477 else None
    return emulation.Refusal(JSONResponse(body, status, headers))


def create_emulator() -> Starlette:
    hubspot = HubSpot()
    emails, campaigns = "/marketing/v3/emails", "/marketing/campaigns/2026-09-beta"
    return emulation.create_app(
        hubspot.copies,
        Route("/oauth/v2/private-apps/get/access-token-info", show_token, methods=["POST"]),
        Route(f"{emails}/", hubspot.list_emails, methods=["GET"]),
        Route(f"{emails}/clone", hubspot.clone_email, methods=["POST"]),
        Route(f"{emails}/{{email_id}}", hubspot.show_email, methods=["GET"]),
        Route(campaigns, hubspot.list_campaigns, methods=["GET"]),
        Route(f"{campaigns}/clone", hubspot.clone_campaign, methods=["POST"]),
        Route(f"{campaigns}/clone/asset-types", hubspot.list_asset_types, methods=["GET"]),
        Route(f"{campaigns}/clone/{{guid}}/status", hubspot.show_status, methods=["GET"]),
        Route(f"{campaigns}/{{guid}}", hubspot.show_campaign, methods=["GET"]),
    )
