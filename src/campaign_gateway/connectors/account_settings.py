"""What every account may be configured with."""

import ipaddress
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

CALLS_AT_ONCE = 32


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    host = parts.hostname or ""
    host_is_sound = re.fullmatch(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:.]+", host)
    path_is_sound = re.fullmatch(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?", parts.path)
    if parts.scheme not in {"http", "https"} or not host_is_sound or not path_is_sound:
        raise ValueError('is not a plain web address; write it as "https://host"')
    if parts.port == 0:
        raise ValueError("has port 0; give the port that the provider listens on")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("holds a user, a query or a fragment; give scheme, host and path only")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError('would send the secret in clear text; use "https://"')
    return value.rstrip("/")


def canonical_address(url: str) -> str:
    """A URL without its scheme, in one spelling for all that lead to the same place."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    with suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    host = f"[{host}]" if ":" in host else host
    is_default = parts.port in {None, {"http": 80, "https": 443}.get(parts.scheme)}
    return (host if is_default else f"{host}:{parts.port}") + parts.path.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def resolve_secret(value: object) -> str:
    """What a setting says, or the variable or the file that it names. Raises `ValueError`."""
    match value:
        case {"env": str(name), **rest} if not rest:
            if name not in os.environ:
                # Someone may have written the secret where its variable's name belongs.
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


def _secret(given: object) -> str:
    value = resolve_secret(given)
    # Anything else could smuggle a header or would be refused by the HTTP library mid-call.
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("is empty or holds spaces, line breaks or non-ASCII characters")
    return value


def _ca_file(path: str) -> str:
    try:
        holds_one = _holds_certificate(path, Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise ValueError(f"file {path} cannot be read ({type(error).__name__})") from None
    if not holds_one:
        raise ValueError(f"file {path} holds no certificate in PEM form")
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
    """Checks the version of a provider's API, which is put into paths and headers as it is."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f'is no version; write it like "{example}"')
        return value

    return AfterValidator(check)


# What accounts, and groups of them, may be called.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

BaseUrl = Annotated[str, AfterValidator(_base_url)]

CaFile = Annotated[str, AfterValidator(_ca_file)]

CallsPerMinute = Annotated[int, Field(ge=1)]

CallsPerSecond = Annotated[int, Field(ge=1)]

CallsAtOnce = Annotated[int, Field(ge=1, le=1000)]

Secret = Annotated[SecretStr, BeforeValidator(_secret)]


class AccountSettings(BaseModel):
    """One configured access to a provider; a connector adds what its provider needs.

    `timeout_seconds` bounds one call to the provider as a whole, connecting included. After it the
    gateway still reads what has arrived, for 0.2 seconds at most.
    `calls_per_minute` and `calls_per_second` make calls wait their turn, in both where both are
    set; None leaves the rate to the provider.
    `calls_at_once` is how many copies are asked for at a time; more wait.
    `shared_campaigns` is a name that accounts have in common which see the same campaigns under
    different addresses. Accounts of one address see the same campaigns without it.
    `ca_file` has the certificates of a private CA in PEM form. They replace the public CAs: no
    other CA can then vouch for this provider. A file that holds the public ones too trusts both.
    Without it the file in `SSL_CERT_FILE` or the folder in `SSL_CERT_DIR` of the environment is
    used, and without those the public CAs. Certificates are always verified.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    provider: str
    base_url: BaseUrl | None = None
    shared_campaigns: Annotated[str, Field(pattern=NAME)] | None = None
    timeout_seconds: float = Field(default=20, gt=0, le=600)
    calls_per_minute: CallsPerMinute | None = None
    calls_per_second: CallsPerSecond | None = None
    calls_at_once: CallsAtOnce = CALLS_AT_ONCE
    ca_file: CaFile | None = None

    @model_validator(mode="after")
    def _can_read_what_the_environment_trusts(self) -> Self:
        if self.ca_file is not None:
            return self
        if path := os.environ.get("SSL_CERT_FILE"):
            try:
                _ca_file(path)
            except ValueError as error:
                raise ValueError(f"SSL_CERT_FILE of the environment: {error}") from None
        # It may list several folders, and OpenSSL skips those that are missing.
        elif (path := os.environ.get("SSL_CERT_DIR")) and not any(
            Path(each).is_dir() for each in path.split(os.pathsep)
        ):
            raise ValueError(f"SSL_CERT_DIR of the environment: {path} is no folder")
        return self

    @property
    def root(self) -> str:
        """The URL that the provider's calls lie below."""
        return self.base_url or ""

    def secrets(self) -> list[str]:
        values = (getattr(self, name) for name in type(self).model_fields)
        return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
