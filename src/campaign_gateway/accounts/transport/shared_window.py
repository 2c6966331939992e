"""The part of one window of an account's calls that this gateway may make.

It is leased from the database that the gateways share, and ends if it is not renewed. So a gateway
that was paused, or that is cut off from the database, cannot exceed the limit that the others use.
"""

import math

from campaign_gateway.accounts.transport.call_window import CallWindow
from campaign_gateway.accounts.transport.leases import STANDING_SECONDS, Grant, Report

# A lease lasts for so many of its windows, but no longer than so many seconds.
LEASE_WINDOWS = 3
LONGEST_LEASE = 15.0

# The most seconds between two exchanges with the other gateways while calls wait.
LONGEST_PAUSE = 2.0

# How many calls are wanted, and how many of them the first permit needs.
Want = tuple[int, int]
NOTHING: Want = (0, 0)


class SharedWindow:
    """Allows this gateway's part of the calls of one window. It has the methods of `CallWindow`."""

    def __init__(self, key: str, name: str, limit: int, seconds: float) -> None:
        self.key = key
        self.name = name
        self.limit = limit
        self.seconds = seconds
        self.hold = min(LONGEST_LEASE, LEASE_WINDOWS * seconds)
        self._leased = 0
        self._lease_ends_at = -math.inf
        self._reserved = 0
        # Calls of the lease that the other gateways do not know yet, by the loop's clock.
        self._used: list[float] = []
        self._standing = CallWindow(name, 0, seconds)
        self._standing_ends_at = -math.inf
        # When how many calls of the account become free, as far as this gateway knows.
        self._outlook: list[tuple[float, int]] = [(-math.inf, limit)]
        self._others_first = 0
        self._looked_at = -math.inf

    def free(self, now: float) -> int:
        return self._backed(now) - self._reserved

    def obtainable(self, now: float) -> int:
        return self.free(now) + sum(calls for at, calls in self._outlook if at <= now)

    def may_send(self, now: float) -> bool:
        return self._backed(now) > 0

    def next_end(self, now: float) -> float:
        times = (at for at, _ in self._outlook if at > now)
        return min([self._standing.next_end(now), *times])

    def free_at(self, now: float, calls: int) -> float:
        short = calls - self.free(now)
        if short <= 0 or now > self._looked_at + LONGEST_PAUSE:
            # What it knows is too old to refuse anybody. The next exchange is soon.
            return now
        short += self._others_first
        used = [(at + self.seconds, 1) for at in self._used]
        expected = sorted([*self._outlook, *used, (now + self.seconds, self._reserved)])
        for at, number in expected:
            short -= number
            if short <= 0:
                return max(now, at)
        return max(now, expected[-1][0]) + self.seconds * math.ceil(short / self.limit)

    def reserve(self, calls: int) -> None:
        self._reserved += calls

    def mark_sent(self, now: float) -> None:
        self._reserved -= 1
        if self._free_standing(now) > 0:
            self._standing.reserve(1)
            self._standing.mark_sent(now)
        else:
            # A call beyond the share of its kind has no lease, and counts too.
            self._leased = max(0, self._leased - 1)
            self._used.append(now)

    def missing(self, now: float, wanted: int) -> int:
        """Return how many calls to lease for the reserved ones and for `wanted` more."""
        return max(0, self._reserved + wanted - self._backed(now))

    def due_at(self, exchanged_at: float) -> float:
        """Return when to report calls and to renew a lease."""
        is_due = self._leased > 0 or self._used
        return exchanged_at + self.hold / LEASE_WINDOWS if is_due else math.inf

    def report(self, now: float, want: Want, *, leaves: bool) -> Report:
        """Return the report, and give back the leased calls that are not needed.

        A gateway that leaves gives back everything, its standing share too.
        """
        wanted, least = want
        if leaves:
            self._used += self._standing.sent_at(now)
            self._standing.limit = self._reserved = wanted = least = 0
        leased = self._leased if now < self._lease_ends_at else 0
        standing = self._free_standing(now)
        needed = self._reserved + wanted - standing
        least_needed = max(0, self._reserved + least - standing)
        # If that is not enough for the next permit, it keeps only what is reserved.
        is_enough = leased >= least_needed
        kept = needed if is_enough else self._reserved - standing
        self._leased = min(leased, max(0, kept))
        return Report(
            limit=self.limit,
            seconds=self.seconds,
            hold=self.hold,
            used=[now - at for at in self._used],
            kept=self._leased,
            wanted=max(0, needed - self._leased),
            least=max(0, least_needed - self._leased),
            asks_again_in=LONGEST_PAUSE,
            leaves=leaves,
        )

    def look(self, grant: Grant, now: float) -> None:
        """Take note of what the database returned at the time `now`."""
        self._outlook = [(now + seconds, calls) for seconds, calls in grant.frees]
        self._others_first, self._looked_at = grant.others_first, now

    def take(self, grant: Grant, report: Report, now: float) -> None:
        """Take what the database granted for a report of the time `now`."""
        del self._used[: len(report.used)]
        self._leased += grant.calls
        self._lease_ends_at = now + report.hold
        self._standing.limit = grant.standing
        self._standing_ends_at = now + STANDING_SECONDS

    def _backed(self, now: float) -> int:
        return (self._leased if now < self._lease_ends_at else 0) + self._free_standing(now)

    def _free_standing(self, now: float) -> int:
        return max(0, self._standing.free(now)) if now < self._standing_ends_at else 0
