"""Ids of duplications."""

import secrets
import time
import uuid


def new_id() -> str:
    """A UUID of version 7 (RFC 9562, method 3).

    Nothing may be ordered by ids: gateways with different clocks make them.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    value = (milliseconds << 80) | (0x7 << 76) | (rest * 4096 // 1_000_000 << 64)
    return str(uuid.UUID(int=value | (0b10 << 62) | secrets.randbits(62)))
