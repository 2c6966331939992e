"""Redacts secrets in responses and messages."""

import base64
import re
from collections.abc import Callable, Iterable, Iterator

from campaign_gateway.accounts.transport.worker import run_in_worker

REDACTED = b"[redacted]"

# The event loop redacts up to this many bytes itself, which takes a few milliseconds.
LOOP_LIMIT = 1024 * 1024

# One search for secrets scans this many bytes, which takes about a millisecond.
WINDOW = 64 * 1024

# The most bytes for one character of a secret, as in `&amp;amp;amp;amp;#x00000000;`.
LONGEST_FORM = 40

# Each escape begins with one of them.
ESCAPE_MARKS = (b"\\", b"%", b"&")

# A secret with fewer characters is redacted only as a separate word.
SHORT = 8

Redactor = Callable[[bytes], bytes]


def create_redactor(secrets: Iterable[str]) -> Redactor:
    """Return a function that redacts the secrets in any case and in the usual encodings.

    These are JSON, XML, URLs, base64 and hexadecimal digits.
    """
    # A secret may contain another one. If the shorter one came first, the rest would remain.
    longest_first = sorted(filter(None, secrets), key=len, reverse=True)
    forms = [(_plain_form(secret), *_pattern_of(secret)) for secret in longest_first]
    coded = [each for secret in longest_first for each in _coded_patterns(secret)]
    traces = [trace for trace, _, _ in (*forms, *coded)]

    def redact(text: bytes) -> bytes:
        # A plain search is much faster than one by a pattern, and `in` of `str` the fastest.
        is_in_text = text.lower().decode("latin-1").__contains__
        # Without a mark, nothing in such a text is escaped.
        is_plain = not any(mark in text for mark in ESCAPE_MARKS)
        if is_plain and not any(map(is_in_text, traces)):
            return text
        for trace, pattern, longest in forms:
            if not is_plain or is_in_text(trace):
                text = _replace_matches(pattern, longest, text)
        for trace, pattern, longest in coded:
            if is_in_text(trace):
                text = _replace_matches(pattern, longest, text)
        return text

    return redact


async def redact_body(redact: Redactor, body: bytes) -> bytes:
    """Redact a body, and use the worker if it is long."""
    # The response to a copy never waits for the worker, which may have many lists to parse.
    return redact(body) if len(body) <= LOOP_LIMIT else await run_in_worker(redact, body)


def _replace_matches(pattern: re.Pattern[bytes], longest: int, text: bytes) -> bytes:
    """Replace all matches, none of which is longer than `longest` bytes.

    It searches one window after another, because a search holds Python's global lock until it ends.
    """
    parts: list[bytes] = []
    start = position = 0
    while position < len(text):
        border = position + WINDOW
        # A match may begin in the window and end after it. The search must also see the byte that
        # follows a match.
        match = pattern.search(text, position, border + longest)
        if match is None or match.start() >= border:
            position = border
        else:
            parts += [text[start : match.start()], REDACTED]
            start = position = match.end()
    return b"".join([*parts, text[start:]]) if parts else text


def _plain_form(secret: str) -> str:
    """Return what the secret is in a text in lower case, or "" if that must be left to the pattern.

    A text is lowered as bytes of ASCII, and read as Latin-1.
    """
    return secret.lower() if secret.isascii() else ""


def _pattern_of(secret: str) -> tuple[re.Pattern[bytes], int]:
    """Return a pattern for the forms of one escape a character, and its longest match's length."""
    if len(secret) >= SHORT:
        pattern = "".join(_escaped_forms(char, char.swapcase()) for char in secret)
    else:
        pattern = "".join(map(_escaped_forms, secret))
        # A short secret may be a part of a harmless word.
        pattern = rf"(?<![\w-]){pattern}(?![\w-])"
    return re.compile(pattern.encode()), LONGEST_FORM * len(secret)


def _coded_patterns(secret: str) -> Iterator[tuple[str, re.Pattern[bytes], int]]:
    """Yield patterns for the forms in which several characters are coded together.

    With each comes a text in lower case that each match has, and the length of its longest match.
    """
    for form in _base64_forms(secret):
        # PHP's JSON has "\/" for a slash. In URLs base64 has other characters for both.
        alternatives = {"+": "-", "/": "_"}
        pattern = "".join(
            _escaped_forms(char, alternatives[char]) if char in alternatives else char
            for char in form
        )
        longest_part = max(re.split("[+/]", form), key=len)
        yield longest_part.lower(), re.compile(pattern.encode()), LONGEST_FORM * len(form)
    if len(secret) >= SHORT:
        digits = secret.encode().hex()
        yield digits, re.compile(digits.encode(), re.IGNORECASE), len(digits)


def _base64_forms(secret: str) -> list[str]:
    """Return the three base64 forms of the secret after any other text, as in `user:secret`."""
    if len(secret) < SHORT:
        return []
    forms = []
    for bytes_before in range(3):
        encoded = base64.b64encode(b"\0" * bytes_before + secret.encode()).decode().rstrip("=")
        # The characters at both ends also encode bits of the neighbouring text.
        forms.append(encoded[(0, 2, 3)[bytes_before] : -1])
    return forms


def _escaped_forms(character: str, other: str = "") -> str:
    """Return a pattern for one character, escaped once by each encoder that a message passes.

    `other` can stand in its place, without escapes.
    """
    # Every alternative begins with a plain character, so that `re` skips quickly to the next one.
    # All repeats are bounded, because some bodies would take quadratic time otherwise.
    code, plain = ord(character), re.escape(character)
    escaped = rf"u(?i:{code:04x})" if character.isalnum() else rf"(?:u(?i:{code:04x})|{plain})"
    # Possessive: if all backslashes do not match, no smaller number of them can.
    backslashes = r"\\{0,15}" if character == "\\" else r"\\{0,15}+"
    names = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
    named = f"|{names[character]};" if character in names else ""
    instead = f"|{re.escape(other)}" if other not in {"", character} else ""
    return (
        rf"(?:{plain}{instead}|\\{backslashes}{escaped}|%(?:25){{0,4}}(?i:{code:02x})"
        rf"|&(?:amp;){{0,4}}(?:#0{{0,7}}{code};|#x0{{0,7}}(?i:{code:x});{named}))"
    )
