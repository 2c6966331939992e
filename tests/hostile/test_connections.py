"""Clients that are slow or do not go away, and more connections than there can be."""

import errno
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import NoReturn

import httpx
import pytest

from campaign_gateway.app import create_app
from campaign_gateway.settings import parse_settings
from campaign_gateway.web.server.connections import Connections
from campaign_gateway.web.server.entrance import Entrance
from campaign_gateway.web.server.limits import ConnectionLimits
from support.raw_http import Received, connect, exchange, head, is_closed, receive
from support.served import LARGE, Served, served

HOST = b"Host: localhost"
SMALL = head(HOST, target=b"/small", method=b"GET")
HOLD = head(HOST, target=b"/hold", method=b"GET")
READY = head(HOST, target=b"/readyz", method=b"GET")
PART = head(HOST, b"Content-Length: 1000", target=b"/body") + b"x"

# In place of 10, 32 and 30 seconds.
SHORT = ConnectionLimits(head_timeout=0.5, body_timeout=0.6, write_timeout=0.7)

# Longer than any of these times, also on a busy machine.
PATIENCE = 20


@contextmanager
def opened(url: str, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(url)) for _ in range(count)]
        for connection in connections:
            connection.sendall(sent)
        yield connections


def until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


@pytest.fixture(scope="module")
def short() -> Iterator[Served]:
    with served(SHORT) as running:
        yield running


# Deadlines


def test_connection_that_sends_nothing_is_closed(short: Served) -> None:
    with opened(short.url, 30) as silent:
        assert exchange(short.url, SMALL).body == b"small"
        assert all(is_closed(each, PATIENCE) for each in silent)


def drip(connection: socket.socket) -> None:
    """Send a byte now and then, until the peer closes."""
    with suppress(OSError):
        for _ in range(10 * PATIENCE):
            connection.sendall(b"x")
            time.sleep(0.1)


@pytest.mark.parametrize("start", [b"GET /", PART], ids=["head", "body"])
def test_dripping_request_is_ended(short: Served, start: bytes) -> None:
    with opened(short.url, 20, start) as dripping:
        threads = [Thread(target=drip, args=[each]) for each in dripping]
        for thread in threads:
            thread.start()
        assert exchange(short.url, SMALL).body == b"small"
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_head_that_is_late_gets_408(short: Served) -> None:
    late = exchange(short.url, b"GET / HTTP/1.1\r\nHost")
    assert late.status == 408
    assert late.headers["connection"] == "close"
    with connect(short.url) as connection, connection.makefile("rb") as stream:
        # The deadline of a second request begins with its first byte.
        connection.sendall(SMALL)
        assert receive(stream).status == 200
        connection.sendall(b"GET /")
        assert receive(stream).status == 408


def test_time_of_the_app_does_not_count(short: Served) -> None:
    with connect(short.url) as connection, connection.makefile("rb") as stream:
        connection.sendall(HOLD)
        time.sleep(2 * SHORT.body_timeout)
        short.released.set()
        assert receive(stream).body == b"held"
    short.released.clear()


def test_response_that_is_not_read_is_ended(short: Served) -> None:
    before = short.started
    until(lambda: not short.connections)
    large = head(HOST, target=b"/large", method=b"GET")
    with opened(short.url, 10, large * 50):
        until(lambda: short.started > before)
        assert exchange(short.url, SMALL).body == b"small"
        until(lambda: not short.connections)
    # The kernel took some megabytes for each connection. The rest was not even made.
    assert short.started < before + 10 * 25


def test_client_that_reads_slowly_but_in_time_gets_everything(short: Served) -> None:
    with connect(short.url) as slow, slow.makefile("rb") as stream:
        slow.sendall(head(HOST, target=b"/large", method=b"GET") * 20)
        for _ in range(20):
            time.sleep(0.02)
            assert receive(stream).body == LARGE


# Too many


@contextmanager
def limited(**limits: int) -> Iterator[Served]:
    with served(replace(ConnectionLimits(), **limits)) as running:
        yield running


def answer(connection: socket.socket) -> Received:
    with connection.makefile("rb") as stream:
        return receive(stream)


def test_oldest_idle_connection_makes_room_for_a_new_one() -> None:
    with (
        limited(connections=10, connections_by_address=10) as server,
        opened(server.url, 5) as silent,
        opened(server.url, 3, SMALL) as kept,
        opened(server.url, 2, HOLD) as held,
    ):
        until(lambda: server.started == 5)
        # First those that have sent nothing, from the oldest on.
        assert exchange(server.url, SMALL).status == 200
        assert is_closed(silent[0], PATIENCE)
        assert not is_closed(silent[-1], 0.1)
        with opened(server.url, 6, SMALL) as others:
            assert all(is_closed(each, PATIENCE) for each in silent)
            assert answer(others[-1]).status == 200
        assert answer(kept[-1]).status == 200
        server.released.set()
        assert [answer(each).body for each in held] == [b"held"] * 2


def test_address_with_too_many_requests_in_progress_is_refused_and_others_are_not() -> None:
    with limited(connections_by_address=4) as server, opened(server.url, 4, HOLD) as held:
        until(lambda: server.started == 4)
        with connect(server.url) as fifth:
            assert is_closed(fifth, PATIENCE)
        port = int(server.url.rpartition(":")[2])
        elsewhere = socket.create_connection(
            ("127.0.0.1", port), PATIENCE, source_address=("127.0.0.2", 0)
        )
        with elsewhere, elsewhere.makefile("rb") as stream:
            elsewhere.sendall(SMALL)
            assert receive(stream).body == b"small"
        server.released.set()
        assert answer(held[0]).body == b"held"


def test_accepting_pauses_while_all_connections_are_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        limited(connections=4, connections_by_address=4) as server,
        connect(server.url) as probe,
        probe.makefile("rb") as answers,
        opened(server.url, 3, HOLD) as held,
    ):
        until(lambda: server.started == 3)
        probe.sendall(READY)
        assert receive(answers).status == 200
        # The connection asks whether the gateway is ready while it is not idle: if it is, it may be
        # closed for one of those that wait.
        probe.sendall(HOLD + READY)
        until(lambda: server.started == 4)
        with opened(server.url, 20, SMALL):
            until(lambda: "no connection can be accepted" in caplog.text)
            time.sleep(1)
            # Those that it has are still served.
            server.released.set()
            assert [answer(each).body for each in held] == [b"held"] * 3
            assert receive(answers).body == b"held"
            assert receive(answers).status == 503
        assert exchange(server.url, SMALL).body == b"small"
    assert caplog.text.count("no connection can be accepted") == 1
    assert caplog.records[0].levelno == logging.ERROR


def test_gateway_goes_on_while_its_descriptors_have_run_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = 0

    def fail(_listener: socket.socket) -> NoReturn:
        nonlocal failures
        failures += 1
        raise OSError(errno.EMFILE, "Too many open files")

    with (
        limited() as server,
        connect(server.url) as probe,
        probe.makefile("rb") as answers,
        connect(server.url) as silent,
    ):
        probe.sendall(HOLD)
        until(lambda: server.started == 1)
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "accept", fail)
            with connect(server.url) as waiting, waiting.makefile("rb") as stream:
                waiting.sendall(READY)
                until(lambda: failures > 2)
                # It pauses between two tries, and drops what is idle.
                assert failures < 50
                assert is_closed(silent, PATIENCE)
                server.released.set()
                assert receive(answers).body == b"held"
                patched.undo()
                assert receive(stream).status == 503
        assert exchange(server.url, SMALL).body == b"small"
    assert caplog.text.count("Too many open files") == 1


async def test_readyz_reports_a_shortage_of_connections(tmp_path: Path) -> None:
    account = {"provider": "sonarly", "api_key": "key"}
    ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
    app = await create_app(parse_settings({"ledger": ledger, "accounts": {"a": account}}, {}))
    connections = Connections(ConnectionLimits())
    transport = httpx.ASGITransport(Entrance(app, [], connections))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/readyz")).status_code == 200
        connections.report_shortage("too many open files")
        refused = await client.get("/readyz")
        assert (refused.status_code, refused.text) == (
            503,
            "no further connection can be accepted now\n",
        )
        assert (await client.get("/healthz")).status_code == 200
    await app.state.gateway.close()


def test_oldest_of_too_many_bodies_is_given_up() -> None:
    with limited(receiving=5) as server, opened(server.url, 6, PART) as dripping:
        assert is_closed(dripping[0], PATIENCE)
        assert not is_closed(dripping[-1], 0.1)
        assert exchange(server.url, SMALL).body == b"small"


class Fake:
    def __init__(self, rank: int | None) -> None:
        self.rank = rank
        self.is_dropped = False

    def drop(self) -> None:
        self.is_dropped = True


def test_unread_bytes_are_limited_over_all_connections() -> None:
    connections = Connections(ConnectionLimits(unread_bytes=100))
    first, second, third = (Fake(None) for _ in range(3))
    for each in (first, second, third):
        connections.add(each, "127.0.0.1")
    connections.set_unread(first, 40)
    connections.set_unread(second, 40)
    connections.set_unread(first, 60)
    assert not first.is_dropped
    connections.set_unread(third, 10)
    # The one that has waited longest, since its last count.
    assert (first.is_dropped, second.is_dropped, third.is_dropped) == (False, True, False)
    connections.set_unread(first, 0)
    connections.set_unread(third, 100)
    assert not third.is_dropped


def test_network_of_ipv6_addresses_counts_as_one_client() -> None:
    limits = ConnectionLimits(connections_by_address=2)
    connections = Connections(limits)
    assert connections.add(Fake(None), "2001:db8::1")
    assert connections.add(Fake(None), "2001:db8::2")
    assert not connections.add(Fake(None), "2001:db8::3")
    assert connections.add(Fake(None), "2001:db8:0:1::3")
    assert connections.add(Fake(None), "fe80::1%eth0")


def test_limits_leave_descriptors_for_providers_and_the_ledger() -> None:
    few = ConnectionLimits().fit(1024)
    assert (few.connections, few.connections_by_address) == (768, 384)
    assert ConnectionLimits().fit(128).connections == 64
    assert ConnectionLimits().fit(65_536).connections == 10_000
