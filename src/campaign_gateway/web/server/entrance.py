"""What holds for every request before the app sees it, and for every response."""

import ipaddress
import json
import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from campaign_gateway.observe.registry import CALLER_REFUSALS
from campaign_gateway.web.server.connections import Connections

Header = tuple[bytes, bytes]

# For responses that do not set them. The GraphiQL page has a content security policy of its own.
SECURITY_HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

JSON = "application/json; charset=utf-8"

# The code of an error that the client has made.
INVALID_REQUEST = "INVALID_REQUEST"

# The name in the state of a request for why load balancers should choose another gateway, or None.
UNREADY = "unready"

# They show no data, and a probe may address a container by any name or address.
PROBES = {"/healthz", "/readyz"}

# A name or an IPv4 address, or an IPv6 address in brackets, each with or without a port.
HOST = re.compile(r"(?:([A-Za-z0-9._-]{1,255})|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{0,5})?")


class Entrance:
    """An ASGI application that lets requests in only if they name an allowed host.

    Otherwise a page of another site could give its own name the gateway's address, and its scripts
    could then use the gateway like a page of its own ("DNS rebinding"). Allowed are `hosts`, the
    names of loopback, and the address that the connection came to: an address cannot be rebound.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], connections: Connections) -> None:
        self._app = app
        self._connections = connections
        self._hosts = {_normalize(host) for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = with_security_headers(message.get("headers", ()))
            await send(message)

        scope.setdefault("state", {})[UNREADY] = self._connections.unready
        response = self._refusal(scope) or self._app
        await response(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        named = [value for name, value in scope["headers"] if name == b"host"]
        # With a query, /readyz names the accounts.
        is_probe = scope["path"] in PROBES and not scope["query_string"]
        # Probes of load balancers use HTTP/1.0, and often without a host.
        if not named and scope["http_version"] == "1.0" and is_probe:
            return None
        host = parse_host(named[0]) if len(named) == 1 else None
        if host is None:
            return _error(400, "Send exactly one valid Host header.")
        if is_probe or self._is_allowed(host, scope["server"]):
            return None
        return _error(421, "The Host header names a host that is not in [server] hosts.")

    def _is_allowed(self, host: str, local: tuple[str, int | None] | None) -> bool:
        if host in self._hosts or host == "localhost":
            return True
        return _is_loopback(host) or (local is not None and host == _normalize(local[0]))


def with_security_headers(headers: Iterable[Header]) -> list[Header]:
    present = list(headers)
    names = {name.lower() for name, _ in present}
    return [*present, *(header for header in SECURITY_HEADERS if header[0] not in names)]


# Clients of one gateway name the same few hosts again and again.
@lru_cache
def parse_host(value: bytes) -> str | None:
    """Return the name or address in a Host header in its normal form, or None if it is invalid."""
    match = HOST.fullmatch(value.decode("latin-1"))
    return None if match is None else _normalize(match[1] or match[2])


def error_body(message: str) -> bytes:
    """Return a message in the form that clients of GraphQL expect."""
    error = {"message": message, "extensions": {"code": INVALID_REQUEST}}
    return json.dumps({"errors": [error]}).encode()


@lru_cache
def _normalize(host: str) -> str:
    host = host.strip("[]").lower().removesuffix(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


@lru_cache
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _error(status: int, message: str) -> Response:
    CALLER_REFUSALS.labels(INVALID_REQUEST).inc()
    headers = {"content-type": JSON, "cache-control": "no-store"}
    return Response(error_body(message), status, headers)
