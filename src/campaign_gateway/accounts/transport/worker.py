"""Runs slow functions in a thread, so that they do not block the event loop."""

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from campaign_gateway.connectors.contract import ProviderResponse

Result = TypeVar("Result")

# The event loop parses a body of up to this many bytes itself, which takes a few milliseconds.
LOOP_LIMIT = 64 * 1024

# Only one thread each, because each running thread can delay the event loop by 5 ms. The response
# to a copy does not wait until long lists are parsed.
_WORKER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-responses")
_WORKER_OF_COPIES = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-copies")


async def run_parser(
    response: ProviderResponse, parse: Callable[..., Result], *arguments: object
) -> Result:
    """Return the result of `parse(*arguments)`. A long response is parsed in the worker."""
    if len(response.body) <= LOOP_LIMIT:
        return parse(*arguments)
    return await run_in_worker(parse, *arguments)


async def run_copy_parser(
    response: ProviderResponse, parse: Callable[..., Result], *arguments: object
) -> Result:
    """Like `run_parser`, for the response to a copy."""
    if len(response.body) <= LOOP_LIMIT:
        return parse(*arguments)
    return await _run_in(_WORKER_OF_COPIES, parse, *arguments)


async def run_in_worker(work: Callable[..., Result], *arguments: object) -> Result:
    """Run a slow function in a thread, so that it does not block the event loop."""
    return await _run_in(_WORKER, work, *arguments)


async def _run_in(
    worker: ThreadPoolExecutor, work: Callable[..., Result], *arguments: object
) -> Result:
    call = partial(_without_garbage_collection, work, *arguments)
    return await asyncio.get_running_loop().run_in_executor(worker, call)


def _without_garbage_collection(work: Callable[..., Result], *arguments: object) -> Result:
    """Run the function with the garbage collector off, which would stop all threads.

    One collection takes 50 to 150 ms for a long list. The parsers create no reference cycles, so
    everything they allocate is freed without the collector.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return work(*arguments)
    finally:
        if was_enabled:
            gc.enable()
