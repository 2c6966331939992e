"""An issuer of tokens: it signs them, and serves its key set in several wrong ways."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal
from joserfc import jwt
from joserfc.jwk import Key, KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from campaign_gateway.sandbox.emulation import serving

AUDIENCE = "campaign-gateway"
NAME = "https://login.example.com/"

# Private keys for these tests alone. Making an RSA key would take up to a second.
RSA, OTHER_RSA, EC, ED = KeySet.import_key_set(
    json.loads(Path(__file__).with_name("issuer_keys.json").read_text("utf-8"))
)


def encoded(value: bytes | dict[str, Any]) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def claims_of(caller: str = "web-team", **more: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "iss": NAME,
        "aud": AUDIENCE,
        "azp": caller,
        "exp": now + 300,
        "iat": now,
        "email": "ann@example.com",
        **more,
    }
    return {name: value for name, value in claims.items() if value is not None}


def token(
    claims: dict[str, Any] | None = None, key: Key = RSA, alg: str = "RS256", **header: Any
) -> str:
    fields = {"alg": alg, "kid": key.kid, **header}
    present = {name: value for name, value in fields.items() if value is not None}
    return jwt.encode(present, claims or claims_of(), key, algorithms=[alg])


@dataclass
class Issuer:
    """`mode` is how it responds to a request for its keys; `fetches` are the times of those."""

    url: str = ""
    mode: str = "right"
    keys: list[Key] = field(default_factory=lambda: [RSA, EC, ED])
    fetches: list[float] = field(default_factory=list)

    def key_set(self) -> bytes:
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()

    async def respond(self, request: Request) -> Response:
        if request.url.path == "/keys":
            self.fetches.append(time.monotonic())
        if self.mode == "hang":
            await asyncio.sleep(30)
        right = Response(self.key_set())
        # After the redirect, the right keys are there.
        if self.mode == "redirect" and request.url.path != "/keys":
            return right
        responses = {
            "drip": StreamingResponse(self._drip()),
            "huge": Response(self.key_set() + b" " * 70_000),
            "redirect": RedirectResponse("/elsewhere"),
            "error": Response(self.key_set(), 500),
            "garbage": Response(b"[" * 60_000),
            "compressed": Response(self.key_set(), headers={"content-encoding": "gzip"}),
            "no keys": Response(b'{"keys": []}'),
        }
        return responses.get(self.mode, right)

    async def _drip(self) -> AsyncIterator[bytes]:
        for byte in self.key_set():
            yield bytes([byte])
            await asyncio.sleep(0.05)


@contextmanager
def issuing() -> Iterator[Issuer]:
    issuer = Issuer()
    app = Starlette(routes=[Route("/{path:path}", issuer.respond)])
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(app)) as url,
    ):
        issuer.url = url
        yield issuer


def jwt_section(issuer: Issuer, **more: Any) -> dict[str, Any]:
    return {
        "issuer": NAME,
        "audience": AUDIENCE,
        "jwks_url": f"{issuer.url}/keys",
        "caller_claim": "azp",
        "person_claim": "email",
        **more,
    }
