"""Shared parts of the emulators: faults on demand, a count of the copies, and a server."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

Key = TypeVar("Key")
Value = TypeVar("Value")

SLOW_SECONDS = 2
HANG_SECONDS = 300
# How long a simulated limit lasts. The gateway sends nothing to the emulator for so long.
LIMIT_SECONDS = 2

# Faults that every emulator can simulate: name -> what happens.
FAULTS: Mapping[str, str] = {
    "slow": f"copied, and the response comes after {SLOW_SECONDS} seconds",
    "hang": "no response, nothing copied",
    "cut-before-copy": "the connection is closed before anything is copied",
    "cut-after-copy": "copied, then the connection is closed without a response",
    "cut-in-response": "copied, then the connection is closed in the middle of the response",
    "garbage": "copied, but the response is not HTTP",
    "unreadable": "copied, but the response is a success with an unexpected body",
    "empty": "copied, but the response is a success without a body",
    "redirect": "the response is a redirect, nothing copied",
}


class Refusal(Exception):
    """Raised to respond with an error."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


@dataclass
class Copies:
    """The copies that an emulator has made, and how many copies were requested from it."""

    requests: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)

    def add(self, source: str, copy_id: str, name: str) -> None:
        self.records.append({"source": source, "id": copy_id, "name": name})

    def rename(self, copy_id: str, name: str) -> None:
        for copy in self.records:
            if copy["id"] == copy_id:
                copy["name"] = name

    def source_of(self, copy_id: str) -> str | None:
        return next((copy["source"] for copy in self.records if copy["id"] == copy_id), None)

    def route(self) -> Route:
        async def show(_request: Request) -> Response:
            return JSONResponse(
                {"asked": self.requests, "count": len(self.records), "copies": self.records}
            )

        return Route("/_emulator/copies", show)


@dataclass
class FixedWindow:
    """A rate limit that restarts every minute."""

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

    def limit_headers(self, status: int) -> Mapping[str, str]:
        """Return the headers of a response. With 429 the limit may be simulated."""
        remaining, resets_in = self.remaining(), max(1, self.resets_in())
        if status == 429 and remaining > 0:
            remaining, resets_in = 0, LIMIT_SECONDS
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": str(round(time() + resets_in)),
        }


def utc_now(timespec: str = "milliseconds") -> str:
    """Return the time in ISO 8601, with a Z."""
    return datetime.now(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def look_up(records: Mapping[Key, Value], key: Key, missing: Refusal) -> Value:
    """Return the record. Raises `missing` if there is none."""
    if key not in records:
        raise missing
    return records[key]


def media_type_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0]


async def read_json(
    request: Request,
    wrong_type: Refusal,
    wrong_syntax: Refusal,
    media_type: str = "application/json",
) -> Any:
    """Return the body. Raises the refusal of another media type, or of a body that is not JSON."""
    if media_type_of(request) != media_type:
        raise wrong_type
    try:
        return await request.json()
    except ValueError:
        raise wrong_syntax from None


async def misbehave(  # noqa: PLR0911 - a list of faults, one after the other
    fault: str | None, request: Request, copy: Callable[[], Awaitable[Response]]
) -> Response:
    """Copy and respond, with the named fault."""
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
    response = await copy()
    match fault:
        case "cut-after-copy":
            return await _cut(request)
        case "cut-in-response":
            head = f"HTTP/1.1 {response.status_code} OK\r\ncontent-length: 1000\r\n\r\n"
            return await _cut(request, head.encode() + bytes(response.body)[:9])
        case "garbage":
            return await _cut(request, b"\x15\x03\x01\x00\x02\x02\x0a not HTTP\r\n\r\n")
        case "unreadable":
            return Response("<html>It works!</html>", response.status_code, media_type="text/html")
        case "empty":
            return Response(status_code=response.status_code)
    return response


async def _until_disconnected(request: Request) -> None:
    ends_at = monotonic() + HANG_SECONDS
    while monotonic() < ends_at and not await request.is_disconnected():
        await asyncio.sleep(0.1)


async def _cut(request: Request, last_bytes: bytes = b"") -> Response:
    transport = _connections[(request.scope["client"], request.scope["server"])]
    transport.write(last_bytes)
    transport.close()
    # Until the server notices the closed connection, it would send the response below.
    while (request.scope["client"], request.scope["server"]) in _connections:
        await asyncio.sleep(0.01)
    return Response()


_connections: dict[tuple[object, object], asyncio.Transport] = {}


class _Protocol(H11Protocol):
    """Keeps the connection of each request, which ASGI does not pass to applications."""

    # uvicorn narrows the parameter of asyncio's protocol in the same way.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _connections[(self.client, self.server)] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _connections.pop((self.client, self.server), None)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave Ctrl-C to the process that started the emulators."""
        yield


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve on a free loopback port, and yield the base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    # Without this option, the last packet of a response waits 40 ms for an acknowledgement.
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


async def _respond(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return refusal.response


def create_app(copies: Copies, *routes: Route) -> Starlette:
    app = Starlette(routes=[*routes, copies.route()], exception_handlers={Refusal: _respond})
    # A provider does not redirect a path that differs only in a slash at its end.
    app.router.redirect_slashes = False
    return app
