"""What every emulator stands on: sockets that misbehave on demand, and a count of the copies."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

SLOW_SECONDS = 2
HANG_SECONDS = 300

# What can go wrong on the way, at every provider alike; the name says what to expect.
FAULTS: Mapping[str, str] = {
    "slow": f"copied and answered after {SLOW_SECONDS} seconds",
    "hang": "never answered, nothing copied",
    "cut-before-copy": "the connection is closed before anything is copied",
    "cut-after-copy": "copied, then the connection is closed without an answer",
    "cut-in-answer": "copied, then the connection is closed in the middle of the answer",
    "garbage": "copied, then answered with bytes that are not HTTP",
    "unreadable": "copied, then answered as a success whose body is not what it should be",
    "empty": "copied, then answered as a success without a body",
    "redirect": "answered with a redirect, nothing copied",
}


@dataclass
class Copies:
    """Every copy an emulator has really made, and how often it was asked for one."""

    asked: int = 0
    made: list[dict[str, Any]] = field(default_factory=list)

    def add(self, source: str, copy_id: str, name: str) -> None:
        self.made.append({"source": source, "id": copy_id, "name": name})

    def rename(self, copy_id: str, name: str) -> None:
        for each in self.made:
            if each["id"] == copy_id:
                each["name"] = name

    def route(self) -> Route:
        async def show(_request: Request) -> Response:
            return JSONResponse({"asked": self.asked, "count": len(self.made), "copies": self.made})

        return Route("/_emulator/copies", show)


@dataclass
class FixedWindow:
    """A rate limit that starts anew each minute."""

    limit: int
    used: int = 0
    began: float = field(default_factory=monotonic)

    def take(self) -> bool:
        if self.resets_in() <= 0:
            self.began, self.used = monotonic(), 0
        self.used += 1
        return self.used <= self.limit

    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def resets_in(self) -> float:
        return self.began + 60 - monotonic()


async def misbehave(  # noqa: PLR0911 - a list of faults, one after the other
    fault: str | None, request: Request, copy: Callable[[], Awaitable[Response]]
) -> Response:
    """Copy and answer, with the named fault on the way."""
    match fault:
        case "slow":
            await asyncio.sleep(SLOW_SECONDS)
        case "hang":
            await _until_disconnected(request)
            return Response()
        case "cut-before-copy":
            return await _cut(request)
        case "redirect":
            return RedirectResponse("/elsewhere", 302)
    answer = await copy()
    match fault:
        case "cut-after-copy":
            return await _cut(request)
        case "cut-in-answer":
            head = f"HTTP/1.1 {answer.status_code} OK\r\ncontent-length: 1000\r\n\r\n"
            return await _cut(request, head.encode() + bytes(answer.body)[:9])
        case "garbage":
            return await _cut(request, b"\x15\x03\x01\x00\x02\x02\x0a not HTTP\r\n\r\n")
        case "unreadable":
            return Response("<html>It works!</html>", answer.status_code, media_type="text/html")
        case "empty":
            return Response(status_code=answer.status_code)
    return answer


async def _until_disconnected(request: Request) -> None:
    gives_up_at = monotonic() + HANG_SECONDS
    while monotonic() < gives_up_at and not await request.is_disconnected():
        await asyncio.sleep(0.1)


async def _cut(request: Request, last_words: bytes = b"") -> Response:
    transport = _connections[(request.scope["client"], request.scope["server"])]
    transport.write(last_words)
    transport.close()
    # Until the server has noticed, it would try to send the response below.
    while (request.scope["client"], request.scope["server"]) in _connections:
        await asyncio.sleep(0.01)
    return Response()


_connections: dict[tuple[object, object], asyncio.Transport] = {}


class _Protocol(H11Protocol):
    """Remembers the connection under each request, which ASGI does not hand to applications."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _connections[(self.client, self.server)] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _connections.pop((self.client, self.server), None)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ctrl-C belongs to whoever started the emulators."""
        yield


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve on a free loopback port; gives the base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    # Else the end of an answer waits 40 ms for the word that its beginning has arrived.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(app, http=_Protocol, lifespan="off", log_config=None, access_log=False)
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await task


def emulator(copies: Copies, *routes: Route) -> Starlette:
    return Starlette(routes=[*routes, copies.route()])
