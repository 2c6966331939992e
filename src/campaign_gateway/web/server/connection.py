"""One HTTP/1.1 connection: uvicorn's protocol, with limits to what a client can send and hold.

One request is parsed at a time. While one is in progress, at most the next few small ones are
parsed too, and the rest of what arrived stays unparsed and the socket unread.
"""

import asyncio
from enum import Enum
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from campaign_gateway.observe.registry import CALLER_REFUSALS
from campaign_gateway.web.server.connections import Connections
from campaign_gateway.web.server.entrance import (
    INVALID_REQUEST,
    JSON,
    error_body,
    with_security_headers,
)

# Bytes of a request line with all fields, and how many fields there may be.
HEAD_LIMIT = 32 * 1024
FIELD_LIMIT = 100

# Bytes of a body that may still arrive after its request was refused.
DISCARD_LIMIT = 16 * 1024 * 1024

# How many bytes are parsed before the limits are checked again. They may hold several requests.
PIECE = 512

TOO_LARGE = f"The head of a request can have {HEAD_LIMIT} bytes and {FIELD_LIMIT} fields."
INVALID = 400, "The request is not valid HTTP/1.1."
VERSIONS = {"1.0", "1.1"}


class Phase(Enum):
    """What a connection receives next. Between two requests it waits for a head too."""

    HEAD = 1
    BODY = 2


class _Refused(Exception):
    """Ends the parsing of a request, which the connection has refused."""


class Connection(HttpToolsProtocol):
    """A request with an Upgrade header is handled as if it had none (RFC 9110, section 7.8)."""

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(config, server_state, app_state)
        # Without the leniency that uvicorn sets: nothing is executed after `Connection: close`.
        self.parser = httptools.HttpRequestParser(self)
        self._all = connections
        self._unparsed = b""
        self._phase = Phase.HEAD
        # Of the message that arrives: whether it has begun, the bytes and the fields of its head,
        # the bytes since the parser last reported something, and the bytes of a refused body.
        self._has_begun = False
        self._head_bytes = self._fields = self._silent_bytes = self._discarded_bytes = 0
        self._messages = 0
        self._running: RequestResponseCycle | None = None
        self._refusal: tuple[int, str] | None = None
        self._is_deaf = self._is_dropped = False
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_of: tuple[Phase, int] | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    # The transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # As uvicorn's.
        super().connection_made(transport)
        # Every byte that the client does not read then starts the deadline.
        transport.set_write_buffer_limits(high=0)
        if self._is_dropped:
            transport.abort()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_deaf = True
        self._watch()
        self._all.remove(self)
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if not self._is_deaf:
            self._unparsed += data
            self._parse()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._all.set_unread(self, self.transport.get_write_buffer_size())
        timeout = self._all.limits.write_timeout
        self._write_deadline = self.loop.call_later(timeout, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._all.set_unread(self, 0)
        if self._write_deadline is not None:
            self._write_deadline.cancel()

    @property
    def rank(self) -> int | None:
        """First those that have sent no request, then idle ones, then slow ones."""
        if self._running is None:
            return 0
        if self._phase is Phase.BODY or self.flow.write_paused:
            return 2
        return 1 if self._running.response_complete else None

    def drop(self) -> None:
        self._is_dropped = True
        # A connection that was accepted just now has no transport yet.
        if self.transport is not None:
            self.transport.abort()

    # Parsing

    def _parse(self) -> None:
        """Parse what has arrived, until a request has to wait for its turn."""
        data, position = memoryview(self._unparsed), 0
        while position < len(data) and not self.pipeline and not self._is_deaf:
            position += self._feed(data[position : position + PIECE])
        if self._is_deaf:
            self._unparsed = b""
        elif position:
            self._unparsed = bytes(data[position:])
        if self._unparsed:
            self.flow.pause_reading()
        self._watch()

    def _feed(self, piece: memoryview) -> int:
        """Parse a piece, and return how many of its bytes were used."""
        self._silent_bytes += len(piece)
        used = len(piece)
        try:
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                # The parser would take the bytes after the head for another protocol. Java's own
                # client asks for HTTP/2 with the first POST of each connection.
                used = int(upgrade.args[0])
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.feed_data(head)
            if self._head_bytes + self._silent_bytes > HEAD_LIMIT:
                self._refuse(*((431, TOO_LARGE) if self._phase is Phase.HEAD else INVALID))
        except (httptools.HttpParserError, _Refused):
            self._fail()
        return used

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun = True
        self._messages += 1
        self._head_bytes = self._fields = self._silent_bytes = self._discarded_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is Phase.BODY:
            self._refuse(400, "Trailers are not supported.")
        super().on_header(name, value)
        self._fields += 1
        self._count_head(len(name) + len(value) + len(": \r\n"))

    def _count_head(self, count: int) -> None:
        self._silent_bytes = 0
        self._head_bytes += count
        if self._head_bytes > HEAD_LIMIT or self._fields > FIELD_LIMIT:
            self._refuse(431, TOO_LARGE)

    def on_headers_complete(self) -> None:
        if self._offers_upgrade():
            return
        self._check_head()
        super().on_headers_complete()
        self._phase = Phase.BODY
        self._head_bytes = self._silent_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > DISCARD_LIMIT:
                self._refuse(*INVALID)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._offers_upgrade():
            return
        super().on_message_complete()
        self._phase = Phase.HEAD
        self._has_begun = False
        self._silent_bytes = 0

    def _offers_upgrade(self) -> bool:
        # CONNECT counts as an upgrade too, and is refused.
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        start = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, version)
        kept = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return start + b"".join(kept) + b"\r\n"

    def _check_head(self) -> None:
        """Refuse what RFC 9112 forbids or leaves to the server, and the parser lets through."""
        if self.parser.get_method() == b"CONNECT":
            self._refuse(400, "The method CONNECT is not supported.")
        if self.parser.get_http_version() not in VERSIONS:
            self._refuse(505, "Use HTTP/1.1.")
        encodings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if encodings and [each.strip().lower() for each in encodings] != [b"chunked"]:
            self._refuse(501, "The only transfer-encoding is 'chunked'.")
        if self.url.startswith(b"/"):
            return
        hosts = [value.lower() for name, value in self.headers if name == b"host"]
        scheme, _, rest = self.url.partition(b"://")
        authority = rest.partition(b"/")[0].partition(b"?")[0].lower()
        if scheme.lower() not in {b"http", b"https"} or hosts != [authority]:
            self._refuse(400, "Send the path of a resource, and its host in the Host header.")

    # Refusals

    def _refuse(self, status: int, message: str) -> None:
        self._refusal = status, message
        raise _Refused

    def _fail(self) -> None:
        """Parse nothing more. Send an error after the responses that are due, and close."""
        self._is_deaf = True
        self.flow.pause_reading()
        if self._phase is Phase.HEAD and self._running and not self.cycle.keep_alive:
            # This is what arrived after a request with `Connection: close`.
            return
        self._refusal = self._refusal or INVALID
        if self._phase is Phase.BODY:
            self._give_up_request()
        elif self._running is None or self._running.response_complete:
            self._send_refusal()

    def _give_up_request(self) -> None:
        """Send an error in place of the response to the request that was being received."""
        if self.pipeline:
            # Its turn has not come. The responses before it are sent first.
            self.pipeline.popleft()
        elif self.cycle.response_started:
            self.transport.close()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._send_refusal()

    def _send_refusal(self) -> None:
        assert self._refusal is not None
        status, message = self._refusal
        CALLER_REFUSALS.labels(INVALID_REQUEST).inc()
        body = error_body(message)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", JSON.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        fields = [b"%b: %b\r\n" % header for header in with_security_headers(headers)]
        self.transport.write(b"".join([STATUS_LINE[status], *fields, b"\r\n", body]))
        self.transport.close()

    # Requests in progress

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            return
        assert self._running is not None
        if self._is_deaf:
            self.flow.pause_reading()
            if self._refusal is not None and self._running.response_complete:
                self._send_refusal()
        elif self._unparsed:
            self.loop.call_soon(self._parse)
        self._watch()

    # Deadlines

    def _watch(self) -> None:
        """Start the deadline of what is awaited now, and stop the earlier one."""
        awaited = self._awaited()
        if awaited == self._deadline_of:
            return
        self._deadline_of = awaited
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        is_receiving = awaited is not None and awaited[0] is Phase.BODY
        self._all.set_receiving(self, is_receiving=is_receiving)
        if awaited is not None:
            limits = self._all.limits
            timeout = limits.body_timeout if is_receiving else limits.head_timeout
            self._deadline = self.loop.call_later(timeout, self._expire)

    def _awaited(self) -> tuple[Phase, int] | None:
        """Return the part of which message the client has to send now."""
        if self._is_deaf or self.pipeline:
            return None
        if self._phase is Phase.HEAD and not self._has_begun and self._running:
            # Between two requests, uvicorn's own timeout of kept connections applies.
            return None
        # A new connection has to send its first request, which has the number 1.
        return self._phase, max(self._messages, 1)

    def _expire(self) -> None:
        if self._phase is Phase.HEAD and self._has_begun:
            self._refusal = 408, "The head of the request did not arrive in time."
            self._fail()
        else:
            self.transport.close()
