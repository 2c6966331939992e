"""Listens and serves, for the gateway and for the sandbox."""

import asyncio
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from campaign_gateway.web.server.acceptor import Acceptor
from campaign_gateway.web.server.connection import Connection
from campaign_gateway.web.server.connections import Connections
from campaign_gateway.web.server.entrance import Entrance
from campaign_gateway.web.server.limits import ConnectionLimits, raise_descriptor_limit

# How many bytes of a response the kernel keeps for a client that does not read.
SEND_BUFFER = 256 * 1024

# How long a stopping server waits for its open requests, in seconds.
GRACE_SECONDS = 10

# For how many seconds /readyz reports that the gateway is stopping before it stops to listen.
# Balancers should see it. A person at a terminal, who sends SIGINT, should not wait.
NOTICE_SECONDS = 1.0

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CannotListen(Exception):
    """The address is in use, does not belong to this machine, or is invalid."""


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """Reserve the address before anything else starts. Raises `CannotListen`.

    `option` is where the user can choose another port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host} port {port}: {error.strerror}; "
            f"choose another port with {option}"
        ) from None
    # Connections inherit both options. Without the first, the last packet of a response waits 40 ms
    # for the client's delayed acknowledgement of the first packet. Without the second, the kernel
    # takes megabytes of a response that the client does not read.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return listening


class Drainable(Protocol):
    """The part of a gateway that the server calls to stop it."""

    async def drain(self) -> None: ...

    def give_up(self) -> None: ...


class Server(uvicorn.Server):
    """Stops on SIGINT or SIGTERM: it gives notice, stops to listen, and drains the gateway.

    A second signal ends the wait for running calls. While it gives notice, the gateway still takes
    new calls. After that a balancer gets no connection, and chooses another gateway.

    uvicorn raises the signal again after it has stopped. This server does not, because that would
    end the process before its caller has closed and removed files.
    """

    def __init__(
        self, config: uvicorn.Config, gateway: Drainable, connections: Connections
    ) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._connections = connections
        self._draining: asyncio.Task[None] | None = None
        self._signals = 0
        self._listens_until = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        # uvicorn closes them like servers of its own, although its types allow only asyncio's.
        self.servers = [
            Acceptor(listener, self._connections, self._make_connection)  # type: ignore[misc]
            for listener in sockets or ()
        ]

    def _make_connection(self) -> Connection:
        state = self.lifespan.state
        return Connection(self._connections, self.config, self.server_state, state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signals += 1
        self._connections.is_stopping = True
        notice = NOTICE_SECONDS if sig == signal.SIGTERM and self._signals == 1 else 0
        self._listens_until = monotonic() + notice

    async def on_tick(self, counter: int) -> bool:
        if self._signals > 0 and self._draining is None and monotonic() >= self._listens_until:
            self._stop_listening()
            self._draining = asyncio.create_task(self._gateway.drain())
        if self._draining is not None and self._draining.done():
            self.should_exit = True
        if self._signals > 1:
            self._gateway.give_up()
            self.should_exit = True
        return await super().on_tick(counter)

    @property
    def is_stopping(self) -> bool:
        return self._signals > 0

    def _stop_listening(self) -> None:
        """Accept no more connections, and close each one when it has no request in progress."""
        for acceptor in self.servers:
            acceptor.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in STOPPING_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def create_server(
    app: Starlette, hosts: Collection[str], limits: ConnectionLimits | None = None
) -> Server:
    """Return a server of the gateway. `hosts`: see `Entrance`."""
    limits = limits or ConnectionLimits()
    connections = Connections(limits.fit(raise_descriptor_limit()))
    return Server(configure(app, hosts, connections), app.state.gateway, connections)


def configure(app: ASGIApp, hosts: Collection[str], connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        Entrance(app, hosts, connections),
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
