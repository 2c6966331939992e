"""Everything goes wrong at the same time, as one seed decides: clocks, limits, kills, drains."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from time import monotonic

import httpx
import pytest

from campaign_gateway.model import DuplicationStatus
from support.faketime import fake_clock
from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    SHORT_INTERVALS,
    Gateway,
    History,
    Intent,
    configuration,
    follow_advice,
    intent,
    launch,
    listening,
    recorded,
)
from support.postgres import PostgresServer
from support.promises import count, find_violations
from support.tls_proxy import TlsProxy, tls_proxy_for

# The minute of a limit is short, so that the searches of a limited account end in time.
CHANGES = {
    "timing": {**SHORT_INTERVALS, "check_intervals": [0.5, 1, 1, 2]},
    "constants": {"accounts.transport.turns.WINDOWS": {"second": 1.1, "minute": 6.0}},
}

# How long a caller waits for a permit, in seconds.
DEADLINE = 1.5

# One provider with three addresses. The first two differ only in spelling.
SHARED = {"shared_campaigns": "faulty"}
NAMESAKES = ("near", "far", "elsewhere")
MORE_OF: Mapping[str, Mapping[str, object]] = {
    "narrow": {"calls_at_once": 2},
    # The replicas share it, and killed ones keep their part for some time.
    "rated": {"calls_per_minute": 30},
    # Longer than a replica is paused, so that it still reads the responses.
    "roomy": {"timeout_seconds": 6},
    "hung": {"timeout_seconds": 3, "calls_at_once": 2},
    **dict.fromkeys(NAMESAKES, SHARED),
}

ALONE = [
    *["none"] * 4,
    *["slow"] * 4,
    *["fin-after-copy"] * 2,
    "fin-before-copy",
    "rst-before-copy",
    "rst-after-copy",
    "hang-after-copy",
    "status-503-after-copy",
    "status-503-before-copy",
    "refusal-409",
    "body-without-id",
    "copied-late",
    "listed-late",
]
LISTS = [*["plain"] * 8, "list-500", "list-hang"]
GROUP_SIZE = 40

CLIENTS = 40
# How long the search continues after the last press, in seconds.
SETTLE_SECONDS = 60.0


@dataclass
class Plan:
    """What is requested. Intents of one entry are requested at the same time.

    The first intent of each of `crossings` is sent by a replica that is paused before the response.
    """

    entries: list[list[Intent]] = field(default_factory=list)
    crossings: list[list[Intent]] = field(default_factory=list)
    findable: list[Intent] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(map(len, [*self.entries, *self.crossings]))


def planned(choice: random.Random, size: int, provider: Provider) -> Plan:
    plan = Plan()
    kinds = {
        "alone": 45,
        "flaky": 15,
        "walled": 10,
        "rated": 6,
        "hung": 3,
        "namesakes": 10,
        "equal": 15,
    }
    while plan.size < size:
        group = f"{choice.choice(LISTS)}--torture-{plan.size // GROUP_SIZE}"
        (kind,) = choice.choices(list(kinds), list(kinds.values()))
        match kind:
            case "equal":
                _plan_equals(choice, plan, provider, group)
            case "namesakes":
                _plan_namesakes(choice, plan, provider, group)
            case _:
                account = "narrow" if kind == "alone" else kind
                wish = intent(choice.choice(ALONE), group, account)
                plan.entries.append([wish])
                if kind != "hung":
                    plan.findable.append(wish)
                if choice.random() < 0.6:
                    _add_older(choice, provider, wish)
    return plan


def _plan_equals(choice: random.Random, plan: Plan, provider: Provider, group: str) -> None:
    first = intent("none", group, "roomy")
    equals = [
        replace(first, key=f"{first.name}.{person}", wish=f"{first.name}.{person}")
        for person in "abc"[: choice.choice([2, 2, 3])]
    ]
    if choice.random() < 0.5:
        # The copies are made in the reverse order of the requests, and only the response to the
        # first one is not lost.
        provider.turns[first.name] = ["copied-last", "fin-after-copy", "status-503-after-copy"]
        plan.crossings.append(equals)
        return
    may_be = ["none", "slow", "copied-last", "fin-after-copy", "fin-before-copy", "refusal-409"]
    provider.turns[first.name] = choice.choices(may_be, k=len(equals))
    plan.entries.append(equals)


def _plan_namesakes(choice: random.Random, plan: Plan, provider: Provider, group: str) -> None:
    """Two intents have one name. One makes its copy, and the other makes none."""
    accounts = choice.sample(NAMESAKES, k=2)
    faults = ["none", choice.choice(["fin-before-copy", "rst-before-copy"])]
    pair = [intent(*arguments) for arguments in zip(faults, [group] * 2, accounts, strict=True)]
    pair = [replace(gateway, called=pair[0].name) for gateway in pair]
    provider.names[pair[1].name] = pair[0].name
    plan.entries.append(pair)


def _add_older(choice: random.Random, provider: Provider, wish: Intent) -> None:
    age = timedelta(seconds=choice.uniform(60, 540))
    provider.add_older_campaign(wish.group, wish.called, age)


@dataclass(frozen=True)
class Replica:
    """How to start a gateway, each time that it was killed."""

    config: Path
    changes: Mapping[str, object]
    environment: Mapping[str, str] | None = None


@dataclass
class Fleet:
    """The gateways of one ledger, and those that are draining."""

    replicas: Sequence[Replica]
    gateways: list[Gateway]
    draining: list[Gateway] = field(default_factory=list)

    @classmethod
    async def begin(cls, replicas: Sequence[Replica]) -> "Fleet":
        gateways = [
            launch(replica.config, replica.changes, replica.environment) for replica in replicas
        ]
        fleet = cls(replicas, gateways)
        try:
            for gateway in gateways:
                await listening(gateway)
        except BaseException:
            fleet.kill()
            raise
        return fleet

    def urls(self) -> list[str]:
        every = [*self.gateways, *self.draining]
        return [replica.url for replica in every if replica.url and replica.is_running]

    async def restart(self, number: int) -> None:
        replica = self.replicas[number]
        self.gateways[number] = launch(replica.config, replica.changes, replica.environment)
        await listening(self.gateways[number])

    def kill(self) -> None:
        for gateway in [*self.gateways, *self.draining]:
            gateway.kill()


def addresses(provider: Provider, proxy: TlsProxy) -> dict[str, str]:
    port = provider.url.rpartition(":")[2]
    return {
        **dict.fromkeys(("narrow", "rated", "roomy", "flaky"), provider.url),
        "hung": provider.hanging_url,
        "walled": proxy.url,
        "near": f"http://localhost:{port}",
        "far": f"http://LOCALHOST:{port}",
        "elsewhere": provider.url,
    }


def configured(
    folder: Path, ledger: str, provider: Provider, proxy: TlsProxy, *, is_cut_off: bool
) -> Path:
    """Configure one replica. If it is cut off, the account `flaky` gets no connection."""
    places = addresses(provider, proxy)
    if is_cut_off:
        places["flaky"] = provider.refusing_url
    more_of = {**MORE_OF, "walled": {"ca_file": proxy.ca_file}}
    return configuration(folder, ledger, places, deadline=DEADLINE, more_of=more_of)


def with_clocks(choice: random.Random, configs: Sequence[Path], clock: str) -> list[Replica]:
    shifts = [choice.randint(200, 600), -choice.randint(200, 600)]
    shifts += [choice.randint(-600, 600) for _ in configs[2:]]
    choice.shuffle(shifts)
    print(f"clocks by {clock}: {shifts} seconds")
    if clock == "libfaketime":
        fakes = [fake_clock(shift) for shift in shifts]
        pairs = zip(configs, fakes, strict=True)
        return [Replica(config, CHANGES, fake) for config, fake in pairs]
    changes = [{**CHANGES, "clock": shift} for shift in shifts]
    return [Replica(config, change) for config, change in zip(configs, changes, strict=True)]


@dataclass
class Torture:
    """One run: the people who press buttons, and what goes wrong at the same time."""

    choice: random.Random
    fleet: Fleet
    database: PostgresServer
    provider: Provider
    http: httpx.AsyncClient
    figures: Figures
    # How long one person presses again, in seconds.
    patience: float
    histories: list[History] = field(default_factory=list)
    is_enough: bool = False

    async def run(self, plan: Plan) -> None:
        waiting = iter(plan.entries)

        async def work() -> None:
            for entry in waiting:
                await asyncio.gather(*(self.press(intent) for intent in entry))

        async with asyncio.TaskGroup() as tasks:
            chaos = tasks.create_task(self.disturb(plan.crossings, tasks))
            people = [tasks.create_task(work()) for _ in range(CLIENTS)]
            await asyncio.wait(people)
            self.is_enough = True
            await chaos

    async def press(self, wish: Intent, first: Sequence[str] = ()) -> None:
        """Act as one person, through one or several replicas. The first press goes to `first`."""
        at_first = iter([list(first)] if first else [])

        def where() -> list[str]:
            urls = self.fleet.urls()
            number = self.choice.choice([1, 2, 2, 3])
            return next(at_first, None) or self.choice.sample(urls, k=min(number, len(urls)))

        self.histories += await follow_advice(
            self.http, where, self.provider, wish, seconds=self.patience
        )

    async def disturb(self, crossings: list[list[Intent]], people: asyncio.TaskGroup) -> None:
        events = [self.kill, self.kill, self.drain, self.drain, self.stop, self.restart_database]
        ahead = self.choice.sample(events, k=len(events))
        batch = 1 + len(crossings) // 3
        # Each of the events happens, however short the run.
        is_first_round = True
        while crossings or is_first_round or not self.is_enough:
            await asyncio.sleep(self.choice.uniform(0.2, 1.0))
            if crossings and self.choice.random() < 0.4:
                taken, crossings[:batch] = crossings[:batch], []
                await self.cross(taken, people)
                continue
            event = ahead.pop()
            if not ahead:
                is_first_round, ahead = False, self.choice.sample(events, k=len(events))
            self.figures.faults[f"torture: {event.__name__}"] += 1
            await event(self.choice.randrange(len(self.fleet.gateways)))

    async def kill(self, number: int) -> None:
        self.fleet.gateways[number].kill()
        await self.fleet.restart(number)

    async def drain(self, number: int) -> None:
        """Act as a deployment: the next gateway starts while this one refuses new requests."""
        gateway = self.fleet.gateways[number]
        self.fleet.draining.append(gateway)
        gateway.signal(signal.SIGTERM)
        await self.fleet.restart(number)

    async def stop(self, number: int) -> None:
        """Pause a gateway, sometimes for so long that the others take it for dead."""
        self.fleet.gateways[number].signal(signal.SIGSTOP)
        await asyncio.sleep(self.choice.uniform(0.5, 3.5))
        self.fleet.gateways[number].signal(signal.SIGCONT)

    async def restart_database(self, _number: int) -> None:
        await asyncio.to_thread(self.database.kill)
        await asyncio.to_thread(self.database.start)

    async def cross(self, pairs: Sequence[Sequence[Intent]], people: asyncio.TaskGroup) -> None:
        """Pause a replica that waits for the response to the first of several equal intents."""
        gateway = self.choice.choice(self.fleet.gateways)
        for first, *_ in pairs:
            people.create_task(self.press(first, [gateway.url]))
        give_up_at = monotonic() + DEADLINE
        while monotonic() < give_up_at and not all(
            self.provider.intents[first.name].whole for first, *_ in pairs
        ):
            await asyncio.sleep(0.01)
        gateway.signal(signal.SIGSTOP)
        others = [url for url in self.fleet.urls() if url != gateway.url]
        for _, *equals in pairs:
            for pair in equals:
                people.create_task(self.press(pair, [self.choice.choice(others)]))
        await asyncio.sleep(self.choice.uniform(1.5, 3.5))
        gateway.signal(signal.SIGCONT)
        self.figures.faults["torture: equal intents crossed"] += len(pairs)


async def settled(ledger: str, provider: Provider, findable: Sequence[Intent]) -> list[str]:
    """Wait until every copy that can be identified is in the ledger. Return what is missing."""
    give_up_at = monotonic() + SETTLE_SECONDS
    while True:
        records = await recorded(ledger)
        known = {record.campaign.id for record in records.values() if record.campaign}
        missing = [
            f"{intent.name}: there is a copy, and no record has it"
            for intent in findable
            if provider.intents[intent.name].copies.keys() - known
        ]
        under_way = [
            f"{key}: under way"
            for key, record in records.items()
            if record.status is DuplicationStatus.IN_PROGRESS
        ]
        if not (missing or under_way) or monotonic() > give_up_at:
            return missing
        await asyncio.sleep(0.5)


def _histories_of(histories: Sequence[History], complaints: Sequence[str]) -> Iterator[str]:
    """Return the responses of every intent that has a complaint."""
    names = {complaint.partition(":")[0] for complaint in complaints}
    for history in histories:
        wanted = history.intent
        if {wanted.name, wanted.key} & names:
            yield f"{wanted.key} at {wanted.account} in {wanted.group}, {wanted.fault}:"
            for response in history.responses:
                yield (
                    f"  {response.sent_at:.2f} to {response.received_at:.2f}:"
                    f" {response.status} {response.retry}"
                    f" {response.code} {response.campaign} {response.evidence} {response.message}"
                )


@pytest.fixture
def proxy(tmp_path: Path, provider: Provider) -> Iterator[TlsProxy]:
    """The faulty provider behind TLS, for one of the accounts."""
    with tls_proxy_for(provider.url, tmp_path) as running:
        yield running


@pytest.mark.parametrize(("seed", "clock"), [(10, "shifted in the process"), (11, "libfaketime")])
async def test_all_faults_together_make_no_second_copy(
    tmp_path: Path,
    own_postgres: PostgresServer,
    provider: Provider,
    proxy: TlsProxy,
    http: httpx.AsyncClient,
    figures: Figures,
    seed: int,
    clock: str,
) -> None:
    await torture(seed, 150, 3, 6, clock, tmp_path, own_postgres, provider, proxy, http, figures)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 110))
async def test_all_faults_together_make_no_second_copy_of_thousands(
    tmp_path: Path,
    own_postgres: PostgresServer,
    provider: Provider,
    proxy: TlsProxy,
    http: httpx.AsyncClient,
    figures: Figures,
    seed: int,
) -> None:
    clock = "libfaketime" if seed % 2 else "shifted in the process"
    await torture(seed, 1000, 4, 25, clock, tmp_path, own_postgres, provider, proxy, http, figures)


async def torture(
    seed: int,
    size: int,
    number: int,
    patience: float,
    clock: str,
    folder: Path,
    database: PostgresServer,
    provider: Provider,
    proxy: TlsProxy,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    print(f"seed {seed}")
    choice, ledger, started = random.Random(seed), database.create_database(), monotonic()
    configs = [
        configured(folder, ledger, provider, proxy, is_cut_off=replica == 0)
        for replica in range(number)
    ]
    replicas = with_clocks(choice, configs, clock)
    plan = planned(choice, size, provider)
    size, findable = plan.size, plan.findable
    fleet = await Fleet.begin(replicas)
    run = Torture(choice, fleet, database, provider, http, figures, patience)
    try:
        await run.run(plan)
        print(f"pressed for {monotonic() - started:.0f} seconds")
        missing = await settled(ledger, provider, findable)
        records = await recorded(ledger)
    finally:
        fleet.kill()
    violations = find_violations(provider, run.histories, records)
    count(figures, violations, run.histories, records)
    figures.measured[f"torture, seed {seed}"] = (
        f"{size} intents, {number} replicas, clocks by {clock}: "
        f"most copies {violations.most_copies}, most owners {violations.most_owners}, "
        f"false {len(violations.false)}, lost {len(violations.lost)}, not found {len(missing)}, "
        f"{monotonic() - started:.0f} s"
    )
    refusals = Counter(
        response.code or response.status
        for history in run.histories
        for response in history.responses
        if not response.is_recorded
    )
    figures.measured[f"torture, seed {seed}, refused without a record"] = str(dict(refusals))
    print(figures.measured[f"torture, seed {seed}"])
    if violations.all:
        print(*_histories_of(run.histories, violations.all), sep="\n")
    assert not violations.all, "\n".join(sorted(set(violations.all)))
    assert violations.most_copies <= 1
    assert violations.most_owners <= 1
    assert not missing, "\n".join(missing)
    assert not provider.complaints, provider.complaints[:5]
