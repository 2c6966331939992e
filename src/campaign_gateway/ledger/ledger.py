"""What a ledger promises: durable records of intents, and who may move them where."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from campaign_gateway.ledger import rows, sql
from campaign_gateway.ledger.engine import Engine, KeyConflict, LedgerUnavailable, Place
from campaign_gateway.model import (
    Campaign,
    Created,
    Duplication,
    DuplicationStatus,
    Evidence,
    Intent,
    Outcome,
    Selection,
    Unknown,
    UserError,
)

log = logging.getLogger(__name__)

# How often an answer that meets another owner of its campaign is tried before the caller waits.
TRIES = 10


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

    If the intent names it in `override_of`, another intent has overridden it before.
    """

    record: Duplication


@dataclass(frozen=True, slots=True)
class NothingToOverride:
    """The intent has an `override_of`, but no attempt at the same copy is UNKNOWN."""


NotBegun = KeyHeld | Blocked | NothingToOverride
BeginResult = Begun | NotBegun


class Ledger:
    """Every method raises `LedgerUnavailable`, or `CommitUncertain` where it writes.

    A write has happened durably when it returns, and may be repeated when in doubt.

    A status only ever moves up: IN_PROGRESS, UNKNOWN, ACCEPTED, then CREATED or REJECTED. Whatever
    was found or said by others gives way to the provider's own certain answer, even a late one. A
    campaign is the copy of one duplication at most; if the provider's answer names a campaign that
    reading has given to another duplication, that one is searched for again.
    What `get_all` and `list` answer is to be shown, and leaves out the intent's input.
    A scope of None is everybody's, for whoever runs the gateway. `owner` is this gateway's name for
    itself, by which others know whose attempts are under way.
    """

    def __init__(self, engine: Engine, owner: str) -> None:
        self.engine = engine
        self._owner = owner

    async def find(self, scope: str, key: str) -> Duplication | None:
        """The record that holds a key, even an expired one."""
        return await self._one(sql.FIND, {"scope": scope, "key": key})

    async def get(self, scope: str | None, duplication_id: str) -> Duplication | None:
        return await self._one(sql.get(scope), {"id": duplication_id, "scope": scope})

    async def get_all(self, scope: str, duplication_ids: Iterable[str]) -> Sequence[Duplication]:
        """Those that there are, in no order."""
        wanted = rows.duplications_params(scope, duplication_ids)
        return await self._all(sql.get_all(wanted), wanted)

    async def list(
        self, scope: str | None, selection: Selection, limit: int, before: Place | None
    ) -> Sequence[Duplication]:
        """Newest first, those requested before a place in the list if one is given."""
        wanted = rows.selection_params(scope, selection, limit, before)
        return await self._all(sql.listing(wanted), wanted)

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
        # While the record is open, only another owner of the campaign can stand in the way, and it
        # may have given the campaign up since.
        while settled is None and await self._one(sql.IS_OPEN, values):
            tries += 1
            if tries > TRIES:
                owned = values["campaign_id"]
                raise LedgerUnavailable(f"the owner of campaign {owned} keeps changing")
            settled = await self._take_over(intent, values, now) or await self._settle(values)
        settled = settled or await self._one(sql.ANY, values)
        if settled is None:
            # As after a failover to a copy of the database that was a moment behind.
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
        """Settle on a campaign that another duplication holds; None if that is not so any more.

        What was only found by reading gives way to the provider's own answer.
        """
        holder = await self._one(sql.OWNER, values)
        if holder is None:
            return None
        if holder.evidence not in {Evidence.INFERRED, Evidence.OPERATOR} or holder.expired:
            # The provider has named one campaign twice, so it is not known what this call made.
            log.warning(
                "the provider has named campaign %s as the copy of the duplications %s and %s. If "
                "their accounts do not show the same campaigns, give them different "
                "shared_campaigns",
                values["campaign_id"],
                holder.intent.id,
                intent.id,
            )
            ambiguous = rows.outcome_params(intent, Unknown(rows.SAME_CAMPAIGN), now, now)
            return await self._settle(ambiguous) or await self._one(sql.ANY, values)
        mine = await self._one(sql.ANY, values)
        steps = [
            (sql.RELEASE, rows.release_params(values, now)),
            (sql.SETTLE, values),
        ]
        if mine and mine.campaign and mine.intent.fingerprint == holder.intent.fingerprint:
            # Two equal intents had each other's copies: they exchange them.
            exchanged = Created(mine.campaign, warnings=mine.warnings)
            copy = rows.copy_params(holder, exchanged, None)
            copy |= {"evidence": Evidence.INFERRED.value, "now": rows.micros(now)}
            steps.append((sql.SETTLE_FROM_EVIDENCE, copy))
        _, settled, *_ = await self.engine.write_all(steps)
        if not settled:
            return None
        log.warning(
            "campaign %s is the copy of duplication %s, as its provider says, and not of %s",
            values["campaign_id"],
            intent.id,
            holder.intent.id,
        )
        return rows.parse_row(settled[0])

    def now(self) -> datetime:
        """The time by the one clock that all gateways of this ledger share."""
        return self.engine.now()

    async def mark_never_sent(self, intent: Intent, error: UserError, now: datetime) -> None:
        """Record that the attempt with this intent's attempt_id was never sent.

        Does nothing when the key stands for another attempt.
        """
        # An INSERT of unknown fate that is committed after this finds the key taken.
        await self.engine.write(sql.RESTORE, rows.intent_params(intent, self._owner, now, None))
        await self.engine.write(sql.MARK_NEVER_SENT, rows.never_sent_params(intent, error, now))

    async def settle_from_evidence(
        self,
        duplication: Duplication,
        copy: Created,
        evidence: Evidence,
        now: datetime,
        next_check_at: datetime | None,
    ) -> Duplication | None:
        """Record the copy that was found for an ACCEPTED or UNKNOWN duplication.

        Does nothing and answers None when it is settled, or the campaign is a known copy, already.
        """
        values = rows.copy_params(duplication, copy, next_check_at)
        values |= {"evidence": evidence.value, "now": rows.micros(now)}
        written = await self.engine.write(sql.SETTLE_FROM_EVIDENCE, values)
        return rows.parse_row(written[0]) if written else None

    async def update_copy(
        self, duplication: Duplication, copy: Created, next_check_at: datetime | None
    ) -> Duplication | None:
        """Record what has been learnt of, or done to, the copy of a CREATED duplication.

        Does nothing and answers None when another campaign has been found to be its copy.
        """
        values = rows.copy_params(duplication, copy, next_check_at)
        written = await self.engine.write(sql.UPDATE_COPY, values)
        return rows.parse_row(written[0]) if written else None

    async def settle_as_not_created(
        self, duplication: Duplication, error: UserError, now: datetime
    ) -> bool:
        """Record a person's word that an ACCEPTED or UNKNOWN duplication made no copy.

        Does nothing and answers False when it is settled already.
        """
        values = rows.never_sent_params(duplication.intent, error, now)
        return bool(await self.engine.write(sql.SETTLE_AS_NOT_CREATED, values))

    async def due_accounts(self, now: datetime) -> Sequence[str]:
        """The accounts with duplications of which there is more to know."""
        found = await self.engine.read(sql.DUE_ACCOUNTS, {"now": rows.micros(now)})
        return [row["account"] for row in found]

    async def claim_due(
        self, account: str, now: datetime, limit: int, until: datetime
    ) -> Sequence[Duplication]:
        """Duplications of which there is more to know; nobody else gets them before `until`."""
        values = {
            "account": account,
            "now": rows.micros(now),
            "limit": limit,
            "until": rows.micros(until),
        }
        taken = await self.engine.write(sql.CLAIM_DUE, values)
        return [rows.parse_row(row) for row in taken]

    async def postpone(
        self, duplication: Duplication, next_check_at: datetime, candidates: Iterable[Campaign]
    ) -> None:
        """Record that a check has told nothing new, and when to look again."""
        values = rows.postponement_params(duplication, next_check_at, candidates)
        await self.engine.write(sql.POSTPONE, values)

    async def competing(self, duplication: Duplication) -> Sequence[Duplication]:
        """Duplications whose copy nobody knows, of its id_namespace, and its name or its source.

        It is among them itself. Oldest first.
        """
        return await self._all(sql.COMPETING, rows.competing_params(duplication))

    async def known_copies(self, id_namespace: str, campaign_ids: Iterable[str]) -> frozenset[str]:
        """Those of the campaigns that are known copies already."""
        wanted = rows.campaigns_params(id_namespace, campaign_ids)
        found = await self.engine.read(sql.known_copies(wanted), wanted)
        return frozenset(row["campaign_id"] for row in found)

    async def move(self, account: str, place: str) -> None:
        """Let an account's duplications count among those of the place that it leads to now."""
        found = await self.engine.read(sql.PLATFORMS, {"account": account})
        for id_namespace in [row["id_namespace"] for row in found]:
            before, mark, kind = id_namespace.partition("#")
            if before != place:
                values = {
                    "account": account,
                    "id_namespace": id_namespace,
                    "moved": place + mark + kind,
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
        """For each campaign a duplication that it was the copy or source of, if there is one."""
        found: dict[str, Duplication] = {}
        wanted = rows.related_params(scope, account, campaign_ids)
        for each in await self._all(sql.copies(wanted), wanted):
            assert each.campaign is not None
            found[each.campaign.id] = each
        for campaign_id in set(campaign_ids) - found.keys():
            values = {"scope": scope, "account": account, "campaign_id": campaign_id}
            if source := await self._one(sql.RELATED_BY_SOURCE, values):
                found[campaign_id] = source
        return found

    async def expire(self, settled_before: datetime, limit: int) -> int:
        """Shrink settled duplications to what refuses their keys. Answers how many."""
        return len(await self.engine.write(sql.EXPIRE, rows.age_params(settled_before, limit)))

    async def forget(self, requested_before: datetime, limit: int) -> int:
        """Delete expired duplications, which frees their keys. Answers how many."""
        return len(await self.engine.write(sql.FORGET, rows.age_params(requested_before, limit)))

    async def check(self) -> Sequence[str]:
        """What about the store weakens the promise, in words for whoever runs it.

        Raises `LedgerUnavailable` unless the ledger could take a new intent now.
        """
        return await self.engine.check()

    async def close(self) -> None:
        await self.engine.close()

    async def _one(self, statement: str, values: Mapping[str, object]) -> Duplication | None:
        found = await self._all(statement, values)
        return found[0] if found else None

    async def _all(self, statement: str, values: Mapping[str, object]) -> Sequence[Duplication]:
        return [rows.parse_row(row) for row in await self.engine.read(statement, values)]
