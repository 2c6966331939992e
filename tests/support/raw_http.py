"""HTTP/1.1 byte by byte, over sockets of our own."""

import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any, BinaryIO
from urllib.parse import urlsplit

QUERY = b'{"query":"{ __typename }"}'
ANSWER = {"data": {"__typename": "Query"}}


@dataclass(frozen=True)
class Received:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        (error,) = self.json()["errors"]
        return str(error["message"])


def connect(url: str, timeout: float = 30) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=timeout)


def head(*fields: bytes, target: bytes = b"/graphql", method: bytes = b"POST") -> bytes:
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *fields, b"", b""])


def post(body: bytes = QUERY, *fields: bytes) -> bytes:
    length = b"Content-Length: %d" % len(body)
    common = (b"Host: localhost", b"Content-Type: application/json")
    return head(*common, length, *fields) + body


def receive(stream: BinaryIO) -> Received:
    """Read the next response. Raises `ConnectionError` if there is none, or only a part of one."""
    status_line, *lines = _head_lines(stream)
    pairs = (line.decode("latin-1").partition(": ") for line in lines)
    headers = {name.lower(): value for name, _, value in pairs}
    length = int(headers["content-length"])
    body = stream.read(length)
    if len(body) < length:
        raise ConnectionResetError
    return Received(int(status_line.split()[1]), headers, body)


def _head_lines(stream: BinaryIO) -> list[bytes]:
    lines = []
    while line := stream.readline().rstrip(b"\r\n"):
        lines.append(line)
    if not lines:
        raise ConnectionResetError
    return lines


def responses_to(url: str, *sent: bytes) -> list[Received]:
    """Send the pieces on a new connection, and return all responses until it is closed."""
    responses = []
    with connect(url) as connection, connection.makefile("rb") as stream:
        sender = Thread(target=_send, args=(connection, sent))
        sender.start()
        with suppress(ConnectionError):
            while True:
                responses.append(receive(stream))
        sender.join()
    return responses


def _send(connection: socket.socket, sent: Iterable[bytes]) -> None:
    with suppress(OSError):
        for piece in sent:
            connection.sendall(piece)


def exchange(url: str, *sent: bytes) -> Received:
    """Send the pieces on a new connection, and return the first response."""
    with connect(url) as connection, connection.makefile("rb") as stream:
        for piece in sent:
            connection.sendall(piece)
        return receive(stream)


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """Read until the peer closes, for so long that nothing arrives at most."""
    connection.settimeout(seconds)
    with suppress(ConnectionError):
        try:
            while connection.recv(65536):
                pass
        except TimeoutError:
            return False
    return True
