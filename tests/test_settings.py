"""The configuration file: all its errors are reported together, and never a secret."""

import re
from itertools import chain
from pathlib import Path

import pytest

from campaign_gateway import settings as settings_module
from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.settings import (
    LogSettings,
    Settings,
    SettingsError,
    load_ledger_settings,
    load_log_settings,
    load_settings,
)
from support.readmes import READMES

COMPLETE = """
[server]
host = "0.0.0.0"
port = 9000
[ledger]
url = "sqlite:///some.db"
[accounts.braze-eu]
provider = "braze"
instance = "EU-01"
api_key = { env = "BRAZE_EU_API_KEY" }
timeout_seconds = 12
[accounts.outreach]
provider = "sonarly"
api_key = { file = "FOLDER/key" }
[accounts.cdp]
provider = "altcraft"
base_url = "https://cdp.example.com/"
token = "plain-token"
format = "xml"
"""

PROVIDERS = ", ".join(sorted(CONNECTORS))


def load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "gateway.toml"
    path.write_text(text.replace("FOLDER", str(tmp_path)), "utf-8")
    return load_settings(path)


def errors(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, text)
    return raised.value.errors


def test_complete_file_is_loaded_with_every_kind_of_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAZE_EU_API_KEY", "key-from-environment")
    (tmp_path / "key").write_text("key-from-file\n")
    settings = load(tmp_path, COMPLETE)

    assert (settings.server.host, settings.server.port) == ("0.0.0.0", 9000)
    assert settings.ledger.url.get_secret_value() == "sqlite:///some.db"
    braze, outreach, cdp = settings.accounts.values()
    assert braze.secrets() == ["key-from-environment"]
    assert braze.timeout_seconds == 12
    assert braze.root == "https://rest.fra-01.braze.eu"
    assert outreach.secrets() == ["key-from-file"]
    assert outreach.base_url == "https://api.sonarly.io"
    assert cdp.secrets() == ["plain-token"]
    assert cdp.base_url == "https://cdp.example.com"
    for secret in ("key-from-environment", "key-from-file", "plain-token"):
        assert secret not in repr(settings)
        assert secret not in settings.model_dump_json()


def test_environment_variables_override_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "CAMPAIGN_GATEWAY_SERVER__PORT": "7000",
        "CAMPAIGN_GATEWAY_LEDGER__URL": "sqlite:///other.db",
        "CAMPAIGN_GATEWAY_ACCOUNTS__BRAZE_EU__API_KEY": "key-of-an-override",
        "CAMPAIGN_GATEWAY_ACCOUNTS__BRAZE_EU__TIMEOUT_SECONDS": "3.5",
        "CAMPAIGN_GATEWAY_CONFIG": "gateway.toml",
        # A container platform sets this variable for a service with this name.
        "CAMPAIGN_GATEWAY_PORT": "tcp://10.0.0.1:8000",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "key").write_text("key-from-file")
    settings = load(tmp_path, COMPLETE)
    assert settings.server.port == 7000
    assert settings.ledger.url.get_secret_value() == "sqlite:///other.db"
    assert settings.accounts["braze-eu"].secrets() == ["key-of-an-override"]
    assert settings.accounts["braze-eu"].timeout_seconds == 3.5


def test_variable_that_overrides_no_setting_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_GATEWAY_SERVR__PORT", "secret-9")
    monkeypatch.setenv("CAMPAIGN_GATEWAY_ACCOUNTS__A__PROVIDER", "braze")
    text = '[accounts.a]\nprovider = "sonarly"\napi_key = "key"'
    assert errors(tmp_path, text) == [
        f"{typo}: overrides no setting; did you mean {meant}?"
        for typo, meant in {
            "CAMPAIGN_GATEWAY_SERVR__PORT": "CAMPAIGN_GATEWAY_SERVER__PORT",
            "CAMPAIGN_GATEWAY_ACCOUNTS__A__PROVIDER": "CAMPAIGN_GATEWAY_ACCOUNTS__A__API_KEY",
        }.items()
    ]


def test_accounts_with_the_same_variables_are_an_error(tmp_path: Path) -> None:
    one = 'provider = "sonarly"\napi_key = "key"\n'
    text = f"[accounts.a-b]\n{one}[accounts.A_B]\n{one}"
    assert errors(tmp_path, text) == [
        "accounts.A_B: has the same environment variables as accounts.a-b; rename one of them"
    ]


def test_every_error_is_listed_with_its_place_and_what_to_do(tmp_path: Path) -> None:
    listed = errors(
        tmp_path,
        """
        [sever]
        [server]
        host = ""
        port = 99999
        [ledger]
        url = "mysql://secret-password@host"
        [log]
        format = "xml"
        levle = "info"
        [accounts.a]
        provider = "brase"
        [accounts.b]
        provider = "braze"
        apikey = "secret-1"
        [accounts.c]
        provider = "sonarly"
        api_key = { env = "SURELY_NOT_SET" }
        timeout_seconds = "soon"
        [accounts.d]
        provider = "altcraft"
        base_url = "http://cdp.example.com"
        token = { file = "FOLDER/missing" }
        format = "yaml"
        calls_per_minute = 0
        [accounts."e f"]
        provider = "sonarly"
        """,
    )
    expected = [
        "sever: unknown section; did you mean server?",
        "server.host: String should have at least 1 character",
        "server.port: Input should be less than or equal to 65535",
        'ledger.url: must look like "sqlite:///campaign-gateway.db" or "postgresql://host/db"',
        "log.format: Input should be 'json' or 'text'",
        "log.levle: unknown setting; did you mean level?",
        f"accounts.a.provider: must be one of {PROVIDERS}",
        "accounts.b.apikey: unknown setting; did you mean api_key?",
        "accounts.b.api_key: missing; add it to [accounts.b]",
        "accounts.c.api_key: the environment variable SURELY_NOT_SET is not set; set it",
        "accounts.c.timeout_seconds: Input should be a valid number",
        'accounts.d.base_url: would send the secret in clear text; use "https://"',
        "accounts.d.token: file",
        "accounts.d.format: Input should be 'json' or 'xml'",
        "accounts.d.calls_per_minute: Input should be greater than or equal to 1",
        "accounts.e f: must be named with up to 64 letters, digits, '.', '_' or '-'",
    ]
    for line in expected:
        assert any(error.startswith(line) for error in listed), (line, listed)
    assert len(listed) == len(expected)
    assert "secret" not in "\n".join(listed).replace("send the secret", "")


@pytest.mark.parametrize(
    ("address", "is_good"),
    [
        ("https://rest.fra-01.braze.eu", True),
        ("https://cdp.example.com:8443/behind/a/path/", True),
        ("http://localhost:1234", True),
        ("http://127.0.0.1:1234", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:1234", True),
        ("http://example.com", False),
        ("http://localhost.example.com", False),
        ("http://10.0.0.1", False),
        ("ftp://example.com", False),
        ("example.com", False),
        ("https://", False),
        ("https://user:secret-7@example.com", False),
        ("https://example.com?token=secret-7", False),
        ("https://example.com#secret-7", False),
        ("https://exa mple.com", False),
        ("https://example.com/../x", False),
        ("https://example.com:99999", False),
        ("", False),
    ],
)
def test_base_url_must_be_https_or_local_and_contain_no_secret(
    tmp_path: Path, address: str, *, is_good: bool
) -> None:
    text = f'[accounts.a]\nprovider = "altcraft"\nbase_url = "{address}"\ntoken = "t0ken"'
    if is_good:
        assert load(tmp_path, text).accounts["a"].base_url == address.rstrip("/")
    else:
        (error,) = errors(tmp_path, text)
        assert error.startswith("accounts.a.base_url: ")
        assert "secret-7" not in error


@pytest.mark.parametrize(
    "secret",
    [
        '""',
        '"with space"',
        '"line\\nbreak"',
        '"schlüssel"',
        "17",
        "{ env = 'A', file = 'B' }",
        "{ environment = 'A' }",
        "[]",
        "{ env = 'sk_live_pasted' }",
    ],
)
def test_invalid_secret_is_rejected_and_not_repeated(tmp_path: Path, secret: str) -> None:
    (error,) = errors(tmp_path, f'[accounts.a]\nprovider = "sonarly"\napi_key = {secret}')
    assert error.startswith("accounts.a.api_key: ")
    assert "sk_live_pasted" not in error


@pytest.mark.parametrize("instance", ["", 'instance = "EU-01"\nbase_url = "https://example.com"'])
def test_braze_needs_exactly_one_of_base_url_and_instance(tmp_path: Path, instance: str) -> None:
    text = f'[accounts.a]\nprovider = "braze"\napi_key = "key"\n{instance}'
    assert errors(tmp_path, text) == [
        'accounts.a: needs either base_url or instance (such as "EU-01"), not both'
    ]


def test_file_that_is_no_configuration_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(SettingsError, match="UTF-8"):
        load_settings(tmp_path / "latin.toml")
    assert "is not TOML" in errors(tmp_path, "[server")[0]
    none = "accounts: none configured; add a table [accounts.NAME] with its provider"
    assert errors(tmp_path, "") == [none]
    assert errors(tmp_path, "accounts = 1\nserver = 2") == ["server: must be a table", none]
    assert errors(tmp_path, "[accounts]\na = 1") == [
        f"accounts.a.provider: must be one of {PROVIDERS}"
    ]


def test_ledger_url_may_be_a_secret_and_needs_no_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://gateway:pass-word@db.example.com/ledger")
    account = '[accounts.a]\nprovider = "sonarly"\napi_key = "key"\n'
    ledger = '[ledger]\nurl = { env = "DATABASE_URL" }\nkeep_days = 1.5\nremember_days = 2\n'
    settings = load(tmp_path, account + ledger)
    assert settings.ledger.url.get_secret_value().endswith("@db.example.com/ledger")
    assert "pass-word" not in repr(settings)
    assert (settings.ledger.keep_days, settings.ledger.remember_days) == (1.5, 2)
    # A command that only reads the ledger does not need the accounts' secrets.
    lone = tmp_path / "lone.toml"
    lone.write_text(ledger + "[accounts.a]\nprovider = 'sonarly'\napi_key = { env = 'NOT_SET' }\n")
    assert load_ledger_settings(lone) == settings.ledger


def test_invalid_ledger_settings_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = '[accounts.a]\nprovider = "sonarly"\napi_key = "key"\n'
    for line, error in {
        "keep_days = 0": "ledger.keep_days: Input should be greater than 0",
        "keep_days = 500": "ledger: remember_days must not be less than keep_days",
        'url = "postgresql://user:pass%word@host/db"': (
            "ledger.url: cannot be read; percent-encode special characters of its password, such "
            "as @ as %40"
        ),
        "url = 7": 'ledger.url: write a string, { env = "NAME" } or { file = "PATH" }',
    }.items():
        assert errors(tmp_path, f"{account}[ledger]\n{line}\n") == [error]
    monkeypatch.setattr(settings_module, "find_spec", lambda _name: None)
    url = 'url = "postgresql://host/db"'
    assert errors(tmp_path, f"{account}[ledger]\n{url}\n") == [
        "ledger.url: PostgreSQL needs: pip install 'campaign-gateway[postgres]'"
    ]


def test_log_is_read_alone_and_its_errors_are_left_to_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[log]\nformat = "text"\n[accounts.a]\nprovider = "no such"\n')
    assert load_log_settings(path) == LogSettings(format="text")
    monkeypatch.setenv("CAMPAIGN_GATEWAY_LOG__LEVEL", "debug")
    assert load_log_settings(path) == LogSettings(format="text", level="debug")
    monkeypatch.setenv("CAMPAIGN_GATEWAY_LOG__LEVEL", "loud")
    assert load_log_settings(path) == LogSettings()


@pytest.mark.parametrize("setting", ["calls_per_minute", "calls_per_second", "calls_at_once"])
def test_readme_has_the_default_limits_of_each_provider(setting: str) -> None:
    rows = chain.from_iterable(rows for _, rows in READMES["src/README.md"].tables())
    (default,) = (row[1] for row in rows if row[0] == f"`accounts.NAME.{setting}`")
    documented = {
        title: int(number)
        for number, titles in re.findall(r"(\d+) at ([^,;]+)", default)
        for title in titles.split(" and ")
    }
    usual = AccountSettings.model_fields[setting].default
    assert default.split(";")[0].strip("`") == str(usual or "none")
    assert documented == {
        connector.title: connector.Account.model_fields[setting].default
        for connector in CONNECTORS.values()
        if connector.Account.model_fields[setting].default != usual
    }
