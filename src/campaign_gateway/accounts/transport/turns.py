"""How many calls the limits of one account allow, and when they allow more.

A call needs a turn of the second, of the minute, of the share of its kind, and of the provider.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from campaign_gateway.accounts.transport.call_window import CallWindow
from campaign_gateway.accounts.transport.errors import TurnLost
from campaign_gateway.accounts.transport.permits import SHARES, CallKind, Limit, Permit, Window
from campaign_gateway.accounts.transport.provider_limits import ProviderPause, parse_limit
from campaign_gateway.accounts.transport.shared_limits import SharedLimits
from campaign_gateway.accounts.transport.shared_window import SharedWindow, Want

# In seconds. Calls reach the provider with different delays. Without a margin, the calls of one
# second could arrive in less than one second. A packet that is lost comes 0.2 seconds later.
WINDOWS = {"second": 1.25, "minute": 60.25}


class Turns:
    """The turns of one account. `limits` are the calls of a window, by the window's name.

    `windows` are for all calls, and `of_kind` for the share of each kind. A permit in use may
    exceed the share of its kind. All times are of the event loop's clock.
    """

    def __init__(self, limits: Mapping[str, int], shared: SharedLimits | None = None) -> None:
        self._shared = shared
        self.windows = [self._window(name, name, limit) for name, limit in limits.items()]
        self.of_kind: Mapping[CallKind, Sequence[Window]] = {
            CallKind.COPY: [],
            **{
                kind: [
                    self._window(f"{name} of {kind.name}", name, limit, parts)
                    for name, limit in limits.items()
                ]
                for kind, parts in SHARES.items()
            },
        }
        # A turn of a second is free again soon, so only turns of a minute are reserved in advance.
        self._most_reserved = {"second": 1, "minute": max(1, limits.get("minute", 1) // 2)}
        self._provider = ProviderPause()
        # The permits with a call that may be sent now.
        self._given: set[Permit] = set()
        # The calls sent so far, and of each permit the number of its last one.
        self._sent = 0
        self._last_sent: dict[Permit, int] = {}
        # The permits with a call that has no response yet.
        self._unanswered: set[Permit] = set()

    def _window(self, key: str, name: str, limit: int, parts: int = 1) -> Window:
        """Return a window for one part of a limit, which may be less than one call per window."""
        seconds = WINDOWS[name] if limit >= parts else WINDOWS[name] * parts / limit
        calls = max(1, limit // parts)
        if self._shared is None:
            return CallWindow(name, calls, seconds)
        return self._shared.window(key, name, calls, seconds)

    def has_room(self, permit: Permit, now: float) -> bool:
        """Return whether the next call may be sent now, besides those that have a turn."""
        if self._provider.free(now) <= len(self._given):
            return False
        needs = self._needs(permit)
        return all(window.free(now) >= needs[window] for window in self.windows if window in needs)

    def give(self, permit: Permit) -> None:
        for window, calls in self._needs(permit).items():
            permit.reserved[window] = calls
            window.reserve(calls)
        self._given.add(permit)

    def give_reserved(self, permit: Permit, now: float) -> bool:
        """Give a turn that the permit has reserved, and return whether there was one."""
        for window in self.windows:
            if window.free(now) < 0:
                # The lease of these calls has ended.
                window.reserve(-permit.reserved[window])
                permit.reserved[window] = 0
        is_allowed = permit in self._given or self._provider.free(now) > len(self._given)
        if self._needs(permit) or not is_allowed:
            return False
        self._given.add(permit)
        return True

    def mark_sent(self, permit: Permit, now: float) -> None:
        """Raises `TurnLost`."""
        if not all(window.may_send(now) for window in self.windows):
            raise TurnLost("the gateway was paused, and other gateways use the account's limit now")
        for window in self._windows_of(permit):
            permit.reserved[window] -= 1
            window.mark_sent(now)
        self._provider.mark_sent()
        self._given.discard(permit)
        self._sent += 1
        self._last_sent[permit] = self._sent
        self._unanswered.add(permit)

    def end(self, permit: Permit) -> None:
        """Give back what the permit has not used."""
        for window, calls in permit.reserved.items():
            window.reserve(-calls)
        self._given.discard(permit)
        self._last_sent.pop(permit, None)
        self._unanswered.discard(permit)

    def learn(
        self, permit: Permit, status: int, headers: Mapping[str, str], now: float
    ) -> float | None:
        """Take note of what the provider says in a response.

        Return for how many seconds the other gateways have to pause too, or None.
        """
        self._unanswered.discard(permit)
        sent_since = self._sent - self._last_sent[permit]
        limit = parse_limit(status, headers)
        return self._provider.learn(limit, now, sent_since, len(self._unanswered))

    def pause(self, seconds: float | None, now: float) -> float | None:
        """Give no turns for this long, or for a guess. Return the seconds if they are news."""
        return self._provider.pause(seconds, now)

    def next_end(self, now: float) -> float:
        """Return when more calls are allowed, or infinity."""
        windows = [*self.windows, *(window for each in self.of_kind.values() for window in each)]
        return min(limit.next_end(now) for limit in [self._provider, *windows])

    def turn_at(self, permit: Permit, ahead: Counter[Limit], now: float) -> tuple[float, Limit]:
        """Return when the next turn is expected, and the limit that decides.

        `ahead` are the calls that come first.
        """
        limits: list[Limit] = [self._provider, *self.windows]
        if not permit.reserved:
            limits += self.of_kind[permit.kind]
        own = self.calls_of([permit])
        turns = [(limit.free_at(now, ahead[limit] + own[limit]), limit) for limit in limits]
        return max(turns, key=lambda turn: turn[0])

    def calls_of(self, permits: Iterable[Permit]) -> Counter[Limit]:
        """Return how many calls of each limit the permits need to begin."""
        calls: Counter[Limit] = Counter()
        for permit in permits:
            calls[self._provider] += 1
            for window in self.windows:
                calls[window] += self._batch(permit, window)
            for window in self.of_kind[permit.kind]:
                calls[window] += 1
        return calls

    def wants(self, starting: Iterable[Permit], now: float) -> Mapping[str, Want]:
        """Return how many more calls the shared windows need for permits that could start now."""
        left = {window: window.obtainable(now) for window in self.windows if _is_long(window)}
        wants: dict[str, Want] = {}
        for permit in starting:
            needs = self._needs(permit)
            # Without a call of the minute, one of the second would be of no use.
            is_next = all(calls <= left.get(window, calls) for window, calls in needs.items())
            for window, calls in needs.items():
                assert isinstance(window, SharedWindow), "all windows are shared, or none"
                if is_next or _is_long(window):
                    wanted, least = wants.get(window.key, (0, calls))
                    wants[window.key] = (wanted + calls, least)
                if window in left:
                    left[window] -= calls
        return wants

    def _windows_of(self, permit: Permit) -> Sequence[Window]:
        return [*self.windows, *self.of_kind[permit.kind]]

    def _needs(self, permit: Permit) -> Mapping[Window, int]:
        """Return how many calls to reserve in each window, at the start or for the next call."""
        windows = self._windows_of(permit)
        if permit.reserved:
            return {window: 1 for window in windows if permit.reserved[window] == 0}
        return {window: self._batch(permit, window) for window in windows}

    def _batch(self, permit: Permit, window: Window) -> int:
        return min(permit.calls, self._most_reserved[window.name])


def _is_long(window: Window) -> bool:
    return window.name == "minute"
