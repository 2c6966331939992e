"""The log of a real gateway, whose lines a program parses, through failures and a kill."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest

from campaign_gateway.web.callers.keys import create_key
from support.faulty_provider import API_KEY, AUDIENCE, Provider, faulty_provider
from support.gateways import (
    MUTATION,
    Gateway,
    calling,
    configuration,
    intent,
    serving,
)
from support.readmes import READMES

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
KEY, STORED = create_key()
FORGED = '\n{"level":"ERROR","message":"forged"}\r\x1b[2J\u2028'

# Problems end soon, and checks come often.
TIMING: Mapping[str, object] = {
    "first_check_after": 0.1,
    "check_intervals": [0.1],
    "reconcile_interval": 0.05,
    "problem_over_after": 0.5,
}


@dataclass
class Run:
    """What the clients got and what the gateways logged, one list for each of them."""

    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    responses: dict[str, httpx.Response] = field(default_factory=dict)
    raw: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""
    after_the_kill: list[dict[str, Any]] = field(default_factory=list)

    def correlation_id(self, name: str) -> str:
        extensions = self.responses[name].json()["extensions"]
        return str(extensions["correlationId"])

    def payload(self, name: str) -> dict[str, Any]:
        payload: dict[str, Any] = self.responses[name].json()["data"]["duplicateCampaign"]
        return payload

    def about(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of a duplication."""
        identifier = self.payload(name)["duplication"]["id"]
        return [line for line in self.lines if line.get("duplication") == identifier]

    def of_request(self, name: str) -> list[dict[str, Any]]:
        identifier = self.correlation_id(name)
        return [line for line in self.lines if line.get("correlation_id") == identifier]

    def problems(self, problem: str, account: str) -> list[str]:
        """Return the events of a lasting problem, in order."""
        return [
            line["event"]
            for line in self.lines
            if (line.get("problem"), line.get("account")) == (problem, account)
        ]


@dataclass
class Client:
    http: httpx.AsyncClient
    url: str
    run: Run

    async def copy(self, name: str, fault: str, account: str, group: str = "plain--0") -> None:
        """Send a mutation, and keep the response under this name."""
        wanted = intent(fault, group, account)
        campaign = {
            "account": account,
            "accountGroupId": group,
            "campaignId": f"{fault}--{wanted.name}",
            "audienceId": AUDIENCE,
            "name": wanted.called,
        }
        variables = {"campaign": campaign, "key": wanted.key}
        await self.send(name, {"query": MUTATION, "variables": variables})

    async def send(self, name: str, body: dict[str, Any], **headers: str) -> None:
        response = await self.http.post(f"{self.url}/graphql", json=body, headers=headers)
        self.run.sent[name], self.run.responses[name] = body, response


def lines_of(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.split("\n") if line]


async def until(gateway: Gateway, *texts: str) -> None:
    async with asyncio.timeout(30):
        while not all(text in gateway.output() for text in texts):
            assert gateway.is_running
            await asyncio.sleep(0.05)


def config_of(folder: Path, provider: Provider) -> Path:
    places = {"main": provider.url, "refused": provider.url, "listing": provider.url}
    places["down"] = provider.refusing_url
    path = configuration(folder, f"sqlite:///{folder}/ledger.db", places, timeout=2)
    caller = (
        f'[callers.web-team]\nkey = "{STORED}"\naccounts = "*"\nmay = ["copy", "name-person"]\n'
    )
    path.write_text(path.read_text("utf-8") + caller, "utf-8")
    path.chmod(0o600)
    return path


async def fail_in_many_ways(client: Client, gateway: Gateway) -> None:
    await client.copy("first", "none", "main")
    await client.send("traced again", client.run.sent["first"], traceparent=TRACEPARENT)
    # On the same connection, from which uvicorn carries context over.
    await client.send("untraced again", client.run.sent["first"])
    await client.copy("hostile", "none", f"{API_KEY}{FORGED}")
    for number in range(3):
        await client.copy(f"refused {number}", "refusal-401", "refused")
        await client.copy(f"unreachable {number}", "none", "down")
    await client.copy("accepted secret", "none", "refused")
    await client.copy("lost", "fin-after-copy", "main")
    await client.copy("found", "none", "main")
    await client.copy("list fails", "fin-after-copy", "listing", "list-500--0")
    await client.send("invalid", {"query": "{ nonsense }"})
    await client.send("query", {"query": "{ accounts { name } }"})
    await client.send("unauthenticated", {}, authorization=f"Bearer {API_KEY}")
    identifier = client.run.payload("lost")["duplication"]["id"]
    await until(
        gateway,
        "AUTHENTICATION_FAILED is over",
        "SEARCH_FAILED is over",
        "OUTCOME_UNKNOWN is over",
        f'"duplication":"{identifier}","status":"CREATED"',
    )


@asynccontextmanager
async def client_of(gateway: Gateway, run: Run) -> AsyncIterator[Client]:
    async with calling() as http:
        http.headers["authorization"] = f"Bearer {KEY}"
        http.headers["campaign-gateway-person"] = "Ann"
        yield Client(http, gateway.url, run)


async def run_gateways(folder: Path) -> Run:
    run = Run()
    with faulty_provider() as provider:
        config = config_of(folder, provider)
        async with serving(config, {"timing": TIMING}) as gateway:
            async with client_of(gateway, run) as client:
                await fail_in_many_ways(client, gateway)
            await gateway.stop()
        run.raw = gateway.output()
        run.lines = lines_of(run.raw)
        as_text = config.with_name("text.toml")
        as_text.write_text(f'{config.read_text("utf-8")}[log]\nformat = "text"\n', "utf-8")
        async with (
            serving(as_text, {"timing": TIMING}) as gateway,
            client_of(gateway, run) as client,
        ):
            killed = asyncio.create_task(client.copy("killed", "held-before-copy", "main"))
            async with asyncio.timeout(20):
                while not any(name for name, each in provider.intents.items() if each.open):
                    await asyncio.sleep(0.02)
            gateway.signal(signal.SIGKILL)
            with pytest.raises(httpx.HTTPError):
                await killed
        run.text = gateway.output()
        async with serving(config, {"timing": TIMING}) as gateway:
            run.after_the_kill = lines_of(gateway.output())
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return asyncio.run(run_gateways(tmp_path_factory.mktemp("log")))


def only(lines: Sequence[dict[str, Any]], **members: object) -> dict[str, Any]:
    (line,) = (line for line in lines if members.items() <= line.items())
    return line


def test_every_line_has_a_time_in_utc_and_a_level(run: Run) -> None:
    for line in run.lines:
        at = datetime.fromisoformat(line["time"])
        assert at.utcoffset() == timedelta(0)
        assert line["level"] in {"INFO", "WARNING"}, line
        assert line["message"]
    assert run.lines[-1]["message"] == "stopped", "no line is lost at the stop"


def test_the_start_shows_what_is_served(run: Run) -> None:
    started = only(run.lines, event="started")
    assert started["version"] == version("campaign-gateway")
    assert (started["ledger"], started["callers"]) == ("sqlite", ["web-team"])
    assert started["accounts"] == dict.fromkeys(["main", "refused", "listing", "down"], "sonarly")


def test_text_has_the_same_fields(run: Run) -> None:
    (started,) = (line for line in run.text.splitlines() if "event=started" in line)
    assert re.fullmatch(
        r"\S+\+00:00 INFO campaign_gateway\.observe\.events campaign-gateway \S+ starts with "
        r"sqlite, 1 caller and 4 accounts event=started version=\S+ ledger=sqlite "
        r'callers=\["web-team"\] accounts=\{.*\}',
        started,
    )


def test_an_outcome_has_its_line(run: Run) -> None:
    outcome, *_ = run.about("first")
    expected = {
        "event": "outcome",
        "level": "INFO",
        "status": "CREATED",
        "provider": "sonarly",
        "account": "main",
        "copy": run.payload("first")["campaign"]["id"],
        "caller": "web-team",
        "person": "Ann",
        "by": "attempt",
        "evidence": "RESPONSE",
        "http_status": 201,
        "provider_trace_id": "t1",
        "correlation_id": run.correlation_id("first"),
    }
    assert expected.items() <= outcome.items()
    assert outcome["source"].startswith("none--")
    assert 0 < outcome["milliseconds"] < 60_000


def test_each_replay_has_its_line(run: Run) -> None:
    _, *replayed = run.about("first")
    assert [(line["event"], line["correlation_id"]) for line in replayed] == [
        ("replayed", TRACE_ID),
        ("replayed", run.correlation_id("untraced again")),
    ]


def test_a_request_without_a_record_has_its_line(run: Run) -> None:
    (line,) = run.of_request("hostile")
    expected = {"event": "refused", "code": "UNKNOWN_ACCOUNT", "caller": "web-team"}
    assert expected.items() <= line.items()
    assert line["requested_account"] == f"[redacted]{FORGED}"
    for number in range(3):
        refused = only(run.of_request(f"unreachable {number}"), event="refused")
        assert (refused["code"], refused["account"]) == ("PROVIDER_UNAVAILABLE", "down")


def test_unknown_is_a_warning_and_its_end_is_logged_too(run: Run) -> None:
    first, second = run.about("lost")
    assert (first["level"], first["status"], first["by"]) == ("WARNING", "UNKNOWN", "attempt")
    assert first["code"] == "OUTCOME_UNKNOWN"
    assert "http_status" not in first
    assert (second["status"], second["by"], second["evidence"]) == ("CREATED", "search", "INFERRED")
    # The search belongs to no request.
    assert "correlation_id" not in second


@pytest.mark.parametrize(
    ("problem", "account"),
    [
        ("AUTHENTICATION_FAILED", "refused"),
        ("SEARCH_FAILED", "listing"),
        ("OUTCOME_UNKNOWN", "main"),
    ],
)
def test_a_lasting_problem_is_logged_when_it_begins_and_when_it_is_over(
    run: Run, problem: str, account: str
) -> None:
    assert run.problems(problem, account) == ["problem", "problem_over"]
    begun = only(run.lines, event="problem", problem=problem, account=account)
    assert begun["level"] == "WARNING"


def test_unknown_outcome_is_no_unreachable_provider(run: Run) -> None:
    assert run.problems("UNREACHABLE", "main") == []
    identifier = run.payload("lost")["duplication"]["id"]
    about = {"problem": "OUTCOME_UNKNOWN", "account": "main"}
    begun, ended = (line for line in run.lines if about.items() <= line.items())
    assert f"the outcome of duplication {identifier} is unknown" in begun["message"]
    assert "stays so until a search finds it or an operator settles it" in ended["message"]
    since, began_at = (datetime.fromisoformat(t) for t in (ended["since"], begun["time"]))
    assert timedelta(0) <= began_at - since < timedelta(seconds=2)


def test_a_problem_that_lasts_is_logged_once(run: Run) -> None:
    assert run.problems("UNREACHABLE", "down") == ["problem"]
    ended = only(run.lines, event="problem_over", problem="AUTHENTICATION_FAILED")
    assert ended["failures"] == 3
    ended = only(run.lines, event="problem_over", problem="SEARCH_FAILED")
    assert ended["failures"] > 3
    for number in range(3):
        (outcome,) = run.about(f"refused {number}")
        expected = {"level": "INFO", "code": "AUTHENTICATION_FAILED", "http_status": 401}
        assert expected.items() <= outcome.items()


def test_attempts_of_a_gateway_that_was_killed_are_warnings_at_the_next_start(run: Run) -> None:
    line = only(run.after_the_kill, event="outcome")
    expected = {
        "level": "WARNING",
        "by": "takeover",
        "status": "UNKNOWN",
        "account": "main",
        "caller": "web-team",
        "person": "Ann",
    }
    assert expected.items() <= line.items()


def test_each_response_has_the_correlation_id_of_its_request(run: Run) -> None:
    assert run.correlation_id("traced again") == TRACE_ID
    ids = [run.correlation_id(name) for name in run.responses]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    (refused,) = run.of_request("unauthenticated")
    assert refused["message"] == "refused a request: a credential that is no key"


def test_no_secret_is_in_the_log(run: Run) -> None:
    assert API_KEY not in run.raw
    assert KEY.split("_")[2] not in run.raw
    assert "[redacted]" in run.raw
    assert run.raw.isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", run.raw)


def test_readme_explains_every_event_problem_and_member(run: Run) -> None:
    room = READMES["src/campaign_gateway/observe/README.md"]
    lines = [*run.lines, *run.after_the_kill]
    for first, known in {
        "`event`": {line["event"] for line in lines if "event" in line},
        "`problem`": {line["problem"] for line in lines if "problem" in line},
    }.items():
        (rows,) = (rows for header, rows in room.tables() if header[0] == first)
        assert known <= {row[0].strip("`") for row in rows}
    explained = set(re.findall(r"`(\w+)`", room.text))
    assert {name for line in lines for name in line} <= explained
