"""HTTP/1.1 byte by byte, over sockets of our own."""

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
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


def receive(connection: socket.socket) -> Received:
    """Return the next response. Raises `OSError` or `HTTPException` if there is none."""
    response = HTTPResponse(connection)
    try:
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Received(response.status, headers, response.read())
    finally:
        response.close()


def exchange(url: str, *sent: bytes) -> Received:
    """Send the pieces on a new connection, and return the first response."""
    with connect(url) as connection:
        for piece in sent:
            connection.sendall(piece)
        return receive(connection)


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
