"""Ids of duplications."""

import secrets
import time
import uuid


def new_id() -> str:
    """Return a UUID of version 7 (RFC 9562, method 3). Python has `uuid.uuid7` from 3.14 on.

    Do not order records by their ids, because gateways with different clocks make them.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    value = (milliseconds << 80) | (0x7 << 76) | (rest * 4096 // 1_000_000 << 64)
    return str(uuid.UUID(int=value | (0b10 << 62) | secrets.randbits(62)))
