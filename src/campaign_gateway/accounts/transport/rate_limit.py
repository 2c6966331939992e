"""Limits the calls of one account: in parallel, per second and per minute.

Each copy, check or read needs a permit, and then a turn for each of its calls. Permits limit the
calls in parallel, because a permit makes one call after the other. Turns limit the calls in a time.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from time import monotonic

from campaign_gateway.accounts.transport.permits import (
    CHECKS_AT_ONCE,
    SHARES,
    CallKind,
    Limit,
    Permit,
    Share,
    Waiting,
    limit_reached,
    overloaded,
)
from campaign_gateway.accounts.transport.shared_limits import SharedLimits
from campaign_gateway.accounts.transport.shared_window import Want
from campaign_gateway.accounts.transport.turns import WINDOWS, Turns
from campaign_gateway.model import Refused

__all__ = ["CallKind", "Permit", "RateLimiter"]

# How many copies, and how many reads, wait for one account at most.
QUEUE_LENGTH = 128

# If several gateways share the limits, how often callers who wait in vain are refused, in seconds.
REVIEW_INTERVAL = 1.0


class RateLimiter:
    """Gives permits and turns to the calls of one account.

    Copies and checks alternate if both wait, and reads come last. A permit in use comes before a
    new one, and may exceed the share of its kind. New permits of this kind then wait for longer.
    """

    def __init__(
        self,
        calls_at_once: int,
        calls_per_minute: int | None,
        calls_per_second: int | None = None,
        shared: SharedLimits | None = None,
    ) -> None:
        configured = {"second": calls_per_second, "minute": calls_per_minute}
        limits = {name: limit for name, limit in configured.items() if limit is not None}
        self._limits = limits
        # For the metrics: when the latest calls were sent, by the clock that a thread can read too.
        self._sent_at: deque[float] = deque(maxlen=max(limits.values(), default=0))
        self._calls_at_once = calls_at_once
        self._shared = shared
        self.turns = Turns(limits, shared)
        self._shares = {
            kind: Share(max(1, calls_at_once // SHARES.get(kind, 1)), windows)
            for kind, windows in self.turns.of_kind.items()
        }
        checks = self._shares[CallKind.CHECK]
        checks.at_once = min(checks.at_once, CHECKS_AT_ONCE)
        self._continuing: deque[Waiting] = deque()
        self._was_check_last = False
        self._timer: asyncio.TimerHandle | None = None
        self._average_seconds = 1.0
        self._reviewed_at = -math.inf
        self._refused: Counter[tuple[str, str]] = Counter(
            {
                (kind.value, limit): 0
                for kind in CallKind
                for limit in (*limits, "provider", "queue", "calls_at_once")
            }
        )
        if shared is not None:
            shared.wants, shared.on_change = self._wants, self._change
            shared.start()

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()

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

    def allowed_calls(self) -> Mapping[str, int]:
        """Return how many calls each limit allows, to all gateways together."""
        return self._limits

    def used_calls(self) -> Mapping[str, int]:
        """Return how many calls of this gateway count against each limit now.

        A thread may call it, so the times are copied.
        """
        sent_at, now = tuple(self._sent_at), monotonic()
        return {name: sum(at + WINDOWS[name] > now for at in sent_at) for name in self._limits}

    def free_checks(self, timeout: float, calls: int) -> int:
        """Return how many more checks would start within `timeout` seconds."""
        share, now = self._shares[CallKind.CHECK], asyncio.get_running_loop().time()
        permit = Permit(self, CallKind.CHECK, now + timeout, calls)
        if self.turns.turn_at(permit, self._ahead(share.waiting), now)[0] > permit.ends_at:
            return 0
        return max(0, share.obtainable(now) - len(share.waiting))

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
        if not self.turns.give_reserved(permit, asyncio.get_running_loop().time()):
            await self._wait(permit, self._continuing)

    def mark_sent(self, permit: Permit) -> None:
        """Raises `TurnLost`."""
        self.turns.mark_sent(permit, asyncio.get_running_loop().time())
        self._sent_at.append(monotonic())
        # It is known now when the window is free again.
        self._grant()

    def learn(self, permit: Permit, status: int, headers: Mapping[str, str]) -> None:
        now = asyncio.get_running_loop().time()
        self._tell(self.turns.learn(permit, status, headers, now))

    def pause(self, seconds: float | None) -> None:
        """Send nothing for this long, or for a guess if it is None."""
        self._tell(self.turns.pause(seconds, asyncio.get_running_loop().time()))

    def learn_pause(self, seconds: float) -> None:
        """Pause as another gateway does."""
        if self.turns.pause(seconds, asyncio.get_running_loop().time()) is not None:
            self._review()

    def _tell(self, paused_for: float | None) -> None:
        if paused_for is not None:
            if self._shared is not None:
                self._shared.pause(paused_for)
            self._review()

    async def _wait(self, permit: Permit, queue: deque[Waiting]) -> None:
        """Wait in the queue until the permit has a turn. Raises `Refused`."""
        loop = asyncio.get_running_loop()
        if self._gives_now(permit, queue, loop.time()):
            return
        if queue is not self._continuing and len(queue) >= QUEUE_LENGTH:
            raise self._overloaded(permit, "queue", loop.time())
        if refusal := self._hopeless(permit, self._ahead(queue), loop.time()):
            raise refusal
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
            elif turn.exception() is None and queue is not self._continuing:
                self._end(permit)
            raise
        if not turn.done():
            self._leave(queue, permit, turn)
            refusal = self._hopeless(permit, self._ahead(queue), loop.time())
            raise refusal or self._overloaded(permit, "calls_at_once", loop.time())
        turn.result()

    def _gives_now(self, permit: Permit, queue: deque[Waiting], now: float) -> bool:
        """Give a turn to a permit that need not wait. Return whether it got one."""
        if self._is_anyone_waiting():
            return False
        share = self._shares[permit.kind]
        is_running = queue is self._continuing
        may_start = is_running or (self.running < self._calls_at_once and share.may_start(now))
        if not may_start or not self.turns.has_room(permit, now):
            return False
        if not is_running:
            self._was_check_last = permit.kind is CallKind.CHECK
        self._give(permit, now)
        if self._shared is not None:
            self._shared.wake()
        return True

    def _is_anyone_waiting(self) -> bool:
        return bool(self._continuing) or any(share.waiting for share in self._shares.values())

    def _give(self, permit: Permit, now: float) -> None:
        self._shares[permit.kind].used_since.setdefault(permit, now)
        self.turns.give(permit)

    def _leave(self, queue: deque[Waiting], permit: Permit, turn: "asyncio.Future[None]") -> None:
        queue.remove((permit, turn))
        # It may have held back others until all of its turns were free.
        self._grant()

    def _grant(self) -> None:
        """Give a turn to every waiting permit that may have one now."""
        if not self._is_anyone_waiting():
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        while (waiting := self._next_waiting(now)) is not None:
            permit, turn = waiting
            self._give(permit, now)
            turn.set_result(None)
        if self._shared is not None:
            self._shared.wake()
        if self._timer is not None:
            self._timer.cancel()
        next_end = self.turns.next_end(now)
        self._timer = loop.call_at(next_end, self._grant) if next_end < math.inf else None

    def _next_waiting(self, now: float) -> Waiting | None:
        """Take the next permit that may have a turn out of its queue."""
        if self._continuing:
            permit, _ = self._continuing[0]
            return self._continuing.popleft() if self.turns.has_room(permit, now) else None
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
                if not self.turns.has_room(permit, now):
                    return None
                self._was_check_last = kind is CallKind.CHECK
                return share.waiting.popleft()
        return None

    def _change(self) -> None:
        """Give turns after an exchange with the other gateways."""
        self._grant()
        # It costs milliseconds if many wait.
        if asyncio.get_running_loop().time() > self._reviewed_at + REVIEW_INTERVAL:
            self._review()

    def _review(self) -> None:
        """Refuse those who wait in vain, because the outlook has changed."""
        now = self._reviewed_at = asyncio.get_running_loop().time()
        for queue in [self._continuing, *(share.waiting for share in self._shares.values())]:
            before = [each for each in self._queues_before(queue) if each is not queue]
            ahead = self.turns.calls_of(permit for each in before for permit, _ in each)
            for permit, turn in [*queue]:
                if refusal := self._hopeless(permit, ahead, now):
                    queue.remove((permit, turn))
                    turn.set_exception(refusal)
                else:
                    ahead.update(self.turns.calls_of([permit]))
        self._grant()

    def _wants(self) -> Mapping[str, Want]:
        """Return what the shared windows need for permits that could start now."""
        now = asyncio.get_running_loop().time()
        starting = [permit for permit, _ in self._continuing]
        slots = self._calls_at_once - self.running
        for share in self._shares.values():
            permits = [permit for permit, _ in islice(share.waiting, share.obtainable(now))]
            starting += permits[: max(0, slots)]
            slots -= len(permits)
        return self.turns.wants(starting, now)

    def _end(self, permit: Permit) -> None:
        now = asyncio.get_running_loop().time()
        seconds = now - self._shares[permit.kind].used_since.pop(permit)
        self._average_seconds += (seconds - self._average_seconds) / 8
        self.turns.end(permit)
        self._grant()

    def _queues_before(self, queue: deque[Waiting]) -> Sequence[deque[Waiting]]:
        """Return the queues whose calls come before the next one of this queue, and it itself."""
        if queue is self._continuing:
            return [queue]
        if queue is self._shares[CallKind.READ].waiting:
            return [self._continuing, *(share.waiting for share in self._shares.values())]
        return [self._continuing, queue]

    def _ahead(self, queue: deque[Waiting]) -> Counter[Limit]:
        """Return the calls that come before the next one of this queue."""
        before = self._queues_before(queue)
        return self.turns.calls_of(permit for each in before for permit, _ in each)

    def _hopeless(self, permit: Permit, ahead: Counter[Limit], now: float) -> Refused | None:
        """Return and count the refusal if no turn is expected before the timeout."""
        turn_at, limit = self.turns.turn_at(permit, ahead, now)
        if turn_at <= max(now, permit.ends_at):
            return None
        self._refused[permit.kind.value, limit.name] += 1
        return limit_reached(limit, turn_at - now)

    def _overloaded(self, permit: Permit, limit: str, now: float) -> Refused:
        """Return and count the refusal, with an estimate of the wait.

        The estimate is by how long permits have been used recently, and are used now.
        """
        self._refused[permit.kind.value, limit] += 1
        share = self._shares[permit.kind]
        oldest = min(next(iter(each.used_since.values()), now) for each in self._shares.values())
        seconds = max(self._average_seconds, now - oldest) * (len(share.waiting) + 1)
        return overloaded(seconds / share.at_once)
