"""Responses of a provider."""

import json

from campaign_gateway.connectors.contract import ProviderResponse


def respond(status: int, body: object, **headers: str) -> ProviderResponse:
    """Return a response with this body: bytes or text unchanged, any other value as JSON.

    `retry_after="30"` is the header `retry-after: 30`.
    """
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    content = text.encode() if isinstance(text, str) else text
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ProviderResponse(status, named, content)
