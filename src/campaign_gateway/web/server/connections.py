"""All open connections: which one is closed if there are too many, and what clients do not read."""

import ipaddress
import logging
from collections.abc import Iterable
from functools import lru_cache
from time import monotonic
from typing import Protocol

from campaign_gateway.web.server.limits import ConnectionLimits

log = logging.getLogger(__name__)

# For how many seconds /readyz reports a shortage after the last one, and how often the log does.
SHORTAGE_SHOWN = 5.0
SHORTAGE_LOGGED = 60.0


class Droppable(Protocol):
    """A connection. `rank` says how soon it is dropped, lowest first; None: it is being served."""

    @property
    def rank(self) -> int | None: ...

    def drop(self) -> None: ...


class Connections:
    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.is_stopping = False
        # Oldest first, each with its address.
        self._open: dict[Droppable, str] = {}
        self._by_address: dict[str, dict[Droppable, None]] = {}
        self._receiving: dict[Droppable, None] = {}
        self._unread: dict[Droppable, int] = {}
        self._unread_bytes = 0
        self._short_until = self._logged_until = float("-inf")

    def has_room(self) -> bool:
        """Return whether one more fits in, after dropping one that is idle if necessary."""
        return len(self._open) < self.limits.connections or self.drop_one()

    def drop_one(self) -> bool:
        return self._drop_one_of(self._open)

    def add(self, connection: Droppable, address: str) -> bool:
        """Add a connection, unless its address has too many that are being served."""
        address = _block_of(address)
        mates = self._by_address.setdefault(address, {})
        is_full = len(mates) >= self.limits.connections_by_address
        if is_full and not self._drop_one_of(mates):
            return False
        # The dropped one may have been the last of its address.
        self._by_address.setdefault(address, {})[connection] = None
        self._open[connection] = address
        return True

    def remove(self, connection: Droppable) -> None:
        address = self._open.pop(connection, None)
        if address is None:
            return
        mates = self._by_address[address]
        del mates[connection]
        if not mates:
            del self._by_address[address]
        self.set_receiving(connection, is_receiving=False)
        self.set_unread(connection, 0)

    def set_receiving(self, connection: Droppable, *, is_receiving: bool) -> None:
        """Note that a connection has sent a part of a body. Drop the oldest of too many."""
        if not is_receiving:
            self._receiving.pop(connection, None)
            return
        self._receiving[connection] = None
        if len(self._receiving) > self.limits.receiving:
            self._drop(next(iter(self._receiving)))

    def set_unread(self, connection: Droppable, count: int) -> None:
        """Note how many bytes of a response wait. Drop those that have waited longest."""
        self._unread_bytes += count - self._unread.pop(connection, 0)
        if count:
            self._unread[connection] = count
        while self._unread_bytes > self.limits.unread_bytes:
            self._drop(next(iter(self._unread)))

    def report_shortage(self, reason: str) -> None:
        """Note that no connection can be accepted now, and say so once a minute."""
        now = monotonic()
        self._short_until = now + SHORTAGE_SHOWN
        if now >= self._logged_until:
            self._logged_until = now + SHORTAGE_LOGGED
            log.error(
                "no connection can be accepted for a moment: %s; %s are open. This line comes at "
                "most once a minute",
                reason,
                len(self._open),
            )

    @property
    def unready(self) -> str | None:
        """Why load balancers should choose another gateway."""
        if self.is_stopping:
            return "stopping"
        if monotonic() < self._short_until:
            return "no further connection can be accepted now"
        return None

    def _drop_one_of(self, candidates: Iterable[Droppable]) -> bool:
        chosen, lowest = None, float("inf")
        for connection in candidates:
            rank = connection.rank
            if rank is not None and rank < lowest:
                chosen, lowest = connection, rank
            if lowest == 0:
                break
        if chosen is None:
            return False
        self._drop(chosen)
        return True

    def _drop(self, connection: Droppable) -> None:
        # Now, because the transport reports the end only in the next turn of the event loop.
        self.remove(connection)
        connection.drop()


@lru_cache(4096)
def _block_of(address: str) -> str:
    """Return what one client has: an IPv4 address, or the 64 bits that a network is given."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
