"""Decisions that compare times, as a model, with every combination of wrong clocks.

The sender, the reader, the provider and the database each have a clock of their own, which may be
wrong. Four decisions depend on time: which campaign was made after a request, which of two UNKNOWN
records is the newest, when to give up a rename, and when the next check is due.

A policy says whose clock is read for what. `OURS` is the product's: one comparison uses one clock,
the database's. The others differ from it in one thing or two.

If the provider's response has no `Date`, `OURS` has to assume that the provider's clock and the
database's agree. Its promises then hold only where they do, which is their condition here.

Not in the model: a clock that jumps or runs fast while something is waited for, and a failover to a
database with another clock.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cache, partial
from itertools import product
from math import floor
from typing import NamedTuple

import pytest

from support.model_checking import Findings, Word, search_each

# All times are in seconds. The true time of the request is 0.
MINUTE = 60
HOUR = 60 * MINUTE

EARLIEST_COPY = -5
LATEST_COPY = 24 * HOUR
RETRY_FOR = 10 * MINUTE

# By how much a clock may be ahead.
AHEAD = (0, 3 * MINUTE, -3 * MINUTE, 10 * MINUTE, -10 * MINUTE)
PROVIDER_AHEAD = (*AHEAD, 2 * HOUR, -2 * HOUR)

# How long before the request another user's campaign was made, with the same name.
AGES = (None, 1 - EARLIEST_COPY, MINUTE, 4 * MINUTE, 9 * MINUTE, 30 * MINUTE)
MADE_AFTER = (None, 0, 30)

# `Date` has whole seconds, so this time loses almost a second.
READ_AFTER = (1.9, 600.9)
SLOW = 20

GAPS = (1, MINUTE, 4 * MINUTE, 15 * MINUTE)
TRIED = (0, 15, 5 * MINUTE, RETRY_FOR - 1, RETRY_FOR, 2 * RETRY_FOR)
CHECK_INTERVALS = (2, 30, HOUR)


# --- the worlds -----------------------------------------------------------------------------------


class Clock(Word):
    SENDER = auto()
    READER = auto()
    PROVIDER = auto()
    DATABASE = auto()


class Clocks(NamedTuple):
    """By how many seconds each clock is ahead of the true time."""

    sender: int = 0
    reader: int = 0
    provider: int = 0
    database: int = 0

    def ahead(self, clock: Clock) -> int:
        return self[[*Clock].index(clock)]

    def __str__(self) -> str:
        wrong = [
            f"the {clock}'s clock is {abs(ahead)} s {'fast' if ahead > 0 else 'slow'}"
            for clock, ahead in zip(Clock, self, strict=True)
            if ahead
        ]
        return ", ".join(wrong) or "all clocks are right"


class Response(Enum):
    """How long the response with the list takes, and when during that time its `Date` was taken."""

    QUICK = "a quick response"
    SLOW_WITH_EARLY_DATE = "a slow response with the time of its start"
    SLOW_WITH_LATE_DATE = "a slow response with the time of its end"


class Reading(NamedTuple):
    """A check lists the provider's campaigns."""

    clocks: Clocks
    age: int | None
    made_after: int | None
    read_after: float
    response: Response
    has_date: bool

    def __str__(self) -> str:
        stranger = "" if self.age is None else f"; another user's campaign is {self.age} s older"
        copy = "" if self.made_after is None else f"; the copy is made after {self.made_after} s"
        read = f"; read after {self.read_after} s by {self.response.value}"
        return f"{self.clocks}{stranger}{copy}{read}, with{'' if self.has_date else 'out'} a Date"


class Repeat(NamedTuple):
    """Two records of one copy are UNKNOWN: one by the sender, and a later one by the reader."""

    clocks: Clocks
    gap: int

    def __str__(self) -> str:
        return f"{self.clocks}; the reader's replica began its record {self.gap} s later"


class Rename(NamedTuple):
    """The sender has recorded the copy, and the reader tries the rename once more."""

    clocks: Clocks
    tried: int

    def __str__(self) -> str:
        return f"{self.clocks}; the rename is tried {self.tried} s after the copy was recorded"


class Pause(NamedTuple):
    """The sender has checked a record, and the reader reads what is due."""

    clocks: Clocks
    pause: int
    asked_after: int

    def __str__(self) -> str:
        return f"{self.clocks}; a pause of {self.pause} s, asked after {self.asked_after} s"


World = Reading | Repeat | Rename | Pause


# --- the policies ---------------------------------------------------------------------------------


class Noted(Enum):
    """When the time that `Date` is compared with is read."""

    BEFORE_READING = auto()
    AFTER_READING = auto()


@dataclass(frozen=True)
class Policy:
    """`most_ahead` is the largest accepted difference of a `Date`; None accepts any.

    `gives_up_by` and `is_due_by` are the database's clock, or the one of each replica.
    """

    requested_by: Clock = Clock.DATABASE
    now_by: Clock = Clock.DATABASE
    noted: Noted = Noted.BEFORE_READING
    reads_date: bool = True
    most_ahead: int | None = None
    newest_by_id: bool = False
    gives_up_by_own_clock: bool = False
    is_due_by_own_clock: bool = False


OURS = Policy()


# --- the decisions --------------------------------------------------------------------------------


class Campaign(Word):
    COPY = "our copy"
    STRANGER = "another user's campaign"


def chosen(policy: Policy, world: Reading) -> Campaign | None:
    """Return the campaign that seems to be made during the call, if there is only one."""
    seems_ahead = provider_ahead(policy, world)
    requested_at = world.clocks.ahead(policy.requested_by)
    candidates = []
    for campaign, made_at in listed(world):
        created_at = made_at + world.clocks.provider
        if EARLIEST_COPY <= created_at - seems_ahead - requested_at <= LATEST_COPY:
            candidates.append(campaign)
    return candidates[0] if len(candidates) == 1 else None


def listed(world: Reading) -> Iterator[tuple[Campaign, int]]:
    """Yield the campaigns that exist, with the true time of their creation."""
    if world.age is not None:
        yield Campaign.STRANGER, -world.age
    if world.made_after is not None and world.made_after <= world.read_after:
        yield Campaign.COPY, world.made_after


def provider_ahead(policy: Policy, world: Reading) -> float:
    """Return by how much the provider's clock seems to be ahead of the other clock."""
    if not (world.has_date and policy.reads_date):
        return 0
    # The provider may read its clock at the start or at the end of a slow response.
    stamped_after = SLOW if world.response is Response.SLOW_WITH_LATE_DATE else 0
    date = floor(world.read_after + stamped_after + world.clocks.provider)
    is_late = policy.noted is Noted.AFTER_READING and world.response is not Response.QUICK
    noted_after = SLOW if is_late else 0
    ahead = date - (world.read_after + noted_after + world.clocks.ahead(policy.now_by))
    return 0 if policy.most_ahead is not None and abs(ahead) >= policy.most_ahead else ahead


def finds_newest(policy: Policy, world: Repeat) -> bool:
    """Return whether the second record seems to be the newest."""
    # An id contains the time of its replica. Ids of the same time have a random order.
    first_by, second_by = two_replicas(world.clocks, own=policy.newest_by_id)
    return world.gap + second_by > first_by


def gives_up(policy: Policy, world: Rename) -> bool:
    settled_by, asked_by = two_replicas(world.clocks, own=policy.gives_up_by_own_clock)
    return world.tried + asked_by - settled_by >= RETRY_FOR


def is_due(policy: Policy, world: Pause) -> bool:
    checked_by, asked_by = two_replicas(world.clocks, own=policy.is_due_by_own_clock)
    return world.asked_after + asked_by >= world.pause + checked_by


def two_replicas(clocks: Clocks, *, own: bool) -> tuple[int, int]:
    """Return by how much the clocks of the two replicas are ahead, in their order."""
    return (clocks.sender, clocks.reader) if own else (clocks.database, clocks.database)


# --- the promises ---------------------------------------------------------------------------------


class Promise(Enum):
    NOT_A_STRANGER = "a campaign that was made before the request is never taken for the copy"
    FOUND = "the copy is found if a quick response lists it"
    NEWEST = "the newest UNKNOWN record is the one that was begun last"
    NOT_TOO_SOON = "a rename is not given up before ten minutes are over"
    AT_LAST = "a rename is given up when ten minutes are over"
    IN_TIME = "a check is due when its pause is over, and not before"


def broken_by(policy: Policy, world: World) -> Iterator[Promise]:
    match world:
        case Reading():
            yield from broken_by_reading(policy, world)
        case Repeat():
            if not finds_newest(policy, world):
                yield Promise.NEWEST
        case Rename():
            is_over = world.tried >= RETRY_FOR
            if gives_up(policy, world) is not is_over:
                yield Promise.AT_LAST if is_over else Promise.NOT_TOO_SOON
        case Pause():
            if is_due(policy, world) is not (world.asked_after >= world.pause):
                yield Promise.IN_TIME


def broken_by_reading(policy: Policy, world: Reading) -> Iterator[Promise]:
    if not is_comparable(world):
        return
    choice = chosen(policy, world)
    if choice is Campaign.STRANGER:
        yield Promise.NOT_A_STRANGER
    is_listed = Campaign.COPY in dict(listed(world))
    # With a slow response, only the next check may find the copy.
    if is_listed and choice is not Campaign.COPY and world.response is Response.QUICK:
        yield Promise.FOUND


def is_comparable(world: Reading) -> bool:
    """Return whether the clocks can be compared: by a `Date`, or because they are equal."""
    return world.has_date or world.clocks.provider == world.clocks.database


# --- the search -----------------------------------------------------------------------------------


def clocks(*, provider: bool = False) -> list[Clocks]:
    """Return every combination. Those with the fewest and least wrong clocks come first."""
    combined = product(AHEAD, AHEAD, PROVIDER_AHEAD if provider else (0,), AHEAD)
    combinations = [Clocks(*offsets) for offsets in combined]
    right = [[ahead == 0 for ahead in campaign] for campaign in combinations]
    wrong = [sum(map(abs, campaign)) for campaign in combinations]
    order = sorted(range(len(combinations)), key=lambda n: (-sum(right[n]), wrong[n], right[n]))
    return [combinations[n] for n in order]


def readings() -> Iterator[Reading]:
    others = [*product(AGES, MADE_AFTER, READ_AFTER, Response, (True, False))]
    for offsets, other in product(clocks(provider=True), others):
        yield Reading(offsets, *other)


def worlds() -> Iterator[World]:
    for offsets, gap in product(clocks(), GAPS):
        yield Repeat(offsets, gap)
    for offsets, tried in product(clocks(), TRIED):
        yield Rename(offsets, tried)
    for offsets, pause, late in product(clocks(), CHECK_INTERVALS, (-1, 0, 1)):
        yield Pause(offsets, pause, pause + late)
    yield from readings()


@cache
def search(policy: Policy, *until: Promise) -> Findings[World]:
    return search_each(worlds(), partial(broken_by, policy), until=until)


# --- what is found --------------------------------------------------------------------------------

BAD = [
    pytest.param(
        # The policy of the gateway before all times came from one clock.
        Policy(
            requested_by=Clock.SENDER,
            now_by=Clock.READER,
            noted=Noted.AFTER_READING,
            most_ahead=HOUR,
            newest_by_id=True,
            gives_up_by_own_clock=True,
            is_due_by_own_clock=True,
        ),
        set(Promise),
        id="each replica by its own clock",
    ),
    pytest.param(
        replace(OURS, requested_by=Clock.SENDER),
        {Promise.NOT_A_STRANGER, Promise.FOUND},
        id="the time of the request is the sender's",
    ),
    pytest.param(
        replace(OURS, now_by=Clock.READER),
        {Promise.NOT_A_STRANGER, Promise.FOUND},
        id="the time that Date is compared with is the reader's",
    ),
    pytest.param(
        replace(OURS, requested_by=Clock.SENDER, now_by=Clock.READER),
        {Promise.NOT_A_STRANGER, Promise.FOUND},
        id="the time of the request is the sender's, and Date is compared with the reader's",
    ),
    pytest.param(
        replace(OURS, reads_date=False),
        {Promise.NOT_A_STRANGER, Promise.FOUND},
        id="Date is not read",
    ),
    pytest.param(
        replace(OURS, most_ahead=HOUR),
        {Promise.NOT_A_STRANGER, Promise.FOUND},
        id="Date is not believed when it is an hour off",
    ),
    pytest.param(
        replace(OURS, noted=Noted.AFTER_READING),
        {Promise.NOT_A_STRANGER},
        id="Date is compared with the time when the response has come",
    ),
    pytest.param(
        replace(OURS, newest_by_id=True),
        {Promise.NEWEST},
        id="the newest record is the one with the greatest id",
    ),
    pytest.param(
        replace(OURS, gives_up_by_own_clock=True),
        {Promise.NOT_TOO_SOON, Promise.AT_LAST},
        id="each replica gives up by its own clock",
    ),
    pytest.param(
        replace(OURS, is_due_by_own_clock=True),
        {Promise.IN_TIME},
        id="each replica has its own time for what is due",
    ),
]

RecordProperty = Callable[[str, object], None]


def test_our_policy_keeps_every_promise(record_property: RecordProperty) -> None:
    findings = search(OURS)
    record_property("worlds", findings.states)
    assert not findings.broken, f"\n{findings}"


@pytest.mark.parametrize(("policy", "promises"), BAD)
def test_policy_breaks_these_promises(
    policy: Policy, promises: set[Promise], record_property: RecordProperty
) -> None:
    findings = search(policy, *promises)
    record_property("findings", str(findings))
    assert promises <= findings.broken.keys(), f"\n{findings}"


def test_every_promise_is_broken_by_a_policy_with_one_difference() -> None:
    """Each of these policies differs from ours in one thing."""
    broken = [promises for case in BAD[1:] for promises in case.values if isinstance(promises, set)]
    assert set[Promise]().union(*broken) == set(Promise)


def test_without_a_date_our_error_is_the_difference_between_provider_and_database() -> None:
    """An older campaign is taken for the copy only if that difference makes it seem new enough."""
    alone = [
        reading for reading in readings() if reading.made_after is None and not reading.has_date
    ]
    for reading in alone:
        fast = reading.clocks.provider - reading.clocks.database
        seems_new = reading.age is not None and fast - reading.age >= EARLIEST_COPY
        assert (chosen(OURS, reading) is Campaign.STRANGER) is seems_new, str(reading)
    assert any(chosen(OURS, reading) is Campaign.STRANGER for reading in alone)


def test_shortest_trace_to_a_foreign_campaign_by_a_slow_sender() -> None:
    findings = search(replace(OURS, requested_by=Clock.SENDER), Promise.NOT_A_STRANGER)
    assert findings.broken[Promise.NOT_A_STRANGER].strip() == (
        "the sender's clock is 180 s slow; another user's campaign is 6 s older; "
        "read after 1.9 s by a quick response, with a Date"
    )
