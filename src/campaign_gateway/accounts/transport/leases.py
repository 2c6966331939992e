"""Divides the calls of one account among the gateways that share it.

All of this is arithmetic on one small state, which the gateways keep in their database. A gateway
reports what it has used, gives back what it does not need, and gets a lease of further calls. A
leased call counts until its window has passed, used or not, so the sum stays within the limit.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# A gateway may always use one part in so many of a limit, without a lease. So rare calls need no
# database, and some calls continue while it is unavailable.
STANDING_PARTS = 16
# Of a smaller limit one call would be too much.
LEAST_LIMIT_WITH_STANDING = 8
# For how long after its last contact with the database a gateway uses its standing share, in
# seconds. The share of a gateway that was killed is not used for so long.
STANDING_SECONDS = 300.0

# How much later than announced a gateway may ask again, in seconds. Until then, calls are left to
# it.
LATE_SECONDS = 1.0

# The times of used calls are rounded up to this part of their window. So the state stays small.
STEPS = 100

# No call counts for longer, in windows, even if the database's clock was set back.
LONGEST_COUNT = 8


@dataclass(frozen=True, slots=True)
class Report:
    """What one gateway reports of one window, and how many more calls it wants.

    `used` has the ages of the calls since its last report, and `hold` is how long a lease lasts,
    both in seconds. `kept` are the leased calls that it has not used and still needs. A gateway
    that `leaves` also gives back its standing share. Fewer than `least` calls are of no use to it.
    """

    limit: int
    seconds: float
    hold: float
    used: Sequence[float]
    kept: int
    wanted: int
    least: int
    asks_again_in: float
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """The new calls of a lease, and the outlook for further ones.

    `is_news`: the state says something new, besides the time. `frees` says in how many seconds how
    many calls become free, the first ones at 0. `others_first` are the calls that other gateways
    get before this one.
    """

    is_news: bool
    calls: int
    standing: int
    frees: Sequence[tuple[float, int]]
    others_first: int


@dataclass(slots=True)
class Holding:
    """What one gateway has of one window. Times are in seconds of the database's clock.

    `used` has pairs: until when so many calls count. `wanted` are the calls for which it waits, and
    `served_at` is when it got some last.
    """

    seen_at: float
    standing: int = 0
    leased: int = 0
    lease_ends_at: float = 0.0
    used: list[tuple[float, int]] = field(default_factory=list)
    wanted: int = 0
    least: int = 0
    served_at: float = 0.0
    asks_again_at: float = 0.0

    @property
    def counted(self) -> int:
        return self.standing + self.leased + sum(calls for _, calls in self.used)

    def waits(self, now: float) -> bool:
        return self.wanted > 0 and now < self.asks_again_at + LATE_SECONDS


# By the key of the window, and then by the gateway.
State = dict[str, dict[str, Holding]]


def parse_state(text: str) -> State:
    return {
        key: {gateway: Holding(**holding) for gateway, holding in holdings.items()}
        for key, holdings in json.loads(text).items()
    }


def dump_state(state: State) -> str:
    named = {
        key: {
            # `dataclasses.asdict` copies every list, and takes most of the time of an exchange.
            gateway: {name: getattr(holding, name) for name in Holding.__slots__}
            for gateway, holding in holdings.items()
        }
        for key, holdings in state.items()
    }
    return json.dumps(named, separators=(",", ":"))


def exchange(holdings: dict[str, Holding], gateway: str, report: Report, now: float) -> Grant:
    """Record the report of a gateway in the holdings of one window, and lease it more calls."""
    _forget(holdings, report, now)
    mine = holdings.setdefault(gateway, Holding(now))
    others = [holding for name, holding in holdings.items() if name != gateway]
    before = (mine.standing, mine.leased, mine.wanted > 0)
    mine.leased = report.kept
    if report.leaves:
        mine.standing = 0
    for age in sorted(report.used, reverse=True):
        _count(holdings.values(), mine, report, now - age)
    free = report.limit - sum(holding.counted for holding in holdings.values())
    if mine.standing == 0 and not report.leaves:
        mine.standing = _standing(report.limit, others, free)
        free -= mine.standing
    rivals = [other for other in others if other.waits(now)]
    fair = max(1, report.limit // (len(rivals) + 1))
    # If there is less than one call for each, those who have waited for longer come first.
    first = [rival for rival in rivals if rival.served_at < mine.served_at]
    part = max(report.least, fair - mine.counted)
    calls = max(0, min(report.wanted, part, free - _claims(first, fair)))
    # What no other gateway waits for may exceed the fair part.
    calls += max(0, min(report.wanted - calls, free - calls - _claims(rivals, fair)))
    if calls < report.least:
        # Gateways that hold a part of what they need would wait for each other.
        calls = 0
    if calls > 0:
        mine.served_at = now
    mine.seen_at = now
    mine.leased += calls
    mine.lease_ends_at = now + report.hold
    mine.wanted = report.wanted - calls
    mine.least = report.least
    mine.asks_again_at = now + report.asks_again_in
    return Grant(
        is_news=bool(report.used) or before != (mine.standing, mine.leased, mine.wanted > 0),
        calls=calls,
        standing=mine.standing,
        frees=_outlook(holdings, others, report, free - calls, now),
        others_first=sum(min(rival.wanted, fair) for rival in first),
    )


def _claims(rivals: Iterable[Holding], fair: int) -> int:
    """Return how many calls to leave to others, so that each gets its fair part."""
    return sum(min(each.wanted, max(0, each.least, fair - each.counted)) for each in rivals)


def _forget(holdings: dict[str, Holding], report: Report, now: float) -> None:
    """Remove what does not count any more, and correct times that can only be wrong."""
    for gateway, holding in list(holdings.items()):
        holding.seen_at = min(holding.seen_at, now)
        holding.lease_ends_at = min(holding.lease_ends_at, now + report.hold)
        longest = now + LONGEST_COUNT * report.seconds
        holding.used = [(min(until, longest), n) for until, n in holding.used if until > now]
        # It may have used its last call immediately before the end.
        if holding.lease_ends_at + report.seconds <= now:
            holding.leased = 0
        if holding.seen_at + STANDING_SECONDS + report.seconds <= now:
            holding.standing = 0
        if holding.counted == 0 and not holding.waits(now):
            del holdings[gateway]


def _count(everyone: Iterable[Holding], mine: Holding, report: Report, used_at: float) -> None:
    until = used_at + report.seconds
    used = [entry for holding in everyone for entry in holding.used]
    if sum(calls for _, calls in used) >= report.limit:
        # A call beyond the limit of its kind counts from when it would have been allowed.
        times = sorted(at for at, calls in used for _ in range(calls))
        until = max(until, times[-report.limit] + report.seconds)
    step = report.seconds / STEPS
    until = math.ceil(until / step) * step
    if mine.used and mine.used[-1][0] == until:
        until, calls = mine.used.pop()
        mine.used.append((until, calls + 1))
    else:
        mine.used.append((until, 1))


def _standing(limit: int, others: Sequence[Holding], free: int) -> int:
    """Return the share of a gateway that has none yet. All shares are at most half of the limit."""
    share = max(1, limit // STANDING_PARTS)
    left = limit // 2 - sum(other.standing for other in others)
    return share if limit >= LEAST_LIMIT_WITH_STANDING and share <= min(free, left) else 0


def _outlook(
    holdings: dict[str, Holding],
    others: Sequence[Holding],
    report: Report,
    free: int,
    now: float,
) -> Sequence[tuple[float, int]]:
    used = [(until - now, n) for holding in holdings.values() for until, n in holding.used]
    # Other gateways probably use their leased calls soon.
    leased = [
        (report.seconds + min(0, other.lease_ends_at - now), other.leased)
        for other in others
        if other.leased
    ]
    return sorted([(0.0, max(0, free)), *used, *leased])
