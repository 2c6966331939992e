"""Opens connections: resolves the host, connects to an address, and checks which one it is."""

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence
from typing import cast

from campaign_gateway.accounts.transport.errors import (
    AddressRefused,
    ConnectFailed,
    ConnectTimedOut,
)
from campaign_gateway.accounts.transport.http1 import Connection, Origin
from campaign_gateway.connectors.addresses import is_forbidden

# For the connection, and again for TLS on it.
CONNECT_SECONDS = 3.0

# After this time without a connection, the next address is tried too, as in RFC 8305.
NEXT_ADDRESS_SECONDS = 0.25

# If this process dies, its kernel still delivers what was written. This limits for how long, in
# milliseconds.
USER_TIMEOUT = 20_000

_Address = tuple[int, int, int, str, tuple[object, ...]]


async def connect(origin: Origin, tls: ssl.SSLContext) -> Connection:
    """Open a connection, with TLS if the scheme is `https`.

    Raises `ConnectFailed`, and `AddressRefused` before anything is sent.
    """
    missing = "address of the name"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            addresses = await _resolve(origin)
            missing = "connection"
            connection = await _connect_to_any(addresses)
        missing = "TLS on the connection"
        _check(connection)
        if origin.scheme == "https":
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.start_tls(tls, origin.host)
    except TimeoutError as error:
        raise ConnectTimedOut(f"no {missing} within {CONNECT_SECONDS:g} seconds") from error
    except OSError as error:
        raise ConnectFailed(_reason(error)) from error
    return connection


def _reason(error: OSError) -> str:
    """Return in words why there is no connection."""
    match error:
        case socket.gaierror():
            return f"the name cannot be resolved: {error.strerror}"
        case ConnectionRefusedError():
            return "the connection was refused"
        # Of TLS, only a connection that ended gets here: `tls_failure` explains the other failures.
        case ConnectionError() | ssl.SSLError():
            return "the connection was closed before anything was sent"
        case _:
            # Some of asyncio's errors have "Connect call failed" in place of the reason.
            reason = os.strerror(error.errno) if error.errno else "unknown reason"
            return f"the connection failed: {reason}"


async def _resolve(origin: Origin) -> Sequence[_Address]:
    """Return the addresses of the host, the second one of another family if there is one."""
    try:
        # Of a name, it asks no server, and refuses it immediately.
        return socket.getaddrinfo(
            origin.host, origin.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        loop = asyncio.get_running_loop()
    first, *others = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return [first, *sorted(others, key=lambda address: address[0] == first[0])]


async def _connect_to_any(addresses: Sequence[_Address]) -> Connection:
    """Return the first connection that opens. Raises the `OSError` of the last one if none does."""
    waiting = list(addresses)
    if len(waiting) == 1:
        return await _connect_to(waiting[0])
    tries: set[asyncio.Task[Connection]] = set()
    failure: BaseException | None = None
    try:
        while waiting or tries:
            if waiting:
                tries.add(asyncio.create_task(_connect_to(waiting.pop(0))))
            timeout = NEXT_ADDRESS_SECONDS if waiting else None
            done, _ = await asyncio.wait(
                tries, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                tries.remove(task)
                failure = task.exception()
                if failure is None:
                    return task.result()
    finally:
        for task in tries:
            task.cancel()
            task.add_done_callback(_close_unused)
    assert failure is not None
    raise failure


async def _connect_to(address: _Address) -> Connection:
    family, _, protocol, _, (host, port, *_) = address
    # The event loop opens the socket itself, which takes half the time of `sock_connect`.
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection, cast("str", host), cast("int", port), family=family, proto=protocol
    )
    return connection


def _close_unused(task: "asyncio.Task[Connection]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _check(connection: Connection) -> None:
    """Raises `AddressRefused`, and `OSError` if the other end has closed the connection already.

    The open connection is checked, because a name may have another address each time it is
    resolved.
    """
    try:
        # A closed transport has no socket any more.
        if connection.transport.is_closing():
            raise ConnectionResetError
        connected = connection.transport.get_extra_info("socket")
        address, *_ = connected.getpeername()
        if is_forbidden(address):
            raise AddressRefused(address)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
    except BaseException:
        connection.close()
        raise
