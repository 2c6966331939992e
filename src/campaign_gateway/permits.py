"""How many calls an account may have at once and a minute; waiting comes before any record."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from campaign_gateway.outcomes import ErrorCode, Refused, UserError

WINDOW_SECONDS = 60.0


class Permits:
    """A bounded number of calls at once, and never more than the given number in any minute."""

    def __init__(self, calls_at_once: int, calls_per_minute: int | None) -> None:
        self._slots = asyncio.Semaphore(calls_at_once)
        self._calls_per_minute = calls_per_minute
        self._turns: deque[float] = deque(maxlen=calls_per_minute or 0)

    @asynccontextmanager
    async def hold(self, patience: float) -> AsyncIterator[None]:
        """A permit for one call, waited for at most `patience` seconds. Raises `Refused`."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + patience
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
            await self._take_turn(loop.time(), give_up_at)
            yield
        finally:
            self._slots.release()

    async def _take_turn(self, now: float, give_up_at: float) -> None:
        if self._calls_per_minute is None:
            return
        is_full = len(self._turns) == self._calls_per_minute
        turn = max(now, self._turns[0] + WINDOW_SECONDS) if is_full else now
        if turn > max(now, give_up_at):
            raise Refused(
                UserError(
                    ErrorCode.RATE_LIMITED,
                    "This account's calls per minute are used up. Nothing was sent; try again.",
                    retry_after=math.ceil(turn - now),
                )
            )
        self._turns.append(turn)
        await asyncio.sleep(turn - now)
