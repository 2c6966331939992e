"""On a full disk, new intents are refused, and the outcomes of calls in progress are recorded.

The small disks are mounted in a mount namespace, where no other process sees them. So the functions
`on_a_small_disk_*` run in a second pytest, in that namespace.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.disk_reserve import LOG_BYTES
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.ledger import Begun
from campaign_gateway.model import Campaign, Created, DuplicationStatus, Evidence, Intent, Selection
from campaign_gateway.sandbox import emulation
from campaign_gateway.sandbox.emulation import serving
from campaign_gateway.sandbox.emulators.sonarly import ACCOUNTS, GROUP, create_emulator
from support.faulty_provider import faulty_provider
from support.gateways import (
    History,
    calling,
    configuration,
    intents,
    launch,
    listening,
    recorded,
    retry_all_until_final,
    retry_until_final,
)
from support.gateways import ask as ask_gateway
from support.plain import NO_CAS

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)

# As many calls as three accounts may have in progress.
OUTSTANDING = 96

# Descriptions that callers send and providers return.
TEXTS = {"short": "Spring sale", "long": "Spring sale, as was planned. " * 18}

MakeIntent = Callable[..., Intent]
Open = Callable[..., Awaitable[Ledger]]


def in_a_namespace(*command: str) -> list[str]:
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    return [*unshare, *command]


def mount(folder: Path, megabytes: int) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]


def test_full_disk_loses_no_outcome(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    can_mount = shutil.which("unshare") is not None and (
        subprocess.run(in_a_namespace(*mount(tmp_path, 1)), check=False).returncode == 0
    )
    if not can_mount:
        assert "CAMPAIGN_GATEWAY_REQUIRE_DISK_FULL" not in os.environ, "cannot mount a small disk"
        pytest.skip("a small disk cannot be mounted here: no unshare, or no right to")
    options = [
        "-o",
        "python_functions=on_a_small_disk_*",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        "-q",
        "-rN",
    ]
    command = [sys.executable, "-m", "pytest", "-c", str(pytestconfig.inipath), *options, __file__]
    done = subprocess.run(
        in_a_namespace(*command), capture_output=True, text=True, check=False, timeout=300
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0


@dataclass
class Disk:
    path: Path

    @property
    def ledger_url(self) -> str:
        return f"sqlite:///{self.path}/ledger.db"

    def fill(self) -> None:
        with suppress(OSError), (self.path / "filler").open("ab", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def free_space(self) -> None:
        (self.path / "filler").unlink()

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Fill the disk to the last byte. A process writes whenever a block becomes free."""
        with subprocess.Popen([sys.executable, "-c", FILLING, self.path / "filler"]) as filling:
            try:
                while os.statvfs(self.path).f_bavail:
                    assert filling.poll() is None
                yield
                assert os.statvfs(self.path).f_bavail == 0
                assert filling.poll() is None
            finally:
                filling.kill()


FILLING = """
import os, sys
filler = os.open(sys.argv[1], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
while True:
    try:
        os.write(filler, bytes(4096))
    except OSError:
        os.sched_yield()
"""


@pytest.fixture(params=[4, 8])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    megabytes = request.param * LOG_BYTES // 2**20
    subprocess.run(mount(tmp_path, megabytes), check=True)
    return Disk(tmp_path)


async def begin_until_full(ledger: Ledger, intent: MakeIntent) -> tuple[list[Intent], list[Intent]]:
    """Return the intents that were recorded, and those that were refused."""
    recorded: list[Intent] = []
    size = 8
    for turn in range(400):
        batch = [
            intent(f"{turn}-{number}", requested_name=f"{turn}-{number}") for number in range(size)
        ]
        results = await asyncio.gather(
            *(ledger.begin(intent, NOW, None) for intent in batch), return_exceptions=True
        )
        refused = [
            intent for intent, result in zip(batch, results, strict=True) if result != Begun()
        ]
        recorded += [intent for intent in batch if intent not in refused]
        if refused:
            assert all(
                isinstance(result, LedgerUnavailable) for result in results if result != Begun()
            )
            assert len(refused) == len(batch), "what shares a COMMIT shares its end"
            if size == 1:
                return recorded, refused
            # There may be space for one intent, but not for eight.
            size = 1
    pytest.fail("the disk was not full")


@pytest.mark.parametrize("text", TEXTS)
async def on_a_small_disk_outcomes_of_calls_in_progress_are_recorded(
    disk: Disk, open_at: Open, intent: MakeIntent, text: str
) -> None:
    ledger = await open_at(disk.ledger_url)
    in_progress = [
        intent(f"k{number}", requested_name=f"{number}", input=TEXTS[text])
        for number in range(OUTSTANDING)
    ]
    await asyncio.gather(*(ledger.begin(intent, NOW, None) for intent in in_progress))
    disk.fill()
    recorded, refused = await begin_until_full(ledger, intent)
    with pytest.raises(LedgerUnavailable, match="full"):
        await ledger.check()
    for refused_intent in refused:
        assert await ledger.find(refused_intent.scope, refused_intent.key) is None, (
            "the whole batch was undone"
        )

    # One after the other, because that takes far more space than one commit for all.
    for open_intent in in_progress[8:]:
        await settle(ledger, open_intent, TEXTS[text])
    # After each recorded outcome there is space for one more intent.
    async with asyncio.timeout(40):
        await asyncio.gather(
            *(ledger.begin(intent, NOW, None) for intent in refused),
            *(settle(ledger, intent, TEXTS[text]) for intent in in_progress[:8]),
        )

    disk.free_space()
    assert await ledger.check() == []
    more = intent("more", requested_name="more")
    await ledger.begin(more, NOW, None)
    await ledger.close()
    begun = [*recorded, *refused, more]
    await nothing_is_lost(await open_at(disk.ledger_url), in_progress, begun)


async def on_a_small_disk_refused_intents_do_not_delay_outcomes(
    disk: Disk, open_at: Open, intent: MakeIntent
) -> None:
    ledger = await open_at(disk.ledger_url)
    mine = intent("k")
    await ledger.begin(mine, NOW, None)
    disk.fill()
    recorded, _ = await begin_until_full(ledger, intent)
    more = [intent(f"m{number}", requested_name=f"m{number}") for number in range(8)]
    async with asyncio.timeout(40):
        *refused, settled = await asyncio.gather(
            *(ledger.begin(intent, NOW, None) for intent in more),
            settle(ledger, mine, TEXTS["long"]),
            return_exceptions=True,
        )
    assert settled is None
    assert all(isinstance(intent, LedgerUnavailable) for intent in refused)
    await ledger.close()
    await nothing_is_lost(await open_at(disk.ledger_url), [mine], recorded)


async def on_a_small_disk_a_failed_commit_fails_for_the_whole_batch(
    disk: Disk, open_at: Open, intent: MakeIntent
) -> None:
    ledger = await open_at(disk.ledger_url)
    await ledger.check()
    disk.fill()
    recorded, refused = await begin_until_full(ledger, intent)
    disk.free_space()
    await asyncio.gather(*(ledger.begin(intent, NOW, None) for intent in refused))
    await ledger.close()
    await nothing_is_lost(await open_at(disk.ledger_url), [], [*recorded, *refused])


async def on_a_small_disk_that_is_full_a_gateway_does_not_start(
    disk: Disk, open_at: Open, intent: MakeIntent
) -> None:
    before = await open_at(disk.ledger_url)
    mine = intent("k")
    await before.begin(mine, NOW, None)
    await before.close()
    disk.fill()
    with pytest.raises(LedgerUnavailable, match="cannot be used"):
        await open_at(disk.ledger_url)
    disk.free_space()
    ledger = await open_at(disk.ledger_url)
    record = await ledger.find("everyone", "k")
    assert record is not None
    assert record.status is DuplicationStatus.UNKNOWN
    await settle(ledger, mine, "late")
    await ledger.check()
    await ledger.close()
    await nothing_is_lost(await open_at(disk.ledger_url), [mine], [])


async def on_a_small_disk_that_is_filled_outcomes_take_no_new_space(
    disk: Disk, open_at: Open, intent: MakeIntent
) -> None:
    ledger = await open_at(disk.ledger_url)
    in_progress = [
        intent(f"k{number}", requested_name=f"{number}", input=TEXTS["long"])
        for number in range(OUTSTANDING)
    ]
    await asyncio.gather(*(ledger.begin(intent, NOW, None) for intent in in_progress))
    with disk.filled():
        for open_intent in in_progress[:32]:
            await settle(ledger, open_intent, TEXTS["long"])
        await asyncio.gather(
            *(settle(ledger, intent, TEXTS["long"]) for intent in in_progress[32:])
        )
        await nothing_is_lost(ledger, in_progress, [])


async def settle(ledger: Ledger, intent: Intent, text: str) -> None:
    copy = Campaign(f"copy of {intent.key}", name=intent.requested_name, description=text)
    record = await ledger.settle(intent, Created(copy, "trace"), LATER, None)
    assert record.campaign == copy


async def nothing_is_lost(ledger: Ledger, settled: list[Intent], begun: list[Intent]) -> None:
    records = await ledger.list(None, Selection(), 10_000, None)
    by_status = {
        status: {record.intent.id for record in records if record.status is status}
        for status in DuplicationStatus
    }
    assert by_status[DuplicationStatus.CREATED] == {intent.id for intent in settled}
    assert by_status[DuplicationStatus.UNKNOWN] == {intent.id for intent in begun}
    assert len(records) == len(settled) + len(begun)


# --- a gateway process ----------------------------------------------------------------------------

MUTATION = (
    "mutation Copy($campaign: SonarlyCampaignInput!, $key: String!) { duplicateCampaign("
    "input: { sonarly: $campaign }, idempotencyKey: $key) { status duplication { id }"
    " userErrors { code retry } } }"
)

CONFIG = """
[server]
port = 0
deadline_seconds = 20
[ledger]
url = "{ledger}"
[accounts.sonarly]
provider = "sonarly"
base_url = "{provider}"
api_key = "{api_key}"
"""


async def on_a_small_disk_a_gateway_sends_nothing_new_and_records_the_rest(
    disk: Disk, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The slow calls must not end before the disk is full, because they free what they reserved.
    monkeypatch.setattr(emulation, "SLOW_SECONDS", 8)
    folder = tmp_path_factory.mktemp("gateway")
    async with serving(create_emulator()) as provider:
        config = folder / "gateway.toml"
        config.write_text(
            CONFIG.format(
                ledger=disk.ledger_url,
                provider=provider,
                api_key=ACCOUNTS["sonarly"]["api_key"],
            )
        )
        # The reserve is hardly larger than necessary, so that few calls use it up.
        sizes = {
            "MIN_SPARE_PAGES": 0,
            "MAX_SPARE_PAGES": 0,
            "GROWTH_STEP_PAGES": 8,
            "PAGES_PER_RECORD": 1,
        }
        tricks = {
            "constants": {f"ledger.disk_reserve.{name}": size for name, size in sizes.items()}
        }
        gateway = await listening(launch(config, tricks))
        try:
            async with httpx.AsyncClient(
                base_url=gateway.url, timeout=30, trust_env=False, verify=NO_CAS
            ) as client:
                await until_ready(client, 200)
                await a_disk_fills_under(client, disk, provider)
            assert await gateway.stop() == 0
        finally:
            gateway.kill()


async def a_disk_fills_under(client: httpx.AsyncClient, disk: Disk, provider: str) -> None:
    slow = [asyncio.create_task(ask(client, f"slow{number}", "slow")) for number in range(24)]
    while await asked(client, provider) < len(slow):
        await asyncio.sleep(0.02)
    disk.fill()
    for number in range(1000):
        last = await ask(client, f"more{number}", "507f1f77bcf86cd799439011")
        if last["status"] != "CREATED":
            break
    assert last["duplication"] is None
    assert last["userErrors"] == [{"code": "OVERLOADED", "retry": "SAME_KEY"}]
    await until_ready(client, 503)
    sent = await asked(client, provider)
    assert sent == len(slow) + number
    again = await ask(client, f"more{number}", "507f1f77bcf86cd799439011")
    assert again["userErrors"] == last["userErrors"]

    assert [response["status"] for response in await asyncio.gather(*slow)] == ["CREATED"] * len(
        slow
    )
    assert await asked(client, provider) == sent
    disk.free_space()
    await until_ready(client, 200)
    retried = await ask(client, f"more{number}", "507f1f77bcf86cd799439011")
    # Its intent may have been recorded as never sent. A key always has the same result.
    assert retried["status"] in {"CREATED", "REJECTED"}
    assert await asked(client, provider) == sent + (retried["status"] == "CREATED")
    fresh = await ask(client, "fresh", "507f1f77bcf86cd799439011")
    assert fresh["status"] == "CREATED"


async def ask(client: httpx.AsyncClient, key: str, campaign_id: str) -> dict[str, Any]:
    campaign = {
        "accountGroupId": GROUP,
        "campaignId": campaign_id,
        "audienceId": "507f1f77bcf86cd799439021",
        "name": f"Copy {key}",
    }
    body = {"query": MUTATION, "variables": {"campaign": campaign, "key": key}}
    response = await client.post("/graphql", json=body)
    payload: dict[str, Any] = response.json()["data"]["duplicateCampaign"]
    return payload


async def asked(client: httpx.AsyncClient, provider: str) -> int:
    response = await client.get(f"{provider}/_emulator/copies")
    number: int = response.json()["asked"]
    return number


async def until_ready(client: httpx.AsyncClient, status: int) -> None:
    async with asyncio.timeout(30):
        while True:
            if (await client.get("/readyz")).status_code == status:
                return
            await asyncio.sleep(0.05)


# --- a gateway that is killed ---------------------------------------------------------------------


@pytest.mark.parametrize("is_killed", [False, True])
async def on_a_small_disk_that_is_filled_a_gateway_records_every_response(
    disk: Disk, tmp_path_factory: pytest.TempPathFactory, *, is_killed: bool
) -> None:
    folder = tmp_path_factory.mktemp("gateway")
    wanted = intents(["held-after-copy"] * 60, ("one", "two"))
    with faulty_provider() as provider:
        provider.description = TEXTS["long"] * 4
        accounts = dict.fromkeys(("one", "two"), provider.url)
        config = configuration(folder, disk.ledger_url, accounts, timeout=60)
        gateway = await listening(launch(config))
        try:
            async with calling() as http:
                url = gateway.url
                asking = [asyncio.create_task(ask_gateway(http, url, intent)) for intent in wanted]
                async with asyncio.timeout(30):
                    while not all(provider.has_copy(intent.name) for intent in wanted):
                        await asyncio.sleep(0.01)
                with disk.filled():
                    provider.released.set()
                    if is_killed:
                        # While the responses arrive.
                        while sum(task.done() for task in asking) < 10:
                            await asyncio.sleep(0)
                        gateway.signal(signal.SIGKILL)
                    responses = await asyncio.gather(*asking)
                    if is_killed:
                        gateway.kill()
                histories = [
                    History(intent, [response] if response else [])
                    for intent, response in zip(wanted, responses, strict=True)
                ]
                names = [history.intent.name for history in histories if history.responses]
                assert len(names) >= 10 if is_killed else len(names) == len(wanted)
                disk.free_space()
                if is_killed:
                    gateway = await listening(launch(config))
                records = await recorded(disk.ledger_url)
                for name in names:
                    assert records[name].status is DuplicationStatus.CREATED
                    assert records[name].evidence is Evidence.RESPONSE
                # The outcomes of calls in progress at the kill are found by search.
                await asyncio.gather(
                    *(
                        retry_until_final(http, lambda: gateway.url, provider, history)
                        for history in histories
                    )
                )
                assert {history.responses[-1].status for history in histories} == {"CREATED"}
                records = await recorded(disk.ledger_url)
                assert {record.status for record in records.values()} == {DuplicationStatus.CREATED}
                assert len(records) == len(wanted)
                (history,) = await retry_all_until_final(
                    http, lambda: gateway.url, provider, intents(["none"], ("one",))
                )
                assert history.responses[-1].status == "CREATED"
        finally:
            gateway.kill()
