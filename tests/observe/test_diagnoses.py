"""Each situation of the table "What is wrong?" at a running gateway: it shows where the table says.

The test makes the situation and looks up each code span of the row: in the response to the caller,
in the log, in the metrics, and in what a command or a page shows.
"""

import asyncio
import json
import re
import resource
import shlex
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from campaign_gateway.sandbox.emulators import sonarly
from support.commands import run
from support.database_proxy import proxy_for
from support.gateways import Gateway, launch, listening
from support.plain import NO_CAS
from support.prometheus import parse
from support.readmes import READMES

README = READMES["src/campaign_gateway/observe/README.md"]
SOURCE = "507f1f77bcf86cd799439011"

CONFIGURATION = """
[server]
port = 0
[metrics]
port = 0
[ledger]
url = "{ledger}"
[accounts.good]
provider = "sonarly"
base_url = "{provider}"
api_key = "{key}"
[accounts.wrong-secret]
provider = "sonarly"
base_url = "{provider}"
api_key = "sk_live_withdrawn"
[accounts.missing-permission]
provider = "sonarly"
base_url = "{provider}"
api_key = "{limited_key}"
[accounts.unreachable]
provider = "sonarly"
base_url = "http://127.0.0.1:9"
api_key = "{key}"
[accounts.limited]
provider = "sonarly"
base_url = "{provider}"
api_key = "{key}"
calls_per_minute = 1
"""

# Small, so that few copies use up the space that the ledger has reserved.
CHANGES = {
    "timing": {
        "statement_timeout": 1.0,
        "ledger_watch_interval": 0.1,
        "check_intervals": [0.2],
    },
    "constants": {
        "ledger.sqlite.CHECKPOINT_PAGES": 4,
        "ledger.disk_reserve.LOG_BYTES": 65_536,
        "ledger.disk_reserve.MIN_SPARE_PAGES": 0,
        "ledger.disk_reserve.MAX_SPARE_PAGES": 0,
        "ledger.disk_reserve.GROWTH_STEP_PAGES": 8,
        "ledger.disk_reserve.PAGES_PER_RECORD": 1,
    },
}

MUTATION = """
mutation Copy($campaign: SonarlyCampaignInput!, $key: String!) {
  duplicateCampaign(input: { sonarly: $campaign }, idempotencyKey: $key) {
    status duplication { id } userErrors { code retry message }
  }
}
"""


@dataclass(frozen=True)
class Operated:
    """A gateway with its operator, who has a shell, the log and the metrics."""

    gateway: Gateway
    config: Path
    metrics_url: str

    def copy(self, account: str, source: str = SOURCE) -> dict[str, Any]:
        campaign = {
            "account": account,
            "accountGroupId": sonarly.GROUP,
            "campaignId": source,
            "audienceId": next(iter(sonarly.AUDIENCES)),
            "name": f"Copy {uuid.uuid4()}",
        }
        variables = {"campaign": campaign, "key": str(uuid.uuid4())}
        body = {"query": MUTATION, "variables": variables}
        url = f"{self.gateway.url}/graphql"
        response = httpx.post(url, json=body, timeout=60, trust_env=False, verify=NO_CAS)
        payload: dict[str, Any] = response.json()["data"]["duplicateCampaign"]
        return payload

    def page(self, url: str) -> str:
        return httpx.get(url, timeout=60, trust_env=False, verify=NO_CAS).text

    def metric(self, span: str) -> float:
        """Return the sum of the series with this name and these labels."""
        name, *labels = re.findall(r'^\w+|\w+="[^"]*"', span)
        series = parse(self.page(f"{self.metrics_url}/metrics"))
        return sum(
            value
            for each, value in series.items()
            if re.split(r"[{ ]", each)[0] == name and all(label in each for label in labels)
        )

    def shown(self, span: str) -> str:
        """Return what a command or a page shows."""
        if span.startswith("/"):
            return self.page(f"{self.gateway.url}{span}")
        done = run(*shlex.split(span), "--config", str(self.config))
        return done.stdout + done.stderr

    def show(self, situation: str, payload: dict[str, Any]) -> None:
        """Assert that everything is where the table says."""
        cells = ROWS[situation]
        code, *more = spans(cells["The caller gets"])
        assert [code] == [error["code"] for error in payload["userErrors"]]
        if more:
            assert more == [f"status: {payload['status']}", "duplication"]
            has_none = "no `duplication`" in cells["The caller gets"]
            assert (payload["duplication"] is None) is has_none
        for span in spans(cells["Log"]):
            if '"' in span or " " in span:
                # mypy does not infer a lambda with a default.
                wait_until(lambda span=span: span in self.gateway.output())  # type: ignore[misc]
        for part in cells["Metrics"].split(", "):
            (span,) = spans(part)
            is_zero = part.endswith("is 0")
            wait_until(lambda: (self.metric(span) == 0) is is_zero)  # noqa: B023 - called before the next part
        # After each place there are the texts that it shows.
        place = output = ""
        for span in spans(cells["Command or page"]):
            if re.match("/|check$|duplications ", span):
                place, output = span, self.shown(span)
            elif span not in output:
                # On a full disk, the gateway may be ready for a moment.
                wait_until(lambda: span in self.shown(place))  # noqa: B023 - called before the next one


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _rows() -> dict[str, dict[str, str]]:
    ((header, rows),) = (
        table for table in README.tables() if table[0][:2] == ["Situation", "The caller gets"]
    )
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


ROWS = _rows()


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    gives_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < gives_up_at
        time.sleep(0.02)


@contextmanager
def copying(gateway: Operated) -> Iterator[None]:
    """Make copies all the time: they use the room up that a checkpoint makes on a full disk."""
    is_over = threading.Event()

    def copy() -> None:
        while not is_over.is_set():
            gateway.copy("good")

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def operated(folder: Path, provider: str, ledger: str) -> Iterator[Operated]:
    config = folder / "gateway.toml"
    config.write_text(
        CONFIGURATION.format(
            ledger=ledger,
            provider=provider,
            key=sonarly.API_KEY,
            limited_key=sonarly.LIMITED_KEY,
        )
    )
    config.chmod(0o600)
    gateway = launch(config, CHANGES)
    try:
        asyncio.run(listening(gateway))
        port = re.search(r"serving metrics on 127.0.0.1 port (\d+)", gateway.output())
        assert port is not None
        yield Operated(gateway, config, f"http://127.0.0.1:{port[1]}")
    finally:
        gateway.kill()


@pytest.fixture(scope="module")
def provider(serve: Callable[..., str]) -> str:
    return serve(sonarly.create_emulator())


@pytest.fixture(scope="module")
def at_sqlite(tmp_path_factory: pytest.TempPathFactory, provider: str) -> Iterator[Operated]:
    folder = tmp_path_factory.mktemp("operated")
    with operated(folder, provider, f"sqlite:///{folder}/ledger.db") as gateway:
        yield gateway


def test_table_has_the_situations_that_are_made_here() -> None:
    assert list(ROWS) == [
        "wrong secret",
        "missing permission",
        "unreachable provider",
        "cut connection",
        "full disk",
        "database down",
        "rate limit used up",
    ]


@pytest.mark.parametrize(
    ("situation", "account", "source"),
    [
        ("wrong secret", "wrong-secret", SOURCE),
        ("missing permission", "missing-permission", "forbidden"),
        ("unreachable provider", "unreachable", SOURCE),
    ],
)
def test_what_is_wrong_with_an_account_shows(
    at_sqlite: Operated, situation: str, account: str, source: str
) -> None:
    payload = at_sqlite.copy(account, source)
    at_sqlite.show(situation, payload)
    log = [json.loads(line) for line in at_sqlite.gateway.output().splitlines()]
    problems = {line["account"] for line in log if line.get("event") == "problem"}
    assert account in problems
    assert at_sqlite.copy("good")["status"] == "CREATED", "the others go on"


def test_limit_that_is_used_up_shows(at_sqlite: Operated) -> None:
    assert at_sqlite.copy("limited")["status"] == "CREATED"
    payload = at_sqlite.copy("limited")
    at_sqlite.show("rate limit used up", payload)
    # It is not the provider's limit, and this is the setting to change.
    assert "(`calls_per_minute`)" in payload["userErrors"][0]["message"]
    assert at_sqlite.metric('campaign_gateway_limit_calls{account="limited",limit="minute"}') == 1


def test_cut_connection_shows_and_is_settled(at_sqlite: Operated) -> None:
    payload = at_sqlite.copy("good", "cut-before-copy")
    at_sqlite.show("cut connection", payload)
    identifier = payload["duplication"]["id"]
    # The row of the unreachable provider ends with "nothing was copied".
    log = [json.loads(line) for line in at_sqlite.gateway.output().splitlines()]
    unreachable = {line["account"] for line in log if line.get("problem") == "UNREACHABLE"}
    assert unreachable <= {"unreachable"}
    shown = at_sqlite.shown(f"duplications show {identifier}")
    (command,) = re.findall(r"^ +(.+ --absent)$", shown, re.MULTILINE)
    pasted = command.partition(" duplications ")[2]
    done = run("duplications", *shlex.split(pasted), "--yes", "--why", "nothing is there")
    assert done.returncode == 0, done.stderr
    assert identifier not in at_sqlite.shown("duplications list")
    wait_until(lambda: at_sqlite.metric('campaign_gateway_unsettled{status="UNKNOWN"}') == 0)
    # The page still shows the problem, and where to see that nothing is left of it.
    assert "and `duplications list` what is UNKNOWN now" in at_sqlite.shown("/readyz?accounts")


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_full_disk_shows_and_ends(at_sqlite: Operated) -> None:
    pid = at_sqlite.gateway.process.pid
    folder = at_sqlite.config.parent
    assert at_sqlite.copy("good")["status"] == "CREATED"
    # The files that exist can be written, and cannot grow, as on a disk that is full.
    size = max((folder / name).stat().st_size for name in ("ledger.db", "ledger.db-wal"))
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    with copying(at_sqlite):
        payload = next(made for _ in range(600) if (made := at_sqlite.copy("good"))["userErrors"])
        assert payload["userErrors"][0]["retry"] == "SAME_KEY"
        at_sqlite.show("full disk", payload)
        # The operator learns which file and how much room, and the caller only that it is a disk.
        full = (
            rf"the disk of the ledger is full: {folder}/ledger.db cannot grow \(.+\), and its file"
        )
        pattern = rf"{full} system has [0-9]+ free bytes"
        wait_until(lambda: re.search(pattern, at_sqlite.shown("/readyz")) is not None)
    assert re.search(pattern, at_sqlite.gateway.output())
    message = payload["userErrors"][0]["message"]
    assert "disk" in message
    assert "ledger.db" not in message
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    assert at_sqlite.copy("good")["status"] == "CREATED"
    wait_until(lambda: at_sqlite.metric("campaign_gateway_ledger_writable") == 1)


def test_database_that_is_down_shows_and_ends(
    tmp_path: Path, provider: str, postgres_url: str
) -> None:
    with proxy_for(postgres_url) as proxy, operated(tmp_path, provider, proxy.url) as gateway:
        assert gateway.copy("good")["status"] == "CREATED"
        proxy.is_cut = True
        # A copy that begins before the cut would be made, and would then wait for the ledger.
        wait_until(lambda: gateway.metric("campaign_gateway_ledger_writable") == 0)
        # On a busy machine the deadline of a copy may end before the ledger gives up.
        payload = next(made for _ in range(5) if (made := gateway.copy("good"))["userErrors"])
        assert payload["userErrors"][0]["retry"] == "SAME_KEY"
        gateway.show("database down", payload)
        proxy.is_cut = False
        wait_until(lambda: gateway.copy("good")["status"] == "CREATED")
        wait_until(lambda: gateway.metric("campaign_gateway_ledger_writable") == 1)
