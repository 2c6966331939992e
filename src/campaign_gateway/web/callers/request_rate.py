"""Limits how many requests a caller sends."""


class RequestRate:
    """A bucket that holds the requests of one minute, and is refilled evenly."""

    def __init__(self, per_minute: int) -> None:
        self._interval = 60 / per_minute
        self._full_at = 0.0

    def take(self, now: float) -> float:
        """Take one request, and return 0. If there is none left, return the seconds until one is.

        `now` is a monotonic time in seconds.
        """
        full_at = max(self._full_at, now) + self._interval
        wait = full_at - now - 60
        if wait > 0:
            return wait
        self._full_at = full_at
        return 0.0
