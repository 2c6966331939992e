"""Takes secrets out of responses and messages."""

import base64
import re
from collections.abc import Callable, Iterable

from campaign_gateway.transport.worker import in_worker

REDACTED = b"[redacted]"

# Bytes that the event loop itself redacts, which takes a few milliseconds.
REDACTED_AT_ONCE = 1024 * 1024

# Bytes that one search for secrets goes through, which takes about a millisecond.
WINDOW = 64 * 1024

# Bytes that one character of a secret takes up at most, as `&amp;amp;amp;amp;#x00000000;` does.
LONGEST_SPELLING = 40

# Characters below which a secret is redacted only as a word of its own.
SHORT = 8


def redactor(secrets: Iterable[str]) -> Callable[[bytes], bytes]:
    """Takes the secrets out of what is said, as JSON, XML, a URL or base64 may spell them."""
    # One secret may stand inside another, of which a part would be left otherwise.
    longest_first = sorted(filter(None, secrets), key=len, reverse=True)
    patterns = [_pattern_of(secret) for secret in longest_first]
    encoded = [each.encode() for secret in longest_first for each in _in_base64(secret)]

    def hide(said: bytes) -> bytes:
        for pattern, longest in patterns:
            said = _without(pattern, longest, said)
        for spelling in encoded:
            said = said.replace(spelling, REDACTED)
        return said

    return hide


async def redact(hide: Callable[[bytes], bytes], body: bytes) -> bytes:
    # The answer to a copy never waits for the worker, which may have many lists to parse.
    return hide(body) if len(body) <= REDACTED_AT_ONCE else await in_worker(hide, body)


def _without(pattern: re.Pattern[bytes], longest: int, said: bytes) -> bytes:
    """What is said without the matches, of which none is longer than `longest` bytes.

    It searches one window after the other, because a search holds Python's lock to its end.
    """
    kept: list[bytes] = []
    start = position = 0
    while position < len(said):
        border = position + WINDOW
        # A match that begins in the window may end behind it, and what follows a match is seen too.
        found = pattern.search(said, position, border + longest)
        if found is None or found.start() >= border:
            position = border
        else:
            kept += [said[start : found.start()], REDACTED]
            start = position = found.end()
    return b"".join([*kept, said[start:]]) if kept else said


def _pattern_of(secret: str) -> tuple[re.Pattern[bytes], int]:
    """Matches the secret in any spelling but base64. The number is the longest match's."""
    found = "".join(map(_escaped_forms, secret))
    if len(secret) < SHORT:
        # A secret so short may well stand inside a harmless word.
        found = rf"(?<![\w-]){found}(?![\w-])"
    return re.compile(found.encode()), LONGEST_SPELLING * len(secret)


def _in_base64(secret: str) -> list[str]:
    """The secret in base64 behind any other text, as in `user:secret`: there are three ways."""
    if len(secret) < SHORT:
        return []
    found = []
    for ahead in range(3):
        encoded = base64.b64encode(b"\0" * ahead + secret.encode()).decode().rstrip("=")
        # The characters at both ends also carry bits of what stands there.
        found.append(encoded[(0, 2, 3)[ahead] : -1])
    return found


def _escaped_forms(character: str) -> str:
    """One character, escaped as often as a message goes through encoders on its way."""
    # Every alternative begins with a plain character: then `re` skips quickly to the next of them.
    # All repeats are bounded, or some bodies would take quadratic time.
    code, plain = ord(character), re.escape(character)
    escaped = rf"u(?i:{code:04x})" if character.isalnum() else rf"(?:u(?i:{code:04x})|{plain})"
    # Possessive, because no other number of backslashes can match where all of them do not.
    backslashes = r"\\{0,15}" if character == "\\" else r"\\{0,15}+"
    names = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
    named = f"|{names[character]};" if character in names else ""
    return (
        rf"(?:{plain}|\\{backslashes}{escaped}|%(?:25){{0,4}}(?i:{code:02x})"
        rf"|&(?:amp;){{0,4}}(?:#0{{0,7}}{code};|#x0{{0,7}}(?i:{code:x});{named}))"
    )
