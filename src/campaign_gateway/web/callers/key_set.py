"""The keys that verify tokens: a JSON Web Key Set, loaded rarely and kept while loading fails."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from campaign_gateway.web.callers.refusals import Unauthenticated

log = logging.getLogger(__name__)

# Bytes of a key set, and how long loading it may take, in seconds.
SIZE_LIMIT = 64 * 1024
LOAD_SECONDS = 5.0

# How old a key set may become until it is loaded again, in seconds.
REFRESH_SECONDS = 600.0

# From one start of loading to the next, in seconds. Callers can send any number of unknown key ids,
# and with a little more than 30 seconds no minute has three loads.
PAUSE_SECONDS = 31.0

# How long a request waits for keys that are being loaded, in seconds.
WAIT_SECONDS = 2.0

RSA_BITS = 2048

Load = Callable[[], Awaitable[bytes]]


class KeySetUnavailable(Exception):
    """The key set cannot be loaded, or has no usable key."""


class KeySet:
    """Finds keys by their ids. `load` raises `KeySetUnavailable`.

    `version` grows with each change of the keys.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._keys: Mapping[str, Key] = {}
        self._loading: asyncio.Task[None] | None = None
        self._load_from = self._refresh_at = -1.0
        self.version = 0

    async def find(self, key_id: str | None) -> Key:
        """Return the key with this id, or the only one if there is no id.

        Raises `Unauthenticated`. Waits at most `WAIT_SECONDS`.
        """
        key = self._find_loaded(key_id)
        if key is not None:
            if monotonic() >= self._refresh_at:
                self.start_loading()
            return key
        if key_id is None and self._keys:
            raise Unauthenticated("a token without a key id, while the key set has several keys")
        self.start_loading()
        if self._loading is not None:
            await asyncio.wait([self._loading], timeout=WAIT_SECONDS)
        key = self._find_loaded(key_id)
        if key is None:
            what = "an unknown key id" if self._keys else "no key set loaded to verify it"
            raise Unauthenticated(f"a token with {what}")
        return key

    def _find_loaded(self, key_id: str | None) -> Key | None:
        if key_id is not None:
            return self._keys.get(key_id)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def start_loading(self) -> None:
        """Begin to load the key set, unless that has begun within the last `PAUSE_SECONDS`."""
        if self._loading is None and monotonic() >= self._load_from:
            self._load_from = monotonic() + PAUSE_SECONDS
            self._loading = asyncio.create_task(self._replace())

    async def _replace(self) -> None:
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                keys = parse_key_set(await self._load())
            if {name: key.as_dict() for name, key in keys.items()} != {
                name: key.as_dict() for name, key in self._keys.items()
            }:
                self._keys = keys
                self.version += 1
                log.info("the key set for tokens has the keys %s", ", ".join(map(repr, keys)))
            self._refresh_at = monotonic() + REFRESH_SECONDS
        except (KeySetUnavailable, TimeoutError) as failure:
            kept = "the loaded keys stay valid" if self._keys else "tokens are refused"
            reason = str(failure) or "no response in time"
            log.error("the key set for tokens cannot be loaded: %s; %s", reason, kept)
        except Exception:
            # Without this, the failure of a task that no request waits for would not be seen.
            log.exception("a bug in the gateway")
        finally:
            self._loading = None

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])


async def load_file(file: Path) -> bytes:
    """Return a key set's file. Raises `KeySetUnavailable`."""
    try:
        with file.open("rb") as opened:
            return opened.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise KeySetUnavailable(f"file {file} cannot be read ({type(error).__name__})") from None


def parse_key_set(text: bytes) -> Mapping[str, Key]:
    """Return the usable keys by their ids. Raises `KeySetUnavailable` if there are none."""
    if len(text) > SIZE_LIMIT:
        raise KeySetUnavailable(f"it is larger than {SIZE_LIMIT} bytes")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise KeySetUnavailable("it is not a JSON Web Key Set")
    keys: dict[str, Key] = {}
    for entry in entries:
        key = _parse_key(entry)
        if key is not None and key.kid is not None:
            keys.setdefault(key.kid, key)
    if not keys:
        raise KeySetUnavailable(
            "it has no usable key: RSA of 2048 bits, EC or Ed25519, for use sig"
        )
    return keys


def _parse_key(entry: Any) -> Key | None:
    """Return a public key for signatures, or None for every other one."""
    try:
        key = JWKRegistry.import_key(entry)
        key.check_use("sig")
        key.check_key_op("verify")
        key.ensure_kid()
    except (JoseError, SecurityWarning, ValueError, TypeError, KeyError, AttributeError):
        return None
    # Never a symmetric key: who could read it could also make tokens.
    is_usable = isinstance(key, ECKey | OKPKey) or (
        isinstance(key, RSAKey) and key.public_key.key_size >= RSA_BITS
    )
    return key if is_usable else None
