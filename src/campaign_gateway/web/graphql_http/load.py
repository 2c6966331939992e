"""Limits the work of all requests in progress, so that none waits long for the others."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from campaign_gateway.web.graphql_http.request import OVERLOADED, RequestError

# How many values the responses of all requests in progress may have together: those of nine of the
# largest, or of almost 2,000 small ones.
VALUES_IN_PROGRESS = 100_000
SMALLEST_COST = 50

# How many values one client may have for each value that is left. A few clients whose requests ask
# for much and wait for a settled duplication would otherwise keep all others out. One client can
# have three quarters of all values, two can have three sevenths each, and some are always left.
SHARE = 3

# Requests for more values are large: to make one response takes milliseconds.
LARGE_COST = 500

RETRY_AFTER_SECONDS = 1


class Load:
    def __init__(self) -> None:
        self._values: Counter[str] = Counter()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def admit(self, client: str, cost: int) -> AsyncIterator[None]:
        """Count a client's request while it is in progress. `cost`: for how many values it asks.

        Raises `RequestError` if there is too much to do already.
        """
        cost = max(cost, SMALLEST_COST)
        of_client = self._values[client] + cost
        of_all = self._values.total() + cost
        if of_client > SHARE * (VALUES_IN_PROGRESS - of_all):
            message = "The gateway is busy. Nothing was executed. Try again in a second."
            retry_after = {"retry-after": str(RETRY_AFTER_SECONDS)}
            raise RequestError(503, message, retry_after, OVERLOADED)
        self._values[client] += cost
        try:
            if cost > LARGE_COST:
                await self._wait_for_turn()
            yield
        finally:
            self._values[client] -= cost

    async def _wait_for_turn(self) -> None:
        """Wait until the event loop has looked for other work since the last large request."""
        async with self._turn:
            await asyncio.sleep(0)
