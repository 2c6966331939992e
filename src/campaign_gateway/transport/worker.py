"""Runs what takes long in a thread, so that the event loop goes on."""

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from campaign_gateway.connectors.contract import ProviderResponse

Result = TypeVar("Result")

# Bytes of a body that the event loop itself parses, which takes it a few milliseconds.
PARSED_AT_ONCE = 64 * 1024

# One thread: several would take turns with the event loop, and each turn delays it by 5 ms.
_WORKER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-answers")


async def parsed(
    response: ProviderResponse, parse: Callable[..., Result], *arguments: object
) -> Result:
    """Return what `parse` makes of the arguments. A long response is parsed in the worker."""
    if len(response.body) <= PARSED_AT_ONCE:
        return parse(*arguments)
    return await in_worker(parse, *arguments)


async def in_worker(work: Callable[..., Result], *arguments: object) -> Result:
    """Run what takes long in a thread, so that the event loop goes on meanwhile."""
    whole = partial(_uncollected, work, *arguments)
    return await asyncio.get_running_loop().run_in_executor(_WORKER, whole)


def _uncollected(work: Callable[..., Result], *arguments: object) -> Result:
    """Run it without Python's garbage collector, which stops all threads: 50 to 150 ms for a list.

    The parsers make no cycles, so that all they allocate is freed without the collector.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return work(*arguments)
    finally:
        if was_enabled:
            gc.enable()
