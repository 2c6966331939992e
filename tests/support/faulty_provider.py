"""A provider with Sonarly's API on real sockets. It fails on request, and counts its copies.

The id of the source campaign, `<fault>--<intent>`, selects the fault of a request. The id of the
group, `<list fault>--<anything>`, selects the fault of a list. The copy gets the intent as its
name, so copies are counted by intent. Several idempotency keys may share an intent: the provider
sees no keys, and counts the copies of all of them together.
"""

import asyncio
import gzip
import json
import re
import secrets
import socket
import struct
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from time import monotonic
from typing import Any

from anyio.from_thread import start_blocking_portal

from campaign_gateway.accounts.transport.client import COPY_RESPONSE_LIMIT

API_KEY = "sk_live_faults_3f1c77"
AUDIENCE = "507f1f77bcf86cd799439021"

REQUEST_LINE = re.compile(
    rb"(?P<method>[A-Z]+) /v1/accounts/(?P<group>[\w-]+)/campaigns"
    rb"(?:/(?P<fault>[\w-]+?)--(?P<intent>[\w-]+)/duplicate)? HTTP/1\.1\r\n"
)

# Longer than a gateway under test waits for a response.
HANG_SECONDS = 30.0
# The head of a response then takes longer than the timeout of any drill with this fault.
DRIP_SECONDS = 0.12
# How long a list fails, and how late a copy is listed or made.
LATE_SECONDS = 1.5
# How long a copy that must be the younger one waits for the other.
LAST_SECONDS = 2.0


@dataclass
class Traffic:
    """The requests and copies of one intent. `posts` has the time of each complete head."""

    posts: list[float] = field(default_factory=list)
    whole: int = 0
    copies: dict[str, float] = field(default_factory=dict)
    open: int = 0


@dataclass
class Provider:
    """The state of the provider. Any thread may read it.

    `on_whole` and `on_copy` have callbacks by intent, for a complete request and a new copy.
    `names` has the name of a copy if it is not the intent itself. `turns` has the faults of an
    intent's requests in order of arrival. Further requests have the fault of their URL.
    `hanging_url` accepts connections and never responds.
    """

    url: str = ""
    refusing_url: str = ""
    closing_url: str = ""
    resetting_url: str = ""
    hanging_url: str = ""
    names: dict[str, str] = field(default_factory=dict)
    turns: dict[str, list[str]] = field(default_factory=dict)
    intents: dict[str, Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    groups: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    lists: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    listing: Counter[str] = field(default_factory=Counter)
    most_listing: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    description: str = ""
    on_whole: dict[str, Callable[[], None]] = field(default_factory=dict)
    on_copy: dict[str, Callable[[], None]] = field(default_factory=dict)

    def has_copy(self, intent: str) -> bool:
        return bool(self.intents[intent].copies)

    def is_done_with(self, intent: str) -> bool:
        return self.intents[intent].open == 0

    def add_older_campaign(self, group: str, name: str, age: timedelta) -> None:
        """List a campaign of that name that no gateway requested."""
        campaign = _campaign(name, datetime.now(UTC) - age)
        self.groups[group].append(campaign | {"_listed_at": 0.0})


def _campaign(name: str, made_at: datetime) -> dict[str, Any]:
    instant = made_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "id": secrets.token_hex(12),
        "name": name,
        "description": "",
        "status": "draft",
        "selectedLeadCount": 2,
        "createdAt": instant,
        "updatedAt": instant,
        "startedAt": None,
    }


def _nothing() -> None: ...


@dataclass
class CopyRequest:
    """One request for a copy, and how far its handling has come."""

    provider: Provider
    socket: socket.socket
    group: str
    intent: str
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.provider.names.get(self.intent, self.intent)

    async def read(self) -> None:
        """Read the whole request. Raises `ConnectionError` if its sender closes earlier."""
        head, body = await _read_whole(self.socket)
        self.provider.intents[self.intent].whole += 1
        if complaint := _complaint(head, body, self.name):
            self.provider.complaints.append(complaint)
        self.provider.on_whole.pop(self.intent, _nothing)()

    def copy(self, *, listed_after: float = 0) -> None:
        described = {"description": self.provider.description}
        self.content = _campaign(self.name, datetime.now(UTC)) | described
        self.provider.intents[self.intent].copies[self.content["id"]] = monotonic()
        listed = self.content | {"_listed_at": monotonic() + listed_after}
        self.provider.groups[self.group].append(listed)
        self.provider.on_copy.pop(self.intent, _nothing)()

    async def send(self, what: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, what)

    async def wait_until_closed(self, seconds: float) -> None:
        """Wait until the other side closes, or the time is over."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                while await asyncio.get_running_loop().sock_recv(self.socket, 65536):
                    pass


Ending = Callable[[CopyRequest], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """How a request for a copy ends, and how many copies it makes.

    `first` is the status that the gateway can know from the response, `last` the status that it can
    know after a search. `act` handles the request, from reading it on.
    """

    act: Ending
    first: str
    last: str
    copies: int = 0


# --- responses ------------------------------------------------------------------------------------


def _response(status: int, body: bytes, headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


def _success(data: Mapping[str, Any]) -> bytes:
    return json.dumps({"success": True, "data": data, "error": None, "traceId": "t1"}).encode()


def _error(status: int) -> bytes:
    error = {"code": f"CODE_{status}", "message": "No.", "details": None}
    return json.dumps({"success": False, "data": None, "error": error, "traceId": "t1"}).encode()


# --- how a request ends ---------------------------------------------------------------------------


async def _close(request: CopyRequest) -> None:
    """Do nothing more: the connection is closed with FIN after every request."""


async def _reset(request: CopyRequest) -> None:
    _make_resetting(request.socket)


async def _hang(request: CopyRequest) -> None:
    await request.wait_until_closed(HANG_SECONDS)


def _sending(raw: bytes) -> Ending:
    async def send(request: CopyRequest) -> None:
        await request.send(raw)

    return send


def _status(number: int) -> Ending:
    return _sending(_response(number, _error(number)))


async def _respond(request: CopyRequest) -> None:
    await request.send(_response(201, _success(request.content)))


async def _respond_after_hints(request: CopyRequest) -> None:
    await request.send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
    await _respond(request)


async def _respond_cut_short(request: CopyRequest) -> None:
    await request.send(_response(201, _success(request.content))[:-40])


async def _respond_in_bad_chunks(request: CopyRequest) -> None:
    head = b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n"
    await request.send(head + b'8\r\n{"succes\r\nnot-a-number\r\n')


async def _drip(request: CopyRequest, whole: bytes, at_once: int) -> None:
    await request.send(whole[:at_once])
    for byte in whole[at_once:]:
        await request.send(bytes([byte]))
        await asyncio.sleep(DRIP_SECONDS)


async def _drip_all(request: CopyRequest) -> None:
    await _drip(request, _response(201, _success(request.content)), 0)


async def _drip_body(request: CopyRequest) -> None:
    whole = _response(201, _success(request.content))
    await _drip(request, whole, whole.index(b"\r\n\r\n") + 4)


async def _respond_hugely(request: CopyRequest) -> None:
    await request.send(
        _response(201, _success(request.content | {"description": "x" * COPY_RESPONSE_LIMIT}))
    )


async def _respond_in_gzip(request: CopyRequest) -> None:
    body = gzip.compress(_success(request.content))
    await request.send(_response(201, body, "content-encoding: gzip\r\n"))


async def _respond_without_id(request: CopyRequest) -> None:
    nameless = {name: value for name, value in request.content.items() if name != "id"}
    await request.send(_response(201, _success(nameless)))


async def _redirect(request: CopyRequest, status: int) -> None:
    # A client that follows it makes another copy.
    location = f"/v1/accounts/{request.group}/campaigns/none--{request.intent}/duplicate"
    await request.send(_response(status, b"", f"location: {location}\r\n"))


def _redirecting(status: int) -> Ending:
    return lambda request: _redirect(request, status)


async def _hold(request: CopyRequest) -> None:
    while not request.provider.released.is_set():
        await asyncio.sleep(0.01)


# --- whole faults ---------------------------------------------------------------------------------


def _without_copy(end: Ending) -> Ending:
    async def act(request: CopyRequest) -> None:
        await request.read()
        await end(request)

    return act


def _after_copy(end: Ending) -> Ending:
    async def act(request: CopyRequest) -> None:
        await request.read()
        request.copy()
        await end(request)

    return act


async def _close_unread(request: CopyRequest) -> None:
    request.socket.shutdown(socket.SHUT_WR)
    # A socket that is closed with something unread sends RST, which would overtake the FIN.
    await asyncio.sleep(0.1)


async def _close_after_head(request: CopyRequest) -> None:
    head = request.socket.recv(65536, socket.MSG_PEEK).partition(b"\r\n\r\n")[0]
    request.socket.recv(len(head) + 4)
    await _close_unread(request)


async def _copy_late(request: CopyRequest) -> None:
    await request.read()
    request.socket.close()
    await asyncio.sleep(LATE_SECONDS)
    request.copy()


async def _list_late(request: CopyRequest) -> None:
    await request.read()
    request.copy(listed_after=LATE_SECONDS)


async def _hold_and_copy(request: CopyRequest) -> None:
    await request.read()
    await _hold(request)
    request.copy()
    await _respond(request)


async def _copy_and_hold(request: CopyRequest) -> None:
    await request.read()
    request.copy()
    await _hold(request)
    await _respond(request)


async def _copy_last(request: CopyRequest) -> None:
    await request.read()
    copies = request.provider.intents[request.intent].copies
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_SECONDS):
            while not copies:
                await asyncio.sleep(0.01)
    request.copy()
    await _respond(request)


async def _respond_slowly(request: CopyRequest) -> None:
    await request.read()
    request.copy()
    await asyncio.sleep(0.3)
    await _respond(request)


# After these, the gateway cannot know whether a copy was made.
UNCERTAIN_ENDINGS: Mapping[str, Ending] = {
    "fin": _close,
    "rst": _reset,
    "hang": _hang,
    "half-a-status-line": _sending(b"HTTP/1.1 20"),
    "garbage": _sending(b"\x15\x03\x01\x00\x02\x02\x0a not HTTP\r\n\r\n"),
    "only-100": _sending(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "only-103": _sending(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"),
    **{f"status-{number}": _status(number) for number in (408, 500, 502, 503, 504)},
    # The provider documents none of these, so they do not mean success.
    "status-202": _sending(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}"),
    "status-204": _sending(b"HTTP/1.1 204 No Content\r\n\r\n"),
}
# These mean success, and the id of the copy cannot be read.
UNREADABLE_SUCCESSES: Mapping[str, Ending] = {
    "body-cut-short": _respond_cut_short,
    "body-in-bad-chunks": _respond_in_bad_chunks,
    "body-dripping": _drip_body,
    "body-huge": _respond_hugely,
    "body-in-gzip": _respond_in_gzip,
    "body-without-id": _respond_without_id,
    "body-no-json": _sending(b'HTTP/1.1 201 Created\r\ncontent-length: 9\r\n\r\n{"data": '),
    "body-other-json": _sending(b"HTTP/1.1 201 Created\r\ncontent-length: 6\r\n\r\n[1, 2]"),
}
REFUSALS = (400, 401, 403, 404, 409, 422, 429)
REDIRECTS = (301, 302, 307, 308)

FAULTS: dict[str, Fault] = {
    **{
        f"{name}-before-copy": Fault(_without_copy(end), "UNKNOWN", "UNKNOWN")
        for name, end in UNCERTAIN_ENDINGS.items()
    },
    **{
        f"{name}-after-copy": Fault(_after_copy(end), "UNKNOWN", "CREATED", 1)
        for name, end in UNCERTAIN_ENDINGS.items()
    },
    **{
        name: Fault(_after_copy(end), "ACCEPTED", "CREATED", 1)
        for name, end in UNREADABLE_SUCCESSES.items()
    },
    **{
        f"refusal-{number}": Fault(_without_copy(_status(number)), "REJECTED", "REJECTED")
        for number in REFUSALS
    },
    **{
        f"redirect-{number}": Fault(_without_copy(_redirecting(number)), "UNKNOWN", "UNKNOWN")
        for number in REDIRECTS
    },
    "fin-unread": Fault(_close_unread, "UNKNOWN", "UNKNOWN"),
    "rst-unread": Fault(_reset, "UNKNOWN", "UNKNOWN"),
    "fin-after-head": Fault(_close_after_head, "UNKNOWN", "UNKNOWN"),
    "response-dripping": Fault(_after_copy(_drip_all), "UNKNOWN", "CREATED", 1),
    "response-after-hints": Fault(_after_copy(_respond_after_hints), "CREATED", "CREATED", 1),
    "copied-late": Fault(_copy_late, "UNKNOWN", "CREATED", 1),
    "listed-late": Fault(_list_late, "UNKNOWN", "CREATED", 1),
}
# These are no faults. Kills and outages are timed by them.
PLAIN: dict[str, Fault] = {
    "none": Fault(_after_copy(_respond), "CREATED", "CREATED", 1),
    "slow": Fault(_respond_slowly, "CREATED", "CREATED", 1),
    "copied-last": Fault(_copy_last, "CREATED", "CREATED", 1),
    "held-before-copy": Fault(_hold_and_copy, "CREATED", "CREATED", 1),
    "held-after-copy": Fault(_copy_and_hold, "CREATED", "CREATED", 1),
}
# How the lists of a group fail at first.
LIST_FAULTS = ("list-500", "list-cut", "list-garbage", "list-hang")


# --- the server -----------------------------------------------------------------------------------


@contextmanager
def faulty_provider() -> Iterator[Provider]:
    """Run the provider in a thread of its own, so that it is independent of the test's loop."""
    provider = Provider()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_serving(provider)),
    ):
        yield provider


@asynccontextmanager
async def _serving(provider: Provider) -> AsyncIterator[None]:
    async def close(connection: socket.socket) -> None:
        connection.close()

    async def reset(connection: socket.socket) -> None:
        _make_resetting(connection)
        connection.close()

    async def hang(connection: socket.socket) -> None:
        while await asyncio.get_running_loop().sock_recv(connection, 65536):
            pass

    async def handle(connection: socket.socket) -> None:
        await _handle(provider, connection)

    with ExitStack() as sockets:
        endings = (handle, close, reset, hang)
        listeners = {end: sockets.enter_context(_listener()) for end in endings}
        # The port is taken, and no process listens on it.
        deaf = sockets.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        (
            provider.url,
            provider.closing_url,
            provider.resetting_url,
            provider.hanging_url,
        ) = map(_url_of, listeners.values())
        provider.refusing_url = _url_of(deaf)
        async with asyncio.TaskGroup() as tasks:
            serving = [
                tasks.create_task(_accept(listener, url)) for url, listener in listeners.items()
            ]
            yield
            for task in serving:
                task.cancel()


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    listener.setblocking(False)
    return listener


def _url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def _accept(
    listener: socket.socket, handle: Callable[[socket.socket], Awaitable[None]]
) -> None:
    async with asyncio.TaskGroup() as tasks:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            tasks.create_task(_to_its_end(handle, connection))


async def _to_its_end(
    handle: Callable[[socket.socket], Awaitable[None]], connection: socket.socket
) -> None:
    with connection, suppress(ConnectionError):
        await handle(connection)


async def _handle(provider: Provider, connection: socket.socket) -> None:
    head = await _peek(connection)
    if head.startswith(b"GET /v1/accounts HTTP/1.1\r\n"):
        # A gateway checks its accounts. It gets no response.
        return
    match = REQUEST_LINE.match(head)
    if match is None:
        provider.complaints.append(f"no request for a campaign: {head!r}")
        return
    group = match["group"].decode()
    if match["intent"] is None:
        await _list(provider, connection, group)
        return
    fault, intent = match["fault"].decode(), match["intent"].decode()
    seen = provider.intents[intent]
    seen.posts.append(monotonic())
    seen.open += 1
    try:
        if turns := provider.turns.get(intent):
            fault = turns.pop(0)
        request = CopyRequest(provider, connection, group, intent)
        await (PLAIN | FAULTS)[fault].act(request)
    finally:
        seen.open -= 1


async def _list(provider: Provider, connection: socket.socket, group: str) -> None:
    asked = provider.lists[group]
    asked.append(monotonic())
    provider.listing[group] += 1
    provider.most_listing[group] = max(provider.most_listing[group], provider.listing[group])
    try:
        await _read_whole(connection)
        fault = group.partition("--")[0] if monotonic() - asked[0] < LATE_SECONDS else ""
        request = CopyRequest(provider, connection, group, "")
        await request.send(_listed(provider, group, fault))
        if fault == "list-hang":
            await _hang(request)
    finally:
        provider.listing[group] -= 1


def _listed(provider: Provider, group: str, fault: str) -> bytes:
    items = [
        {name: value for name, value in campaign.items() if name != "_listed_at"}
        for campaign in provider.groups[group]
        if campaign["_listed_at"] <= monotonic()
    ]
    date = format_datetime(datetime.now(UTC), usegmt=True)
    whole = _response(200, _success({"items": items}), f"date: {date}\r\n")
    match fault:
        case "list-500":
            return _response(500, _error(500))
        case "list-cut":
            return whole[:-20]
        case "list-garbage":
            return b"garbage\r\n\r\n"
        case "list-hang":
            return b""
    return whole


async def _peek(connection: socket.socket) -> bytes:
    """Return the head of a request without taking it from the socket."""
    loop = asyncio.get_running_loop()
    head = b""
    while b"\r\n\r\n" not in head:
        readable = asyncio.Event()
        loop.add_reader(connection, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(connection)
        longer = connection.recv(65536, socket.MSG_PEEK)
        if longer == head:
            await asyncio.sleep(0.001)
        if not longer:
            raise ConnectionAbortedError("closed before the head")
        head = longer
    return head


async def _read_whole(connection: socket.socket) -> tuple[bytes, bytes]:
    loop = asyncio.get_running_loop()
    read = b""
    while True:
        head, end, body = read.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if end and len(body) >= int(length[1] if length else 0):
            return head, body
        more = await loop.sock_recv(connection, 65536)
        if not more:
            raise ConnectionAbortedError("closed before the end of the request")
        read += more


def _complaint(head: bytes, body: bytes, name: str) -> str | None:
    """Return what is wrong with the request. It is not refused, so that copies are counted."""
    if not head.startswith(b"POST "):
        return f"not a POST: {head!r}"
    if f"\r\nauthorization: bearer {API_KEY}" not in head.decode().lower():
        return "no key"
    if b"\r\ncontent-type: application/json" not in head.lower():
        return "not JSON"
    if json.loads(body) != {"name": name, "audienceId": AUDIENCE}:
        return f"another body: {body!r}"
    return None


def _make_resetting(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
