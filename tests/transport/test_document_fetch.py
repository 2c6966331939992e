"""Fetching a public document ends soon, and takes only a small plain response of that address."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from campaign_gateway.accounts.transport.document_fetch import fetch_document
from campaign_gateway.accounts.transport.errors import NoResponse

LIMIT = 1000


async def _endless(chunk: bytes, pause: float) -> AsyncIterator[bytes]:
    while True:
        yield chunk
        await asyncio.sleep(pause)


async def respond(request: Request) -> Response:
    responses: dict[str, Callable[[], Response]] = {
        "small": lambda: Response(b"x" * LIMIT),
        "large": lambda: Response(b"x" * (LIMIT + 1)),
        "endless": lambda: StreamingResponse(_endless(b"x" * 100, 0.0)),
        "slow": lambda: StreamingResponse(_endless(b"x", 0.05)),
        "moved": lambda: RedirectResponse("/small"),
        "missing": lambda: Response(b"x", 404),
        "compressed": lambda: Response(b"x", headers={"content-encoding": "gzip"}),
    }
    return responses[request.path_params["name"]]()


@pytest.fixture(scope="module")
def url(serve: Callable[[ASGIApp], str]) -> str:
    return serve(Starlette(routes=[Route("/{name}", respond)]))


async def test_small_document_is_returned(url: str) -> None:
    assert await fetch_document(f"{url}/small", limit=LIMIT, seconds=20) == b"x" * LIMIT


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("large", "the response is larger than 1000 bytes"),
        ("endless", "the response is larger than 1000 bytes"),
        ("moved", "status 307"),
        ("missing", "status 404"),
        ("compressed", "the response is compressed"),
    ],
)
async def test_other_response_is_refused(url: str, name: str, reason: str) -> None:
    with pytest.raises(NoResponse, match=reason):
        await fetch_document(f"{url}/{name}", limit=LIMIT, seconds=20)


async def test_whole_response_has_one_timeout(url: str) -> None:
    with pytest.raises(NoResponse, match="timeout"):
        await fetch_document(f"{url}/slow", limit=LIMIT, seconds=0.3)


async def test_closed_port_is_no_response() -> None:
    with pytest.raises(NoResponse, match="the connection failed"):
        await fetch_document("http://127.0.0.1:9/", limit=LIMIT, seconds=20)
