"""A strict stand-in for Meta's Marketing API.

Source: developers.facebook.com ("Ad Campaign Group", "Ad Campaign Group Copies", "Handling errors",
"Error codes", "Rate limiting", "Paginated results", "User permissions"; v25.0, read up to 2026-11;
v26.0 has the same calls) and responses that users of the API have published. Invented, because no
document says it: the HTTP status of most codes; the texts of errors; that unknown parameters are
rejected; that times and overrides change nothing; how a prefix and a suffix are joined to a name;
that copies are listed newest first and without the archived ones; that `next` lacks the token; what
sources named `rename-...` and `read-back-fails` do to the calls after the copy.
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

from campaign_gateway.sandbox import emulation

ACCESS_TOKEN = "EAAsandbox5b2e8d41c7f0a96b"
ACCOUNTS = {"meta": {"access_token": ACCESS_TOKEN}}

# An account whose secret is valid, and lacks a permission that the gateway needs.
LIMITED_TOKEN = "EAAsandboxlimited70c3"
LIMITED_ACCOUNT = {"access_token": LIMITED_TOKEN}

VERSION = "26.0"
# The number of ad sets and ads of each campaign.
SOURCES = {
    "120210000000000101": ("Spring sale", 2),
    "120210000000000102": ("Autumn sale", 3),
    "120210000000000103": ("Everything", 4),
}
AD_SETS = {"120210000000000111": ("Readers", 1)}
ADS = {"120210000000000121": ("Banner", 0)}

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
    "120210000000000111": 'copied, with kind: AD_SET, toCampaignId: "120210000000000102"',
    "120210000000000121": "copied, with kind: AD, deepCopy: false",
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
    "error-1": "HTTP 400 with code 1, like a 500: an unclear error, nothing copied",
    "rename-refused": "copied, then the new name is refused",
    "rename-error-500": "copied, then the new name gets a server error",
    "rename-cut": "copied, then the connection is closed during the call for the new name",
    "read-back-fails": "copied, then reading it back fails",
    **emulation.FAULTS,
}

STATUSES = {"ACTIVE", "PAUSED", "ARCHIVED", "DELETED"}


@dataclass(frozen=True)
class Kind:
    """What the objects of one kind have, and what a copy of one takes."""

    name: str
    copy_field: str
    source_field: str
    parameters: set[str]


CAMPAIGN = Kind("campaign", "copied_campaign_id", "source_campaign_id", {
    "deep_copy", "end_time", "migrate_to_advantage_plus", "parameter_overrides", "rename_options",
    "start_time", "status_option",
})  # fmt: skip
AD_SET = Kind("ad_set", "copied_adset_id", "source_adset_id", {
    "campaign_id", "create_dco_adset", "deep_copy", "end_time", "rename_options", "start_time",
    "status_option",
})  # fmt: skip
AD = Kind("ad", "copied_ad_id", "source_ad_id", {
    "adset_id", "creative_parameters", "rename_options", "status_option",
})  # fmt: skip

# Of the fields of an ad creative, the texts that Meta's announcement of the parameter names.
CREATIVE_TEXTS = ("title", "body", "link_url", "url_tags")


@dataclass
class Meta:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    campaigns: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, sources in ((CAMPAIGN, SOURCES), (AD_SET, AD_SETS), (AD, ADS)):
            for source, (name, _) in sources.items():
                self._add(kind, source, name, "ACTIVE", "0")

    async def copy(self, request: Request) -> Response:
        self.copies.requests += 1
        source = request.path_params["campaign_id"]
        kind = self._kind_of(source)
        call = await _read(request, kind.parameters)
        if source in REFUSALS:
            raise _refusal(*REFUSALS[source])
        if source not in OUTCOMES and source not in self.campaigns:
            raise _missing(request)
        options = _rename_options_in(call)
        self._check_options(call)
        children = (SOURCES | AD_SETS | ADS).get(source, ("", 1))[1]
        is_deep = call.get("deep_copy", "false") == "true"
        if is_deep and children > 3:
            message = "The copy request is too large. Copy fewer objects, or in an async request."
            raise _refusal(400, 100, 1885194, "Invalid parameter", message)
        original = self.campaigns.get(source, {"name": source, "status": "ACTIVE"})
        status = call.get("status_option", "PAUSED")
        if status == "INHERITED_FROM_SOURCE":
            status = original["status"]

        async def copy() -> Response:
            # Ids are numbers. This one is higher than every id with a meaning in this file.
            copy_id = str(120210000000000200 + len(self.campaigns))
            name = _rename(original["name"], options)
            self._add(kind, copy_id, name, status, source)
            self.copies.add(source, copy_id, name)
            content: dict[str, Any] = {kind.copy_field: copy_id}
            if kind is not AD:
                ids = [_ids(kind.name, source, copy_id)]
                for number in range(children if is_deep else 0):
                    is_ad = number > 0 or kind is AD_SET
                    child = AD.name if is_ad else AD_SET.name
                    ids.append(_ids(child, f"{source}{number}", f"{copy_id}{number}"))
                content["ad_object_ids"] = ids
            return JSONResponse(content, headers={"X-FB-Trace-ID": secrets.token_urlsafe(8)})

        return await emulation.misbehave(source, request, copy)

    async def list_copies(self, request: Request) -> Response:
        call = await _read(request, {"fields", "effective_status", "limit", "after"})
        source = request.path_params["campaign_id"]
        if source not in OUTCOMES and source not in self.campaigns:
            raise _missing(request)
        try:
            statuses = json.loads(call.get("effective_status", '["ACTIVE", "PAUSED"]'))
            limit, after = int(call.get("limit", 25)), b64decode(call.get("after", "")).decode()
        except ValueError:
            raise _refusal(400, 100, None, "Invalid parameter") from None
        if not isinstance(statuses, list) or "DELETED" in statuses:
            raise _refusal(400, 100, None, "Invalid parameter")
        copies = [
            campaign
            for campaign in reversed(self.campaigns.values())
            if campaign["source"] == source and campaign["effective_status"] in statuses
        ]
        ids = [campaign["id"] for campaign in copies]
        start = ids.index(after) + 1 if after in ids else 0
        page = copies[start : start + limit]
        content: dict[str, Any] = {"data": [_with_fields(campaign, call) for campaign in page]}
        if page:
            first, last = (b64encode(page[end]["id"].encode()).decode() for end in (0, -1))
            content["paging"] = {"cursors": {"before": first, "after": last}}
            if start + limit < len(copies):
                next_url = request.url.replace(query=urlencode({**call, "after": last}))
                content["paging"]["next"] = str(next_url)
        return JSONResponse(content)

    async def list_permissions(self, request: Request) -> Response:
        await _read(request, set(), needs_permission=False)
        is_limited = request.headers.get("authorization") == f"Bearer {LIMITED_TOKEN}"
        status = "declined" if is_limited else "granted"
        permissions = {"public_profile": "granted", "ads_management": status}
        data = [{"permission": name, "status": each} for name, each in permissions.items()]
        return JSONResponse({"data": data})

    async def show(self, request: Request) -> Response:
        call = await _read(request, {"fields"})
        campaign = self._find(request)
        if campaign["source"] == "read-back-fails":
            raise _refusal(*REFUSALS["error-500"])
        return JSONResponse(_with_fields(campaign, call))

    async def update(self, request: Request) -> Response:
        call = await _read(request, {"name", "status"})
        campaign = self._find(request)
        if call.get("name") == "" or call.get("status", "PAUSED") not in STATUSES:
            raise _refusal(400, 100, None, "Invalid parameter")
        match campaign["source"]:
            case "rename-refused":
                raise _refusal(400, 100, None, "Invalid parameter", "The name is not acceptable.")
            case "rename-error-500":
                raise _refusal(*REFUSALS["error-500"])

        async def change() -> Response:
            campaign.update(call)
            campaign["configured_status"] = campaign["effective_status"] = campaign["status"]
            self.copies.rename(campaign["id"], campaign["name"])
            return JSONResponse({"success": True})

        is_cut = campaign["source"] == "rename-cut"
        return await emulation.misbehave("cut-before-copy" if is_cut else None, request, change)

    def _find(self, request: Request) -> dict[str, Any]:
        return emulation.look_up(
            self.campaigns, request.path_params["campaign_id"], _missing(request)
        )

    def _kind_of(self, source: str) -> Kind:
        kind: Kind = self.campaigns[source]["kind"] if source in self.campaigns else CAMPAIGN
        return kind

    def _check_options(self, call: dict[str, str]) -> None:
        """Raises `Refusal`."""
        for name in ("start_time", "end_time"):
            if not _is_time(call.get(name, "0")):
                raise _invalid(f"{name} must be a datetime")
        for name in ("migrate_to_advantage_plus", "create_dco_adset"):
            if call.get(name, "false") not in {"true", "false"}:
                raise _invalid(f"{name} must be a boolean")
        creative = _object_in(call, "creative_parameters")
        if not all(isinstance(creative.get(key, ""), str) for key in CREATIVE_TEXTS):
            raise _invalid("creative_parameters must be an ad creative")
        for name, kind in (("campaign_id", CAMPAIGN), ("adset_id", AD_SET)):
            if name in call and (
                call[name] not in self.campaigns or self._kind_of(call[name]) is not kind
            ):
                raise _invalid(f"{name} must be the id of a {kind.name}")

    def _add(self, kind: Kind, campaign_id: str, name: str, status: str, source: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S%z")
        self.campaigns[campaign_id] = {
            "kind": kind,
            "source": source,
            "id": campaign_id,
            "account_id": "120210000000000001",
            "name": name,
            "objective": "OUTCOME_TRAFFIC",
            "status": status,
            "configured_status": status,
            "effective_status": status,
            "created_time": now,
            "updated_time": now,
            kind.source_field: source,
        }


async def _read(
    request: Request, names: set[str], *, needs_permission: bool = True
) -> dict[str, str]:
    """Return the parameters, from every place that the Graph API accepts. Raises `Refusal`."""
    if request.path_params["version"] != VERSION:
        raise _refusal(400, 2635, None, "You are calling a deprecated version of the Ads API")
    call: dict[str, Any] = dict(request.query_params)
    body, media_type = await request.body(), emulation.media_type_of(request)
    try:
        if media_type == "application/x-www-form-urlencoded":
            pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body))
            call |= dict(pairs)
        elif media_type == "application/json":
            call |= {
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in json.loads(body).items()
            }
        elif body:
            raise _refusal(400, 100, None, "Invalid parameter", "The body is no form.")
    except (ValueError, AttributeError):
        raise _refusal(400, 100, None, "Invalid parameter", "The body cannot be read.") from None
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    token = call.pop("access_token", bearer)
    if not token:
        raise _refusal(400, 104, None, "An access token is required to request this resource.")
    if token == LIMITED_TOKEN and needs_permission:
        raise _refusal(*REFUSALS["not-allowed"])
    if token not in {ACCESS_TOKEN, LIMITED_TOKEN}:
        raise _refusal(401, 190, None, "Invalid OAuth access token - Cannot parse access token")
    if unknown := set(call) - names:
        raise _refusal(400, 100, None, f"Invalid parameter: {min(unknown)}")
    return call


def _is_time(value: str) -> bool:
    """Whether it is in seconds since 1970, or as ISO 8601 with a zone."""
    try:
        return value.isdecimal() or datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _rename_options_in(call: dict[str, str]) -> dict[str, str]:
    """Return the rename options of a copy. Raises `Refusal` for an error in its parameters."""
    if call.get("deep_copy", "false") not in {"true", "false"}:
        raise _invalid("deep_copy must be a boolean")
    if call.get("status_option", "PAUSED") not in {"ACTIVE", "PAUSED", "INHERITED_FROM_SOURCE"}:
        raise _invalid("status_option must be one of {ACTIVE, PAUSED, INHERITED_FROM_SOURCE}")
    options = _object_in(call, "rename_options")
    if not all(isinstance(text, str) for text in options.values()):
        raise _invalid("rename_options must be an object")
    strategy = options.get("rename_strategy", "ONLY_TOP_LEVEL_RENAME")
    if strategy not in {"DEEP_RENAME", "ONLY_TOP_LEVEL_RENAME", "NO_RENAME"}:
        raise _invalid("rename_options[rename_strategy] is unknown")
    if set(options) - {"rename_strategy", "rename_prefix", "rename_suffix"}:
        raise _invalid("rename_options holds what it does not know")
    return options


def _object_in(call: dict[str, str], name: str) -> dict[str, Any]:
    """Raises `Refusal`."""
    try:
        value = json.loads(call.get(name, "{}"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _invalid(f"{name} must be an object")
    return value


def _invalid(message: str) -> emulation.Refusal:
    return _refusal(400, 100, None, f"(#100) Param {message}")


def _rename(name: str, options: dict[str, str]) -> str:
    if options.get("rename_strategy") == "NO_RENAME":
        return name
    return options.get("rename_prefix", "") + name + options.get("rename_suffix", " - Copy")


def _ids(kind: str, source: str, copy_id: str) -> dict[str, str]:
    return {"ad_object_type": kind, "source_id": source, "copied_id": copy_id}


def _with_fields(campaign: dict[str, Any], call: dict[str, str]) -> dict[str, Any]:
    """Return the requested fields, and always the id. Raises `Refusal`."""
    names = call.get("fields", "id").split(",")
    if unknown := (set(names) - campaign.keys()) | ({"kind", "source"} & set(names)):
        message = f"(#100) Tried accessing nonexisting field ({min(unknown)})"
        raise _refusal(400, 100, None, message)
    return {name: campaign[name] for name in dict.fromkeys([*names, "id"])}


def _missing(request: Request) -> emulation.Refusal:
    campaign_id = request.path_params["campaign_id"]
    message = (
        f"Unsupported {request.method.lower()} request. Object with ID '{campaign_id}' does not "
        "exist, cannot be loaded due to missing permissions, or does not support this operation"
    )
    return _refusal(400, 100, 33, message)


def _refusal(
    status: int, code: int, subcode: int | None, message: str, user_message: str | None = None
) -> emulation.Refusal:
    error: dict[str, Any] = {"message": message, "type": "OAuthException", "code": code}
    if subcode == 33:
        error["type"] = "GraphMethodException"
    if subcode is not None:
        error["error_subcode"] = subcode
    if code in {1, 2}:
        error["is_transient"] = code == 2
    if user_message is not None:
        error |= {"error_user_title": "Invalid parameter", "error_user_msg": user_message}
    error["fbtrace_id"] = secrets.token_urlsafe(16)
    headers = {}
    if code == 80004:
        usage = {
            "type": "ads_management",
            "call_count": 100,
            "total_cputime": 25,
            "total_time": 25,
            "estimated_time_to_regain_access": 1,
        }
        headers["X-Business-Use-Case-Usage"] = json.dumps({"120210000000000001": [usage]})
    return emulation.Refusal(JSONResponse({"error": error}, status, headers))


def create_emulator() -> Starlette:
    meta = Meta()
    campaign = "/v{version}/{campaign_id}"
    return emulation.create_app(
        meta.copies,
        Route(f"{campaign}/copies", meta.copy, methods=["POST"]),
        Route(f"{campaign}/copies", meta.list_copies, methods=["GET"]),
        Route("/v{version}/me/permissions", meta.list_permissions, methods=["GET"]),
        Route(campaign, meta.show, methods=["GET"]),
        Route(campaign, meta.update, methods=["POST"]),
    )
