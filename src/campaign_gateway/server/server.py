"""Listening and serving, for the gateway and for the sandbox."""

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from time import monotonic
from types import FrameType
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette

# How long a stopping server waits for the requests it is answering.
GRACE_SECONDS = 10

# How long a gateway that was told to stop at least says so at /readyz, in seconds.
NOTICE_SECONDS = 1.0

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CannotListen(Exception):
    """The address is taken, not ours, or not an address."""


def listen(host: str, port: int) -> socket.socket:
    """Take the address before anything else starts. Raises `CannotListen`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port"
        ) from None
    # Connections inherit it. Else an answer's last packet waits for the client's delayed word that
    # it has the first: 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class Drainable(Protocol):
    """What a server asks of the gateway behind it when it has to stop."""

    async def drain(self) -> None: ...

    def give_up(self) -> None: ...


class Server(uvicorn.Server):
    """On SIGINT or SIGTERM it drains the gateway, still serving; a second one ends the waiting.

    It leaves the rest of the stopping to its caller: uvicorn's own raises the signal again when it
    has stopped, which would end the process before files are closed and removed.
    """

    def __init__(self, config: uvicorn.Config, gateway: Drainable) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._draining: asyncio.Task[None] | None = None
        self._signals = 0
        self._leaves_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Whoever routes to this gateway learns from /readyz; a person at a terminal is in a hurry.
        self._leaves_at = monotonic() + (NOTICE_SECONDS if sig == signal.SIGTERM else 0)
        self._signals += 1

    async def on_tick(self, counter: int) -> bool:
        if self._signals > 0:
            self._draining = self._draining or asyncio.create_task(self._gateway.drain())
            if self._draining.done() and monotonic() >= self._leaves_at:
                self.should_exit = True
        if self._signals > 1:
            self._gateway.give_up()
            self.should_exit = True
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {each: signal.signal(each, self.handle_exit) for each in STOPPING_SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def create_server(app: Starlette) -> Server:
    config = uvicorn.Config(
        app,
        http=_protocol(),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return Server(config, app.state.gateway)


def _protocol() -> Any:
    if find_spec("httptools") is None:
        # Where there is none uvicorn uses h11, which declines upgrades by itself.
        return "h11"
    from campaign_gateway.server.http_protocol import WithoutUpgrades  # noqa: PLC0415

    return WithoutUpgrades


def log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # These would log the URL of every call to a provider, and uvicorn its own start and stop.
    for name in ("httpx", "httpcore", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
