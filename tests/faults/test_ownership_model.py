"""Equal intents and their copies as a model, whose states are searched exhaustively.

Two clients request equal copies with the keys A and B, each through its own replica. The provider
makes each copy or does not, in either order. Responses may be late or lost. A replica that was
stopped is taken for dead, and may record the response that it received later. Reading cannot see
to whom a copy belongs, so it assigns the copies by counting, in order of age.

A replica settles a response with several statements. Other replicas write between them.

A policy is what the replicas and the database do. `OURS` is the policy of the gateway. The others
differ from it in one or two things.

A copy that reading has found is not certain: a response may give the record another one.

A third intent, C, would make too many worlds with all events. `THREE` names the fewer kinds of
events that worlds with three intents have.

Not in the model: one key at two replicas and wrong clocks, which have their own models; another
user's campaign with the same name; an operator's decision; expiry; the progress of a copy that was
accepted with its id; four or more equal intents.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cache, partial
from itertools import chain
from typing import NamedTuple

import pytest

from support import model_checking
from support.model_checking import Findings, Promises, Step, Word

# Several tests need the same search, so its result is cached in the process.

# The search stops at this number of worlds.
MOST_WORLDS = 200_000


# --- the world ------------------------------------------------------------------------------------


class Status(Word):
    IN_PROGRESS = "IN_PROGRESS"
    UNKNOWN = "UNKNOWN"
    ACCEPTED = "ACCEPTED"
    CREATED = "CREATED"
    REJECTED = "REJECTED"


class Evidence(Word):
    INFERRED = "INFERRED"
    RESPONSE = "RESPONSE"


class Response(NamedTuple):
    """The provider's response. Copies are numbered in order of age, from 1.

    ACCEPTED may name the copy.
    """

    status: Status
    copy: int | None = None

    def __str__(self) -> str:
        return self.status if self.copy is None else f"{self.status} (copy {self.copy})"


class Record(NamedTuple):
    """A key's row.

    `status_before` is what an INFERRED record returns to when it has to release its copy.
    `is_checked` says that an unresolved record is due for reading again.
    """

    status: Status
    copy: int | None = None
    evidence: Evidence | None = None
    status_before: Status | None = None
    is_checked: bool = True

    def __str__(self) -> str:
        if self.copy is None:
            return self.status
        return f"{self.status} (copy {self.copy}, {self.evidence})"

    @property
    def waits_for_copy(self) -> bool:
        return self.status in UNRESOLVED and self.copy is None


UNRESOLVED = {Status.IN_PROGRESS, Status.UNKNOWN, Status.ACCEPTED}
READ = {Status.UNKNOWN, Status.ACCEPTED}
DEFINITE = {Status.CREATED, Status.REJECTED}


class Request(Word):
    NOT_SENT = auto()
    ON_ITS_WAY = auto()
    PROMISED = auto()
    OVER = auto()


class Sender(Word):
    IDLE = auto()
    WAITING = auto()
    RESPONDED = auto()
    DONE = auto()


class Queue(NamedTuple):
    """Records that wait for a copy, and the place of one of them by age, from 0."""

    place: int
    size: int


class Check(NamedTuple):
    """A check in progress: how many copies were listed, then the queues of its record.

    These are all that the check needs of the other records, and there are few of them.
    """

    listed: int
    queues: tuple[Queue, ...] | None = None


class At(Word):
    """The statement of settling that comes next."""

    SETTLE = auto()
    IS_OPEN = auto()
    OWNER = auto()
    UNKNOWN = auto()
    OWN_COPY = auto()
    TAKE_OVER = auto()


class Settling(NamedTuple):
    """The next statement of a sender that settles a response, and what it has read.

    `owner` is the intent whose record had the copy. `own` is the copy that its own record had.
    """

    at: At = At.SETTLE
    owner: int | None = None
    own: int | None = None


class Intent(NamedTuple):
    """`response` is what the sender has received; None if it was lost."""

    record: Record | None = None
    request: Request = Request.NOT_SENT
    sender: Sender = Sender.IDLE
    response: Response | None = None
    settling: Settling = Settling()
    check: Check | None = None


class Write(NamedTuple):
    """Reading writes that `who` is CREATED with `copy`. The commit may be late or never come."""

    who: int
    copy: int


NAMES = "ABC"


class World(NamedTuple):
    """`makers` are the intents whose requests have made the copies, the oldest copy first.

    `is_truthful` is False if the provider may name one copy in two responses. Then it accepts none.
    """

    intents: tuple[Intent, ...] = (Intent(), Intent())
    makers: tuple[int, ...] = ()
    writes: frozenset[Write] = frozenset()
    is_truthful: bool = True

    @property
    def has_few_events(self) -> bool:
        return len(self.intents) > 2


TWO = World()
UNTRUE = World(is_truthful=False)
# All three are sent, and their replicas are taken for dead. Each request makes a copy or is lost. A
# check reads everything in one step, and only its write may be late.
THREE = World(
    (Intent(Record(Status.UNKNOWN), request=Request.ON_ITS_WAY, sender=Sender.WAITING),) * 3
)


# --- the policies ---------------------------------------------------------------------------------


class Collision(Enum):
    """What happens if a response names a copy that another record has by weaker evidence."""

    EXCHANGE = auto()
    RELEASE = auto()
    BOTH_OWN_IT = auto()
    WEAKER_KEEPS_IT = auto()


@dataclass(frozen=True)
class Policy:
    on_collision: Collision = Collision.EXCHANGE
    checks_released: bool = True
    reading_guards_owner: bool = True
    reading_guards_status: bool = True
    reading_guards_named: bool = True
    looks_at_claims: bool = True
    response_keeps_found_copy: bool = False
    takes_promise_for_copy: bool = False
    settles_again_without_owner: bool = True
    releases_only_for_open: bool = True


OURS = Policy()


# --- the database ---------------------------------------------------------------------------------


def with_intent(world: World, who: int, intent: Intent) -> World:
    intents = (*world.intents[:who], intent, *world.intents[who + 1 :])
    # Millions of times, and `_replace` takes four times as long.
    return World(intents, world.makers, world.writes, world.is_truthful)


def with_record(world: World, who: int, record: Record) -> World:
    return with_intent(world, who, Intent(record, *world.intents[who][1:]))


def holder(world: World, copy: int | None, other_than: int) -> int | None:
    """The other intent whose record has the copy."""
    for who, intent in enumerate(world.intents):
        owns = intent.record is not None and copy is not None and intent.record.copy == copy
        if owns and who != other_than:
            return who
    return None


def is_open(world: World, me: int, response: Response) -> bool:
    """Return whether the response may still settle the record."""
    record = world.intents[me].record
    assert record is not None, "an intent is recorded before it is sent"
    is_inferred = record.evidence is Evidence.INFERRED
    if record.status in {Status.IN_PROGRESS, Status.UNKNOWN}:
        return True
    if response.status in DEFINITE:
        return record.status is Status.ACCEPTED or is_inferred
    # An acceptance without an id adds nothing to a copy that reading has found.
    return is_inferred and response.status is Status.ACCEPTED and response.copy is not None


def settled(policy: Policy, world: World, me: int, response: Response) -> World | None:
    """Return the world after the statement that records a response; None if it wrote nothing."""
    record = world.intents[me].record
    assert record is not None, "an intent is recorded before it is sent"
    if not is_open(world, me, response):
        return None
    is_inferred = record.evidence is Evidence.INFERRED
    if is_inferred and policy.response_keeps_found_copy and response.status is Status.CREATED:
        return with_record(world, me, record._replace(evidence=Evidence.RESPONSE))
    is_owned = holder(world, response.copy, me) is not None
    if is_owned and policy.on_collision is not Collision.BOTH_OWN_IT:
        return None
    evidence = None if response.status is Status.UNKNOWN else Evidence.RESPONSE
    return with_record(world, me, Record(response.status, response.copy, evidence))


def taken_over(
    policy: Policy, world: World, me: int, response: Response, settling: Settling
) -> tuple[World, bool]:
    """Return the world after the transaction that takes over a copy, and whether it settled."""
    other = holder(world, response.copy, me)
    if other is not None and (is_open(world, me, response) or not policy.releases_only_for_open):
        world = released(policy, world, other)
    after = settled(policy, world, me, response)
    world = world if after is None else after
    if policy.on_collision is Collision.EXCHANGE and settling.own is not None:
        assert settling.owner is not None, "it is read first"
        world = settled_by_reading(policy, world, Write(settling.owner, settling.own))
    return world, after is not None


def released(policy: Policy, world: World, who: int) -> World:
    """Return the world in which the record has lost its copy, if only reading had found it."""
    record = world.intents[who].record
    assert record is not None, "it has a copy"
    if record.evidence is not Evidence.INFERRED:
        return world
    before = record.status_before or Status.UNKNOWN
    return with_record(world, who, Record(before, is_checked=policy.checks_released))


def settled_by_reading(policy: Policy, world: World, write: Write) -> World:
    record = world.intents[write.who].record
    assert record is not None, "only what is recorded is read for"
    if policy.reading_guards_status and record.status not in READ:
        return world
    if policy.reading_guards_named and record.status in READ and record.copy is not None:
        return world
    if policy.reading_guards_owner and holder(world, write.copy, write.who) is not None:
        return world
    before = record.status if record.status in READ else record.status_before
    created = Record(Status.CREATED, write.copy, Evidence.INFERRED, before)
    return with_record(world, write.who, created)


def steps_of_database(policy: Policy, world: World) -> Iterator[Step[World]]:
    for write in sorted(world.writes):
        rest = world._replace(writes=world.writes - {write})
        what = f"reading's write of copy {write.copy} for {NAMES[write.who]}"
        yield Step(f"{what} is lost", rest)
        yield Step(f"{what} is committed", settled_by_reading(policy, rest, write))


# --- the replicas that send -----------------------------------------------------------------------


def steps_of_sender(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    name, intent = NAMES[me], world.intents[me]
    record = intent.record
    match intent.sender:
        case Sender.IDLE:
            sent = Intent(Record(Status.IN_PROGRESS), Request.ON_ITS_WAY, Sender.WAITING)
            yield Step(f"{name} is recorded and sent", with_intent(world, me, sent), comes=False)
        case Sender.WAITING:
            yield without_response(world, me)
        case Sender.RESPONDED:
            yield step_of_settling(policy, world, me)
            yield without_response(world, me)
    if record is not None and record.status is Status.IN_PROGRESS:
        dead = with_record(world, me, Record(Status.UNKNOWN))
        yield Step(f"{name}'s replica is taken for dead", dead, comes=False)


def step_of_settling(policy: Policy, world: World, me: int) -> Step[World]:
    """Return the next statement of the sender, and its effect."""
    intent = world.intents[me]
    response = intent.response
    assert response is not None, "it was received"
    if response == Response(Status.ACCEPTED) and policy.takes_promise_for_copy:
        response = Response(Status.CREATED, len(world.makers) + 1)
        world = with_intent(world, me, intent._replace(response=response))
    return STATEMENTS[intent.settling.at](policy, world, me, response)


def done(world: World, me: int) -> World:
    intent = world.intents[me]
    return with_intent(world, me, intent._replace(sender=Sender.DONE, settling=Settling()))


def step_to(what: str, world: World, me: int, settling: Settling) -> Step[World]:
    ahead = with_intent(world, me, world.intents[me]._replace(settling=settling))
    return Step(f"{NAMES[me]}'s replica {what}", ahead)


def settle(policy: Policy, world: World, me: int, response: Response) -> Step[World]:
    after = settled(policy, world, me, response)
    if after is not None:
        return Step(f"{NAMES[me]}'s response is recorded: {response}", done(after, me))
    if policy.on_collision is Collision.WEAKER_KEEPS_IT:
        return Step(f"{NAMES[me]}'s response gives way: {response}", done(world, me))
    return step_to(f"cannot record its response: {response}", world, me, Settling(At.IS_OPEN))


def see_whether_open(_: Policy, world: World, me: int, response: Response) -> Step[World]:
    if is_open(world, me, response):
        return step_to("sees that its record is open", world, me, Settling(At.OWNER))
    return Step(f"{NAMES[me]}'s replica sees that its record is not open", done(world, me))


def see_owner(policy: Policy, world: World, me: int, response: Response) -> Step[World]:
    owner = holder(world, response.copy, me)
    if owner is None:
        if policy.settles_again_without_owner:
            return step_to("sees no owner", world, me, Settling())
        return Step(f"{NAMES[me]}'s replica sees no owner", done(world, me))
    at = At.UNKNOWN if is_definite(world.intents[owner].record) else At.OWN_COPY
    return step_to(f"sees that the owner is {NAMES[owner]}", world, me, Settling(at, owner))


def settle_as_unknown(policy: Policy, world: World, me: int, _: Response) -> Step[World]:
    after = settled(policy, world, me, Response(Status.UNKNOWN))
    what = f"{NAMES[me]}'s replica records that the provider has named a copy twice"
    return Step(what, done(world if after is None else after, me))


def see_own_copy(_: Policy, world: World, me: int, __: Response) -> Step[World]:
    intent = world.intents[me]
    assert intent.record is not None, "an intent is recorded before it is sent"
    own = intent.record.copy
    what = "sees that its record has no copy" if own is None else f"sees its record's copy {own}"
    return step_to(what, world, me, Settling(At.TAKE_OVER, intent.settling.owner, own))


def take_over(policy: Policy, world: World, me: int, response: Response) -> Step[World]:
    after, has_settled = taken_over(policy, world, me, response, world.intents[me].settling)
    if has_settled:
        return Step(f"{NAMES[me]}'s replica takes copy {response.copy} over", done(after, me))
    return step_to("cannot take the copy over", after, me, Settling())


STATEMENTS: Mapping[At, Callable[[Policy, World, int, Response], Step[World]]] = {
    At.SETTLE: settle,
    At.IS_OPEN: see_whether_open,
    At.OWNER: see_owner,
    At.UNKNOWN: settle_as_unknown,
    At.OWN_COPY: see_own_copy,
    At.TAKE_OVER: take_over,
}


def without_response(world: World, me: int) -> Step[World]:
    """The response is lost by a timeout, or because the replica dies, which is detected later."""
    return Step(f"{NAMES[me]}'s response is lost", with_intent(world, me, deaf(world.intents[me])))


@cache
def deaf(intent: Intent) -> Intent:
    intent = intent._replace(sender=Sender.DONE, response=None, settling=Settling())
    if intent.record is not None and intent.record.status is Status.IN_PROGRESS:
        intent = intent._replace(record=Record(Status.UNKNOWN))
    return intent


# --- the provider ---------------------------------------------------------------------------------


def steps_of_provider(world: World, me: int) -> Iterator[Step[World]]:
    name, intent = NAMES[me], world.intents[me]
    if intent.request not in {Request.ON_ITS_WAY, Request.PROMISED}:
        return
    copy = len(world.makers) + 1
    made = world._replace(makers=(*world.makers, me))
    over = intent._replace(request=Request.OVER)
    match intent.request:
        case Request.ON_ITS_WAY:
            yield Step(f"{name}'s request is lost", with_intent(world, me, over))
            created = with_response(over, Response(Status.CREATED, copy))
            yield Step(f"the provider makes copy {copy} for {name}", with_intent(made, me, created))
            if world.has_few_events:
                return
            refused = with_response(over, Response(Status.REJECTED))
            yield Step(f"the provider refuses {name}", with_intent(world, me, refused))
            named = with_response(over, Response(Status.ACCEPTED, copy))
            what = f"the provider makes copy {copy} for {name}, and says that it is not done"
            yield Step(what, with_intent(made, me, named))
            if world.is_truthful:
                promised = intent._replace(request=Request.PROMISED)
                accepted = with_response(promised, Response(Status.ACCEPTED))
                yield Step(f"the provider promises {name} a copy", with_intent(world, me, accepted))
            elif world.makers:
                again = with_response(over, Response(Status.CREATED, 1))
                yield Step(f"the provider names copy 1 for {name}", with_intent(world, me, again))
        case Request.PROMISED:
            yield Step(f"the provider never makes {name}'s copy", with_intent(world, me, over))
            kept = with_intent(made, me, over)
            yield Step(f"the provider makes copy {copy} for {name}, as promised", kept)


def with_response(intent: Intent, response: Response) -> Intent:
    is_received = intent.sender is Sender.WAITING
    return intent._replace(sender=Sender.RESPONDED, response=response) if is_received else intent


# --- reading --------------------------------------------------------------------------------------


def steps_of_reading(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    """A check lists the copies, reads the competing records and the owners, and writes.

    Any other step may happen between these.
    """
    name, intent = NAMES[me], world.intents[me]
    record, check = intent.record, intent.check
    if check is None:
        is_due = record is not None and record.status in READ and record.is_checked
        if not (is_due and world.makers and record is not None and record.copy is None):
            return
        if world.has_few_events:
            copy = chosen(policy, world, len(world.makers), queues_now(world, me))
            if copy is not None and Write(me, copy) not in world.writes:
                writing = world._replace(writes=world.writes | {Write(me, copy)})
                comes = would_settle(policy, world, me)
                yield Step(f"the check of {name} chooses copy {copy}", writing, comes)
        else:
            listed = intent._replace(check=Check(len(world.makers)))
            # Checks are repeated. One that finds nothing new does not keep the world from its end.
            comes = would_settle(policy, world, me)
            what = f"the check of {name} lists {len(world.makers)}"
            yield Step(what, with_intent(world, me, listed), comes)
    elif check.queues is None:
        # In the order of the gateway: a record settled in between competes, or its copy is known.
        names = " and ".join(NAMES[other] for other in waiting(world)) or "no record"
        # In a queue that is longer than the list, the check cannot choose, so it may as well end.
        queues = tuple(queue for queue in queues_now(world, me) if queue.size <= check.listed)
        ahead = intent._replace(check=check._replace(queues=queues) if queues else None)
        yield Step(f"the check of {name} finds waiting: {names}", with_intent(world, me, ahead))
    else:
        done = with_intent(world, me, intent._replace(check=None))
        copy = chosen(policy, world, check.listed, check.queues)
        if copy is None:
            yield Step(f"the check of {name} cannot choose", done)
        else:
            writing = done._replace(writes=world.writes | {Write(me, copy)})
            yield Step(f"the check of {name} chooses copy {copy}", writing)


def waiting(world: World) -> list[int]:
    """Return the intents whose records have no copy, the oldest first."""
    return [
        who
        for who, intent in enumerate(world.intents)
        if intent.record is not None and intent.record.waits_for_copy
    ]


def promised(world: World) -> list[int]:
    """Return those that the provider may have promised a copy."""
    return [
        who
        for who in waiting(world)
        if (record := world.intents[who].record) and record.status is not Status.UNKNOWN
    ]


def queues_now(world: World, me: int) -> list[Queue]:
    """Return where the record is among all that wait, and then among the promised ones."""
    orders = waiting(world), promised(world)
    queues = [Queue(order.index(me), len(order)) for order in orders if me in order]
    return queues if len({*queues}) > 1 else queues[:1]


def free_copies(world: World, listed: int) -> list[int]:
    """Return the copies that no record has, the oldest first."""
    return [copy for copy in range(1, listed + 1) if holder(world, copy, -1) is None]


def chosen(policy: Policy, world: World, listed: int, queues: Sequence[Queue]) -> int | None:
    """Return the copy at the place of the record, if copies and waiting records are as many."""
    copies = free_copies(world, listed) if policy.looks_at_claims else [*range(1, listed + 1)]
    return next((copies[queue.place] for queue in queues if queue.size == len(copies)), None)


def would_settle(policy: Policy, world: World, me: int) -> bool:
    """Return whether a check without other steps in between would settle the record."""
    copy = chosen(policy, world, len(world.makers), queues_now(world, me))
    return copy is not None and settled_by_reading(policy, world, Write(me, copy)) != world


# --- all steps ------------------------------------------------------------------------------------


def steps(policy: Policy, world: World) -> Iterator[Step[World]]:
    may_be_simplified = policy.reading_guards_status and policy.reading_guards_named
    for step in chain(
        *(
            chain(
                steps_of_sender(policy, world, me),
                steps_of_provider(world, me),
                steps_of_reading(policy, world, me),
            )
            for me in range(len(world.intents))
        ),
        steps_of_database(policy, world),
    ):
        after = simplified(step.state) if may_be_simplified else step.state
        yield step if after is step.state else step._replace(state=after)


def simplified(world: World) -> World:
    """Remove checks and writes without an effect, so that there are fewer worlds."""
    for who, intent in enumerate(world.intents):
        if (intent.check is not None or world.writes) and is_definite(intent.record):
            if intent.check is not None:
                world = with_intent(world, who, intent._replace(check=None))
            writes = frozenset(write for write in world.writes if write.who != who)
            if writes != world.writes:
                world = world._replace(writes=writes)
    return world


def is_definite(record: Record | None) -> bool:
    if record is None or record.evidence is not Evidence.RESPONSE:
        return False
    return record.status in DEFINITE or record.copy is not None


# --- the promises ---------------------------------------------------------------------------------


class Promise(Enum):
    ONE_OWNER = "a copy is on one record at most"
    OWN_COPY = "a record with the evidence RESPONSE has the copy that its own request made"
    REAL_COPY = "CREATED: the copy is there"
    NOT_WEAKENED = "no definite response gives way to weaker evidence"
    NOT_LOST = "a response that a running replica received is recorded, as RESPONSE"
    ALL_ASSIGNED = "a copy is on no record only where counting cannot tell whose it is"


def records(world: World) -> list[tuple[int, Record]]:
    return [
        (who, intent.record)
        for who, intent in enumerate(world.intents)
        if intent.record is not None
    ]


def has_one_owner(world: World) -> bool:
    owned = [record.copy for _, record in records(world) if record.copy is not None]
    return len(owned) == len({*owned})


def is_own(world: World) -> bool:
    return all(
        world.makers[record.copy - 1 : record.copy] == (who,)
        for who, record in records(world)
        if record.evidence is Evidence.RESPONSE and record.copy is not None
    )


def is_real(world: World) -> bool:
    created = [record.copy for _, record in records(world) if record.status is Status.CREATED]
    return all(copy is not None and copy <= len(world.makers) for copy in created)


def keeps_definite(before: World, after: World) -> bool:
    for intent, now in zip(before.intents, after.intents, strict=True):
        is_same = intent is now or intent.record is now.record or intent.record == now.record
        if not is_same and is_definite(intent.record):
            return False
    return True


def keeps_responses(world: World) -> bool:
    return all(
        is_kept(world, who, intent.record, intent.response)
        for who, intent in enumerate(world.intents)
        if intent.sender is Sender.DONE and intent.response is not None
    )


def is_kept(world: World, who: int, record: Record | None, response: Response) -> bool:
    """Return whether the record has the response, or more after an acceptance without an id.

    If the provider has named one copy twice, one response is kept.
    """
    if record is None or response == Response(Status.ACCEPTED):
        return record is not None and record.status in {Status.ACCEPTED, Status.CREATED}
    other = holder(world, response.copy, who)
    if other is not None and is_definite(world.intents[other].record):
        return not is_definite(record)
    return is_definite(record) and Response(record.status, record.copy) == response


def is_all_assigned(world: World) -> bool:
    """Return whether no copy is free, or more records wait than there are free copies.

    Among those that wait, as many accepted ones as free copies would have got them.
    """
    free = len(free_copies(world, len(world.makers)))
    return free == 0 or (free < len(waiting(world)) and free != len(promised(world)))


PROMISES = Promises[World](
    always={
        Promise.ONE_OWNER: has_one_owner,
        Promise.OWN_COPY: is_own,
        Promise.REAL_COPY: is_real,
    },
    at_each_step={
        Promise.NOT_WEAKENED: keeps_definite,
    },
    at_the_end={
        Promise.NOT_LOST: keeps_responses,
        Promise.ALL_ASSIGNED: is_all_assigned,
    },
)


# --- the search -----------------------------------------------------------------------------------


@cache
def search(policy: Policy, *until: Promise, start: World = TWO) -> Findings[World]:
    return model_checking.search(
        start,
        partial(steps, policy),
        PROMISES,
        describe,
        until=until,
        most_states=MOST_WORLDS,
    )


def describe(world: World) -> list[str]:
    owners = ", ".join(f"{NAMES[who]} is {record}" for who, record in records(world))
    makers = ", ".join(f"copy {n} is {NAMES[who]}'s" for n, who in enumerate(world.makers, start=1))
    return [f"records: {owners}", f"copies: {makers or 'none'}"]


# --- what is found --------------------------------------------------------------------------------

CLEAN = [
    pytest.param(OURS, TWO, id="ours"),
    pytest.param(OURS, THREE, id="ours, with three intents"),
    # Without the exchange, the other record only waits for its next check.
    pytest.param(
        replace(OURS, on_collision=Collision.RELEASE),
        TWO,
        id="ours, without the exchange",
    ),
    # In this model, only its own response closes a record, so this check is a second guard.
    pytest.param(
        replace(OURS, releases_only_for_open=False),
        THREE,
        id="ours, but a record has to release its copy whether or not the taker is still open",
    ),
]

GONE_MEANS_DONE = replace(OURS, settles_again_without_owner=False)

BAD = [
    pytest.param(
        replace(OURS, on_collision=Collision.BOTH_OWN_IT),
        {Promise.ONE_OWNER, Promise.ALL_ASSIGNED},
        id="the response is recorded, and the other record keeps the copy too",
    ),
    pytest.param(
        replace(OURS, on_collision=Collision.WEAKER_KEEPS_IT),
        {Promise.NOT_LOST},
        id="the response gives way to the record that has its copy",
    ),
    pytest.param(
        replace(OURS, checks_released=False),
        {Promise.ALL_ASSIGNED},
        id="a record that has to release its copy is not checked again",
    ),
    pytest.param(
        replace(OURS, reading_guards_owner=False),
        {Promise.ONE_OWNER},
        id="reading writes whether or not the copy is on a record by now",
    ),
    pytest.param(
        replace(OURS, reading_guards_status=False),
        {Promise.NOT_WEAKENED, Promise.NOT_LOST},
        id="reading writes whatever the record says by now",
    ),
    pytest.param(
        replace(OURS, looks_at_claims=False),
        {Promise.ALL_ASSIGNED},
        id="reading counts copies that are on a record",
    ),
    pytest.param(
        replace(OURS, response_keeps_found_copy=True),
        {Promise.OWN_COPY, Promise.NOT_LOST},
        id="a response confirms the copy that reading has found",
    ),
    pytest.param(
        replace(OURS, takes_promise_for_copy=True),
        {Promise.REAL_COPY},
        id="take a promise for the next copy",
    ),
    pytest.param(
        replace(OURS, reading_guards_named=False),
        {Promise.NOT_WEAKENED, Promise.NOT_LOST},
        id="reading writes whether or not the provider has named the copy by now",
    ),
    pytest.param(
        GONE_MEANS_DONE,
        {Promise.NOT_LOST, Promise.ALL_ASSIGNED},
        id="an owner that is gone means that the response is in the ledger",
    ),
]

RecordProperty = Callable[[str, object], None]


@pytest.mark.parametrize(("policy", "start"), CLEAN)
def test_policy_keeps_every_promise(
    policy: Policy, start: World, record_property: RecordProperty
) -> None:
    findings = search(policy, start=start)
    record_property("worlds", findings.states)
    assert not findings.broken, f"\n{findings}"
    assert findings.states < MOST_WORLDS, "the search has not been everywhere"


@pytest.mark.parametrize(("policy", "promises"), BAD)
def test_policy_breaks_these_promises(
    policy: Policy, promises: set[Promise], record_property: RecordProperty
) -> None:
    # In one order, so that other tests find the search in the cache.
    findings = search(policy, *(promise for promise in Promise if promise in promises))
    record_property("findings", str(findings))
    assert promises <= findings.broken.keys(), f"\n{findings}"


def test_every_promise_is_broken_by_some_policy() -> None:
    broken = [promises for case in BAD for promises in case.values if isinstance(promises, set)]
    assert set[Promise]().union(*broken) == set(Promise)


def test_our_policy_keeps_one_response_if_the_provider_names_a_copy_twice() -> None:
    """Then both records cannot be right: one keeps its response, the other becomes UNKNOWN."""
    findings = search(OURS, start=UNTRUE)
    assert findings.broken.keys() == {Promise.OWN_COPY}, f"\n{findings}"
    assert findings.states < MOST_WORLDS, "the search has not been everywhere"


def test_three_intents_lose_a_response_if_a_missing_owner_counts_as_done() -> None:
    findings = search(GONE_MEANS_DONE, Promise.NOT_LOST, start=THREE)
    assert Promise.NOT_LOST in findings.broken, f"\n{findings}"


def test_shortest_trace_to_a_lost_response_after_its_owner_is_gone() -> None:
    findings = search(GONE_MEANS_DONE, Promise.NOT_LOST, Promise.ALL_ASSIGNED)
    assert findings.broken[Promise.NOT_LOST].splitlines() == [
        " 1. A is recorded and sent",
        " 2. A's replica is taken for dead",
        " 3. B is recorded and sent",
        " 4. the provider makes copy 1 for B",
        " 5. the provider makes copy 2 for A",
        " 6. the check of A lists 2",
        " 7. the check of A finds waiting: A and B",
        " 8. the check of A chooses copy 1",
        " 9. reading's write of copy 1 for A is committed",
        "10. B's replica cannot record its response: CREATED (copy 1)",
        "11. A's response is recorded: CREATED (copy 2)",
        "12. B's replica sees that its record is open",
        "13. B's replica sees no owner",
        "14. nothing more comes",
        "    records: A is CREATED (copy 2, RESPONSE), B is IN_PROGRESS",
        "    copies: copy 1 is B's, copy 2 is A's",
    ]


def test_our_policy_leaves_a_copy_unassigned_only_between_equal_records() -> None:
    """A copy stays unassigned in one case only: two records with the same status wait for it."""
    left = {
        tuple(record.status for _, record in records(world) if record.waits_for_copy)
        for world in search(OURS, start=TWO).ends
        if free_copies(world, len(world.makers))
    }
    assert left == {(Status.UNKNOWN, Status.UNKNOWN), (Status.ACCEPTED, Status.ACCEPTED)}


def test_shortest_trace_to_two_owners_of_one_copy() -> None:
    policy = replace(OURS, on_collision=Collision.BOTH_OWN_IT)
    findings = search(policy, Promise.ONE_OWNER, Promise.ALL_ASSIGNED)
    assert findings.broken[Promise.ALL_ASSIGNED].splitlines() == [
        " 1. A is recorded and sent",
        " 2. A's response is lost",
        " 3. B is recorded and sent",
        " 4. the provider makes copy 1 for B",
        " 5. the provider makes copy 2 for A",
        " 6. the check of A lists 2",
        " 7. the check of A finds waiting: A and B",
        " 8. the check of A chooses copy 1",
        " 9. reading's write of copy 1 for A is committed",
        "10. B's response is recorded: CREATED (copy 1)",
        "11. nothing more comes",
        "    records: A is CREATED (copy 1, INFERRED), B is CREATED (copy 1, RESPONSE)",
        "    copies: copy 1 is B's, copy 2 is A's",
    ]
