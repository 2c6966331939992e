"""Permits to call a provider, for each kind of call, and who waits for one."""

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from campaign_gateway.accounts.transport.call_window import CallWindow
from campaign_gateway.accounts.transport.provider_limits import ProviderPause
from campaign_gateway.accounts.transport.shared_window import SharedWindow
from campaign_gateway.model import ErrorCode, Refused, UserError

# The maximum of an estimated wait for a permit, in seconds.
LONGEST_ESTIMATE = 60


class CallKind(Enum):
    """What a permit is for: to copy, with all calls of the mutation, to check, or to read."""

    COPY = "copy"
    CHECK = "check"
    READ = "read"


# Checks get one part in so many of the account's limits, and reads too. The rest is for copies.
SHARES = {CallKind.CHECK: 4, CallKind.READ: 2}
CHECKS_AT_ONCE = 8

# A window of one gateway's calls, or of the calls of all gateways.
Window = CallWindow | SharedWindow
Limit = Window | ProviderPause


class Limiter(Protocol):
    """What a permit needs of the limiter that gave it."""

    async def wait_for_turn(self, permit: "Permit", /) -> None: ...

    def mark_sent(self, permit: "Permit", /) -> None: ...

    def learn(self, permit: "Permit", status: int, headers: Mapping[str, str], /) -> None: ...

    def pause(self, seconds: float | None, /) -> None: ...


@dataclass(eq=False)
class Permit:
    """The permission to make one call after the other.

    It waits for no turn after `ends_at`, a time of the loop's clock. `reserved` are its turns.
    """

    limiter: Limiter = field(repr=False)
    kind: CallKind
    ends_at: float
    calls: int = 1
    reserved: dict[Window, int] = field(default_factory=dict, repr=False)

    async def wait_for_turn(self) -> None:
        """Wait until the next call may be sent. Raises `Refused`."""
        await self.limiter.wait_for_turn(self)

    def mark_sent(self) -> None:
        """Count the call from now on, when its first byte is sent. Raises `TurnLost`."""
        self.limiter.mark_sent(self)

    def learn(self, status: int, headers: Mapping[str, str]) -> None:
        """Take note of what the provider says about its limit in a response."""
        self.limiter.learn(self, status, headers)

    def pause(self, seconds: float | None) -> None:
        """Send no more calls of the account for this long, because the provider limits them."""
        self.limiter.pause(seconds)


Waiting = tuple[Permit, "asyncio.Future[None]"]


class Share:
    """What one kind of call uses of an account's limits, and who waits for it."""

    def __init__(self, at_once: int, windows: Iterable[Window]) -> None:
        self.at_once = at_once
        self.windows = tuple(windows)
        self.waiting: deque[Waiting] = deque()
        # Since when each permit is used, the oldest first.
        self.used_since: dict[Permit, float] = {}

    def may_start(self, now: float) -> bool:
        is_slot_free = len(self.used_since) < self.at_once
        return is_slot_free and all(window.free(now) > 0 for window in self.windows)

    def obtainable(self, now: float) -> int:
        """Return how many more permits there may be now, or very soon."""
        slots = self.at_once - len(self.used_since)
        return max(0, min([slots, *(window.obtainable(now) for window in self.windows)]))


class NoPermit(Refused):
    """There is no permit or turn now. `reason` is the limit, without what a caller can do."""

    def __init__(self, code: ErrorCode, reason: str, retry_after: int) -> None:
        message = f"{reason} Nothing was sent. Try again later."
        super().__init__(UserError(code, message, retry_after=retry_after))
        self.reason = reason


def limit_reached(limit: Limit, seconds: float) -> NoPermit:
    """Return the refusal of a call that this limit allows in so many seconds."""
    reason = (
        "The provider limits the calls of this account for now."
        if isinstance(limit, ProviderPause)
        else f"The gateway's own limit for this account (`calls_per_{limit.name}`) is reached."
    )
    return NoPermit(ErrorCode.RATE_LIMITED, reason, math.ceil(seconds))


def overloaded(seconds: float) -> NoPermit:
    """Return the refusal of a call that may get a permit in about so many seconds."""
    reason = "Too many calls to this account are running or waiting."
    return NoPermit(ErrorCode.OVERLOADED, reason, min(LONGEST_ESTIMATE, math.ceil(seconds)))
