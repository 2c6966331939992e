"""Limits the calls of one account: in parallel, per second and per minute.

Each copy, check or read needs a permit, and then a turn for each of its calls. Permits limit the
calls in parallel, because a permit makes one call after the other. Turns limit the calls in a time.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

from campaign_gateway.accounts.transport.call_window import CallWindow
from campaign_gateway.model import ErrorCode, Refused, UserError

# In seconds. Calls reach the provider with different delays. Without a margin, the calls of one
# second could arrive in less than one second.
WINDOWS = {"second": 1.1, "minute": 60.1}

# How many copies, and how many reads, wait for one account at most.
QUEUE_LENGTH = 128

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


@dataclass(eq=False)
class Permit:
    """The permission to make one call after the other.

    It waits for no turn after `ends_at`, a time of the loop's clock. `reserved` are its turns.
    """

    limiter: "RateLimiter" = field(repr=False)
    kind: CallKind
    ends_at: float
    calls: int = 1
    reserved: dict[CallWindow, int] = field(default_factory=dict, repr=False)

    async def wait_for_turn(self) -> None:
        """Wait until the next call may be sent. Raises `Refused`."""
        await self.limiter.wait_for_turn(self)

    def mark_sent(self) -> None:
        """Count the call from now on, when its first byte is sent."""
        self.limiter.mark_sent(self)


_Waiting = tuple[Permit, "asyncio.Future[None]"]


class _Share:
    """What one kind of call uses of an account's limits, and who waits for it."""

    def __init__(self, at_once: int, windows: Iterable[CallWindow]) -> None:
        self.at_once = at_once
        self.windows = tuple(windows)
        self.waiting: deque[_Waiting] = deque()
        # Since when each permit is used, the oldest first.
        self.used_since: dict[Permit, float] = {}

    def may_start(self, now: float) -> bool:
        is_slot_free = len(self.used_since) < self.at_once
        return is_slot_free and all(window.free(now) > 0 for window in self.windows)


class RateLimiter:
    """Gives permits and turns to the calls of one account.

    Copies and checks alternate if both wait, and reads come last. A permit in use comes before a
    new one, and may exceed the share of its kind. New permits of this kind then wait for longer.
    """

    def __init__(
        self, calls_at_once: int, calls_per_minute: int | None, calls_per_second: int | None = None
    ) -> None:
        configured = {"second": calls_per_second, "minute": calls_per_minute}
        limits = {name: limit for name, limit in configured.items() if limit is not None}
        self._calls_at_once = calls_at_once
        self._windows = [CallWindow(name, limit, WINDOWS[name]) for name, limit in limits.items()]
        # A turn of a second is free again soon, so only turns of a minute are reserved in advance.
        self._most_reserved = {"second": 1, "minute": max(1, (calls_per_minute or 1) // 2)}
        self._shares = {CallKind.COPY: _Share(calls_at_once, [])}
        for kind, parts in SHARES.items():
            at_once = max(1, calls_at_once // parts)
            windows = [_part_of_window(window, parts) for window in self._windows]
            self._shares[kind] = _Share(at_once, windows)
        checks = self._shares[CallKind.CHECK]
        checks.at_once = min(checks.at_once, CHECKS_AT_ONCE)
        self._continuing: deque[_Waiting] = deque()
        self._was_check_last = False
        self._timer: asyncio.TimerHandle | None = None
        self._average_seconds = 1.0
        self._refused: Counter[tuple[str, str]] = Counter(
            {
                (kind.value, limit): 0
                for kind in CallKind
                for limit in (*limits, "queue", "calls_at_once")
            }
        )

    @property
    def running(self) -> int:
        """How many permits are in use."""
        return sum(len(share.used_since) for share in self._shares.values())

    def running_calls(self) -> Mapping[str, int]:
        return {kind.value: len(share.used_since) for kind, share in self._shares.items()}

    def waiting_calls(self) -> Mapping[str, int]:
        """Return how many calls wait, those of permits in use too.

        A thread may call it: the queue is copied, because it must not change during a loop over it.
        """
        waiting = Counter(permit.kind for permit, _ in tuple(self._continuing))
        return {
            kind.value: len(share.waiting) + waiting[kind] for kind, share in self._shares.items()
        }

    def refused_calls(self) -> Mapping[tuple[str, str], int]:
        """Return how many calls were refused since the start, by kind and limit."""
        return dict(self._refused)

    def free_checks(self, timeout: float, calls: int) -> int:
        """Return how many more checks would start within `timeout` seconds."""
        share, now = self._shares[CallKind.CHECK], asyncio.get_running_loop().time()
        permit = Permit(self, CallKind.CHECK, now + timeout, calls)
        if self._turn_at(permit, share.waiting, now)[0] > permit.ends_at:
            return 0
        slots = share.at_once - len(share.used_since) - len(share.waiting)
        return max(0, min([slots, *(window.free(now) for window in share.windows)]))

    @asynccontextmanager
    async def acquire(
        self, kind: CallKind, timeout: float, calls: int = 1
    ) -> AsyncIterator[Permit]:
        """Wait at most `timeout` seconds for a permit. Raises `Refused`.

        Its further calls, up to `calls`, do not wait for another minute.
        """
        permit = Permit(self, kind, asyncio.get_running_loop().time() + timeout, calls)
        await self._wait(permit, self._shares[kind].waiting)
        try:
            yield permit
        finally:
            self._end(permit)

    async def wait_for_turn(self, permit: Permit) -> None:
        """Raises `Refused`."""
        if self._needs(permit):
            await self._wait(permit, self._continuing)

    def mark_sent(self, permit: Permit) -> None:
        now = asyncio.get_running_loop().time()
        for window in self._windows_of(permit):
            permit.reserved[window] -= 1
            window.mark_sent(now)
        # It is known now when the window is free again.
        self._grant()

    async def _wait(self, permit: Permit, queue: deque[_Waiting]) -> None:
        """Wait in the queue until the permit has a turn. Raises `Refused`."""
        loop = asyncio.get_running_loop()
        self._refuse_if_hopeless(permit, queue, loop.time())
        turn: asyncio.Future[None] = loop.create_future()
        queue.append((permit, turn))
        self._grant()
        try:
            if not turn.done():
                # It does not cancel the turn, which may come at the same moment as the timeout.
                await asyncio.wait([turn], timeout=permit.ends_at - loop.time())
        except asyncio.CancelledError:
            if not turn.done():
                self._leave(queue, permit, turn)
            elif queue is not self._continuing:
                self._end(permit)
            raise
        if not turn.done():
            self._leave(queue, permit, turn)
            self._refuse_if_hopeless(permit, queue, loop.time())
            self._refused[permit.kind.value, "calls_at_once"] += 1
            raise Refused(self._overloaded(permit, loop.time()))

    def _leave(self, queue: deque[_Waiting], permit: Permit, turn: "asyncio.Future[None]") -> None:
        queue.remove((permit, turn))
        # It may have held back others until all of its turns were free.
        self._grant()

    def _grant(self) -> None:
        """Give a turn to every waiting permit that may have one now."""
        if not self._continuing and not any(share.waiting for share in self._shares.values()):
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        while (waiting := self._next_waiting(now)) is not None:
            permit, turn = waiting
            self._shares[permit.kind].used_since.setdefault(permit, now)
            for window, calls in self._needs(permit).items():
                permit.reserved[window] = calls
                window.reserve(calls)
            turn.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
        windows = [*self._windows, *(w for share in self._shares.values() for w in share.windows)]
        next_end = min((window.next_end(now) for window in windows), default=math.inf)
        self._timer = loop.call_at(next_end, self._grant) if next_end < math.inf else None

    def _next_waiting(self, now: float) -> _Waiting | None:
        """Take the next permit that may have a turn out of its queue."""
        if self._continuing:
            permit, _ = self._continuing[0]
            return self._continuing.popleft() if self._has_room(permit, now) else None
        if self.running >= self._calls_at_once:
            return None
        kinds = [CallKind.CHECK, CallKind.COPY, CallKind.READ]
        if self._was_check_last:
            kinds = [CallKind.COPY, CallKind.CHECK, CallKind.READ]
        for kind in kinds:
            share = self._shares[kind]
            if share.waiting and share.may_start(now):
                permit, _ = share.waiting[0]
                # Others have to wait too, until all the turns are free that this permit needs.
                if not self._has_room(permit, now):
                    return None
                self._was_check_last = kind is CallKind.CHECK
                return share.waiting.popleft()
        return None

    def _end(self, permit: Permit) -> None:
        now = asyncio.get_running_loop().time()
        seconds = now - self._shares[permit.kind].used_since.pop(permit)
        self._average_seconds += (seconds - self._average_seconds) / 8
        for window, calls in permit.reserved.items():
            window.reserve(-calls)
        self._grant()

    def _windows_of(self, permit: Permit) -> Iterable[CallWindow]:
        return [*self._windows, *self._shares[permit.kind].windows]

    def _needs(self, permit: Permit) -> dict[CallWindow, int]:
        """Return how many calls to reserve in each window, at the start or for the next call."""
        windows = self._windows_of(permit)
        if permit.reserved:
            return {window: 1 for window in windows if permit.reserved[window] == 0}
        return {window: self._batch(permit, window) for window in windows}

    def _batch(self, permit: Permit, window: CallWindow) -> int:
        return min(permit.calls, self._most_reserved[window.name])

    def _has_room(self, permit: Permit, now: float) -> bool:
        needs = self._needs(permit)
        return all(window.free(now) >= needs.get(window, 0) for window in self._windows)

    def _refuse_if_hopeless(self, permit: Permit, queue: deque[_Waiting], now: float) -> None:
        """Raises `Refused` if the queue is full, or no turn is expected before the timeout."""
        if queue is not self._continuing and len(queue) >= QUEUE_LENGTH:
            self._refused[permit.kind.value, "queue"] += 1
            raise Refused(self._overloaded(permit, now))
        turn_at, name = self._turn_at(permit, queue, now)
        if name is not None and turn_at > max(now, permit.ends_at):
            self._refused[permit.kind.value, name] += 1
            raise Refused(
                UserError(
                    ErrorCode.RATE_LIMITED,
                    f"The limit of calls per {name} of this account is reached. Nothing was sent. "
                    "Try again later.",
                    retry_after=math.ceil(turn_at - now),
                )
            )

    def _turn_at(
        self, permit: Permit, queue: deque[_Waiting], now: float
    ) -> tuple[float, str | None]:
        """Return when the windows allow the next turn, and the name of the window that decides."""
        before = [*self._continuing]
        own: tuple[CallWindow, ...] = ()
        if queue is not self._continuing:
            kinds = [*self._shares] if permit.kind is CallKind.READ else [permit.kind]
            before += [waiting for kind in kinds for waiting in self._shares[kind].waiting]
            own = self._shares[permit.kind].windows
        turns: list[tuple[float, str]] = []
        for window in self._windows:
            calls = sum(self._batch(each, window) for each, _ in before)
            turns.append((window.free_at(now, calls + self._batch(permit, window)), window.name))
        for window in own:
            calls = sum(self._batch(each, window) for each, _ in queue)
            turns.append((window.free_at(now, calls + 1), window.name))
        return max(turns, default=(now, None))

    def _overloaded(self, permit: Permit, now: float) -> UserError:
        """Estimate the wait by how long permits have been used recently, and are used now."""
        share = self._shares[permit.kind]
        oldest = min(next(iter(each.used_since.values()), now) for each in self._shares.values())
        seconds = max(self._average_seconds, now - oldest) * (len(share.waiting) + 1)
        return UserError(
            ErrorCode.OVERLOADED,
            "Too many calls to this account are running or waiting. Nothing was sent. Try again "
            "later.",
            retry_after=min(LONGEST_ESTIMATE, math.ceil(seconds / share.at_once)),
        )


def _part_of_window(window: CallWindow, parts: int) -> CallWindow:
    """Return a window for one part of a limit, which may be less than one call per window."""
    name, limit = window.name, window.limit
    if limit >= parts:
        return CallWindow(name, limit // parts, WINDOWS[name])
    return CallWindow(name, 1, WINDOWS[name] * parts / limit)
