"""Checks the promises: compares the responses, the ledger and the provider's own counts.

It does not know how the gateway works, only what it promises.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from campaign_gateway.model import Duplication, DuplicationStatus, Evidence
from support.faulty_provider import FAULTS, Provider, Traffic
from support.figures import Figures
from support.gateways import RANK, GatewayResponse, History, Intent

UNSETTLED = {DuplicationStatus.IN_PROGRESS, DuplicationStatus.UNKNOWN, DuplicationStatus.ACCEPTED}


@dataclass
class Violations:
    """Sentences that start with the intent's name or key. The lists are empty if nothing is wrong.

    `too_many` has copies or requests, `lost` has outcomes, `false` has statements that the
    provider contradicts, `taken_back` has responses that a later one contradicts, and `shared` has
    copies with several owners.
    """

    most_copies: int = 0
    most_owners: int = 0
    too_many: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    taken_back: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        return [*self.too_many, *self.lost, *self.false, *self.taken_back, *self.shared]


def find_violations(
    provider: Provider, histories: Sequence[History], records: Mapping[str, Duplication]
) -> Violations:
    """Compare them. There is one history for each client and key; clients may share a key."""
    violations = Violations()
    by_name: dict[str, dict[str, Intent]] = defaultdict(dict)
    responses: dict[str, list[GatewayResponse]] = defaultdict(list)
    for history in histories:
        by_name[history.intent.name][history.intent.key] = history.intent
        responses[history.intent.key] += history.responses
    for name, intents in by_name.items():
        seen, wishes = provider.intents[name], len({intent.wish for intent in intents.values()})
        # Wishes with one name are equal intents, and their copies are interchangeable.
        more = max(0, len(seen.copies) - wishes)
        violations.most_copies = max(violations.most_copies, min(1, len(seen.copies)) + more)
        of_keys = {key: responses[key] for key in intents}
        violations.too_many += [
            f"{name}: {complaint}" for complaint in _too_many(seen, intents, wishes)
        ]
        violations.lost += [
            f"{name}: {complaint}" for complaint in _unrecorded(seen, intents, records)
        ]
        violations.false += [
            f"{name}: {complaint}" for complaint in _denied(seen, of_keys, records)
        ]
        for key in intents:
            _judge(violations, key, seen, responses[key], records.get(key), has_equals=wishes > 1)
    owners: dict[str, list[str]] = defaultdict(list)
    for key, record in records.items():
        if record.campaign:
            owners[record.campaign.id].append(key)
    violations.most_owners = max(map(len, owners.values()), default=0)
    violations.shared += [
        f"{keys[0]}: its campaign {campaign} belongs to {keys[1:]} too"
        for campaign, keys in owners.items()
        if len(keys) > 1
    ]
    return violations


def _judge(
    violations: Violations,
    key: str,
    seen: Traffic,
    responses: Sequence[GatewayResponse],
    record: Duplication | None,
    *,
    has_equals: bool,
) -> None:
    violations.lost += [f"{key}: {complaint}" for complaint in _lost(responses, record)]
    violations.false += [f"{key}: {complaint}" for complaint in _false(seen, responses, record)]
    # A copy that a search assigned to one of several equal intents may be reassigned by a response.
    firm = [
        response
        for response in responses
        if not (has_equals and response.evidence == Evidence.INFERRED)
    ]
    violations.taken_back += [
        f"{key}: {complaint}" for complaint in _taken_back(firm, responses, record)
    ]


def _too_many(seen: Traffic, keys: Collection[str], wishes: int) -> Iterable[str]:
    if len(seen.copies) > wishes:
        yield f"{len(seen.copies)} copies, and {wishes} wished for"
    if len(seen.posts) > len(keys):
        yield f"sent {len(seen.posts)} times with {len(keys)} keys"


def _unrecorded(
    seen: Traffic, keys: Collection[str], records: Mapping[str, Duplication]
) -> Iterable[str]:
    if min(len(seen.posts), len(keys)) > len(keys & records.keys()):
        yield "sent, and not recorded"


def _denied(
    seen: Traffic,
    responses: Mapping[str, Sequence[GatewayResponse]],
    records: Mapping[str, Duplication],
) -> Iterable[str]:
    """Find keys that were reported to have no copy, if the other keys cannot have made all copies.

    NOT_SENT says nothing about copies. Neither does a response that asks for the same key.
    """
    denied: dict[str, str] = {}
    for key, of_key in responses.items():
        record = records.get(key)
        if record is not None and record.status is DuplicationStatus.REJECTED:
            denied[key] = f"{key} recorded as REJECTED"
        for response in of_key:
            if response.status == "REJECTED" or response.retry == "NEW_KEY":
                denied[key] = (
                    f"{key} in a response as {response.status}, {response.retry} ({response.code})"
                )
    if len(seen.copies) > len(responses) - len(denied) and denied:
        yield f"{', '.join(denied.values())}; there are {len(seen.copies)} copies"


def _lost(responses: Sequence[GatewayResponse], record: Duplication | None) -> Iterable[str]:
    recorded_as = {response.duplication for response in responses if response.is_recorded}
    if record is None:
        if recorded_as:
            yield "a response names a record that does not exist"
        return
    if record.status is DuplicationStatus.IN_PROGRESS:
        yield "still IN_PROGRESS at the end"
    if others := recorded_as - {record.intent.id}:
        yield f"recorded as {record.intent.id}, and in responses as {others}"


def _false(
    seen: Traffic, responses: Sequence[GatewayResponse], record: Duplication | None
) -> Iterable[str]:
    created = {response.campaign for response in responses if response.status == "CREATED"}
    if record is not None and record.campaign is not None:
        created.add(record.campaign.id)
    if strangers := created - seen.copies.keys():
        yield f"CREATED as {strangers}, which the provider did not make for it"


def _taken_back(
    firm: Sequence[GatewayResponse],
    responses: Sequence[GatewayResponse],
    record: Duplication | None,
) -> Iterable[str]:
    firm = [response for response in firm if response.is_recorded]
    recorded = [response for response in responses if response.is_recorded]
    for earlier, later in product(firm, recorded):
        # If two requests overlap, either response may be the older one.
        if earlier.received_at < later.sent_at and RANK[later.status] < RANK[earlier.status]:
            yield f"{earlier.status} in a response, and then {later.status}"
    if firm and record is not None:
        best = max(firm, key=lambda response: RANK[response.status])
        if RANK[record.status.value] < RANK[best.status]:
            yield f"{best.status} in a response, and {record.status} in the ledger"
        if best.status in {"CREATED", "REJECTED"} and record.status.value != best.status:
            yield f"{best.status} in a response, and {record.status} in the ledger"
        if best.campaign and record.campaign and best.campaign != record.campaign.id:
            yield "one copy in a response, and another in the ledger"


def count(
    figures: Figures,
    violations: Violations,
    histories: Sequence[History],
    records: Mapping[str, Duplication],
    *,
    kind: str | None = None,
) -> None:
    """Add to the report. `kind` replaces each intent's own fault, if all had the same."""
    figures.most_copies = max(figures.most_copies, violations.most_copies)
    figures.most_owners = max(figures.most_owners, violations.most_owners)
    figures.lost_outcomes += len(violations.lost)
    figures.false_verdicts += len(violations.false)
    for history in {history.intent.wish: history for history in histories}.values():
        figures.intents += 1
        if kind is None and history.intent.fault in FAULTS:
            figures.faults[history.intent.fault] += 1
        record = records.get(history.intent.key)
        if record is not None and _was_unknown(history, record):
            figures.unknown[kind or history.intent.fault] += 1
            settled = record.status not in UNSETTLED
            figures.unknown_settled[kind or history.intent.fault] += settled


def _was_unknown(history: History, record: Duplication) -> bool:
    """Whether the outcome was unknown at first. A copy that was found by search shows that too."""
    was_reported = any(response.status == "UNKNOWN" for response in history.responses)
    return (
        was_reported
        or record.status is DuplicationStatus.UNKNOWN
        or (
            record.evidence is Evidence.INFERRED
            and not any(response.status == "ACCEPTED" for response in history.responses)
        )
    )


def check_promises(
    figures: Figures,
    provider: Provider,
    histories: Sequence[History],
    records: Mapping[str, Duplication],
    *,
    kind: str | None = None,
) -> None:
    """Compare, count, and assert that every promise was kept."""
    violations = find_violations(provider, histories, records)
    count(figures, violations, histories, records, kind=kind)
    assert not violations.all, "\n".join(sorted(set(violations.all))[:20])
    assert violations.most_copies <= 1
    assert violations.most_owners <= 1
    assert not provider.complaints, provider.complaints[:5]
