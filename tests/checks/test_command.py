"""`campaign-gateway check`, and `serve --check`."""

import json
import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from campaign_gateway import cli
from campaign_gateway.commands.check import check
from campaign_gateway.observe.log import JsonFormatter
from campaign_gateway.settings import parse_settings
from support.commands import running
from support.connectors import emulator_of
from support.plain import NO_CAS

CANARY = "SG.canary-secret-4711-0815"


def checked(tables: Mapping[str, dict[str, Any]], *names: str, is_json: bool = False) -> bool:
    return check(parse_settings({"accounts": tables}, {}), names, is_json=is_json)


def write_config(folder: Path, tables: Mapping[str, dict[str, Any]]) -> Path:
    lines = ["[server]", "port = 0", "[ledger]", f'url = "sqlite:///{folder}/ledger.db"']
    for name, table in tables.items():
        lines += [f"[accounts.{name}]", *(f"{key} = {json.dumps(table[key])}" for key in table)]
    path = folder / "gateway.toml"
    path.write_text("\n".join(lines), "utf-8")
    path.chmod(0o600)
    return path


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """Return the exit status, or the message for the status 1."""
    # The command sets up the log of its process, which is that of the other tests here.
    monkeypatch.setattr(cli, "log_to_stderr", lambda *_: JsonFormatter())
    monkeypatch.setattr(logging.Logger, "setLevel", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["campaign-gateway", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_table_has_a_row_for_each_account_and_each_permission(
    tables: Mapping[str, dict[str, Any]],
    unread: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert checked(tables)
    lines = capsys.readouterr().out.splitlines()
    rows, permissions = lines[: lines.index("")], lines[lines.index("") + 1 :]
    assert rows[0].split("  ")[0] == "ACCOUNT"
    assert [row.split()[0] for row in rows[1:]] == list(tables)
    (unread_row,) = (row for row in rows if f" {unread['provider']} " in row)
    assert unread_row.split()[2:] == ["not", "checked", "unknown", "-", "-", "-", "-"]
    rows.remove(unread_row)
    assert all(" ok " in row and " accepted " in row and " no TLS " in row for row in rows[1:])
    states = [" ".join(line.split()) for line in permissions]
    assert "braze campaigns.details granted" in states
    assert "braze campaigns.duplicate cannot be checked without a copy" in states
    assert "hubspot marketing.campaigns.write granted, for kind CAMPAIGN" in states


def test_named_accounts_alone_are_checked_and_json_has_what_is_wrong(
    tables: Mapping[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {**tables, "mail": {**tables["sendgrid"], "api_key": CANARY}}
    assert checked(wrong, "klaviyo", "braze", "klaviyo", is_json=True)
    results = json.loads(capsys.readouterr().out)
    assert [result["account"] for result in results] == ["klaviyo", "braze"]
    klaviyo, braze = results
    assert klaviyo["ok"]
    assert klaviyo["apiVersion"] == "2026-10-15"
    assert braze["apiVersion"] is None
    assert klaviyo["latencyMilliseconds"] > 0
    assert braze["permissions"][2] == {
        "name": "campaigns.duplicate",
        "state": "NEEDS_COPY",
        "onlyFor": None,
    }
    assert not checked(wrong, "mail", is_json=True)
    output = capsys.readouterr().out
    (mail,) = json.loads(output)
    assert (mail["ok"], mail["secret"], mail["reachable"]) == (False, "refused", True)
    assert mail["problems"][0]["code"] == "SECRET_REFUSED"
    assert "[accounts.mail]" in mail["problems"][0]["message"]
    assert CANARY not in output


def test_exit_status_tells_scripts_what_happened(
    tables: Mapping[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    accounts = {"good": tables["sonarly"], "bad": {**tables["sonarly"], "api_key": CANARY}}
    config = str(write_config(tmp_path, accounts))
    assert run_main(monkeypatch, "check", "good", "--config", config) == 0
    assert run_main(monkeypatch, "check", "--config", config) == 1
    assert run_main(monkeypatch, "check", "other", "--config", config) == 2
    output = capsys.readouterr()
    assert "there is no account other; there are: good, bad" in output.err
    assert run_main(monkeypatch, "check", "--yaml", "--config", config) == 2
    assert CANARY not in output.out + output.err


@pytest.mark.slow
def test_check_as_a_process_shows_every_problem_and_no_secret(
    tables: Mapping[str, dict[str, Any]], tmp_path: Path
) -> None:
    accounts = {
        "good": tables["sonarly"],
        "bad": {**tables["braze"], "api_key": CANARY},
        "gone": {**tables["omnisend"], "base_url": "http://127.0.0.1:9", "api_key": CANARY},
    }
    with running("check", "--config", str(write_config(tmp_path, accounts))) as command:
        assert command.process.wait(60) == 1
        command.wait_for(r"(?m)^gone +Omnisend +UNREACHABLE +unknown +no TLS +- +- ")
        command.wait_for(
            r"(?m)^gone: No response from Omnisend at 127.0.0.1:9: the connection was refused"
        )
        command.wait_for(r"(?m)^bad: Braze refuses the secret")
    assert CANARY not in command.output


@pytest.mark.slow
def test_serve_with_check_starts_although_a_provider_is_unreachable(
    tables: Mapping[str, dict[str, Any]], tmp_path: Path
) -> None:
    gone = {**tables["omnisend"], "base_url": "http://127.0.0.1:9"}
    config = write_config(tmp_path, {"good": tables["sonarly"], "gone": gone})
    with running("serve", "--check", "--config", str(config)) as command:
        command.wait_for("WARNING.*account gone: No response from Omnisend")
        port = command.wait_for(r"listening on \S+ port (\d+)")[1]
        page = f"http://127.0.0.1:{port}/readyz?accounts"
        response = httpx.get(page, trust_env=False, verify=NO_CAS)
        # They were just read, so the gateway does not read them again.
        ready, good, gone_line = response.text.splitlines()
        assert ready == "ready"
        assert good.startswith("account good: ok (checked at ")
        assert gone_line.startswith("account gone: No response from Omnisend at ")
        assert command.stop() == 0


def test_serve_with_check_does_not_start_with_a_refused_secret(
    tables: Mapping[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # If it starts, the test must end.
    monkeypatch.setattr(cli, "create_app", None)
    # Another account lacks a permission, which is a warning.
    limited = {**tables["omnisend"], **emulator_of("omnisend").LIMITED_ACCOUNT}
    bad = {**tables["braze"], "api_key": CANARY}
    config = write_config(tmp_path, {"limited": limited, "bad": bad})
    message = run_main(monkeypatch, "serve", "--check", "--config", str(config))
    assert re.match("The gateway cannot start: .*refused: bad\\.", str(message))
    assert "account bad: Braze refuses the secret" in caplog.text
    assert "account limited: The secret does not have campaigns.read" in caplog.text
    assert CANARY not in caplog.text + str(message)
