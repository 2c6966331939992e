"""The command `duplications`, as an operator and a script use it."""

import asyncio
import io
import json
import re
import shlex
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
import pytest
import strawberry

from campaign_gateway import cli
from campaign_gateway.accounts.account import open_account
from campaign_gateway.connectors.providers.sonarly import SonarlyCampaignInput
from campaign_gateway.duplication import manual_resolution
from campaign_gateway.duplication.intents import make_intent
from campaign_gateway.ledger import Ledger, declare_ledger_restored, open_ledger
from campaign_gateway.model import (
    Accepted,
    Campaign,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Outcome,
    Unknown,
    UserError,
)
from campaign_gateway.sandbox.emulators.sonarly import API_KEY, AUDIENCES, GROUP, create_emulator
from campaign_gateway.settings import load_account_settings
from campaign_gateway.web.callers.caller import Caller, Right
from support.plain import NO_CAS
from support.terminal import run_at_terminal

SOURCE = "507f1f77bcf86cd799439011"
AUDIENCE = next(iter(AUDIENCES))
LOST = Unknown(UserError(ErrorCode.OUTCOME_UNKNOWN, "Sonarly sent no response"))
SURE = ("--yes", "--why", "looked at it")

Result = TypeVar("Result")


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Operator:
    """Runs commands in this process, with what the operator types, if there is a terminal."""

    def __init__(self, config: Path, url: str, provider: str) -> None:
        self.config = config
        self.url = url
        self.provider = provider
        self.numbers = iter(range(1000))

    def ledger(self, work: Callable[[Ledger], Awaitable[Result]]) -> Result:
        async def run() -> Result:
            ledger = await open_ledger(self.url, as_operator=True)
            try:
                return await work(ledger)
            finally:
                await ledger.close()

        return asyncio.run(run())

    def intend(
        self,
        name: str | None = None,
        outcome: Outcome = LOST,
        caller: str = "web-team",
        age: timedelta = timedelta(0),
        *,
        is_named: bool = True,
    ) -> str:
        """Record an intent and its outcome. Return the id of the duplication."""
        settings = load_account_settings(self.config, "outreach")
        assert settings is not None
        copy_input = SonarlyCampaignInput(
            account=None,
            account_group_id=strawberry.ID(GROUP),
            campaign_id=strawberry.ID(SOURCE),
            audience_id=strawberry.ID(AUDIENCE),
            name=(name or f"Copy {next(self.numbers)}") if is_named else None,
            lead_ids=None,
        )
        who = Caller(caller, f"caller:{caller}", frozenset({"*"}), frozenset(Right))

        async def record(ledger: Ledger) -> str:
            account = open_account("outreach", settings)
            intent = make_intent(who, f"key {next(self.numbers)}", account, copy_input)
            await account.transport.close()
            now = ledger.now() - age
            await ledger.begin(intent, now, None)
            await ledger.settle(intent, outcome, now, None)
            return intent.id

        return self.ledger(record)

    def make(self, name: str) -> str:
        """Let the provider make a copy of that name. Return its id."""
        response = httpx.post(
            f"{self.provider}/v1/accounts/{GROUP}/campaigns/{SOURCE}/duplicate",
            json={"audienceId": AUDIENCE, "name": name},
            headers={"authorization": f"Bearer {API_KEY}"},
            trust_env=False,
            verify=NO_CAS,
        )
        return str(response.json()["data"]["id"])

    def record(self, duplication_id: str) -> Duplication:
        record = self.ledger(lambda ledger: ledger.get(None, duplication_id))
        assert record is not None
        return record


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def provider(serve: Callable[..., str]) -> str:
    return serve(create_emulator())


@pytest.fixture(params=["sqlite"])
def operator(
    request: pytest.FixtureRequest, tmp_path: Path, provider: str, monkeypatch: pytest.MonkeyPatch
) -> Operator:
    folder = tmp_path / "my gateway"
    folder.mkdir()
    url = (
        f"sqlite:///{folder}/ledger.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    config = folder / "gate way.toml"
    # The other account's secret is not set: the operator needs only what the command reads.
    config.write_text(
        f"""
        [ledger]
        url = "{url}"
        [accounts.outreach]
        provider = "sonarly"
        base_url = "{provider}"
        api_key = {{ env = "OUTREACH_KEY" }}
        timeout_seconds = 5
        [accounts.other]
        provider = "braze"
        instance = "EU-01"
        api_key = {{ env = "SURELY_NOT_SET" }}
        """
    )
    monkeypatch.setenv("OUTREACH_KEY", API_KEY)

    async def create() -> None:
        await (await open_ledger(url)).close()

    asyncio.run(create())
    return Operator(config, url, provider)


on_both_engines = pytest.mark.parametrize("operator", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def run(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs `duplications`. `typed` is what the operator types; None: there is no terminal."""

    def run_command(*arguments: str, typed: str | None = None) -> Done:
        command = ["campaign-gateway", "duplications", *arguments, "--config", str(operator.config)]
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.setattr(sys, "stdin", io.StringIO() if typed is None else Terminal(typed))
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        # `sys.exit` with a text prints it, with the status 1.
        return Done(1, out, f"{err}{code}\n") if isinstance(code, str) else Done(code, out, err)

    return run_command


def json_of(done: Done) -> Any:
    assert done.code == 0, done.err
    return json.loads(done.out)


# resolve --created


@on_both_engines
def test_copy_is_read_shown_and_recorded_with_who_and_why(run: Run, operator: Operator) -> None:
    lost = operator.intend("Spring")
    copy = operator.make("Spring")
    done = run("resolve", lost, "--created", copy, "--by", "ann", typed="y\nseen in the list\n")
    assert done.code == 0, done.err
    # What was asked for, next to what is there.
    assert re.search(rf"^source +{SOURCE} +not reported$", done.err, re.MULTILINE)
    assert re.search(r"^name +Spring +Spring$", done.err, re.MULTILINE)
    assert re.search(r"^status +UNKNOWN +DRAFT draft$", done.err, re.MULTILINE)
    assert "NOTE" not in done.err
    assert f"Record campaign {copy} as the copy? [y/N] " in done.err
    assert re.search(r"^status +CREATED$", done.out, re.MULTILINE)
    assert re.search(
        rf"CREATED +by ann \(reason: seen in the list\); campaign {copy}$", done.out, re.MULTILINE
    )

    record = operator.record(lost)
    assert record.evidence is Evidence.OPERATOR
    # The details are the provider's.
    assert record.campaign is not None
    assert (record.campaign.id, record.campaign.provider_status) == (copy, "draft")
    shown = json_of(run("show", lost, "--json"))
    assert [(each["status"], each["operator"], each["reason"]) for each in shown["history"]] == [
        ("IN_PROGRESS", None, None),
        ("UNKNOWN", None, None),
        ("CREATED", "ann", "seen in the list"),
    ]
    assert all(each["at"].endswith("+00:00") for each in shown["history"])

    reopened = run("reopen", lost, "--by", "ben", "--json", typed="yes\nwrong list\n")
    assert re.search(rf" CREATED +by ann \(reason: .*\); campaign {copy}\n", reopened.err)
    assert "Withdraw this result, so that it is UNKNOWN again? [y/N] " in reopened.err
    state = json_of(reopened)
    assert (state["status"], state["campaign"], state["settledAt"]) == ("UNKNOWN", None, None)
    assert state["history"][-1] == {
        "at": state["history"][-1]["at"],
        "status": "UNKNOWN",
        "evidence": None,
        "campaignId": None,
        "error": state["error"],
        "operator": "ben",
        "reason": "wrong list",
    }
    again = run("reopen", lost, typed="y\nagain\n")
    assert "[y/N]" not in again.err
    assert "is UNKNOWN: no operator recorded this result, so it cannot be withdrawn" in again.err


def test_campaign_that_cannot_be_the_copy_is_refused(run: Run, operator: Operator) -> None:
    lost, other = operator.intend("Summer"), operator.intend("Autumn")
    copy = operator.make("Autumn")
    assert run("resolve", other, "--created", copy, *SURE).code == 0
    refusals = {
        "507f1f77bcf86cd799439099": "there is no campaign 507f1f77bcf86cd799439099 at Sonarly",
        SOURCE: f"{SOURCE} is the source campaign, so it cannot be the copy",
        SOURCE.upper(): "is the source campaign, so it cannot be the copy",
        copy: f"{copy} is the copy of another duplication, {other}",
        copy.upper(): f"is the copy of another duplication, {other}",
        "../c7": "a campaign's id is 1 to 128 letters, digits, '-' or '_'",
    }
    for campaign_id, reason in refusals.items():
        for arguments, typed in ((SURE, None), ((), "y\nbecause\n")):
            done = run("resolve", lost, "--created", campaign_id, *arguments, typed=typed)
            assert done.code == 1
            assert reason in done.err
            assert "[y/N]" not in done.err
    assert operator.record(lost).status is DuplicationStatus.UNKNOWN
    done = run("resolve", other, "--created", copy, *SURE)
    assert f"{other} is already CREATED" in done.err


def test_script_does_not_record_a_campaign_that_looks_different(
    run: Run, operator: Operator
) -> None:
    copy = operator.make("Elsewhere")
    lost = operator.intend("Winter", age=timedelta(minutes=-5))
    done = run("resolve", lost, "--created", copy, *SURE)
    assert done.code == 1
    assert "NOTE: the campaign was created before the request" in done.err
    assert "NOTE: the campaign does not have the requested name" in done.err
    assert "nothing was recorded" in done.err
    assert "--unchecked" in done.err
    assert operator.record(lost).status is DuplicationStatus.UNKNOWN
    # An operator who sees the differences may know better.
    assert run("resolve", lost, "--created", copy, typed="y\nrenamed by hand\n").code == 0
    assert operator.record(lost).campaign is not None


def test_script_does_not_take_a_campaign_that_may_be_a_lost_request_s(
    run: Run, operator: Operator
) -> None:
    lost = operator.intend("Spring")
    copy = operator.make("Spring")
    asyncio.run(declare_ledger_restored(operator.url, timedelta(days=1)))
    done = run("resolve", lost, "--created", copy, *SURE)
    assert done.code == 1
    assert "NOTE: the campaign may be the copy of a request whose record is lost" in done.err
    assert run("resolve", lost, "--created", copy, typed="y\nlooked\n").code == 0


def test_provider_s_own_word_is_not_contradicted(run: Run, operator: Operator) -> None:
    job = operator.intend(outcome=Accepted(campaign=Campaign("c1")))
    done = run("resolve", job, "--created", "c2", "--unchecked", *SURE)
    assert f"c2 is not the copy: the provider has named c1 as the copy of {job}" in done.err
    done = run("resolve", job, "--absent", *SURE)
    assert "the copy may be c1" in done.err
    assert operator.record(job).status is DuplicationStatus.ACCEPTED


# resolve --absent


@on_both_engines
def test_candidates_are_searched_before_an_absence_is_recorded(
    run: Run, operator: Operator
) -> None:
    name = f"Launch at {operator.url[:8]}"
    lost = operator.intend(name)
    done = run("resolve", lost, "--absent", typed="n\n")
    assert f"Sonarly lists no campaign that may be the copy of {SOURCE}" in done.err
    assert done.err.endswith("nothing was recorded\n")
    copy = operator.make(name)
    done = run("resolve", lost, "--absent", typed="n\n")
    assert re.search(rf"may be the copy:\n  {copy}  {name}, created 20", done.err)
    assert "Record that there is no copy? [y/N] " in done.err
    refused = run("resolve", lost, "--absent", *SURE)
    assert refused.code == 1
    assert f"nothing was recorded, because the copy may be {copy}" in refused.err
    assert operator.record(lost).status is DuplicationStatus.UNKNOWN
    state = json_of(run("resolve", lost, "--absent", "--unchecked", "--json", *SURE))
    assert (state["status"], state["evidence"]) == ("REJECTED", "OPERATOR")
    assert state["history"][-1]["reason"] == "looked at it"


def test_reopening_is_refused_after_another_attempt(run: Run, operator: Operator) -> None:
    lost = operator.intend("Twice")
    assert run("resolve", lost, "--absent", *SURE).code == 0
    later = operator.intend("Twice", Created(Campaign("c77")))
    done = run("reopen", lost, *SURE)
    assert done.code == 1
    assert f"{lost} cannot be reopened" in done.err
    assert f"duplication {later} has been made or settled" in done.err
    assert operator.record(lost).status is DuplicationStatus.REJECTED


# Questions


def test_without_a_terminal_the_command_shows_what_to_add(run: Run, operator: Operator) -> None:
    lost = operator.intend()
    for verb in (["resolve", lost, "--absent"], ["reopen", lost]):
        done = run(*verb)
        assert done.code == 1
        assert "without a terminal, the command cannot ask: add --yes and --why TEXT" in done.err
        assert "--yes needs the reason for the history: add --why TEXT" in run(*verb, "--yes").err
    assert operator.record(lost).status is DuplicationStatus.UNKNOWN


@pytest.mark.parametrize(
    "typed", ["", "\nlooked\n", "n\nlooked\n", "yep\nlooked\n", "y\n", "y\n\n", "y\n" + "x" * 1001]
)
def test_nothing_is_recorded_without_a_yes_and_a_reason(
    run: Run, operator: Operator, typed: str
) -> None:
    lost = operator.intend()
    done = run("resolve", lost, "--absent", typed=typed)
    assert done.code == 1
    assert "nothing was recorded" in done.err
    assert operator.record(lost).status is DuplicationStatus.UNKNOWN


def test_operator_is_the_user_of_the_machine_by_default(
    run: Run, operator: Operator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("LOGNAME", "carl")
    lost = operator.intend()
    state = json_of(run("resolve", lost, "--absent", "--json", *SURE))
    assert state["history"][-1]["operator"] == "carl"
    (line,) = [record.getMessage() for record in caplog.records if lost in record.getMessage()]
    assert line == (
        f"duplication {lost} at outreach is REJECTED: recorded by carl, who gave the reason "
        "'looked at it'"
    )
    monkeypatch.setattr("getpass.getuser", lambda: "")
    assert "add --by NAME" in run("resolve", lost, "--absent", *SURE).err


@pytest.mark.parametrize(
    "arguments",
    [
        ["resolve", "1", "--absent", "--by", "a\nb"],
        ["resolve", "1", "--absent", "--why", " "],
        ["resolve", "1", "--absent", "--why", "x" * 1001],
        ["resolve", "1", "--absent", "--created", "c1"],
        ["resolve", "1"],
        ["list", "--older-than", "2"],
        ["list", "--older-than", "2 h"],
        ["list", "--older-than", "-2h"],
        ["list", "--older-than", "999999999d"],
        ["list", "--status", "LOST"],
        # The operating system's arguments may be no text, or control a terminal.
        ["list", "--account", "a\udcff"],
        ["list", "--caller", "a\udcff"],
        ["show", "a\udcff"],
        ["resolve", "\x1b[31m1", "--absent"],
        ["reopen", "1" * 201],
    ],
)
def test_invalid_argument_is_refused(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert re.search(
        r"error: .*(must be|not allowed with|is required|invalid choice|expected)", done.err
    )


# Without the provider


def test_unchecked_needs_no_provider_and_no_secret(
    run: Run, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = operator.intend("Unread")
    text = operator.config.read_text()
    operator.config.write_text(text.replace(operator.provider, "http://127.0.0.1:9"))
    for result in (["--created", "c5"], ["--absent"]):
        done = run("resolve", lost, *result, *SURE)
        assert re.search(r"could not be (read at Sonarly|searched): .*--unchecked", done.err)
        assert API_KEY not in done.err
    operator.config.write_text(text.replace("[accounts.outreach]", "[accounts.renamed]"))
    done = run("resolve", lost, "--created", "c5", *SURE)
    assert "the configuration has no sonarly account outreach" in done.err
    operator.config.write_text(text)
    monkeypatch.delenv("OUTREACH_KEY")
    done = run("resolve", lost, "--created", "c5", *SURE)
    assert "accounts.outreach.api_key: the environment variable OUTREACH_KEY" in done.err
    assert "accounts.other" not in done.err
    done = run("resolve", lost, "--created", "c5", "--unchecked", *SURE)
    assert done.code == 0
    assert "Campaign c5 was not read at the provider, because of --unchecked." in done.err
    record = operator.record(lost)
    assert record.campaign == Campaign("c5", "Unread")


def test_provider_without_lookup_or_list_needs_unchecked(
    run: Run, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = operator.intend()
    monkeypatch.setattr(manual_resolution, "can_search", lambda *_: False)
    done = run("resolve", lost, "--absent", *SURE)
    assert "Sonarly has no list in which the copy could be found" in done.err
    assert operator.record(lost).status is DuplicationStatus.UNKNOWN
    assert run("resolve", lost, "--absent", typed="y\nlooked\n").code == 0


# list and show


def test_list_is_filtered(run: Run, operator: Operator) -> None:
    old = operator.intend(caller="app", age=timedelta(hours=3))
    new = operator.intend()
    made = operator.intend(outcome=Created(Campaign("c88")))

    def ids(*arguments: str) -> list[str]:
        table = run("list", *arguments).out.splitlines()
        listed = [each["id"] for each in json_of(run("list", "--json", *arguments))]
        assert [line.split()[0] for line in table[1:]] == listed
        return listed

    assert ids() == [new, old]
    assert ids("--all") == [made, new, old]
    assert ids("--status", "CREATED") == ids("--all", "--status", "CREATED") == [made]
    assert ids("--older-than", "2h") == [old]
    assert ids("--older-than", "180m", "--all") == [old]
    assert ids("--older-than", "4h") == []
    assert ids("--caller", "app") == [old]
    assert ids("--caller", "web-team") == [new]
    assert ids("--account", "outreach", "--older-than", "90s") == [old]
    assert ids("--account", "other") == []


@on_both_engines
def test_list_of_an_account_that_does_not_exist_is_refused(run: Run, operator: Operator) -> None:
    operator.intend()
    for more in ([], ["--json"], ["--all", "--older-than", "1d"]):
        done = run("list", "--account", "outreahc", *more)
        assert (done.code, done.out) == (2, "")
        assert "there is no account outreahc; there are: outreach, other\n" in done.err
    assert run("list", "--account", "other", "--json").out == "[]\n"
    # An account that only the ledger has is known.
    text = operator.config.read_text()
    operator.config.write_text(text.replace("[accounts.outreach]", "[accounts.renamed]"))
    assert len(json_of(run("list", "--account", "outreach", "--json"))) == 1
    assert json_of(run("list", "--account", "outreach", "--status", "CREATED", "--json")) == []
    done = run("list", "--account", "outreahc")
    assert "there is no account outreahc; there are: renamed, other, outreach\n" in done.err


def test_show_has_the_searches_and_what_an_operator_has_recorded(
    run: Run, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = operator.intend()

    async def postpone(ledger: Ledger) -> None:
        duplication = await ledger.get(None, lost)
        assert duplication is not None
        await ledger.postpone(duplication, datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), ())

    operator.ledger(postpone)
    # The path is printed as it works in each folder.
    monkeypatch.chdir(operator.config.parent)
    monkeypatch.setattr(operator, "config", Path(operator.config.name))
    shown = run("show", lost).out
    assert re.search(
        r"^checks +1, and none has settled it; the next at 2030-01-02 03:04:05Z$",
        shown,
        re.MULTILINE,
    )
    assert f"--config '{Path.cwd()}/gate way.toml' {lost} --absent\n" in shown
    assert "--yes --why 'TEXT'" in shown
    shown = run("resolve", lost, "--absent", "--by", "ann", *SURE).out
    assert re.search(
        r"^operator's result +there is no copy, by ann \(reason: looked at it\)$",
        shown,
        re.MULTILINE,
    )
    # What callers get is not the operator's matter here.
    assert "PROVIDER_UNAVAILABLE" not in shown
    assert operator.record(lost).error == manual_resolution.ABSENT


def test_show_says_that_a_provider_is_not_searched(
    run: Run, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No document says which name Sonarly gives to a copy.
    lost = operator.intend(is_named=False)
    # The secret of the account is not needed for that.
    monkeypatch.delenv("OUTREACH_KEY")
    shown = run("show", lost).out
    expected = "no search finds this copy, because no list of Sonarly identifies it"
    assert re.search(rf"^checks +{expected}$", shown, re.MULTILINE)
    shown = run("resolve", lost, "--absent", "--unchecked", *SURE).out
    assert re.search(r"^checks +0$", shown, re.MULTILINE)


@pytest.mark.parametrize("verb", ["show", "resolve", "reopen"])
def test_help_says_which_id_is_meant(run: Run, verb: str) -> None:
    done = run(verb, "--help")
    assert done.code == 0
    assert re.search(r"^ +ID +the duplication's id", done.out, re.MULTILINE)


def test_missing_file_is_reported_before_a_missing_terminal(run: Run, operator: Operator) -> None:
    operator.config.unlink()
    done = run("resolve", "1", "--absent")
    assert "gate way.toml" in done.err
    assert "terminal" not in done.err


def test_json_has_the_names_of_the_schema(run: Run, operator: Operator) -> None:
    name = "bell\x07 and \u202e"
    lost = operator.intend(name)
    done = run("show", lost, "--json")
    # Nothing that a terminal obeys.
    assert done.out.isascii()
    assert done.out.replace("\n", "").isprintable()
    state = json_of(done)
    assert state["requestedName"] == name
    assert state["requestedBy"] == {"caller": "web-team", "person": None}
    assert state["error"]["code"] == "OUTCOME_UNKNOWN"
    assert run("show", lost).out.replace("\n", "").isprintable()
    (listed,) = json_of(run("list", "--json"))
    assert listed == {name: value for name, value in state.items() if name != "history"}


def test_printed_commands_work_when_pasted(
    run: Run, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration's path has spaces, and the operator types at a real terminal, elsewhere."""
    lost = operator.intend()
    # The path of the ledger is relative to the folder in which the gateway was started.
    folder = operator.config.parent
    monkeypatch.chdir(folder)
    relative = operator.url.replace(f"{folder}/", "")
    assert relative != operator.url
    operator.config.write_text(operator.config.read_text().replace(operator.url, relative))

    def command_of(shown: str, pattern: str) -> str:
        (line,) = re.findall(rf"^  (.*{pattern}.*)$", shown, re.MULTILINE)
        return str(line)

    absent = command_of(run("show", lost).out, "--absent")
    monkeypatch.chdir("/")
    script = "campaign-gateway"
    cd = shlex.join(["cd", str(folder)])
    assert absent.startswith(f"{cd} && {script} duplications resolve --config '")
    module = f"{sys.executable} -m campaign_gateway"
    pasted = run_at_terminal(
        ["sh", "-c", absent.replace(f"&& {script}", f"&& {module}", 1)], "y\nlooked\n"
    )
    assert pasted.returncode == 0, pasted.stderr
    assert "recorded by" in pasted.stderr
    assert API_KEY not in pasted.stderr + pasted.stdout
    # The process prints how it was started itself.
    reopen = command_of(pasted.stdout, " reopen ")
    assert reopen.startswith(f"{cd} && {module}")
    pasted = run_at_terminal(["sh", "-c", reopen], "y\nwrong\n")
    assert pasted.returncode == 0, pasted.stderr
    assert re.search(r"^status +UNKNOWN$", pasted.stdout, re.MULTILINE)
