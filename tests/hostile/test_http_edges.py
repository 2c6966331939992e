"""HTTP/1.1 at its edges: sizes, pipelines, upgrades, and what RFC 9112 leaves to the server."""

import json
import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest

from campaign_gateway.web.server.connection import DISCARD_LIMIT, FIELD_LIMIT, HEAD_LIMIT
from campaign_gateway.web.server.limits import ConnectionLimits
from support.correlated import without_id
from support.raw_http import ANSWER, QUERY, connect, exchange, head, post, receive, responses_to
from support.served import Served, served

HOST = b"Host: localhost"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"


def get(target: bytes, *fields: bytes) -> bytes:
    return head(HOST, *fields, target=target, method=b"GET")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(ConnectionLimits()) as running:
        yield running


# Sizes


def sized(length: int) -> bytes:
    """A request with a head of so many bytes by the count of the server."""
    counted = len(b"/small") + len(b"host: localhost\r\n") + len(b"x: \r\n")
    return get(b"/small", b"X: " + b"x" * (length - counted))


def test_head_has_up_to_32_kibibytes(server: Served) -> None:
    assert exchange(server.url, sized(HEAD_LIMIT)).status == 200
    refused = exchange(server.url, sized(HEAD_LIMIT + 1))
    assert refused.status == 431
    assert str(HEAD_LIMIT) in refused.message
    assert refused.headers["connection"] == "close"
    assert exchange(server.url, get(b"/" + b"x" * HEAD_LIMIT)).status == 431


def test_head_has_up_to_100_fields(server: Served) -> None:
    fields = [b"X-%d: x" % number for number in range(FIELD_LIMIT)]
    assert exchange(server.url, get(b"/small", *fields[:-1])).status == 200
    assert exchange(server.url, get(b"/small", *fields)).status == 431


# What the kernels of both ends may hold besides.
MOST = 20 * 1024 * 1024


def sent_until_closed(connection: socket.socket, piece: bytes) -> int:
    """Send a piece again and again, and return how many bytes were sent until it failed."""
    sent = 0
    with suppress(ConnectionError):
        while sent < 10 * MOST:
            connection.sendall(piece)
            sent += len(piece)
    return sent


ENDLESS = {
    "fields": b"x: y\r\n" * 1000,
    "one field": b"y" * 8192,
    "spaces before a value": b" " * 8192,
    "names": b"n" * 8192,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_head_is_refused_while_it_arrives(server: Served, name: str) -> None:
    start = {"one field": b"X: y", "spaces before a value": b"X:"}.get(name, b"")
    with connect(server.url) as connection:
        connection.sendall(get(b"/small")[:-2] + start)
        assert sent_until_closed(connection, ENDLESS[name]) < MOST


@pytest.mark.parametrize(
    "start",
    [b"\r\n" * 50_000, b"GET /" + b"x" * 100_000, b"X" * 100_000],
    ids=["lines", "url", "method"],
)
def test_endless_start_is_refused(server: Served, start: bytes) -> None:
    (refused,) = responses_to(server.url, start)
    assert refused.status in {400, 431}


def chunked(*pieces: bytes, target: bytes = b"/body") -> bytes:
    fields = head(HOST, b"Transfer-Encoding: chunked", target=target)
    return fields + b"".join(pieces)


def test_trailers_are_refused(server: Served) -> None:
    assert exchange(server.url, chunked(b"1\r\nx\r\n0\r\n\r\n")).body == b"1"
    refused = exchange(server.url, chunked(b"1\r\nx\r\n0\r\nX: y\r\n\r\n"))
    assert refused.status == 400
    assert "Trailers" in refused.message
    endless = chunked(b"1\r\nx\r\n0\r\n", b"X: y\r\n" * 100_000)
    assert [each.status for each in responses_to(server.url, endless)] == [400]


def test_endless_extension_of_a_chunk_is_refused(server: Served) -> None:
    (refused,) = responses_to(server.url, chunked(b"1;x=" + b"y" * 200_000))
    assert refused.status == 400


def test_body_that_nobody_wants_is_not_read_for_ever(server: Served) -> None:
    with connect(server.url) as connection:
        connection.sendall(head(HOST, b"Content-Length: 1000000000", target=b"/small"))
        assert sent_until_closed(connection, b"x" * 65536) < DISCARD_LIMIT + MOST


# Pipelines


def test_pipelined_requests_are_answered_in_order(server: Served) -> None:
    sent = b"".join(get(b"/small", b"X: %d" % number) for number in range(500))
    last = get(b"/nowhere", b"Connection: close")
    responses = responses_to(server.url, sent, last)
    assert [each.status for each in responses] == [200] * 500 + [404]


@pytest.mark.parametrize("length", [1, 7, 511, 512, 513, 100_000])
def test_pipelined_bodies_arrive_whole_in_any_pieces(server: Served, length: int) -> None:
    bodies = [b"x" * size for size in (0, 1, 600, 5000, 70_000, 3)]
    requests = [
        head(HOST, b"Content-Length: %d" % len(each), target=b"/body") + each for each in bodies
    ]
    requests += [chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(each), each)) for each in bodies if each]
    sent = b"".join([*requests, get(b"/small", b"Connection: close")])
    # Tiny pieces of the first kilobytes cut every kind of element.
    cut = len(sent) if length > 500 else 3000
    pieces = [sent[start : min(start + length, cut)] for start in range(0, cut, length)]
    responses = responses_to(server.url, *pieces, sent[cut:])
    sizes = [str(len(each)) for each in bodies] + [str(len(each)) for each in bodies if each]
    assert [each.body.decode() for each in responses] == [*sizes, "small"]


def test_few_requests_wait_in_a_connection(server: Served) -> None:
    """Each of them takes kilobytes, and a client could send thousands of them."""
    before = server.started
    with connect(server.url) as connection, connection.makefile("rb") as stream:
        connection.sendall(get(b"/hold") + get(b"/small") * 5000)
        other = exchange(server.url, get(b"/small"))
        assert other.status == 200
        # The one that is held, and the one of the other connection.
        assert server.started == before + 2
        assert max(len(each.pipeline) for each in server.connections) < 30
        server.released.set()
        statuses = [receive(stream).status for _ in range(5001)]
    server.released.clear()
    assert statuses == [200] * 5001


@pytest.mark.parametrize(
    "garbage", [b"garbage\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01"]
)
def test_response_comes_before_the_error_about_what_followed(
    sandbox_url: str, garbage: bytes
) -> None:
    query = """mutation { duplicateCampaign(idempotencyKey: "KEY", input: { sonarly: {
      accountGroupId: "507f1f77bcf86cd799439001", audienceId: "507f1f77bcf86cd799439021",
      campaignId: "507f1f77bcf86cd799439011" } }) { status } }"""
    body = json.dumps({"query": query.replace("KEY", str(uuid.uuid4()))}).encode()
    made, refused = responses_to(sandbox_url, post(body), garbage)
    assert without_id(made) == {"data": {"duplicateCampaign": {"status": "CREATED"}}}
    assert refused.status in {400, 505}
    assert refused.headers["connection"] == "close"


def test_nothing_after_a_closing_request_is_executed(server: Served) -> None:
    before = server.started
    close = get(b"/small", b"Connection: close")
    for more in (get(b"/small") * 3, b"garbage\r\n\r\n", b""):
        assert [each.status for each in responses_to(server.url, close, more)] == [200]
    assert server.started == before + 3


def test_chunk_that_is_garbage_ends_only_its_own_request(server: Served) -> None:
    responses = responses_to(server.url, get(b"/small"), chunked(b"1\r\nx\r\nnonsense\r\n"))
    assert [each.status for each in responses] == [200, 400]


# Upgrades


def test_offers_to_upgrade_are_handled_one_at_a_time(server: Served) -> None:
    offer = head(HOST, UPGRADE, b"Content-Length: 3", target=b"/body") + b"abc"
    last = get(b"/small", UPGRADE.replace(b"Upgrade,", b"close, Upgrade,", 1))
    responses = responses_to(server.url, offer * 4100, last, get(b"/small") * 10)
    assert [each.body for each in responses] == [b"3"] * 4100 + [b"small"]


def test_offer_to_upgrade_of_an_older_client_is_handled_as_its_version(server: Served) -> None:
    """Such a client waits until the server closes."""
    offer = get(b"/small", UPGRADE).replace(b"HTTP/1.1", b"HTTP/1.0")
    responses = responses_to(server.url, offer, get(b"/small"))
    assert [each.body for each in responses] == [b"small"]


# RFC 9112


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /small HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"GET /small HTTP/1.2\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /small HTTP/0.9\r\nHost: localhost\r\n\r\n", 505),
        (b"GET /small\r\n\r\n", 505),
        (head(HOST, UPGRADE).replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
        (head(HOST, UPGRADE).replace(b"HTTP/1.1", b"HTTP/0.9"), 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (head(HOST, b"Transfer-Encoding: gzip, chunked", target=b"/body"), 501),
        (head(HOST, b"Transfer-Encoding: chunked, chunked", target=b"/body"), 400),
        (head(HOST, b"Transfer-Encoding: identity", target=b"/body"), 501),
        (head(HOST, b"Content-Length: 1", b"Content-Length: 2", target=b"/body"), 400),
        (head(HOST, b"Content-Length: 1", b"Transfer-Encoding: chunked", target=b"/body"), 400),
        (head(HOST, b"Content-Length: +1", target=b"/body"), 400),
        (head(HOST, b"X : y", target=b"/body"), 400),
        (b"GET /small HTTP/1.1\nHost: localhost\n\n", 400),
        (get(b"http://localhost/small"), 200),
        (get(b"HTTP://LOCALHOST/small"), 200),
        (get(b"http://evil.example/small"), 400),
        (get(b"http://evil.example@localhost/small"), 400),
        (get(b"ftp://localhost/small"), 400),
        (get(b"small"), 400),
        (head(HOST, target=b"*", method=b"OPTIONS"), 400),
        (head(b"Host: x:80", target=b"x:80", method=b"CONNECT"), 400),
        (head(HOST, target=b"/small", method=b"CONNECT"), 400),
        (head(HOST, target=b"http://localhost/small", method=b"CONNECT"), 400),
    ],
)
def test_request_at_the_edge_of_the_rules(server: Served, request_: bytes, status: int) -> None:
    responses = responses_to(server.url, request_, get(b"/small", b"Connection: close"))
    assert responses[0].status == status
    if status != 200:
        assert len(responses) == 1
        assert responses[0].headers["connection"] == "close"


def test_query_works_after_all_that(sandbox_url: str) -> None:
    assert without_id(exchange(sandbox_url, post(QUERY))) == ANSWER
