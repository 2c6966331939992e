"""How many calls an account may have at once and a minute; waiting comes before any record."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from campaign_gateway.outcomes import ErrorCode, Refused, UserError

CALLS_AT_ONCE = 32


class Permits:
    """A bounded number of calls at once, and a steady rate with bursts of a minute's worth."""

    def __init__(self, calls_per_minute: int | None) -> None:
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._interval = 60 / calls_per_minute if calls_per_minute else 0.0
        self._burst = 60.0 if calls_per_minute else 0.0
        # GCRA: the moment at which all calls so far would have been made at a steady pace.
        self._paced_until = 0.0

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
        paced_until = max(self._paced_until, now) + self._interval
        turn = paced_until - self._burst
        if turn > max(now, give_up_at):
            raise Refused(
                UserError(
                    ErrorCode.RATE_LIMITED,
                    "This account's calls per minute are used up. Nothing was sent; try again.",
                    retry_after=math.ceil(turn - now),
                )
            )
        self._paced_until = paced_until
        if turn > now:
            await asyncio.sleep(turn - now)
