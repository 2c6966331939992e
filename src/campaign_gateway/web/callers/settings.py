"""The settings of callers and of the tokens that they may send."""

import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from campaign_gateway.connectors.account_settings import resolve_secret
from campaign_gateway.connectors.addresses import is_forbidden, is_loopback
from campaign_gateway.web.callers.caller import Quota, Right
from campaign_gateway.web.callers.keys import KeySource, parse_hash


def _key_sources(setting: object) -> tuple[KeySource, ...]:
    sources = setting if isinstance(setting, list) else [setting]
    return tuple(_key_source(source) for source in sources)


def _key_source(setting: object) -> KeySource:
    hashes = tuple(parse_hash(stored) for stored in resolve_secret(setting).split())
    if not hashes:
        raise ValueError("is empty; store the hash that `campaign-gateway key create` prints")
    file = Path(setting["file"]) if isinstance(setting, dict) and "file" in setting else None
    return KeySource(hashes, file)


def split_list(setting: object) -> object:
    """Return the items of a text with commas, because an environment variable has no lists."""
    return [part.strip() for part in setting.split(",")] if isinstance(setting, str) else setting


class CallerSettings(BaseModel):
    """One caller: its keys, the accounts that it may use, and what it may do there.

    `key` is where the hashes of its keys are stored: one source or a list of them. A caller
    without a key sends tokens, by the rules of `JwtSettings`. A minute's requests may come at the
    same time. The other limits are for its duplications in the ledger: it can start no new ones
    while they are reached.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    key: Annotated[
        tuple[KeySource, ...], BeforeValidator(_key_sources), Field(repr=False, exclude=True)
    ] = ()
    accounts: Annotated[frozenset[str], BeforeValidator(split_list)]
    may: Annotated[frozenset[Right], BeforeValidator(split_list)]
    requests_per_minute: int = Field(default=60_000, ge=1)
    unknown_limit: int = Field(default=1000, ge=1)
    records_limit: int = Field(default=1_000_000, ge=1)
    megabytes_limit: int = Field(default=1000, ge=1)

    @property
    def quota(self) -> Quota:
        return Quota(self.unknown_limit, self.records_limit, self.megabytes_limit * 1_000_000)


def _jwks_url(value: str) -> str:
    parts = urlsplit(value)
    host = parts.hostname or ""
    if not re.fullmatch(r"https?://[\x21-\x7e]+", value) or not host or parts.fragment:
        raise ValueError('is not a plain web address; write it as "https://host/path"')
    if parts.username or parts.password:
        raise ValueError("has a user or a password; remove them, because a key set is public")
    if is_forbidden(host):
        raise ValueError("is a link-local or metadata address, which no issuer has")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError('an attacker on the network could replace the keys; use "https://"')
    return value


def _jwks_file(value: str) -> str:
    from campaign_gateway.web.callers import key_set  # noqa: PLC0415 - only tokens need joserfc

    try:
        key_set.parse_key_set(Path(value).read_bytes())
    except OSError as error:
        raise ValueError(f"file {value} cannot be read ({type(error).__name__})") from None
    except key_set.KeySetUnavailable as error:
        raise ValueError(f"file {value} cannot be used: {error}") from None
    return value


class JwksFile(BaseModel):
    """A JSON Web Key Set in a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    file: Annotated[str, AfterValidator(_jwks_file)]


class JwtSettings(BaseModel):
    """Which tokens callers may send. They must have `exp`, and this `iss` and `aud`.

    The keys that verify them come from `jwks_url` or from the file in `jwks`. `caller_claim` is the
    claim with the caller's name, and `person_claim` the one with the person's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    issuer: Annotated[str, Field(min_length=1)]
    audience: Annotated[str, Field(min_length=1)]
    jwks_url: Annotated[str, AfterValidator(_jwks_url)] | None = None
    jwks: JwksFile | None = None
    caller_claim: Annotated[str, Field(min_length=1)] = "azp"
    person_claim: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_one_key_set(self) -> Self:
        if (self.jwks_url is None) == (self.jwks is None):
            raise ValueError("set either jwks_url or jwks")
        return self

    @property
    def url(self) -> str:
        return self.jwks_url or ""
