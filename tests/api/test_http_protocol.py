"""What lies below HTTP's requests: connections, and offers to speak something else."""

import socket
import time
from collections.abc import Sequence
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest

from campaign_gateway.server.server import listen

BODY = b'{"query":"{ __typename }"}'
ANSWER = b'{"data":{"__typename":"Query"}}'

# As Java's own client and `curl --http2` do it.
OFFER = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
)
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def post(offer: bytes, *, chunked: bool = False) -> bytes:
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(BODY)
    head = b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY
    return head + offer + length + b"\r\n\r\n" + body


def exchange(url: str, *requests: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """One after the other on one connection, each in pieces."""
    address = urlsplit(url)
    found = []
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        for pieces in requests:
            for piece in pieces:
                connection.sendall(piece)
                # Long enough for each to be read by itself.
                time.sleep(0.05)
            with HTTPResponse(connection) as response:
                response.begin()
                found.append((response.status, response.read()))
    return found


@pytest.mark.parametrize(
    "offer", [OFFER, WEBSOCKET, b"Connection: upgrade\r\nUpgrade: other/1\r\n"]
)
@pytest.mark.parametrize("chunked", [False, True])
def test_an_offer_to_upgrade_is_declined_and_the_request_answered(
    sandbox_url: str, offer: bytes, *, chunked: bool
) -> None:
    request = post(offer, chunked=chunked)
    head = request.index(b"\r\n\r\n") + 4
    for pieces in (
        [request],
        [request[:head], request[head:]],
        [request[:40], request[40 : head + 5], request[head + 5 :]],
    ):
        assert exchange(sandbox_url, pieces) == [(200, ANSWER)]


def test_a_connection_serves_on_after_an_offer(sandbox_url: str) -> None:
    requests = [[post(OFFER)], [post(b"")], [post(OFFER, chunked=True)]]
    assert exchange(sandbox_url, *requests) == [(200, ANSWER)] * 3


def test_a_tunnel_is_not_opened(sandbox_url: str) -> None:
    ((status, _),) = exchange(sandbox_url, [b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert status in {400, 404, 405}


def test_the_end_of_an_answer_does_not_wait_for_word_of_its_beginning() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
