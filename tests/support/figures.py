"""What the tests count and measure, for the report."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Figures:
    """The figures of all tests of a run. Tests add to them, and make their assertions themselves.

    `measured` has results of benchmarks and drills by name, and `counted` has counts by name.
    """

    intents: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    most_copies: int = 0
    most_owners: int = 0
    lost_outcomes: int = 0
    false_verdicts: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    unknown_settled: Counter[str] = field(default_factory=Counter)
    measured: dict[str, str] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)

    def count(self, what: str) -> None:
        self.counted[what] += 1

    def dump(self) -> str:
        """Return all figures as text, which another process can load and add to its own."""
        return json.dumps(vars(self))

    @classmethod
    def load(cls, text: str) -> Self:
        fields = json.loads(text)
        counters = ("faults", "unknown", "unknown_settled", "counted")
        return cls(**{**fields, **{name: Counter(fields[name]) for name in counters}})

    def add(self, other: Self) -> None:
        """Add the figures of another process, which ran other tests."""
        self.intents += other.intents
        self.faults += other.faults
        self.most_copies = max(self.most_copies, other.most_copies)
        self.most_owners = max(self.most_owners, other.most_owners)
        self.lost_outcomes += other.lost_outcomes
        self.false_verdicts += other.false_verdicts
        self.unknown += other.unknown
        self.unknown_settled += other.unknown_settled
        self.measured |= other.measured
        self.counted += other.counted

    def lines(self) -> list[str]:
        """Return a Markdown table for each kind of figures, if there are any."""
        tables: list[str] = []
        if self.intents:
            rows = {
                "intents": self.intents,
                "faults and kills injected": self.faults.total(),
                "most copies for one intent": self.most_copies,
                "most intents that own one campaign": self.most_owners,
                "lost outcomes": self.lost_outcomes,
                'false "made" or "not made" verdicts': self.false_verdicts,
                "ended UNKNOWN at first": _share(self.unknown.total(), self.intents),
                "of those, settled by reading": _share(
                    self.unknown_settled.total(), self.unknown.total()
                ),
            }
            tables += _table("promise", "figure", rows)
            kinds = {
                kind: f"{count} | {self.unknown[kind]} | {self.unknown_settled[kind]}"
                for kind, count in sorted(self.faults.items())
            }
            tables += ["", *_table("fault", "injected | UNKNOWN | settled by reading", kinds)]
        measured = {**self.measured, **{name: str(count) for name, count in self.counted.items()}}
        if measured:
            tables += ["", *_table("measured", "figure", dict(sorted(measured.items())))]
        return tables


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else str(part)


def _table(name: str, heading: str, rows: dict[str, object] | dict[str, str]) -> list[str]:
    columns = heading.count("|") + 2
    lines = [f"| {name} | {heading} |", "|" + "---|" * columns]
    return [*lines, *(f"| {key} | {value} |" for key, value in rows.items())]
