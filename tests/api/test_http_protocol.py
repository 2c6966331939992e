"""Connections below HTTP requests, and requests to upgrade the protocol."""

import json
import socket
import time
from collections.abc import Sequence
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest

from campaign_gateway.web.server.server import listen

BODY = b'{"query":"{ __typename }"}'
DATA = {"__typename": "Query"}

# Java's own client and `curl --http2` send these headers.
UPGRADE = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
)
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def post(upgrade: bytes, *, chunked: bool = False) -> bytes:
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(BODY)
    head = b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY
    return head + upgrade + length + b"\r\n\r\n" + body


def exchange(url: str, *requests: Sequence[bytes]) -> list[tuple[int, object]]:
    """Send requests one after another on one connection, each in pieces."""
    address = urlsplit(url)
    responses = []
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        for pieces in requests:
            for piece in pieces:
                connection.sendall(piece)
                # Long enough for the server to read each piece separately.
                time.sleep(0.05)
            with HTTPResponse(connection) as response:
                response.begin()
                body = response.read()
                data = json.loads(body).get("data") if response.status == 200 else body
                responses.append((response.status, data))
    return responses


@pytest.mark.parametrize(
    "upgrade", [UPGRADE, WEBSOCKET, b"Connection: upgrade\r\nUpgrade: other/1\r\n"]
)
@pytest.mark.parametrize("chunked", [False, True])
def test_upgrade_header_is_ignored_and_the_request_is_served(
    sandbox_url: str, upgrade: bytes, *, chunked: bool
) -> None:
    request = post(upgrade, chunked=chunked)
    head = request.index(b"\r\n\r\n") + 4
    for pieces in (
        [request],
        [request[:head], request[head:]],
        [request[:40], request[40 : head + 5], request[head + 5 :]],
    ):
        assert exchange(sandbox_url, pieces) == [(200, DATA)]


def test_connection_stays_usable_after_an_upgrade_header(sandbox_url: str) -> None:
    requests = [[post(UPGRADE)], [post(b"")], [post(UPGRADE, chunked=True)]]
    assert exchange(sandbox_url, *requests) == [(200, DATA)] * 3


def test_connect_method_is_refused(sandbox_url: str) -> None:
    ((status, _),) = exchange(sandbox_url, [b"CONNECT x:80 HTTP/1.1\r\nHost: localhost\r\n\r\n"])
    assert status in {400, 404, 405}


def test_accepted_connection_has_tcp_nodelay() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
