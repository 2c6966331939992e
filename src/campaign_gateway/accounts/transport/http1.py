"""HTTP/1.1 on one connection: writes a request, and reads the response to it."""

import asyncio
import re
import select
import ssl
from collections.abc import Callable
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from campaign_gateway.accounts.transport.errors import MalformedRequest, ResponseLost
from campaign_gateway.connectors.contract import ProviderRequest

# Bytes of a head and the early responses before it, or of anything else between parts of a body.
HEAD_LIMIT = 100 * 1024

CLOSED = "the connection was closed, or the response was not HTTP"

VERSIONS = {"1.0", "1.1"}

# The statuses of responses without a body, besides the early ones.
BODILESS = {204, 304}

DEFAULT_PORTS = {"http": 80, "https": 443}

_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "campaign-gateway"}

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_KEEP_ALIVE = re.compile(rb"(?i)\btimeout *= *(\d{1,9})")
# A field with a line break in it would end the head, or add a field.
_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+: (?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?")


class Origin(NamedTuple):
    """Where a connection leads."""

    scheme: str
    host: str
    port: int


def serialize(request: ProviderRequest) -> tuple[Origin, bytes]:
    """Return where the request is sent, and its bytes. Raises `MalformedRequest`."""
    try:
        parts = urlsplit(request.url)
        origin = Origin(
            parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
        )
    except (ValueError, KeyError) as error:
        raise MalformedRequest("the URL is malformed") from error
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != DEFAULT_PORTS[origin.scheme]:
        host = f"{host}:{origin.port}"
    headers = {"host": host, **_HEADERS}
    for name, value in request.headers.items():
        headers[name.lower()] = value
    if request.body or request.method != "GET":
        headers["content-length"] = str(len(request.body))
    fields = [f"{name}: {value}" for name, value in headers.items()]
    # `urlsplit` drops line breaks, so the URL is checked as it was.
    if not (
        origin.host
        and _VISIBLE.fullmatch(request.url)
        and _VISIBLE.fullmatch(request.method)
        and all(map(_FIELD.fullmatch, fields))
    ):
        raise MalformedRequest("the method, the URL or a header has an invalid character")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = "\r\n".join([f"{request.method} {target} HTTP/1.1", *fields, "\r\n"])
    return origin, head.encode("ascii") + request.body


class Response:
    """One response while it arrives. httptools calls the methods `on_...`.

    `ended` is set when nothing more is read: the response is complete, or `failure` is why it is
    not, or its body is too long or encoded. `status` is None until the head is complete. Early
    responses, those with a status of 100 to 199, are skipped.
    """

    def __init__(self, limit: int, when_head_arrives: Callable[[], None] | None) -> None:
        self.status: int | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.has_begun = False
        self.is_complete = False
        self.can_keep_connection = False
        self.failure: ResponseLost | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._limit = limit
        self._when_head_arrives = when_head_arrives
        self._framings = 0
        self._unparsed = 0
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            # Old servers pad the size.
            lenient_spaces_after_chunk_size=True,
            # RFC 9112: next to chunks, a length is ignored.
            lenient_chunked_length=True,
            # Otherwise the parser would end after an early response with `Connection: close`.
            lenient_keep_alive=True,
        )

    def receive(self, data: bytes) -> None:
        self.has_begun = True
        self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(CLOSED)
        if self._unparsed > HEAD_LIMIT:
            self._fail(CLOSED)

    def receive_end(self, error: Exception | None) -> None:
        """Take note that the connection has ended. Without a length, this completes the body."""
        if error is None and self.status is not None and self._framings == 0:
            self._complete()
        else:
            self._fail(CLOSED if error is None else "the connection failed")

    def on_message_begin(self) -> None:
        # Of another response. The next request would get it.
        self.can_keep_connection = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # After the head, it is a trailer.
        if self.status is None:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.ended.done():
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self.headers.clear()
            return
        self._unparsed = 0
        names = [name for name, _ in self.headers]
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        is_known = self._parser.get_http_version() in VERSIONS and codings in ([], [b"chunked"])
        if status < 200 or not is_known:
            self._fail(CLOSED)
            return
        self.status = status
        self._framings = (b"content-length" in names) + len(codings)
        if self._when_head_arrives is not None:
            self._when_head_arrives()
        if b"content-encoding" in names:
            self._end()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        if not self.ended.done():
            self.body += body
            if len(self.body) > self._limit:
                self._end()

    def on_message_complete(self) -> None:
        if self.status is not None and not self.ended.done():
            has_one_end = self._framings == (self.status not in BODILESS)
            self.can_keep_connection = has_one_end and self._parser.should_keep_alive()
            self._complete()

    def _complete(self) -> None:
        if not self.ended.done():
            self.is_complete = True
            self._end()

    def _fail(self, reason: str) -> None:
        self.can_keep_connection = False
        if not self.ended.done():
            self.failure = ResponseLost(reason)
            self._end()

    def _end(self) -> None:
        self.ended.set_result(None)


class Connection(asyncio.Protocol):
    """One connection. Each request is sent after the response to the one before.

    `is_new` is whether no request was sent on it yet. `announced_seconds` is how long the provider
    keeps it while it is idle, None if the provider did not say.
    """

    def __init__(self) -> None:
        self.is_open = False
        self.is_new = True
        self._response: Response | None = None
        self._early = b""
        self._idle_since = 0.0
        self.announced_seconds: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, but not the base class.
        self.transport = cast("asyncio.Transport", transport)
        self.is_open = True

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Encrypt the open connection. Raises `OSError`."""
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                self.transport, self, context, server_hostname=host
            )
            # Anybody on the way may have sent what arrived before the encryption.
            if encrypted is None or self._early or not self.is_open:
                raise ConnectionError("the connection ended, or had data before TLS")
        except BaseException:
            self.close()
            raise
        self.transport = encrypted

    def send(
        self, request: bytes, limit: int, when_head_arrives: Callable[[], None] | None = None
    ) -> Response:
        """Write a request. The body of the response may have up to `limit` bytes."""
        self._response = response = Response(limit, when_head_arrives)
        self.is_new = False
        if self.is_open:
            self.transport.write(request)
        if self._early:
            response.receive(self._early)
        if not self.is_open:
            response.receive_end(None)
        return response

    def end_exchange(self) -> bool:
        """Return whether it can be kept for another request; otherwise it is closed."""
        response, self._response = self._response, None
        if (
            response is None
            or not response.can_keep_connection
            or not self.is_open
            # The provider has responded before it had the whole request.
            or self.transport.get_write_buffer_size() > 0
        ):
            self.close()
            return False
        self._idle_since = asyncio.get_running_loop().time()
        self.announced_seconds = _announced_seconds(response)
        return True

    @property
    def idle_seconds(self) -> float:
        return asyncio.get_running_loop().time() - self._idle_since

    def is_quiet(self) -> bool:
        """Whether nothing has arrived since the last response, not even the end.

        It asks the system, because the event loop may not have seen it yet.
        """
        if not self.is_open or self.transport.is_closing():
            return False
        arrivals = select.poll()
        arrivals.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not arrivals.poll(0)

    def close(self) -> None:
        self.is_open = False
        # Unlike `close`, it does not wait for the other end to close TLS.
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._response is not None:
            self._response.receive(data)
        elif self.is_new and len(self._early) < HEAD_LIMIT:
            # Some providers refuse a connection with a response before the request.
            self._early += data
        else:
            # It would be taken for the response to the next request.
            self.close()

    def eof_received(self) -> None:
        self.is_open = False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._response is not None:
            self._response.receive_end(error)


def _announced_seconds(response: Response) -> int | None:
    for name, value in response.headers:
        if name == b"keep-alive" and (timeout := _KEEP_ALIVE.search(value)):
            return int(timeout[1])
    return None
