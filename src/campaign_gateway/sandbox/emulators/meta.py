"""A strict stand-in for Meta's Marketing API.

Source: developers.facebook.com ("Ad Campaign Group", "Ad Campaign Group Copies", "Handling errors",
"Error codes", "Rate limiting", "Paginated results"; v25.0, read 2026-09; v26.0 has the same calls)
and responses that users of the API have published. Invented, because no document says it: the HTTP
status of most codes; the texts of errors; that unknown parameters are rejected; that times and
overrides change nothing; how a prefix and a suffix are joined to a name; that copies are listed
newest first and without the archived ones; that `next` lacks the token; what sources named
`rename-...` and `read-back-fails` do to the calls after the copy.
"""

import json
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox.emulation import FAULTS, Copies, emulator, misbehave

ACCESS_TOKEN = "EAAsandbox5b2e8d41c7f0a96b"
ACCOUNTS = {"meta": {"access_token": ACCESS_TOKEN}}

VERSION = "26.0"
# The number of ad sets and ads of each campaign.
SOURCES = {
    "120210000000000101": ("Spring sale", 2),
    "120210000000000102": ("Autumn sale", 3),
    "120210000000000103": ("Everything", 4),
}

# Each gets this response: status, code, subcode, message.
REFUSALS: dict[str, tuple[int, int, int | None, str]] = {
    "not-found": (400, 100, 33, "Unsupported post request. The object does not exist"),
    "invalid": (400, 100, None, "Invalid parameter"),
    "unauthorized": (401, 190, 463, "Error validating access token: Session has expired"),
    "expired": (400, 190, 463, "Error validating access token: Session has expired"),
    "forbidden": (403, 200, None, "Permissions error"),
    "not-allowed": (400, 294, None, "Managing advertisements requires ads_management"),
    "blocked": (400, 368, None, "The action has been deemed abusive or is otherwise disallowed"),
    "rate-limited": (400, 80004, 2446079, "There have been too many calls to this ad-account"),
    "app-limited": (403, 4, None, "Application request limit reached"),
    "error-500": (500, 1, None, "An unknown error occurred"),
    "error-503": (503, 2, None, "Service temporarily unavailable"),
    "error-1": (400, 1, None, "An unknown error occurred"),
}

OUTCOMES: dict[Any, str] = {
    "120210000000000101": "copied, with deepCopy: true",
    "120210000000000102": "copied, with deepCopy: false, statusOption: INHERITED_FROM_SOURCE, "
    'renameSuffix: " (again)"',
    "120210000000000103": "400, too many children for a deep copy, with deepCopy: true",
    "not-found": "HTTP 400 with code 100 and subcode 33, like a 404: the campaign is unknown",
    "invalid": "400, the input is refused",
    "unauthorized": "401, as if the token had expired",
    "expired": "HTTP 400 with code 190, like a 401: as if the token had expired",
    "forbidden": "403, as if the token lacked the permission",
    "not-allowed": "HTTP 400 with code 294, like a 403: as if ads_management were missing",
    "blocked": "HTTP 400 with code 368, like a 403: as if the policies forbade it",
    "rate-limited": "HTTP 400 with code 80004, like a 429: as if the ad account's limit were used",
    "app-limited": "HTTP 403 with code 4, like a 429: as if the app's limit were used up",
    "error-500": "500, nothing copied",
    "error-503": "503, nothing copied",
    "error-1": "HTTP 400 with code 1, which says as little as a 500; nothing copied",
    "rename-refused": "copied, then the new name is refused",
    "rename-error-500": "copied, then an error in place of the new name",
    "rename-cut": "copied, then the connection is closed in place of the new name",
    "read-back-fails": "copied, then reading it back fails",
    **FAULTS,
}

FIELDS = {
    "id", "account_id", "configured_status", "created_time", "effective_status", "name",
    "objective", "source_campaign_id", "status", "updated_time",
}  # fmt: skip
STATUSES = {"ACTIVE", "PAUSED", "ARCHIVED", "DELETED"}
COPY_PARAMETERS = {
    "deep_copy", "end_time", "migrate_to_advantage_plus", "parameter_overrides", "rename_options",
    "start_time", "status_option",
}  # fmt: skip


@dataclass
class Meta:
    copies: Copies = field(default_factory=Copies)
    campaigns: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source, (name, _) in SOURCES.items():
            self._add(source, name, "ACTIVE", "0")

    async def copy(self, request: Request) -> Response:
        self.copies.asked += 1
        call = await _read(request, COPY_PARAMETERS)
        if isinstance(call, Response):
            return call
        source = request.path_params["campaign_id"]
        if source in REFUSALS:
            return _error(*REFUSALS[source])
        if source not in OUTCOMES and source not in self.campaigns:
            return _missing(request)
        options = _options_in(call)
        if isinstance(options, str):
            return _error(400, 100, None, options)
        children = SOURCES.get(source, ("", 1))[1]
        is_deep = call.get("deep_copy", "false") == "true"
        if is_deep and children > 3:
            message = "The copy request is too large. Copy fewer objects, or in an async request."
            return _error(400, 100, 1885194, "Invalid parameter", message)
        status = call.get("status_option", "PAUSED")
        if status == "INHERITED_FROM_SOURCE":
            status = self.campaigns.get(source, {"status": "ACTIVE"})["status"]
        found = self.campaigns.get(source, {"name": source})

        async def answer() -> Response:
            # Ids are numbers. This one is higher than every id with a meaning in this file.
            copy_id = str(120210000000000200 + len(self.campaigns))
            name = _renamed(found["name"], options)
            self._add(copy_id, name, status, source)
            self.copies.add(source, copy_id, name)
            made = [_copied("campaign", source, copy_id)]
            for number in range(children if is_deep else 0):
                kind = "ad" if number else "ad_set"
                made.append(_copied(kind, f"{source}{number}", f"{copy_id}{number}"))
            return JSONResponse(
                {"copied_campaign_id": copy_id, "ad_object_ids": made},
                headers={"X-FB-Trace-ID": secrets.token_urlsafe(8)},
            )

        return await misbehave(source, request, answer)

    async def list_copies(self, request: Request) -> Response:
        call = await _read(request, {"fields", "effective_status", "limit", "after"})
        if isinstance(call, Response):
            return call
        source = request.path_params["campaign_id"]
        if source not in OUTCOMES and source not in self.campaigns:
            return _missing(request)
        try:
            statuses = json.loads(call.get("effective_status", '["ACTIVE", "PAUSED"]'))
            limit, after = int(call.get("limit", 25)), b64decode(call.get("after", "")).decode()
        except ValueError:
            return _error(400, 100, None, "Invalid parameter")
        if not isinstance(statuses, list) or "DELETED" in statuses:
            return _error(400, 100, None, "Invalid parameter")
        shown = [
            each
            for each in reversed(self.campaigns.values())
            if each["source_campaign_id"] == source and each["effective_status"] in statuses
        ]
        ids = [each["id"] for each in shown]
        begin = ids.index(after) + 1 if after in ids else 0
        page = shown[begin : begin + limit]
        answer: dict[str, Any] = {"data": [_with_fields(each, call) for each in page]}
        if page:
            ends = [b64encode(each["id"].encode()).decode() for each in (page[0], page[-1])]
            answer["paging"] = {"cursors": dict(zip(("before", "after"), ends, strict=True))}
            if begin + limit < len(shown):
                following = request.url.replace(query=urlencode({**call, "after": ends[1]}))
                answer["paging"]["next"] = str(following)
        return JSONResponse(answer)

    async def show(self, request: Request) -> Response:
        call = await _read(request, {"fields"})
        if isinstance(call, Response):
            return call
        found = self.campaigns.get(request.path_params["campaign_id"])
        if found is None:
            return _missing(request)
        if found["source_campaign_id"] == "read-back-fails":
            return _error(*REFUSALS["error-500"])
        return JSONResponse(_with_fields(found, call))

    async def update(self, request: Request) -> Response:
        call = await _read(request, {"name", "status"})
        if isinstance(call, Response):
            return call
        found = self.campaigns.get(request.path_params["campaign_id"])
        if found is None:
            return _missing(request)
        if call.get("name") == "" or call.get("status", "PAUSED") not in STATUSES:
            return _error(400, 100, None, "Invalid parameter")
        match found["source_campaign_id"]:
            case "rename-refused":
                return _error(400, 100, None, "Invalid parameter", "The name is not acceptable.")
            case "rename-error-500":
                return _error(*REFUSALS["error-500"])

        async def answer() -> Response:
            found.update(call)
            found["configured_status"] = found["effective_status"] = found["status"]
            self.copies.rename(found["id"], found["name"])
            return JSONResponse({"success": True})

        is_cut = found["source_campaign_id"] == "rename-cut"
        return await misbehave("cut-before-copy" if is_cut else None, request, answer)

    def _add(self, campaign_id: str, name: str, status: str, source: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S%z")
        self.campaigns[campaign_id] = {
            "id": campaign_id,
            "account_id": "120210000000000001",
            "name": name,
            "objective": "OUTCOME_TRAFFIC",
            "status": status,
            "configured_status": status,
            "effective_status": status,
            "created_time": now,
            "updated_time": now,
            "source_campaign_id": source,
        }


async def _read(request: Request, known: set[str]) -> dict[str, str] | Response:
    """Return the parameters, from every place that the Graph API accepts, or the rejection."""
    if request.path_params["version"] != VERSION:
        return _error(400, 2635, None, "You are calling a deprecated version of the Ads API")
    call: dict[str, Any] = dict(request.query_params)
    body = await request.body()
    media_type = request.headers.get("content-type", "").split(";")[0]
    try:
        if media_type == "application/x-www-form-urlencoded":
            sent = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body))
            call |= dict(sent)
        elif media_type == "application/json":
            sent = json.loads(body)
            call |= {
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in sent.items()
            }
        elif body:
            return _error(400, 100, None, "Invalid parameter", "The body is no form.")
    except (ValueError, AttributeError):
        return _error(400, 100, None, "Invalid parameter", "The body cannot be read.")
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    token = call.pop("access_token", bearer)
    if not token:
        return _error(400, 104, None, "An access token is required to request this resource.")
    if token != ACCESS_TOKEN:
        return _error(401, 190, None, "Invalid OAuth access token - Cannot parse access token")
    if unknown := set(call) - known:
        return _error(400, 100, None, f"Invalid parameter: {min(unknown)}")
    if unknown := set(call.get("fields", "id").split(",")) - FIELDS:
        return _error(400, 100, None, f"(#100) Tried accessing nonexisting field ({min(unknown)})")
    return call


def _options_in(call: dict[str, str]) -> dict[str, str] | str:
    """Return the rename options of a copy, or the error in its parameters."""
    if call.get("deep_copy", "false") not in {"true", "false"}:
        return "(#100) Param deep_copy must be a boolean"
    if call.get("status_option", "PAUSED") not in {"ACTIVE", "PAUSED", "INHERITED_FROM_SOURCE"}:
        return "(#100) Param status_option must be one of {ACTIVE, PAUSED, INHERITED_FROM_SOURCE}"
    try:
        options = json.loads(call.get("rename_options", "{}"))
    except ValueError:
        options = None
    if not isinstance(options, dict) or not all(isinstance(each, str) for each in options.values()):
        return "(#100) Param rename_options must be an object"
    strategy = options.get("rename_strategy", "ONLY_TOP_LEVEL_RENAME")
    if strategy not in {"DEEP_RENAME", "ONLY_TOP_LEVEL_RENAME", "NO_RENAME"}:
        return "(#100) Param rename_options[rename_strategy] is unknown"
    if set(options) - {"rename_strategy", "rename_prefix", "rename_suffix"}:
        return "(#100) Param rename_options holds what it does not know"
    return options


def _renamed(name: str, options: dict[str, str]) -> str:
    if options.get("rename_strategy") == "NO_RENAME":
        return name
    return options.get("rename_prefix", "") + name + options.get("rename_suffix", " - Copy")


def _copied(kind: str, source: str, copy_id: str) -> dict[str, str]:
    return {"ad_object_type": kind, "source_id": source, "copied_id": copy_id}


def _with_fields(campaign: dict[str, Any], call: dict[str, str]) -> dict[str, Any]:
    """Return the requested fields, and always the id."""
    wanted = call.get("fields", "id").split(",")
    return {name: campaign[name] for name in dict.fromkeys([*wanted, "id"])}


def _missing(request: Request) -> Response:
    wanted = request.path_params["campaign_id"]
    message = (
        f"Unsupported {request.method.lower()} request. Object with ID '{wanted}' does not exist, "
        "cannot be loaded due to missing permissions, or does not support this operation"
    )
    return _error(400, 100, 33, message)


def _error(
    status: int, code: int, subcode: int | None, message: str, for_user: str | None = None
) -> Response:
    error: dict[str, Any] = {"message": message, "type": "OAuthException", "code": code}
    if subcode == 33:
        error["type"] = "GraphMethodException"
    if subcode is not None:
        error["error_subcode"] = subcode
    if code in {1, 2}:
        error["is_transient"] = code == 2
    if for_user is not None:
        error |= {"error_user_title": "Invalid parameter", "error_user_msg": for_user}
    error["fbtrace_id"] = secrets.token_urlsafe(16)
    headers = {}
    if code == 80004:
        use = {
            "type": "ads_management",
            "call_count": 100,
            "total_cputime": 25,
            "total_time": 25,
            "estimated_time_to_regain_access": 7,
        }
        headers["X-Business-Use-Case-Usage"] = json.dumps({"120210000000000001": [use]})
    return JSONResponse({"error": error}, status, headers)


def create_emulator() -> Starlette:
    meta = Meta()
    campaign = "/v{version}/{campaign_id}"
    return emulator(
        meta.copies,
        Route(f"{campaign}/copies", meta.copy, methods=["POST"]),
        Route(f"{campaign}/copies", meta.list_copies, methods=["GET"]),
        Route(campaign, meta.show, methods=["GET"]),
        Route(campaign, meta.update, methods=["POST"]),
    )
