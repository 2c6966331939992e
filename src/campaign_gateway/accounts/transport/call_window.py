"""Counts the calls in a window of time, as the provider sees them."""

import math
from collections import deque
from collections.abc import Sequence
from itertools import repeat


class CallWindow:
    """Allows `limit` calls in any `seconds`.

    A reserved call counts until it is sent, because the gateway does not know yet when the provider
    will see it. A sent call counts for `seconds`.
    """

    def __init__(self, name: str, limit: int, seconds: float) -> None:
        self.name = name
        self.limit = limit
        self._seconds = seconds
        self._reserved = 0
        self._sent_at: deque[float] = deque()

    def free(self, now: float) -> int:
        """Return how many more calls are allowed now."""
        while self._sent_at and self._sent_at[0] + self._seconds <= now:
            self._sent_at.popleft()
        return self.limit - self._reserved - len(self._sent_at)

    def obtainable(self, now: float) -> int:
        """Return how many calls are allowed now, or very soon."""
        return self.free(now)

    def may_send(self, now: float) -> bool:
        """Return whether a reserved call may be sent now."""
        return True

    def next_end(self, now: float) -> float:
        """Return when the oldest sent call stops counting."""
        self.free(now)
        return self._sent_at[0] + self._seconds if self._sent_at else math.inf

    def free_at(self, now: float, calls: int) -> float:
        """Return when that many calls are allowed, if all but the last are sent immediately."""
        if self.free(now) >= calls:
            return now
        times = [*self._sent_at, *repeat(now, self._reserved)]
        for _ in range(calls):
            times.append(self._next_time(times, now))
        return times[-1]

    def sent_at(self, now: float) -> Sequence[float]:
        """Return the times of the sent calls that still count."""
        self.free(now)
        return list(self._sent_at)

    def reserve(self, calls: int) -> None:
        """Reserve calls, or return reservations of calls that were not sent."""
        self._reserved += calls

    def mark_sent(self, now: float) -> None:
        """Count a reserved call from now on."""
        self._reserved -= 1
        # A call beyond the limit counts from the time at which it would have been allowed. The next
        # ones then wait for longer, so that the average is kept.
        self._sent_at.append(self._next_time(self._sent_at, now))

    def _next_time(self, times: Sequence[float], now: float) -> float:
        if len(times) < self.limit:
            return now
        return max(now, times[-self.limit] + self._seconds)
