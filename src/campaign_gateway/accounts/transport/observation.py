"""What a check of an account wants to know about an exchange, besides the response."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any


@dataclass
class Observation:
    """`certificate_ends_at` is the end of the server's TLS certificate, None without TLS.

    `seconds` is the time from the first byte of the last request to the head of its response, which
    arrived at `received_at`.
    """

    certificate_ends_at: datetime | None = None
    sent_at: float | None = None
    seconds: float | None = None
    received_at: datetime | None = None

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        match event:
            case "connection.start_tls.complete":
                certificate = info["return_value"].get_extra_info("ssl_object").getpeercert()
                ends_at = ssl.cert_time_to_seconds(certificate["notAfter"])
                self.certificate_ends_at = datetime.fromtimestamp(ends_at, UTC)
            case "http11.send_request_headers.started":
                self.sent_at = monotonic()
            case "http11.receive_response_headers.complete" if self.sent_at is not None:
                self.seconds = monotonic() - self.sent_at
                self.received_at = datetime.now(UTC)
