"""What a provider says about its own limit in the headers of its responses."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from campaign_gateway.connectors.errors import parse_retry_after

# `X-RateLimit-Remaining`, `RateLimit-Remaining`, or with the provider's name in it: how many more
# calls are allowed until the limit is reset. One provider sends an interval in place of a time.
REMAINING = "ratelimit-remaining"
INTERVAL = "ratelimit-interval-milliseconds"
# How many calls the limit allows altogether. It distinguishes several limits of one provider.
WHOLE = ("ratelimit-limit", "ratelimit-max")

# The longest pause, in seconds. After it, the next response says whether the limit still holds. A
# wrong header then costs minutes, not hours.
LONGEST_PAUSE = 300.0

# The pauses after a 429 without a time, in seconds. They double as long as there is no success.
FIRST_PAUSE = 1.0
LONGEST_GUESS = 60.0


@dataclass(frozen=True, slots=True)
class ProviderLimit:
    """The provider takes no calls now, or `remaining` more ones, until `seconds` from now.

    `whole` is how many calls the limit allows altogether, in the provider's words. None: it does
    not say.
    """

    is_reached: bool
    remaining: int | None
    seconds: float | None
    whole: str | None = None


NO_LIMIT = ProviderLimit(is_reached=False, remaining=None, seconds=None)


def parse_limit(status: int, headers: Mapping[str, str]) -> ProviderLimit:
    """Return what the headers say. Their names are in lower case."""
    # A server that is overloaded may send 503 without knowing for how long.
    is_reached = status == 429 or (status == 503 and "retry-after" in headers)
    remaining = _number(headers, REMAINING)
    if not is_reached and remaining is None:
        return NO_LIMIT
    seconds: float | None = parse_retry_after(headers, _provider_time(headers))
    interval = _number(headers, INTERVAL)
    if seconds is None and interval is not None:
        seconds = interval / 1000
    return ProviderLimit(is_reached, remaining, seconds, _find(headers, *WHOLE))


def _number(headers: Mapping[str, str], ending: str) -> int | None:
    number = _find(headers, ending)
    return int(number) if number and re.fullmatch(r"[0-9]{1,9}", number) else None


def _find(headers: Mapping[str, str], *endings: str) -> str | None:
    return next((value for name, value in headers.items() if name.endswith(endings)), None)


def _provider_time(headers: Mapping[str, str]) -> datetime:
    """Return the time by the provider's clock, which its headers are about."""
    try:
        time = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return datetime.now(UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


class ProviderPause:
    """Lets no call through while the provider would refuse it. It has methods of `CallWindow`."""

    name = "provider"

    def __init__(self) -> None:
        self._paused_until = -math.inf
        self._remaining = 0
        self._resets_at = -math.inf
        self._whole: str | None = None
        self._guess = FIRST_PAUSE

    def free(self, now: float) -> float:
        """Return how many more calls the provider allows, as far as it has reported."""
        if now < self._paused_until:
            return 0
        return self._remaining if now < self._resets_at else math.inf

    def next_end(self, now: float) -> float:
        times = (self._paused_until, self._resets_at)
        return min((at for at in times if at > now), default=math.inf)

    def free_at(self, now: float, calls: int) -> float:
        if now < self._resets_at and self._remaining < calls:
            return max(self._paused_until, self._resets_at)
        return max(now, self._paused_until)

    def mark_sent(self) -> None:
        self._remaining -= 1

    def learn(
        self, limit: ProviderLimit, now: float, sent_since: int, unanswered: int
    ) -> float | None:
        """Take note of the response to a call, after which so many others were sent.

        `unanswered` are the other calls without a response. Return for how many seconds the other
        gateways have to pause too, or None.
        """
        if limit.is_reached:
            return self.pause(limit.seconds, now)
        self._guess = FIRST_PAUSE
        if limit.remaining is None or limit.seconds is None:
            return None
        if limit.remaining == 0:
            return self.pause(limit.seconds, now)
        # The provider had not counted the later calls.
        remaining = limit.remaining - sent_since
        if now < self._resets_at and remaining > self._remaining:
            if limit.whole is None or limit.whole != self._whole:
                # Providers count some kinds of calls separately. The smallest number holds for all.
                return None
            # Some of the calls did not count against this limit. Those without a response may.
            remaining = max(self._remaining, remaining - unanswered)
        self._remaining, self._whole = remaining, limit.whole
        self._resets_at = now + min(LONGEST_PAUSE, limit.seconds)
        return None

    def pause(self, seconds: float | None, now: float) -> float | None:
        """Pause for this long, or for a guess. Return the seconds if they are news."""
        if not seconds:
            if now < self._paused_until:
                return None
            seconds = self._guess
            self._guess = min(LONGEST_GUESS, 2 * self._guess)
        known_until = self._paused_until
        self._paused_until = max(known_until, now + min(LONGEST_PAUSE, seconds))
        # The responses to calls in parallel say nearly the same.
        return self._paused_until - now if self._paused_until > known_until + 1 else None
