"""The protocol as a model, with every way it can go searched exhaustively.

Two gateways share a ledger and are asked for one copy under one key. The provider's call is not
idempotent. Anything may be late: a request arrives after its sender's death, a write is committed
after its writer has given it up, a gateway that was taken for dead continues. Requests, responses
and the ledger's confirmations may be lost, and gateways crash.

Worlds that differ only in which gateway is A, and in the ids of attempts, are searched once.

The client follows the replies. For SAME_KEY it repeats the request, perhaps at the other gateway.
For NEW_KEY it drops the key, and the next press is a new intent. For WAIT it reads the record.

A policy is what the gateways do. `OURS` is the product's. The others differ from it in one thing or
two that a plausible design might have.

Not in the model: an operator's decision, which is not certain; a stranger's campaign that a search
takes for the copy; a ledger that loses what it has committed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cache, partial
from itertools import chain, count
from typing import NamedTuple

import pytest

from support import model_checking
from support.model_checking import Findings, Promises, Step, Word

# Several tests need the same search, so its result is cached in the process.

# How often the adversary may do what is not a delay or a loss. This bounds the search.
MOST_CRASHES = 2
MOST_MISJUDGEMENTS = 2
MOST_RESENDS = 1
MOST_LATE_WRITES = 3

# The search stops at this number of worlds.
MOST_WORLDS = 50_000


# --- the world ------------------------------------------------------------------------------------


class Status(Word):
    IN_PROGRESS = "IN_PROGRESS"
    UNKNOWN = "UNKNOWN"
    ACCEPTED = "ACCEPTED"
    CREATED = "CREATED"
    REJECTED = "REJECTED"


RANK = {
    Status.IN_PROGRESS: 0,
    Status.UNKNOWN: 1,
    Status.ACCEPTED: 2,
    Status.CREATED: 3,
    Status.REJECTED: 3,
}


class Outcome(NamedTuple):
    """What a response, a record or a reply to the client says. Copies are numbered as made."""

    status: Status
    copy: int | None = None

    def __str__(self) -> str:
        return self.status if self.copy is None else f"{self.status} (copy {self.copy})"


IN_PROGRESS = Outcome(Status.IN_PROGRESS)
UNKNOWN = Outcome(Status.UNKNOWN)
ACCEPTED = Outcome(Status.ACCEPTED)
REJECTED = Outcome(Status.REJECTED)


class Record(NamedTuple):
    """The key's one row. It has no owner once the gateway that began it has crashed."""

    attempt_id: int
    owner: int | None
    says: Outcome


class Retry(Word):
    """What a reply asks the client to do next."""

    SAME_KEY = "SAME_KEY"
    NEW_KEY = "NEW_KEY"
    WAIT = "WAIT"
    NO = "NO"


class Kind(Word):
    BEGIN = auto()
    SETTLE = auto()
    MARK_NEVER_SENT = auto()
    TAKE_OVER_ABANDONED = auto()
    SETTLE_FROM_EVIDENCE = auto()


class Write(NamedTuple):
    """One statement for the ledger."""

    kind: Kind
    says: Outcome
    attempt_id: int = 0
    owner: int | None = None

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} as {self.says}"


class Doing(Word):
    NOTHING = auto()
    CONNECTING = auto()
    UNCERTAIN = auto()  # whether its record is committed
    RESTORING = auto()
    MARKING = auto()
    SEARCHING = auto()
    SENDING = auto()
    WAITING = auto()
    RECEIVED = auto()
    SETTLING = auto()


class Gateway(NamedTuple):
    doing: Doing = Doing.NOTHING
    attempt_id: int = 0
    outcome: Outcome = UNKNOWN


IDLE = Gateway()
NAMES = "AB"


class World(NamedTuple):
    """`writes` are those without a confirmation. They may be committed late, or never.

    `requests` are those on their way, each as the gateway that waits for its response, -1 for none.
    `promised` copies were accepted by the provider, which may make them or not. `is_off_record`
    says that a request has reached the provider and there is no record. `is_key_dropped` says that
    the client was asked to use a new key, and so does not ask again with the old one.
    """

    gateways: tuple[Gateway, Gateway] = (IDLE, IDLE)
    record: Record | None = None
    writes: frozenset[Write] = frozenset()
    requests: tuple[int, ...] = ()
    promised: int = 0
    copies: int = 0
    is_off_record: bool = False
    reply: Outcome | None = None
    is_key_dropped: bool = False
    crashes: int = 0
    misjudgements: int = 0
    resends: int = 0


# --- the policies ---------------------------------------------------------------------------------


class CommitUncertain(Enum):
    """What is done when the confirmation of a begin is lost."""

    BEGIN_AGAIN_OR_MARK_NEVER_SENT = auto()
    GIVE_UP = auto()
    TAKE_ANY_RECORD = auto()
    SEND_ANYWAY = auto()


class Expiry(Enum):
    """What happens to an IN_PROGRESS record whose owner seems to be dead."""

    BECOMES_UNKNOWN = auto()
    SEND_AGAIN = auto()
    LOOK_THEN_SEND_AGAIN = auto()
    LOOK_THEN_SEND_AGAIN_WHEN_ALL_IS_QUIET = auto()


class Refusal(Enum):
    """The reply of a gateway that sends nothing and finds no record."""

    NOT_SENT = auto()
    REJECTED = auto()


class Silence(Enum):
    """What a cut connection, a timeout or a 503 is taken to mean."""

    UNKNOWN = auto()
    REJECTED = auto()
    SEND_AGAIN = auto()


@dataclass(frozen=True)
class Policy:
    begins_before_sending: bool = True
    on_uncertain_commit: CommitUncertain = CommitUncertain.BEGIN_AGAIN_OR_MARK_NEVER_SENT
    marking_takes_the_key: bool = True
    on_expiry: Expiry = Expiry.BECOMES_UNKNOWN
    on_silence: Silence = Silence.UNKNOWN
    looks_again_before_refusing: bool = True
    refusal: Refusal = Refusal.NOT_SENT
    frees_key_of_unknown: bool = False
    guards_settling: bool = True
    guards_takeover: bool = True
    replies_before_commit: bool = False
    takes_promise_for_copy: bool = False
    takes_absence_for_refusal: bool = False
    can_read: bool = True


OURS = Policy()


def retry(policy: Policy, outcome: Outcome) -> Retry:
    """Return what a reply with a record asks the client to do."""
    match outcome.status:
        case Status.CREATED:
            return Retry.NO
        case Status.REJECTED:
            return Retry.NEW_KEY
        case Status.UNKNOWN if policy.frees_key_of_unknown:
            return Retry.NEW_KEY
        case _:
            return Retry.WAIT


# --- the ledger -----------------------------------------------------------------------------------


def committed(policy: Policy, record: Record | None, write: Write) -> Record | None:
    """The record after a write, which checks and changes the record in one statement."""
    if record is None:
        is_insert = write.kind is not Kind.MARK_NEVER_SENT
        return Record(write.attempt_id, write.owner, write.says) if is_insert else None
    is_mine, status = record.attempt_id == write.attempt_id, record.says.status
    is_open = status in {Status.IN_PROGRESS, Status.UNKNOWN}
    match write.kind:
        case Kind.BEGIN:
            changes = False
        case Kind.SETTLE:
            changes = (is_mine and is_open) or not policy.guards_settling
        case Kind.MARK_NEVER_SENT:
            changes = is_mine and is_open
        case Kind.TAKE_OVER_ABANDONED:
            changes = status is Status.IN_PROGRESS or not policy.guards_takeover
        case Kind.SETTLE_FROM_EVIDENCE:
            changes = status in {Status.UNKNOWN, Status.ACCEPTED}
    return record._replace(says=write.says) if changes else record


def steps_of_ledger(policy: Policy, world: World) -> Iterator[Step[World]]:
    for write in sorted(world.writes, key=str):
        rest = world._replace(writes=world.writes - {write})
        yield Step(f"the late {write} is lost", rest)
        late = rest._replace(record=committed(policy, world.record, write))
        yield Step(f"the late {write} is committed", late)


# --- a gateway ------------------------------------------------------------------------------------


def ask(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    if world.record is None and not world.is_key_dropped:
        asked = doing_now(world, me, Doing.CONNECTING, unused_attempt_id(world))
        yield Step(f"the client asks {NAMES[me]}, which finds no record", asked, comes=False)


def connect(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    # It gets no permit, no connection or no access token, or it is draining.
    yield refuse(policy, idle(world, me), f"{NAMES[me]} has to refuse")
    if policy.begins_before_sending:
        yield from begin(policy, world, me)
    else:
        yield Step(f"{NAMES[me]} connects", doing_now(world, me, Doing.SENDING))


def refuse(policy: Policy, world: World, why: str) -> Step[World]:
    """The second look and the reply are one step.

    That hides nothing: a promise that breaks between the two breaks after the reply as well.
    """
    if policy.looks_again_before_refusing:
        if world.record is not None:
            return Step(f"{why}, and finds a record", with_record_as_reply(world))
        why += ", finds no record"
    match policy.refusal:
        case Refusal.NOT_SENT:
            # The reply is about this request only, so the client learns nothing about the key.
            return Step(f"{why}, and replies NOT_SENT, {Retry.SAME_KEY}", world)
        case Refusal.REJECTED:
            asked = f"{why}, and asks for a {retry(policy, REJECTED)}"
            return Step(asked, world._replace(reply=REJECTED))


def begin(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    attempt_id = world.gateways[me].attempt_id

    def send_if_mine(world: World) -> World:
        record = world.record
        is_mine = (
            record is not None and record.attempt_id == attempt_id and record.says == IN_PROGRESS
        )
        return (
            doing_now(world, me, Doing.SENDING)
            if is_mine
            else with_record_as_reply(idle(world, me))
        )

    yield from write(
        policy, world, me, Write(Kind.BEGIN, IN_PROGRESS, attempt_id, me), send_if_mine
    )


def resolve_uncertain_commit(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    name, sending = NAMES[me], doing_now(world, me, Doing.SENDING)
    match policy.on_uncertain_commit:
        case CommitUncertain.BEGIN_AGAIN_OR_MARK_NEVER_SENT:
            yield from begin(policy, world, me)
            first = Doing.RESTORING if policy.marking_takes_the_key else Doing.MARKING
            marking = doing_now(world, me, first)
            yield refuse(policy, marking, f"{name} gives up, and marks it as never sent")
        case CommitUncertain.GIVE_UP:
            yield refuse(policy, idle(world, me), f"{name} gives up")
        case CommitUncertain.TAKE_ANY_RECORD:
            if world.record is None:
                yield from begin(policy, world, me)
            else:
                yield Step(f"{name} takes the record for its own", sending)
        case CommitUncertain.SEND_ANYWAY:
            yield Step(f"{name} goes on", sending)


def restore(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    """Take the key, so that the uncertain begin cannot be committed later."""
    taking = Write(Kind.BEGIN, IN_PROGRESS, world.gateways[me].attempt_id, me)
    yield from write(policy, world, me, taking, lambda done: doing_now(done, me, Doing.MARKING))


def mark_never_sent(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    marking = Write(Kind.MARK_NEVER_SENT, REJECTED, world.gateways[me].attempt_id)
    yield from write(policy, world, me, marking, lambda done: idle(done, me))


def look_for_copy(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    if world.copies:
        concluded = conclude(policy, world, me, Outcome(Status.CREATED, world.copies))
        yield Step(f"{NAMES[me]} looks, and finds a copy", concluded)
    else:
        absent = doing_now(world, me, Doing.SENDING)
        yield Step(f"{NAMES[me]} looks, and finds no copy", absent)


def send(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    requests = tuple(sorted((*world.requests, me)))
    sent = doing_now(world, me, Doing.WAITING)._replace(requests=requests)
    yield Step(f"{NAMES[me]} sends", sent)
    refused = conclude(policy, world, me, REJECTED)
    yield Step(f"{NAMES[me]} fails before the first byte", refused)


def wait(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    what, alone = f"{NAMES[me]} receives nothing", abandoned(world, me)
    if policy.on_silence is Silence.REJECTED:
        taken = conclude(policy, alone, me, REJECTED)
        yield Step(f"{what}, and takes that for a refusal", taken)
    elif policy.on_silence is Silence.SEND_AGAIN and world.resends < MOST_RESENDS:
        again = doing_now(alone, me, Doing.SENDING)._replace(resends=world.resends + 1)
        yield Step(f"{what}, and tries again", again)
    else:
        yield Step(what, conclude(policy, alone, me, UNKNOWN))


def receive(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    outcome = world.gateways[me].outcome
    yield Step(f"{NAMES[me]} receives {outcome}", conclude(policy, world, me, outcome))
    yield from wait(policy, world, me)


def settle(policy: Policy, world: World, me: int) -> Iterator[Step[World]]:
    _, attempt_id, outcome = world.gateways[me]

    def reply(world: World) -> World:
        done = idle(world, me)
        return done if policy.replies_before_commit else with_record_as_reply(done)

    yield from write(policy, world, me, Write(Kind.SETTLE, outcome, attempt_id), reply)


STEPS_OF_GATEWAY: Mapping[Doing, Callable[[Policy, World, int], Iterator[Step[World]]]] = {
    Doing.NOTHING: ask,
    Doing.CONNECTING: connect,
    Doing.UNCERTAIN: resolve_uncertain_commit,
    Doing.RESTORING: restore,
    Doing.MARKING: mark_never_sent,
    Doing.SEARCHING: look_for_copy,
    Doing.SENDING: send,
    Doing.WAITING: wait,
    Doing.RECEIVED: receive,
    Doing.SETTLING: settle,
}


def write(
    policy: Policy, world: World, me: int, statement: Write, then: Callable[[World], World]
) -> Iterator[Step[World]]:
    """The ledger confirms the write, or the confirmation is lost."""
    what = f"{NAMES[me]}: {statement}"
    done = world._replace(record=committed(policy, world.record, statement))
    yield Step(f"{what}, done", then(done))
    if statement not in world.writes and len(world.writes) < MOST_LATE_WRITES:
        is_first = world.gateways[me].doing is Doing.CONNECTING
        waiting = doing_now(world, me, Doing.UNCERTAIN) if is_first else world
        uncertain = waiting._replace(writes=world.writes | {statement})
        yield Step(f"{what}, and the confirmation is lost", uncertain)


def conclude(policy: Policy, world: World, me: int, outcome: Outcome) -> World:
    if outcome == ACCEPTED and policy.takes_promise_for_copy:
        outcome = Outcome(Status.CREATED, world.copies + world.promised)
    settling = doing_now(world, me, Doing.SETTLING, outcome=outcome)
    return settling._replace(reply=outcome) if policy.replies_before_commit else settling


def doing_now(
    world: World, me: int, doing: Doing, attempt_id: int | None = None, outcome: Outcome = UNKNOWN
) -> World:
    first, second = world.gateways
    gateway = Gateway(
        doing, world.gateways[me].attempt_id if attempt_id is None else attempt_id, outcome
    )
    return world._replace(gateways=(first, gateway) if me else (gateway, second))


def idle(world: World, me: int) -> World:
    return doing_now(world, me, IDLE.doing, IDLE.attempt_id)


def with_record_as_reply(world: World) -> World:
    return world if world.record is None else world._replace(reply=world.record.says)


def abandoned(world: World, me: int) -> World:
    """The world in which no gateway waits for these requests any more."""
    requests = sorted(-1 if waiting == me else waiting for waiting in world.requests)
    return world._replace(requests=tuple(requests))


def unused_attempt_id(world: World) -> int:
    used = {gateway.attempt_id for gateway in world.gateways} | {
        write.attempt_id for write in world.writes
    }
    held = world.record and world.record.attempt_id
    return next(attempt_id for attempt_id in count(1) if attempt_id not in {*used, held})


# --- those around the gateways --------------------------------------------------------------------


def steps_of_provider(world: World) -> Iterator[Step[World]]:
    for waiting in sorted(set(world.requests)):
        requests = list(world.requests)
        requests.remove(waiting)
        gone = world._replace(requests=tuple(requests))
        yield Step("a request is lost, or fails at the provider", gone)

        here = gone._replace(is_off_record=True)
        yield Step("the provider refuses", with_response(here, waiting, REJECTED))
        promise = here._replace(promised=world.promised + 1)
        yield Step("the provider promises a copy", with_response(promise, waiting, ACCEPTED))
        made = Outcome(Status.CREATED, world.copies + 1)
        copied = here._replace(copies=world.copies + 1)
        yield Step(f"the provider makes copy {made.copy}", with_response(copied, waiting, made))
    if world.promised:
        rest = world._replace(promised=world.promised - 1)
        yield Step("the provider never keeps its promise", rest)
        kept = rest._replace(copies=world.copies + 1)
        yield Step(f"the provider makes copy {kept.copies}, as promised", kept)


def with_response(world: World, waiting: int, outcome: Outcome) -> World:
    if waiting == -1:
        return world
    return doing_now(world, waiting, Doing.RECEIVED, outcome=outcome)


def steps_of_expiry(policy: Policy, world: World) -> Iterator[Step[World]]:
    """A dead owner is detected at some time, and a running one may be taken for dead."""
    record = world.record
    if record is None or record.says != IN_PROGRESS:
        return
    is_dead = record.owner is None
    whose = "a dead gateway" if is_dead else "a gateway that lives"
    if policy.on_expiry is Expiry.BECOMES_UNKNOWN:
        takeover = world._replace(writes=world.writes | {Write(Kind.TAKE_OVER_ABANDONED, UNKNOWN)})
        if takeover != world:
            yield Step(f"the record of {whose} is to be taken over", takeover, comes=is_dead)
        return

    is_quiet = is_dead and not world.requests and not world.promised
    if policy.on_expiry is Expiry.LOOK_THEN_SEND_AGAIN_WHEN_ALL_IS_QUIET and not is_quiet:
        return
    if not is_dead and world.misjudgements == MOST_MISJUDGEMENTS:
        return
    doing = Doing.SENDING if policy.on_expiry is Expiry.SEND_AGAIN else Doing.SEARCHING
    judged = world._replace(misjudgements=world.misjudgements + (not is_dead))
    for me, gateway in enumerate(world.gateways):
        if gateway == IDLE and me != record.owner:
            attempt_id = unused_attempt_id(world)
            taken = judged._replace(record=Record(attempt_id, me, IN_PROGRESS))
            what = f"{NAMES[me]} takes over the record of {whose}"
            yield Step(what, doing_now(taken, me, doing, attempt_id), comes=is_dead)


def steps_of_reading(policy: Policy, world: World) -> Iterator[Step[World]]:
    """Reading sees the copies so far. Another one may be made right after it."""
    record = world.record
    if record is None or record.says not in {UNKNOWN, ACCEPTED} or not policy.can_read:
        return
    write = Write(Kind.SETTLE_FROM_EVIDENCE, Outcome(Status.CREATED, world.copies))
    absent = Write(Kind.SETTLE_FROM_EVIDENCE, REJECTED)
    if world.copies == 1 and write not in world.writes:
        yield Step("reading finds the copy", world._replace(writes=world.writes | {write}))
    if policy.takes_absence_for_refusal and not world.copies and absent not in world.writes:
        yield Step("reading finds no copy", world._replace(writes=world.writes | {absent}))


def steps_of_crashes(world: World) -> Iterator[Step[World]]:
    if world.crashes == MOST_CRASHES:
        return
    record = world.record
    for me, gateway in enumerate(world.gateways):
        owns = record is not None and record.owner == me
        # A crash before its begin has the same effect as a failed connection.
        if gateway.doing is Doing.CONNECTING or (gateway == IDLE and not owns):
            continue
        dead = idle(abandoned(world, me), me)._replace(
            crashes=world.crashes + 1,
            record=record._replace(owner=None) if record is not None and owns else record,
            writes=frozenset(
                write._replace(owner=None) if write.owner == me else write for write in world.writes
            ),
        )
        yield Step(f"{NAMES[me]} crashes", dead, comes=False)


def steps_of_client(world: World) -> Iterator[Step[World]]:
    if world.record is not None and world.record.says != world.reply:
        says = world.record.says
        yield Step(f"the client asks, and gets {says}", world._replace(reply=says), comes=False)


def steps(policy: Policy, world: World) -> Iterator[Step[World]]:
    for step in chain(
        *(
            STEPS_OF_GATEWAY[gateway.doing](policy, world, me)
            for me, gateway in enumerate(world.gateways)
        ),
        steps_of_provider(world),
        steps_of_ledger(policy, world),
        steps_of_expiry(policy, world),
        steps_of_reading(policy, world),
        steps_of_crashes(world),
        steps_of_client(world),
    ):
        yield step._replace(state=simplified(policy, world, step.state))


def simplified(policy: Policy, before: World, after: World) -> World:
    """Remove what has no effect any more, so that there are fewer worlds."""
    record = after.record
    if record is None:
        return without_key(policy, after)
    # A client may ask at any time, so the record counts as a reply.
    is_news = before.record is None or before.record.says != record.says
    reply = record.says if is_news else after.reply
    if record.says != IN_PROGRESS:
        record = record._replace(owner=None)
    # A guard that fails now always fails, because records only move up.
    writes = frozenset(
        write for write in after.writes if committed(policy, record, write) != record
    )
    after = after._replace(record=record, reply=reply, writes=writes, is_off_record=False)
    return without_key(policy, after)


def without_key(policy: Policy, world: World) -> World:
    """The client drops its key if it was asked to."""
    drops = world.reply is not None and retry(policy, world.reply) is Retry.NEW_KEY
    return world._replace(is_key_dropped=world.is_key_dropped or drops)


def without_names(world: World) -> World:
    """Return the same world for all that differ only in who is A, and in the attempt ids.

    Both are only compared, so what may happen next has the same difference.
    """
    first, second = world.gateways
    is_renamed = (second.doing, second.outcome) < (first.doing, first.outcome)
    if is_renamed:
        first, second = second, first
    record, writes = world.record, sorted(world.writes) if world.writes else []
    held = [first.attempt_id, second.attempt_id, record.attempt_id if record else 0]
    ids = {0: 0}
    for attempt_id in [*held, *(write.attempt_id for write in writes)]:
        ids.setdefault(attempt_id, len(ids))
    if not is_renamed and all(was == becomes for was, becomes in ids.items()):
        return world
    who = {0: 1, 1: 0} if is_renamed else {0: 0, 1: 1}

    def renamed(owner: int | None) -> int | None:
        return None if owner is None else who[owner]

    return world._replace(
        gateways=(
            first._replace(attempt_id=ids[first.attempt_id]),
            second._replace(attempt_id=ids[second.attempt_id]),
        ),
        record=record
        and record._replace(attempt_id=ids[record.attempt_id], owner=renamed(record.owner)),
        writes=frozenset(
            write._replace(attempt_id=ids[write.attempt_id], owner=renamed(write.owner))
            for write in writes
        ),
        requests=tuple(sorted(who.get(waiting, -1) for waiting in world.requests)),
    )


# --- the promises ---------------------------------------------------------------------------------


class Promise(Enum):
    ONE_COPY = "one intent never makes two copies"
    TRUE_REJECTED = "REJECTED: there is no copy, and none can come"
    TRUE_CREATED = "CREATED: the copy is there"
    ONLY_UP = "a record only moves up"
    NEVER_LESS = "a reply to the client is never taken back"
    SAME_COPY = "no client gets two copies for one key"
    NOT_DENIED = "no reply says that nothing was made while there is a copy"
    NO_COPY_LEFT = "a client that was asked to use a new key has no copy under the old one, ever"
    ON_RECORD = "what has reached the provider is in the ledger"
    NOT_LEFT = "no record stays IN_PROGRESS when no gateway works on it"


def statements(world: World) -> list[Outcome]:
    """Return the outcome in the record, and the one that the client received."""
    return [
        outcome
        for outcome in (world.record and world.record.says, world.reply)
        if outcome is not None
    ]


def is_rejected_true(world: World) -> bool:
    return REJECTED not in statements(world) or not (
        world.copies or world.promised or world.requests
    )


def is_created_true(world: World) -> bool:
    named = [outcome.copy or 0 for outcome in statements(world) if outcome.status is Status.CREATED]
    return all(1 <= copy <= world.copies for copy in named)


def is_up(before: Outcome | None, after: Outcome | None) -> bool:
    if before is None or after is None or before.status is after.status:
        return before is None or after is not None
    return RANK[before.status] < RANK[after.status]


def is_same_copy(before: Outcome | None, after: Outcome | None) -> bool:
    return not (before and after and before.copy and after.copy) or before.copy == after.copy


PROMISES = Promises[World](
    always={
        Promise.ONE_COPY: lambda world: world.copies <= 1,
        Promise.TRUE_REJECTED: is_rejected_true,
        Promise.TRUE_CREATED: is_created_true,
        Promise.NOT_DENIED: lambda world: not (world.reply == REJECTED and world.copies),
        Promise.NO_COPY_LEFT: lambda world: not (world.is_key_dropped and world.copies),
    },
    at_each_step={
        Promise.ONLY_UP: lambda before, after: is_up(
            before.record and before.record.says, after.record and after.record.says
        ),
        Promise.NEVER_LESS: lambda before, after: is_up(before.reply, after.reply),
        Promise.SAME_COPY: lambda before, after: is_same_copy(before.reply, after.reply),
    },
    at_the_end={
        Promise.ON_RECORD: lambda world: not world.is_off_record,
        Promise.NOT_LEFT: lambda world: world.record is None or world.record.says != IN_PROGRESS,
    },
)


# --- the search -----------------------------------------------------------------------------------


@cache
def search(policy: Policy, *until: Promise, by_name: bool = False) -> Findings[World]:
    """Search the worlds of the policy, or with `by_name` also those that differ only in names."""
    return model_checking.search(
        World(),
        partial(steps, policy),
        PROMISES,
        describe,
        describe_step=with_reply,
        kind=_itself if by_name else without_names,
        until=until,
        most_states=MOST_WORLDS,
    )


def _itself(world: World) -> World:
    return world


def describe(world: World) -> list[str]:
    record = "none" if world.record is None else world.record.says
    reply = "nothing" if world.reply is None else world.reply
    return [f"record: {record}; reply to the client: {reply}; copies: {world.copies}"]


def with_reply(what: str, before: World, after: World) -> str:
    """Return what happens, with the reply to the client if it differs from the record."""
    is_on_record = after.record is not None and after.record.says == after.reply
    is_news = after.reply != before.reply and not is_on_record
    return f"{what}; the client gets {after.reply}" if is_news else what


# --- what is found --------------------------------------------------------------------------------

CLEAN = [
    pytest.param(OURS, id="ours"),
    pytest.param(replace(OURS, can_read=False), id="ours, where reading cannot tell"),
    # The promise does not need the second look, because NOT_SENT asks for the same key.
    pytest.param(
        replace(OURS, looks_again_before_refusing=False),
        id="ours, without the second look",
    ),
    pytest.param(
        replace(OURS, on_expiry=Expiry.LOOK_THEN_SEND_AGAIN_WHEN_ALL_IS_QUIET),
        id="look and send again, knowing that nobody sends and nothing is on its way",
    ),
]

BAD = [
    pytest.param(
        replace(OURS, begins_before_sending=False),
        {Promise.ONE_COPY, Promise.TRUE_REJECTED, Promise.ON_RECORD},
        id="look, send, then record",
    ),
    pytest.param(
        replace(OURS, on_expiry=Expiry.SEND_AGAIN),
        {Promise.ONE_COPY, Promise.TRUE_REJECTED},
        id="a lease expires: send again",
    ),
    pytest.param(
        replace(OURS, on_expiry=Expiry.SEND_AGAIN, guards_settling=False),
        {Promise.ONE_COPY, Promise.TRUE_REJECTED, Promise.NEVER_LESS, Promise.SAME_COPY},
        id="a lease expires: send again, and the last to settle wins",
    ),
    pytest.param(
        replace(OURS, on_expiry=Expiry.LOOK_THEN_SEND_AGAIN),
        {Promise.ONE_COPY, Promise.TRUE_REJECTED},
        id="a lease expires: look, and send again if there is no copy",
    ),
    pytest.param(
        replace(OURS, guards_settling=False),
        {Promise.ONLY_UP, Promise.NEVER_LESS},
        id="settle whatever the record says by now",
    ),
    pytest.param(
        replace(OURS, guards_takeover=False),
        {Promise.ONLY_UP, Promise.NEVER_LESS},
        id="take over whatever the record says by now",
    ),
    pytest.param(
        replace(OURS, replies_before_commit=True),
        {Promise.NEVER_LESS},
        id="respond, then commit",
    ),
    pytest.param(
        replace(OURS, on_silence=Silence.REJECTED),
        {Promise.TRUE_REJECTED},
        id="take a cut or a 503 for a refusal",
    ),
    pytest.param(
        replace(OURS, on_silence=Silence.SEND_AGAIN),
        {Promise.ONE_COPY, Promise.TRUE_REJECTED},
        id="try again after bytes have left",
    ),
    pytest.param(
        replace(OURS, takes_promise_for_copy=True),
        {Promise.TRUE_CREATED},
        id="take a promise for a copy",
    ),
    pytest.param(
        replace(OURS, takes_absence_for_refusal=True),
        {Promise.TRUE_REJECTED},
        id="take a copy that is not there yet for a refusal",
    ),
    pytest.param(
        replace(OURS, on_uncertain_commit=CommitUncertain.GIVE_UP),
        {Promise.NOT_LEFT},
        id="the begin is uncertain: leave it",
    ),
    pytest.param(
        replace(OURS, on_uncertain_commit=CommitUncertain.TAKE_ANY_RECORD),
        {Promise.ONE_COPY, Promise.TRUE_REJECTED},
        id="the begin is uncertain: take any record for its own",
    ),
    pytest.param(
        replace(OURS, on_uncertain_commit=CommitUncertain.SEND_ANYWAY),
        {Promise.ONE_COPY, Promise.ON_RECORD},
        id="the begin is uncertain: send anyway",
    ),
    pytest.param(
        replace(OURS, marking_takes_the_key=False),
        {Promise.NOT_LEFT},
        id="mark a record that is not there yet, and leave it",
    ),
    pytest.param(
        replace(OURS, refusal=Refusal.REJECTED, looks_again_before_refusing=False),
        {Promise.NOT_DENIED, Promise.NO_COPY_LEFT, Promise.TRUE_REJECTED, Promise.NEVER_LESS},
        id="refuse without a record: reply REJECTED",
    ),
    pytest.param(
        replace(OURS, refusal=Refusal.REJECTED),
        {Promise.NO_COPY_LEFT, Promise.NEVER_LESS},
        id="refuse without a record: look again, and reply REJECTED if there is still none",
    ),
    pytest.param(
        replace(OURS, frees_key_of_unknown=True),
        {Promise.NO_COPY_LEFT},
        id="ask for a new key while it is UNKNOWN",
    ),
]

RecordProperty = Callable[[str, object], None]


@pytest.mark.parametrize("policy", CLEAN)
def test_policy_keeps_every_promise(policy: Policy, record_property: RecordProperty) -> None:
    findings = search(policy)
    record_property("worlds", findings.states)
    assert not findings.broken, f"\n{findings}"
    assert findings.states < MOST_WORLDS, "the search has not been everywhere"


@pytest.mark.long
@pytest.mark.parametrize("policy", CLEAN)
def test_policy_keeps_every_promise_whatever_the_names(policy: Policy) -> None:
    by_name, findings = search(policy, by_name=True), search(policy)
    assert not by_name.broken, f"\n{by_name}"
    # Each gateway may be A, and the three attempts may have any order.
    assert findings.states < by_name.states <= 2 * 6 * findings.states
    assert {without_names(world) for world in findings.ends} == {
        without_names(world) for world in by_name.ends
    }


@pytest.mark.parametrize(("policy", "promises"), BAD)
def test_policy_breaks_these_promises(
    policy: Policy, promises: set[Promise], record_property: RecordProperty
) -> None:
    findings = search(policy, *promises)
    record_property("findings", str(findings))
    assert promises <= findings.broken.keys(), f"\n{findings}"


def test_every_promise_is_broken_by_some_policy() -> None:
    broken = [promises for case in BAD for promises in case.values if isinstance(promises, set)]
    assert set[Promise]().union(*broken) == set(Promise)


def test_final_states_of_our_policy() -> None:
    """UNKNOWN and ACCEPTED stay only where there is no copy."""
    ends = {
        (world.record and world.record.says.status, world.copies) for world in search(OURS).ends
    }
    assert ends == {
        (None, 0),
        (Status.UNKNOWN, 0),
        (Status.ACCEPTED, 0),
        (Status.CREATED, 1),
        (Status.REJECTED, 0),
    }


def test_search_before_a_second_send_still_makes_two_copies() -> None:
    policy = replace(OURS, on_expiry=Expiry.LOOK_THEN_SEND_AGAIN)
    findings = search(policy, Promise.ONE_COPY)
    assert findings.broken[Promise.ONE_COPY].splitlines() == [
        " 1. the client asks A, which finds no record",
        " 2. A: begin as IN_PROGRESS, done",
        " 3. A sends",
        " 4. B takes over the record of a gateway that lives",
        " 5. B looks, and finds no copy",
        " 6. B sends",
        " 7. the provider makes copy 1",
        " 8. the provider makes copy 2",
        "    record: IN_PROGRESS; reply to the client: IN_PROGRESS; copies: 2",
    ]


def test_second_look_still_loses_a_copy_if_the_key_is_freed_without_a_record() -> None:
    findings = search(replace(OURS, refusal=Refusal.REJECTED), Promise.NO_COPY_LEFT)
    assert findings.broken[Promise.NO_COPY_LEFT].splitlines() == [
        " 1. the client asks A, which finds no record",
        " 2. the client asks B, which finds no record",
        " 3. A has to refuse, finds no record, and asks for a NEW_KEY; the client gets REJECTED",
        " 4. B: begin as IN_PROGRESS, done",
        " 5. B sends",
        " 6. the provider makes copy 1",
        "    record: IN_PROGRESS; reply to the client: IN_PROGRESS; copies: 1",
    ]


def test_rejected_without_a_record_denies_the_copy_of_another_replica() -> None:
    policy = replace(OURS, refusal=Refusal.REJECTED, looks_again_before_refusing=False)
    findings = search(policy, Promise.NOT_DENIED)
    assert findings.broken[Promise.NOT_DENIED].splitlines() == [
        " 1. the client asks A, which finds no record",
        " 2. the client asks B, which finds no record",
        " 3. A: begin as IN_PROGRESS, done",
        " 4. A sends",
        " 5. B has to refuse, and asks for a NEW_KEY; the client gets REJECTED",
        " 6. the provider makes copy 1",
        "    record: IN_PROGRESS; reply to the client: REJECTED; copies: 1",
    ]
