"""Faults between and after the requests of providers that take two, or a job, for one copy.

Whatever happens there, one copy is asked for, and its id is never without a record again.
"""

import asyncio
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from campaign_gateway.duplication.completion import COMPLETION_SECONDS
from campaign_gateway.model import Duplication, DuplicationStatus
from campaign_gateway.sandbox.emulators import hubspot, mailchimp, marketo, meta, omnisend
from support.crashing_gateway import STAYS
from support.figures import Figures
from support.fronts import Front, Fronts, copies_at
from support.gateways import (
    SOON,
    Gateway,
    configuration,
    launch,
    listening,
    recorded,
    serving,
)

Payload = dict[str, Any]

EMULATORS: Mapping[str, Any] = {
    "hubspot": hubspot,
    "mailchimp": mailchimp,
    "marketo": marketo,
    "meta": meta,
    "omnisend": omnisend,
}
# Providers that name a copy themselves, with a campaign each.
RENAMING = {
    "mailchimp": "42694e9e57",
    "meta": "120210000000000101",
    "omnisend": "65f2c1d47a9b3e0012ab34cd",
}
LEFT = {name: ["NAME_NOT_APPLIED"] for name in RENAMING} | {
    "meta": ["DETAILS_UNKNOWN", "NAME_NOT_APPLIED"]
}

# How much later than promised an answer may be on a busy machine, in seconds.
SLACK = 3

# A gateway that is to be killed at a step waits there, however slow the machine is, and those that
# go on from there wait less than they do.
PATIENT = {
    "duplication.attempt.COMPLETION_SECONDS": 60,
    "duplication.attempt.COMPLETION_DUE_AFTER": 2,
    **SOON,
}
ALONE = {**PATIENT, "app.RECONCILE_EVERY_SECONDS": 3600}
OFTEN = {
    "constants": {
        "duplication.reconciliation.CHECK_INTERVALS": [0.5],
        "duplication.completion.RETRY_INTERVAL": 1,
    }
}
NOT_ALONE = {**PATIENT, "duplication.attempt.COMPLETION_DUE_AFTER": 5}

MUTATION = """
mutation Copy($input: DuplicateCampaignInput!, $key: String!) {
  duplicateCampaign(input: $input, idempotencyKey: $key) {
    status replayed
    campaign { id name }
    warnings { code message providerMessage }
    duplication { id status evidence campaign { id } warnings { code message providerMessage } }
    userErrors { code message retry providerMessage }
  }
}
"""


async def until(is_so: Callable[[], bool], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.01)


@dataclass
class Client:
    """One wish for one copy, and all that was ever told of it."""

    http: httpx.AsyncClient
    account: str
    provider: str
    source: object
    more: Mapping[str, object] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"Copy {uuid.uuid4()}")
    key: str = field(default_factory=lambda: str(uuid.uuid4()))
    told: list[Payload] = field(default_factory=list)
    took: float = 0

    async def ask(self, url: str) -> Payload | None:
        """Ask with the same key as ever; None when there is no answer."""
        campaign = {"account": self.account, "campaignId": self.source, "name": self.name}
        copy_input = {self.provider: {**campaign, **self.more}}
        variables = {"input": copy_input, "key": self.key}
        asked_at = monotonic()
        try:
            response = await self.http.post(
                f"{url}/graphql", json={"query": MUTATION, "variables": variables}
            )
        except httpx.HTTPError:
            return None
        self.took = monotonic() - asked_at
        assert "errors" not in response.json(), response.text
        payload: Payload = response.json()["data"]["duplicateCampaign"]
        self._hold(payload)
        self.told.append(payload)
        return payload

    def _hold(self, payload: Payload) -> None:
        """What is told now, and what was told before: the same record, and the same copy."""
        recorded = payload["duplication"] or {"id": None, "warnings": [], "campaign": None}
        assert payload["warnings"] == recorded["warnings"]
        assert (
            payload["campaign"] is None or payload["campaign"]["id"] == recorded["campaign"]["id"]
        )
        for before in self.told:
            if before["duplication"] is not None:
                assert payload["replayed"]
                assert recorded["id"] == before["duplication"]["id"]
            if before["campaign"] is not None and payload["status"] != "REJECTED":
                assert payload["campaign"]["id"] == before["campaign"]["id"]

    async def ask_until(
        self, url: str, is_so: Callable[[Payload], bool], seconds: float = 40
    ) -> Payload:
        give_up_at = monotonic() + seconds
        while not ((told := await self.ask(url)) and is_so(told)):
            assert monotonic() < give_up_at, told
            await asyncio.sleep(0.2)
        return told


def codes(payload: Payload | None) -> list[str]:
    assert payload is not None
    return sorted(each["code"] for each in payload["warnings"])


def is_created(payload: Payload) -> bool:
    return bool(payload["status"] == "CREATED")


def is_finished(payload: Payload) -> bool:
    return payload["status"] == "CREATED" and not payload["warnings"]


def configured(
    folder: Path,
    ledger: str,
    fronts: Mapping[str, tuple[str, Front]],
    *,
    timeout: float = 20,
    deadline: float = 25,
) -> Path:
    """A file for accounts by name, each with its provider and what stands for it."""
    tables = ""
    for account, (provider, front) in fronts.items():
        settings = EMULATORS[provider].ACCOUNTS[provider]
        secrets = "".join(f'{name} = "{value}"\n' for name, value in settings.items())
        tables += (
            f'[accounts.{account}]\nprovider = "{provider}"\nbase_url = "{front.url}"\n'
            f"timeout_seconds = {timeout}\n{secrets}"
        )
    return configuration(folder, ledger, {}, deadline=deadline, more=tables)


@pytest.fixture(scope="module")
def doors(serve: Callable[[ASGIApp], str]) -> Fronts:
    fronts = Fronts()
    fronts.url = serve(fronts)
    return fronts


def new_front(doors: Fronts, provider: str) -> Front:
    return doors.new(EMULATORS[provider].create_emulator())


def names_of(fronts: Mapping[str, Front]) -> dict[str, tuple[str, Front]]:
    """Accounts that are called like their providers."""
    return {provider: (provider, front) for provider, front in fronts.items()}


async def one_copy(http: httpx.AsyncClient, front: Front, *clients: Client) -> None:
    """One was asked for by each of them, and each knows which one it is."""
    found = await copies_at(http, front)
    assert found["asked"] == len(clients), found
    made = {each["name"]: each["id"] for each in found["copies"]}
    told = {each.name: each.told[-1]["campaign"]["id"] for each in clients}
    assert made == told
    assert found["count"] == len(clients)


async def made_for(http: httpx.AsyncClient, front: Front) -> str:
    """The id of the one copy."""
    (copy,) = (await copies_at(http, front))["copies"]
    return str(copy["id"])


@dataclass
class Death:
    """A gateway that is killed when all calls have come to one step.

    The step is one of the gateway's own, or a kind of requests that is `asked`, or `done` and not
    answered.
    """

    step: str
    fronts: Sequence[Front]
    calls: int
    constants: Mapping[str, object] = field(default_factory=lambda: ALONE)
    gateway: Gateway | None = None

    @property
    def is_at_provider(self) -> bool:
        return " is " in self.step

    def tricks(self) -> dict[str, object]:
        if self.is_at_provider:
            kind, _, state = self.step.partition(" is ")
            for front in self.fronts:
                front.held = (kind, state)
            return {"constants": self.constants}
        step, _, after = self.step.partition(" after ")
        return {"constants": self.constants, "at": step, "after": int(after or 0)}

    def has_come(self) -> bool:
        assert self.gateway is not None
        assert self.gateway.is_running, self.gateway.said()
        if self.is_at_provider:
            return sum(each.holding for each in self.fronts) >= self.calls
        return self.gateway.said().count(STAYS) >= self.calls

    async def strike(self) -> None:
        assert self.gateway is not None
        self.gateway.kill()
        assert self.gateway.process.returncode == -signal.SIGKILL
        # What it had sent must have been lost before others send the same.
        await until(lambda: not any(each.holding for each in self.fronts))
        for front in self.fronts:
            front.held = None


async def started(
    turn: asyncio.Semaphore, config: Path, tricks: Mapping[str, object] | None = None
) -> Gateway:
    """Their start is work for a processor: there may be few at once."""
    async with turn:
        gateway = launch(config, tricks)
        try:
            return await listening(gateway)
        except BaseException:
            gateway.kill()
            raise


# --- a name in a second call ----------------------------------------------------------------------

STEPS_OF_RENAMES = (
    "after-settle",
    "lookup is asked",
    "after-second-answer",
    "rename is asked",
    "rename is done",
    "before-amend",
    "after-amend",
)


async def die_over_names(
    step: str,
    ledger: str,
    folder: Path,
    doors: Fronts,
    http: httpx.AsyncClient,
    turn: asyncio.Semaphore,
    *,
    others: int = 0,
) -> None:
    """Copy at each provider and kill the gateway at the step; it or another one goes on."""
    fronts = {provider: new_front(doors, provider) for provider in RENAMING}
    config = configured(folder, ledger, names_of(fronts))
    clients = [Client(http, each, each, source) for each, source in RENAMING.items()]
    constants = NOT_ALONE if others else ALONE
    death = Death(step, list(fronts.values()), len(clients), constants)
    gateways = [await started(turn, config, death.tricks())]
    asking: list[asyncio.Task[Payload | None]] = []
    try:
        gateways += [await started(turn, config) for _ in range(others)]
        death.gateway = gateways[0]
        asking = [asyncio.create_task(each.ask(death.gateway.url)) for each in clients]
        await until(death.has_come)
        # As the next gateway will find it, while this one still lives.
        records = await recorded(ledger)
        for each in clients:
            await is_on_record(http, fronts[each.provider], records[each.key], step)
        await death.strike()
        assert await asyncio.gather(*asking) == [None] * len(clients)
        if not others:
            gateways.append(await started(turn, config))
        living = gateways[-1].url
        # At once, and long before the copy is finished.
        for each in clients:
            told = await each.ask(living)
            assert told is not None
            assert (told["status"], told["replayed"]) == ("CREATED", True), step
            assert told["campaign"]["id"] == await made_for(http, fronts[each.provider])
        for each in clients:
            told = await each.ask_until(living, is_finished)
            assert told["campaign"]["name"] == each.name, step
            assert told["duplication"]["evidence"] == "RESPONSE"
    finally:
        for task in asking:
            task.cancel()
        for gateway in gateways:
            gateway.kill()
    for each in clients:
        await one_copy(http, fronts[each.provider], each)
        # Who reads the copy first sees that it has its name already.
        renames = 2 if step == "rename is asked" else 1
        assert fronts[each.provider].count("rename") == renames, (step, each.provider)


async def is_on_record(
    http: httpx.AsyncClient, front: Front, record: Duplication, step: str
) -> None:
    """The copy, and what is left to do to it, while the gateway has not told anybody."""
    assert record.status is DuplicationStatus.CREATED, step
    assert record.campaign is not None
    assert record.campaign.id == await made_for(http, front)
    left = sorted(str(each.code) for each in record.warnings)
    assert left == ([] if step == "after-amend" else LEFT[record.intent.provider]), step


async def test_a_gateway_killed_at_any_step_of_naming_a_copy_is_followed_by_one_that_goes_on(
    tmp_path: Path, doors: Fronts, http: httpx.AsyncClient, figures: Figures
) -> None:
    turn = asyncio.Semaphore(4)
    async with asyncio.TaskGroup() as tasks:
        for number, step in enumerate(STEPS_OF_RENAMES):
            ledger = f"sqlite:///{tmp_path}/ledger-{number}.db"
            tasks.create_task(die_over_names(step, ledger, tmp_path, doors, http, turn))
            figures.faults[f"killed over a name: {step}"] += 1


async def test_of_two_gateways_the_other_one_names_the_copy_when_the_first_is_killed(
    tmp_path: Path,
    postgres: Any,
    doors: Fronts,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    turn = asyncio.Semaphore(4)
    async with asyncio.TaskGroup() as tasks:
        for step in ("after-settle", "rename is asked"):
            ledger = postgres.create_database()
            tasks.create_task(die_over_names(step, ledger, tmp_path, doors, http, turn, others=1))
            figures.faults[f"killed over a name: {step}"] += 1


async def test_a_copy_whose_answer_died_with_the_gateway_is_settled_where_reading_can_tell(
    tmp_path: Path, doors: Fronts, http: httpx.AsyncClient, figures: Figures
) -> None:
    """Meta tells what a copy was made from; the others do not, and have not named it yet."""
    fronts = {provider: new_front(doors, provider) for provider in RENAMING}
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    config = configured(tmp_path, ledger, names_of(fronts))
    clients = {each: Client(http, each, each, source) for each, source in RENAMING.items()}
    death = Death("before-settle", list(fronts.values()), len(clients))
    async with serving(config, death.tricks()) as dying:
        death.gateway = dying
        asking = [asyncio.create_task(each.ask(dying.url)) for each in clients.values()]
        await until(death.has_come)
        await death.strike()
        assert await asyncio.gather(*asking) == [None] * len(clients)
    async with serving(config, OFTEN) as living:
        told = await clients["meta"].ask_until(living.url, is_created)
        assert told["duplication"]["evidence"] == "INFERRED"
        # It may yet be somebody else's copy of the same source.
        assert codes(told) == ["NAME_NOT_APPLIED"]
        assert "Rename it there" in told["warnings"][0]["message"]
        for each in (clients["mailchimp"], clients["omnisend"]):
            # Nothing is looked for by a name that it does not have.
            async with asyncio.timeout(40):
                while (await recorded(ledger))[each.key].checks < 2:
                    await asyncio.sleep(0.2)
            unknown = await each.ask(living.url)
            assert unknown is not None
            assert (unknown["status"], unknown["replayed"]) == ("UNKNOWN", True)
            (error,) = unknown["userErrors"]
            assert (error["code"], error["retry"]) == ("OUTCOME_UNKNOWN", "WAIT")
            # Nor can a new key make the second copy by mistake.
            another = Client(http, each.account, each.provider, each.source, name=each.name)
            refused = await another.ask(living.url)
            assert refused is not None
            assert refused["userErrors"][0]["code"] == "UNRESOLVED_DUPLICATION"
    for provider in RENAMING:
        found = await copies_at(http, fronts[provider])
        assert (found["asked"], found["count"]) == (1, 1)
        assert fronts[provider].count("rename") == 0
    figures.faults["killed over a name: before-settle"] += 1


# What the second calls of a campaign come to: the warnings, the provider's words, whether the copy
# has its name, and whether the gateway tries again.
TROUBLES: Mapping[tuple[str, str], tuple[list[str], str | None, bool, bool]] = {
    ("mailchimp", "rename-refused"): (
        ["NAME_NOT_APPLIED"],
        "The campaign could not be updated.",
        False,
        False,
    ),
    ("mailchimp", "rename-error-500"): (
        ["NAME_NOT_APPLIED"],
        "An unexpected internal error has occurred.",
        False,
        True,
    ),
    ("mailchimp", "rename-cut"): (["NAME_NOT_APPLIED"], None, False, True),
    ("mailchimp", "rename-hangs"): (["NAME_NOT_APPLIED"], None, False, True),
    ("omnisend", "rename-refused"): (
        ["NAME_NOT_APPLIED"],
        "name: Must not be this name",
        False,
        False,
    ),
    ("omnisend", "rename-error-500"): (
        ["NAME_NOT_APPLIED"],
        "An unexpected error occurred.",
        False,
        True,
    ),
    ("omnisend", "rename-cut"): (["NAME_NOT_APPLIED"], None, False, True),
    ("meta", "rename-refused"): (
        ["NAME_NOT_APPLIED"],
        "Invalid parameter: The name is not acceptable.",
        False,
        False,
    ),
    ("meta", "rename-error-500"): (["NAME_NOT_APPLIED"], "An unknown error occurred", False, True),
    ("meta", "rename-cut"): (["NAME_NOT_APPLIED"], None, False, True),
    ("meta", "read-back-fails"): (["DETAILS_UNKNOWN"], None, True, True),
}


async def test_a_second_call_that_comes_to_nothing_is_a_warning_beside_the_copy(
    tmp_path: Path, doors: Fronts, http: httpx.AsyncClient, figures: Figures
) -> None:
    fronts = {provider: new_front(doors, provider) for provider in RENAMING}
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", names_of(fronts))
    clients = {
        (provider, source): Client(http, provider, provider, source)
        for provider, source in TROUBLES
    }
    async with serving(config, OFTEN) as gateway:
        await asyncio.gather(*(each.ask(gateway.url) for each in clients.values()))
        for (provider, source), each in clients.items():
            warnings, said, is_named, _ = TROUBLES[provider, source]
            (told,) = each.told
            assert told["status"] == told["duplication"]["status"] == "CREATED"
            assert told["userErrors"] == []
            assert codes(told) == warnings, source
            assert told["warnings"][0]["providerMessage"] == said
            assert (told["campaign"]["name"] == each.name) == is_named
            assert each.took < COMPLETION_SECONDS + SLACK
            figures.faults[f"after the copy: {source}"] += 1

        def tries(provider: str, each: Client) -> int:
            kind = "lookup" if each.source == "read-back-fails" else "rename"
            return fronts[provider].count(kind, f"/{each.told[0]['campaign']['id']}")

        again = [
            (provider, each)
            for (provider, source), each in clients.items()
            # A try that hangs takes as long as a call may.
            if TROUBLES[provider, source][3] and source != "rename-hangs"
        ]
        await until(lambda: all(tries(*each) >= 3 for each in again))
        for (provider, source), each in clients.items():
            told = (await each.ask(gateway.url)) or {}
            assert codes(told) == TROUBLES[provider, source][0]
            if source == "rename-refused":
                assert tries(provider, each) == 1, "a refusal is final"
                assert told["warnings"] == each.told[0]["warnings"]
    for provider, front in fronts.items():
        found = await copies_at(http, front)
        mine = [each for (other, _), each in clients.items() if other == provider]
        assert found["asked"] == found["count"] == len(mine)
        assert {each["id"] for each in found["copies"]} == {
            each.told[-1]["campaign"]["id"] for each in mine
        }


# Kinds of requests, how they fail for a while, and what is warned of meanwhile. Of Meta's copies
# only the id is known where they cannot be read, and Mailchimp takes no name from whoever cannot
# repeat what else the copy is like.
RETRYABLE: Mapping[tuple[str, str], Mapping[str, list[str]]] = {
    ("rename", "500"): {name: ["NAME_NOT_APPLIED"] for name in RENAMING},
    ("rename", "cut-before-copy"): {name: ["NAME_NOT_APPLIED"] for name in RENAMING},
    ("rename", "429"): {name: ["NAME_NOT_APPLIED"] for name in RENAMING},
    ("rename", "hang"): {name: ["NAME_NOT_APPLIED"] for name in RENAMING},
    ("lookup", "404"): {
        "mailchimp": ["NAME_NOT_APPLIED"],
        "meta": ["DETAILS_UNKNOWN"],
        "omnisend": [],
    },
    ("lookup", "500"): {
        "mailchimp": ["NAME_NOT_APPLIED"],
        "meta": ["DETAILS_UNKNOWN"],
        "omnisend": [],
    },
    ("lookup", "hang"): LEFT,
}


async def test_a_second_call_that_fails_for_a_while_is_made_up_for_by_the_gateway_itself(
    tmp_path: Path, doors: Fronts, http: httpx.AsyncClient, figures: Figures
) -> None:
    fronts: dict[str, tuple[str, Front]] = {}
    clients: dict[str, Client] = {}
    expected: dict[str, list[str]] = {}
    for (kind, fault), warnings in RETRYABLE.items():
        for provider, source in RENAMING.items():
            account = f"{provider}-{kind}-{fault}"
            fronts[account] = provider, new_front(doors, provider)
            fronts[account][1].failing[kind] = fault
            clients[account] = Client(http, account, provider, source)
            expected[account] = warnings[provider]
    # Longer than a caller waits for the second call, so that it is this wait which ends.
    timeout = COMPLETION_SECONDS + 1
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", fronts, timeout=timeout)
    async with serving(config, OFTEN) as gateway:
        await asyncio.gather(*(each.ask(gateway.url) for each in clients.values()))
        for account, each in clients.items():
            (told,) = each.told
            assert told["status"] == "CREATED"
            assert codes(told) == expected[account], account
            assert each.took < COMPLETION_SECONDS + SLACK
        for _, front in fronts.values():
            front.failing.clear()
        for each in clients.values():
            told = await each.ask_until(gateway.url, is_finished)
            assert told["campaign"]["name"] == each.name
    for account, each in clients.items():
        await one_copy(http, fronts[account][1], each)
        figures.faults[f"for a while: {account.partition('-')[2]}"] += 1


# --- stopping -------------------------------------------------------------------------------------


async def test_a_gateway_stopped_while_it_names_a_copy_ends_in_time_and_the_next_one_names_it(
    tmp_path: Path, doors: Fronts, http: httpx.AsyncClient, figures: Figures
) -> None:
    fronts = {provider: new_front(doors, provider) for provider in RENAMING}
    for front in fronts.values():
        front.held = ("rename", "asked")
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", names_of(fronts), timeout=5)
    clients = [Client(http, each, each, source) for each, source in RENAMING.items()]
    constants = {
        "duplication.attempt.COMPLETION_SECONDS": 2,
        "duplication.completion.RETRY_INTERVAL": 1,
    }
    async with serving(config, {"constants": constants}) as stopping:
        asking = [asyncio.create_task(each.ask(stopping.url)) for each in clients]
        await until(lambda: all(each.holding for each in fronts.values()))
        stopping.signal(signal.SIGTERM)
        told_at = monotonic()
        # Fifteen seconds more than the longest call is what the README asks for.
        assert await stopping.ended(5 + 15) == 0, stopping.said()
        assert monotonic() - told_at < 2 + SLACK
        for told in await asyncio.gather(*asking):
            assert told is not None, "who has asked is answered"
            assert told["status"] == "CREATED"
            assert codes(told) == ["NAME_NOT_APPLIED"]
        figures.faults["SIGTERM over a name"] += 1
    for front in fronts.values():
        front.held = None
    async with serving(config) as living:
        for each in clients:
            told = await each.ask_until(living.url, is_finished)
            assert told["campaign"]["name"] == each.name
            await one_copy(http, fronts[each.provider], each)


@pytest.mark.parametrize("end", ["the caller's deadline", "a second signal"])
async def test_whoever_is_answered_before_the_name_is_given_is_told_of_the_copy_all_the_same(
    tmp_path: Path, doors: Fronts, http: httpx.AsyncClient, figures: Figures, end: str
) -> None:
    front, ledger = new_front(doors, "meta"), f"sqlite:///{tmp_path}/ledger.db"
    front.held = ("rename", "asked")
    deadline = 1 if end == "the caller's deadline" else 25
    config = configured(tmp_path, ledger, names_of({"meta": front}), deadline=deadline)
    client = Client(http, "meta", "meta", RENAMING["meta"])
    async with serving(config, {"constants": ALONE}) as gateway:
        asking = asyncio.create_task(client.ask(gateway.url))
        await until(lambda: front.holding > 0)
        if end == "a second signal":
            gateway.signal(signal.SIGTERM)
            # Two that come at once are one to the kernel.
            await asyncio.sleep(0.2)
            gateway.signal(signal.SIGTERM)
            await gateway.ended(5 + SLACK)
        told = await asking
        assert told is not None
        assert (told["status"], told["replayed"]) == ("CREATED", False)
        assert codes(told) == LEFT["meta"]
        assert told["campaign"]["id"] == await made_for(http, front)
    await until(lambda: front.holding == 0)
    front.held = None
    async with serving(config) as living:
        await client.ask_until(living.url, is_finished)
    await one_copy(http, front, client)
    figures.faults[f"over a name: {end}"] += 1


async def test_a_gateway_stopped_while_it_tries_a_name_again_leaves_that_to_the_next_one(
    tmp_path: Path, doors: Fronts, http: httpx.AsyncClient, figures: Figures
) -> None:
    front = new_front(doors, "omnisend")
    front.failing["rename"] = "500"
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", names_of({"omnisend": front}))
    client = Client(http, "omnisend", "omnisend", RENAMING["omnisend"])
    constants = {
        "duplication.completion.RETRY_INTERVAL": 1,
        "duplication.reconciliation.CHECK_TIMEOUT": 2,
    }
    async with serving(config, {"constants": constants}) as stopping:
        assert codes(await client.ask(stopping.url)) == ["NAME_NOT_APPLIED"]
        # From here on it is the gateway by itself, of whose tries no caller knows.
        front.failing.clear()
        front.held = ("rename", "asked")
        await until(lambda: front.holding > 0)
        stopping.signal(signal.SIGTERM)
        assert await stopping.ended(SLACK + SLACK) == 0, stopping.said()
        await until(lambda: front.holding == 0)
        front.held = None
        figures.faults["SIGTERM over a name"] += 1
    async with serving(config) as living:
        await client.ask_until(living.url, is_finished)
    await one_copy(http, front, client)


# --- a job ----------------------------------------------------------------------------------------

LAUNCH = "6f1d2c3b-8a4e-4b7d-9c05-2e1f7a8b9c0d"

# What becomes of the copies whose job the gateway can follow, and of those whose answer is lost.
JOBS: Mapping[str, tuple[str, list[str]]] = {
    LAUNCH: ("CREATED", []),
    "job-is-partial": ("CREATED", ["PARTIAL_COPY"]),
    "job-fails": ("CREATED", ["PARTIAL_COPY"]),
    "job-fails-and-leaves-nothing": ("REJECTED", []),
    "job-never-ends": ("ACCEPTED", []),
}
JOBS_LOST: Mapping[str, tuple[str, list[str]]] = {source: ("CREATED", []) for source in JOBS} | {
    "job-fails-and-leaves-nothing": ("UNKNOWN", []),
}
STEPS_OF_JOBS = (
    "before-settle",
    "after-settle",
    "progress is asked",
    "after-second-answer",
)


async def die_over_jobs(
    step: str, folder: Path, doors: Fronts, http: httpx.AsyncClient, turn: asyncio.Semaphore
) -> None:
    front, ledger = new_front(doors, "hubspot"), f"sqlite:///{folder}/{step.replace(' ', '-')}.db"
    config = configured(folder, ledger, names_of({"hubspot": front}))
    clients = [Client(http, "hubspot", "hubspot", source, {"kind": "CAMPAIGN"}) for source in JOBS]
    death = Death(
        step,
        [front],
        len(clients),
        {**PATIENT, "duplication.reconciliation.CHECK_INTERVALS": [0.5]},
    )
    gateways = [await started(turn, config, death.tricks())]
    asking: list[asyncio.Task[Payload | None]] = []
    try:
        death.gateway = gateways[0]
        asking = [asyncio.create_task(each.ask(death.gateway.url)) for each in clients]
        await until(death.has_come)
        records = await recorded(ledger)
        await death.strike()
        for told in await asyncio.gather(*asking):
            is_answered = step not in {"before-settle", "after-settle"}
            assert (told is not None) == is_answered, step
            assert told is None or (told["status"] == "ACCEPTED" and told["campaign"]["id"])
        made = {each["name"]: each["id"] for each in (await copies_at(http, front))["copies"]}
        ids = {each.name: record_id(records[each.key]) for each in clients}
        # One job has an id and leaves no campaign, so the emulator does not count it.
        if step != "before-settle":
            assert made == {name: ids[name] for name in made}, step
            assert None not in ids.values()
        gateways.append(await started(turn, config, OFTEN))
        ends = JOBS_LOST if step == "before-settle" else JOBS
        for each in clients:
            status, warnings = ends[str(each.source)]

            def is_so(told: Payload, wanted: str = status) -> bool:
                return bool(told["status"] == wanted)

            told = await each.ask_until(gateways[-1].url, is_so)
            assert codes(told) == warnings, (step, each.source)
            assert (told["campaign"] or {}).get("id") == made.get(each.name), (step, each.source)
            if status == "REJECTED":
                assert told["userErrors"][0]["retry"] == "NEW_KEY"
        # By then the others have been looked at again, and to no other end.
        async with asyncio.timeout(40):
            while any(
                each.checks < 5
                for each in (await recorded(ledger)).values()
                if each.status in {DuplicationStatus.ACCEPTED, DuplicationStatus.UNKNOWN}
            ):
                await asyncio.sleep(0.2)
        for each in clients:
            told = (await each.ask(gateways[-1].url)) or {}
            assert told["status"] == ends[str(each.source)][0]
    finally:
        for task in asking:
            task.cancel()
        for gateway in gateways:
            gateway.kill()
    found = await copies_at(http, front)
    assert (found["asked"], found["count"]) == (len(JOBS), len(made))
    assert front.count("copy") == len(JOBS)


def record_id(record: Duplication) -> str | None:
    return record.campaign.id if record.campaign else None


async def test_a_gateway_killed_while_the_provider_fills_a_copy_is_followed_by_one_that_goes_on(
    tmp_path: Path, doors: Fronts, http: httpx.AsyncClient, figures: Figures
) -> None:
    turn = asyncio.Semaphore(4)
    async with asyncio.TaskGroup() as tasks:
        for step in STEPS_OF_JOBS:
            tasks.create_task(die_over_jobs(step, tmp_path, doors, http, turn))
            figures.faults[f"killed over a job: {step}"] += 1


def shown(config: Path, duplication: str) -> str:
    command = [sys.executable, "-m", "campaign_gateway", "duplications", "show", duplication]
    return subprocess.run(
        [*command, "--config", str(config)], capture_output=True, text=True, check=True, timeout=60
    ).stdout


async def test_a_person_is_shown_a_copy_that_is_being_filled_and_what_it_lacks(
    tmp_path: Path, doors: Fronts, http: httpx.AsyncClient
) -> None:
    front = new_front(doors, "hubspot")
    front.held = ("progress", "asked")
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", names_of({"hubspot": front}))
    client = Client(http, "hubspot", "hubspot", "job-is-partial", {"kind": "CAMPAIGN"})
    async with serving(config, OFTEN) as gateway:
        told = (await client.ask(gateway.url)) or {}
        copy, duplication = told["campaign"]["id"], told["duplication"]["id"]
        said = await asyncio.to_thread(shown, config, duplication)
        assert f"copy                 {copy}  {client.name}\n" in said
        assert "status               ACCEPTED\n" in said
        front.held = None
        await client.ask_until(gateway.url, lambda told: bool(told["status"] == "CREATED"))
        said = await asyncio.to_thread(shown, config, duplication)
        assert f"copy                 {copy}" in said
        assert "warning              PARTIAL_COPY: " in said
    await one_copy(http, front, client)


# --- signing in -----------------------------------------------------------------------------------

MARKETO = {"kind": "SMART_CAMPAIGN", "folderId": 640}


def at_marketo(http: httpx.AsyncClient, source: int) -> Client:
    return Client(http, "marketo", "marketo", source, MARKETO)


async def test_a_token_that_has_expired_is_renewed_for_one_copy(
    tmp_path: Path, doors: Fronts, http: httpx.AsyncClient, figures: Figures
) -> None:
    front, client = new_front(doors, "marketo"), at_marketo(http, marketo.EXPIRING)
    config = configured(tmp_path, f"sqlite:///{tmp_path}/ledger.db", names_of({"marketo": front}))
    async with serving(config) as gateway:
        told = await client.ask(gateway.url)
        assert told is not None
        assert is_finished(told)
        assert [front.count(kind) for kind in ("sign-in", "copy")] == [2, 2]
        assert await client.ask(gateway.url)
        assert front.count("copy") == 2
    await one_copy(http, front, client)
    figures.faults["expired token"] += 1


# Where the gateway dies over an expired token, and how many copies there are then.
STEPS_OF_SIGN_INS = {"after-answer": 0, "sign-in is asked": 0, "after-answer after 1": 1}


async def die_over_a_token(
    step: str, folder: Path, doors: Fronts, http: httpx.AsyncClient, turn: asyncio.Semaphore
) -> None:
    made, front = STEPS_OF_SIGN_INS[step], new_front(doors, "marketo")
    ledger = f"sqlite:///{folder}/{step.replace(' ', '-')}.db"
    config = configured(folder, ledger, names_of({"marketo": front}))
    client = at_marketo(http, marketo.EXPIRING)
    death = Death(step, [front], 1)
    tricks = death.tricks()
    # The first sign-in has to come through.
    front.held = None
    gateways = [await started(turn, config, tricks)]
    try:
        death.gateway = gateways[0]
        if death.is_at_provider:
            # A question signs in, so that the sign-in which is held is the second one.
            question = '{ campaign(account: "marketo", id: "1069") { id } }'
            answer = await http.post(f"{gateways[0].url}/graphql", json={"query": question})
            assert "1069" in answer.text
            death.tricks()
        asking = asyncio.create_task(client.ask(gateways[0].url))
        await until(death.has_come)
        await death.strike()
        assert await asking is None
        sent = front.count("copy")
        # The one that was refused for its token, and perhaps the one behind it.
        assert sent == 1 + made
        gateways.append(await started(turn, config, OFTEN))
        if made:
            told = await client.ask_until(gateways[1].url, is_finished)
            assert told["duplication"]["evidence"] == "INFERRED"
            await one_copy(http, front, client)
        else:
            async with asyncio.timeout(40):
                while (await recorded(ledger))[client.key].checks < 2:
                    await asyncio.sleep(0.2)
            told = await client.ask(gateways[1].url) or {}
            assert (told["status"], told["replayed"]) == ("UNKNOWN", True)
        assert front.count("copy") == sent, "the same key sends nothing"
    finally:
        for gateway in gateways:
            gateway.kill()
    found = await copies_at(http, front)
    assert found["asked"] == found["count"] == made


async def test_a_gateway_killed_over_an_expired_token_makes_one_copy_at_most(
    tmp_path: Path, doors: Fronts, http: httpx.AsyncClient, figures: Figures
) -> None:
    turn = asyncio.Semaphore(4)
    async with asyncio.TaskGroup() as tasks:
        for step in STEPS_OF_SIGN_INS:
            tasks.create_task(die_over_a_token(step, tmp_path, doors, http, turn))
            figures.faults[f"killed over a token: {step}"] += 1


async def test_a_sign_in_that_is_refused_or_hangs_makes_nothing_and_the_same_key_works_later(
    tmp_path: Path,
    doors: Fronts,
    http: httpx.AsyncClient,
    figures: Figures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    front, client = new_front(doors, "marketo"), at_marketo(http, 1069)
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    config = configured(tmp_path, ledger, names_of({"marketo": front}))
    monkeypatch.setattr(marketo, "CLIENT_SECRET", "another one since today")
    async with serving(
        config, {"constants": {"transport.token_auth.TOKEN_REQUEST_SECONDS": 2}}
    ) as gateway:
        refused = await client.ask(gateway.url) or {}
        assert (refused["status"], refused["duplication"]) == ("NOT_SENT", None)
        (error,) = refused["userErrors"]
        assert (error["code"], error["retry"]) == ("AUTHENTICATION_FAILED", "SAME_KEY")
        assert error["providerMessage"] == "Bad client credentials"
        monkeypatch.undo()
        front.held = ("sign-in", "asked")
        silent = await client.ask(gateway.url) or {}
        assert (silent["status"], silent["duplication"]) == ("NOT_SENT", None)
        (error,) = silent["userErrors"]
        assert (error["code"], error["retry"]) == ("PROVIDER_UNAVAILABLE", "SAME_KEY")
        assert client.took < 2 + SLACK
        # What was never sent leaves nothing behind that could stand in the way of the key.
        assert await recorded(ledger) == {}
        assert front.count("copy") == 0
        front.held = None
        told = await client.ask(gateway.url)
        assert told is not None
        assert is_finished(told)
        assert not told["replayed"]
    await one_copy(http, front, client)
    figures.faults["refused sign-in"] += 1
    figures.faults["hanging sign-in"] += 1
