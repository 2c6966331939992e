"""Holds what clients were told, what the ledger says and what the provider made against each other.

It knows nothing of how the gateway works, only what it promises.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from campaign_gateway.ledger.contract import Duplication
from campaign_gateway.outcomes import DuplicationStatus, Evidence
from support.faulty_provider import FAULTS, Provider, Seen
from support.figures import Figures
from support.gateways import RANK, History, Told

UNSETTLED = {DuplicationStatus.IN_PROGRESS, DuplicationStatus.UNKNOWN, DuplicationStatus.ACCEPTED}


@dataclass
class Verdict:
    """What is wrong, in words with the intent's name in front; empty when all promises held."""

    most_copies: int = 0
    too_many: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    fallen: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        return [*self.too_many, *self.lost, *self.false, *self.fallen]


def judge(
    provider: Provider, histories: Sequence[History], records: Mapping[str, Duplication]
) -> Verdict:
    """One history for each client; several may have asked for the same intent."""
    verdict = Verdict()
    for name in {each.intent.name for each in histories}:
        told = [
            each for history in histories if history.intent.name == name for each in history.told
        ]
        _judge(verdict, name, provider.intents[name], told, records.get(name))
    owners: dict[str, str] = {}
    for key, record in records.items():
        if record.campaign and (other := owners.setdefault(record.campaign.id, key)) != key:
            verdict.false.append(f"{key}: has the copy of {other}")
    return verdict


def _judge(
    verdict: Verdict, name: str, seen: Seen, told: Sequence[Told], record: Duplication | None
) -> None:
    verdict.most_copies = max(verdict.most_copies, len(seen.copies))
    verdict.too_many += [f"{name}: {each}" for each in _too_many(seen)]
    verdict.lost += [f"{name}: {each}" for each in _lost(seen, told, record)]
    verdict.false += [f"{name}: {each}" for each in _false(seen, told, record)]
    verdict.fallen += [f"{name}: {each}" for each in _fallen(told, record)]


def _too_many(seen: Seen) -> Iterable[str]:
    if len(seen.copies) > 1:
        yield f"{len(seen.copies)} copies"
    if len(seen.posts) > 1:
        yield f"sent {len(seen.posts)} times"


def _lost(seen: Seen, told: Sequence[Told], record: Duplication | None) -> Iterable[str]:
    if record is None:
        if seen.posts:
            yield "sent, and not on record"
        if any(each.duplication for each in told):
            yield "told of a record that is not there"
        return
    if record.status is DuplicationStatus.IN_PROGRESS:
        yield "IN_PROGRESS for good"
    if others := {each.duplication for each in told} - {None, record.intent.id}:
        yield f"recorded as {record.intent.id} and told as {others}"


def _false(seen: Seen, told: Sequence[Told], record: Duplication | None) -> Iterable[str]:
    if record is not None and record.status is DuplicationStatus.REJECTED and seen.copies:
        yield "on record as REJECTED, and there is a copy"
    created = {each.campaign for each in told if each.status == "CREATED"}
    if record is not None and record.campaign is not None:
        created.add(record.campaign.id)
    if strangers := created - seen.copies.keys():
        yield f"CREATED as {strangers}, which the provider did not make for it"
    for each in told:
        if each.status == "REJECTED" and each.duplication and seen.copies:
            yield f"told REJECTED ({each.code}), and there is a copy"
        # What was refused without a record says that the same key is fine: the copy may only
        # be one that was made later.
        if each.duplication is None and each.safe_to_retry and _was_there(seen, each):
            yield f"told that nothing was made ({each.code}: {each.message}), and there was a copy"


def _was_there(seen: Seen, told: Told) -> bool:
    return any(made_at < told.asked_at for made_at in seen.copies.values())


def _fallen(told: Sequence[Told], record: Duplication | None) -> Iterable[str]:
    recorded = [each for each in told if each.duplication]
    for earlier, later in product(recorded, recorded):
        # Of two answers on their way at once, either may be the older.
        if earlier.told_at < later.asked_at and RANK[later.status] < RANK[earlier.status]:
            yield f"told {earlier.status} and then {later.status}"
    if recorded and record is not None:
        best = max(recorded, key=lambda each: RANK[each.status])
        if RANK[record.status.value] < RANK[best.status]:
            yield f"told {best.status}, and {record.status} is on record"
        if best.status in {"CREATED", "REJECTED"} and record.status.value != best.status:
            yield f"told {best.status}, and {record.status} is on record"
        if best.campaign and record.campaign and best.campaign != record.campaign.id:
            yield "told of one copy, and another is on record"


def count(
    figures: Figures,
    verdict: Verdict,
    histories: Sequence[History],
    records: Mapping[str, Duplication],
    *,
    kind: str | None = None,
) -> None:
    """Into the report; `kind` is what was done to all of them, in place of each one's own fault."""
    figures.most_copies = max(figures.most_copies, verdict.most_copies)
    figures.lost_outcomes += len(verdict.lost)
    figures.false_verdicts += len(verdict.false)
    for name, history in {each.intent.name: each for each in histories}.items():
        figures.intents += 1
        if kind is None and history.intent.fault in FAULTS:
            figures.faults[history.intent.fault] += 1
        record = records.get(name)
        if record is not None and _was_unknown(history, record):
            figures.unknown[kind or history.intent.fault] += 1
            settled = record.status not in UNSETTLED
            figures.unknown_settled[kind or history.intent.fault] += settled


def _was_unknown(history: History, record: Duplication) -> bool:
    """Whether nobody knew at first; that a copy was inferred says so too."""
    told_so = any(each.status == "UNKNOWN" for each in history.told)
    return (
        told_so
        or record.status is DuplicationStatus.UNKNOWN
        or (
            record.evidence is Evidence.INFERRED
            and not any(each.status == "ACCEPTED" for each in history.told)
        )
    )


def hold(
    figures: Figures,
    provider: Provider,
    histories: Sequence[History],
    records: Mapping[str, Duplication],
    *,
    kind: str | None = None,
) -> None:
    """Judge, count, and insist that every promise was kept."""
    verdict = judge(provider, histories, records)
    count(figures, verdict, histories, records, kind=kind)
    assert not verdict.wrong, "\n".join(sorted(set(verdict.wrong))[:20])
    assert verdict.most_copies <= 1
    assert not provider.complaints, provider.complaints[:5]
