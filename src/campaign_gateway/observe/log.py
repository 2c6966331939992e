"""The log: lines of JSON or of text on one stream, from which secrets are removed."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from campaign_gateway.observe.correlation import correlation_id

# A header or a field that has a secret, and the scheme of a credential.
NAME = (
    r"(?<![a-z]) (?: authorization | cookie | api[-_]?key | (?: access | api )[-_]?token "
    r"| client[-_]?secret )"
)
SCHEME = r"(?: bearer | basic )"
VALUE = r"""[^\s'"&,;)}\]]+"""

# Providers write the same words in sentences, as in "Bearer token expired". There, a short word of
# letters in one case is no secret. Everything with 16 characters or more counts as one.
WORD = (
    r"(?<! [+/] ) (?<! [ ]- ) (?-i: [A-Z]? [a-z-]{1,14} | [A-Z-]{1,15} ) [.:!?]{0,3} "
    r"""(?: [\s'"&,;)}\]>] | $ )"""
)
TOKEN = rf"(?! {WORD} ) \w {VALUE[:-1]}*"

# In a header or a field, as in `api_key=a`, `"api_key":"a"`, `<api_key>a` and `('api_key', 'a')`,
# everything counts as a secret, and so does a token after it, because it may follow a scheme. No
# configuration has the secret part of a caller's key, nor tokens that a provider has issued.
CREDENTIALS = re.compile(
    rf"""
      ( {NAME} (?= \W{{0,5}} [:=] | > | \W{{0,3}} ,[ ]? b?['"] ) \W{{1,12}}+ (?: b['"] )?
        (?: {SCHEME} [ ]+ )? )
        (?! redacted\] ) {VALUE} (?: [ ][ +/-]* {TOKEN} )?
    | ( (?: \b {SCHEME} | {NAME} ) (?: [ ] (?: header | key | token | value ) )? \W{{1,12}}+ )
        {TOKEN}
    | ( \b cgw_ [0-9a-f]{{12}} _ ) {VALUE}
    """,
    re.IGNORECASE | re.VERBOSE,
)

# Each match of CREDENTIALS has one of them. To look for them first takes a fifth of the time.
CREDENTIAL_WORDS = ("bearer", "basic", "authorization", "cookie", "api", "token", "secret", "cgw_")

# Characters of a field and of a traceback. Callers and providers choose some of the texts.
FIELD_LENGTH = 1000
TRACEBACK_LENGTH = 20_000

# A value that is shown as it is in a line of text.
PLAIN_VALUE = re.compile(r"[\w.:@/+-]+", re.ASCII)

# With ASCII only, no character of a text ends a line or controls a terminal.
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


def without_credentials(text: str) -> str:
    """Replace what looks like a credential of a caller or of an account."""
    lowered = text.lower()
    if any(word in lowered for word in CREDENTIAL_WORDS):
        return CREDENTIALS.sub(r"\1\2\3[redacted]", text)
    return text


def _unchanged(text: bytes) -> bytes:
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    `redact` removes the configured secrets, as soon as they are known. A record may have `fields`,
    which become members of the object; those that are None are left out.
    """

    redact: Callable[[bytes], bytes] = staticmethod(_unchanged)

    def format(self, record: logging.LogRecord) -> str:
        return _encode(self.members(record))

    def members(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what the line contains, without secrets."""
        members: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage()[:FIELD_LENGTH],
            "logger": record.name,
        }
        identifier = correlation_id()
        if identifier is not None:
            members["correlation_id"] = identifier
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        for name, value in fields.items():
            if isinstance(value, str) and len(value) > FIELD_LENGTH:
                members[name] = value[:FIELD_LENGTH]
            elif value is not None:
                members[name] = value
        if record.exc_info:
            # An exception of a library may have the headers of a request in its text.
            members["traceback"] = self.formatException(record.exc_info)[-TRACEBACK_LENGTH:]
        # Secrets are rare, so one look at everything comes first. They are removed before the
        # encoding, which would put other characters around them.
        text = "\n".join(map(str, members.values()))
        return members if self._redacted(text) == text else self._without_secrets(members)

    def _without_secrets(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self._without_secrets(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._without_secrets(item) for item in value]
        text = str(value)
        redacted = self._redacted(text)
        return value if redacted == text else redacted

    def _redacted(self, text: str) -> str:
        text = without_credentials(text)
        return self.redact(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


class TextFormatter(JsonFormatter):
    """One line of text for a person, with the fields at its end. A traceback is indented."""

    def format(self, record: logging.LogRecord) -> str:
        return "".join(_text(self.members(record)))


FORMATTERS = {"json": JsonFormatter, "text": TextFormatter}


def _text(members: dict[str, Any]) -> Iterator[str]:
    traceback = members.pop("traceback", "")
    for name in ("time", "level", "logger"):
        yield f"{members.pop(name)} "
    yield _visible(members.pop("message"))
    for name, value in members.items():
        text = str(value) if isinstance(value, str | int | float) else ""
        yield f" {name}={text if PLAIN_VALUE.fullmatch(text) else _encode(value)}"
    # No text in a traceback may look like another line of the log.
    for line in traceback.splitlines():
        yield f"\n    {_visible(line)}"


def _visible(text: str) -> str:
    """Escape what a terminal obeys or shows as another line."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def skip_unused_attributes() -> None:
    """Keep `logging` from looking up the thread and the process for each line, which shows neither.

    https://docs.python.org/3/howto/logging.html#optimization
    """
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False


def log_to_stderr(format_name: str = "json", level: str = "info") -> JsonFormatter:
    """Write the log to stderr in one of `FORMATTERS`, from this level on."""
    formatter = FORMATTERS[format_name]()
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    skip_unused_attributes()
    # httpx and httpcore log the URL of every call, and uvicorn its own start and stop.
    for name in ("httpx", "httpcore", "uvicorn", "asyncio", "urllib3"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    return formatter
