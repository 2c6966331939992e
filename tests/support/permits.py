"""Permits for tests that do not test the limits of an account."""

import math

from campaign_gateway.accounts.transport.rate_limit import CallKind, Permit, RateLimiter


def free_permit() -> Permit:
    """Return a permit that never waits. It may be created without an event loop."""
    return Permit(RateLimiter(1, None), CallKind.COPY, math.inf)
