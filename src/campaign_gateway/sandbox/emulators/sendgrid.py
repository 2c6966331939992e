"""A strict stand-in for SendGrid's API of Single Sends.

Source: SendGrid's OpenAPI descriptions "Single Sends" and "Scopes" 1.0.0 and
twilio.com/docs/sendgrid (errors, rate limits, scopes; read up to 2026-11). The 401 and the 403 are
as the public issues of SendGrid's own clients quote them. Invented, because no document says it:
every other text of an error; all `error_id`s and `warning_id`s; the 415; the limit of requests per
minute; that every call needs the scope `marketing.read`; that unknown fields are rejected; that a
copy is a draft; that a part of an object in an update keeps the rest; the order of a search, and
that it heeds the case; the format of a page token.
"""

import base64
import binascii
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

API_KEY = "SG.sandbox-4e1b9f.0c73ad5268"
ACCOUNTS = {"sendgrid": {"api_key": API_KEY}}

# An account whose secret is valid, and lacks a permission that the gateway needs.
LIMITED_KEY = "SG.sandbox-limited.5d80f2"
LIMITED_ACCOUNT = {"api_key": LIMITED_KEY}
SCOPES = {
    f"Bearer {API_KEY}": ["2fa_required", "marketing.read"],
    f"Bearer {LIMITED_KEY}": ["mail.send"],
}

SOURCES = {
    "5f0c8a1e-3b7d-4e92-a6c4-9d1e2f7b8a30": "Spring sale",
    "b7d21c64-0e9f-4a53-8c1b-6f2d9e4a7b18": "Spring sale, teaser",
}
STATUSES = {"draft", "scheduled", "triggered"}
LONGEST_NAME = 100
DEFAULT_PAGE_SIZE = 100


def _error(message: str, field_name: str) -> dict[str, Any]:
    return {"field": field_name, "message": message, "error_id": str(uuid.uuid4())}


NOT_FOUND = _error("single send not found", "id")
INVALID = _error("the single send cannot be duplicated", "name")
UNAUTHORIZED = {
    "message": "The provided authorization grant is invalid, expired, or revoked",
    "field": None,
    "help": None,
}
FORBIDDEN = {"field": None, "message": "access forbidden"}
TOO_MANY = {"field": None, "message": "too many requests"}
FAILED = _error("internal server error", "")

# Each gets this response: status, its only error.
REFUSALS: dict[str, tuple[int, dict[str, Any]]] = {
    "not-found": (404, NOT_FOUND),
    "invalid": (400, INVALID),
    "unauthorized": (401, UNAUTHORIZED),
    "forbidden": (403, FORBIDDEN),
    "rate-limited": (429, TOO_MANY),
    "error-500": (500, FAILED),
    "error-503": (503, FAILED),
}
OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    "with-a-warning": "201, copied, and the response has a warning",
    "change-refused": "copied, then the audience is refused, with "
    'listIds: ["aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"]',
    **{name: f"{status}, {error['message']}" for name, (status, error) in REFUSALS.items()},
    **emulation.FAULTS,
}


@dataclass
class Sendgrid:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    window: emulation.FixedWindow = field(default_factory=lambda: emulation.FixedWindow(600))
    single_sends: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source, name in SOURCES.items():
            self._add(source, name)
        for source in (*emulation.FAULTS, "change-refused"):
            self._add(source, source)

    async def duplicate(self, request: Request) -> Response:
        self.copies.requests += 1
        body = await self._read(request, {"name"})
        source = request.path_params["id"]
        if source in REFUSALS:
            raise self._refusal(*REFUSALS[source])
        if source not in OUTCOMES:
            raise self._refusal(404, NOT_FOUND)

        async def copy() -> Response:
            name = body.get("name", f"Copy of {SOURCES.get(source, source)}"[:LONGEST_NAME])
            single_send = self._add(str(uuid.uuid4()), name)
            self.copies.add(source, single_send["id"], name)
            if source == "with-a-warning":
                warning = {
                    "message": "the sender is not verified",
                    "field": "email_config",
                    "warning_id": str(uuid.uuid4()),
                }
                single_send = {**single_send, "warnings": [warning]}
            return self._response(201, single_send)

        return await emulation.misbehave(source, request, copy)

    async def list_scopes(self, request: Request) -> Response:
        return self._response(200, {"scopes": self._scopes_of(request)})

    async def show(self, request: Request) -> Response:
        self._check_caller(request)
        missing = self._refusal(404, NOT_FOUND)
        single_send = emulation.look_up(self.single_sends, request.path_params["id"], missing)
        return self._response(200, single_send)

    async def update(self, request: Request) -> Response:
        body = await self._read(request, {"name", "categories", *CHANGES})
        missing = self._refusal(404, NOT_FOUND)
        single_send = emulation.look_up(self.single_sends, request.path_params["id"], missing)
        if "name" not in body:
            raise self._refusal(400, _error("is required", "name"))
        if mistake := _mistake_in_changes(body):
            raise self._refusal(400, mistake)
        if self.copies.source_of(single_send["id"]) == "change-refused":
            raise self._refusal(400, _error("list does not exist", "send_to.list_ids"))
        # "Any blank or missing properties will remain unaltered."
        single_send |= {
            name: {**single_send[name], **_not_blank(value)} if isinstance(value, dict) else value
            for name, value in body.items()
        }
        self.copies.rename(single_send["id"], single_send["name"])
        return self._response(200, single_send)

    async def search(self, request: Request) -> Response:
        criteria = await self._read(request, {"name", "status", "categories"})
        size = request.query_params.get("page_size", str(DEFAULT_PAGE_SIZE))
        if not size.isdecimal() or int(size) < 1:
            raise self._refusal(400, _error("must be a whole number above 0", "page_size"))
        start = _offset_of(request.query_params.get("page_token", ""))
        if start is None:
            raise self._refusal(400, _error("is not a token of this API", "page_token"))
        matches = [send for send in self.single_sends.values() if _matches(send, criteria)]
        end = start + int(size)

        def link(offset: int) -> str:
            page = {"page_size": size, "page_token": _token_of(offset)}
            return str(request.url.include_query_params(**page))

        metadata = {"self": str(request.url), "count": len(matches)}
        if start > 0:
            metadata["prev"] = link(max(0, start - int(size)))
        if end < len(matches):
            metadata["next"] = link(end)
        result = [_list_item(single_send) for single_send in matches[start:end]]
        return self._response(200, {"result": result, "_metadata": metadata})

    def _add(self, single_send_id: str, name: str) -> dict[str, Any]:
        now = emulation.utc_now()
        single_send = {
            "id": single_send_id,
            "name": name,
            "status": "draft",
            "categories": ["promo"],
            "send_at": None,
            "send_to": {
                "list_ids": ["0d6e3f58-92ab-4c17-b5e0-7a8f1c2d4e96"],
                "segment_ids": [],
                "all": False,
            },
            "updated_at": now,
            "created_at": now,
            "email_config": {
                "subject": "It is spring",
                "html_content": "<p>It is spring.</p>",
                "plain_content": "It is spring.",
                "generate_plain_content": True,
                "design_id": "e4b8a7c2-51d0-4f36-9a2e-3c6d8f0b1e75",
                "editor": "design",
                "suppression_group_id": 12345,
                "custom_unsubscribe_url": None,
                "sender_id": 54321,
                "ip_pool": None,
            },
            "warnings": [],
        }
        self.single_sends[single_send_id] = single_send
        return single_send

    async def _read(self, request: Request, field_names: set[str]) -> dict[str, Any]:
        """Return the body of a valid request, which may have none. Raises `Refusal`."""
        self._check_caller(request)
        if not await request.body():
            return {}
        body = await emulation.read_json(
            request,
            self._refusal(415, _error("must be application/json", "Content-Type")),
            self._refusal(400, _error("is not JSON", "body")),
        )
        if mistake := _mistake_in(body, field_names):
            raise self._refusal(400, mistake)
        return dict(body)

    def _scopes_of(self, request: Request) -> list[str]:
        """Raises `Refusal`."""
        if not self.window.take():
            raise self._refusal(429, TOO_MANY)
        authorization = request.headers.get("authorization", "")
        return emulation.look_up(SCOPES, authorization, self._refusal(401, UNAUTHORIZED))

    def _check_caller(self, request: Request) -> None:
        if "marketing.read" not in self._scopes_of(request):
            raise self._refusal(403, FORBIDDEN)
        if "accept" not in request.headers:
            raise self._refusal(406, _error("the header is missing", "Accept"))

    def _refusal(self, status: int, error: dict[str, Any]) -> emulation.Refusal:
        return emulation.Refusal(self._response(status, {"errors": [error]}))

    def _response(self, status: int, content: dict[str, Any]) -> Response:
        return JSONResponse(content, status, self.window.limit_headers(status))


CHANGES = ("send_at", "send_to", "email_config")


def _mistake_in_changes(body: dict[str, Any]) -> dict[str, Any] | None:
    audience = body.get("send_to", {})
    if not isinstance(audience, dict):
        return _error("must be an object", "send_to")
    for field_name, most in (("list_ids", 50), ("segment_ids", 10)):
        ids = audience.get(field_name, [])
        if not isinstance(ids, list) or len(ids) > most or not all(map(_is_uuid, ids)):
            return _error(f"must be an array of at most {most} UUIDs", f"send_to.{field_name}")
    if not isinstance(audience.get("all", False), bool):
        return _error("must be a boolean", "send_to.all")
    try:
        datetime.fromisoformat(body.get("send_at", "2027-03-01T09:00:00Z"))
    except (ValueError, TypeError):
        return _error("must be an ISO 8601 time", "send_at")
    return None


def _not_blank(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if value not in (None, "", [])}


def _is_uuid(text: object) -> bool:
    try:
        return str(uuid.UUID(str(text))) == text
    except ValueError:
        return False


def _mistake_in(body: object, field_names: set[str]) -> dict[str, Any] | None:
    if not isinstance(body, dict):
        return _error("must be a JSON object", "body")
    if unknown := set(body) - field_names:
        return _error("is not a field", min(unknown))
    name = body.get("name", "a name")
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME:
        return _error(f"must be a string of 1 to {LONGEST_NAME} characters", "name")
    for field_name in ("status", "categories"):
        words = body.get(field_name, [])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            return _error("must be an array of strings", field_name)
        if len(set(words)) < len(words):
            return _error("must not hold anything twice", field_name)
    if not set(body.get("status", [])) <= STATUSES:
        return _error("must be draft, scheduled or triggered", "status")
    return None


def _matches(single_send: dict[str, Any], criteria: dict[str, Any]) -> bool:
    return (
        criteria.get("name", "") in single_send["name"]
        and single_send["status"] in criteria.get("status", STATUSES)
        and not set(criteria.get("categories", single_send["categories"])).isdisjoint(
            single_send["categories"]
        )
    )


def _list_item(single_send: dict[str, Any]) -> dict[str, Any]:
    """Return it as a list does: without a null `send_at`, which the list's type forbids."""
    names = ("id", "name", "status", "categories", "updated_at", "created_at")
    return {**{name: single_send[name] for name in names}, "is_abtest": False, "abtest": None}


def _token_of(offset: int) -> str:
    return base64.b64encode(str(offset).encode()).decode()


def _offset_of(token: str) -> int | None:
    try:
        offset = base64.b64decode(token, validate=True).decode("ascii") or "0"
    except (binascii.Error, UnicodeDecodeError):
        return None
    return int(offset) if offset.isdecimal() else None


def create_emulator() -> Starlette:
    sendgrid = Sendgrid()
    single_sends = "/v3/marketing/singlesends"
    return emulation.create_app(
        sendgrid.copies,
        Route("/v3/scopes", sendgrid.list_scopes, methods=["GET"]),
        Route(f"{single_sends}/search", sendgrid.search, methods=["POST"]),
        Route(f"{single_sends}/{{id}}", sendgrid.duplicate, methods=["POST"]),
        Route(f"{single_sends}/{{id}}", sendgrid.show, methods=["GET"]),
        Route(f"{single_sends}/{{id}}", sendgrid.update, methods=["PATCH"]),
    )
