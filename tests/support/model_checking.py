"""Searches a model exhaustively for promises that it breaks.

A model has states, which are values, and the steps between them. The search goes breadth first, so
a broken promise comes with a shortest trace: the steps from the start to where it is broken.
"""

import gc
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Generic, NamedTuple, TypeVar

State = TypeVar("State", bound=Hashable)


class Word(StrEnum):
    """An enum for states. A search hashes millions of them, and an enum's own hash is slow."""

    __hash__ = str.__hash__


class Step(NamedTuple, Generic[State]):
    """`what` happens, as a line of a trace. `comes` is False for what may never happen."""

    what: str
    state: State
    comes: bool = True


@dataclass(frozen=True)
class Promises(Generic[State]):
    """What must hold in every state, at every step, and in a state in which nothing more comes."""

    always: Mapping[Enum, Callable[[State], bool]]
    at_each_step: Mapping[Enum, Callable[[State, State], bool]]
    at_the_end: Mapping[Enum, Callable[[State], bool]]


@dataclass(frozen=True)
class Findings(Generic[State]):
    """`states` is how many were visited. `broken` has a trace for each promise.

    `ends` are the states in which nothing more has to come.
    """

    states: int
    broken: Mapping[Enum, str]
    ends: Sequence[State] = ()

    def __str__(self) -> str:
        broken = [f"not kept: {promise.value}\n{how}" for promise, how in self.broken.items()]
        return "\n\n".join([f"{self.states} states", *broken])


@dataclass
class _Search(Generic[State]):
    """`ways` has, for each state, the state before it and what happened there.

    Its keys are of the `kind` of each state.
    """

    start: State
    describe_step: Callable[[str, State, State], str]
    describe_state: Callable[[State], Sequence[str]]
    kind: Callable[[State], Hashable]
    ways: dict[Hashable, tuple[State, str] | None] = field(init=False)
    broken: dict[Enum, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ways = {self.kind(self.start): None}

    def report(self, promise: Enum, before: State, what: str, after: State) -> None:
        """Keep the trace that breaks the promise, unless there is a shorter one already."""
        if promise not in self.broken:
            self.broken[promise] = self._trace(before, what, after)

    def _trace(self, before: State, last: str, end: State) -> str:
        lines = [self.describe_step(last, before, end)]
        state = before
        while (way := self.ways[self.kind(state)]) is not None:
            before, what = way
            lines.insert(0, self.describe_step(what, before, state))
            state = before
        steps = [f"{number:2}. {line}" for number, line in enumerate(lines, start=1)]
        return "\n".join([*steps, *(f"    {line}" for line in self.describe_state(end))])


def _say(what: str, _before: object, _after: object) -> str:
    return what


def _itself(state: State) -> State:
    return state


def search(  # noqa: C901 - one loop with one state, which parts would have to share
    start: State,
    steps: Callable[[State], Iterator[Step[State]]],
    promises: Promises[State],
    describe_state: Callable[[State], Sequence[str]],
    *,
    describe_step: Callable[[str, State, State], str] = _say,
    kind: Callable[[State], Hashable] = _itself,
    until: Sequence[Enum] = (),
    most_states: int,
) -> Findings[State]:
    """Visit every state, or stop when the promises of `until` are broken.

    The search also stops at `most_states`. `describe_state` returns the last lines of a trace. Of
    the states with an equal `kind`, which differ only in names, only the first one is visited.
    """
    progress = _Search(start, describe_step, describe_state, kind)
    ways, ahead, ends = progress.ways, deque([start]), list[State]()
    # States make no cycles, and each collection would visit all of them.
    gc.disable()
    while ahead and len(ways) < most_states and not (until and progress.broken.keys() >= {*until}):
        state = ahead.popleft()
        is_end = True
        for what, after, comes in steps(state):
            is_end = is_end and not comes
            for promise, is_kept in promises.at_each_step.items():
                if not is_kept(state, after):
                    progress.report(promise, state, what, after)
            way = (state, what)
            if ways.setdefault(kind(after), way) is way:
                ahead.append(after)
                for promise, holds in promises.always.items():
                    if not holds(after):
                        progress.report(promise, state, what, after)
        if is_end:
            ends.append(state)
            for promise, holds in promises.at_the_end.items():
                if not holds(state):
                    progress.report(promise, state, "nothing more comes", state)
    gc.enable()
    return Findings(len(ways), progress.broken, ends)


def search_each(
    states: Iterable[State],
    broken_by: Callable[[State], Iterable[Enum]],
    *,
    until: Sequence[Enum] = (),
) -> Findings[State]:
    """Look at states that have no steps, or stop when the promises of `until` are broken."""
    broken: dict[Enum, str] = {}
    count = 0
    for state in states:
        count += 1
        for promise in broken_by(state):
            broken.setdefault(promise, f"    {state}")
        if until and broken.keys() >= {*until}:
            break
    return Findings(count, broken)
