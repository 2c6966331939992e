"""Holds what clients were told, what the ledger says and what the provider made against each other.

It knows nothing of how the gateway works, only what it promises.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from campaign_gateway.model import Duplication, DuplicationStatus, Evidence
from support.faulty_provider import FAULTS, Provider, Seen
from support.figures import Figures
from support.gateways import RANK, History, Intent, Told

UNSETTLED = {DuplicationStatus.IN_PROGRESS, DuplicationStatus.UNKNOWN, DuplicationStatus.ACCEPTED}


@dataclass
class Verdict:
    """What is wrong, in words with the intent's name in front; empty when all promises held."""

    most_copies: int = 0
    most_owners: int = 0
    too_many: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    fallen: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        return [*self.too_many, *self.lost, *self.false, *self.fallen, *self.shared]


def judge(
    provider: Provider, histories: Sequence[History], records: Mapping[str, Duplication]
) -> Verdict:
    """One history for each client and key; several may have asked with the same key."""
    verdict = Verdict()
    by_name: dict[str, dict[str, Intent]] = defaultdict(dict)
    told: dict[str, list[Told]] = defaultdict(list)
    for each in histories:
        by_name[each.intent.name][each.intent.key] = each.intent
        told[each.intent.key] += each.told
    for name, intents in by_name.items():
        seen, wishes = provider.intents[name], len({each.wish for each in intents.values()})
        # Several wishes of one name are equal intents, whose copies stand for each other.
        more = max(0, len(seen.copies) - wishes)
        verdict.most_copies = max(verdict.most_copies, min(1, len(seen.copies)) + more)
        of_keys = {key: told[key] for key in intents}
        verdict.too_many += [f"{name}: {each}" for each in _too_many(seen, intents, wishes)]
        verdict.lost += [f"{name}: {each}" for each in _unrecorded(seen, intents, records)]
        verdict.false += [f"{name}: {each}" for each in _denied(seen, of_keys, records)]
        for key in intents:
            _judge(verdict, key, seen, told[key], records.get(key), has_equals=wishes > 1)
    owners: dict[str, list[str]] = defaultdict(list)
    for key, record in records.items():
        if record.campaign:
            owners[record.campaign.id].append(key)
    verdict.most_owners = max(map(len, owners.values()), default=0)
    verdict.shared += [
        f"{keys[0]}: its campaign {campaign} belongs to {keys[1:]} too"
        for campaign, keys in owners.items()
        if len(keys) > 1
    ]
    return verdict


def _judge(
    verdict: Verdict,
    key: str,
    seen: Seen,
    told: Sequence[Told],
    record: Duplication | None,
    *,
    has_equals: bool,
) -> None:
    verdict.lost += [f"{key}: {each}" for each in _lost(told, record)]
    verdict.false += [f"{key}: {each}" for each in _false(seen, told, record)]
    # What reading has given to one of several equal intents gives way to an answer, and the
    # equal ones are dealt their copies anew.
    firm = [each for each in told if not (has_equals and each.evidence == Evidence.INFERRED)]
    verdict.fallen += [f"{key}: {each}" for each in _fallen(firm, told, record)]


def _too_many(seen: Seen, keys: Collection[str], wishes: int) -> Iterable[str]:
    if len(seen.copies) > wishes:
        yield f"{len(seen.copies)} copies, and {wishes} wished for"
    if len(seen.posts) > len(keys):
        yield f"sent {len(seen.posts)} times with {len(keys)} keys"


def _unrecorded(
    seen: Seen, keys: Collection[str], records: Mapping[str, Duplication]
) -> Iterable[str]:
    if min(len(seen.posts), len(keys)) > len(keys & records.keys()):
        yield "sent, and not on record"


def _denied(
    seen: Seen, told: Mapping[str, Sequence[Told]], records: Mapping[str, Duplication]
) -> Iterable[str]:
    """Keys of which it was said that they make no copy, when the others cannot have made all.

    What is NOT_SENT says nothing about copies, and so does an answer that asks for the same key.
    """
    denied: dict[str, str] = {}
    for key, answers in told.items():
        record = records.get(key)
        if record is not None and record.status is DuplicationStatus.REJECTED:
            denied[key] = f"{key} on record as REJECTED"
        for each in answers:
            if each.status == "REJECTED" or each.retry == "NEW_KEY":
                denied[key] = f"{key} told {each.status}, {each.retry} ({each.code})"
    if len(seen.copies) > len(told) - len(denied) and denied:
        yield f"{', '.join(denied.values())}; there are {len(seen.copies)} copies"


def _lost(told: Sequence[Told], record: Duplication | None) -> Iterable[str]:
    recorded_as = {each.duplication for each in told if each.is_recorded}
    if record is None:
        if recorded_as:
            yield "told of a record that is not there"
        return
    if record.status is DuplicationStatus.IN_PROGRESS:
        yield "IN_PROGRESS for good"
    if others := recorded_as - {record.intent.id}:
        yield f"recorded as {record.intent.id} and told as {others}"


def _false(seen: Seen, told: Sequence[Told], record: Duplication | None) -> Iterable[str]:
    created = {each.campaign for each in told if each.status == "CREATED"}
    if record is not None and record.campaign is not None:
        created.add(record.campaign.id)
    if strangers := created - seen.copies.keys():
        yield f"CREATED as {strangers}, which the provider did not make for it"


def _fallen(
    firm: Sequence[Told], told: Sequence[Told], record: Duplication | None
) -> Iterable[str]:
    firm = [each for each in firm if each.is_recorded]
    recorded = [each for each in told if each.is_recorded]
    for earlier, later in product(firm, recorded):
        # Of two answers on their way at once, either may be the older.
        if earlier.told_at < later.asked_at and RANK[later.status] < RANK[earlier.status]:
            yield f"told {earlier.status} and then {later.status}"
    if firm and record is not None:
        best = max(firm, key=lambda each: RANK[each.status])
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
    figures.most_owners = max(figures.most_owners, verdict.most_owners)
    figures.lost_outcomes += len(verdict.lost)
    figures.false_verdicts += len(verdict.false)
    for history in {each.intent.wish: each for each in histories}.values():
        figures.intents += 1
        if kind is None and history.intent.fault in FAULTS:
            figures.faults[history.intent.fault] += 1
        record = records.get(history.intent.key)
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
    assert verdict.most_owners <= 1
    assert not provider.complaints, provider.complaints[:5]
