"""API keys: creates them, and finds the caller that a key belongs to.

A key is `cgw_ID_SECRET`. The gateway stores only its SHA-256 hash, which needs no salt because the
secret has 256 random bits.
"""

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from math import inf
from pathlib import Path

from campaign_gateway.web.callers.refusals import Unauthenticated

log = logging.getLogger(__name__)

# Scanners for leaked secrets recognize a key by its beginning.
PREFIX = "cgw_"
_KEY = re.compile(r"cgw_([0-9a-f]{12})_[0-9a-f]{64}")
_STORED = re.compile(r"([0-9a-f]{12}):([0-9a-f]{64})(?::(\d{4}-\d{2}-\d{2}))?")

# How often the gateway looks whether a file with hashes has changed, in seconds.
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class KeyHash:
    """The stored form of one key. It is not valid from `ends_at` on, in seconds since 1970."""

    id: str
    digest: bytes = field(repr=False)
    ends_at: float = inf


@dataclass(frozen=True, slots=True)
class KeySource:
    """Stored hashes of a caller's keys. Those of a file are read again when the file changes."""

    hashes: tuple[KeyHash, ...]
    file: Path | None = None


def create_key(ends_on: date | None = None) -> tuple[str, str]:
    """Return a new key and the hash to store. From the day `ends_on` on, the key is not valid."""
    key_id = secrets.token_hex(6)
    key = f"{PREFIX}{key_id}_{secrets.token_hex(32)}"
    stored = f"{key_id}:{hashlib.sha256(key.encode()).hexdigest()}"
    return key, stored if ends_on is None else f"{stored}:{ends_on.isoformat()}"


def parse_hash(stored: str) -> KeyHash:
    """Parse the stored hash of one key. Raises `ValueError`, which does not repeat it."""
    match = _STORED.fullmatch(stored)
    if match is None:
        what = "a key" if _KEY.fullmatch(stored) else "not the hash of a key"
        raise ValueError(f"is {what}; store the hash that `campaign-gateway key create` prints")
    key_id, digest, ends_on = match.groups()
    return KeyHash(key_id, bytes.fromhex(digest), _start_of(ends_on) if ends_on else inf)


def _start_of(day: str) -> float:
    try:
        return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError(f"ends on {day}, which is not a date") from None


def shared_ids(sources: Mapping[str, Sequence[KeySource]]) -> Iterator[tuple[str, str, str]]:
    """Yield each caller whose key is another caller's too, that other one, and the key's id."""
    owners: dict[str, str] = {}
    for caller, key_hash in _all_hashes(sources):
        owner = owners.setdefault(key_hash.id, caller)
        if owner != caller:
            yield caller, owner, key_hash.id


def _all_hashes(sources: Mapping[str, Sequence[KeySource]]) -> Iterator[tuple[str, KeyHash]]:
    for caller, sources_of_caller in sources.items():
        for source in sources_of_caller:
            for key_hash in source.hashes:
                yield caller, key_hash


class Keys:
    """The keys of all callers, by their ids. `sources` maps each caller's name to its sources.

    `clock` returns seconds since 1970.
    """

    def __init__(
        self, sources: Mapping[str, Sequence[KeySource]], clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._sources = {caller: list(each) for caller, each in sources.items()}
        files = {source.file for each in sources.values() for source in each if source.file}
        self._seen = {file: _signature(file) for file in files}
        self._look_at = 0.0
        self._by_id: Mapping[str, tuple[str, KeyHash]] = {}
        self._by_id = self._table()

    def owner_of(self, key: str) -> str:
        """Return the name of the key's caller. Raises `Unauthenticated`."""
        if self._seen and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            self._read_changed(self._seen)
        match = _KEY.fullmatch(key)
        if match is None:
            raise Unauthenticated("a malformed key")
        caller, stored = self._by_id.get(match[1], (None, None))
        if caller is None or stored is None:
            raise Unauthenticated("an unknown key")
        if not hmac.compare_digest(hashlib.sha256(key.encode()).digest(), stored.digest):
            raise Unauthenticated(f"a key with the id {stored.id} of {caller} and a wrong secret")
        if self._clock() >= stored.ends_at:
            raise Unauthenticated(f"the key {stored.id} of {caller}, which has expired")
        return caller

    def _table(self) -> Mapping[str, tuple[str, KeyHash]]:
        by_id: dict[str, tuple[str, KeyHash]] = {}
        # A key in use stays with its caller, so a changed file of another one cannot take it over.
        for caller, key_hash in sorted(_all_hashes(self._sources), key=self._is_of_another):
            owner, _ = by_id.setdefault(key_hash.id, (caller, key_hash))
            if owner != caller:
                log.error(
                    "the key %s of %s is also in the keys of %s, where it is ignored",
                    key_hash.id,
                    owner,
                    caller,
                )
        return by_id

    def _is_of_another(self, entry: tuple[str, KeyHash]) -> bool:
        caller, key_hash = entry
        owner, _ = self._by_id.get(key_hash.id, entry)
        return owner != caller

    def _read_changed(self, files: Iterable[Path]) -> None:
        changed = [file for file in files if _signature(file) != self._seen[file]]
        for file in changed:
            self._seen[file] = _signature(file)
            try:
                text = file.read_text("utf-8")
            except (OSError, UnicodeError) as error:
                log.error("%s cannot be read (%s); its keys stay valid", file, type(error).__name__)
                continue
            hashes = tuple(_readable(text, file))
            log.info("%s has changed: it has %s keys", file, len(hashes))
            self._sources = {
                caller: [KeySource(hashes, file) if s.file == file else s for s in each]
                for caller, each in self._sources.items()
            }
        if changed:
            self._by_id = self._table()


def _readable(text: str, file: Path) -> Iterator[KeyHash]:
    # A typing error in one line must not keep another key valid whose line was removed.
    for number, stored in enumerate(text.split(), start=1):
        try:
            yield parse_hash(stored)
        except ValueError as error:
            log.error("%s: entry %s %s", file, number, error)


def _signature(file: Path) -> tuple[int, int, int] | None:
    """Return what differs after the file was replaced or written, or None if it is missing."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
