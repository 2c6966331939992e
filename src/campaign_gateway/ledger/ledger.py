"""The ledger: durable records of intents, and the rules by which their statuses change."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from campaign_gateway.ledger import rows, sql
from campaign_gateway.ledger.call_limits import CallLimits
from campaign_gateway.ledger.engine import Cursor, Engine, KeyConflict, LedgerUnavailable
from campaign_gateway.ledger.lost_time import accept_all_keys, warning
from campaign_gateway.model import (
    Campaign,
    Change,
    Created,
    Duplication,
    DuplicationStatus,
    Evidence,
    Intent,
    LostTime,
    OperatorNote,
    Outcome,
    Selection,
    Unknown,
    Unsettled,
    UserError,
)
from campaign_gateway.observe.health import Health

log = logging.getLogger(__name__)

# How often a response that names a campaign of another duplication is recorded again.
TRIES = 10

# How many records a page filters. SQLite needs a few milliseconds for them.
SCAN_LIMIT = 20_000


@dataclass(frozen=True, slots=True)
class Begun:
    """The intent is recorded, and its attempt may be sent."""


@dataclass(frozen=True, slots=True)
class KeyHeld:
    """Another attempt's record holds the key."""

    record: Duplication


@dataclass(frozen=True, slots=True)
class Blocked:
    """The newest attempt at the same copy is UNKNOWN, and the intent does not override it.

    It may be of another scope. If it is of the same scope and the intent names it in `override_of`,
    another intent has overridden it before.
    """

    record: Duplication


@dataclass(frozen=True, slots=True)
class NothingToOverride:
    """The intent has an `override_of`, but no attempt at the same copy is UNKNOWN."""


NotBegun = KeyHeld | Blocked | NothingToOverride
BeginResult = Begun | NotBegun


class Ledger:
    """Records duplications in a database.

    Every method raises `LedgerUnavailable`, and a write also `CommitUncertain`. When a write
    returns, it is durable. If a write is uncertain, the caller may repeat it.

    A status only moves up: IN_PROGRESS, UNKNOWN, ACCEPTED, then CREATED or REJECTED. A definite
    response of the provider overwrites results from search or from an operator, even if it arrives
    late. A campaign is the copy of at most one duplication. If the provider names a campaign that
    search has assigned to another duplication, the gateway searches for the other copy again.

    The results of `get_all` and `list` are without the intent's input. A scope of None stands for
    all scopes, for the operator. `owner` is the id of this gateway, which is recorded with each of
    its attempts. `call_limits` is None if the database serves one gateway only. `lost_times` are
    the times whose records the ledger does not have.
    """

    def __init__(
        self,
        engine: Engine,
        owner: str,
        health: Health,
        call_limits: CallLimits | None = None,
        lost_times: Sequence[LostTime] = (),
    ) -> None:
        self.engine = engine
        self.health = health
        self.call_limits = call_limits
        self.lost_times = lost_times
        self._owner = owner

    async def find(self, scope: str, key: str) -> Duplication | None:
        """Return the record that holds a key, even an expired one."""
        return await self._one(sql.FIND, {"scope": scope, "key": key})

    async def get(self, scope: str | None, duplication_id: str) -> Duplication | None:
        return await self._one(sql.get(scope), {"id": duplication_id, "scope": scope})

    async def get_all(self, scope: str, duplication_ids: Iterable[str]) -> Sequence[Duplication]:
        """Return the records that exist, in no order."""
        values = rows.duplications_params(scope, duplication_ids)
        return await self._all(sql.get_all(values), values)

    async def list(
        self, scope: str | None, selection: Selection, limit: int, before: Cursor | None
    ) -> Sequence[Duplication]:
        """Return the newest records first, from behind the cursor if there is one."""
        values = rows.selection_params(scope, selection, limit, before)
        return await self._all(sql.listing(values), values)

    async def page(
        self, scope: str, selection: Selection, limit: int, before: Cursor | None
    ) -> tuple[Sequence[Duplication], Cursor | None]:
        """Return records of one caller, newest first, and where to continue if there may be more.

        A filter may match few of many records. So a page filters up to `SCAN_LIMIT` of them, and
        has fewer than `limit` records if it then ends.
        """
        # One more than requested shows whether there are more.
        values = rows.selection_params(scope, selection, limit + 1, before)
        is_filtered = not sql.FILTERS.isdisjoint(values)
        if is_filtered:
            values["scanned"] = SCAN_LIMIT
        records = await self._all(sql.listing(values), values)
        if len(records) > limit:
            last = records[limit - 1]
            return records[:limit], (last.requested_at, last.intent.id)
        ends = await self.engine.read(sql.scan_end(values), values) if is_filtered else []
        return records, rows.parse_cursor(ends[0]) if ends else None

    async def begin(
        self, intent: Intent, now: datetime, preexisting_ids: tuple[str, ...] | None
    ) -> BeginResult:
        """Record the intent, unless its key or an UNKNOWN attempt at the same copy prevents it.

        `preexisting_ids` are the campaigns that match the copy already; None if they were not
        listed. A repetition with the same `attempt_id` changes nothing. An `override_of` works for
        one attempt that is not rejected.
        """
        values = rows.intent_params(intent, self._owner, now, preexisting_ids)
        holder = None
        while holder is None:
            if await self.engine.write(sql.BEGIN, values, is_intent=True):
                return Begun()
            holder = await self._one(sql.FIND, values)
            blocker = None if holder else await self._one(sql.UNRESOLVED, values)
            if blocker:
                return Blocked(blocker)
            if intent.override_of and not holder:
                return NothingToOverride()
            # Without any of them, the record that prevented it has been settled in between.
        # The same attempt_id: the first INSERT was committed, and only its confirmation was lost.
        is_ours = holder.intent.attempt_id == intent.attempt_id
        if is_ours and holder.status is DuplicationStatus.IN_PROGRESS:
            return Begun()
        return KeyHeld(holder)

    async def settle(
        self,
        intent: Intent,
        outcome: Outcome,
        now: datetime,
        next_check_at: datetime | None,
        preexisting_ids: tuple[str, ...] | None = None,
    ) -> Duplication:
        """Record the outcome of the attempt with this intent's `attempt_id`.

        At `next_check_at` the reconciler checks the outcome, or completes the copy. If the record
        has vanished, it is restored, with the `preexisting_ids` of `begin`. Raises `KeyConflict`
        if another attempt's record holds its key by then.
        """
        values = rows.outcome_params(intent, outcome, now, next_check_at)
        settled = await self._settle(values)
        tries = 0
        # While the record is open, only another owner of the campaign can block it. That owner may
        # have lost the campaign in the meantime.
        while settled is None and await self._one(sql.IS_OPEN, values):
            tries += 1
            if tries > TRIES:
                owned = values["campaign_id"]
                raise LedgerUnavailable(f"the owner of campaign {owned} keeps changing")
            settled = await self._take_over(intent, values, now) or await self._settle(values)
        settled = settled or await self._one(sql.FIND_BY_ID, values)
        if settled is None:
            # For example after a failover to a replica of the database that lags behind.
            whole = rows.intent_params(intent, self._owner, now, preexisting_ids)
            await self.engine.write(sql.RESTORE, whole)
            settled = await self._settle(values)
        if settled is None:
            holder = await self.find(intent.scope, intent.key)
            assert holder is not None, "what kept the record from being restored holds its key"
            raise KeyConflict(holder)
        return settled

    async def _settle(self, values: Mapping[str, object]) -> Duplication | None:
        written = await self.engine.write(sql.SETTLE, values)
        return rows.parse_row(written[0]) if written else None

    async def _take_over(
        self, intent: Intent, values: rows.Values, now: datetime
    ) -> Duplication | None:
        """Settle with a campaign that is recorded as the copy of another duplication.

        Return None if no other duplication has the campaign any more. If the other record has
        weaker evidence than a response, it loses the campaign.
        """
        holder = await self._one(sql.OWNER, values)
        if holder is None:
            return None
        if holder.evidence not in {Evidence.INFERRED, Evidence.OPERATOR} or holder.expired:
            # The provider has named one campaign twice, so the result of this call is unknown.
            log.warning(
                "the provider has named campaign %s as the copy of the duplications %s and %s. If "
                "their accounts do not show the same campaigns, give them different "
                "shared_campaigns",
                values["campaign_id"],
                holder.intent.id,
                intent.id,
            )
            ambiguous = rows.outcome_params(intent, Unknown(rows.SAME_CAMPAIGN), now, now)
            return await self._settle(ambiguous) or await self._one(sql.FIND_BY_ID, values)
        mine = await self._one(sql.FIND_BY_ID, values)
        steps = [
            (sql.RELEASE, rows.release_params(values, now)),
            (sql.SETTLE, values),
        ]
        if mine and mine.campaign and mine.intent.fingerprint == holder.intent.fingerprint:
            # Search had assigned the copies of two equal intents the wrong way round.
            exchanged = Created(mine.campaign, warnings=mine.warnings)
            copy = rows.copy_params(holder, exchanged, None)
            copy |= {"evidence": Evidence.INFERRED.value, "now": rows.to_micros(now)}
            copy |= rows.note_params(None)
            steps.append((sql.SETTLE_FROM_EVIDENCE, copy))
        _, settled, *_ = await self.engine.write_all(steps)
        if not settled:
            return None
        log.warning(
            "the provider has named campaign %s as the copy of duplication %s, so it is not the "
            "copy of %s",
            values["campaign_id"],
            intent.id,
            holder.intent.id,
        )
        return rows.parse_row(settled[0])

    def now(self) -> datetime:
        """Return the time of the one clock that all gateways of this ledger share."""
        return self.engine.now()

    async def mark_never_sent(self, intent: Intent, error: UserError, now: datetime) -> None:
        """Record that the attempt with this intent's attempt_id was never sent.

        Does nothing if another attempt's record holds the key.
        """
        # If an uncertain INSERT of the attempt arrives after this one, the key prevents it.
        await self.engine.write(sql.RESTORE, rows.intent_params(intent, self._owner, now, None))
        await self.engine.write(sql.MARK_NEVER_SENT, rows.never_sent_params(intent, error, now))

    async def settle_from_evidence(
        self,
        duplication: Duplication,
        copy: Created,
        evidence: Evidence,
        now: datetime,
        next_check_at: datetime | None,
        *,
        note: OperatorNote | None = None,
    ) -> Duplication | None:
        """Record the copy of an ACCEPTED or UNKNOWN duplication that a search or an operator found.

        Does nothing and returns None if the duplication is settled, or the campaign is a known copy
        already.
        """
        values = rows.copy_params(duplication, copy, next_check_at)
        values |= {"evidence": evidence.value, "now": rows.to_micros(now)}
        values |= rows.note_params(note)
        written = await self.engine.write(sql.SETTLE_FROM_EVIDENCE, values)
        return rows.parse_row(written[0]) if written else None

    async def update_copy(
        self, duplication: Duplication, copy: Created, next_check_at: datetime | None
    ) -> Duplication | None:
        """Record the details, the name or the warnings of the copy of a CREATED duplication.

        Does nothing and returns None if another campaign is recorded as its copy by now.
        """
        values = rows.copy_params(duplication, copy, next_check_at)
        written = await self.engine.write(sql.UPDATE_COPY, values)
        return rows.parse_row(written[0]) if written else None

    async def settle_as_not_created(
        self,
        duplication: Duplication,
        error: UserError,
        now: datetime,
        *,
        note: OperatorNote | None = None,
    ) -> bool:
        """Record an operator's decision that an ACCEPTED or UNKNOWN duplication created no copy.

        Does nothing and returns False if the duplication is settled already.
        """
        values = rows.never_sent_params(duplication.intent, error, now) | rows.note_params(note)
        return bool(await self.engine.write(sql.SETTLE_AS_NOT_CREATED, values))

    async def reopen(
        self, duplication: Duplication, error: UserError, now: datetime, note: OperatorNote
    ) -> Duplication | None:
        """Withdraw an operator's result: the duplication is UNKNOWN and due again.

        Does nothing and returns None if the record has another result by now, or another
        duplication builds on this one.
        """
        values = rows.reopening_params(duplication) | rows.error_params(error, now)
        written = await self.engine.write(sql.REOPEN, values | rows.note_params(note))
        return rows.parse_row(written[0]) if written else None

    async def built_on(self, duplication: Duplication) -> str | None:
        """Return the id of a duplication because of which `reopen` does nothing."""
        found = await self.engine.read(sql.BUILT_ON, rows.reopening_params(duplication))
        return found[0]["id"] if found else None

    async def history(self, duplication_id: str) -> Sequence[Change]:
        """Return the states that a duplication has had, oldest first. The last is that of now."""
        states = await self.engine.read(sql.HISTORY, {"id": duplication_id})
        return [rows.parse_change(row) for row in states]

    async def due_accounts(self, now: datetime) -> Sequence[str]:
        """Return the accounts that have duplications to check."""
        due = await self.engine.read(sql.DUE_ACCOUNTS, {"now": rows.to_micros(now)})
        return [row["account"] for row in due]

    async def claim_due(
        self, account: str, now: datetime, limit: int, until: datetime
    ) -> Sequence[Duplication]:
        """Return duplications to check. No other gateway gets them before `until`."""
        values = {
            "account": account,
            "now": rows.to_micros(now),
            "limit": limit,
            "until": rows.to_micros(until),
        }
        claimed = await self.engine.write(sql.CLAIM_DUE, values)
        return [rows.parse_row(row) for row in claimed]

    async def postpone(
        self, duplication: Duplication, next_check_at: datetime, candidates: Iterable[Campaign]
    ) -> None:
        """Record a check without a result, and the time of the next one."""
        values = rows.postponement_params(duplication, next_check_at, candidates)
        await self.engine.write(sql.POSTPONE, values)

    async def competing(
        self, duplication: Duplication, within: timedelta | None = None
    ) -> Sequence[Duplication]:
        """Return the duplications whose copy may be the same campaign, oldest first.

        They have no known copy, the same `id_namespace`, and the same name or the same source. With
        `within`, they were requested so long before or after it instead. The duplication itself is
        one of them.
        """
        if within is not None:
            values = rows.competing_of_a_time_params(duplication, within)
            return await self._all(sql.COMPETING_OF_A_TIME, values)
        return await self._all(sql.COMPETING, rows.competing_params(duplication))

    async def owner_of(self, id_namespace: str, campaign_id: str) -> Duplication | None:
        """Return the duplication whose copy the campaign is."""
        return await self._one(sql.COPY_OWNER, rows.owner_params(id_namespace, campaign_id))

    async def known_copies(self, id_namespace: str, campaign_ids: Iterable[str]) -> frozenset[str]:
        """Return the ids of those campaigns that are recorded as copies already."""
        values = rows.campaigns_params(id_namespace, campaign_ids)
        copies = await self.engine.read(sql.known_copies(values), values)
        return frozenset(row["campaign_id"] for row in copies)

    async def move(self, account: str, place: str) -> None:
        """Move an account's duplications to the place that the account leads to now.

        A place is a provider at a host. Accounts at one place see the same campaigns.
        """
        recorded = await self.engine.read(sql.ID_NAMESPACES, {"account": account})
        for id_namespace in [row["id_namespace"] for row in recorded]:
            recorded_place, separator, kind = id_namespace.partition("#")
            if recorded_place != place:
                values = {
                    "account": account,
                    "id_namespace": id_namespace,
                    "moved": place + separator + kind,
                }
                await self.engine.write_all(
                    [
                        (sql.RELEASE_MOVED, rows.release_params(values, self.now())),
                        (sql.MOVE, values),
                    ]
                )

    async def find_related(
        self, scope: str, account: str, campaign_ids: Collection[str]
    ) -> Mapping[str, Duplication]:
        """Return for each campaign a duplication whose copy or source it is, if there is one."""
        related: dict[str, Duplication] = {}
        values = rows.related_params(scope, account, campaign_ids)
        for duplication in await self._all(sql.related_by_copy(values), values):
            assert duplication.campaign is not None
            related[duplication.campaign.id] = duplication
        for campaign_id in set(campaign_ids) - related.keys():
            by_source = {"scope": scope, "account": account, "campaign_id": campaign_id}
            if duplication_of_source := await self._one(sql.RELATED_BY_SOURCE, by_source):
                related[campaign_id] = duplication_of_source
        return related

    async def count_unknown(self, scope: str, limit: int) -> int:
        """Return how many duplications of a scope are UNKNOWN, but count no more than `limit`."""
        (row,) = await self.engine.read(sql.COUNT_UNKNOWN, {"scope": scope, "limit": limit})
        return int(row["number"])

    async def unsettled(self) -> Sequence[Unsettled]:
        """Return how many duplications are not settled, and since when, by account and status."""
        return [
            Unsettled(
                row["account"],
                DuplicationStatus(row["status"]),
                int(row["number"]),
                rows.from_micros(row["oldest"]),
            )
            for row in await self.engine.read(sql.UNSETTLED, {})
        ]

    async def accounts(self) -> frozenset[str]:
        """Return the accounts of all duplications. It reads the whole table."""
        return frozenset(row["account"] for row in await self.engine.read(sql.ACCOUNTS, {}))

    async def measure(self, scope: str, after: str, limit: int) -> tuple[int, int, str | None]:
        """Measure up to `limit` records of a scope, in the order of their keys.

        Return their number, the characters that they store, and the last key, from which to
        continue. It is None at the end.
        """
        values = {"scope": scope, "after": after, "limit": limit}
        (row,) = await self.engine.read(sql.MEASURE, values)
        return int(row["number"]), int(row["size"]), row["last_key"]

    async def expire(self, settled_before: datetime, limit: int) -> int:
        """Delete all of settled duplications but the key and the status. Return how many."""
        return len(await self.engine.write(sql.EXPIRE, rows.age_params(settled_before, limit)))

    async def forget(self, requested_before: datetime, limit: int) -> int:
        """Delete expired duplications, which frees their keys. Return how many."""
        return len(await self.engine.write(sql.FORGET, rows.age_params(requested_before, limit)))

    async def accept_all_keys(self) -> bool:
        """End the refusal of keys after a restore. Return whether there was one.

        Gateways read it at their start.
        """
        return await accept_all_keys(self.engine)

    async def check(self) -> Sequence[str]:
        """Return warnings for the operator: settings that weaken the promise, and refused keys.

        Raises `LedgerUnavailable` if the ledger could not record a new intent now.
        """
        now = self.now()
        lost = [warning(lost) for lost in self.lost_times if now < lost.refused_until]
        return [*await self.engine.check(), *lost]

    async def close(self) -> None:
        await self.engine.close()

    async def _one(self, statement: str, values: Mapping[str, object]) -> Duplication | None:
        duplications = await self._all(statement, values)
        return duplications[0] if duplications else None

    async def _all(self, statement: str, values: Mapping[str, object]) -> Sequence[Duplication]:
        return [rows.parse_row(row) for row in await self.engine.read(statement, values)]
