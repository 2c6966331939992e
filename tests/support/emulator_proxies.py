"""Proxies in front of emulators, which count requests, hold them and make them fail."""

import re
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from campaign_gateway.sandbox.emulation import misbehave

# The kind of a request is the first whose pattern matches "METHOD path".
KINDS = {
    "copy": r"POST .*/(replicate|copy|copies|clone|clone\.json)",
    "token": r"\w+ /identity/.*",
    "rename": r"(POST|PATCH) .*",
    "progress": r"GET .*/status",
    "search": r"GET .*/(campaigns|copies|smartCampaigns\.json)",
    "lookup": r"GET .*",
}


def kind_of(method: str, path: str) -> str:
    if path.startswith("/_emulator/"):
        return "test's own request"
    return next(kind for kind in KINDS if re.fullmatch(KINDS[kind], f"{method} {path}"))


@dataclass
class EmulatorProxy:
    """An emulator as the gateways see it.

    `held` is a kind of requests and a state. `asked` holds a request before the emulator gets it,
    `done` holds its response. If its gateway dies, a held request never reaches the emulator.
    `failing` maps a kind of requests to its fault: a status, or a fault of the sockets.
    """

    app: ASGIApp
    url: str
    seen: list[tuple[str, str]] = field(default_factory=list)
    held: tuple[str, str] | None = None
    holding: int = 0
    failing: dict[str, str] = field(default_factory=dict)

    def count(self, kind: str, path: str = "") -> int:
        """Return how many requests of the kind came, of those whose path contains `path`."""
        return sum(seen_kind == kind and path in where for seen_kind, where in self.seen)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        kind = kind_of(request.method, request.url.path)
        # The body is read first, because `is_disconnected` would drop it.
        body = await request.body()
        self.seen.append((kind, request.url.path))
        if self.held == (kind, "asked"):
            await self._hold(request, (kind, "asked"))
            # Otherwise a dead gateway's request would take effect after the next gateway's.
            if await request.is_disconnected():
                return await Response()(scope, receive, send)
        if fault := self.failing.get(kind):
            response = await _failed(fault, request)
            return await response(scope, receive, send)
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
class EmulatorProxies:
    """Any number of proxies at one server, each below a path of its own: `/1/...`."""

    url: str = ""
    proxies: list[EmulatorProxy] = field(default_factory=list)

    def new(self, emulator: ASGIApp) -> EmulatorProxy:
        self.proxies.append(EmulatorProxy(emulator, f"{self.url}/{len(self.proxies)}"))
        return self.proxies[-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, number, path = scope["path"].split("/", 2)
        below = {**scope, "path": f"/{path}", "raw_path": f"/{path}".encode()}
        await self.proxies[int(number)](below, receive, send)


async def copies_at(http: httpx.AsyncClient, proxy: EmulatorProxy) -> dict[str, Any]:
    """Return the emulator's own count: `asked`, how many requests came, and its `copies`."""
    counted: dict[str, Any] = (await http.get(f"{proxy.url}/_emulator/copies")).json()
    return counted
