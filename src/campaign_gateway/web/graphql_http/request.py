"""Parses an HTTP request, and negotiates the media type of the response."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from starlette.requests import Request

# Bytes of a body. The largest valid input is far smaller.
REQUEST_LIMIT = 64 * 1024

# How long a body may take to arrive, in seconds.
BODY_SECONDS = 30

JSON = "application/json"
GRAPHQL_RESPONSE = "application/graphql-response+json"
UTF_8 = {"utf-8", "utf8"}


# Values of `extensions.code` if nothing of a request was executed.
INVALID_REQUEST = "INVALID_REQUEST"
OVERLOADED = "OVERLOADED"


class RequestError(Exception):
    """The HTTP request is invalid, or cannot be executed now. The message is for the caller."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        code: str = INVALID_REQUEST,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.code = code


@dataclass(frozen=True, slots=True)
class Parameters:
    query: str
    operation_name: str | None
    variables: Mapping[str, Any]


def negotiate(accept: str) -> str:
    """Return the media type of the response (RFC 9110, section 12.5.1). Raises `RequestError`."""
    qualities: dict[str, float] = {}
    for media_range in accept.lower().split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        if name:
            qualities[name] = max(_quality(parameters), qualities.get(name, 0))
    if not qualities:
        return JSON
    anything = qualities.get("application/*", qualities.get("*/*", 0))
    json_quality = qualities.get(JSON, anything)
    graphql_quality = qualities.get(GRAPHQL_RESPONSE, anything)
    if not json_quality and not graphql_quality:
        raise RequestError(406, f"Accept {GRAPHQL_RESPONSE} or {JSON}.")
    # A client that accepts any type may not know the newer one, so it must name it.
    is_named = GRAPHQL_RESPONSE in qualities
    is_as_good = is_named and graphql_quality == json_quality
    return GRAPHQL_RESPONSE if graphql_quality > json_quality or is_as_good else JSON


def _quality(parameters: Sequence[str]) -> float:
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            quality = float(value) if re.fullmatch(r"0(\.\d*)?|1(\.0*)?", value) else 0.0
        elif name == "charset" and value.strip('"') not in UTF_8:
            return 0.0
    return quality


async def read_parameters(request: Request) -> Parameters:
    """Read the GraphQL parameters. Raises `RequestError` and `ClientDisconnect`."""
    values = await _read_values(request)
    if isinstance(values, list):
        raise RequestError(400, "Batches are not supported. Send one request, as a JSON object.")
    if not isinstance(values, dict):
        raise RequestError(400, "The body must be a JSON object with a 'query'.")
    query = values.get("query")
    if not isinstance(query, str) or not query:
        raise RequestError(400, "'query' must be a GraphQL document, as a string.")
    operation_name, variables = values.get("operationName"), values.get("variables")
    if not isinstance(operation_name, str | None):
        raise RequestError(400, "'operationName' must be a string or null.")
    for name in ("variables", "extensions"):
        if not isinstance(values.get(name), dict | None):
            raise RequestError(400, f"'{name}' must be an object or null.")
    return Parameters(query, operation_name, variables or {})


async def _read_values(request: Request) -> object:
    """Return the parameters as the caller wrote them, in the URL or in the body."""
    if request.method == "POST":
        _check_content_type(request)
        return _parse_json(await _read_body(request), "The body")
    # Browsers send some other types to other sites without asking them first.
    if "content-type" in request.headers:
        _check_content_type(request)
    # Without a type too. The page could not read the response, but its queries would use the limits
    # of the accounts.
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise RequestError(403, "A page of another site cannot send a query with GET. Use POST.")
    values: dict[str, object] = {
        name: value or None for name, value in request.query_params.items()
    }
    for name in ("variables", "extensions"):
        encoded = values.get(name)
        if isinstance(encoded, str):
            values[name] = _parse_json(encoded, f"'{name}'")
    return values


def _check_content_type(request: Request) -> None:
    name, *parameters = ",".join(request.headers.getlist("content-type")).lower().split(";")
    charsets = [
        value.strip(' "')
        for parameter in parameters
        for key, _, value in [parameter.partition("=")]
        if key.strip() == "charset"
    ]
    if name.strip() != JSON or not UTF_8.issuperset(charsets):
        raise RequestError(415, f"Send the request as {JSON} in UTF-8.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        identity = {"accept-encoding": "identity"}
        raise RequestError(415, "Send the body without a content-encoding.", identity)


async def _read_body(request: Request) -> bytes:
    too_large = RequestError(413, f"The body is larger than {REQUEST_LIMIT} bytes.")
    if int(request.headers.get("content-length", 0)) > REQUEST_LIMIT:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > REQUEST_LIMIT:
                    raise too_large
    except TimeoutError:
        message = f"The body did not arrive within {BODY_SECONDS} seconds."
        raise RequestError(408, message) from None
    return bytes(body)


def _parse_json(encoded: str | bytes, what: str) -> object:
    try:
        text = encoded.decode("utf-8") if isinstance(encoded, bytes) else encoded
        value: object = _decode(text)
    except (ValueError, RecursionError):
        # The causes are syntax, encoding, numbers with too many digits, and too deep nesting.
        raise RequestError(400, f"{what} is not valid JSON.") from None
    return value


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(name)


_decode = json.JSONDecoder(parse_constant=_reject_constant).decode
