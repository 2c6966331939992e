"""Fetches small public documents, such as the key set of a token issuer."""

import asyncio

import httpx

from campaign_gateway.accounts.transport.client import check_address, tls_context
from campaign_gateway.accounts.transport.errors import AddressRefused, NoResponse


async def fetch_document(url: str, *, limit: int, seconds: float) -> bytes:
    """Return the body at the URL, of at most `limit` bytes. Raises `NoResponse`.

    It follows no redirect, and uses no proxy. `seconds` is the timeout of the whole request.
    """
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(verify=tls_context(None), trust_env=False, timeout=None) as client,  # noqa: S113 - the line above is the timeout
            client.stream(
                "GET", url, headers=headers, extensions={"trace": check_address}
            ) as response,
        ):
            if response.status_code != 200:
                raise NoResponse(f"status {response.status_code}")
            if "content-encoding" in response.headers:
                raise NoResponse("the response is compressed")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit:
                    raise NoResponse(f"the response is larger than {limit} bytes")
            return bytes(body)
    except TimeoutError:
        raise NoResponse("timeout") from None
    except AddressRefused as refusal:
        raise NoResponse(f"the host has the forbidden address {refusal}") from refusal
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoResponse(f"the connection failed ({type(error).__name__})") from error
