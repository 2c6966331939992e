"""Why a request gets no response."""


class NotSent(Exception):
    """No byte was sent to the provider, so no copy was made."""


class NoResponse(Exception):
    """Bytes may have reached the provider, but no status came back. A copy may exist.

    `details` is the reason for the operator, who may learn more than callers.
    """

    def __init__(self, reason: str, details: str | None = None) -> None:
        super().__init__(reason)
        self.details = details or reason


class AddressRefused(Exception):
    """The host has an address that no provider has, so nothing was sent to it."""


class ConnectFailed(Exception):
    """There is no connection, or no TLS on it, so nothing was sent. Its text is for operators."""


class ConnectTimedOut(ConnectFailed):
    """The connection or its TLS took too long."""


class MalformedRequest(Exception):
    """The request cannot be written as HTTP, so nothing was sent."""


class ResponseLost(Exception):
    """The connection ended before the response, or what arrived is no HTTP."""


class TurnLost(Exception):
    """The gateway may not make the call any more, so nothing was sent."""
