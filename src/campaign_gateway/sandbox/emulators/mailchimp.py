"""A strict stand-in for Mailchimp's Marketing API.

Source: mailchimp.com/developer/marketing (errors, fundamentals, ping; read up to 2026-11), the
types of the official SDK mailchimp-marketing-typescript-sdk 2026-09, and responses that public
clients have as test data. Invented, because no document says it: the details of the 400s for a
campaign in another status and for wrong parameters; the HTML of a 403; that a missing media type is
a 415. The title "... (copy 01)" is in no document either, but users of Mailchimp have shown it. The
replicating call has no body, so a body is ignored. There are two official descriptions, and this
file follows the stricter one, 3.0.55 of mailchimp-client-lib-codegen: each change must have the
subject line, the sender's name and the reply address.
"""

import base64
import binascii
import json
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

API_KEY = "sandbox-mailchimp-7c1e40d9-us21"
ACCOUNTS = {"mailchimp": {"api_key": API_KEY}}

# Each campaign's status at Mailchimp.
SOURCES = {"42694e9e57": "save", "839488a60b": "sent"}
NOT_REPLICABLE = {"scheduled": "schedule", "paused": "paused", "canceled": "canceled"}

# Each gets this response: status, title, detail.
REFUSALS = {
    "not-found": (404, "Resource Not Found", "The requested resource could not be found."),
    "invalid": (400, "Bad Request", "Your request could not be processed."),
    "unauthorized": (401, "API Key Invalid", "Your API key may be invalid."),
    "forbidden": (403, "Forbidden", "You don't have permission to access the requested resource."),
    "wrong-data-centre": (403, "Wrong Datacenter", "The API key belongs to another data center."),
    "rate-limited": (429, "Too Many Requests", "You have exceeded the limit of 10 connections."),
    "error-500": (500, "Internal Server Error", "An unexpected internal error has occurred."),
    "error-503": (503, "Compliance Related", "This method has been disabled."),
}

# The result of the second call, which sets the copy's title.
RENAMES = {
    "rename-refused": "copied, then the new name is refused",
    "rename-error-500": "copied, then the new name gets a server error",
    "rename-cut": "copied, then the connection is closed during the call for the new name",
    "rename-hangs": "copied, then the new name gets no response",
}
RENAME_FAULTS = {"rename-cut": "cut-before-copy", "rename-hangs": "hang"}

OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    **{name: f"400, its status is {status}" for name, status in NOT_REPLICABLE.items()},
    **{name: f"{status}, {detail.lower()}" for name, (status, _, detail) in REFUSALS.items()},
    "wrong-data-centre": "403, the key is of another data centre, like a 401",
    "throttled": "403 without JSON, like a 429: too many calls",
    **RENAMES,
    **emulation.FAULTS,
}


@dataclass
class Mailchimp:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    campaigns: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source, status in (SOURCES | NOT_REPLICABLE).items():
            self._add(source, "Spring newsletter", status)
        for source in emulation.FAULTS:
            self._add(source, source, "save")

    async def replicate(self, request: Request) -> Response:
        self.copies.requests += 1
        _check_caller(request)
        source = request.path_params["campaign_id"]
        if source == "throttled":
            return HTMLResponse("<h1>Access Denied</h1>", 403)
        if source in REFUSALS:
            raise _problem(*REFUSALS[source])
        if source not in OUTCOMES:
            raise _problem(*REFUSALS["not-found"])
        title = source
        if source in self.campaigns:
            campaign = self.campaigns[source]
            title = campaign["settings"]["title"]
            if campaign["status"] not in {"save", "sent"}:
                detail = f"A campaign in {campaign['status']} has no replica."
                raise _problem(400, "Bad Request", detail)

        async def copy() -> Response:
            number = 1 + sum(record["source"] == source for record in self.copies.records)
            replica = self._add(secrets.token_hex(5), f"{title} (copy {number:02})", "save")
            self.copies.add(source, replica["id"], replica["settings"]["title"])
            return _response(200, replica)

        return await emulation.misbehave(source, request, copy)

    async def update(self, request: Request) -> Response:
        campaign = self._find(request)
        body = await emulation.read_json(
            request,
            _problem(415, "Unsupported Media Type", "The body must be application/json."),
            _problem(400, "JSON Parse Error", "The JSON sent could not be parsed."),
        )
        if mistakes := _mistakes_in(body):
            raise _problem(400, "Invalid Resource", "See the 'errors' array.", mistakes)
        source = self.copies.source_of(campaign["id"])
        if source == "rename-refused":
            raise _problem(400, "Bad Request", "The campaign could not be updated.")
        if source == "rename-error-500":
            raise _problem(*REFUSALS["error-500"])

        async def rename() -> Response:
            settings = body["settings"]
            campaign["settings"] |= {name: settings[name] for name in SETTINGS if name in settings}
            campaign["recipients"] |= body.get("recipients", {})
            self.copies.rename(campaign["id"], campaign["settings"]["title"])
            return _response(200, campaign)

        return await emulation.misbehave(RENAME_FAULTS.get(source or ""), request, rename)

    async def ping(self, request: Request) -> Response:
        _check_caller(request)
        return _response(200, {"health_status": "Everything's Chimpy!"})

    async def list_campaigns(self, request: Request) -> Response:
        _check_caller(request)
        query = {"count": "10", "offset": "0", "sort_dir": "ASC", **request.query_params}
        count, offset = query["count"], query["offset"]
        if not count.isdecimal() or int(count) > 1000 or not offset.isdecimal():
            raise _problem(400, "Bad Request", "count or offset is out of range.")
        if query.get("sort_field", "create_time") not in {"create_time", "send_time"}:
            raise _problem(400, "Bad Request", "sort_field is not a field to sort by.")
        if query["sort_dir"] not in {"ASC", "DESC"}:
            raise _problem(400, "Bad Request", "sort_dir is not a direction.")
        try:
            since = datetime.fromisoformat(query.get("since_create_time", "1970-01-01T00:00:00Z"))
            campaigns = [
                campaign
                for campaign in self.campaigns.values()
                if datetime.fromisoformat(campaign["create_time"]) >= since
            ]
        except (ValueError, TypeError):
            raise _problem(400, "Bad Request", "since_create_time is not a time.") from None
        # In the order of creation. Mailchimp promises an order only for a sorted list.
        if "sort_field" in query and query["sort_dir"] == "DESC":
            campaigns.reverse()
        page = campaigns[int(offset) : int(offset) + int(count)]
        links = [_link("self", "/campaigns"), _link("create", "/campaigns", "POST")]
        content = {"campaigns": page, "total_items": len(campaigns), "_links": links}
        return _response(200, _only(content, query.get("fields")))

    async def show_campaign(self, request: Request) -> Response:
        return _response(200, _only(self._find(request), request.query_params.get("fields")))

    def _find(self, request: Request) -> dict[str, Any]:
        _check_caller(request)
        missing = _problem(*REFUSALS["not-found"])
        return emulation.look_up(self.campaigns, request.path_params["campaign_id"], missing)

    def _add(self, campaign_id: str, title: str, status: str) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        number = 3_000_000 + len(self.campaigns)
        path = f"/campaigns/{campaign_id}"
        campaign = {
            "id": campaign_id,
            "web_id": number,
            "type": "regular",
            "create_time": now,
            "archive_url": "http://eepurl.com/sandbox",
            "long_archive_url": f"https://mailchi.mp/sandbox/{number}",
            "status": status,
            "emails_sent": 0,
            "send_time": now if status == "sent" else "",
            "content_type": "template",
            "needs_block_refresh": False,
            "resendable": False,
            "recipients": {
                "list_id": "57afe96172",
                "list_is_active": True,
                "list_name": "Readers",
                "segment_text": "",
                "recipient_count": 2,
            },
            "settings": {
                "subject_line": "Spring is here",
                "preview_text": "",
                "title": title,
                "from_name": "Sandbox",
                "reply_to": "sandbox@example.com",
                "use_conversation": False,
                "to_name": "*|FNAME|*",
                "folder_id": "",
                "authenticate": True,
                "auto_footer": False,
                "inline_css": False,
                "auto_tweet": False,
                "fb_comments": True,
                "timewarp": False,
                "template_id": 2000122,
                "drag_and_drop": True,
            },
            "tracking": {
                "opens": True,
                "html_clicks": True,
                "text_clicks": False,
                "goal_tracking": False,
                "ecomm360": False,
                "google_analytics": "",
                "clicktale": "",
            },
            "delivery_status": {"enabled": False},
            "_links": [
                _link("self", path),
                _link("update", path, "PATCH"),
                _link("replicate", f"{path}/actions/replicate", "POST"),
            ],
        }
        self.campaigns[campaign_id] = campaign
        return campaign


def _check_caller(request: Request) -> None:
    """Check Basic authentication, in which any user name is accepted."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    try:
        key = base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        key = ""
    if scheme.lower() != "basic" or not key:
        raise _problem(401, "API Key Missing", "Your request did not include an API key.")
    if key != API_KEY:
        raise _problem(*REFUSALS["unauthorized"])


# The settings that a caller can change, with the types of Mailchimp's description.
SETTINGS: dict[str, type] = {
    **dict.fromkeys(("subject_line", "preview_text", "title", "from_name", "reply_to"), str),
    **dict.fromkeys(("to_name", "folder_id"), str),
    **dict.fromkeys(("use_conversation", "authenticate", "auto_footer", "inline_css"), bool),
    **dict.fromkeys(("auto_tweet", "fb_comments"), bool),
}
REQUIRED = ("subject_line", "from_name", "reply_to")
NAMES_OF_TYPES = {str: "string", bool: "boolean", int: "integer", list: "array", dict: "object"}


def _mistakes_in(body: object) -> list[dict[str, str]]:
    """Return the errors in the words of recorded responses. Other fields are ignored."""
    if not isinstance(body, dict):
        return [_mistake("", dict, body)]
    if "settings" not in body:
        return [{"field": "", "message": "Required fields were not provided: settings"}]
    settings = body["settings"]
    if not isinstance(settings, dict):
        return [_mistake("settings", dict, settings)]
    if missing := [name for name in REQUIRED if name not in settings]:
        message = f"Required fields were not provided: {', '.join(missing)}"
        return [{"field": "settings", "message": message}]
    return [
        _mistake(f"settings.{name}", kind, settings[name])
        for name, kind in SETTINGS.items()
        if name in settings and type(settings[name]) is not kind
    ] + (_mistakes_in_recipients(body["recipients"]) if "recipients" in body else [])


def _mistakes_in_recipients(recipients: object) -> list[dict[str, str]]:
    if not isinstance(recipients, dict):
        return [_mistake("recipients", dict, recipients)]
    if "list_id" not in recipients:
        return [{"field": "recipients", "message": "Required fields were not provided: list_id"}]
    if type(recipients["list_id"]) is not str:
        return [_mistake("recipients.list_id", str, recipients["list_id"])]
    options = recipients.get("segment_opts", {})
    if not isinstance(options, dict):
        return [_mistake("recipients.segment_opts", dict, options)]
    segment = options.get("saved_segment_id", 0)
    wrong = type(segment) is not int
    return [_mistake("recipients.segment_opts.saved_segment_id", int, segment)] if wrong else []


def _mistake(path: str, kind: type, value: object) -> dict[str, str]:
    actual = NAMES_OF_TYPES.get(type(value), "NULL")
    return {
        "field": path,
        "message": f"Schema describes {NAMES_OF_TYPES[kind]}, {actual} found instead",
    }


def _only(content: dict[str, Any], fields: str | None) -> dict[str, Any]:
    """Return only the named fields. A dot goes into objects, and into the objects of lists."""
    return _pick(content, [path.split(".") for path in fields.split(",")]) if fields else content


def _pick(value: Any, paths: Iterable[list[str]]) -> Any:
    if isinstance(value, list):
        return [_pick(item, paths) for item in value]
    picked: dict[str, Any] = {}
    for name, inner in value.items():
        below = [path[1:] for path in paths if path[0] == name]
        if below:
            picked[name] = inner if [] in below else _pick(inner, below)
    return picked


def _link(rel: str, path: str, method: str = "GET") -> dict[str, str]:
    return {"rel": rel, "href": f"https://us21.api.mailchimp.com/3.0{path}", "method": method}


def _problem(
    status: int, title: str, detail: str, errors: list[dict[str, str]] | None = None
) -> emulation.Refusal:
    body: dict[str, Any] = {
        "type": "https://mailchimp.com/developer/marketing/docs/errors/",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": str(uuid.uuid4()),
    }
    if errors:
        body["errors"] = errors
    return emulation.Refusal(_response(status, body, "application/problem+json"))


def _response(status: int, body: object, media_type: str = "application/json") -> Response:
    headers = {"X-Request-Id": str(uuid.uuid4())}
    return Response(json.dumps(body), status, headers, media_type=f"{media_type}; charset=utf-8")


def create_emulator() -> Starlette:
    mailchimp = Mailchimp()
    campaigns = "/3.0/campaigns"
    campaign = f"{campaigns}/{{campaign_id}}"
    return emulation.create_app(
        mailchimp.copies,
        Route("/3.0/ping", mailchimp.ping, methods=["GET"]),
        Route(campaigns, mailchimp.list_campaigns, methods=["GET"]),
        Route(campaign, mailchimp.show_campaign, methods=["GET"]),
        Route(campaign, mailchimp.update, methods=["PATCH"]),
        Route(f"{campaign}/actions/replicate", mailchimp.replicate, methods=["POST"]),
    )
