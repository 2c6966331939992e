"""The configuration: one TOML file, overridden by the environment."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from campaign_gateway.connectors.account_settings import NAME, AccountSettings, resolve_secret
from campaign_gateway.connectors.registry import CONNECTORS

ENVIRONMENT_PREFIX = "CAMPAIGN_GATEWAY_"

Section = TypeVar("Section", bound=BaseModel)


class ServerSettings(BaseModel):
    """Where the gateway listens. After `deadline_seconds` a caller is told IN_PROGRESS.

    Without `introspection` nobody can ask /graphql for its schema, a router's composer included.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=0, le=65535)
    deadline_seconds: float = Field(default=25, gt=0, le=600)
    introspection: bool = True


def _ledger_url(given: object) -> str:
    value = resolve_secret(given)
    if re.fullmatch(r"sqlite:///[^\0]+", value):
        return value
    if not re.match(r"postgres(ql)?://", value):
        raise ValueError('must look like "sqlite:///campaign-gateway.db" or "postgresql://host/db"')
    if find_spec("psycopg") is None:
        raise ValueError("needs more for PostgreSQL; pip install 'campaign-gateway[postgres]'")
    # An extra, which not every installation has.
    from campaign_gateway.ledger.postgres import UNREADABLE, is_readable  # noqa: PLC0415

    if not is_readable(value):
        raise ValueError(UNREADABLE)
    return value


class LedgerSettings(BaseModel):
    """Where duplications are recorded; a URL of PostgreSQL may hold a password.

    A settled duplication is kept whole for `keep_days`. From then on its key is only remembered,
    so that it is not sent again, until `remember_days` after it was requested.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Annotated[SecretStr, BeforeValidator(_ledger_url)] = SecretStr(
        "sqlite:///campaign-gateway.db"
    )
    keep_days: float = Field(default=30, gt=0, le=36500)
    remember_days: float = Field(default=400, gt=0, le=36500)

    @model_validator(mode="after")
    def _remembers_what_it_keeps(self) -> Self:
        if self.remember_days < self.keep_days:
            raise ValueError("remember_days must not be less than keep_days")
        return self


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True)

    server: ServerSettings = ServerSettings()
    ledger: LedgerSettings = LedgerSettings()
    accounts: Mapping[str, AccountSettings]


class SettingsError(Exception):
    """The configuration cannot be used. `errors` has a line for each, none of them a secret."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def load_settings(path: Path) -> Settings:
    """Read a configuration file and the environment. Raises `SettingsError`."""
    return parse_settings(_load(path), os.environ)


def load_ledger_settings(path: Path) -> LedgerSettings:
    """Only where the ledger is: whoever looks at it need not have the accounts' secrets.

    Raises `SettingsError`.
    """
    errors: list[str] = []
    table = _load(path).get("ledger", {})
    ledger = _Reader(os.environ, errors).section(("ledger",), LedgerSettings, table)
    if ledger is None:
        raise SettingsError(errors)
    return ledger


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

    A variable of the environment wins over the table.
    """
    errors = [
        f"{name}: unknown section{_closest(name, Settings.model_fields)}"
        for name in table
        if name not in Settings.model_fields
    ]
    read = _Reader(environment, errors)
    server = read.section(("server",), ServerSettings, table.get("server", {}))
    ledger = read.section(("ledger",), LedgerSettings, table.get("ledger", {}))
    accounts = dict(read.accounts(table.get("accounts", {})))
    read.refuse_unknown_variables()
    if errors or server is None or ledger is None:
        raise SettingsError(errors)
    return Settings(server=server, ledger=ledger, accounts=accounts)


@dataclass(frozen=True)
class _Reader:
    """`variables` has every name of the environment that overrides something, and what."""

    environment: Mapping[str, str]
    errors: list[str]
    variables: dict[str, str] = field(default_factory=dict)

    def accounts(self, tables: object) -> Iterator[tuple[str, AccountSettings]]:
        if not isinstance(tables, dict) or not tables:
            self.errors.append(
                "accounts: there is none; add a table [accounts.NAME] with its provider"
            )
            return
        for name, table in tables.items():
            provider = table.get("provider") if isinstance(table, dict) else None
            if not re.fullmatch(NAME, name):
                self.errors.append(
                    f"accounts.{name}: must be named with up to 64 letters, digits, '.', '_' or '-'"
                )
            elif not isinstance(provider, str) or provider not in CONNECTORS:
                known = ", ".join(sorted(CONNECTORS))
                self.errors.append(f"accounts.{name}.provider: must be one of {known}")
            else:
                account = self.section(("accounts", name), CONNECTORS[provider].Account, table)
                if account is not None:
                    yield name, account

    def section(
        self, place: tuple[str, ...], model: type[Section], table: object
    ) -> Section | None:
        """One table as its model, or None and a mistake for everything wrong with it."""
        if not isinstance(table, dict):
            self.errors.append(f"{'.'.join(place)}: must be a table")
            return None
        try:
            return model.model_validate({**table, **self._overrides(place, model)})
        except ValidationError as error:
            for each in error.errors(include_input=False, include_url=False):
                self.errors.append(_mistake(place, model, each["loc"], each["type"], each["msg"]))
            return None

    def _overrides(self, place: tuple[str, ...], model: type[BaseModel]) -> dict[str, str]:
        """What CAMPAIGN_GATEWAY_ACCOUNTS__NAME__API_KEY and its like say.

        Two underscores part the names: a container platform that runs a service of the gateway's
        name sets variables such as CAMPAIGN_GATEWAY_PORT by itself.
        """
        path = "__".join(re.sub(r"[.-]", "_", name).upper() for name in place)
        where, overrides, others = ".".join(place), {}, set()
        for setting in model.model_fields.keys() - {"provider"}:
            variable = f"{ENVIRONMENT_PREFIX}{path}__{setting.upper()}"
            others.add(self.variables.setdefault(variable, where))
            if variable in self.environment:
                overrides[setting] = self.environment[variable]
        for other in others - {where}:
            self.errors.append(
                f"{where}: the environment could not tell it from {other}; rename one of them"
            )
        return overrides

    def refuse_unknown_variables(self) -> None:
        for name in self.environment:
            if name.startswith(ENVIRONMENT_PREFIX) and "__" in name and name not in self.variables:
                self.errors.append(f"{name}: overrides no setting{_closest(name, self.variables)}")


def _mistake(
    place: tuple[str, ...], model: type[BaseModel], loc: tuple[int | str, ...], kind: str, text: str
) -> str:
    where = ".".join([*place, *(str(part) for part in loc)])
    if kind == "extra_forbidden":
        return f"{where}: unknown setting{_closest(str(loc[-1]), model.model_fields)}"
    if kind == "missing":
        return f"{where}: missing; add it to [{'.'.join(place)}]"
    return f"{where}: {text.removeprefix('Value error, ')}"


def _closest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
