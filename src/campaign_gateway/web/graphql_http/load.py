"""Limits the work of all requests in progress, so that none waits long for the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from campaign_gateway.web.graphql_http.request import OVERLOADED, RequestError

# How many values the responses of all requests in progress may have together: those of ten of the
# largest, or of 2,000 small ones.
VALUES_IN_PROGRESS = 100_000
SMALLEST_COST = 50

# Requests for more values are large: to make one response takes milliseconds.
LARGE_COST = 500

RETRY_AFTER_SECONDS = 1


class Load:
    def __init__(self) -> None:
        self._values = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def admit(self, cost: int) -> AsyncIterator[None]:
        """Count a request while it is in progress. `cost` is how many values it asks for.

        Raises `RequestError` if there is too much to do already.
        """
        cost = max(cost, SMALLEST_COST)
        if self._values + cost > VALUES_IN_PROGRESS:
            message = "The gateway is busy. Nothing was executed. Try again in a second."
            retry_after = {"retry-after": str(RETRY_AFTER_SECONDS)}
            raise RequestError(503, message, retry_after, OVERLOADED)
        self._values += cost
        try:
            if cost > LARGE_COST:
                await self._wait_for_turn()
            yield
        finally:
            self._values -= cost

    async def _wait_for_turn(self) -> None:
        """Wait until the event loop has looked for other work since the last large request."""
        async with self._turn:
            await asyncio.sleep(0)
