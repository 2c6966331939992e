"""Runs what depends on sockets with both event loops: the gateway's uvloop, and asyncio's."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

ON_BOTH = {"test_client.py", "test_deadline.py", "test_kept_connections.py", "test_tls.py"}


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name not in ON_BOTH:
        return {"asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
