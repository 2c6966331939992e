"""The event loop of the gateway."""

import asyncio
from importlib.util import find_spec


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return one of uvloop, which needs less CPU and memory, or of asyncio without uvloop."""
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - it exists on Linux and macOS only

    return uvloop.new_event_loop()
