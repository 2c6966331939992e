"""Random sequences of all that can happen to intents, on the real ledgers.

The provider is in memory and knows the truth. After every step, the test compares the ledger's
records with it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from campaign_gateway.ledger import Ledger, disk_reserve, open_ledger, sql
from campaign_gateway.ledger.engine import KeyConflict, LedgerUnavailable
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.ledger.ledger import (
    BeginResult,
    Begun,
    Blocked,
    KeyHeld,
    NothingToOverride,
)
from campaign_gateway.ledger.postgres import DELETE_REPLICA, PostgresEngine
from campaign_gateway.model import (
    Accepted,
    Campaign,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Intent,
    OperatorNote,
    Outcome,
    Rejected,
    Selection,
    Unknown,
    UserError,
)
from support.memory import memory_folder

START = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
CHECK_TIMEOUT = timedelta(seconds=60)

UNKNOWN = Unknown(UserError(ErrorCode.OUTCOME_UNKNOWN, "no response"))
REFUSED = Rejected(UserError(ErrorCode.CONFLICT, "no"), "trace")
NEVER_SENT = UserError(ErrorCode.OVERLOADED, "never sent")
ABSENT = UserError(ErrorCode.PROVIDER_UNAVAILABLE, "checked")
WITHDRAWN = UserError(ErrorCode.OUTCOME_UNKNOWN, "withdrawn")
NOTE = OperatorNote("ann", "a test")

UNSETTLED = {DuplicationStatus.UNKNOWN, DuplicationStatus.ACCEPTED}
RANK = {
    DuplicationStatus.IN_PROGRESS: 0,
    DuplicationStatus.UNKNOWN: 1,
    DuplicationStatus.ACCEPTED: 2,
    DuplicationStatus.CREATED: 3,
    DuplicationStatus.REJECTED: 3,
}

Result = TypeVar("Result")

State = tuple[DuplicationStatus, Evidence | None, str | None]

ANY = st.integers(0, 2**16)
KEYS = "abcdefghijkl"
VERDICTS = ["made", "made", "promised", "refused", "broken"]


@dataclass
class Gateways:
    """The gateways of one new ledger. A crashed gateway has stopped, and is taken for dead."""

    ledgers: Sequence[Ledger]
    crash: Callable[[int], Coroutine[Any, Any, None]]
    take_for_dead: Callable[[int], Coroutine[Any, Any, None]] | None = None


OpenGateways = Callable[[], AbstractAsyncContextManager[Gateways]]


class Runs(Protocol):
    """Runs one coroutine after the other in one event loop."""

    def __call__(self, coroutine: Coroutine[Any, Any, Result], /) -> Result: ...


@dataclass(eq=False)
class Attempt:
    """What has really happened to one intent."""

    intent: Intent
    gateway: int
    life: int
    is_cancelled: bool = False
    is_sent: bool = False
    is_in_flight: bool = False
    is_promised: bool = False
    response: Outcome | None = None
    copy: Campaign | None = None


class Copying(RuleBasedStateMachine):
    def __init__(self, run: Runs, open_gateways: OpenGateways) -> None:
        super().__init__()
        self.run = run
        self.opened = open_gateways()
        self.gateways = self.run(self.opened.__aenter__())
        self.lives = [0 for _ in self.gateways.ledgers]
        self.now = START
        self.numbers = count(1)
        self.attempts: list[Attempt] = []
        self.records: dict[str, Duplication] = {}
        self.states: dict[str, list[State]] = {}
        self.sends: Counter[tuple[str, str]] = Counter()
        self.checked: list[Duplication] = []
        self.held: dict[str, datetime] = {}

    def teardown(self) -> None:
        try:
            self.settle_everything()
        finally:
            self.run(self.opened.__aexit__(None, None, None))

    def settle_everything(self) -> None:
        """After the crash of all gateways, search settles each open duplication that has a copy."""
        for number in range(len(self.lives)):
            self._crash(number)
        self.records_are_true()
        far = self.now + timedelta(days=9999)
        due = self.run(self._ledger(0).claim_due("braze", far, 1000, far + CHECK_TIMEOUT))
        assert {record.intent.id for record in due} == {
            record.intent.id for record in self._unsettled()
        }
        for attempt in self.attempts:
            record = self._record(attempt)
            assert record is None or record.status is not DuplicationStatus.IN_PROGRESS
            if record is not None and record.status in UNSETTLED and attempt.copy is not None:
                self.run(self._read(record, attempt.copy, Evidence.INFERRED))
                read = self._record(attempt)
                assert read is not None
                assert read.status is DuplicationStatus.CREATED
        self.records_are_true()
        for record in self.records.values():
            if not record.expired:
                self._history_is_whole(record)

    def _history_is_whole(self, record: Duplication) -> None:
        """The history has every state that was seen, and ends with that of now."""
        history = self.run(self._ledger(0).history(record.intent.id))
        recorded = [(change.status, change.evidence, change.campaign_id) for change in history]
        assert recorded[0] == (DuplicationStatus.IN_PROGRESS, None, None)
        assert recorded[-1] == state_of(record)
        remaining = iter(recorded)
        assert all(state in remaining for state in self.states[record.intent.id]), recorded
        times = [change.at for change in history if change.at is not None]
        assert len(times) == len(history)

    # --- intents ----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 1, 61, 4000]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(
        key=st.sampled_from(KEYS),
        scope=st.sampled_from(["ours", "ours", "theirs"]),
        source=st.sampled_from(["s1", "s1", "s2"]),
        name=st.sampled_from(["Copy", " Copy ", "Other", None]),
        override_of=st.sampled_from(["nothing", "nothing", "the newest", "no such"]),
        callers=st.integers(1, 3),
        at=ANY,
    )
    def begin(
        self,
        key: str,
        scope: str,
        source: str,
        name: str | None,
        override_of: str,
        callers: int,
        at: int,
    ) -> None:
        """Several callers with one key, at the same time."""
        # At one gateway, because between gateways the winner would differ from run to run.
        gateway = at % len(self.lives)
        intents = [self._intent(key, scope, source, name) for _ in range(callers)]
        holder = self.run(self._ledger(at).find(scope, key))
        newest = self._newest_unknown(intents[0])
        in_the_way = newest.intent.id if newest else None
        named = {"nothing": None, "the newest": in_the_way, "no such": new_id()}[override_of]
        tries = [
            Attempt(replace(intent, override_of=named), gateway, self.lives[gateway])
            for intent in intents
        ]
        results = self.run(self._begin_all(tries))
        winners = [
            attempt for attempt, result in zip(tries, results, strict=True) if result == Begun()
        ]
        # No caller can override another caller's duplication.
        is_theirs = newest is not None and newest.intent.scope != scope
        is_spent = any(self._is_an_override_of(attempt, named) for attempt in self.attempts)
        self.attempts += winners
        if holder is not None:
            assert [taken_by(result) for result in results] == [holder] * callers
        elif named != in_the_way or is_spent or is_theirs:
            # It blocks all callers until it is settled, or overridden for the first time.
            assert [blocked_by(result) for result in results] == [newest] * callers
        else:
            assert len(winners) == 1
            losers = [result for result in results if result != Begun()]
            assert all(taken_by(loser).intent == winners[0].intent for loser in losers)

    @precondition(lambda self: self._unknown())
    @rule(which=ANY, key=st.sampled_from(KEYS), at=ANY)
    def an_unknown_copy_is_overridden(self, which: int, key: str, at: int) -> None:
        intent = chosen(which, self._unknown()).intent
        source, name = intent.source_campaign_id, intent.requested_name
        self.begin(key, intent.scope, source, name, "the newest", 1, at)

    def _is_an_override_of(self, attempt: Attempt, named: str | None) -> bool:
        """Return whether the attempt counts: rejected and never sent attempts do not."""
        if named is None or attempt.intent.override_of != named:
            return False
        record = self.run(self._ledger(0).find(attempt.intent.scope, attempt.intent.key))
        if record is None or record.intent.id != attempt.intent.id:
            return False
        is_certain = record.evidence is not Evidence.OPERATOR
        return not (record.status is DuplicationStatus.REJECTED and is_certain)

    async def _begin_all(self, tries: Sequence[Attempt]) -> list[BeginResult]:
        ledgers = self.gateways.ledgers
        return await asyncio.gather(
            *(ledgers[attempt.gateway].begin(attempt.intent, self.now, None) for attempt in tries)
        )

    @precondition(lambda self: self._sendable())
    @rule(which=ANY)
    def an_unconfirmed_begin_is_repeated(self, which: int) -> None:
        attempt = chosen(which, self._sendable())
        before = self._record(attempt)
        assert before is not None
        beginning = self.gateways.ledgers[attempt.gateway].begin(attempt.intent, self.now, None)
        if before.status is DuplicationStatus.IN_PROGRESS:
            assert self.run(beginning) == Begun()
        else:
            # It was taken over meanwhile, and other callers have seen that status.
            assert self.run(beginning) == KeyHeld(before)
            attempt.is_cancelled = True

    @precondition(lambda self: self._sendable())
    @rule(which=ANY)
    def an_unconfirmed_begin_is_cancelled(self, which: int) -> None:
        attempt = chosen(which, self._sendable())
        attempt.is_cancelled = True
        ledger = self.gateways.ledgers[attempt.gateway]
        self.run(ledger.mark_never_sent(attempt.intent, NEVER_SENT, self.now))

    @precondition(lambda self: self._sendable())
    @rule(which=ANY)
    def send(self, which: int) -> None:
        self._send(chosen(which, self._sendable()))

    @rule(
        key=st.sampled_from(KEYS),
        source=st.sampled_from(["s1", "s2", "s3"]),
        name=st.sampled_from(["Copy", " Copy ", "Other"]),
        verdict=st.sampled_from(VERDICTS),
        is_lost=st.booleans(),
        at=ANY,
    )
    def a_call_runs(
        self, key: str, source: str, name: str, verdict: str, at: int, *, is_lost: bool
    ) -> None:
        """Run a whole call, unless something blocks it."""
        self.begin(key, "ours", source, name, "nothing", 1, at)
        mine = [attempt for attempt in self._sendable() if attempt.intent.key == key]
        for attempt in mine:
            self._send(attempt)
            self._receive(attempt, verdict)
            self._receive_response(attempt, at, is_lost=is_lost)

    def _send(self, attempt: Attempt) -> None:
        record = self._record(attempt)
        assert record is not None
        assert not record.expired
        key = (attempt.intent.scope, attempt.intent.key)
        self.sends[key] += 1
        assert self.sends[key] == 1, "one key, one send"
        attempt.is_sent = attempt.is_in_flight = True

    # --- the provider -----------------------------------------------------------------------------

    @precondition(lambda self: self._in_flight())
    @rule(which=ANY, verdict=st.sampled_from(VERDICTS))
    def the_provider_receives_it(self, which: int, verdict: str) -> None:
        self._receive(chosen(which, self._in_flight()), verdict)

    def _receive(self, attempt: Attempt, verdict: str) -> None:
        attempt.is_in_flight = False
        if verdict == "made":
            attempt.copy = self._new_campaign(attempt)
            attempt.response = Created(attempt.copy, "trace")
        elif verdict == "promised":
            attempt.is_promised = True
            attempt.response = Accepted("trace")
        elif verdict == "refused":
            attempt.response = REFUSED

    @precondition(lambda self: self._promised())
    @rule(which=ANY, is_kept=st.booleans())
    def a_promise_is_kept_or_broken(self, which: int, *, is_kept: bool) -> None:
        attempt = chosen(which, self._promised())
        attempt.is_promised = False
        if is_kept:
            attempt.copy = self._new_campaign(attempt)

    @precondition(lambda self: self._sent())
    @rule(which=ANY, at=ANY, is_lost=st.booleans())
    def a_response_arrives(self, which: int, at: int, *, is_lost: bool) -> None:
        """It may be late, repeated, or after the takeover from its gateway."""
        self._receive_response(chosen(which, self._sent()), at, is_lost=is_lost)

    def _receive_response(self, attempt: Attempt, at: int, *, is_lost: bool) -> None:
        outcome = UNKNOWN if is_lost or attempt.response is None else attempt.response
        before = self._record(attempt)
        self.held.pop(attempt.intent.id, None)
        key_is_taken = before is None and self.run(
            self._ledger(at).find(attempt.intent.scope, attempt.intent.key)
        )
        check_at = self.now if isinstance(outcome, Accepted | Unknown) else None
        settling = self._ledger(at).settle(attempt.intent, outcome, self.now, check_at)
        if key_is_taken:
            # The record was deleted meanwhile, and its key used again.
            with pytest.raises(KeyConflict):
                self.run(settling)
            return
        record = self.run(settling)
        assert record == self._record(attempt)
        if not record.expired and isinstance(outcome, Created):
            assert record.campaign == attempt.copy
        if not record.expired and isinstance(outcome, Created | Rejected):
            assert record.evidence is Evidence.RESPONSE

    @precondition(lambda self: self.records)
    @rule(which=ANY, at=ANY)
    def another_attempt_changes_nothing(self, which: int, at: int) -> None:
        record = chosen(which, list(self.records.values()))
        stranger = replace(record.intent, attempt_id="stranger")
        forged = Created(Campaign("forged"))
        self.run(self._ledger(at).settle(stranger, forged, self.now, self.now))
        self.run(self._ledger(at).mark_never_sent(stranger, NEVER_SENT, self.now))
        assert self.run(self._ledger(at).find(record.intent.scope, record.intent.key)) == record

    # --- gateways ---------------------------------------------------------------------------------

    @precondition(lambda self: self._in_progress())
    @rule(which=ANY)
    def a_gateway_crashes(self, which: int) -> None:
        self._crash(which % len(self.lives))

    @precondition(lambda self: self.gateways.take_for_dead)
    @rule(which=ANY)
    def a_running_gateway_is_taken_for_dead(self, which: int) -> None:
        assert self.gateways.take_for_dead is not None
        self.run(self.gateways.take_for_dead(which % len(self.lives)))

    # --- search and operators ---------------------------------------------------------------------

    @rule(at=ANY, limit=st.sampled_from([1, 10]))
    def due_duplications_are_claimed(self, at: int, limit: int) -> None:
        until = self.now + CHECK_TIMEOUT
        for record in self.run(self._ledger(at).claim_due("braze", self.now, limit, until)):
            assert record.status in UNSETTLED
            assert self.held.get(record.intent.id, self.now) <= self.now, "one reader at a time"
            self.held[record.intent.id] = until
            self.checked.append(record)

    @precondition(lambda self: self.checked)
    @rule(which=ANY)
    def a_check_ends(self, which: int) -> None:
        taken = self.checked.pop(which % len(self.checked))
        self.held.pop(taken.intent.id, None)
        copy = self._attempt_of(taken).copy
        if copy is not None:
            self.run(self._read(taken, copy, Evidence.INFERRED))
        else:
            later, doubtful = self.now + timedelta(seconds=5), [Campaign("x")]
            self.run(self._ledger(which).postpone(taken, later, doubtful))

    @precondition(lambda self: self._unsettled() and self._known_copies())
    @rule(which=ANY, other=ANY)
    def a_known_copy_is_not_assigned_again(self, which: int, other: int) -> None:
        record = chosen(which, self._unsettled())
        theirs = chosen(other, self._known_copies())
        reading = self._ledger(which).settle_from_evidence(
            record, Created(theirs), Evidence.INFERRED, self.now, None
        )
        assert not self.run(reading)

    @precondition(lambda self: self._unsettled())
    @rule(which=ANY)
    def an_operator_resolves(self, which: int) -> None:
        record = chosen(which, self._unsettled())
        attempt = self._attempt_of(record)
        if attempt.copy is not None:
            self.run(self._read(record, attempt.copy, Evidence.OPERATOR))
        elif not self._may_still_be_made(attempt):
            assert self.run(self._ledger(which).settle_as_not_created(record, ABSENT, self.now))
            assert not self.run(self._ledger(which).settle_as_not_created(record, ABSENT, self.now))

    @precondition(lambda self: self._resolved())
    @rule(which=ANY, at=ANY)
    def an_operator_withdraws_a_result(self, which: int, at: int) -> None:
        self._withdraw(chosen(which, self._resolved()), at)

    @precondition(lambda self: self._unsettled())
    @rule(which=ANY, at=ANY)
    def an_operator_corrects_a_mistake(self, which: int, at: int) -> None:
        """The operator records a false result, and withdraws it before anything else happens."""
        # Attempts of the last seconds count as later than the result.
        self.now += timedelta(seconds=10)
        record, ledger = chosen(which, self._unsettled()), self._ledger(at)
        if which % 2:
            self.run(ledger.settle_as_not_created(record, ABSENT, self.now, note=NOTE))
        else:
            wrong = Created(Campaign(f"wrong{next(self.numbers)}"))
            operator = Evidence.OPERATOR
            self.run(
                ledger.settle_from_evidence(record, wrong, operator, self.now, None, note=NOTE)
            )
        resolved = self.run(ledger.get(None, record.intent.id))
        assert resolved is not None
        assert resolved.evidence is Evidence.OPERATOR
        assert self._withdraw(resolved, at)

    def _withdraw(self, resolved: Duplication, at: int) -> bool:
        reopened = self.run(self._ledger(at).reopen(resolved, WITHDRAWN, self.now, NOTE))
        blocking = self.run(self._ledger(at).built_on(resolved))
        if reopened is None:
            assert blocking is not None
            return False
        assert reopened.status is DuplicationStatus.UNKNOWN
        assert reopened.campaign is None
        # From now on it may get any result again.
        self.records[resolved.intent.id] = reopened
        # It is due, also if a check from before the result still runs.
        self.held.pop(resolved.intent.id, None)
        return True

    # --- retention --------------------------------------------------------------------------------

    @rule(age=st.sampled_from([0, 1, 1000]), limit=st.sampled_from([1, 100]), at=ANY)
    def old_duplications_expire(self, age: float, limit: int, at: int) -> None:
        before = self.now - timedelta(seconds=age)
        settled = [
            record
            for record in self.records.values()
            if not record.expired and record.settled_at and record.settled_at < before
            if record.requested_at < before
        ]
        expired = self.run(self._ledger(at).expire(before, limit))
        assert expired == min(limit, len(settled))

    @rule(age=st.sampled_from([0, 1000]), at=ANY)
    def expired_duplications_are_deleted(self, age: float, at: int) -> None:
        before = self.now - timedelta(seconds=age)
        old = [
            record.intent
            for record in self.records.values()
            if record.expired and record.requested_at < before
        ]
        assert self.run(self._ledger(at).forget(before, 100)) == len(old)
        for record in old:
            del self.records[record.id], self.states[record.id]
            del self.sends[record.scope, record.key]

    # --- invariants -------------------------------------------------------------------------------

    @invariant()
    def records_are_true(self) -> None:
        recorded = self.run(self._all_records())
        assert self.records.keys() <= recorded.keys(), "no record vanishes"
        for attempt in self.attempts:
            record = recorded.get(attempt.intent.id)
            if record is None:
                continue
            if before := self.records.get(attempt.intent.id):
                assert_no_worse(record, before)
            if attempt.copy is not None:
                assert record.status is not DuplicationStatus.REJECTED
            if record.status is DuplicationStatus.CREATED:
                assert attempt.copy is not None
                assert record.expired or record.campaign == attempt.copy
            if record.status is DuplicationStatus.ACCEPTED:
                assert isinstance(attempt.response, Accepted)
            states = self.states.setdefault(record.intent.id, [])
            if not record.expired and state_of(record) not in states[-1:]:
                states.append(state_of(record))
        self.records = recorded

    # --- helpers ----------------------------------------------------------------------------------

    async def _all_records(self) -> dict[str, Duplication]:
        """Return all records by id. An expired record is in no list, but holds its key."""
        ledger = self.gateways.ledgers[0]
        listed = await ledger.list(None, Selection(), 1000, None)
        recorded = {record.intent.id: record for record in listed}
        for attempt in self.attempts:
            if attempt.intent.id not in recorded and (holder := await self._find(attempt)):
                recorded[attempt.intent.id] = holder
        return recorded

    async def _find(self, attempt: Attempt) -> Duplication | None:
        """Return the attempt's record, if it still holds its key."""
        holder = await self.gateways.ledgers[0].find(attempt.intent.scope, attempt.intent.key)
        is_mine = holder is not None and holder.intent.id == attempt.intent.id
        return holder if is_mine else None

    def _record(self, attempt: Attempt) -> Duplication | None:
        return self.run(self._find(attempt))

    def _ledger(self, number: int) -> Ledger:
        return self.gateways.ledgers[number % len(self.lives)]

    def _intent(self, key: str, scope: str, source: str, name: str | None) -> Intent:
        # No two intents begin in the same microsecond.
        self.now += timedelta(microseconds=1000)
        number = next(self.numbers)
        return Intent(
            # The newest has the lowest id, as from a gateway whose clock is far behind.
            id=f"{2**32 - number:08x}-0000-7000-8000-000000000000",
            attempt_id=f"n{number}",
            scope=scope,
            key=key,
            fingerprint=f"{source} {name}",
            provider="braze",
            account="braze",
            source_campaign_id=source,
            requested_name=name,
            # Lists are without it.
            input="",
        )

    def _new_campaign(self, attempt: Attempt) -> Campaign:
        return Campaign(f"c{next(self.numbers)}", name=attempt.intent.requested_name)

    def _newest_unknown(self, intent: Intent) -> Duplication | None:
        unknown = Selection(statuses=(DuplicationStatus.UNKNOWN,))
        listed = self.run(self.gateways.ledgers[0].list(None, unknown, 1000, None))
        return next((record for record in listed if same_copy(record.intent, intent)), None)

    async def _read(self, record: Duplication, copy: Campaign, evidence: Evidence) -> None:
        ledger = self.gateways.ledgers[0]
        known = await ledger.find(record.intent.scope, record.intent.key)
        is_open = known is not None and known.intent.id == record.intent.id
        settled = await ledger.settle_from_evidence(record, Created(copy), evidence, self.now, None)
        assert bool(settled) == (is_open and known is not None and known.status in UNSETTLED)

    def _crash(self, number: int) -> None:
        self.run(self.gateways.crash(number))
        self.lives[number] += 1

    def _sendable(self) -> list[Attempt]:
        return [
            attempt
            for attempt in self.attempts
            if attempt.life == self.lives[attempt.gateway]
            and not attempt.is_sent
            and not attempt.is_cancelled
        ]

    def _may_still_be_made(self, attempt: Attempt) -> bool:
        return attempt.is_in_flight or attempt.is_promised or attempt in self._sendable()

    def _sent(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.is_sent]

    def _in_flight(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.is_in_flight]

    def _promised(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.is_promised]

    def _unsettled(self) -> list[Duplication]:
        return [record for record in self.records.values() if record.status in UNSETTLED]

    def _in_progress(self) -> list[Duplication]:
        every = self.records.values()
        return [record for record in every if record.status is DuplicationStatus.IN_PROGRESS]

    def _resolved(self) -> list[Duplication]:
        return [
            record
            for record in self.records.values()
            if record.evidence is Evidence.OPERATOR and not record.expired
        ]

    def _unknown(self) -> list[Duplication]:
        every = self.records.values()
        return [record for record in every if record.status is DuplicationStatus.UNKNOWN]

    def _known_copies(self) -> list[Campaign]:
        return [record.campaign for record in self.records.values() if record.campaign is not None]

    def _attempt_of(self, record: Duplication) -> Attempt:
        return next(attempt for attempt in self.attempts if attempt.intent.id == record.intent.id)


def state_of(record: Duplication) -> State:
    return record.status, record.evidence, record.campaign.id if record.campaign else None


Chosen = TypeVar("Chosen")


def chosen(number: int, among: Sequence[Chosen]) -> Chosen:
    return among[number % len(among)]


def taken_by(result: BeginResult) -> Duplication:
    assert isinstance(result, KeyHeld), result
    return result.record


def blocked_by(result: BeginResult) -> Duplication | None:
    assert isinstance(result, Blocked | NothingToOverride), result
    return result.record if isinstance(result, Blocked) else None


def same_copy(one: Intent, other: Intent) -> bool:
    return (one.source_campaign_id, (one.requested_name or "").strip()) == (
        other.source_campaign_id,
        (other.requested_name or "").strip(),
    )


def assert_no_worse(record: Duplication, before: Duplication) -> None:
    """Compare a record with the same record at an earlier time."""
    is_accepted = record.status is DuplicationStatus.ACCEPTED
    if (
        before.evidence is Evidence.OPERATOR
        and record.evidence is Evidence.RESPONSE
        and is_accepted
    ):
        # An operator found no copy, and then the response arrived.
        return
    assert RANK[record.status] >= RANK[before.status]
    if RANK[before.status] == RANK[DuplicationStatus.CREATED]:
        assert record.status is before.status
    if before.expired:
        assert record == before


# --- the engines ----------------------------------------------------------------------------------


@cache
def new_ledger() -> bytes:
    """Return the file of a ledger without records. A copy takes less time than the migrations."""
    with TemporaryDirectory(dir=memory_folder(2**20)) as folder:
        path = Path(folder) / "ledger.db"

        async def make() -> None:
            await (await open_ledger(f"sqlite:///{path}")).close()

        # In a thread, because an event loop may run in this one.
        with ThreadPoolExecutor() as threads:
            threads.submit(asyncio.run, make()).result()
        return path.read_bytes()


@asynccontextmanager
async def at_sqlite() -> AsyncIterator[Gateways]:
    with TemporaryDirectory(dir=memory_folder(2**20)) as folder:
        path = Path(folder) / "ledger.db"
        path.write_bytes(new_ledger())
        url = f"sqlite:///{path}"
        ledgers = [await open_ledger(url)]

        async def crash(number: int) -> None:
            await ledgers[0].close()
            ledgers[0] = await open_ledger(url)

        yield Gateways(ledgers, crash)
        await ledgers[0].close()


@asynccontextmanager
async def at_postgres(url: str) -> AsyncIterator[OpenGateways]:
    """Open two gateways for all examples, because their connections take longer than an example."""
    await (await open_ledger(url)).close()
    # As operators they have no heartbeat, so the steps decide which gateway counts as dead.
    ledgers = [await open_ledger(url, as_operator=True) for _ in range(2)]

    engines = [of_postgres(ledger) for ledger in ledgers]

    async def take_for_dead(number: int) -> None:
        one, other = engines[number], engines[1 - number]
        await one._run(DELETE_REPLICA, {"owner": one._owner})
        await other._take_over_abandoned()
        await one._beat()

    async def crash(number: int) -> None:
        await take_for_dead(number)
        ledgers[number]._owner = engines[number]._owner = new_id()
        await engines[number]._beat()

    @asynccontextmanager
    async def open_gateways() -> AsyncIterator[Gateways]:
        for engine in engines:
            await engine._beat()
        await engines[0]._run("TRUNCATE duplication, history", {})
        yield Gateways(ledgers, crash, take_for_dead)

    yield open_gateways
    for ledger in ledgers:
        await ledger.close()


def of_postgres(ledger: Ledger) -> PostgresEngine:
    assert isinstance(ledger.engine, PostgresEngine)
    return ledger.engine


@pytest.fixture(autouse=True)
def small_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of ledgers are opened, and each would reserve megabytes."""
    for name in ("LOG_BYTES", "MIN_SPARE_PAGES", "MAX_SPARE_PAGES"):
        monkeypatch.setattr(disk_reserve, name, 1)


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture) -> Iterator[Runs]:
    caplog.set_level(logging.ERROR)  # Thousands of takeovers would each be logged.
    # An asyncio.Runner would set and reset a signal handler for each of thousands of coroutines.
    loop = asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.close()


def length(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def lengths(examples: int) -> list[Any]:
    return [(examples, 50), pytest.param((30 * examples, 100), marks=pytest.mark.long)]


def check(run: Runs, open_gateways: OpenGateways, how_long: settings) -> None:
    # Its annotation asks for a class, but it only calls it.
    machine: Any = partial(Copying, run, open_gateways)
    run_state_machine_as_test(machine, settings=how_long)


@pytest.mark.parametrize("size", lengths(80))
def test_no_sequence_makes_a_second_copy_or_a_false_record_in_sqlite(
    run: Runs, size: tuple[int, int]
) -> None:
    check(run, at_sqlite, length(*size))


@pytest.mark.parametrize("size", lengths(40))
def test_no_sequence_makes_a_second_copy_or_a_false_record_in_postgres(
    run: Runs, size: tuple[int, int], postgres_url: str
) -> None:
    opened = at_postgres(postgres_url)
    open_gateways = run(opened.__aenter__())
    try:
        check(run, open_gateways, length(*size))
    finally:
        run(opened.__aexit__(None, None, None))


MISTAKES = {
    "another attempt id settles": ("SETTLE", " AND duplication.attempt_id = :attempt_id", ""),
    "a response overwrites any status": (
        "SETTLE",
        "duplication.status IN ('IN_PROGRESS', 'UNKNOWN')",
        "1 = 1",
    ),
    "search outweighs the provider": (
        "SETTLE",
        "duplication.evidence IN ('INFERRED', 'OPERATOR')",
        "1 = 0",
    ),
    "the newest has the highest id": (
        "BEGIN",
        "ORDER BY requested_at DESC, id DESC",
        "ORDER BY id DESC",
    ),
    "an unknown duplication does not block": ("BEGIN", "status = 'UNKNOWN'", "status = ''"),
    "only one name blocks": ("BEGIN", "name_key = :name_key", "requested_name = ''"),
    "an override can be repeated": ("BEGIN", ":override_of, 'IN_PROGRESS'", "NULL, 'IN_PROGRESS'"),
    "a key is taken over": (
        "BEGIN",
        "DO NOTHING",
        (
            "DO UPDATE SET id = excluded.id, attempt_id = excluded.attempt_id,"
            " status = excluded.status"
        ),
    ),
    "another attempt id marks as never sent": (
        "MARK_NEVER_SENT",
        " AND attempt_id = :attempt_id",
        "",
    ),
    "one campaign is the copy of two": ("SETTLE_FROM_EVIDENCE", "NOT EXISTS", "EXISTS"),
    "search reopens a settled duplication": ("SETTLE_FROM_EVIDENCE", "status IN", "status NOT IN"),
    "an operator overwrites a response": (
        "SETTLE_AS_NOT_CREATED",
        " AND status IN ('ACCEPTED', 'UNKNOWN')",
        "",
    ),
    "a withdrawn result is final": ("REOPEN", "next_check_at = :now", "next_check_at = NULL"),
    "two gateways claim the same duplication": ("CLAIM_DUE", ":until", ":now"),
    "an abandoned attempt is rejected": (
        "TAKE_OVER_ABANDONED",
        "status = 'UNKNOWN'",
        "status = 'REJECTED'",
    ),
    "an open duplication expires": ("EXPIRE", "settled_at < :before", "requested_at < :before"),
    "a record is deleted before it expires": ("FORGET", "expired = 1 AND ", ""),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_seeded_mistake_in_a_statement_is_found(
    mistake: str, run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, right, wrong = MISTAKES[mistake]
    # On one line, so that a mistake does not depend on where the lines of a statement end.
    statement = " ".join(getattr(sql, name).split())
    assert right in statement
    monkeypatch.setattr(sql, name, statement.replace(right, wrong, 1))
    quick = settings(
        length(5000, 40),  # The rarest needs about 100 examples.
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    # A unique index refuses a second owner of a campaign, as LedgerUnavailable.
    with pytest.raises((AssertionError, LedgerUnavailable)):
        check(run, at_sqlite, quick)
