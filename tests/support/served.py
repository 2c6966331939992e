"""The server with an app whose routes take long, or give much, in a thread of its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from campaign_gateway.web.server.entrance import UNREADY
from campaign_gateway.web.server.limits import ConnectionLimits
from campaign_gateway.web.server.server import create_server, listen

LARGE = b"x" * 1024 * 1024


@dataclass
class Served:
    """`started` counts the requests that the app got, and `released` ends those to /hold."""

    url: str = ""
    connections: set[Any] = field(default_factory=set)
    started: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def app(self) -> Starlette:
        async def small(_request: Request) -> Response:
            self.started += 1
            return PlainTextResponse("small")

        async def ready(request: Request) -> Response:
            return Response(status_code=503 if getattr(request.state, UNREADY) else 200)

        async def large(_request: Request) -> Response:
            self.started += 1
            return Response(LARGE)

        async def hold(_request: Request) -> Response:
            self.started += 1
            while not self.released.is_set():
                await asyncio.sleep(0.01)
            return PlainTextResponse("held")

        async def body(request: Request) -> Response:
            return PlainTextResponse(str(len(await request.body())))

        app = Starlette(
            routes=[
                Route("/small", small),
                Route("/large", large),
                Route("/hold", hold),
                Route("/body", body, methods=["POST"]),
                Route("/readyz", ready),
            ]
        )
        app.state.gateway = self
        return app

    async def drain(self) -> None: ...

    def give_up(self) -> None:
        self.released.set()


@contextmanager
def served(limits: ConnectionLimits) -> Iterator[Served]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_serving(limits)) as running,
    ):
        yield running


@asynccontextmanager
async def _serving(limits: ConnectionLimits) -> AsyncIterator[Served]:
    running = Served()
    listener = listen("127.0.0.1", 0)
    running.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = create_server(running.app(), [], limits)
    server.capture_signals = _nothing  # type: ignore[method-assign] # Signals are for main threads.
    running.connections = server.server_state.connections
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield running
    finally:
        running.released.set()
        server.should_exit = True
        await serving


@contextmanager
def _nothing() -> Iterator[None]:
    yield
