"""Why a request gets no response."""


class NotSent(Exception):
    """No byte was sent to the provider, so no copy was made."""


class NoResponse(Exception):
    """Bytes may have reached the provider, but no status came back. A copy may exist."""


class AddressRefused(Exception):
    """The host has an address that no provider has, so nothing was sent to it."""


class TurnLost(Exception):
    """The gateway may not make the call any more, so nothing was sent."""
