"""Loads the configuration: one TOML file, and environment variables that override it."""

import logging
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from campaign_gateway.connectors.account_settings import (
    NAME,
    AccountSettings,
    resolve_secret,
)
from campaign_gateway.connectors.addresses import is_loopback
from campaign_gateway.connectors.registry import UnusableConnector, find_connector
from campaign_gateway.web.callers.caller import ALL_ACCOUNTS
from campaign_gateway.web.callers.keys import shared_ids
from campaign_gateway.web.callers.settings import CallerSettings, JwtSettings, split_list

log = logging.getLogger(__name__)

ENVIRONMENT_PREFIX = "CAMPAIGN_GATEWAY_"

NO_CALLERS = """\
server.host: {host} can be reached from other machines, and no callers are configured, so \
anyone on them could copy campaigns. Create a key with `campaign-gateway key create web-team`, \
and add its caller to the configuration, for example:
    [callers.web-team]
    key = {{ env = "WEB_TEAM_KEY_HASH" }}
    accounts = ["*"]
    may = ["copy", "read"]
  Or listen on 127.0.0.1."""

Section = TypeVar("Section", bound=BaseModel)


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?", value):
        raise ValueError(
            'is not a host; write only a name or an address, like "gateway.example.com"'
        )
    return value


def _origin(value: str) -> str:
    # Browsers send origins in lower case, without a path, and without the default port.
    if not re.fullmatch(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", value):
        raise ValueError('is not an origin; write each one as "https://app.example.com"')
    return value


class ServerSettings(BaseModel):
    """Where the gateway listens, and how it responds.

    `hosts` are the names by which clients reach the gateway, besides those of loopback and the
    address that they connect to. `cors_origins` are the web pages of other sites that may use it.
    If a copy takes longer than `deadline_seconds`, the caller gets IN_PROGRESS. Without
    `introspection`, /graphql does not show its schema to anyone, not even to a federation composer.
    `graphiql` None: the page is there if the gateway listens on loopback.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=0, le=65535)
    hosts: Annotated[list[Annotated[str, AfterValidator(_host)]], BeforeValidator(split_list)] = []
    cors_origins: Annotated[
        list[Annotated[str, AfterValidator(_origin)]], BeforeValidator(split_list)
    ] = []
    deadline_seconds: float = Field(default=25, gt=0, le=600)
    introspection: bool = True
    graphiql: bool | None = None

    @property
    def has_graphiql(self) -> bool:
        return is_loopback(self.host) if self.graphiql is None else self.graphiql


class MetricsSettings(BaseModel):
    """Where /metrics is served, for Prometheus. Without a port, it is not served."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int | None = Field(default=None, ge=0, le=65535)

    @model_validator(mode="after")
    def _check_port(self) -> Self:
        if self.port is None and "host" in self.model_fields_set:
            raise ValueError("has a host and no port; add `port = 9464` to [metrics]")
        return self


def _ledger_url(setting: object) -> str:
    value = resolve_secret(setting)
    if re.fullmatch(r"sqlite:///[^\0]+", value):
        return value
    if not re.match(r"postgres(ql)?://", value):
        raise ValueError('must look like "sqlite:///campaign-gateway.db" or "postgresql://host/db"')
    if find_spec("psycopg") is None:
        raise ValueError("PostgreSQL needs: pip install 'campaign-gateway[postgres]'")
    from campaign_gateway.ledger.postgres import UNREADABLE, is_readable  # noqa: PLC0415 - an extra

    if not is_readable(value):
        raise ValueError(UNREADABLE)
    return value


class LedgerSettings(BaseModel):
    """Where duplications are recorded, and for how long.

    `url` is a secret, because a PostgreSQL URL may contain a password. A settled duplication is
    kept completely for `keep_days`. After that, only its key is kept, so that it is not sent again,
    until `remember_days` after it was requested.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Annotated[SecretStr, BeforeValidator(_ledger_url)] = SecretStr(
        "sqlite:///campaign-gateway.db"
    )
    keep_days: float = Field(default=30, gt=0, le=36500)
    remember_days: float = Field(default=400, gt=0, le=36500)

    @property
    def kind(self) -> str:
        return "sqlite" if self.url.get_secret_value().startswith("sqlite:") else "postgresql"

    @model_validator(mode="after")
    def _check_days(self) -> Self:
        if self.remember_days < self.keep_days:
            raise ValueError("remember_days must not be less than keep_days")
        return self


class LogSettings(BaseModel):
    """How the log is written. Lines below `level` are not."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    format: Literal["json", "text"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True)

    server: ServerSettings = ServerSettings()
    ledger: LedgerSettings = LedgerSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    accounts: Mapping[str, AccountSettings]
    callers: Mapping[str, CallerSettings] = MappingProxyType({})
    jwt: JwtSettings | None = None

    def at(self, host: str, port: int) -> Self:
        """Return the settings with another address to listen on. Raises `SettingsError`."""
        if not self.callers and not is_loopback(host):
            raise SettingsError([NO_CALLERS.format(host=host)])
        server = self.server.model_copy(update={"host": host, "port": port})
        return self.model_copy(update={"server": server})

    def secrets(self) -> list[str]:
        """Return what must not be in the log."""
        password = urlsplit(self.ledger.url.get_secret_value()).password
        of_accounts = [each for account in self.accounts.values() for each in account.secrets()]
        return [*of_accounts, unquote(password)] if password else of_accounts


class SettingsError(Exception):
    """The configuration is invalid. `errors` has one line per error, without any secret."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def load_settings(path: Path) -> Settings:
    """Read a configuration file and the environment. Raises `SettingsError`.

    Logs a warning if other users of the machine can read secrets in the file.
    """
    table = _load(path)
    settings = parse_settings(table, os.environ)
    if path.stat().st_mode & stat.S_IROTH and _has_secrets(table, settings):
        log.warning(
            "%s has secrets, and every user of this machine can read it. Change its mode to 0600 "
            "or 0640, or write the secrets as { env = ... } or { file = ... }",
            path,
        )
    return settings


def _has_secrets(table: Mapping[str, Any], settings: Settings) -> bool:
    """Whether the file itself contains a secret, and does not only name where it is."""
    url = table.get("ledger", {}).get("url")
    if isinstance(url, str) and urlsplit(url).password:
        return True
    return any(
        isinstance(table["accounts"][name].get(field_name), str)
        for name, account in settings.accounts.items()
        for field_name in type(account).model_fields
        if isinstance(getattr(account, field_name), SecretStr)
    )


def load_ledger_settings(path: Path) -> LedgerSettings:
    """Read only the ledger's settings, so that no secrets of accounts are needed.

    Raises `SettingsError`.
    """
    errors: list[str] = []
    table = _load(path).get("ledger", {})
    ledger = _Reader(os.environ, errors).section(("ledger",), LedgerSettings, table)
    if ledger is None:
        raise SettingsError(errors)
    return ledger


def load_log_settings(path: Path) -> LogSettings:
    """Read only how to log what is logged while the rest is read. Raises `SettingsError`.

    If this section has an error, return the defaults: `load_settings` reports the error.
    """
    reader = _Reader(os.environ, [])
    return reader.section(("log",), LogSettings, _load(path).get("log", {})) or LogSettings()


def load_account_names(path: Path) -> Sequence[str]:
    """Read only the names of the accounts. Raises `SettingsError`."""
    tables = _load(path).get("accounts", {})
    return list(tables) if isinstance(tables, dict) else []


def load_account_settings(path: Path, name: str) -> AccountSettings | None:
    """Read only one account's settings, so that no secrets of other accounts are needed.

    Return None if the account is not configured. Raises `SettingsError`.
    """
    errors: list[str] = []
    tables = _load(path).get("accounts", {})
    if not isinstance(tables, dict) or name not in tables:
        return None
    accounts = dict(_Reader(os.environ, errors).accounts({name: tables[name]}))
    if errors:
        raise SettingsError(errors)
    return accounts[name]


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read ({error.strerror})"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path}: is not UTF-8 text"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{path}: is not TOML: {error}"]) from None


def parse_settings(table: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Check a whole configuration and build its settings. Raises `SettingsError`.

    An environment variable overrides the same setting of the table.
    """
    errors = [
        f"{name}: unknown section{_closest(name, Settings.model_fields)}"
        for name in table
        if name not in Settings.model_fields
    ]
    reader = _Reader(environment, errors)
    server = reader.section(("server",), ServerSettings, table.get("server", {}))
    ledger = reader.section(("ledger",), LedgerSettings, table.get("ledger", {}))
    log_settings = reader.section(("log",), LogSettings, table.get("log", {}))
    metrics = reader.section(("metrics",), MetricsSettings, table.get("metrics", {}))
    tables = table.get("accounts", {})
    accounts = dict(reader.accounts(tables))
    jwt = reader.section(("jwt",), JwtSettings, table["jwt"]) if "jwt" in table else None
    callers = dict(reader.callers(table.get("callers", {}), tables, has_tokens="jwt" in table))
    reader.reject_unknown_variables()
    if errors or server is None or ledger is None or log_settings is None or metrics is None:
        raise SettingsError(errors)
    return Settings(
        server=server,
        ledger=ledger,
        log=log_settings,
        metrics=metrics,
        accounts=accounts,
        callers=callers,
        jwt=jwt,
    )


@dataclass(frozen=True)
class _Reader:
    """Reads sections and collects `errors`.

    `variables` maps each environment variable that can override a setting to its section.
    """

    environment: Mapping[str, str]
    errors: list[str]
    variables: dict[str, str] = field(default_factory=dict)

    def accounts(self, tables: object) -> Iterator[tuple[str, AccountSettings]]:
        if not isinstance(tables, dict) or not tables:
            self.errors.append(
                "accounts: none configured; add a table [accounts.NAME] with its provider"
            )
            return
        for name, table in tables.items():
            provider = table.get("provider") if isinstance(table, dict) else None
            if not self._is_name("accounts", name):
                continue
            try:
                connector = find_connector(provider if isinstance(provider, str) else "")
            except UnusableConnector as error:
                self.errors.append(f"accounts.{name}.provider: {error}")
                continue
            account = self.section(("accounts", name), connector.Account, table)
            if account is not None:
                yield name, account

    def callers(
        self, tables: object, accounts: Mapping[str, object], *, has_tokens: bool
    ) -> Iterator[tuple[str, CallerSettings]]:
        """Yield the callers. `accounts` are the tables of the accounts, valid or not."""
        if not isinstance(tables, dict):
            self.errors.append("callers: must be tables [callers.NAME]")
            return
        if has_tokens and not tables:
            self.errors.append("jwt: no caller is configured; add a table [callers.NAME]")
        keys = {}
        for name, table in tables.items():
            if not self._is_name("callers", name):
                continue
            caller = self.section(("callers", name), CallerSettings, table)
            if caller is None:
                continue
            for account in sorted(caller.accounts - {ALL_ACCOUNTS} - accounts.keys()):
                self.errors.append(
                    f"callers.{name}.accounts: there is no account {account}"
                    f"{_closest(account, accounts)}"
                )
            if not caller.key and not has_tokens:
                self.errors.append(f"callers.{name}.key: missing; add it to [callers.{name}]")
            keys[name] = caller.key
            yield name, caller
        for name, other, key_id in shared_ids(keys):
            self.errors.append(f"callers.{name}.key: {key_id} is a key of callers.{other} too")

    def _is_name(self, section: str, name: str) -> bool:
        if re.fullmatch(NAME, name):
            return True
        self.errors.append(
            f"{section}.{name}: must be named with up to 64 letters, digits, '.', '_' or '-'"
        )
        return False

    def section(
        self, place: tuple[str, ...], model: type[Section], table: object
    ) -> Section | None:
        """Return the table as its model. If it is invalid, add all errors and return None."""
        if not isinstance(table, dict):
            self.errors.append(f"{'.'.join(place)}: must be a table")
            return None
        try:
            return model.model_validate({**table, **self._overrides(place, model)})
        except ValidationError as error:
            for detail in error.errors(include_input=False, include_url=False):
                self.errors.append(
                    _message(place, model, detail["loc"], detail["type"], detail["msg"])
                )
            return None

    def _overrides(self, place: tuple[str, ...], model: type[BaseModel]) -> dict[str, str]:
        """Return the overrides from variables such as CAMPAIGN_GATEWAY_ACCOUNTS__NAME__API_KEY.

        Two underscores separate the names, because container platforms set variables such as
        CAMPAIGN_GATEWAY_PORT for a service with the gateway's name.
        """
        path = "__".join(re.sub(r"[.-]", "_", name).upper() for name in place)
        where, overrides, sections = ".".join(place), {}, set()
        for setting in model.model_fields.keys() - {"provider"}:
            variable = f"{ENVIRONMENT_PREFIX}{path}__{setting.upper()}"
            sections.add(self.variables.setdefault(variable, where))
            if variable in self.environment:
                overrides[setting] = self.environment[variable]
        for other in sections - {where}:
            self.errors.append(
                f"{where}: has the same environment variables as {other}; rename one of them"
            )
        return overrides

    def reject_unknown_variables(self) -> None:
        for name in self.environment:
            if name.startswith(ENVIRONMENT_PREFIX) and "__" in name and name not in self.variables:
                self.errors.append(f"{name}: overrides no setting{_closest(name, self.variables)}")


def _message(
    place: tuple[str, ...],
    model: type[BaseModel],
    loc: tuple[int | str, ...],
    error_type: str,
    text: str,
) -> str:
    where = ".".join([*place, *(str(part) for part in loc)])
    if error_type == "extra_forbidden":
        return f"{where}: unknown setting{_closest(str(loc[-1]), model.model_fields)}"
    if error_type == "missing":
        return f"{where}: missing; add it to [{'.'.join(place)}]"
    return f"{where}: {text.removeprefix('Value error, ')}"


def _closest(name: str, known: Mapping[str, object]) -> str:
    import difflib  # noqa: PLC0415 - only for mistakes

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; valid names: {', '.join(known)}"
