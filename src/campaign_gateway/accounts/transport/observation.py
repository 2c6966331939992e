"""What a check of an account wants to know about an exchange, besides the response."""

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic


@dataclass
class Observation:
    """`certificate_ends_at` is the end of the server's TLS certificate, None without TLS.

    `seconds` is the time from the first byte of the last request to the head of its response, which
    arrived at `received_at`.
    """

    certificate_ends_at: datetime | None = None
    seconds: float | None = None
    received_at: datetime | None = None
    _sent_at: float = field(default=0.0, repr=False)

    def mark_sent(self, tls: ssl.SSLObject | None) -> None:
        """Take note that a request is sent, on a connection with this TLS."""
        if tls is not None and (certificate := tls.getpeercert()):
            ends_at = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
            self.certificate_ends_at = datetime.fromtimestamp(ends_at, UTC)
        self._sent_at = monotonic()

    def mark_received(self) -> None:
        """Take note that the head of the response has arrived."""
        self.seconds = monotonic() - self._sent_at
        self.received_at = datetime.now(UTC)
