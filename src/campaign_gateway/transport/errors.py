"""Why a request has no response."""


class NotSent(Exception):
    """Not one byte reached the provider: nothing was made."""


class NoResponse(Exception):
    """Bytes may have reached the provider and no status came back: a copy may exist."""
