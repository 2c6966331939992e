"""What the tests of the promise have counted and measured, for the report."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Figures:
    """Filled by tests as they run; a test asserts for itself and only counts here.

    `measured` has what benchmarks and drills found, as lines of a name and a value.
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

    def count(self, what: str) -> None:
        self.measured[what] = str(int(self.measured.get(what, "0")) + 1)

    def lines(self) -> list[str]:
        """A Markdown table for each kind of figure that there is."""
        found: list[str] = []
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
            found += _table("promise", "figure", rows)
            kinds = {
                kind: f"{count} | {self.unknown[kind]} | {self.unknown_settled[kind]}"
                for kind, count in sorted(self.faults.items())
            }
            found += ["", *_table("fault", "injected | UNKNOWN | settled by reading", kinds)]
        if self.measured:
            found += ["", *_table("measured", "figure", self.measured)]
        return found


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else str(part)


def _table(name: str, heading: str, rows: dict[str, object] | dict[str, str]) -> list[str]:
    columns = heading.count("|") + 2
    lines = [f"| {name} | {heading} |", "|" + "---|" * columns]
    return [*lines, *(f"| {key} | {value} |" for key, value in rows.items())]
