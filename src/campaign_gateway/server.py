"""Listening and serving, for the gateway and for the sandbox."""

import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

# How long a stopping server waits for the requests it is answering.
GRACE_SECONDS = 10

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CannotListen(Exception):
    """The address is taken, not ours, or not an address."""


def listen(host: str, port: int) -> socket.socket:
    """Take the address before anything else starts. Raises `CannotListen`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port"
        ) from None


class Server(uvicorn.Server):
    """Stops on SIGINT and SIGTERM, and leaves the rest of the stopping to its caller.

    Uvicorn's own raises the signal again when it has stopped, which would end the process before
    files are closed and removed.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {each: signal.signal(each, self.handle_exit) for each in STOPPING_SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def create_server(app: ASGIApp) -> Server:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return Server(config)


def log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # These would log the URL of every call to a provider, and uvicorn its own start and stop.
    for name in ("httpx", "httpcore", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
