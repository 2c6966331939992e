"""Keeps the windows of an account supplied with calls, if several gateways share the account.

They exchange one small state in their database, in batches of calls.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from campaign_gateway.accounts.transport.leases import (
    Grant,
    Report,
    dump_state,
    exchange,
    parse_state,
)
from campaign_gateway.accounts.transport.shared_window import (
    LONGEST_PAUSE,
    NOTHING,
    SharedWindow,
    Want,
)

log = logging.getLogger(__name__)

# The least seconds between two exchanges while calls wait.
SHORTEST_PAUSE = 0.05
# Between two exchanges while the database is unavailable, or while nothing is used.
PAUSE_AFTER_FAILURE = 0.5
PAUSE_WHILE_IDLE = 60.0

# How long a gateway that stops waits for the database, in seconds.
CLOSE_SECONDS = 2.0

# How often an exchange is tried if other gateways change the state at the same moment.
TRIES = 8
RETRY_PAUSE = 0.02


class LimitStore(Protocol):
    """One small state for each account in the database that all gateways share.

    `load` returns the state, its version and the seconds of the database's clock. `store` replaces
    the state if the version is still the same, and returns whether it was. `pauses` returns for how
    many more seconds which accounts are paused. All of them return None if the database is
    unavailable. `gateway` is the name of this gateway in the states.
    """

    gateway: str

    async def load(self, account: str) -> tuple[str, int, float] | None: ...

    async def store(self, account: str, state: str, version: int) -> bool | None: ...

    async def pause(self, account: str, seconds: float) -> None: ...

    async def pauses(self) -> Mapping[str, float] | None: ...


class SharedLimits:
    """Keeps the windows of one account supplied from the store.

    `wants` is set by the limiter. It returns how many more calls each window needs now, and how
    many of them the first permit needs.
    `on_change` is called after each exchange.
    """

    def __init__(self, account: str, store: LimitStore) -> None:
        self._account = account
        self._store = store
        self._windows: list[SharedWindow] = []
        self._woken = asyncio.Event()
        self._exchanged_at = -math.inf
        self._not_before = -math.inf
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._pausing: set[asyncio.Task[None]] = set()
        self.wants: Callable[[], Mapping[str, Want]] = dict
        self.on_change: Callable[[], None] = lambda: None

    def window(self, key: str, name: str, limit: int, seconds: float) -> SharedWindow:
        self._windows.append(SharedWindow(key, name, limit, seconds))
        return self._windows[-1]

    def start(self) -> None:
        if self._windows:
            self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Lease more calls, because some wait."""
        self._woken.set()

    def pause(self, seconds: float) -> None:
        """Let the other gateways know that the provider limits the account."""
        task = asyncio.create_task(self._store.pause(self._account, seconds))
        self._pausing.add(task)
        task.add_done_callback(self._pausing.discard)

    async def close(self) -> None:
        """Give back what is left, so that the other gateways need not wait until it ends."""
        if self._task is not None:
            self._is_closing = True
            self._woken.set()
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_closing:
            self._woken.clear()
            delay = self._due_at(loop.time()) - loop.time()
            if delay > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._woken.wait()
                continue
            try:
                await self._exchange()
            except Exception:
                # Without this task, the account would have no calls any more.
                log.exception("a bug in the gateway")
                self._not_before = loop.time() + PAUSE_AFTER_FAILURE
            self.on_change()
        await self._exchange()

    def _due_at(self, now: float) -> float:
        wants = self.wants()
        is_short = any(
            window.missing(now, wants.get(window.key, NOTHING)[0]) for window in self._windows
        )
        return max(self._not_before, now if is_short else self._renew_at())

    def _renew_at(self) -> float:
        """Return when to report calls and to renew leases."""
        times = (window.due_at(self._exchanged_at) for window in self._windows)
        return min([self._exchanged_at + PAUSE_WHILE_IDLE, *times])

    async def _exchange(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(TRIES):
            # The lease ends here before it ends in the database, because this time is the earlier.
            began = loop.time()
            loaded = await self._store.load(self._account)
            if loaded is None:
                break
            text, version, database_time = loaded
            state, wants = parse_state(text), self.wants()
            leaves = self._is_closing
            reports = {
                window.key: window.report(began, wants.get(window.key, NOTHING), leaves=leaves)
                for window in self._windows
            }
            grants = {
                key: exchange(state.setdefault(key, {}), self._store.gateway, report, database_time)
                for key, report in reports.items()
            }
            is_news = any(grant.is_news for grant in grants.values())
            # Other gateways leave calls to one that waits, as long as it repeats that.
            is_due = began >= min(self._renew_at(), self._exchanged_at + LONGEST_PAUSE)
            is_stored = None
            if is_news or is_due:
                is_stored = await self._store.store(self._account, dump_state(state), version)
                if is_stored is None:
                    break
            if is_stored is not False:
                for window in self._windows:
                    window.look(grants[window.key], began)
                    if is_stored:
                        window.take(grants[window.key], reports[window.key], began)
                        self._exchanged_at = began
                self._not_before = self._next_try(reports, grants)
                return
            await asyncio.sleep(random.uniform(0, RETRY_PAUSE))  # noqa: S311 - no secret
        self._not_before = loop.time() + PAUSE_AFTER_FAILURE

    def _next_try(self, reports: Mapping[str, Report], grants: Mapping[str, Grant]) -> float:
        """Return before which time no further exchange would bring more calls."""
        now = asyncio.get_running_loop().time()
        pauses = [LONGEST_PAUSE]
        for key, report in reports.items():
            if grants[key].calls < report.wanted:
                frees = [seconds for seconds, calls in grants[key].frees if calls and seconds > 0]
                # Other gateways may give back calls earlier than expected.
                pauses += [report.seconds / 2, *frees]
        is_served = len(pauses) == 1
        return now if is_served else now + max(SHORTEST_PAUSE, min(pauses))
