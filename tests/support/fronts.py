"""Emulators behind a door that counts, holds and spoils what comes through it."""

import re
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from campaign_gateway.sandbox.emulation import misbehave

# The first that fits a request, given as "METHOD path", says what it is for.
KINDS = {
    "copy": r"POST .*/(replicate|copy|copies|clone|clone\.json)",
    "sign-in": r"\w+ /identity/.*",
    "rename": r"(POST|PATCH) .*",
    "progress": r"GET .*/status",
    "search": r"GET .*/(campaigns|copies|smartCampaigns\.json)",
    "lookup": r"GET .*",
}


def kind_of(method: str, path: str) -> str:
    if path.startswith("/_emulator/"):
        return "question of the test's own"
    return next(each for each in KINDS if re.fullmatch(KINDS[each], f"{method} {path}"))


@dataclass
class Front:
    """An emulator as gateways see it.

    `held` is a kind of requests, and whether they stay there when they are `asked`, before the
    emulator has seen them, or when they are `done` and not answered. What was held when its gateway
    died never comes to the emulator. `failing` says how a kind of requests fails meanwhile: by a
    status, or a fault of the sockets.
    """

    app: ASGIApp
    url: str
    seen: list[tuple[str, str]] = field(default_factory=list)
    held: tuple[str, str] | None = None
    holding: int = 0
    failing: dict[str, str] = field(default_factory=dict)

    def count(self, kind: str, path: str = "") -> int:
        """How many requests of the kind came, for paths with this in them."""
        return sum(each == kind and path in where for each, where in self.seen)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        kind = kind_of(request.method, request.url.path)
        # Read here, or asking whether the caller is still there would swallow it.
        body = await request.body()
        self.seen.append((kind, request.url.path))
        if self.held == (kind, "asked"):
            await self._hold(request, (kind, "asked"))
            # Lost on the way; or a dead gateway's request would take effect beside the next one's.
            if await request.is_disconnected():
                return await Response()(scope, receive, send)
        if fault := self.failing.get(kind):
            answer = await _failed(fault, request)
            return await answer(scope, receive, send)
        rest = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_again() -> Message:
            return next(rest, None) or await receive()

        async def send_when_let(message: Message) -> None:
            if message["type"] == "http.response.start" and self.held == (kind, "done"):
                await self._hold(request, (kind, "done"))
            await send(message)

        return await self.app(scope, receive_again, send_when_let)

    async def _hold(self, request: Request, held: tuple[str, str]) -> None:
        self.holding += 1
        try:
            while self.held == held and not await request.is_disconnected():
                await anyio.sleep(0.01)
        finally:
            self.holding -= 1


async def _failed(fault: str, request: Request) -> Response:
    async def refuse() -> Response:
        return JSONResponse({"message": "Not now."}, int(fault) if fault.isdecimal() else 500)

    return await misbehave(fault, request, refuse)


@dataclass
class Fronts:
    """Any number of fronts at one server, each below a folder of its own: `/1/...`."""

    url: str = ""
    fronts: list[Front] = field(default_factory=list)

    def new(self, emulator: ASGIApp) -> Front:
        self.fronts.append(Front(emulator, f"{self.url}/{len(self.fronts)}"))
        return self.fronts[-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, number, path = scope["path"].split("/", 2)
        below = {**scope, "path": f"/{path}", "raw_path": f"/{path}".encode()}
        await self.fronts[int(number)](below, receive, send)


async def copies_at(http: httpx.AsyncClient, front: Front) -> dict[str, Any]:
    """How often the emulator was `asked` for a copy, and the `copies` that it has made."""
    found: dict[str, Any] = (await http.get(f"{front.url}/_emulator/copies")).json()
    return found
