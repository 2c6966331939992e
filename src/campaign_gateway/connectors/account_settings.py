"""The settings that every account can have."""

import os
import re
import ssl
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from campaign_gateway.connectors.addresses import is_forbidden, is_loopback

CALLS_AT_ONCE = 32


def _base_url(value: str) -> str:
    # Python's parser drops line breaks and tabs, and the HTTP library would reject them in a call.
    if re.search(r"[^\x21-\x7e]", value):
        raise ValueError("has a space, a line break or another invalid character; remove it")
    parts = urlsplit(value)
    host = parts.hostname or ""
    is_host_valid = re.fullmatch(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:.]+", host)
    is_path_valid = re.fullmatch(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?", parts.path)
    if parts.scheme not in {"http", "https"} or not is_host_valid or not is_path_valid:
        raise ValueError('is not a plain web address; write it as "https://host"')
    if parts.port == 0:
        raise ValueError("has port 0; give the port that the provider listens on")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("has a user, a query or a fragment; give scheme, host and path only")
    if is_forbidden(host):
        raise ValueError("is a link-local or metadata address, which no provider has")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError('would send the secret in clear text; use "https://"')
    return value.rstrip("/")


def resolve_secret(value: object) -> str:
    """Return the setting, or the content of the variable or file it names. Raises `ValueError`."""
    match value:
        case {"env": str(name), **rest} if not rest:
            if name not in os.environ:
                # The operator may have written the secret in place of the variable's name.
                shown = f" {name}" if re.fullmatch(r"[A-Z][A-Z0-9_]*", name) else ""
                raise ValueError(f"the environment variable{shown} is not set; set it")
            return os.environ[name]
        case {"file": str(path), **rest} if not rest:
            try:
                return Path(path).read_text("utf-8").strip()
            except (OSError, UnicodeError) as error:
                raise ValueError(f"file {path} cannot be read ({type(error).__name__})") from None
        case str():
            return value
        case _:
            raise ValueError('write a string, { env = "NAME" } or { file = "PATH" }')


def _secret(setting: object) -> str:
    value = resolve_secret(setting)
    # Other characters could inject a header, or the HTTP library would reject them during a call.
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("is empty or has spaces, line breaks or non-ASCII characters")
    return value


def _ca_file(path: str) -> str:
    try:
        holds_one = _holds_certificate(path, Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise ValueError(f"file {path} cannot be read ({type(error).__name__})") from None
    if not holds_one:
        raise ValueError(f"file {path} has no certificate in PEM format")
    return path


# Every account asks, mostly for one file, and the file of all public CAs takes 40 ms to load.
@lru_cache
def _holds_certificate(path: str, _changed_at: int) -> bool:
    store = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLError):
        store.load_verify_locations(cafile=path)
    # A file that holds only a list of revoked certificates loads without an error.
    return store.cert_store_stats()["x509"] > 0


def version_like(example: str, pattern: str) -> AfterValidator:
    """Return a validator for the version of a provider's API, which paths and headers contain."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f'is not a version; write it like "{example}"')
        return value

    return AfterValidator(check)


# The names that accounts, and groups of accounts, can have.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

BaseUrl = Annotated[str, AfterValidator(_base_url)]

CaFile = Annotated[str, AfterValidator(_ca_file)]

CallsPerMinute = Annotated[int, Field(ge=1)]

CallsPerSecond = Annotated[int, Field(ge=1)]

CallsAtOnce = Annotated[int, Field(ge=1, le=1000)]

Secret = Annotated[SecretStr, BeforeValidator(_secret)]


class AccountSettings(BaseModel):
    """One configured account at a provider. A connector adds the settings that its provider needs.

    `timeout_seconds` is the timeout of one whole call to the provider, connecting included. After
    it the gateway still reads the bytes that have arrived, for 0.2 seconds at most.
    `calls_per_minute` and `calls_per_second` limit the rate of all calls: they wait for both limits
    if both are set. None means no limit by the gateway.
    `calls_at_once` is the maximum number of calls in parallel. Further ones wait.
    `shared_campaigns` is a common name for accounts that see the same campaigns at different
    addresses. Accounts with the same address need no such name.
    `ca_file` has the certificates of a private CA in PEM format. They replace the public CAs. To
    trust both, put the public ones into the file too. Without `ca_file` the gateway uses the file
    in the environment's `SSL_CERT_FILE` or the folder in `SSL_CERT_DIR`, and otherwise the public
    CAs. Certificates are always verified.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True
    )

    provider: str
    base_url: BaseUrl | None = None
    shared_campaigns: Annotated[str, Field(pattern=NAME)] | None = None
    timeout_seconds: float = Field(default=20, gt=0, le=600)
    calls_per_minute: CallsPerMinute | None = None
    calls_per_second: CallsPerSecond | None = None
    calls_at_once: CallsAtOnce = CALLS_AT_ONCE
    ca_file: CaFile | None = None

    @model_validator(mode="after")
    def _environment_names_readable_certificates(self) -> Self:
        if self.ca_file is not None:
            return self
        if path := os.environ.get("SSL_CERT_FILE"):
            try:
                _ca_file(path)
            except ValueError as error:
                raise ValueError(f"SSL_CERT_FILE of the environment: {error}") from None
        # The variable can list several folders, and OpenSSL skips missing ones.
        elif (path := os.environ.get("SSL_CERT_DIR")) and not any(
            Path(folder).is_dir() for folder in path.split(os.pathsep)
        ):
            raise ValueError(f"SSL_CERT_DIR of the environment: {path} is not a folder")
        return self

    @property
    def root(self) -> str:
        """The URL below which the provider's calls are."""
        return self.base_url or ""

    def secrets(self) -> list[str]:
        values = (getattr(self, name) for name in type(self).model_fields)
        return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
