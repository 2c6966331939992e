"""The commands and settings of callers, as an operator uses them."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from campaign_gateway.commands.duplication_texts import description, listing
from campaign_gateway.ledger import open_ledger
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.model import Intent, Selection
from campaign_gateway.settings import Settings, SettingsError, parse_settings
from campaign_gateway.web.callers.caller import Caller, Right
from campaign_gateway.web.callers.keys import create_key
from support.commands import Command, run, running
from support.correlated import without_id
from support.plain import NO_CAS

ACCOUNT = """
[accounts.outreach]
provider = "sonarly"
api_key = "a-key"
"""
CALLER = """
[callers.web-team]
key = { env = "WEB_TEAM_KEY_HASH" }
accounts = ["outreach"]
may = ["copy", "read"]
"""


def configuration(folder: Path, text: str) -> str:
    path = folder / "gateway.toml"
    path.write_text(f'{text}\n[ledger]\nurl = "sqlite:///{folder}/ledger.db"\n{ACCOUNT}')
    return str(path)


@pytest.mark.parametrize(("place", "host"), [("option", "0.0.0.0"), ("file", "::")])
def test_without_callers_only_loopback_is_served(tmp_path: Path, host: str, place: str) -> None:
    config = configuration(tmp_path, "" if place == "option" else f'[server]\nhost = "{host}"\n')
    refused = run(
        "serve", "--config", config, "--port", "0", *(["--host", host] if place == "option" else [])
    )
    assert refused.returncode == 1
    assert refused.stdout == ""
    invalid = "The configuration is invalid:\n  server.host"
    assert f"{invalid}: {host} can be reached from other machines" in refused.stderr
    # What to add is valid as it is printed, with a hash in the variable.
    assert "[callers.web-team]" in refused.stderr
    assert "campaign-gateway key create web-team" in refused.stderr
    assert not (tmp_path / "ledger.db").exists()


def test_key_that_is_created_works_on_every_address(tmp_path: Path) -> None:
    created = run("key", "create", "web-team").stdout
    (key,) = re.findall(r"Authorization: Bearer (\S+)", created)
    (stored,) = set(re.findall(r"\b[0-9a-f]{12}:[0-9a-f]{64}\S*", created))
    added = re.search(r"\[callers.web-team\]\n(?:  .*\n)+", created)
    assert added is not None
    config = configuration(tmp_path, added[0])
    environment = {"WEB_TEAM_KEY_HASH": stored}
    arguments = ("serve", "--config", config, "--host", "0.0.0.0", "--port", "0")
    with running(*arguments, environment=environment) as command:
        port = command.wait_for(r"listening on 0\.0\.0\.0 port (\d+)")[1]
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=NO_CAS
        ) as http:
            bearer = {"authorization": f"Bearer {key}"}
            assert_only_health_answers(http)
            answer = http.post("/graphql", json={"query": "{ accounts { name } }"}, headers=bearer)
            assert without_id(answer) == {"data": {"accounts": [{"name": "outreach"}]}}
            assert http.get("/readyz", headers=bearer).status_code == 200
            # Off loopback there is no page unless it is switched on.
            assert http.get("/graphiql", headers=bearer).status_code == 404
        assert command.stop() == 0
    assert '"refused a request: no credential"' in command.output
    assert_no_credential(command, key, stored)


def assert_only_health_answers(http: httpx.Client) -> None:
    paths = ["/", "/graphql", "/graphiql", "/graphiql/", "/graphiql/examples.json", "/readyz"]
    for path in [*paths, "/graphiql/favicon.svg", "/graphiql/assets/x.js", "/metrics"]:
        for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
            assert http.request(method, path).status_code == 401, (method, path)
    assert http.get("/healthz").status_code == 200


def assert_no_credential(command: Command, key: str, stored: str) -> None:
    for part in (key.split("_")[2], stored.split(":")[1]):
        assert part not in command.output


def test_page_off_loopback_has_to_be_switched_on(tmp_path: Path) -> None:
    stored = create_key()[1]
    config = configuration(tmp_path, f"[server]\ngraphiql = true\n{CALLER}")
    arguments = ("serve", "--config", config, "--host", "0.0.0.0", "--port", "0")
    with running(*arguments, environment={"WEB_TEAM_KEY_HASH": stored}) as command:
        port = command.wait_for(r"listening on 0\.0\.0\.0 port (\d+)")[1]
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=NO_CAS
        ) as http:
            assert http.get("/graphiql").status_code in {200, 503}
            for path in ("/graphiql/examples.json", "/graphql", "/readyz"):
                assert http.get(path).status_code == 401


def test_key_with_an_end_ends_after_at_least_that_many_days() -> None:
    created = run("key", "create", "web-team", "--days", "30").stdout
    (end,) = set(re.findall(r"[0-9a-f]{64}:(\S+)", created))
    left = datetime.fromisoformat(end).replace(tzinfo=UTC) - datetime.now(UTC)
    assert timedelta(days=30) <= left <= timedelta(days=31, hours=1)
    assert f"The key is valid until {end} begins, in UTC." in created


@pytest.mark.parametrize(
    "arguments", [["a b"], ["-x"], ["web", "--days", "0"], ["web", "--days", "x"]]
)
def test_invalid_name_or_number_of_days_is_refused(arguments: list[str]) -> None:
    refused = run("key", "create", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")


async def test_operator_sees_who_requested_a_copy(tmp_path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    caller = Caller("web-team", "caller:web-team", frozenset({"*"}), frozenset(Right))
    for key, person in (("a", "ann@example.com"), ("b", None)):
        intent = Intent(
            new_id(), new_id(), caller.scope, key, "f", "sonarly", "outreach", "c1", key, "{}",
            caller=caller.name, person=person,
        )  # fmt: skip
        await ledger.begin(intent, ledger.now(), None)
    records = await ledger.list(None, Selection(), 10, None)
    header, *rows = listing(records).splitlines()
    assert header.split()[:4] == ["ID", "STATUS", "REQUESTED", "CALLER"]
    assert all(" web-team " in row for row in rows)
    shown = "".join(description(record, [], lambda verb: verb) for record in records)
    requested_by = re.findall(r"^requested by +(.*)$", shown, re.MULTILINE)
    assert requested_by == ["web-team", "web-team for ann@example.com"]
    await ledger.close()


# Settings


LOOPBACK = ["127.0.0.1", "127.1.2.3", "::1", "localhost"]
OTHERS = ["0.0.0.0", "::", "192.0.2.1", "gateway.example.com", "localhost.", "::ffff:192.0.2.1"]


@pytest.mark.parametrize("host", LOOPBACK + OTHERS)
def test_page_and_missing_callers_depend_on_the_host(host: str) -> None:
    is_loopback = host in LOOPBACK
    caller = {"key": create_key()[1], "accounts": "*", "may": ["read"]}
    assert parse({"web-team": caller}).at(host, 0).server.has_graphiql is is_loopback
    if is_loopback:
        assert parse({}).at(host, 0).server.host == host
    else:
        with pytest.raises(SettingsError, match="no callers are configured"):
            parse({}).at(host, 0)


def parse(callers: object, environment: dict[str, str] | None = None) -> Settings:
    accounts = {"outreach": {"provider": "sonarly", "api_key": "key"}}
    return parse_settings({"accounts": accounts, "callers": callers}, environment or {})


def test_several_keys_come_from_several_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = [create_key()[1] for _ in range(4)]
    monkeypatch.setenv("WEB_TEAM_KEY_HASH", f"{stored[0]} {stored[1]}:2027-01-31")
    (tmp_path / "hashes").write_text(f"{stored[2]}\n")
    sources = [{"env": "WEB_TEAM_KEY_HASH"}, {"file": f"{tmp_path}/hashes"}, stored[3]]
    settings = parse({"web-team": {"key": sources, "accounts": ["outreach"], "may": ["read"]}})
    found = [each.id for source in settings.callers["web-team"].key for each in source.hashes]
    assert found == [each.split(":")[0] for each in stored]
    for text in (repr(settings), settings.model_dump_json()):
        assert not any(each.split(":")[1] in text for each in stored)


def test_environment_overrides_the_settings_of_a_caller() -> None:
    old, new = create_key()[1], create_key()[1]
    settings = parse(
        {"web-team": {"key": old, "accounts": "*", "may": ["read"]}},
        {
            "CAMPAIGN_GATEWAY_CALLERS__WEB_TEAM__KEY": new,
            "CAMPAIGN_GATEWAY_CALLERS__WEB_TEAM__ACCOUNTS": "outreach",
            "CAMPAIGN_GATEWAY_CALLERS__WEB_TEAM__MAY": "copy, read",
        },
    )
    caller = settings.callers["web-team"]
    assert caller.key[0].hashes[0].id == new.split(":")[0]
    assert caller.accounts == {"outreach"}
    assert caller.may == {Right.COPY, Right.READ}


def test_every_error_of_a_caller_is_listed_without_its_hash() -> None:
    key, stored = create_key()
    with pytest.raises(SettingsError) as raised:
        parse(
            {
                "a": {"key": key, "accounts": "*", "may": ["read"]},
                "b": {"key": "", "accounts": ["outreech"], "may": ["red"]},
                "c": {"accounts": "*", "may": ["read"]},
                "d": {"key": stored, "accounts": ["outreech"], "may": []},
                "e": {"key": stored, "accounts": ["outreach"], "may": ["read"]},
                "f g": {},
                "h": {"key": {"env": "SURELY_NOT_SET"}, "mays": ["read"]},
            }
        )
    assert raised.value.errors == [
        "callers.a.key: is a key; store the hash that `campaign-gateway key create` prints",
        "callers.b.key: is empty; store the hash that `campaign-gateway key create` prints",
        (
            "callers.b.may.0: Input should be 'copy', 'read', 'activate', 'introspect' or "
            "'name-person'"
        ),
        "callers.c.key: missing; add it to [callers.c]",
        "callers.d.accounts: there is no account outreech; did you mean outreach?",
        "callers.f g: must be named with up to 64 letters, digits, '.', '_' or '-'",
        "callers.h.key: the environment variable SURELY_NOT_SET is not set; set it",
        "callers.h.accounts: missing; add it to [callers.h]",
        "callers.h.may: missing; add it to [callers.h]",
        "callers.h.mays: unknown setting; did you mean may?",
        f"callers.e.key: {stored.split(':')[0]} is a key of callers.d too",
    ]
    assert key[20:] not in str(raised.value)


@pytest.mark.parametrize("callers", ["web-team", [{"key": "x"}], {"web-team": "x"}])
def test_callers_are_tables(callers: object) -> None:
    with pytest.raises(SettingsError, match="callers"):
        parse(callers)
