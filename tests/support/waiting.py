"""Waits for a condition instead of for a time."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(holds: Callable[[], bool], seconds: float = 40) -> None:
    """Wait until the condition holds. Raises `TimeoutError` after this many seconds."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


async def until_async(holds: Callable[[], Awaitable[object]], seconds: float = 40) -> None:
    """Wait like `until`, for a condition that is read asynchronously."""
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.01)
