"""A strict stand-in for Klaviyo's REST API.

Source: github.com/klaviyo/openapi (create_campaign_clone, get_campaigns, get_campaign and
update_campaign of 2026-07-15, and their betas with update_campaign_audience, now 2026-10-15) and
developers.klaviyo.com (rate limits and errors, filtering, API versioning; read 2026-11). A campaign
has the format of the request's revision. Invented, because no document says it: all texts of
errors, and all codes but `invalid`; that an unknown field in a body or a query is rejected, and a
body in application/json too; the name of an unnamed copy before 2026-10-15; that every date is a
revision; the fields of a new copy except name, status and times; limits that are never used up;
that the filter of names heeds the case. Of the filters, those by channel, name and earliest
creation exist here, without quotes in a name.
"""

import re
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

API_KEY = "pk_sandbox_6d0c94e1f27a583b"
ACCOUNTS = {
    "klaviyo": {"api_key": API_KEY},
    "klaviyo-before-definitions": {"api_key": API_KEY, "revision": "2026-07-15"},
}

# An account whose secret is valid, and lacks a permission that the gateway needs.
LIMITED_KEY = "pk_sandbox_limited_07b4d1"
LIMITED_ACCOUNT = {"api_key": LIMITED_KEY}
SCOPES = {
    f"Klaviyo-API-Key {API_KEY}": {"campaigns:read", "campaigns:write"},
    f"Klaviyo-API-Key {LIMITED_KEY}": {"campaigns:write"},
}

API = "https://a.klaviyo.com/api"
MEDIA_TYPE = "application/vnd.api+json"
PAGE_SIZE = 100

# The name and the channel of each campaign.
SOURCES = {
    "01K4F7Q2ZB8N6XWJ3T5RVD9HMC": ("Autumn newsletter", "email"),
    "01K4F80M5T3QHVE7C9YAXN2RDK": ("Flash sale", "sms"),
    "01K4F82WJ6G4PZSB1D8MKVTQ0E": ("New arrivals", "mobile_push"),
}

# Each gets this response: status, code, title, detail.
REFUSALS = {
    "not-found": (404, "not_found", "Not found.", "A campaign with id not-found does not exist."),
    "invalid": (400, "invalid", "Invalid input.", "The campaign cannot be cloned."),
    "unauthorized": (
        401,
        "authentication_failed",
        "Incorrect authentication credentials.",
        "The API key specified is incorrect or inactive.",
    ),
    "forbidden": (
        403,
        "permission_denied",
        "You do not have permission to perform this action.",
        "The API key lacks the scope campaigns:write.",
    ),
    "conflict": (409, "conflict", "Conflict.", "The campaign is being changed."),
    "rate-limited": (
        429,
        "throttled",
        "Request was throttled.",
        "Request was throttled. Expected available in 30 seconds.",
    ),
    "error-500": (500, "error", "A server error occurred.", "A server error occurred."),
    "error-503": (503, "unavailable", "Service unavailable.", "Service unavailable."),
}
OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    "not-found": "404, the campaign is unknown",
    "invalid": "400, the input is refused",
    "unauthorized": "401, as if the key were wrong",
    "forbidden": "403, as if the key lacked the scope",
    "conflict": "409, the campaign is in use",
    "change-refused": 'copied, then the audience is refused, with includedAudienceIds: ["Y6nRLr"]',
    "rate-limited": "429, as if the limit were used up",
    "error-500": "500, nothing copied",
    "error-503": "503, nothing copied",
    **emulation.FAULTS,
}

SORTS = {
    f"{sign}{name}"
    for sign in ("", "-")
    for name in ("created_at", "id", "name", "scheduled_at", "updated_at")
}


@dataclass
class Klaviyo:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    campaigns: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source, (name, channel) in SOURCES.items():
            self._add(source, name, channel)
        for source in (*emulation.FAULTS, "change-refused"):
            self._add(source, source, "email")

    async def clone(self, request: Request) -> Response:
        self.copies.requests += 1
        _check_caller(request, "campaigns:write")
        body = await emulation.read_json(
            request,
            _refusal(415, "unsupported_media_type", "Unsupported media type in request."),
            _refusal(400, "parse_error", "The request body is not JSON."),
            MEDIA_TYPE,
        )
        name_field = "name" if _has_definitions(request) else "new_name"
        if mistake := _mistake_in(body, name_field):
            raise _invalid(*mistake)
        source = body["data"]["id"]
        if source in REFUSALS:
            status, code, title, detail = REFUSALS[source]
            raise _refusal(status, code, title, detail, {"pointer": "/data/id"})
        if source not in OUTCOMES:
            detail = f"A campaign with id {source} does not exist."
            raise _refusal(404, "not_found", "Not found.", detail, {"pointer": "/data/id"})

        async def copy() -> Response:
            original, channel = SOURCES.get(source, (source, "email"))
            name = body["data"]["attributes"].get(name_field)
            campaign = self._add(_new_id(), name or f"Copy of {original}", channel)
            self.copies.add(source, campaign["id"], campaign["name"])
            return _document(201, request, campaign)

        return await emulation.misbehave(source, request, copy)

    async def list_campaigns(self, request: Request) -> Response:
        _check_caller(request, "campaigns:read")
        query = request.query_params
        if unknown := set(query) - {"filter", "sort", "page[cursor]", "page[size]"}:
            raise _invalid(f"'{min(unknown)}' is not a parameter.", {"parameter": min(unknown)})
        criteria = _criteria_in(query.get("filter", ""))
        # Revisions with definitions have no filter for the channel. Older ones require it.
        if criteria is None or ("channel" in criteria) == _has_definitions(request):
            raise _invalid("Invalid filter provided.", {"parameter": "filter"})
        sort = query.get("sort", "created_at")
        if sort not in SORTS or ("scheduled_at" in sort and _has_definitions(request)):
            raise _invalid("Invalid sort provided.", {"parameter": "sort"})
        size, start = query.get("page[size]", str(PAGE_SIZE)), query.get("page[cursor]", "0")
        if not (size.isdecimal() and 1 <= int(size) <= PAGE_SIZE):
            raise _invalid("Page size must be between 1 and 100.", {"parameter": "page[size]"})
        if not start.isdecimal():
            raise _invalid("Invalid cursor provided.", {"parameter": "page[cursor]"})
        campaigns = [
            campaign
            for campaign in self.campaigns.values()
            if criteria.get("channel", campaign["channel"]) == campaign["channel"]
            and criteria.get("name", "") in campaign["name"]
            and datetime.fromisoformat(campaign["created_at"])
            >= datetime.fromisoformat(criteria.get("created_at", "1970-01-01T00:00:00Z"))
        ]
        key = sort.removeprefix("-")
        campaigns.sort(key=lambda campaign: str(campaign.get(key)), reverse=sort.startswith("-"))
        end = int(start) + int(size)
        links = {"self": f"{API}/campaigns?{request.url.query}"}
        if end < len(campaigns):
            next_url = request.url.include_query_params(**{"page[cursor]": end})
            links["next"] = f"{API}/campaigns?{next_url.query}"
        data = [_resource(campaign, request) for campaign in campaigns[int(start) : end]]
        return _response(200, {"data": data, "links": links})

    async def update_campaign(self, request: Request) -> Response:
        """The call before revision 2026-10-15, in which a campaign has its audiences itself."""
        campaign_id = request.path_params["campaign_id"]
        attributes = await self._read_update(request, "campaign", campaign_id)
        detail = f"A campaign with id {campaign_id} does not exist."
        missing = _refusal(404, "not_found", "Not found.", detail)
        campaign = emulation.look_up(self.campaigns, campaign_id, missing)
        strategy = attributes.get("send_strategy", {"method": "immediate"})
        known = {"name", "audiences", "send_strategy"}
        if set(attributes) - known or _has_definitions(request) or not _is_strategy(strategy):
            raise _invalid("Invalid attributes.", {"pointer": "/data/attributes"})
        self._change_audience(campaign, attributes.get("audiences", {}))
        campaign["send_strategy"] = strategy
        return _document(200, request, campaign)

    async def update_audience(self, request: Request) -> Response:
        audience_id = request.path_params["audience_id"]
        attributes = await self._read_update(request, "campaign-audience", audience_id)
        of_audience = {campaign["audience"]: campaign for campaign in self.campaigns.values()}
        missing = _refusal(404, "not_found", "Not found.", "There is no such audience.")
        campaign = emulation.look_up(of_audience, audience_id, missing)
        definition = attributes.get("definition", {})
        if set(attributes) - {"definition"} or not _has_definitions(request):
            raise _invalid("Invalid attributes.", {"pointer": "/data/attributes"})
        self._change_audience(campaign, definition)
        content = {"definition": campaign["audiences"]}
        times = {"created": campaign["created_at"], "updated": campaign["updated_at"]}
        data = {
            "type": "campaign-audience",
            "id": audience_id,
            "attributes": {**times, **content},
            "links": {"self": f"{API}/campaign-audiences/{audience_id}"},
        }
        return _response(200, {"data": data, "links": data["links"]})

    async def _read_update(self, request: Request, kind: str, object_id: str) -> dict[str, Any]:
        """Return the attributes of an update. Raises `Refusal`."""
        _check_caller(request, "campaigns:write")
        body = await emulation.read_json(
            request,
            _refusal(415, "unsupported_media_type", "Unsupported media type in request."),
            _refusal(400, "parse_error", "The request body is not JSON."),
            MEDIA_TYPE,
        )
        data = body.get("data") if isinstance(body, dict) else None
        if not isinstance(data, dict) or (data.get("type"), data.get("id")) != (kind, object_id):
            raise _invalid("The data must have the type and the id.", {"pointer": "/data"})
        attributes = data.get("attributes")
        if not isinstance(attributes, dict):
            raise _invalid("The attributes must be an object.", {"pointer": "/data/attributes"})
        return dict(attributes)

    def _change_audience(self, campaign: dict[str, Any], audience: object) -> None:
        pointer = {"pointer": "/data/attributes"}
        if not isinstance(audience, dict) or set(audience) - {"included", "excluded"}:
            raise _invalid("Invalid audience.", pointer)
        for ids in audience.values():
            if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
                raise _invalid("Invalid audience.", pointer)
        if audience and self.copies.source_of(campaign["id"]) == "change-refused":
            raise _invalid("The audience does not exist.", pointer)
        campaign["audiences"] = {**campaign["audiences"], **audience}

    async def show_campaign(self, request: Request) -> Response:
        _check_caller(request, "campaigns:read")
        campaign_id = request.path_params["campaign_id"]
        detail = f"A campaign with id {campaign_id} does not exist."
        missing = _refusal(404, "not_found", "Not found.", detail)
        return _document(200, request, emulation.look_up(self.campaigns, campaign_id, missing))

    def _add(self, campaign_id: str, name: str, channel: str) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat()
        campaign = {
            "id": campaign_id,
            "name": name,
            "channel": channel,
            "created_at": now,
            "updated_at": now,
            "audiences": {"included": ["Y6nRLr"], "excluded": []},
            "send_strategy": {"method": "immediate"},
            "message": _new_id(),
            "audience": uuid.uuid4().hex,
        }
        self.campaigns[campaign_id] = campaign
        return campaign


def _new_id() -> str:
    """Return a time and random characters, as in a ULID."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    number = int(time.time() * 1000) << 80 | secrets.randbits(80)
    return "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))


def _has_definitions(request: Request) -> bool:
    revision = request.headers["revision"]
    return revision >= "2026-10-15" or revision in {"2026-04-15.pre", "2026-07-15.pre"}


def _check_caller(request: Request, scope: str) -> None:
    authorization = request.headers.get("authorization", "")
    scopes = emulation.look_up(SCOPES, authorization, _refusal(*REFUSALS["unauthorized"]))
    if scope not in scopes:
        status, code, title, _ = REFUSALS["forbidden"]
        raise _refusal(status, code, title, f"The API key lacks the scope {scope}.")
    revision = request.headers.get("revision", "")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(\.pre)?", revision, re.ASCII):
        raise _invalid("A valid revision header is required.", {"parameter": "revision"})


FILTERS = {
    "channel": r"""equals\(messages\.channel,(['"])(?P<channel>email|sms|mobile_push)\1\)""",
    "name": r"""contains\(name,(['"])(?P<name>[^'"\\]+)\1\)""",
    # A time has no quotes.
    "created_at": r"greater-or-equal\(created_at,(?P<created_at>[-:T0-9]{19}(Z|[-+][:0-9]+))\)",
}


def _criteria_in(filter_: str) -> dict[str, str] | None:
    """Return the value of each filter; None for a filter that is not valid."""
    whole = re.fullmatch(r"and\((.*)\)", filter_)
    rest, criteria = (whole[1] if whole else filter_), {}
    while rest:
        for name, pattern in FILTERS.items():
            match = re.match(rf"{pattern}(,|$)", rest)
            if match and name not in criteria:
                criteria[name], rest = match[name], rest[match.end() :]
                break
        else:
            return None
    return criteria if bool(whole) == (len(criteria) > 1) else None


def _is_strategy(strategy: object) -> bool:
    if not isinstance(strategy, dict) or strategy.get("method") not in {"static", "immediate"}:
        return False
    try:
        at = datetime.fromisoformat(strategy.get("datetime", "2027-03-01T09:00:00Z"))
    except (ValueError, TypeError):
        return False
    return at.tzinfo is not None and (strategy["method"] == "static") == ("datetime" in strategy)


def _mistake_in(body: object, name_field: str) -> tuple[str, Mapping[str, str]] | None:
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(body, dict) or set(body) != {"data"} or not isinstance(data, dict):
        return "The payload must have data and nothing else.", {"pointer": "/data"}
    if unknown := set(data) - {"type", "id", "attributes"}:
        return f"'{min(unknown)}' is not allowed here.", {"pointer": f"/data/{min(unknown)}"}
    if data.get("type") != "campaign":
        return "The type must be 'campaign'.", {"pointer": "/data/type"}
    if not isinstance(data.get("id"), str) or not data["id"]:
        return "The id must be a string.", {"pointer": "/data/id"}
    attributes = data.get("attributes")
    if not isinstance(attributes, dict):
        return "The attributes must be an object.", {"pointer": "/data/attributes"}
    if unknown := set(attributes) - {name_field}:
        source = {"pointer": f"/data/attributes/{min(unknown)}"}
        return f"'{min(unknown)}' is not a valid field for the resource 'campaign'.", source
    if not isinstance(attributes.get(name_field), str | None):
        return "The name must be a string.", {"pointer": f"/data/attributes/{name_field}"}
    return None


def _resource(campaign: dict[str, Any], request: Request) -> dict[str, Any]:
    """Return the campaign in the format of the requested revision."""
    url = f"{API}/campaigns/{campaign['id']}"
    times = {name: campaign[name] for name in ("created_at", "updated_at")}
    relationships = {
        "campaign-messages": [{"type": "campaign-message", "id": campaign["message"]}],
        "tags": [],
    }
    attributes: dict[str, Any]
    if _has_definitions(request):
        audience = {"type": "campaign-audience", "id": campaign["audience"]}
        relationships["campaign-audiences"] = [audience]
        attributes = {
            **times,
            "definition": {
                "name": campaign["name"],
                "builder": "wizard",
                "archived": False,
                "color": None,
                "description": None,
                "send_settings": {
                    "send_timezone": "UTC",
                    "send_strategy": "static",
                    "send_passed_rltz_immediately": False,
                    "exit_condition_enabled": False,
                    "exit_condition_conversion_metric_id": None,
                },
            },
        }
    else:
        attributes = {
            "name": campaign["name"],
            "status": "Draft",
            "archived": False,
            "audiences": campaign["audiences"],
            "send_options": {"use_smart_sending": True},
            "tracking_options": {"add_tracking_params": False, "custom_tracking_params": []},
            "send_strategy": campaign["send_strategy"],
            **times,
            "scheduled_at": None,
            "send_time": None,
        }
    return {
        "type": "campaign",
        "id": campaign["id"],
        "attributes": attributes,
        "relationships": {
            name: {
                "data": data,
                "links": {"self": f"{url}/relationships/{name}", "related": f"{url}/{name}"},
            }
            for name, data in relationships.items()
        },
        "links": {"self": url},
    }


def _document(status: int, request: Request, campaign: dict[str, Any]) -> Response:
    resource = _resource(campaign, request)
    return _response(status, {"data": resource, "links": resource["links"]})


def _invalid(detail: str, source: Mapping[str, str]) -> emulation.Refusal:
    return _refusal(400, "invalid", "Invalid input.", detail, source)


def _refusal(
    status: int,
    code: str,
    title: str,
    detail: str | None = None,
    source: Mapping[str, str] | None = None,
) -> emulation.Refusal:
    error = {
        "id": str(uuid.uuid4()),
        "status": status,
        "code": code,
        "title": title,
        "detail": detail or title,
        "source": source or {"pointer": "/data"},
        "meta": {},
    }
    return emulation.Refusal(_response(status, {"errors": [error]}))


def _response(status: int, content: dict[str, Any]) -> Response:
    limits = {"RateLimit-Limit": "150", "RateLimit-Remaining": "149", "RateLimit-Reset": "60"}
    headers = {"Retry-After": str(emulation.LIMIT_SECONDS)} if status == 429 else limits
    return JSONResponse(content, status, headers, MEDIA_TYPE)


def create_emulator() -> Starlette:
    klaviyo = Klaviyo()
    return emulation.create_app(
        klaviyo.copies,
        Route("/api/campaign-clone", klaviyo.clone, methods=["POST"]),
        Route("/api/campaigns", klaviyo.list_campaigns, methods=["GET"]),
        Route("/api/campaigns/{campaign_id}", klaviyo.show_campaign, methods=["GET"]),
        Route("/api/campaigns/{campaign_id}", klaviyo.update_campaign, methods=["PATCH"]),
        Route("/api/campaign-audiences/{audience_id}", klaviyo.update_audience, methods=["PATCH"]),
    )
