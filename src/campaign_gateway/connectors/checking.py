"""Reads the responses to a check: what they mean, and which permissions they show."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from campaign_gateway.connectors.contract import (
    Access,
    Grant,
    Permission,
    ProviderResponse,
    UnexpectedResponse,
)
from campaign_gateway.model import ErrorCode, Failure

Value = TypeVar("Value")

# In the order of the reads; None for a read that succeeded.
Failures = Sequence[Failure | None]


def parsed(
    response: ProviderResponse, parse: Callable[[ProviderResponse], Value | None]
) -> Value | None:
    """Return what the next read needs of this response; None if the response does not have it."""
    try:
        return parse(response)
    except UnexpectedResponse:
        return None


def failures(
    responses: Iterable[ProviderResponse],
    parsers: Iterable[Callable[[ProviderResponse], object]],
    parse_failure: Callable[[ProviderResponse], Failure],
) -> Failures:
    """Parse each response with the parser of its read, which may raise `UnexpectedResponse`."""
    return [
        _failure(response, parse, parse_failure)
        for response, parse in zip(responses, parsers, strict=False)
    ]


def _failure(
    response: ProviderResponse,
    parse: Callable[[ProviderResponse], object],
    parse_failure: Callable[[ProviderResponse], Failure],
) -> Failure | None:
    try:
        parse(response)
    except UnexpectedResponse:
        return parse_failure(response)
    return None


def grant(reads: Failures, number: int) -> Grant:
    """Return whether the secret allows the read with this number."""
    if number >= len(reads):
        return Grant.NOT_CHECKED
    failure = reads[number]
    if failure is None:
        return Grant.GRANTED
    is_missing = failure.error.code is ErrorCode.PERMISSION_DENIED
    return Grant.MISSING if is_missing else Grant.NOT_CHECKED


def access(reads: Failures, *permissions: Permission) -> Access:
    """Return what the reads show together."""
    errors = [failure.error for failure in reads if failure is not None]
    is_missing = any(permission.grant is Grant.MISSING for permission in permissions)
    others = [
        error
        for error in errors
        # The permission says it better, if it is in the list.
        if not (is_missing and error.code is ErrorCode.PERMISSION_DENIED)
    ]
    is_accepted = None in reads or any(e.code is ErrorCode.PERMISSION_DENIED for e in errors)
    return Access(permissions, next(iter(others), None), is_accepted)
