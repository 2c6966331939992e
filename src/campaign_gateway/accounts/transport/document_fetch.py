"""Fetches small public documents, such as the key set of a token issuer."""

import asyncio

from campaign_gateway.accounts.transport.connecting import connect
from campaign_gateway.accounts.transport.errors import (
    AddressRefused,
    ConnectFailed,
    MalformedRequest,
    NoResponse,
)
from campaign_gateway.accounts.transport.http1 import Response, serialize
from campaign_gateway.accounts.transport.tls import tls_context
from campaign_gateway.connectors.contract import ProviderRequest


async def fetch_document(url: str, *, limit: int, seconds: float) -> bytes:
    """Return the body at the URL, of at most `limit` bytes. Raises `NoResponse`.

    It follows no redirect, and uses no proxy. `seconds` is the timeout of the whole request.
    """
    try:
        async with asyncio.timeout(seconds):
            response = await _get(url, limit)
    except TimeoutError:
        raise NoResponse("timeout") from None
    except AddressRefused as refusal:
        raise NoResponse(f"the host has the forbidden address {refusal}") from refusal
    except (MalformedRequest, ConnectFailed) as error:
        raise NoResponse(f"the connection failed ({type(error).__name__})") from error
    if response.status is not None and response.status != 200:
        raise NoResponse(f"status {response.status}")
    if response.failure is not None:
        raise NoResponse(f"the connection failed ({response.failure})")
    if any(name == b"content-encoding" for name, _ in response.headers):
        raise NoResponse("the response is compressed")
    if not response.is_complete:
        raise NoResponse(f"the response is larger than {limit} bytes")
    return bytes(response.body)


async def _get(url: str, limit: int) -> Response:
    request = ProviderRequest("GET", url, {"accept": "application/json"})
    origin, message = serialize(request)
    connection = await connect(origin, tls_context(None))
    try:
        response = connection.send(message, limit)
        await response.ended
    finally:
        connection.close()
    return response
