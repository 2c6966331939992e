"""Which header `traceparent` is valid, by www.w3.org/TR/trace-context (level 1)."""

import asyncio
from typing import Any

import pytest

from campaign_gateway.observe.correlation import Correlation, correlation_id, trace_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "value",
    [
        f"00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-00",
        f"00-{TRACE}-{PARENT}-ff",
        # A later version is read like this one.
        f"01-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like",
        f"fe-{TRACE}-{PARENT}-01-",
    ],
)
def test_valid_header(value: str) -> None:
    assert trace_id_of([(b"host", b"h"), (b"traceparent", value.encode())]) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        TRACE,
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-more",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT.upper()}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}0-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-0g",
        f"00-{TRACE}-{PARENT}-01\n",
        f" 00-{TRACE}-{PARENT}-01",
    ],
)
def test_invalid_header(value: str) -> None:
    assert trace_id_of([(b"traceparent", value.encode())]) is None


def test_repeated_header_is_invalid() -> None:
    header = (b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())
    assert trace_id_of([header, header]) is None


async def test_task_that_outlives_its_request_keeps_the_id() -> None:
    started: list[asyncio.Task[str | None]] = []

    async def later() -> str | None:
        await asyncio.sleep(0)
        return correlation_id()

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        started.append(asyncio.create_task(later()))

    headers = [(b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())]
    await Correlation(app)({"type": "http", "headers": headers}, None, None)
    assert correlation_id() is None
    assert await started[0] == TRACE
