"""Limits the calls of one account: in parallel, per second and per minute.

A call waits here before it is recorded.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from campaign_gateway.model import ErrorCode, Refused, UserError

# In seconds. Calls reach the provider with different delays after their turn. Without a margin, the
# turns of one second could arrive in less than one second.
WINDOWS = {"second": 1.1, "minute": 60.0}


class RateLimiter:
    """Limits the calls that run in parallel, and the calls in any second and in any minute."""

    def __init__(
        self, calls_at_once: int, calls_per_minute: int | None, calls_per_second: int | None = None
    ) -> None:
        self._slots = asyncio.Semaphore(calls_at_once)
        limits = {"second": calls_per_second, "minute": calls_per_minute}
        self._call_times: dict[str, deque[float]] = {
            window: deque(maxlen=limit) for window, limit in limits.items() if limit is not None
        }

    @asynccontextmanager
    async def acquire(self, timeout: float) -> AsyncIterator[None]:
        """Wait at most `timeout` seconds until one more call is allowed. Raises `Refused`."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout
        try:
            async with asyncio.timeout_at(ends_at):
                await self._slots.acquire()
        except TimeoutError:
            raise Refused(
                UserError(
                    ErrorCode.OVERLOADED,
                    "Too many calls to this account are running. Nothing was sent. "
                    "Try again later.",
                )
            ) from None
        try:
            await self._wait_for_window(loop.time(), ends_at)
            yield
        finally:
            self._slots.release()

    async def _wait_for_window(self, now: float, ends_at: float) -> None:
        """Reserve the earliest time that every window allows, and wait until then."""
        turn, full = now, ""
        for window, turns in self._call_times.items():
            if len(turns) == turns.maxlen and turns[0] + WINDOWS[window] > turn:
                turn, full = turns[0] + WINDOWS[window], window
        if turn > max(now, ends_at):
            raise Refused(
                UserError(
                    ErrorCode.RATE_LIMITED,
                    f"The limit of calls per {full} of this account is reached. Nothing was sent. "
                    "Try again later.",
                    retry_after=math.ceil(turn - now),
                )
            )
        for turns in self._call_times.values():
            turns.append(turn)
        if turn > now:
            await asyncio.sleep(turn - now)
