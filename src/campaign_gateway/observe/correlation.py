"""The correlation id: in every log line of one request, and in its response.

It is the trace id of the header `traceparent` (www.w3.org/TR/trace-context), or a new one.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from typing import Any

# The types of ASGI, which Starlette has too. This room knows no web framework.
Scope = MutableMapping[str, Any]
ASGIApp = Callable[[Scope, Any, Any], Awaitable[None]]

# Tasks that a request starts inherit it, also those that continue after the response.
_current: ContextVar[str | None] = ContextVar("correlation_id", default=None)

# A later version may have more after the flags.
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)


def correlation_id() -> str | None:
    """Return the id of the request that this code runs for, or None outside of requests."""
    return _current.get()


def set_correlation_id(identifier: str) -> None:
    """Replace the id for the rest of the request."""
    _current.set(identifier)


def response_members() -> dict[str, object]:
    """Return what a GraphQL response has in addition to its data and errors."""
    identifier = _current.get()
    return {} if identifier is None else {"extensions": {"correlationId": identifier}}


class Correlation:
    """ASGI middleware that gives each request its correlation id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The context of a connection's next request may be a copy of this one's.
        token = _current.set(trace_id_of(scope["headers"]) or secrets.token_hex(16))
        try:
            await self._app(scope, receive, send)
        finally:
            _current.reset(token)


def trace_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the trace id of the one valid `traceparent`, or None."""
    values = [value for name, value in headers if name == b"traceparent"]
    match = _TRACEPARENT.fullmatch(values[0]) if len(values) == 1 else None
    if match is None or (match[1] == b"00" and match[3]):
        return None
    return match[2].decode()
