"""Serves the metrics on an address of their own, so that no client of the gateway reads them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.types import ASGIApp

from campaign_gateway.web.server.connections import Connections
from campaign_gateway.web.server.limits import ConnectionLimits
from campaign_gateway.web.server.server import Drainable, Server, configure

# Prometheus needs one connection, and the file descriptors are for clients of the gateway.
LIMITS = ConnectionLimits(connections=32, connections_by_address=32)


class _MetricsServer(Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the gateway's own server, which ends this one last."""
        yield


@asynccontextmanager
async def serving_metrics(
    app: ASGIApp, hosts: Collection[str], gateway: Drainable, listener: socket.socket
) -> AsyncIterator[None]:
    """Serve until the end of the context. `hosts`: see `Entrance`."""
    connections = Connections(LIMITS)
    server = _MetricsServer(configure(app, hosts, connections), gateway, connections)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await running
