"""What a mutation costs, for the gateway as shipped and for peers, and where it goes."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from bench import processes
from bench.processes import FOLDER, INPUTS, Peer, Server, cpu_seconds, memory_of
from bench.wire import Target, load


class Nonsense(Exception):
    """A server has sent wrong responses, or too few."""


@dataclass(frozen=True)
class Cost:
    """Of one mutation: microseconds of the server's CPU, and milliseconds for the client."""

    cpu: float
    p50: float
    p99: float
    per_second: float


Costs = Mapping[str, Mapping[int, Cost]]


@dataclass(frozen=True)
class Report:
    """`costs` has those of each server by the requests in flight, and `stages` microseconds."""

    costs: Costs
    stages: Mapping[str, float]
    memory: Mapping[str, float]
    sampled_at: int


def measure(target: Target, pid: int, in_flight: int, seconds: float) -> Cost:
    """Raises `Nonsense` if a response is wrong."""
    before = cpu_seconds(pid)
    result = asyncio.run(load(target, in_flight, seconds))
    spent = cpu_seconds(pid) - before
    if result.wrong or len(result.times) < in_flight or spent <= 0:
        wrong = result.wrong.most_common(1)
        raise Nonsense(f"{target.name}: {len(result.times)} responses, {wrong}")
    number = len(result.times)
    p50, p99 = (1e3 * result.percentile(part) for part in (0.5, 0.99))
    return Cost(1e6 * spent / number, p50, p99, number / result.seconds)


def compare(
    folder: Path,
    peers: Sequence[Peer],
    others: Sequence[Path],
    in_flight: Sequence[int],
    rounds: int,
    seconds: float,
    warm_up: float,
) -> Report:
    """Measure all servers in turns, so that what slows the machine slows all of them."""
    runs: dict[tuple[str, int], list[Cost]] = defaultdict(list)
    with ExitStack() as stack:
        url = stack.enter_context(processes.provider())
        servers = list(_start(stack, folder, url, peers, others))
        for target, server in servers:
            with processes.running(server):
                measure(target, server.pid, 16, warm_up)
        for number in range(rounds):
            for width in in_flight:
                for target, server in servers if number % 2 == 0 else servers[::-1]:
                    with processes.running(server):
                        cost = measure(target, server.pid, width, seconds)
                    runs[target.name, width].append(cost)
        memory = {target.name: memory_of(server.pid) for target, server in servers}
    costs = {
        target.name: {width: _median(runs[target.name, width]) for width in in_flight}
        for target, _ in servers
    }
    sampled_at = 16 if 16 in in_flight else in_flight[0]
    shares = _shares(folder / "sampled", sampled_at, seconds, warm_up)
    whole = costs[servers[0][0].name][sampled_at].cpu
    stages = {stage: share * whole for stage, share in shares.items()}
    return Report(costs, stages, memory, sampled_at)


def _start(
    stack: ExitStack, folder: Path, url: str, peers: Sequence[Peer], others: Sequence[Path]
) -> Iterator[tuple[Target, Server]]:
    for number, program in enumerate([None, *others]):
        # A gateway for each provider, because it also searches for the copies at Braze.
        for shape in INPUTS:
            place = folder / f"{shape}-{number}"
            command = () if program is None else [program]
            ledger = f"sqlite:///{place}/ledger.db"
            server = stack.enter_context(processes.gateway(place, url, ledger, command))
            target = server.target(shape)
            if program is not None:
                target = replace(target, name=f"{program}, {shape.capitalize()}")
            yield target, server
    for each in peers:
        log = folder / f"{each.name}.log"
        yield each.target, stack.enter_context(processes.peer(each, url, log))


def _median(costs: Sequence[Cost]) -> Cost:
    fields = ("cpu", "p50", "p99", "per_second")
    return Cost(**{name: median(getattr(cost, name) for cost in costs) for name in fields})


def _shares(folder: Path, in_flight: int, seconds: float, warm_up: float) -> Mapping[str, float]:
    """Return the share of the CPU that each stage of a Sonarly mutation has."""
    file = folder / "stages.json"
    command: list[str | Path] = [sys.executable, FOLDER / "sampled.py", file]
    with (
        processes.provider() as url,
        processes.gateway(folder, url, f"sqlite:///{folder}/ledger.db", command) as server,
    ):
        measure(server.target("sonarly"), server.pid, in_flight, warm_up)
        os.kill(server.pid, signal.SIGUSR1)
        measure(server.target("sonarly"), server.pid, in_flight, seconds)
        os.kill(server.pid, signal.SIGUSR2)
        while not file.exists():
            time.sleep(0.01)
    spent: dict[str, float] = json.loads(file.read_text())
    whole = sum(spent.values())
    return {stage: seconds / whole for stage, seconds in spent.items()}
