"""Ids of duplications, and the time that such an id shows."""

import re
import secrets
import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

VERSION_7 = r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def new_id() -> str:
    """Return a UUID of version 7 (RFC 9562, method 3). Python has `uuid.uuid7` from 3.14 on.

    Do not order records by their ids, because gateways with different clocks make them.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    value = (milliseconds << 80) | (0x7 << 76) | (rest * 4096 // 1_000_000 << 64)
    # `str(UUID(int=...))` takes twice as long.
    digits = f"{value | (0b10 << 62) | secrets.randbits(62):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def time_of(key: str) -> datetime | None:
    """Return when a key was made, if it is a UUID of version 7 in its usual spelling."""
    match = re.fullmatch(VERSION_7, key.lower())
    return EPOCH + timedelta(milliseconds=int(match[1] + match[2], 16)) if match else None
