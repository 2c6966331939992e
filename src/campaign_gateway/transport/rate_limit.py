"""How many calls an account may have: at once, a second, a minute. Records are made after that."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from campaign_gateway.model import ErrorCode, Refused, UserError

# In seconds. A call reaches its provider a little after its turn, one sooner than another, so that
# a bare second of turns could become less than one at the provider.
WINDOWS = {"second": 1.1, "minute": 60.0}


class RateLimiter:
    """A bounded number of calls at once, and never more than given in any second or any minute."""

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
        """A permit for one call, waited for at most `timeout` seconds. Raises `Refused`."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + timeout
        try:
            async with asyncio.timeout_at(give_up_at):
                await self._slots.acquire()
        except TimeoutError:
            raise Refused(
                UserError(
                    ErrorCode.OVERLOADED,
                    "Too many calls to this account are under way. Nothing was sent; try again.",
                )
            ) from None
        try:
            await self._wait_for_window(loop.time(), give_up_at)
            yield
        finally:
            self._slots.release()

    async def _wait_for_window(self, now: float, give_up_at: float) -> None:
        """The earliest turn that every window has room for, taken in each of them."""
        turn, full = now, ""
        for window, turns in self._call_times.items():
            if len(turns) == turns.maxlen and turns[0] + WINDOWS[window] > turn:
                turn, full = turns[0] + WINDOWS[window], window
        if turn > max(now, give_up_at):
            raise Refused(
                UserError(
                    ErrorCode.RATE_LIMITED,
                    f"This account's calls per {full} are used up. Nothing was sent; try again.",
                    retry_after=math.ceil(turn - now),
                )
            )
        for turns in self._call_times.values():
            turns.append(turn)
        if turn > now:
            await asyncio.sleep(turn - now)
