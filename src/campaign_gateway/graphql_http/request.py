"""What an HTTP request asks for, and how it wants to be answered."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from starlette.requests import Request

# Bytes of a body; an input of every field at its longest is far smaller.
REQUEST_LIMIT = 64 * 1024

# How long a body may take to arrive.
BODY_SECONDS = 30

JSON = "application/json"
GRAPHQL_RESPONSE = "application/graphql-response+json"
UTF_8 = {"utf-8", "utf8"}


class Refusal(Exception):
    """The HTTP request is none that the gateway can take."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Parameters:
    query: str
    operation_name: str | None
    variables: Mapping[str, Any]


def negotiate(accept: str) -> str:
    """The media type to answer with (RFC 9110, section 12.5.1). Raises `Refusal`."""
    qualities: dict[str, float] = {}
    for given in accept.lower().split(","):
        name, *parameters = (each.strip() for each in given.split(";"))
        if name:
            qualities[name] = max(_quality(parameters), qualities.get(name, 0))
    if not qualities:
        return JSON
    anything = qualities.get("application/*", qualities.get("*/*", 0))
    json_quality = qualities.get(JSON, anything)
    graphql_quality = qualities.get(GRAPHQL_RESPONSE, anything)
    if not json_quality and not graphql_quality:
        raise Refusal(406, f"Accept {GRAPHQL_RESPONSE} or {JSON}.")
    # Whoever takes just anything may never have heard of the newer one.
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
    """What is asked for. Raises `Refusal` and `ClientDisconnect`."""
    if request.method == "GET":
        given: Any = {name: value or None for name, value in request.query_params.items()}
        for name in ("variables", "extensions"):
            if given.get(name):
                given[name] = _decoded(given[name], f"'{name}'")
    else:
        _check_content(request)
        given = _decoded(await _body(request), "The body")
    if isinstance(given, list):
        raise Refusal(400, "Batches are not supported. Send one request, as a JSON object.")
    if not isinstance(given, dict):
        raise Refusal(400, "The body must be a JSON object with a 'query'.")
    query = given.get("query")
    if not isinstance(query, str) or not query:
        raise Refusal(400, "'query' must be a GraphQL document, as a string.")
    operation_name, variables = given.get("operationName"), given.get("variables")
    if not isinstance(operation_name, str | None):
        raise Refusal(400, "'operationName' must be a string or null.")
    for name in ("variables", "extensions"):
        if not isinstance(given.get(name), dict | None):
            raise Refusal(400, f"'{name}' must be an object or null.")
    return Parameters(query, operation_name, variables or {})


def _check_content(request: Request) -> None:
    name, *parameters = ",".join(request.headers.getlist("content-type")).lower().split(";")
    charsets = [
        value.strip(' "')
        for parameter in parameters
        for key, _, value in [parameter.partition("=")]
        if key.strip() == "charset"
    ]
    if name.strip() != JSON or not UTF_8.issuperset(charsets):
        raise Refusal(415, f"Send the request as {JSON} in UTF-8.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        identity = {"accept-encoding": "identity"}
        raise Refusal(415, "Send the body as it is, without a content-encoding.", identity)


async def _body(request: Request) -> bytes:
    too_large = Refusal(413, f"The body is larger than {REQUEST_LIMIT} bytes.")
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
        message = f"The body has not arrived within {BODY_SECONDS} seconds."
        raise Refusal(408, message) from None
    return bytes(body)


def _decoded(given: str | bytes, what: str) -> object:
    try:
        text = given.decode("utf-8") if isinstance(given, bytes) else given
        value: object = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # Besides bad syntax there are bad encodings, endless numbers and too deep a nesting.
        raise Refusal(400, f"{what} is not JSON that can be read.") from None
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
