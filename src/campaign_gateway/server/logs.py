"""The log: one stream, from which secrets are removed."""

import logging
import re
from collections.abc import Callable

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"

# What follows the name of a header or a field that has a secret, or the name of its scheme. Tokens
# that a provider has issued are in no configuration.
CREDENTIALS = re.compile(
    r"""(
      \b (?: bearer | basic ) [ ]+
      | \b (?: authorization | cookie | api[-_]?key | access[-_]token | client[-_]secret )
        \W{1,6} (?: b['"] )? (?: (?: bearer | basic ) [ ]+ )?
    )
    [^\s'"&,;)}\]]+""",
    re.IGNORECASE | re.VERBOSE,
)


def _unchanged(text: bytes) -> bytes:
    return text


class RedactingFormatter(logging.Formatter):
    """Removes secrets from whole log entries, with their tracebacks.

    An exception of a library may have the headers of a request in its text. `redact` removes the
    configured secrets, as soon as they are known.
    """

    redact: Callable[[bytes], bytes] = staticmethod(_unchanged)

    def format(self, record: logging.LogRecord) -> str:
        text = CREDENTIALS.sub(r"\1[redacted]", super().format(record))
        return self.redact(text.encode("utf-8", "replace")).decode("utf-8", "replace")


def log_to_stderr() -> RedactingFormatter:
    formatter = RedactingFormatter(FORMAT)
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # httpx and httpcore log the URL of every call, and uvicorn its own start and stop.
    for name in ("httpx", "httpcore", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return formatter
