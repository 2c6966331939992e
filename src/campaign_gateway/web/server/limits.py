"""How many connections there may be, and how long a client may take. Tests use smaller values."""

import resource
from dataclasses import dataclass, replace

# To how many file descriptors the process raises its own limit, if the system allows that many.
DESCRIPTORS = 65_536

# Which part of the descriptors, and how many at least, are kept for providers and files.
RESERVED_PART = 0.25
RESERVED = 64


@dataclass(frozen=True)
class ConnectionLimits:
    """All times are in seconds.

    `connections` and `connections_by_address` are how many may be open at the same time.
    `receiving` is how many of them may be in the middle of a body, and `unread_bytes` how many
    bytes of responses may wait for clients to read them.
    """

    connections: int = 10_000
    connections_by_address: int = 5_000
    receiving: int = 1_000
    unread_bytes: int = 64 * 1024 * 1024
    head_timeout: float = 10.0
    # A little longer than the endpoint waits for a body, so that its response goes out first.
    body_timeout: float = 32.0
    write_timeout: float = 30.0

    def fit(self, descriptors: int) -> "ConnectionLimits":
        """Return the limits for a process that can have so many descriptors."""
        free = descriptors - max(RESERVED, int(descriptors * RESERVED_PART))
        most = max(1, min(self.connections, free))
        by_address = self.connections_by_address * most // self.connections
        return replace(self, connections=most, connections_by_address=by_address)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of file descriptors, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft == resource.RLIM_INFINITY:
        return DESCRIPTORS
    if soft >= allowed:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        # macOS has another limit, and does not say which.
        return soft
    return allowed
